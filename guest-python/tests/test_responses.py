"""What handlers return and what is sent: classes of responses, models, cookies, streams, events, and work after it."""

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import http.cookies
import uuid
from typing import Annotated, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from twins import twins

from covet import (
    BackgroundTask,
    BackgroundTasks,
    CovetPy,
    EventSourceResponse,
    HTMLResponse,
    JSONResponse,
    MutableHeaders,
    PlainTextResponse,
    Query,
    RedirectResponse,
    Request,
    Response,
    ResponseValidationError,
    ServerSentEvent,
    StreamingResponse,
    XMLResponse,
)
from covet.datastructures import parse_cookies


def serving(serve, endpoint, **options):
    """An instance whose `GET /` is this handler."""
    app = CovetPy()
    app.get("/", **options)(endpoint)
    return serve(app)


# --- Classes of responses


@pytest.mark.parametrize(
    ("response", "status", "content_type", "content"),
    [
        (Response("text"), 200, None, b"text"),
        (Response(b"\x00\xff", 201, media_type="image/png"), 201, "image/png", b"\x00\xff"),
        (Response(bytearray(b"ab")), 200, None, b"ab"),
        (Response(memoryview(b"ab")), 200, None, b"ab"),
        (Response(), 200, None, b""),
        (Response("x", media_type="text/css"), 200, "text/css; charset=utf-8", b"x"),
        (Response("x", media_type="text/css; charset=latin-1"), 200, "text/css; charset=latin-1", b"x"),
        (PlainTextResponse("\u20ac"), 200, "text/plain; charset=utf-8", "\u20ac".encode()),
        (HTMLResponse("<p>", 404), 404, "text/html; charset=utf-8", b"<p>"),
        (XMLResponse("<x/>"), 200, "application/xml", b"<x/>"),
        (JSONResponse({"a": [1, None, "\u20ac"]}), 200, "application/json", '{"a":[1,null,"\u20ac"]}'.encode()),
        (JSONResponse(None), 200, "application/json", b"null"),
        (JSONResponse("x", media_type="application/problem+json"), 200, "application/problem+json", b'"x"'),
        (RedirectResponse("/a"), 307, None, b""),
        (RedirectResponse("/a", 301), 301, None, b""),
        (StreamingResponse(iter(["a", b"b"]), media_type="text/csv"), 200, "text/csv; charset=utf-8", b"ab"),
    ],
)
def test_classes_of_responses(serve, response, status, content_type, content):
    answer = serving(serve, lambda: response).get("/")
    assert (answer.status, answer.header("content-type"), answer.content) == (status, content_type, content)


@pytest.mark.parametrize("make", [lambda: Response(5), lambda: PlainTextResponse(["x"]), lambda: Response({"a": 1})])
def test_a_content_that_is_no_text_is_refused(make):
    with pytest.raises(TypeError, match="is str or bytes"):
        make()


@pytest.mark.parametrize("content", ["text", b"octets", 5, None])
def test_the_content_of_a_stream_is_an_iterator(content):
    with pytest.raises(TypeError, match="is an iterator"):
        StreamingResponse(content)


