"""Parameters: what is read, what is refused, and that both are what FastAPI and pydantic do."""

import enum
import json
import re
import warnings
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from covet import CovetPy, Path, Query, Request
from covet._models import strings
from covet._routes.reading import query_dict as _query_dict
from covet._routes.reading import query_lists as _query_lists
from covet.datastructures import QueryParams, parse_query

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import fastapi
    import pydantic
    from fastapi.testclient import TestClient


class Color(enum.Enum):
    red = "red"
    blue = "it's blue"


class Name(str, enum.Enum):  # noqa: UP042
    ada = "ada"


class Size(enum.IntEnum):
    small = 1
    large = 2


# --- One string and one type: the same value or the same error as pydantic

TYPES: dict[str, tuple[Any, Any]] = {
    "int": (int, strings.parse_int),
    "float": (float, strings.parse_float),
    "bool": (bool, strings.parse_bool),
    "uuid": (UUID, strings.parse_uuid),
    "datetime": (datetime, strings.parse_datetime),
    "date": (date, strings.parse_date),
    "time": (time, strings.parse_time),
    "decimal": (Decimal, strings.parse_decimal),
    "enum": (Color, strings.enumeration(Color)),
    "int-enum": (Size, strings.enumeration(Size)),
    "literal": (Literal["a", "b c"], strings.literal(Literal["a", "b c"])),
}
ADAPTERS = {name: pydantic.TypeAdapter(type_) for name, (type_, _) in TYPES.items()}


def by_pydantic(name: str, text: str) -> Any:
    try:
        return ADAPTERS[name].validate_python(text)
    except pydantic.ValidationError as error:
        (detail,) = error.errors(include_url=False)
        return detail["type"], detail["msg"], detail.get("ctx")


def by_covet(name: str, text: str) -> Any:
    try:
        return TYPES[name][1](text)
    except strings.Invalid as error:
        return error.type, error.message, error.context


def same(name: str, text: str) -> None:
    ours, theirs = by_covet(name, text), by_pydantic(name, text)
    # NaN is equal to nothing; a zone is compared by what it is.
    assert repr(ours) == repr(theirs) or ours == theirs, (text, ours, theirs)
    if isinstance(ours, datetime) and isinstance(theirs, datetime):
        assert ours.utcoffset() == theirs.utcoffset()


