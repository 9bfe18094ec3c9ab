"""The native router leads where the host's does: the cases of `router.rs`, those of matchit, and a simple oracle."""

from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from covet._native.matching import BadPath, Found, MethodNotAllowed, RouteError, RouteKey, Router
from covet._native.matchit import Conflict, InsertError, Tree


def route(method: str, pattern: str) -> RouteKey:
    return RouteKey(method, pattern, f"f{len(pattern)}")


def router(*routes: tuple[str, str]) -> Router:
    return Router([route(method, pattern) for method, pattern in routes])


def refusal(*routes: tuple[str, str]) -> str:
    with pytest.raises(RouteError) as caught:
        router(*routes)
    return str(caught.value)


# --- The cases of `host/server/src/router.rs`


def test_a_path_leads_to_its_route_and_literal_text_wins_over_a_placeholder() -> None:
    routes = router(("GET", "/users/{id}"), ("GET", "/users/me"), ("POST", "/users/{name}"))
    assert routes.find("GET", "/users/42") == Found(0, ["42"])
    assert routes.find("GET", "/users/me") == Found(1, [])
    assert routes.find("POST", "/users/x") == Found(2, ["x"])
    assert routes.find("GET", "/users/") is None
    assert routes.find("GET", "/users/1/2") is None


def test_params_come_in_the_order_of_the_pattern() -> None:
    assert router(("GET", "/{z}/{a}/{*m}")).find("GET", "/1/2/3/4") == Found(0, ["1", "2", "3/4"])


def test_another_method_is_answered_with_those_that_are_allowed() -> None:
    routes = router(("GET", "/a"), ("PUT", "/a"), ("POST", "/b"))
    assert routes.find("POST", "/a") == MethodNotAllowed("GET, PUT, HEAD")
    assert routes.find("BREW", "/b") == MethodNotAllowed("POST")
    assert routes.find("HEAD", "/b") == MethodNotAllowed("POST")


def test_head_uses_the_route_for_get_unless_it_has_its_own() -> None:
    routes = router(("GET", "/a"), ("GET", "/b"), ("HEAD", "/b"))
    assert routes.find("HEAD", "/a") == Found(0, [])
    assert routes.find("HEAD", "/b") == Found(2, [])


def test_head_prefers_the_route_for_get_to_one_for_every_method_that_is_no_closer_to_the_path() -> None:
    routes = router(
        ("", "/{*rest}"),
        ("GET", "/users/{id}"),
        ("GET", "/"),
        ("GET", "/both"),
        ("", "/both"),
        ("", "/users/me"),
        ("POST", "/users/{id}"),
        ("GET", "/files/{*path}"),
    )
    expected = {
        "/users/42": Found(1, ["42"]),
        "/": Found(2, []),
        "/both": Found(3, []),
        "/users/me": Found(5, []),
        "/files/a/b": Found(7, ["a/b"]),
        "/files/": Found(7, [""]),
        "/users/42/x": Found(0, ["users/42/x"]),
    }
    for path, found in expected.items():
        assert routes.find("HEAD", path) == routes.find("GET", path) == found, path
    assert routes.find("OPTIONS", "/users/42") == Found(0, ["users/42"])


def test_head_prefers_its_own_route_to_those_for_get_and_for_every_method() -> None:
    routes = router(
        ("", "/{*rest}"),
        ("GET", "/a/{x}"),
        ("HEAD", "/a/{y}"),
        ("GET", "/a/b"),
        ("GET", "/c"),
        ("", "/a/any"),
        ("GET", "/a/any"),
    )
    assert routes.find("HEAD", "/a/1") == Found(2, ["1"])
    assert routes.find("HEAD", "/a/b") == Found(2, ["b"])
    assert routes.find("HEAD", "/c") == Found(4, [])
    assert routes.find("HEAD", "/a/any") == Found(6, [])
    assert routes.find("HEAD", "/d") == Found(0, ["d"])