def test_headers_are_a_mapping_or_pairs_and_can_be_changed(serve):
    def handler(as_pairs: bool = False):
        headers: Any = {"X-A": "1", "Content-Type": "text/x-mine"}
        response = PlainTextResponse("x", headers=[*headers.items(), ("X-A", "2")] if as_pairs else headers)
        response.headers["x-b"] = "old"
        response.headers["X-B"] = "new"
        response.headers.append("X-B", "more")
        response.headers.setdefault("x-c", "c")
        response.headers.setdefault("X-C", "not this")
        response.headers.update({"x-d": "d", "X-E": "e"})
        del response.headers["X-D"]
        assert "x-d" not in response.headers
        assert response.headers.getlist("x-b") == ["new", "more"]
        return response

    instance = serving(serve, handler)
    rest = [("x-b", "new"), ("x-b", "more"), ("x-c", "c"), ("x-e", "e")]
    mapping, pairs = instance.get("/").headers, instance.get("/?as_pairs=1").headers
    assert sorted(mapping) == sorted([("x-a", "1"), ("content-type", "text/x-mine"), *rest])
    assert sorted(pairs) == sorted([("x-a", "1"), ("x-a", "2"), ("content-type", "text/x-mine"), *rest])
    with pytest.raises(TypeError, match="header names and values are str"):
        MutableHeaders()["a"] = 5
    with pytest.raises(KeyError):
        del MutableHeaders()["a"]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/a?b=c#d", "/a?b=c#d"),
        ("https://example.com/\u20ac x", "https://example.com/%E2%82%AC%20x"),
        ("/already%20quoted", "/already%20quoted"),
        ("/line\r\nset-cookie: a=b", "/line%0D%0Aset-cookie:%20a=b"),
    ],
)
def test_a_redirection_goes_where_starlettes_does(serve, url, location):
    def build(kit):
        @kit.app.get("/object")
        def as_object():
            return kit.RedirectResponse(url)

        @kit.app.get("/class", response_class=kit.RedirectResponse)
        def as_class():
            return url

        @kit.app.get("/status", response_class=kit.RedirectResponse, status_code=303)
        def as_class_with_status():
            return url

    with twins(serve, build) as both:
        for path, status in (("/object", 307), ("/class", 307), ("/status", 303)):
            both.agree("GET", path, status=status)
            answer, reference = both.both("GET", path)
            assert answer.header("location") == reference.header("location") == location


def test_a_redirection_may_be_to_a_url_of_the_application(serve):
    app = CovetPy()

    @app.get("/old")
    def old(request: Request):
        return RedirectResponse(request.url_for("new", n=5))

    @app.get("/new/{n}")
    def new(n: int):
        return n

    answer = serve(app).get("/old", headers=[("host", "testhost:8000")])
    assert answer.header("location") == "http://testhost:8000/new/5"


# --- Results


class Color(enum.Enum):
    red = "red"


class Base(BaseModel):
    name: str
    n: int = 3
    opt: str | None = None


class Sub(Base):
    password: str = "secret"


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    the_name: str = Field(alias="theName")
    written: int = Field(5, serialization_alias="WRITTEN")


class FromObject(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    a: int
    b: str = "x"


class Plain:
    a, b, c = 1, "y", "z"


@dataclasses.dataclass
class Data:
    a: int
    b: str | None = None
    more: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class SubData(Data):
    secret: str = "s"


class Pair(NamedTuple):
    a: int
    b: str


def test_plain_results_are_written_as_fastapi_writes_them(serve):
    results = {
        "dict": {"a": 1, "nested": {"b": [1.5, True, None]}},
        "list": [1, "x", {}],
        "int": 5,
        "true": True,
        "none": None,
        "float": 1.0,
        "big": 10**30,
        "unicode": {"\u00e9": "\u2028\U0001f600"},
        "keys": {1: 2, None: 3, 1.5: 4},
        "moments": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.date(2020, 1, 1), dt.time(1, 2), dt.timedelta(seconds=90)],
        "values": [uuid.UUID(int=5), Color.red, decimal.Decimal("1.5"), decimal.Decimal(2), b"abc"],
        "collections": [{1}, frozenset([2]), (1, 2), Pair(1, "b")],
        "models": {"m": Base(name="x"), "l": [Aliased(the_name="q")], "d": Data(1)},
        "model": Aliased(the_name="q"),
        "data": [SubData(1)],
    }

    def build(kit):
        for name in results:
            kit.app.get(f"/{name}")(lambda name=name: results[name])

    with twins(serve, build) as both:
        for name in results:
            both.agree("GET", f"/{name}", status=200)


def test_texts_octets_and_tuples_are_results_of_their_own(serve):
    app = CovetPy()
    results = {
        "text": "x",
        "octets": b"\xff",
        "status": ({"a": 1}, 201),
        "headers": ("x", 202, {"X-A": "b"}),
        "none": (None, 204, {"X-A": "b"}),
        "response": (HTMLResponse("<p>"), 418),
        "no-headers": ("x", 203, None),
        "pair": Pair(1, "b"),
    }
    app.get("/{name}")(lambda name: results[name])
    instance = serve(app)
    found = {}
    for name in results:
        answer = instance.get(f"/{name}")
        found[name] = (answer.status, answer.header("content-type"), answer.header("x-a"), answer.content)
    text = "text/plain; charset=utf-8"
    assert found == {
        "text": (200, text, None, b"x"),
        "octets": (200, "application/octet-stream", None, b"\xff"),
        "status": (201, "application/json", None, b'{"a":1}'),
        "headers": (202, text, "b", b"x"),
        "none": (204, None, "b", b""),
        "response": (418, "text/html; charset=utf-8", None, b"<p>"),
        "no-headers": (203, text, None, b"x"),
        "pair": (200, "application/json", None, b'[1,"b"]'),
    }