SAMPLES = {
    "int": [
        *"0 7 -7 +7 007 1_000 1__0 _1 1_ 1.0 1.00 1. .0 1.5 1e3 0x1 --1 +-1 - + -0 1_0.0 1.0_0 one 7.0.0".split(" "),
        *["", " 7 ", "7 8", "\t7\n", "\uff10", "\u0663", "1" * 4300, "1" * 4301, "-" + "1" * 4300],
    ],
    "float": [
        *"0 -0 1.5 .5 5. 1e5 1E-5 1e inf -inf Infinity nan NaN 1_0 _1 1_ 1__0 1_.5 1._5 0x1p3 1.5.5 1,5".split(" "),
        *["", " 1.5 ", "\u0661"],
    ],
    "bool": [*"1 0 true True TRUE false t f yes no y n on off oN 2 ja truee".split(" "), "", " true"],
    "uuid": [
        "00000000-0000-0000-0000-000000000000",
        "A" * 32,
        "a" * 31,
        "a" * 33,
        "{00000000-0000-0000-0000-000000000000}",
        "urn:uuid:00000000-0000-0000-0000-000000000000",
        "0-0-0-0-0",
        "0000000-0000-0000-0000-0000000000000",
        "00000000-0000-0000-000000000000",
        "00000000-0000-0000-0000-00000000000g",
        "urn:uuid:zz",
        "{}",
        "{",
        "é",
        "x",
        "-",
        "",
    ],
    "datetime": [
        "2020-01-01",
        "2020-01-01T00:00",
        "2020-01-01t23:59:59",
        "2020-01-01 12:30:00.5Z",
        "2020-01-01_12:30:00,123456z",
        "2020-01-01T00:00:00.1234567Z",
        "2020-01-01T00:00+05:30",
        "2020-01-01T00:00-0530",
        "2020-01-01T00:00\N{MINUS SIGN}05:30",
        "2020-01-01T00:00+24:00",
        "2020-01-01T00:00+05",
        "2020-01-01T00:00+05:99",
        "2020-01-01T24:00",
        "2020-01-01T00:60",
        "2020-01-01T00:00:60",
        "2020-01-01T00:00:00.",
        "2020-01-01T00:00:00x",
        "2020-01-01T0",
        "2020-01-01T",
        "2020-01-01x00:00",
        "2020-13-01",
        "2020-02-30",
        "2019-02-29",
        "2020-00-01",
        "0000-01-01",
        "0000-01-01T00:00",
        "9999-12-31T23:59:59",
        "20a0-01-01",
        "2020/01/01",
        "2020-01-0a",
        "0",
        "1.5",
        "-1.5",
        "+5",
        "1e3",
        "20000000000",
        "20000000001",
        "-20000000001",
        "253402300799",
        "253402300800",
        "99999999999999999",
        "-99999999999999999",
        "  2020-01-01  ",
        "now",
        "é",
        "",
    ],
    "time": [
        "12:00",
        "12:00:30.5",
        "12:00Z",
        "12:00+01:00",
        "24:00",
        "12",
        "12-00",
        "86400",
        "1.5",
        "",
        "12:00:00.123456789",
        "12:0a",
    ],
    "decimal": ["1", "1.50", "1e5", "x", "", "nan", "inf", "1_0", " 1 ", "-0.1"],
    "enum": ["red", "it's blue", "Red", ""],
    "int-enum": ["1", "2", "3", "small", ""],
    "literal": ["a", "b c", "b", ""],
}
SAMPLES["date"] = [*SAMPLES["datetime"], "86400", "86401", "2020-01-01T00:00:01", "-86400", "86400.0"]


@pytest.mark.parametrize("name", TYPES)
def test_samples_are_read_as_pydantic_reads_them(name: str) -> None:
    for text in SAMPLES[name]:
        same(name, text)


@settings(max_examples=1500, deadline=None)
@given(st.text("0123456789+-_. e\u0663", max_size=8))
def test_whatever_looks_like_an_integer_is_read_as_pydantic_reads_it(text: str) -> None:
    # pydantic takes leading zeros off before it looks, and then reads "0-5" as -5 and "0__0" as 0.
    assume(not re.match(r"\s*[+-]?0\d*[^\d.]", text))
    same("int", text)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.text("0123456789+-_.e ", max_size=8), st.text("infatyINF-+", max_size=9), st.floats().map(str)))
def test_whatever_looks_like_a_number_is_read_as_pydantic_reads_it(text: str) -> None:
    same("float", text)


@settings(max_examples=800, deadline=None)
@given(st.one_of(st.uuids().map(str), st.text("0123456789abcdefABCDEF-", max_size=40), st.text("urn:id0-{ ", max_size=12)))
@example("urn:uuid:")
def test_whatever_looks_like_a_uuid_is_read_as_pydantic_reads_it(text: str) -> None:
    same("uuid", text)


MOMENTS = st.datetimes(timezones=st.none() | st.timezones()).map(lambda moment: moment.replace(fold=0).isoformat())


@settings(max_examples=1500, deadline=None)
@given(MOMENTS, st.integers(0, 40), st.sampled_from(["", "-", ":", "T", " ", "0", "9", "Z", "+", ".", "x"]), st.booleans())
def test_whatever_looks_like_a_moment_is_read_as_pydantic_reads_it(text: str, at: int, change: str, insert: bool) -> None:
    # A good one, and the same with one character changed.
    same("datetime", text)
    changed = text[:at] + change + text[at if insert else at + 1 :]
    same("datetime", changed)
    same("date", changed)
    same("date", text[:10])


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.integers(-(10**15), 10**15).map(str), st.decimals(-(10**11), 10**11, places=3).map(str)))
def test_numbers_are_moments_as_with_pydantic(text: str) -> None:
    if abs(Decimal(text)) % 1 == 0 or "." not in text:
        same("datetime", text)
        same("date", text)
    else:
        # Of a fraction, pydantic keeps what a float of its size keeps.
        ours, theirs = by_covet("datetime", text), by_pydantic("datetime", text)
        if isinstance(theirs, datetime):
            assert abs((ours - theirs).total_seconds()) < 1e-3
        else:
            assert ours == theirs