def test_head_without_any_route_for_get_is_for_a_route_for_every_method() -> None:
    routes = router(("", "/a/{x}"), ("POST", "/a/b"))
    assert routes.find("HEAD", "/a/b") == Found(0, ["b"])
    assert routes.find("HEAD", "/b") is None


def test_a_route_for_every_method_gives_way_to_a_route_for_one() -> None:
    routes = router(("", "/a"), ("GET", "/a"), ("", "/b"))
    assert routes.find("GET", "/a") == Found(1, [])
    assert routes.find("POST", "/a") == Found(0, [])
    assert routes.find("GET", "/b") == Found(2, [])
    assert routes.find("PROPFIND", "/b") == Found(2, [])


def test_the_rest_of_a_path_may_be_empty_unless_another_route_is_there() -> None:
    routes = router(("GET", "/files/{*path}"), ("POST", "/files/{*path}"))
    assert routes.find("GET", "/files/") == Found(0, [""])
    assert routes.find("POST", "/files/") == Found(1, [""])
    assert routes.find("GET", "/files") is None
    assert router(("GET", "/files/{*path}"), ("GET", "/files/")).find("GET", "/files/") == Found(1, [])
    assert router(("GET", "/{owner}/{*path}")).find("GET", "/me/") == Found(0, ["me", ""])


def test_a_path_is_decoded_once_and_an_escaped_slash_separates_nothing() -> None:
    routes = router(("GET", "/a b/{x}"), ("GET", "/{x}"))
    assert routes.find("GET", "/a%20b/%C3%A4") == Found(0, ["ä"])
    assert routes.find("GET", "/a%20b/1%2f2%2F3") == Found(0, ["1/2/3"])
    assert routes.find("GET", "/%252F") == Found(1, ["%2F"])
    assert routes.find("GET", "/a+b") == Found(1, ["a+b"])


@pytest.mark.parametrize(
    "path", ["/%", "/%4", "/%zz", "/%ff", "/%C3%28", "/a%00b", "/%+1", "/\0", "/\ud800", "/%4\N{FULLWIDTH DIGIT ONE}"]
)
def test_a_path_that_cannot_be_decoded_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        router(("GET", "/{x}")).find("GET", path)


def test_a_conflict_names_both_routes() -> None:
    message = refusal(("GET", "/a/{x}"), ("POST", "/a/{y}"), ("GET", "/a/{y}"))
    assert message == "route GET /a/{y} (f6) conflicts with route GET /a/{x} (f6): both match the same paths"
    assert "both match" in refusal(("GET", "/a"), ("GET", "/a"))
    assert refusal(("", "/a"), ("", "/a")).startswith("route * /a (f2) conflicts with route * /a (f2)")


def test_an_invalid_pattern_or_method_names_its_route() -> None:
    assert refusal(("GET", "a")) == "route GET a (f1) has an invalid pattern: it must begin with /"
    for pattern in ("/{", "/{}", "/{a}{b}", "/{*a}/b", "/a}"):
        assert refusal(("GET", pattern)).startswith(f"route GET {pattern} (f{len(pattern)}) has an invalid pattern: ")
    assert refusal(("get", "/a")) == "route get /a (f2) has an invalid method"
    assert "invalid method" in refusal(("G T", "/a"))
    assert router(("M-SEARCH", "/a")).find("M-SEARCH", "/a") == Found(0, [])


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example("%41")
@example("a%2Fb")
@example("\U0010ffff")
def test_every_escape_that_encodes_a_text_decodes_to_it(text: str) -> None:
    found = router(("GET", "/x{*rest}")).find("GET", "/x" + "".join(f"%{octet:02x}" for octet in text.encode()))
    assert found == (Found(0, [text]))