@pytest.mark.parametrize("result", [(), ("x",), ("x", "y"), ("x", 200, {}, 1), (1, 2.0), ("x", True)])
def test_other_tuples_are_a_500_that_says_what_to_do(serve, caplog, result):
    assert serving(serve, lambda: result).get("/").status == 500
    assert "for JSON return a list" in str(caplog.records[0].exc_info[1])


@pytest.mark.parametrize("status", [204, 205, 304, 101])
@pytest.mark.parametrize("result", [None, {"a": 1}, [1], "text", b"octets", Base(name="x"), 5])
def test_what_has_no_body_has_none_whatever_is_returned(serve, status, result):
    app = CovetPy()
    app.get("/plain", status_code=status)(lambda: result)
    app.get("/class", status_code=status, response_class=PlainTextResponse)(lambda: result)
    app.get("/model", status_code=status, response_model=Any)(lambda: result)
    app.get("/tuple")(lambda: (result, status))
    instance = serve(app)
    for path in ("/plain", "/class", "/model", "/tuple"):
        answer = instance.get(path)
        assert (answer.status, answer.headers, answer.content) == (status, [], b"")


def test_a_response_class_is_for_results_that_are_no_responses(serve):
    class Shouting(PlainTextResponse):
        def render(self, content):
            return super().render(str(content).upper())

    app = CovetPy(default_response_class=Shouting)
    app.get("/default")(lambda: "x")
    app.get("/own", response_class=HTMLResponse)(lambda: "x")
    app.get("/response")(lambda: PlainTextResponse("x"))
    app.get("/tuple")(lambda: ("x", 201))
    app.get("/number")(lambda: 5)
    app.get("/model", response_class=JSONResponse)(lambda: {"a": 1})
    instance = serve(app)
    assert [instance.get(path).text for path in ("/default", "/own", "/response", "/tuple", "/number", "/model")] == [
        *["X", "x", "x", "X", "5", '{"a":1}']
    ]
    assert instance.get("/tuple").status == 201


# --- Models of results


def add_models(kit) -> None:
    get = kit.app.get
    sub, data = Sub(name="x"), SubData(1, secret="s")
    base = {"response_model": Base}

    def route(path, result, **options):
        get(path, **options)(lambda: result)

    route("/dict", {"name": "x", "extra": 1}, **base)
    route("/subclass", sub, **base)
    route("/unset", sub, response_model_exclude_unset=True, **base)
    route("/unset-dict", {"name": "x", "n": 3}, response_model_exclude_unset=True, **base)
    route("/defaults", Sub(name="x", n=3, opt="o"), response_model_exclude_defaults=True, **base)
    route("/none", sub, response_model_exclude_none=True, **base)
    route("/include", sub, response_model_include={"name"}, **base)
    route("/include-list", sub, response_model_include=["name", "n"], **base)
    route("/exclude", sub, response_model_exclude={"name"}, **base)
    route("/exclude-all", [sub], response_model=list[Base], response_model_exclude={"__all__": {"n"}})
    route("/alias", Aliased(the_name="q"), response_model=Aliased)
    route("/no-alias", Aliased(the_name="q"), response_model=Aliased, response_model_by_alias=False)
    route("/object", Plain(), response_model=FromObject)
    route("/data", data, response_model=Data)
    route("/data-dict", {"a": 1, "more": ["2"], "zz": 3}, response_model=Data, response_model_exclude_none=True)
    route("/data-list", [data, {"a": 2}], response_model=list[Data])
    route("/data-exclude", data, response_model=Data, response_model_exclude={"more"})
    route("/data-include", data, response_model=Data, response_model_include={"a"})
    route("/data-defaults", data, response_model=Data, response_model_exclude_defaults=True)
    route("/convert", {"a": "5"}, response_model=dict[str, int])
    route("/union", "5", response_model=int | str)
    route("/set", [1, 1, 2], response_model=set[int])
    route("/generator", (n for n in (1, 2)), response_model=list[int])
    route("/moment", dt.datetime(2020, 1, 1, tzinfo=dt.UTC), response_model=dt.datetime)
    route("/infinite", {"a": float("inf")}, response_model=dict[str, float])
    route("/class", sub, response_class=kit.JSONResponse, **base)
    route("/response", kit.JSONResponse({"raw": 1}, 202), **base)
    route("/status", sub, status_code=201, **base)

    @get("/annotated")
    def annotated() -> Base:
        return sub

    @get("/annotated-list")
    def annotated_list() -> list[Base]:
        return [sub, {"name": "y", "password": "p"}]

    @get("/annotated-dict")
    def annotated_dict() -> dict[str, Base]:
        return {"k": sub}

    @get("/annotated-none")
    def annotated_none() -> Base | None:
        return None

    @get("/annotated-union")
    def annotated_union() -> Base | Data:
        return Data(1)

    @get("/annotated-data")
    def annotated_data() -> Data:
        return data

    @get("/annotated-response")
    def annotated_response() -> kit.Response:
        return kit.JSONResponse({"raw": 1}, 202)

    @get("/said-none", response_model=None)
    def said_none() -> Base:
        return sub

    @get("/said-otherwise", response_model=Aliased)
    def said_otherwise() -> Base:
        return {"theName": "q"}

    @get("/async")
    async def asynchronous() -> Base:
        return sub

    @get("/annotated-status")
    def with_status(response: kit.Response) -> Base:
        response.status_code = 418
        return sub