# --- Query strings

QUERY_TEXT = st.text("ab=&%+c20C3A9;\u00e9", max_size=20)


@settings(max_examples=2000, deadline=None)
@given(QUERY_TEXT)
@example("a")
@example("=")
@example("&&a=&=b&c")
@example("a=%zz&b=%")
def test_query_strings_are_read_as_urllib_reads_them(query: str) -> None:
    expected = parse_qsl(query, keep_blank_values=True)
    assert parse_query(query) == expected
    last = dict(expected)
    found = _query_dict(query)
    assert {name: value for name, value in found.items() if name} == {name: value for name, value in last.items() if name}
    assert {name: values[-1] for name, values in _query_lists(query).items()} == last


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
def test_query_parameters_come_out_as_they_went_in(items: list[tuple[str, str]]) -> None:
    try:
        query = urlencode(items)
    except UnicodeEncodeError:
        return
    assert QueryParams(query).multi_items() == items


# --- Whole applications: the same answers as FastAPI gives


def declare(app: Any, path: Any, query: Any) -> None:
    """The same handlers for both frameworks, with the `Path` and `Query` of each."""

    @app.get("/int/{value}")
    def int_(value: int):
        return {"value": value}

    @app.get("/bounded/{value}")
    def bounded(value: Annotated[int, path(ge=1, le=10)]):
        return {"value": value}

    @app.get("/kinds/{uid}/{flag}/{color}")
    def kinds(uid: UUID, flag: bool, color: Color):
        return {"uid": str(uid), "flag": flag, "color": color.value}

    @app.get("/search")
    def search(q: str, limit: int = query(10, ge=1, le=100), offset: Annotated[int, query(ge=0)] = 0):
        return {"q": q, "limit": limit, "offset": offset}

    @app.get("/all")
    def everything(
        a: Annotated[int, query(gt=0, lt=5)],
        f: Annotated[float, query(ge=1, lt=2.5)] = 1.0,
        s: Annotated[str, query(min_length=1, max_length=2, pattern="^a")] = "a",
        items: Annotated[list[int], query(min_length=2, max_length=3)] = [1, 2],  # noqa: B006
        o: int | None = None,
        n: int | None = query(None, ge=3),
        m: Annotated[int, query(multiple_of=5)] = 5,
        x: Annotated[float, query(multiple_of=0.5, allow_inf_nan=False)] = 1.0,
        renamed: Annotated[int, query(alias="re-named")] = 1,
        unique: Annotated[set[int], query()] = set(),  # noqa: B006
        many: Annotated[tuple[str, ...], query(max_length=1)] = (),
        choice: Literal["up", "down"] = "up",
        name: Name = Name.ada,
        color: Color | None = None,
        at: datetime | None = None,
        day: Annotated[date | None, query(gt=date(2020, 1, 1))] = None,
        uid: UUID | None = None,
    ):
        return [a, f, s, items, o, n, m, x, renamed, sorted(unique), many, choice, name, color, at, day, uid]

    @app.get("/required")
    def required(ids: Annotated[list[int], query()], again: int = query(...), *, third: Annotated[str, query(min_length=2)]):
        return [ids, again, third]