def test_text_outside_of_ascii_may_be_anywhere_in_a_pattern() -> None:
    routes = router(("GET", "/ä/{größe}"), ("GET", "/ö/{x}é"), ("GET", "/ä"))
    assert routes.find("GET", "/%C3%A4/1") == Found(0, ["1"])
    assert routes.find("GET", "/%C3%B6/%C3%A8%C3%A9") == Found(1, ["è"])
    assert routes.find("GET", "/ä") == Found(2, [])
    assert "conflicts with route GET /ä/{größe}" in refusal(("GET", "/ä/{größe}"), ("GET", "/ä/{x}"))


# --- The tree: a choice of matchit's own cases


def outcome(tree: Tree, pattern: str) -> str:
    try:
        tree.insert(pattern, pattern)
    except Conflict as error:
        return error.pattern
    except InsertError as error:
        return f"refused: {error}"
    return "ok"


@pytest.mark.parametrize(
    "cases",
    [
        [
            ("/cmd/{tool}/{sub}", "ok"),
            ("/cmd/vet", "ok"),
            ("/cmd/{*path}", "/cmd/{tool}/{sub}"),
            ("/cmd/{xxx}/names", "ok"),
            ("/cmd/{tool}/{xxx}/foo", "ok"),
            ("/src/{*filepath}", "ok"),
            ("/src/{file}", "/src/{*filepath}"),
            ("/src/static.json", "ok"),
            ("/src/", "ok"),
            ("/src2{*filepath}", "ok"),
            ("/user_{name}", "ok"),
            ("/user_x", "ok"),
            ("/user_{bar}", "/user_{name}"),
            ("/x/{id}", "ok"),
            ("/x/{id}/", "ok"),
            ("/x/{id}y", "ok"),
            ("/x/{id}y/", "ok"),
            ("/x/{id}y", "/x/{id}y"),
            ("/x/x{id}", "/x/{id}y/"),
            ("/y/{id}", "ok"),
            ("/y/y{id}", "ok"),
            ("/y/{id}y", "/y/y{id}"),
            ("/z/x{id}y", "ok"),
            ("/z/{id}", "ok"),
            ("/z/{id}y", "/z/x{id}y"),
            ("/z/x{id}", "/z/x{id}y"),
            ("/z/z{id}y", "/z/x{id}y"),
            ("/bar/{id}", "ok"),
            ("/bar/x{id}y", "ok"),
        ],
        [
            ("/x1/{a}suffix", "ok"),
            ("/x1/prefix{a}", "/x1/{a}suffix"),
            ("/x1/prefix{a}suffix", "/x1/{a}suffix"),
            ("/x1", "ok"),
            ("/x1/{a}", "ok"),
            ("/x1/{a}suffix/", "ok"),
            ("/x5/prefix1{a}", "ok"),
            ("/x5/prefix2{a}", "ok"),
            ("/x5/prefix{a}suffix", "/x5/prefix1{a}"),
            ("/x5/prefix2{a}suffix", "/x5/prefix2{a}"),
            ("/x5/prefix3{a}/", "ok"),
            ("/x15/{*rest}", "ok"),
            ("/x15/{a}suffix", "/x15/{*rest}"),
            ("/x15/prefix{a}", "ok"),
            ("/x19/f{a}o", "ok"),
            ("/x19/f{a}o/{*path}", "ok"),
        ],
        [("/src/{*filepath}x", "refused: {*name} is only allowed at the end")],
        [("/{foo}{{*bar}/", "refused: a segment between two slashes can have one placeholder only")],
        [("x{y", "refused: a placeholder is {name}; a literal brace is written twice")],
        [("}}yy{{}}{{}}y{{", "ok"), ("}}yy{{}}{{}}y{{", "}yy{}{}y{")],
        [("/x/{foo}/bar", "ok"), ("/x/{bar}/bar", "/x/{foo}/bar")],
        [("/" + "/".join(f"{{p{number}}}" for number in range(25)), "ok")],
        [("/" + "/".join(f"{{p{number}}}" for number in range(26)), "refused: it has more than 25 placeholders")],
    ],
)
def test_a_pattern_is_accepted_or_conflicts_as_in_the_crate(cases: list[tuple[str, str]]) -> None:
    tree = Tree()
    assert [(pattern, outcome(tree, pattern)) for pattern, _ in cases] == cases


