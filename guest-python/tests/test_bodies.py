# ruff: noqa: B008, because parameters are described by calls in defaults.
"""What handlers are given of a request: JSON bodies, forms and files, headers, cookies, and models of any of them.

Where FastAPI can do the same, both are asked and must answer the same, errors included; `Twins` sends every body as octets, as
text and in pieces.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import ipaddress
import json
import pathlib
import uuid
from typing import Annotated, Any, Literal, NewType, Optional, Union
from urllib.parse import urlencode

import hypothesis
import pydantic
import pytest
import typing_extensions
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from simulator import Instance
from twins import Kit, Twins, twins

from covet import Body, Cookie, CovetPy, File, Form, FormData, Header, Query, Request, UploadFile

JSON = [("content-type", "application/json")]
TEXT = [("content-type", "text/plain")]


class Color(enum.Enum):
    red = "red"
    blue = "blue"


class Size(enum.IntEnum):
    small = 1
    large = 2


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = Field(gt=0)
    tags: list[str] = []
    color: Color = Color.red


class Order(BaseModel):
    id: int
    best: Item | None = None
    items: dict[str, Item] = {}
    when: dt.datetime | None = None


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    n: int
    s: str = "s"


class Aliased(BaseModel):
    the_name: str = Field(alias="theName")
    ids: set[int] = Field(default=set(), alias="id")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool = True


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Shape:
    name: str
    points: list[Point] = dataclasses.field(default_factory=list)
    color: Color | None = None


class Named(typing_extensions.TypedDict):
    name: str
    age: typing_extensions.NotRequired[int]


# --- One body


KINDS: dict[str, Any] = {
    "item": Item,
    "optional": Item | None,
    "order": Order,
    "tree": Tree,
    "strict": Strict,
    "aliased": Aliased,
    "items": list[Item],
    "strings": list[str],
    "numbers": dict[str, int],
    "lists": dict[str, list[int]],
    "any": dict[str, Any],
    "union": Item | Point,
    "scalars": Annotated[int | float | bool | list[int | str] | None, "said"],
    "tagged": Annotated[Cat | Dog, Field(discriminator="kind")],
    "point": Point,
    "shape": Shape,
    "shapes": list[Shape],
    "typed dict": Named,
    "tuple": tuple[int, str],
    "set": set[int],
    "colors": list[Color],
}
BODIES = [
    *[None, "", "null", "[]", "{}", "0", "1", "1.0", "true", '"x"', '"1"'],
    *['{"name":"a","price":1}', '{"name":"","price":-1}', '{"name":1,"price":"x","tags":[1,"a",null],"color":"green"}'],
    *[
        '{"name":"a","price":"2.5","extra":1}',
        '[{"name":"a","price":1},{"name":2},3]',
        '{"name":"\u20ac\\ud83d\\ude00","price":1}',
    ],
    *['{"id":1,"best":{"name":1}}', '{"id":"7","best":null,"items":{"a":{"name":"a","price":1},"b":{}},"when":"2020-01-01"}'],
    *[
        '{"id":99999999999999999999999999999}',
        '{"id":1.5,"when":"never"}',
        '{"value":1,"children":[{"value":2,"children":[{}]}]}',
    ],
    *['{"n":1}', '{"n":"1","s":1,"t":2}', '{"theName":"x","id":[1,"2",2]}', '{"the_name":"x"}', '{"a":1,"b":"2","c":"x"}'],
    *['{"a":[1],"b":["x"],"c":1}', '["red","green"]', '{"kind":"cat"}', '{"kind":"dog","good":"maybe"}', '{"kind":"cow"}'],
    *['{"x":1,"y":"2"}', '{"x":null}', '{"name":"s","points":[{"x":1},{"y":2}],"color":"blue"}', '{"name":"n","age":"old"}'],
    *["[1,2,2]", '[1,"a"]', '["a",1,2]', "[[1]]", '{"a":1,"a":2}', ' {"x" : 1}\n'],
    *['{"a', "{'a':1}", '{"a":1,}', "\x00", '{"x":1}{}', "[1,2", "nul", "-", "\u20ac", "\ufeff{}", '\ufeff{"x":1'],
]


def add_one_body(kit: Kit) -> None:
    for name, annotation in KINDS.items():

        def handler(x: annotation = kit.Body()):
            return {"x": repr(x)}

        def bare(x: annotation):
            return {"x": repr(x)}

        # FastAPI forgets what `Field` says where there is a `Body` too.
        kit.app.post(f"/{name.replace(' ', '-')}")(bare if name == "tagged" else handler)
        if name != "scalars":
            kit.app.post(f"/bare/{name.replace(' ', '-')}")(bare)


@pytest.fixture(scope="module")
def bodies():
    """One application for all kinds, which takes longer to make than to ask."""
    with twins(Instance, add_one_body) as both:
        yield both


@pytest.mark.parametrize("name", KINDS)
def test_a_body_is_read_as_fastapi_reads_it(bodies: Twins, name: str) -> None:
    for body in BODIES:
        bodies.agree("POST", f"/{name.replace(' ', '-')}", body, JSON)
    for body in BODIES[:12]:
        bodies.agree("POST", f"/{name.replace(' ', '-')}", body, TEXT)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "scalars"])
def test_a_parameter_with_such_a_type_needs_no_word_that_it_is_the_body(bodies: Twins, name: str) -> None:
    for body in ["{}", "[]", "1", '{"name":"a","price":1}', '{"x":1}', None]:
        bodies.agree("POST", f"/bare/{name.replace(' ', '-')}", body, JSON)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "price", "tags", "x", "y", "id", "value", "children", "points"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    st.sampled_from(["item", "order", "tree", "items", "union", "shape", "shapes", "lists", "point", "typed-dict"]), VALUES
)
def test_any_json_is_answered_as_by_fastapi(bodies: Twins, name: str, value: Any) -> None:
    bodies.agree("POST", f"/{name}", json.dumps(value), JSON)


@pytest.mark.parametrize(
    ("content_type", "is_json"),
    [
        ("application/json", True),
        ("APPLICATION/JSON; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("application/problem+JSON;x=y", True),
        ("text/json", False),
        ("application/jsonl", False),
        ("text/plain", False),
        ("application/octet-stream", False),
        ("", False),
        (None, False),
    ],
)
def test_the_content_type_says_whether_a_body_is_json(bodies: Twins, content_type: str | None, is_json: bool) -> None:
    headers = [("content-type", content_type)] if content_type is not None else []
    bodies.agree("POST", "/item", '{"name":"a","price":1}', headers, status=200 if is_json else 422)


#: FastAPI has no answer to these (a 500, or a 400 that tells nothing).
HOSTILE = {
    '{"name":NaN,"price":1}': None,
    '{"name":"a","price":NaN}': None,
    '{"name":"a","price":1e400}': None,
    "Infinity": None,
    '{"name":"\\ud800","price":1}': None,
    '"\\udfff"': None,
    b"\xff": "json_invalid",
    b'{"name":"\xff","price":1}': "json_invalid",
    b'{"name":"\xed\xa0\x80","price":1}': None,
    "[" * 100_000: "json_invalid",
    '{"a":' * 100_000: "json_invalid",
    "[" * 100_000 + "]" * 100_000: "json_invalid",
    '{"name":' + "[" * 5000 + "]" * 5000 + ',"price":1}': None,
    "1" * 5000: "json_invalid",
    '{"name":"a","price":' + "1" * 5000 + "}": None,
    '{"name":"' + "a" * 2_000_000: "json_invalid",
}


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("path", ["/item", "/any", "/tree", "/shape", "/items", "/scalars"])
def test_a_hostile_body_is_a_422_and_no_500(bodies: Twins, path: str, body: Any) -> None:
    octets = body.encode() if isinstance(body, str) else body
    arrivals: list[Any] = [octets, bodies.instance.host.body(octets[:7], octets[7:])[0]]
    arrivals += [body] if isinstance(body, str) else []
    answers = [bodies.instance.post(path, arrival, headers=JSON) for arrival in arrivals]
    assert {answer.status for answer in answers} <= {200, 422}
    assert len({answer.content for answer in answers}) == 1
    assert len(answers[0].content) < 3_000_000
    if HOSTILE[body] is not None:
        assert [error["type"] for error in answers[0].json()["detail"]] == [HOSTILE[body]]


@dataclasses.dataclass
class Branch:
    value: int
    children: "list[Branch]" = dataclasses.field(default_factory=list)


def test_a_tree_of_any_depth_is_read_or_refused(serve) -> None:
    app = CovetPy()

    @app.post("/model")
    def model(tree: Tree):
        return {"value": tree.value}

    @app.post("/dataclass")
    def dataclass(tree: Branch):
        return {"value": tree.value}

    @app.post("/request")
    async def request(request: Request):
        return {"value": (await request.json())["value"]}

    instance = serve(app)
    for path in ("/model", "/dataclass", "/request"):
        for depth in (10, 90):
            body = '{"value":1,"children":[' * depth + "]}" * depth
            assert instance.post(path, body, headers=JSON).json() == {"value": 1}
        for depth in (200, 500, 1000, 3000, 10_000):
            body = '{"value":1,"children":[' * depth + "]}" * depth
            assert instance.post(path, body, headers=JSON).status in (200, 400, 422)


def test_an_endless_list_of_errors_is_cut(bodies: Twins) -> None:
    answer = bodies.instance.post("/items", json.dumps([{}] * 10_000), headers=JSON)
    assert answer.status == 422
    assert len(answer.content) < 100_000


# --- Several, embedded, with defaults


def add_several(kit: Kit) -> None:
    app, body = kit.app, kit.Body

    @app.post("/two")
    def two(item: Item, point: Point):
        return {"item": repr(item), "point": repr(point)}

    @app.post("/optional")
    def optional(item: Item | None = None, point: Point | None = None):
        return {"item": repr(item), "point": repr(point)}

    @app.post("/embedded")
    def embedded(item: Annotated[Item, body(embed=True)]):
        return {"item": repr(item)}

    @app.post("/embedded-optional")
    def embedded_optional(item: Annotated[Item | None, body(embed=True)] = None):
        return {"item": repr(item)}

    @app.post("/scalars")
    def scalars(n: int = body(), m: int = body(5, ge=3), s: str | None = body(None)):
        return {"n": n, "m": m, "s": s}

    @app.post("/one")
    def one(n: int = body()):
        return {"n": n}

    @app.post("/one-default")
    def one_default(n: int = body(7, ge=3)):
        return {"n": n}

    @app.post("/one-optional")
    def one_optional(n: int | None = body()):
        return {"n": n}

    @app.post("/bounded")
    def bounded(n: list[int] = body(min_length=2, max_length=3)):
        return {"n": n}

    @app.post("/text")
    def text(n: str = body(min_length=2, pattern="^[a-z]+$")):
        return {"n": n}

    @app.post("/octets")
    def octets(n: bytes = body()):
        return {"n": repr(n)}

    @app.post("/any")
    def any_(n: Any = body(None)):
        return {"n": repr(n)}

    @app.post("/union")
    def union(n: int | str = body()):
        return {"n": repr(n)}

    @app.post("/literal")
    def literal(n: Literal["a", "b"] = body()):
        return {"n": n}

    @app.post("/alias")
    def alias(n: int = body(alias="N"), m: int = body(1, alias="the-m")):
        return {"n": n, "m": m}

    @app.post("/moments")
    def moments(when: dt.datetime = body(), who: uuid.UUID = body(), much: decimal.Decimal = body()):
        return {"when": repr(when), "who": repr(who), "much": repr(much)}

    @app.put("/factories")
    def factories(xs: Annotated[list[int], body(default_factory=list)], y: dict[str, int] = {"a": 1}):  # noqa: B006
        xs.append(0)
        y["more"] = len(y)
        return {"xs": xs, "y": y}

    @app.delete("/item")
    def delete(item: Item):
        return {"item": repr(item)}

    @app.get("/item")
    def get(item: Item = body()):
        return {"item": repr(item)}

    @app.post("/mixed/{p}")
    async def mixed(item: Item, p: int, q: int, n: int = body(), h: int = kit.Header(), c: int = kit.Cookie()):
        return [repr(item), p, q, n, h, c]


MEMBERS = [
    *[None, "null", "[]", "{}", "1", "7", '"x"', '"abc"', "[1]", "[1,2]", "[1,2,3,4]", '[1,"x"]', "true", "1.5"],
    *['{"item":null}', '{"point":null,"item":null}', '{"item":{}}', '{"name":"a","price":1}'],
    *['{"item":{"name":"a","price":1},"point":{"x":1}}', '{"item":{"name":"a","price":-1},"point":{"x":"q"}}'],
    *['{"n":1}', '{"n":null}', '{"n":"x","m":1,"s":1}', '{"N":1}', '{"N":"x","the-m":"y"}', '{"n":1,"item":{"name":1}}'],
    *['{"xs":[1],"y":{"a":"q"}}', '{"when":"2020-01-01T00:00:00","who":"zz","much":"1.0"}', '{"bad'],
]


@pytest.mark.parametrize("headers", [JSON, TEXT, []], ids=["json", "text", "none"])
def test_several_parameters_are_the_members_of_one_object(serve, headers) -> None:
    with twins(serve, add_several) as both:
        paths = [route.path for route in both.ours.app.routes if route.methods == ["POST"] and route.path != "/mixed/{p}"]
        assert len(paths) == 16
        for path in paths if headers == JSON else ("/two", "/optional", "/scalars", "/octets", "/any", "/union", "/text"):
            for body in MEMBERS if headers == JSON else MEMBERS[:12:2]:
                both.agree("POST", path, body, headers)
        if headers == JSON:
            for body in MEMBERS:
                both.agree("PUT", "/factories", body, headers)
                both.agree("DELETE", "/item", body, headers)
                both.agree("GET", "/item", body, headers)
                both.agree("POST", "/mixed/a", body, headers)
            both.agree(
                "POST", "/mixed/1?q=2", {"item": {"name": "a", "price": 1}, "n": 3}, [("h", "4"), ("cookie", "c=5")], 200
            )


def test_octets_that_are_no_text_reach_the_handler_as_they_are(serve) -> None:
    app = CovetPy()

    @app.post("/bytes")
    def octets(x: bytes = Body()):
        return x

    @app.post("/declared")
    def declared(x: bytes = Body(media_type="application/octet-stream")):
        return x

    @app.post("/text")
    def text(x: str = Body(media_type="text/plain")):
        return x

    instance = serve(app)
    for path in ("/bytes", "/declared"):
        for content in (b"\xff\x00\xfe", b"plain", "\u20ac".encode()):
            for body in (content, instance.host.body(content[:1], content[1:])[0]):
                assert instance.post(path, body, headers=[("content-type", "application/octet-stream")]).content == content
    assert instance.post("/text", "\u20ac", headers=TEXT).text == "\u20ac"
    assert instance.post("/text", b"\xff", headers=TEXT).status == 422
    assert instance.post("/text", None, headers=TEXT).status == 422


def test_one_body_of_json_cannot_be_a_form_too() -> None:
    app = CovetPy()

    def both(item: Item, name: str = Form()):
        pass

    with pytest.raises(TypeError, match=r"both \(/\): a request has one body: item"):
        app.post("/")(both)


# --- Query, headers and cookies


class Filter(BaseModel):
    limit: int = Field(10, gt=0, le=100)
    tags: list[str] = []
    order_by: Literal["a", "b"] = "a"
    q: str | None = None


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = 10
    tags: list[int] = []


class Allows(BaseModel):
    model_config = ConfigDict(extra="allow")
    limit: int


class Fields(BaseModel):
    x_token: str
    x_ids: list[int] = []
    plain: str | None = None


class Crumbs(BaseModel):
    session: str
    n: int = 1


def add_parameters(kit: Kit) -> None:
    get, query, header, cookie = kit.app.get, kit.Query, kit.Header, kit.Cookie

    @get("/filter")
    def filter_(x: Annotated[Filter, query()]):
        return {"x": repr(x)}

    @get("/forbids")
    def forbids(x: Annotated[Forbids, query()]):
        return {"x": repr(x)}

    @get("/allows")
    def allows(x: Annotated[Allows, query()]):
        return {"x": repr(x)}

    @get("/aliased")
    def aliased(x: Annotated[Aliased, query()]):
        return {"x": repr(x)}

    @get("/optional")
    def optional(x: Annotated[Filter | None, query()] = None):
        return {"x": repr(x)}

    @get("/beside")
    def beside(x: Annotated[Filter, query()], other: int = 3, more: list[int] = query([])):
        return {"x": repr(x), "other": other, "more": more}

    @get("/scalars")
    def scalars(
        a: int,
        b: str = "x",
        c: bool | None = None,
        d: list[int] = query([]),
        e: Color = Color.red,
        f: float = query(1.0, alias="F.f"),
        g: str = query("", pattern="^a*$", max_length=3),
    ):
        return [a, b, c, d, e.value, f, g]

    @get("/lists")
    def lists(
        a: Annotated[list[int], query(min_length=1, max_length=2)],
        b: Annotated[set[str] | None, query()] = None,
        c: tuple[int, ...] = query(()),
        d: list[Color] = query([Color.blue]),
        e: frozenset[int] = query(frozenset()),
    ):
        return [a, b and sorted(b), list(c), [color.value for color in d], sorted(e)]

    @get("/pair")
    def pair(a: tuple[int, str] = query((1, "x"))):
        return list(a)

    @get("/unions")
    def unions(a: int | str, b: float | bool | None = None, c: dt.datetime | str | None = None):
        return [repr(a), repr(b), repr(c)]

    @get("/factories")
    def factories(
        a: Annotated[list[int], query(default_factory=list)],
        b: Annotated[str, query(default_factory=lambda: "made")],
        c: Annotated[int, Field(gt=3)] = 5,
    ):
        return [a, b, c]

    @get("/headers")
    def headers(x: Annotated[Fields, header()]):
        return {"x": repr(x)}

    @get("/headers-as-they-are")
    def as_they_are(x: Annotated[Fields, header(convert_underscores=False)]):
        return {"x": repr(x)}

    @get("/header-list")
    def header_list(x: list[int] = header(), y: set[str] = header(set()), one: int = header(1)):
        return [x, sorted(y), one]

    @get("/header")
    def one_header(
        x_token: Annotated[str, header(min_length=3)],
        user_agent: str | None = header(None),
        accepted: list[int] = header([], alias="X-Accepted"),
        as_is: str = header("d", convert_underscores=False),
        day: dt.date = header(dt.date(2020, 1, 1), alias="X-Day"),
    ):
        return [x_token, user_agent, accepted, as_is, str(day)]

    @get("/cookies")
    def cookies(x: Annotated[Crumbs, cookie()]):
        return {"x": repr(x)}

    @get("/cookie")
    def one_cookie(session: str = cookie(), n: int | None = cookie(None), flag: bool = cookie(False, alias="the-flag")):
        return [session, n, flag]


@pytest.fixture(scope="module")
def parameters():
    with twins(Instance, add_parameters) as both:
        yield both


@pytest.mark.parametrize("path", ["/filter", "/forbids", "/allows", "/aliased", "/optional", "/beside"])
@pytest.mark.parametrize(
    "query",
    [
        *["", "limit=5", "limit=0", "limit=x&order_by=c", "tags=a&tags=b", "limit=1&limit=2", "q=&tags=", "other=1"],
        *["other=x&limit=y&more=1&more=z", "extra=1", "limit=5&extra=1&extra=2", "theName=x&id=1&id=2", "theName=x&id=q"],
        *["the_name=x", "order_by=b&q=%C3%A9+x", "limit=", "tags=1&tags=x", "more=", "=", "&&", "limit", "%6cimit=7"],
        *["limit=%zz", "limit=%ff", "q=%00", "LIMIT=5"],
    ],
)
def test_a_model_of_query_parameters_is_read_as_by_fastapi(parameters: Twins, path: str, query: str) -> None:
    parameters.agree("GET", f"{path}?{query}")


@pytest.mark.parametrize(
    "target",
    [
        *["/scalars", "/scalars?a=1", "/scalars?a=x", "/scalars?a=1&b=&c=", "/scalars?a=1&a=2", "/scalars?a=&d="],
        *["/scalars?a=1&c=yes&d=1&d=2&e=blue&F.f=2.5&g=aa", "/scalars?a=1&c=2&d=x&d=1&e=green&F.f=z&g=b"],
        *[
            "/scalars?a=1&g=aaaa",
            "/scalars?a=%20%205",
            "/scalars?a=1_0",
            "/scalars?a=1.0",
            "/scalars?a=%2B1",
            "/scalars?a=1&d=1,2",
        ],
        *["/lists", "/lists?a=1", "/lists?a=1&a=2&a=3", "/lists?a=x&a=1", "/lists?a=1&b=x&b=y&b=x", "/lists?a=1&c=1&c=2"],
        *["/lists?a=1&d=red&d=blue", "/lists?a=1&d=zz&e=1&e=1&e=q", "/lists?a=", "/lists?b=1"],
        *["/pair", "/pair?a=1&a=x", "/pair?a=1", "/pair?a=1&a=2&a=3", "/pair?a=x&a=y"],
        *["/unions", "/unions?a=1", "/unions?a=x&b=1", "/unions?a=1&b=1.5", "/unions?a=1&b=z&c=zz", "/unions?a="],
        *["/factories", "/factories?a=1&b=x&c=1"],
    ],
)
def test_query_parameters_are_read_as_by_fastapi(parameters: Twins, target: str) -> None:
    parameters.agree("GET", target)


HEADER_FIELDS = [
    [],
    [("x-token", "abc")],
    [("x-token", "ab")],
    [("x-token", "abc"), ("x-token", "def")],
    [("x_token", "abc")],
    [("x_token", "abc"), ("x_ids", "5"), ("x-ids", "6")],
    [("x-token", "a"), ("x-ids", "1"), ("x-ids", "2"), ("plain", "p"), ("plain", "q")],
    [("x-token", "a"), ("x-ids", "1,2")],
    [("x-token", ""), ("x-ids", "q")],
    [("x-token", "abc"), ("user-agent", "me"), ("x-accepted", "1"), ("x-accepted", "z"), ("as_is", "w"), ("as-is", "v")],
    [("x-token", "abc"), ("x-day", "2021-05-05"), ("x-accepted", "1")],
    [("x-token", "abc"), ("x-day", "some day")],
    [("x", "1"), ("x", "2"), ("y", "b"), ("y", "a"), ("one", "4"), ("one", "5")],
    [("x", "q"), ("one", "q")],
]


@pytest.mark.parametrize("path", ["/headers", "/headers-as-they-are", "/header", "/header-list"])
@pytest.mark.parametrize("headers", HEADER_FIELDS, ids=str)
def test_headers_are_read_as_by_fastapi(parameters: Twins, path: str, headers: Any) -> None:
    answer, reference = parameters.both("GET", path, headers=headers)
    theirs = json.loads(reference.content)
    if reference.status == 422 and path.startswith("/headers"):
        # It tells the client of a model all headers, of which some are secrets of what is in between.
        known = {"x_token", "x_ids", "plain"}
        for error in theirs["detail"]:
            if isinstance(error["input"], dict):
                error["input"] = {name: value for name, value in error["input"].items() if name in known}
    assert (answer.status, answer.json()) == (reference.status, theirs)


def test_headers_of_others_are_not_told_in_errors(parameters: Twins) -> None:
    answer = parameters.instance.get("/headers", headers=[("authorization", "Bearer secret"), ("cookie", "session=secret")])
    assert answer.status == 422
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/cookies", "/cookie"])
@pytest.mark.parametrize(
    "cookies",
    [
        *["", "session=abc", "session=abc; n=5", "session=abc;n=x;the-flag=yes", "session=; n=", "session=a=b; n=2"],
        *['session="q"; n="4"', "session=%20x", "other=1; session=z", " session = padded ; n = 3 ", "the-flag=1; session=s"],
        *['session="a\\"b\\\\c"', 'session="\\303\\251;"', "n=1;;session=x;", "session=a, b; n=4"],
    ],
)
def test_cookies_are_read_as_by_fastapi(parameters: Twins, path: str, cookies: str) -> None:
    parameters.agree("GET", path, headers=[("cookie", cookies)] if cookies else [])


def test_of_several_cookies_with_one_name_the_first_counts(parameters: Twins) -> None:
    # Browsers send the one of the longest path first (RFC 6265, 5.4); Starlette takes the last.
    for headers in ([("cookie", "session=a; session=b")], [("cookie", "session=a"), ("cookie", "session=b")]):
        assert parameters.instance.get("/cookie", headers=headers).json()[0] == "a"
        assert parameters.instance.get("/cookies", headers=headers).json() == {"x": "Crumbs(session='a', n=1)"}


def test_dataclasses_are_models_of_parameters_too(serve) -> None:
    @dataclasses.dataclass
    class Page:
        number: int
        tags: list[str] = dataclasses.field(default_factory=list)
        x_size: Size = Size.small

    app = CovetPy()

    @app.get("/query")
    def query(page: Annotated[Page, Query()]):
        return dataclasses.asdict(page)

    @app.get("/header")
    def header(page: Annotated[Page, Header()]):
        return dataclasses.asdict(page)

    @app.get("/cookie")
    def cookie(page: Annotated[Page, Cookie()]):
        return dataclasses.asdict(page)

    @app.get("/optional")
    def optional(page: Annotated[Page | None, Query()] = None):
        return {"page": page and dataclasses.asdict(page)}

    instance = serve(app)
    assert instance.get("/query?number=1&tags=a&tags=b").json() == {"number": 1, "tags": ["a", "b"], "x_size": 1}
    assert instance.get("/header", headers=[("number", "2"), ("x-size", "2")]).json() == {"number": 2, "tags": [], "x_size": 2}
    assert instance.get("/cookie", headers=[("cookie", "number=3; tags=t")]).json() == {"number": 3, "tags": ["t"], "x_size": 1}
    assert instance.get("/optional").json() == {"page": None}
    assert instance.get("/optional?number=1").json()["page"]["number"] == 1
    assert instance.get("/optional?tags=1").json()["detail"][0]["loc"] == ["query", "number"]
    assert [error["loc"] for error in instance.get("/header", headers=[("x-size", "9")]).json()["detail"]] == [
        ["header", "number"],
        ["header", "x-size"],
    ]


# --- Annotations and handlers of every kind


UserId = NewType("UserId", int)
Above = typing_extensions.TypeAliasType("Above", Annotated[int, Field(gt=3)])
Numbers = typing_extensions.TypeAliasType("Numbers", list[int])


def refuse(value: str) -> str:
    if value == "bad":
        raise ValueError("is bad")
    assert value != "worse", "is worse"
    return value


class Validated(BaseModel):
    x: Annotated[str, pydantic.AfterValidator(refuse)]


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return call


def decorated_async(function: Any) -> Any:
    @functools.wraps(function)
    async def call(*arguments: Any, **named: Any) -> Any:
        return await function(*arguments, **named)

    return call


class Endpoint:
    def __call__(self, a: int):
        return [a]

    def method(self, a: int):
        return [a, 1]

    async def coroutine(self, a: int):
        return [a, 2]


def of_two(a: int, b: int):
    return [a, b]


def add_kinds(kit: Kit) -> None:
    get, post, query, body = kit.app.get, kit.app.post, kit.Query, kit.Body

    @get("/optional")
    def optional(a: int | None, b: Optional[int] = None, c: Union[int, None] = 3, e: Optional[list[str]] = query(None)):  # noqa: UP007, UP045
        return [a, b, c, e]

    @get("/names")
    def names(a: UserId, b: UserId = 5, c: Above = 4, d: Annotated[Above, query(lt=10)] = 5, e: Numbers = query([])):
        return [a, b, c, d, e]

    @get("/nested")
    def nested(
        a: Annotated[Annotated[int, Field(ge=1)], query(le=5)],
        b: Annotated[int | None, query(ge=1)] = None,
        c: Annotated[list[Annotated[int, Field(ge=1)]], query()] = [],  # noqa: B006
    ):
        return [a, b, c]

    @get("/pydantic")
    def of_pydantic(
        a: pydantic.PositiveInt = 1,
        b: pydantic.conint(gt=3) = 4,
        c: pydantic.constr(min_length=2) = "ab",
        d: pydantic.HttpUrl | None = None,
        e: pydantic.SecretStr | None = None,
        f: ipaddress.IPv4Address | None = None,
        g: pathlib.Path | None = None,
        h: pydantic.StrictInt = 1,
        i: pydantic.Json = None,
    ):
        return [a, b, c, str(d), str(e), str(f), str(g), h, i]

    @get("/validators")
    def validators(
        a: Annotated[int, pydantic.BeforeValidator(lambda value: value * 2)],
        b: Annotated[str, pydantic.AfterValidator(str.upper)] = "x",
        c: Annotated[str, pydantic.AfterValidator(refuse)] = "x",
    ):
        return [a, b, c]

    @post("/validated")
    def validated(v: Validated):
        return v

    @post("/validated-list")
    def validated_list(v: list[Validated], n: Annotated[int, body(ge=3)] = 3):
        return v

    @post("/one-or-more")
    def one_or_more(a: Validated | list[Validated]):
        return {"a": repr(a)}

    @post("/annotated")
    def annotated(a: Annotated[int, body()], b: Annotated[str | None, body(max_length=3)] = None):
        return [a, b]

    @post("/maybe")
    def maybe(a: list[int] | None = None):
        return [a]

    @get("/decorated")
    @decorated
    def plain(a: int, b: str = "x"):
        return [a, b]

    @get("/decorated-async")
    @decorated_async
    async def asynchronous(a: int, b: str = "x"):
        return [a, b]

    get("/object")(Endpoint())
    get("/method")(Endpoint().method)
    get("/coroutine")(Endpoint().coroutine)
    get("/partial")(functools.partial(of_two, b=2))

    @get("/bare")
    def bare(a, b=None):
        return [a, b]

    @get("/any")
    def any_(a: Any, b: Any = None):
        return [a, b]

    @get("/required")
    def required(c: str = query(...), a: str = query(default="x"), d: Annotated[str, query(alias="D")] = "y"):
        return [a, c, d]

    @get("/moments")
    def moments(a: dt.timedelta, b: dt.time = dt.time(1), c: dt.datetime | None = None):
        return [a.total_seconds(), str(b), str(c)]

    @get("/numbers")
    def numbers(
        a: float,
        b: Annotated[float, query(allow_inf_nan=False)] = 1,
        c: Annotated[float, query(multiple_of=0.5)] = 1,
        d: bytes = b"",
        e: decimal.Decimal = query(decimal.Decimal("1.5"), gt=1),
    ):
        return [repr(a), b, c, repr(d), str(e)]


KIND_TARGETS = [
    *["/optional", "/optional?a=1", "/optional?a=1&b=x&c=&e=a&e=b", "/optional?a="],
    *["/names?a=1", "/names?a=x&b=y", "/names?a=1&c=3&d=11", "/names?a=1&c=5&d=3", "/names?a=1&e=1&e=x", "/names?a=1&e=1"],
    *["/nested?a=3&b=0&c=0&c=2", "/nested?a=9", "/nested?a=0", "/nested?a=1&b=1&c=3", "/nested?a=x&c=x&c=1&c=0"],
    *["/pydantic", "/pydantic?a=0&b=3&c=a&d=x&f=1.2.3&g=/a/b&h=5&i=[", "/pydantic?d=https://x.y/z&e=sec&f=1.2.3.4&i=[1]"],
    *["/validators?a=2", "/validators?a=x", "/validators?a=1&b=q&c=bad", "/validators?a=1&c=worse", "/validators"],
    *["/decorated?a=1", "/decorated?a=x", "/decorated-async?a=1&b=z", "/decorated-async", "/object?a=1", "/object?a=x"],
    *["/method?a=1", "/coroutine?a=2", "/partial?a=3", "/partial?a=3&b=9", "/bare", "/bare?a=1&b=2", "/any?a=1", "/any"],
    *["/required", "/required?c=1&D=2", "/required?c=1&d=2", "/moments?a=90", "/moments?a=P1D&b=10:00&c=2020-01-01"],
    *["/moments?a=x&b=y&c=z", "/numbers?a=1e3&b=nan", "/numbers?a=nan", "/numbers?a=inf&c=0.7&d=%C3%A9", "/numbers?a=1_0&e=1"],
]


@pytest.fixture(scope="module")
def kinds():
    with twins(Instance, add_kinds) as both:
        yield both


@pytest.mark.parametrize("target", KIND_TARGETS)
def test_annotations_of_every_kind_are_read_as_by_fastapi(kinds: Twins, target: str) -> None:
    kinds.agree("GET", target)


def test_three_dots_mean_that_a_parameter_is_required_wherever_they_are(serve) -> None:
    app = CovetPy()

    @app.get("/")
    def handler(a: int = ..., b: Annotated[str, Query()] = ..., c: str = Query(...)):
        return [a, b, c]

    assert [error["loc"] for error in serve(app).get("/").json()["detail"]] == [["query", name] for name in "abc"]


@pytest.mark.parametrize("path", ["/validated", "/validated-list", "/one-or-more", "/annotated", "/maybe"])
@pytest.mark.parametrize(
    "body",
    [
        *[{"x": "a"}, {"x": "bad"}, {"x": "worse"}, [{"x": "bad"}, {"x": "ok"}], {"v": [{"x": "bad"}], "n": 1}],
        *[{"a": 1, "b": "long!"}, [1, "x"], {"a": None}, None],
    ],
)
def test_bodies_of_every_kind_are_read_as_by_fastapi(kinds: Twins, path: str, body: Any) -> None:
    kinds.agree("POST", path, body)


# --- Forms and files


URLENCODED = [("content-type", "application/x-www-form-urlencoded")]
MULTIPART = [("content-type", "multipart/form-data; boundary=edge")]


def multipart(*parts: tuple[str, str | None, bytes | str]) -> bytes:
    """A body of fields (without a file name) and files."""
    lines = []
    for name, filename, content in parts:
        extra = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: text/x-test'
        lines += [b"--edge", f'Content-Disposition: form-data; name="{name}"{extra}'.encode(), b""]
        lines.append(content if isinstance(content, bytes) else content.encode())
    return b"\r\n".join([*lines, b"--edge--", b""])


def post(instance: Instance, path: str, body: bytes, headers: Any) -> Any:
    """The answer, which is the same however the body arrives."""
    reader, _ = instance.host.body(*(body[at : at + 5] for at in range(0, len(body), 5)))
    answers = [
        instance.post(path, one, headers=headers) for one in (body, body.decode("latin-1") if body.isascii() else body, reader)
    ]
    assert len({(answer.status, answer.content) for answer in answers}) == 1
    return answers[0]


class Login(BaseModel):
    a: int
    b: list[str] = []
    c: str | None = None
    d: bool = False


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Allowing(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


def add_forms(kit: Kit) -> None:
    import fastapi

    import covet.security

    package: Any = covet if kit.name == "covet" else fastapi
    post, form, file, upload = kit.app.post, package.Form, package.File, package.UploadFile

    @post("/fields")
    def fields(
        a: Annotated[str, form(max_length=5)],
        b: int = form(3, ge=1),
        c: list[int] = form([]),
        d: bool | None = form(None),
        e: str = form("e", alias="E-e"),
    ):
        return [a, b, c, d, e]

    @post("/defaults")
    def defaults(a: str = form("x"), s: set[str] = form(set())):
        return [a, sorted(s)]

    @post("/kinds")
    def kinds(k: Literal["a", "b"] = form(), w: dt.date = form(dt.date(2020, 1, 1)), n: int | None = form(None)):
        return [k, str(w), n]

    @post("/model")
    def model(a: Annotated[Login, form()]):
        return {"a": repr(a)}

    @post("/forbidding")
    def forbidding(a: Annotated[Forbidding, form()]):
        return {"a": repr(a)}

    @post("/allowing")
    def allowing(a: Annotated[Allowing, form()]):
        return {"a": repr(a)}

    @post("/optional")
    def optional(a: Annotated[Login | None, form()] = None):
        return {"a": repr(a)}

    @post("/beside")
    def beside(a: Annotated[Login, form()], x: str = form("d")):
        return {"a": repr(a), "x": x}

    def needs(x: str = form()):
        return x

    @post("/dependency")
    def dependency(y: int = form(), value=kit.Depends(needs)):
        return [value, y]

    @post("/token")
    def token(f: package.security.OAuth2PasswordRequestForm = kit.Depends()):
        return [f.username, f.password, f.scopes, f.grant_type, f.client_id]

    @post("/file")
    async def one_file(f: upload):
        return [f.filename, f.content_type, f.size, (await f.read()).decode("latin-1")]

    @post("/files")
    def files(f: upload | None = None, g: list[upload] = file([]), n: str = form("q")):
        return [f and f.filename, [one.filename for one in g], n]

    @post("/contents")
    def contents(f: bytes = file(), g: list[bytes] = file([]), h: Annotated[bytes | None, file()] = None):
        return [repr(f), repr(g), repr(h)]

    @post("/list")
    def list_(fs: list[upload]):
        return [one.filename for one in fs]

    @post("/request")
    async def request(request: kit.Request):
        async with request.form() as found:
            return [
                [name, one if isinstance(one, str) else [one.filename, one.content_type, one.size]]
                for name, one in found.multi_items()
            ]


FORM_FIELDS: list[list[tuple[str, str]]] = [
    *[[], [("a", "1")], [("a", "")], [("a", "x"), ("a", "")], [("b", "only")], [("extra", "1")], [("a", "\u00e9 \u20ac &=+")]],
    [("a", "x"), ("b", "2"), ("c", "1"), ("c", "2"), ("d", "yes"), ("E-e", "f")],
    [("a", "too long"), ("b", "0"), ("c", "x"), ("d", "?")],
    [("a", "1"), ("a", "2"), ("b", "x"), ("b", "y"), ("extra", "z"), ("extra", "w")],
    [("a", "1"), ("b", ""), ("c", ""), ("d", "")],
    *[[("x", "5"), ("y", "6")], [("x", ""), ("y", "z")]],
    [("username", "u"), ("password", "p"), ("scope", "a b"), ("grant_type", "password")],
    *[
        [("username", "u"), ("grant_type", "no")],
        [("k", "a"), ("w", "2021-01-01"), ("n", "5")],
        [("k", "z"), ("w", "q"), ("n", "")],
    ],
    [("f", "text"), ("n", "1")],
]
FORM_FILES: list[list[tuple[str, str | None, bytes | str]]] = [
    [("f", "a.txt", b"abc")],
    [("f", "a.txt", b"\xff\x00"), ("g", "x", b"1"), ("g", "y", b""), ("n", None, "5")],
    *[[("f", "", b"")], [("f", "", b"x")], [("fs", "1", b"a"), ("fs", "2", b"b")], [("fs", None, "text")], [("fs", "", b"")]],
    *[[("f", "a", b"1"), ("f", "b", b"2"), ("h", "h", b"3")], [("g", None, "t"), ("f", "f", b"")]],
]
FIELD_PATHS = ["fields", "defaults", "kinds", "model", "forbidding", "allowing", "optional", "beside", "dependency", "token"]
FILE_PATHS = ["file", "files", "contents", "list", "request"]


@pytest.fixture(scope="module")
def form_twins():
    pytest.importorskip("python_multipart", reason="python-multipart is not installed")
    with twins(Instance, add_forms) as both:
        yield both


@pytest.mark.parametrize("path", FIELD_PATHS + FILE_PATHS)
def test_forms_are_read_as_by_fastapi(form_twins: Twins, path: str) -> None:
    for fields in FORM_FIELDS:
        form_twins.agree("POST", f"/{path}", urlencode(fields).encode(), URLENCODED)
        form_twins.agree("POST", f"/{path}", multipart(*((name, None, value) for name, value in fields)), MULTIPART)
    for parts in FORM_FILES if path in FILE_PATHS else []:
        form_twins.agree("POST", f"/{path}", multipart(*parts), MULTIPART)
    others: list[Any] = [
        (None, []),
        ("", URLENCODED),
        ('{"a":1}', JSON),
        ("a=1", []),
        ("&&=&a", URLENCODED),
        ("a=1;b=2", URLENCODED),
    ]
    for body, headers in [*others, ("a=%zz&a=%ff", URLENCODED)]:
        form_twins.agree("POST", f"/{path}", body, headers)


def missing(*location: str) -> dict[str, Any]:
    return {"type": "missing", "loc": list(location), "msg": "Field required", "input": None}


@pytest.fixture
def forms(serve):
    app = CovetPy()

    class Visitor(BaseModel):
        user: str = Field(min_length=2)
        roles: list[str] = []
        remember: bool = False
        note: str | None = None

    @app.post("/fields")
    def fields(
        a: Annotated[str, Form(max_length=5)],
        b: int = Form(3, ge=1),
        c: list[int] = Form([]),
        d: bool | None = Form(None),
        e: str = Form("e", alias="E-e"),
    ):
        return [a, b, c, d, e]

    @app.post("/model")
    def model(login: Annotated[Visitor, Form()]):
        return login

    @app.post("/only")
    def only(x: Annotated[Forbidding, Form()]):
        return x

    @app.post("/optional")
    async def optional(login: Annotated[Visitor | None, Form()] = None):
        return {"login": login}

    @app.post("/file")
    async def file(file: UploadFile, note: str = Form("none")):
        return [file.filename, file.content_type, file.size, (await file.read()).decode("latin-1"), note]

    @app.post("/files")
    def files(first: bytes = File(), more: list[UploadFile] = File([]), contents: list[bytes] = File([])):
        return [first.decode("latin-1"), [one.filename for one in more], [one.decode("latin-1") for one in contents]]

    @app.post("/maybe")
    def maybe(file: UploadFile | None = None):
        return {"file": file and file.filename}

    @app.post("/form")
    def form(form: FormData):
        return {name: [str(one) if isinstance(one, str) else one.filename for one in form.getlist(name)] for name in form}

    @app.post("/request")
    async def request(request: Request):
        form = await request.form()
        again = await request.form()
        return [form is again, dict(form.items()) if all(isinstance(one, str) for one in form.values()) else sorted(form)]

    return serve(app)


@pytest.mark.parametrize("is_multipart", [False, True], ids=["urlencoded", "multipart"])
def test_fields_of_a_form_are_parameters(forms, is_multipart: bool) -> None:
    def send(path: str, *fields: tuple[str, str]) -> Any:
        if is_multipart:
            return post(forms, path, multipart(*((name, None, value) for name, value in fields)), MULTIPART)
        return post(forms, path, urlencode(fields).encode(), URLENCODED)

    assert send("/fields", ("a", "x")).json() == ["x", 3, [], None, "e"]
    many = [("a", "old"), ("a", "\u20ac &"), ("b", "7"), ("c", "1"), ("c", "2"), ("d", "yes"), ("E-e", "f")]
    assert send("/fields", *many).json() == ["\u20ac &", 7, [1, 2], True, "f"]
    # An empty field is one that is not there, unless it is one of a list.
    assert send("/fields", ("a", ""), ("b", ""), ("d", "")).json() == {"detail": [missing("body", "a")]}
    assert send("/fields", ("a", "x"), ("c", "")).json()["detail"][0]["loc"] == ["body", "c", 0]
    assert send("/fields", ("a", "too long"), ("b", "0"), ("c", "1"), ("c", "x"), ("d", "maybe")).json()["detail"] == [
        {
            "type": "string_too_long",
            "loc": ["body", "a"],
            "msg": "String should have at most 5 characters",
            "input": "too long",
            "ctx": {"max_length": 5},
        },
        {
            "type": "greater_than_equal",
            "loc": ["body", "b"],
            "msg": "Input should be greater than or equal to 1",
            "input": "0",
            "ctx": {"ge": 1},
        },
        {
            "type": "int_parsing",
            "loc": ["body", "c", 1],
            "msg": "Input should be a valid integer, unable to parse string as an integer",
            "input": "x",
        },
        {
            "type": "bool_parsing",
            "loc": ["body", "d"],
            "msg": "Input should be a valid boolean, unable to interpret input",
            "input": "maybe",
        },
    ]
    full = [("user", "me"), ("roles", "a"), ("roles", "b"), ("remember", "on"), ("note", ""), ("extra", "1")]
    assert send("/model", *full).json() == {"user": "me", "roles": ["a", "b"], "remember": True, "note": None}
    errors = send("/model", ("user", "x"), ("remember", "?")).json()["detail"]
    assert [(error["type"], error["loc"]) for error in errors] == [
        ("string_too_short", ["body", "user"]),
        ("bool_parsing", ["body", "remember"]),
    ]
    assert send("/only", ("a", "1")).json() == {"a": 1}
    assert [error["type"] for error in send("/only", ("a", "1"), ("b", "2")).json()["detail"]] == ["extra_forbidden"]
    assert send("/optional", ("other", "x")).json() == {"login": None}
    assert send("/optional", ("user", "me")).json()["login"]["user"] == "me"
    assert send("/form", ("a", "1"), ("b", "2"), ("a", "3")).json() == {"a": ["1", "3"], "b": ["2"]}
    assert send("/request", ("a", "1"), ("b", "2")).json() == [True, {"a": "1", "b": "2"}]


def test_without_a_form_every_required_field_is_missing(forms) -> None:
    for body, headers in ((b"", []), (b'{"a":"x"}', JSON), (b"a=x", TEXT), (b"", URLENCODED)):
        answer = post(forms, "/fields", body, headers)
        assert (answer.status, answer.json()) == (422, {"detail": [missing("body", "a")]})
    assert forms.post("/optional").json() == {"login": None}
    assert forms.post("/form").json() == {}


def test_files_are_parameters(forms) -> None:
    content = bytes(range(256))
    answer = post(forms, "/file", multipart(("file", "a.bin", content), ("note", None, "n")), MULTIPART)
    assert answer.json() == ["a.bin", "text/x-test", 256, content.decode("latin-1"), "n"]
    parts = [
        ("first", "f", b"1"),
        ("more", "m1", b"2"),
        ("more", "m2", b""),
        ("contents", "c", b"\xff"),
        ("contents", None, "text"),
    ]
    assert post(forms, "/files", multipart(*parts), MULTIPART).json() == ["1", ["m1", "m2"], ["\xff", "text"]]
    assert post(forms, "/maybe", multipart(("other", None, "x")), MULTIPART).json() == {"file": None}
    assert post(forms, "/maybe", multipart(("file", "f", b"x")), MULTIPART).json() == {"file": "f"}
    assert post(forms, "/request", multipart(("file", "f", b"x"), ("a", None, "1")), MULTIPART).json() == [True, ["a", "file"]]


def test_a_field_where_a_file_should_be_and_the_other_way_round_is_a_422(forms) -> None:
    as_text = post(forms, "/file", multipart(("file", None, "text")), MULTIPART)
    assert (as_text.status, as_text.json()["detail"][0]["loc"]) == (422, ["body", "file"])
    assert as_text.json()["detail"][0]["type"] == "value_error"
    as_file = post(forms, "/fields", multipart(("a", "f", b"x")), MULTIPART)
    assert as_file.status == 422
    assert [(error["type"], error["loc"]) for error in as_file.json()["detail"]] == [("string_type", ["body", "a"])]
    for path in ("/model", "/only", "/optional", "/form", "/request", "/files"):
        answer = post(forms, path, multipart(("user", "f", b"x"), ("a", "f", b"x"), ("first", None, "x")), MULTIPART)
        assert answer.status in (200, 422), path


def test_a_file_that_no_browser_user_has_chosen_is_not_there(forms) -> None:
    """Browsers send an empty part without a name for it."""
    empty = multipart(("file", "", b""))
    assert post(forms, "/maybe", empty, MULTIPART).json() == {"file": None}
    assert post(forms, "/file", empty, MULTIPART).json() == {"detail": [missing("body", "file")]}
    assert post(forms, "/files", multipart(("first", "f", b"1"), ("more", "", b"")), MULTIPART).json() == ["1", [], []]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("content-type", "multipart/form-data")], b"--edge--"),
        ([("content-type", "multipart/form-data; boundary=" + "x" * 100)], b""),
        (MULTIPART, b"nothing of the kind"),
        (MULTIPART, multipart(("a", None, "x"))[:-12]),
        (MULTIPART, b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--"),
        (MULTIPART, b"--edge\r\n" + b"x" * 100_000),
        (URLENCODED, b"&".join(b"a" for _ in range(5000))),
    ],
)
@pytest.mark.parametrize("path", ["/fields", "/model", "/file", "/form", "/request"])
def test_a_malformed_form_is_a_4xx(forms, path: str, headers: Any, body: bytes) -> None:
    answer = post(forms, path, body, headers)
    assert 400 <= answer.status < 500
    assert answer.json()["detail"]