NAMES = ["a", "f", "s", "items", "o", "n", "m", "re-named", "unique", "many", "choice", "name", "color", "q"]
CASES = [
    "/int/7",
    "/int/x",
    "/int/1.5",
    "/int/%20%207",
    "/int/99999999999999999999999999",
    "/bounded/0",
    "/bounded/11",
    "/bounded/10",
    "/kinds/00000000-0000-0000-0000-000000000000/yes/red",
    "/kinds/x/y/z",
    "/kinds/0-0/maybe/it%27s%20blue",
    "/search",
    "/search?q=",
    "/search?q=a&limit=0",
    "/search?q=a&limit=101&offset=-1",
    "/search?q=a&limit=&offset=x",
    "/search?q=a&q=b&limit=5&limit=7",
    "/search?q=%C3%A9+b%20c",
    "/all",
    "/all?a=0",
    "/all?a=5&f=0&s=",
    "/all?a=x&f=2.5&s=bbb&items=1",
    "/all?a=1&items=1&items=x&items=y&items=3",
    "/all?a=1&items=1&items=2&items=3&items=4",
    "/all?a=1&o=&n=2&m=3&x=0.3&re-named=q&choice=left&name=bob&color=green",
    "/all?a=1&o=4&n=3&m=10&x=1.5&re-named=2&choice=down&name=ada&color=red",
    "/all?a=1&x=nan",
    "/all?a=1&x=inf",
    "/all?a=1&f=nan",
    "/all?a=1&unique=1&unique=1&unique=2",
    "/all?a=1&unique=x",
    "/all?a=1&many=a&many=b",
    "/all?a=1&many=",
    "/all?a=1&at=2020-01-01T00:00:00&day=2020-01-02",
    "/all?a=1&at=yesterday&day=2020-01-01&uid=x",
    "/all?a=1&day=2020-13-01",
    "/required",
    "/required?ids=1&again=1&third=a",
    "/required?ids=1&again=1&third=abc",
    "/required?ids=x&third=",
]


@pytest.fixture(scope="module")
def reference():
    app = fastapi.FastAPI()
    declare(app, fastapi.Path, fastapi.Query)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TestClient(app)


@pytest.fixture
def instance(serve):
    app = CovetPy()
    declare(app, Path, Query)
    return serve(app)


@pytest.mark.parametrize("target", CASES)
def test_an_answer_is_that_of_fastapi(reference, instance, target: str) -> None:
    theirs, ours = reference.get(target), instance.get(target)
    assert (ours.status, ours.json()) == (theirs.status_code, theirs.json())


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.one_of(
                st.sampled_from(["1", "2", "0", "", "x", "1.0", "ab", "up", "red", "ada", "5", "-3"]), st.text(max_size=3)
            ),
        ),
        max_size=8,
    )
)
def test_any_query_is_answered_as_by_fastapi(reference, query) -> None:
    import simulator

    app = CovetPy()
    declare(app, Path, Query)
    try:
        target = f"/all?{urlencode(query, quote_via=quote)}"
    except UnicodeEncodeError:
        return
    theirs, ours = reference.get(target), simulator.Instance(app).get(target)
    assert (ours.status, ours.json()) == (theirs.status_code, theirs.json())


def without(document: Any, *keys: str) -> Any:
    if isinstance(document, dict):
        return {key: without(value, *keys) for key, value in document.items() if key not in keys}
    return [without(item, *keys) for item in document] if isinstance(document, list) else document


def test_the_openapi_document_says_of_parameters_what_fastapi_says(reference, instance) -> None:
    theirs, ours = reference.get("/openapi.json").json(), instance.get("/openapi.json").json()
    assert ours["openapi"].startswith("3.1.")
    assert ours["paths"].keys() == theirs["paths"].keys()
    for path in ("/int/{value}", "/bounded/{value}", "/search"):
        # FastAPI leaves out what is false.
        assert json.loads(json.dumps(without(ours["paths"][path]))) == theirs["paths"][path]
    assert ours["components"] == theirs["components"]


# --- What cannot be served


class Item:
    pass


@pytest.mark.parametrize(
    ("path", "handler", "message"),
    [
        ("/", lambda item: None, None),
        ("/{a}", lambda: None, None),
        ("no-slash", lambda: None, "must begin with '/'"),
        ("/{a}/{a}", lambda a: None, "twice"),
        ("/{a b}", lambda: None, "neither"),
        ("/{a", lambda: None, "neither"),
        ("/a}", lambda: None, "neither"),
        ("/{}", lambda: None, "neither"),
        ("/{a:integer}", lambda a: None, "converter 'integer'"),
        ("/{a:path}/b", lambda a: None, "goes on after"),
    ],
)
def test_paths_that_cannot_be_served_are_refused(path, handler, message) -> None:
    app = CovetPy()
    if message is None:
        app.get(path)(handler)
    else:
        with pytest.raises(ValueError, match=message):
            app.get(path)(handler)