@pytest.mark.parametrize(
    ("patterns", "matches"),
    [
        (
            ["/{object}/{id}", "/secret/{id}/path"],
            {"/secret/978/path": ["/secret/{id}/path", "978"], "/secret/978": ["/{object}/{id}", "secret", "978"]},
        ),
        (
            ["/path/foo/{arg}", "/path/{*rest}"],
            {"/path/foo/a": ["/path/foo/{arg}", "a"], "/path/foo/a/b": ["/path/{*rest}", "foo/a/b"]},
        ),
        (
            ["/{{", "/{ba{{r}", "/{ba{{r}/x", "/baz/{xxx}/}}xy{{{{"],
            {
                "/{": ["/{{"],
                "/{{": ["/{ba{{r}", "{{"],
                "/{{}}{{/x": ["/{ba{{r}/x", "{{}}{{"],
                "/baz/x/}xy{{": ["/baz/{xxx}/}}xy{{{{", "x"],
            },
        ),
        (
            ["/x/{foo}suffix", "/x/{foo}/bar", "/x/{foo}.tar.gz", "/x/{foo}gz", "/y/pre{foo}", "/y/prefix{foo}", "/y/{foo}"],
            {
                "/x/barsuffix": ["/x/{foo}suffix", "bar"],
                "/x/suffix": None,
                "/x/a.tar.gz": ["/x/{foo}.tar.gz", "a"],
                "/x/a.gz": ["/x/{foo}gz", "a."],
                "/y/prefix1": ["/y/prefix{foo}", "1"],
                "/y/prefi": ["/y/pre{foo}", "fi"],
                "/y/pre": ["/y/{foo}", "pre"],
            },
        ),
        (["/cmd/{tool}/"], {"/cmd//": None, "/cmd/a": None, "/cmd/a/": ["/cmd/{tool}/", "a"]}),
    ],
)
def test_a_path_is_found_as_in_the_crate(patterns: list[str], matches: dict[str, list[str] | None]) -> None:
    tree = Tree()
    for pattern in patterns:
        tree.insert(pattern, pattern)
    for path, expected in matches.items():
        found = tree.at(path)
        assert (None if found is None else [found[0], *found[1]]) == expected, path


# --- A simple oracle: patterns are lists of segments, tried one after the other

WORDS = ["a", "b", "ab", "ä", ""]
segments = st.lists(st.sampled_from([*WORDS[:4], "{x}", "{y}"]), max_size=3)
patterns = st.builds(
    lambda parts, end: "/" + "/".join([*parts, *end]), segments, st.sampled_from([[], [""], ["{*rest}"], ["{*r}"]])
)
tables = st.lists(st.tuples(st.sampled_from(["GET", "PUT", ""]), patterns), min_size=1, max_size=8)
paths = st.lists(st.sampled_from([*WORDS, "c", "a/b"]), min_size=1, max_size=5)


@given(tables, paths, st.sampled_from(["GET", "PUT", "POST"]))
def test_the_router_finds_what_trying_all_routes_finds(table: list[tuple[str, str]], path: Sequence[str], method: str) -> None:
    accepted: list[RouteKey] = []
    for entry in table:
        candidate = route(*entry)
        clashes = any(candidate.method == other.method and conflict(candidate.pattern, other.pattern) for other in accepted)
        try:
            Router([*accepted, candidate])
        except RouteError:
            assert clashes, candidate
        else:
            assert not clashes, candidate
            accepted.append(candidate)
    target = "/" + "/".join(quote(segment, safe="") for segment in path)
    expected = slow_find(accepted, method, path)
    found = Router(accepted).find(method, target)
    if expected is None:
        assert not isinstance(found, Found), target
    else:
        assert found == Found(*expected), target