MODEL_PATHS = [
    *[
        "dict",
        "subclass",
        "unset",
        "unset-dict",
        "defaults",
        "none",
        "include",
        "include-list",
        "exclude",
        "exclude-all",
        "alias",
        "no-alias",
    ],
    *["object", "data", "data-dict", "data-list", "data-exclude", "data-include", "data-defaults", "convert", "union", "set"],
    *["moment", "class", "response", "status", "annotated", "annotated-list", "annotated-dict", "annotated-none"],
    *["annotated-union", "annotated-data", "annotated-response", "said-none", "said-otherwise", "async", "annotated-status"],
]


def test_results_are_filtered_by_their_model_as_in_fastapi(serve):
    with twins(serve, add_models) as both:
        for path in MODEL_PATHS:
            both.agree("GET", f"/{path}")
        # It can be read once, so it is not for both.
        assert both.instance.get("/generator").json() == [1, 2]
        # Unlike FastAPI's, a password that a base class does not have is nowhere.
        for path in MODEL_PATHS:
            if path != "said-none":
                assert "secret" not in both.instance.get(f"/{path}").text, path


def test_a_number_that_json_does_not_have_is_null_in_a_model_as_in_pydantic(serve):
    with twins(serve, add_models) as both:
        both.agree("GET", "/infinite", status=200)