def test_parameters_that_cannot_be_read_are_refused() -> None:
    app = CovetPy()

    def body(item: Item):
        pass

    def rest(*values):
        pass

    def not_in_path(value: int = Path()):
        pass

    def query_in_path(a: int = Query()):
        pass

    def default_in_path(a: int = 5):
        pass

    def list_in_path(a: list[int]):
        pass

    for path, handler, message in [
        ("/", body, r"body \(/\): the parameter 'item' has the type Item"),
        ("/", rest, r"\*values"),
        ("/", not_in_path, "the path has no"),
        ("/{a}", query_in_path, "cannot be a Query"),
        ("/{a}", default_in_path, "cannot have a default"),
        ("/{a}", list_in_path, "cannot be a list"),
    ]:
        with pytest.raises(TypeError, match=message):
            app.get(path)(handler)
    with pytest.raises(ValueError, match="no HTTP status"):
        app.get("/", status_code=70000)(lambda: None)
    with pytest.raises(TypeError, match="methods is a list"):
        app.route("/", "GET")
    with pytest.raises(ValueError, match="there is no event"):
        app.on_event("later")


def test_converters_give_the_type_of_what_has_no_annotation(serve) -> None:
    app = CovetPy()

    @app.get("/{number:int}/{ratio:float}/{uid:uuid}/{name:str}/{rest:path}")
    def handler(number, ratio, uid, name, rest):
        return [type(value).__name__ for value in (number, ratio, uid, name, rest)]

    instance = serve(app)
    assert instance.routes[0].pattern == "/{number}/{ratio}/{uid}/{name}/{*rest}"
    assert instance.get(f"/1/1.5/{'0' * 32}/x/y/z").json() == ["int", "float", "UUID", "str", "str"]
    assert instance.get("/x/1.5/0/x/").status == 422


def test_defaults_that_can_change_are_copied(serve) -> None:
    app = CovetPy()

    @app.get("/")
    def handler(items: list[int] = Query([]), made: list[int] = Query(default_factory=list)):
        items.append(1)
        made.append(1)
        return [items, made]

    instance = serve(app)
    for _ in range(2):
        assert instance.get("/").json() == [[1], [1]]


def test_parameters_may_be_positional_only_and_the_request_may_have_any_name(serve) -> None:
    app = CovetPy()

    @app.get("/{a}")
    def handler(a: int, incoming: Request, /, b: int = 2):
        return [a, incoming.path_params, b]

    @app.get("/untyped/{a}")
    def untyped(a, request, b=3):
        return [a, request.method, b]

    instance = serve(app)
    assert instance.get("/1?b=5").json() == [1, {"a": "1"}, 5]
    assert instance.get("/untyped/1").json() == ["1", "GET", 3]
    assert instance.get("/untyped/1?b=x").status == 422


def test_placeholders_may_be_part_of_a_segment_and_names_of_any_script(serve) -> None:
    app = CovetPy()

    @app.get("/image-{name}.png")
    def image(name: str):
        return name

    @app.get("/{größe}")
    def size(größe: int):
        return größe

    instance = serve(app)
    assert instance.get("/image-cat.png").text == "cat"
    assert instance.get("/7").json() == 7


def test_integers_are_choices_too(serve) -> None:
    app = CovetPy()

    class Level(enum.Enum):
        low = 1

    @app.get("/")
    def handler(level: Level, number: Literal[1, 2] = 1):
        return [level, number]

    instance = serve(app)
    assert instance.get("/?level=1&number=2").json() == [1, 2]
    assert [detail["type"] for detail in instance.get("/?level=2&number=3").json()["detail"]] == ["enum", "literal_error"]