def conflict(one: str, other: str) -> bool:
    """Whether two patterns match the same paths, or have a placeholder and a rest in the same place."""
    for mine, theirs in zip(one.split("/"), other.split("/"), strict=False):
        kinds = {kind(mine), kind(theirs)}
        if kinds == {"{x}", "{*}"}:
            return True
        if len(kinds) > 1:
            return False
    return one.count("/") == other.count("/")


def kind(segment: str) -> str:
    return "{*}" if segment.startswith("{*") else "{x}" if segment.startswith("{") else segment


def slow_find(routes: list[RouteKey], method: str, path: Sequence[str]) -> tuple[int, list[str]] | None:
    """Every pattern, segment by segment: literal text first, then a placeholder, then the rest."""
    candidates: list[tuple[list[str], int, bool]] = []
    for wanted in (method, ""):
        for index, candidate in enumerate(routes):
            if candidate.method == wanted and all(not conflict(candidate.pattern, routes[i].pattern) for _, i, _ in candidates):
                candidates.append((candidate.pattern.split("/")[1:], index, False))
    for parts, index, _ in list(candidates):
        if parts[-1].startswith("{*"):
            empty = [*parts[:-1], ""]
            if not any(list(map(kind, empty)) == list(map(kind, others)) for others, _, _ in candidates):
                candidates.append((empty, index, True))

    def search(left: list[tuple[list[str], int, bool]], depth: int, params: list[str]) -> tuple[int, list[str]] | None:
        if depth == len(path):
            done = [entry for entry in left if len(entry[0]) == depth]
            return (done[0][1], [*params, ""] if done[0][2] else params) if done else None
        segment = path[depth]
        left = [entry for entry in left if len(entry[0]) > depth]
        literal = [entry for entry in left if entry[0][depth] == segment]
        found = search(literal, depth + 1, params) if literal else None
        if found is None and segment:
            named = [entry for entry in left if kind(entry[0][depth]) == "{x}"]
            found = search(named, depth + 1, [*params, segment]) if named else None
        if found is None:
            rest = "/".join(path[depth:])
            # A slash inside of a segment is no end of it, so that the first one decides whether there is a rest.
            ends = [entry for entry in left if kind(entry[0][depth]) == "{*}"] if rest else []
            found = (ends[0][1], [*params, rest]) if ends else None
        return found

    return search(candidates, 0, [])


# --- Text around placeholders: what is found does match

mixed = st.builds(
    lambda parts: "/" + "/".join(parts),
    st.lists(
        st.builds(
            lambda before, name, after: f"{before}{name}{after}",
            st.sampled_from(["", "a", "ab", "b"]),
            st.sampled_from(["", "{x}", "{y}"]),
            st.sampled_from(["", "a", "ba", "c"]),
        ),
        max_size=3,
    ),
)


@given(st.lists(mixed, min_size=1, max_size=10), st.lists(st.text("abc", max_size=4), min_size=1, max_size=4))
def test_what_is_found_fits_its_pattern_and_its_place_does_not_depend_on_names(table: list[str], parts: Sequence[str]) -> None:
    tree, renamed = Tree(), Tree()
    for pattern in table:
        first = outcome(tree, pattern)
        second = outcome(renamed, pattern.replace("{x}", "{long}"))
        assert (first == "ok") == (second == "ok")
    path = "/" + "/".join(parts)
    found = tree.at(path)
    assert found == tree.at(path)
    if found is None:
        assert path not in table
        assert renamed.at(path) is None
        return
    pattern, values = found
    built = pattern
    for value in values:
        assert value
        assert "/" not in value
        start, end = built.index("{"), built.index("}")
        built = built[:start] + value + built[end + 1 :]
    assert built == path
    other = renamed.at(path)
    assert other is not None
    assert other[1] == values