@pytest.mark.parametrize(
    ("annotation", "result"),
    [
        (Base, {"nam": "x"}),
        (Base, None),
        (Base, "x"),
        (list[Base], [{"name": 1}]),
        (Data, {"a": "x"}),
        (dict[str, int], {"a": "b"}),
        (int, object()),
    ],
)
def test_a_result_that_does_not_fit_is_a_500_and_the_log_says_where(serve, caplog, annotation, result):
    app = CovetPy()
    app.get("/", response_model=annotation)(lambda: result)
    app.get("/class", response_model=annotation, response_class=JSONResponse)(lambda: result)
    instance = serve(app)
    for path in ("/", "/class"):
        answer = instance.get(path)
        assert (answer.status, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert "the result of the handler does not fit its response model" in caplog.text


def test_such_a_result_may_have_a_handler_and_a_tuple_may_have_a_model(serve):
    app = CovetPy()

    @app.exception_handler(ResponseValidationError)
    def handler(request, error):
        return {"errors": [list(one["loc"]) for one in error.errors()]}, 502

    @app.get("/tuple")
    def of_tuple() -> Base:
        return {"name": "x", "password": "p"}, 201, {"x-a": "b"}

    app.get("/plain", response_model=Base)(lambda: {"n": 1})
    app.get("/around", response_model=Base, middleware=[lambda request, call_next: call_next(request)])(lambda: {"n": 1})
    instance = serve(app)
    answer = instance.get("/tuple")
    assert (answer.status, answer.json(), answer.header("x-a")) == (201, {"name": "x", "n": 3, "opt": None}, "b")
    for path in ("/plain", "/around"):
        assert (instance.get(path).status, instance.get(path).json()) == (502, {"errors": [["name"]]})


@pytest.mark.parametrize("depth", [10, 200, 1000, 5000])
def test_a_result_of_any_depth_is_written_or_a_500(serve, caplog, depth):
    class Tree(BaseModel):
        children: list["Tree"] = []

    tree: dict[str, Any] = {}
    model = Tree()
    for _ in range(depth):
        tree = {"children": [tree]}
        model = Tree.model_construct(children=[model])
    app = CovetPy()
    app.get("/plain")(lambda: tree)
    app.get("/model", response_model=Tree)(lambda: tree)
    app.get("/object", response_model=Tree)(lambda: model)
    instance = serve(app)
    assert {instance.get(path).status for path in ("/plain", "/model", "/object")} <= {200, 500}


def test_what_cannot_be_a_model_is_refused_where_it_is_written():
    class Unknown:
        pass

    app = CovetPy()
    with pytest.raises(TypeError, match=r"the response model"):
        app.get("/", response_model=Unknown)(lambda: "x")
    # An annotation without a model in it is only for those who read it.
    app.get("/", name="fine")(annotated_with_unknown)


def annotated_with_unknown() -> "Plain":
    return Plain()


# --- Cookies


def test_cookies_are_those_of_starlette(serve):
    def build(kit):
        @kit.app.get("/")
        def handler(response: kit.Response):
            response.set_cookie("plain", "value")
            response.set_cookie("all", "v", 5, None, "/p", "x.y", True, True, "strict")
            response.set_cookie("quoted", 'b c;d="\u00e9,\\\n')
            response.set_cookie("date", "v", expires=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
            response.set_cookie("text", "v", expires="Tue, 01 Jan 2030 00:00:00 GMT")
            response.set_cookie("bare", "v", path=None, samesite=None)
            response.delete_cookie("gone")
            response.delete_cookie("there", path="/q", domain="d", secure=True, httponly=True, samesite="none")
            return {}

        @kit.app.get("/own")
        def own():
            response = kit.PlainTextResponse("x")
            response.set_cookie("a", "1")
            response.set_cookie("a", "2", path="/other")
            return response

    def attributes(headers: Any) -> list[Any]:
        """Every cookie with its attributes, whatever their order and the moment of deletion."""
        cookies = []
        for name, value in headers:
            if name == "set-cookie":
                first, *rest = value.split("; ")
                key, _, content = first.partition("=")
                gone = "Max-Age=0" in rest
                cookies.append(
                    (
                        key,
                        content.strip('"') if gone else content,
                        {one.lower() for one in rest if not gone or "expires" not in one},
                    )
                )
        return sorted(cookies, key=str)

    with twins(serve, build) as both:
        for path in ("/", "/own"):
            answer, reference = both.both("GET", path)
            assert attributes(answer.headers) == attributes(reference.headers)


def test_a_cookie_may_expire_in_seconds_and_be_partitioned(serve):
    def handler():
        response = Response("x")
        response.set_cookie("a", "b", expires=60, partitioned=True)
        return response

    field = serving(serve, handler).get("/").header("set-cookie")
    assert field is not None
    first, expires, *rest = field.split("; ")
    moment = dt.datetime.strptime(expires, "expires=%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=dt.UTC)
    assert 50 < (moment - dt.datetime.now(dt.UTC)).total_seconds() < 70
    assert (first, rest) == ("a=b", ["Path=/", "Partitioned", "SameSite=lax"])


@given(st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs"])))
def test_the_value_of_a_cookie_comes_back_and_never_becomes_an_attribute(value):
    response = Response()
    response.set_cookie("name", value, path=None, samesite=None)
    (field,) = response.headers.getlist("set-cookie")
    assert not {"\r", "\n", "\0"} & set(field)
    assert ";" not in field
    assert parse_cookies([("cookie", f"{field}; other=1")]) == {"name": value, "other": "1"} or value != value.strip()
    if value.isascii() and value:
        assert http.cookies.SimpleCookie(field)["name"].value == value


@pytest.mark.parametrize("name", ["", "a b", "a;b", "a=b", "a\n", "\u20ac", "a,b", '"a"'])
def test_a_name_of_a_cookie_is_a_token(name):
    with pytest.raises(ValueError, match="is no name of a cookie"):
        Response().set_cookie(name, "x")


@pytest.mark.parametrize("attribute", [{"path": "/; Domain=evil"}, {"domain": "x\r\nset-cookie: a=b"}, {"expires": "now;x"}])
def test_an_attribute_of_a_cookie_is_one(attribute):
    with pytest.raises(ValueError, match="is no attribute of a cookie"):
        Response().set_cookie("a", "x", **attribute)


# --- Streams and events


def test_generators_are_streams(serve):
    app = CovetPy()

    @app.get("/plain", status_code=201)
    def plain():
        yield "a"
        yield b"b"
        yield bytearray(b"c")

    @app.get("/async", response_class=None)
    async def asynchronous(n: int = 2):
        for number in range(n):
            yield str(number)
            await asyncio.sleep(0.01)

    @app.get("/returned")
    def returned():
        return (one for one in ["x", "y"])

    @app.get("/status")
    async def with_status():
        return (str(one) for one in range(2)), 202, {"content-type": "text/csv"}

    instance = serve(app)
    assert (instance.get("/plain").status, instance.get("/plain").content) == (201, b"abc")
    assert instance.get("/async?n=3").content == b"012"
    assert instance.get("/async?n=x").status == 422
    assert instance.get("/returned").content == b"xy"
    answer = instance.get("/status")
    assert (answer.status, answer.header("content-type"), answer.content) == (202, "text/csv", b"01")


@pytest.mark.parametrize("piece", [5, 10**12, None, {"a": 1}, ["x"], 1.5])
def test_a_piece_that_is_no_text_ends_the_body_and_is_in_the_log(serve, caplog, piece):
    answer = serving(serve, lambda: StreamingResponse(iter(["a", piece, "b"]))).get("/")
    assert answer.content == b"a"
    assert isinstance(caplog.records[0].exc_info[1], TypeError)


EVENTS: list[Any] = [
    ("text", b"data: text\n\n"),
    ("two\nlines\r\nthree\rfour", b"data: two\ndata: lines\ndata: three\ndata: four\n\n"),
    ("", b"data: \n\n"),
    ({"a": "\u20ac\n"}, 'data: {"a":"\u20ac\\n"}\n\n'.encode()),
    (ServerSentEvent(5, event="e", id="7", retry=3000), b"event: e\nid: 7\nretry: 3000\ndata: 5\n\n"),
    (ServerSentEvent(comment="ping"), b": ping\n\n"),
    (ServerSentEvent("x", comment="a\nb"), b": a\n: b\ndata: x\n\n"),
    (ServerSentEvent(event="only"), b"event: only\n\n"),
]


@pytest.mark.parametrize("is_async", [True, False])
def test_events_are_written_one_after_the_other(serve, is_async):
    async def later():
        for event, _ in EVENTS:
            yield event
            await asyncio.sleep(0.01)

    def handler():
        return EventSourceResponse(later() if is_async else (event for event, _ in EVENTS), headers={"x-a": "b"})

    answer = serving(serve, handler).get("/")
    assert answer.content == b"".join(written for _, written in EVENTS)
    assert dict(answer.headers) == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "x-a": "b",
    }


def test_a_generator_with_the_class_of_events_yields_events(serve):
    async def handler():
        yield {"n": 1}
        yield ServerSentEvent("x", id="2")

    answer = serving(serve, handler, response_class=EventSourceResponse).get("/")
    assert answer.content == b'data: {"n":1}\n\nid: 2\ndata: x\n\n'
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    "event", [ServerSentEvent("x", event="a\nb"), ServerSentEvent("x", id="a\rb"), ServerSentEvent("x", id="\0")]
)
def test_names_and_ids_of_events_are_one_line(event):
    with pytest.raises(ValueError, match="line break"):
        event.encode()


def test_events_are_sent_when_they_are_made_and_end_with_their_client(serve):
    log = []

    async def events():
        try:
            for number in range(100):
                yield number
                await asyncio.sleep(1)
        finally:
            log.append("closed")

    instance = serving(serve, lambda: EventSourceResponse(events()))
    task = instance.begin("GET", "/")
    instance.host.run(seconds=2.5)
    assert b"".join(task.streamed.taken) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    instance.host.hang_up(task.streamed)
    instance.host.run()
    assert log == ["closed"]


# --- Work after the response


def test_work_after_the_response_begins_when_that_is_there(serve):
    log = []

    async def later(name):
        log.append(f"{name} begins")
        await asyncio.sleep(1)
        log.append(f"{name} ends")

    app = CovetPy()

    @app.get("/tasks")
    def tasks(tasks: BackgroundTasks):
        tasks.add_task(later, "one")
        tasks.add_task(log.append, "two")
        return "x"

    @app.get("/task")
    async def one_task():
        return PlainTextResponse("x", background=BackgroundTask(later, name="one"))

    @app.get("/both")
    def both(tasks: BackgroundTasks):
        tasks.add_task(log.append, "injected")
        return PlainTextResponse("x", background=BackgroundTask(log.append, "own"))

    @app.get("/function")
    def function():
        async def work():
            log.append("function")

        return Response("x", background=work)

    instance = serve(app)
    expected = {
        "/tasks": ["one begins", "one ends", "two"],
        "/task": ["one begins", "one ends"],
        "/both": ["own", "injected"],
        "/function": ["function"],
    }
    for path, done in expected.items():
        task = instance.begin("GET", path)
        assert (task.returned, log) == (True, [])
        instance.host.run()
        assert instance.answer(task).text == "x"
        assert log == done
        log.clear()


def test_a_task_that_fails_does_not_keep_the_others_from_running(serve, caplog):
    log = []

    def handler(tasks: BackgroundTasks):
        tasks.add_task(lambda: 1 / 0)
        tasks.add_task(log.append, "next")
        return "x"

    assert serving(serve, handler).get("/").text == "x"
    assert log == ["next"]
    assert isinstance(caplog.records[0].exc_info[1], ZeroDivisionError)


def test_tasks_of_a_request_that_fails_do_not_run(serve, caplog):
    log = []

    def handler(tasks: BackgroundTasks, fail: int = 0):
        tasks.add_task(log.append, "ran")
        return 1 / fail

    instance = serving(serve, handler)
    assert instance.get("/").status == 500
    assert log == []
    assert instance.get("/?fail=1").status == 200
    assert log == ["ran"]


def test_tasks_run_after_the_last_piece_of_a_stream(serve):
    log = []

    def handler(tasks: BackgroundTasks):
        tasks.add_task(log.append, "task")

        def pieces():
            yield "a"
            log.append("streamed")

        return StreamingResponse(pieces(), background=BackgroundTask(log.append, "own"))

    assert serving(serve, handler).get("/").text == "a"
    assert log == ["streamed", "own", "task"]


# --- The response as a parameter


def test_a_parameter_of_type_response_says_things_about_the_result(serve):
    def build(kit):
        @kit.app.get("/")
        def handler(response: kit.Response, status: int = 0, made: bool = False):
            response.headers["X-A"] = "1"
            response.headers.append("X-B", "2")
            response.set_cookie("c", "3")
            if status:
                response.status_code = status
            return kit.JSONResponse({"made": True}) if made else {"status": status}

        @kit.app.get("/class", response_class=kit.PlainTextResponse, status_code=201)
        def with_class(response: kit.Response):
            response.headers["x-a"] = "1"
            return "x"

        @kit.app.get("/model")
        def with_model(response: kit.Response) -> Base:
            response.headers["x-a"] = "1"
            return Sub(name="x")

    with twins(serve, build) as both:
        for target in ("/", "/?status=201", "/?status=204", "/?made=1", "/?made=1&status=201", "/class", "/model"):
            answer, reference = both.both("GET", target)
            assert (answer.status, answer.content) == (reference.status, reference.content), target
            for name in ("x-a", "x-b", "set-cookie"):
                assert answer.header(name) == reference.header(name), (target, name)


def test_a_response_of_a_parameter_may_be_returned(serve):
    def handler(response: Response, n: Annotated[int, Query()] = 1):
        response.status_code = 202
        response.body = "mine"
        return response

    answer = serving(serve, handler).get("/")
    assert (answer.status, answer.text) == (202, "mine")
