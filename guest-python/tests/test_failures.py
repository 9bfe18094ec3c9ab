"""From exceptions to responses: which handler is asked, what it may do, and what remains when nothing expects an exception."""

import asyncio

import pytest
from twins import twins

from covet import (
    CovetPy,
    Depends,
    HTMLResponse,
    HTTPException,
    JSONResponse,
    PlainTextResponse,
    Request,
    RequestValidationError,
    Response,
    Router,
    StreamingResponse,
)


class Base(Exception):
    pass


class Middle(Base):
    pass


class Derived(Middle):
    pass


class Refused(HTTPException):
    def __init__(self, detail=None):
        super().__init__(403, detail)


def says(text):
    """A handler of exceptions that answers with its name and the exception's."""
    return lambda request, error: PlainTextResponse(f"{text}: {type(error).__name__}", 418)


def raising(errors, **options):
    """An application with a route for each exception, and what is around a handler in a coroutine function too."""
    app = CovetPy(**options)

    def add(name, error):
        @app.get(f"/{name}", name=name)
        def handler():
            raise error

        @app.get(f"/async/{name}", name=f"async {name}")
        async def asynchronous():
            await asyncio.sleep(0)
            raise error

        @app.get(f"/around/{name}", name=f"around {name}", middleware=[lambda request, call_next: call_next(request)])
        def around():
            raise error

        @app.get(f"/dependency/{name}", name=f"dependency {name}", dependencies=[Depends(handler)])
        def dependency():
            return "x"

    for name, error in errors.items():
        add(name, error)
    return app


PLACES = ["", "/async", "/around", "/dependency"]


@pytest.mark.parametrize("place", PLACES)
def test_the_nearest_base_class_of_an_exception_decides(serve, place):
    app = raising({"base": Base(), "middle": Middle(), "derived": Derived()})
    app.exception_handler(Base)(says("base"))
    app.exception_handler(Derived)(says("derived"))
    instance = serve(app)
    answers = [instance.get(f"{place}/{name}") for name in ("base", "middle", "derived")]
    assert [answer.text for answer in answers] == ["base: Base", "base: Middle", "derived: Derived"]
    assert [answer.status for answer in answers] == [418] * 3


@pytest.mark.parametrize("place", PLACES)
def test_handlers_of_http_exceptions_are_by_status_and_by_class(serve, place):
    app = raising({"refused": Refused(), "missing": HTTPException(404), "teapot": HTTPException(418, "tea")})
    app.exception_handler(404)(says("404"))
    app.exception_handler(HTTPException)(says("any"))
    app.exception_handler(Refused)(says("refused"))
    instance = serve(app)
    found = [instance.get(f"{place}/{name}").text for name in ("refused", "missing", "teapot")]
    assert found == ["refused: Refused", "404: HTTPException", "any: HTTPException"]


@pytest.mark.parametrize("order", ["status first", "class first"])
def test_a_status_is_more_than_a_class_at_the_same_level(serve, order):
    app = raising({"refused": Refused()})
    handlers = [(403, says("status")), (Refused, says("class"))]
    for key, handler in handlers if order == "status first" else reversed(handlers):
        app.exception_handler(key)(handler)
    assert serve(app).get("/refused").text == "status: Refused"


def test_the_level_that_is_nearest_decides_before_the_class_does(serve):
    def fail(kind: str):
        raise {"derived": Derived, "middle": Middle, "value": ValueError, "http": Refused}[kind]()

    inner = Router(prefix="/inner", exception_handlers={Middle: says("inner")})
    inner.add_route("/plain/{kind}", fail)
    inner.add_route("/own/{kind}", fail, exception_handlers={Base: says("route"), 403: says("route status")})

    @inner.exception_handler(ValueError)
    def value(request, error):
        return PlainTextResponse("inner value", 418)

    outer = Router(prefix="/outer", exception_handlers={Base: says("outer"), HTTPException: says("outer")})
    outer.include_router(inner)
    outer.add_route("/plain/{kind}", fail)
    app = CovetPy(exception_handlers={Derived: says("app"), ValueError: says("app"), 403: says("app")})
    app.include_router(outer)
    app.add_route("/plain/{kind}", fail)
    instance = serve(app)

    answers = {
        "/outer/inner/own/derived": "route: Derived",
        "/outer/inner/own/http": "route status: Refused",
        "/outer/inner/own/value": "inner value",
        "/outer/inner/plain/derived": "inner: Derived",
        "/outer/inner/plain/http": "outer: Refused",
        "/outer/plain/derived": "outer: Derived",
        "/outer/plain/value": "app: ValueError",
        "/plain/derived": "app: Derived",
        "/plain/http": "app: Refused",
    }
    assert {path: instance.get(path).text for path in answers} == answers


def test_handlers_of_an_inclusion_are_between_those_of_its_routers(serve):
    def fail():
        raise Derived

    router = Router()
    router.add_route("/a", fail)
    app = CovetPy(exception_handlers={Base: says("app")})
    app.include_router(router, prefix="/one", exception_handlers={Base: says("inclusion")})
    app.include_router(router, prefix="/two")
    instance = serve(app)
    assert [instance.get(path).text for path in ("/one/a", "/two/a")] == ["inclusion: Derived", "app: Derived"]


@pytest.mark.parametrize(
    ("result", "status", "content_type", "content"),
    [
        ({"a": 1}, 409, "application/json", b'{"a":1}'),
        (["a"], 409, "application/json", b'["a"]'),
        ("text", 409, "text/plain; charset=utf-8", b"text"),
        (({"a": 1}, 410), 410, "application/json", b'{"a":1}'),
        (("gone", 410, {"x-a": "b"}), 410, "text/plain; charset=utf-8", b"gone"),
        (HTMLResponse("<p>", 200), 200, "text/html; charset=utf-8", b"<p>"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_of_exceptions_returns_becomes_the_response(serve, is_async, result, status, content_type, content):
    app = raising({"conflict": HTTPException(409)})

    async def asynchronous(request, error):
        await asyncio.sleep(0)
        return result

    app.exception_handler(409)(asynchronous if is_async else lambda request, error: result)
    answer = serve(app).get("/conflict")
    assert (answer.status, answer.header("content-type"), answer.content) == (status, content_type, content)


def test_a_stream_and_work_after_the_response_may_come_from_a_handler_of_exceptions(serve):
    log = []

    async def after():
        log.append("after")

    app = raising({"base": Base()})

    @app.exception_handler(Base)
    def streamed(request, error):
        return StreamingResponse(iter(["a", "b"]), 500, background=after)

    assert (serve(app).get("/base").content, log) == (b"ab", ["after"])


def test_a_handler_of_exceptions_may_use_the_request_and_its_body(serve):
    app = CovetPy()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError):
        return JSONResponse({"body": await request.text(), "at": [list(one["loc"]) for one in error.errors()]}, 400)

    @app.post("/{n}")
    def handler(n: int, body: dict[str, int]):
        return body

    instance = serve(app)
    headers = [("content-type", "application/json")]
    expected = {"body": '{"a":"b"}', "at": [["path", "n"], ["body", "a"]]}
    assert instance.post("/x", '{"a":"b"}', headers=headers).json() == expected
    reader, _ = instance.host.body(b'{"a"', b':"b"}')
    assert instance.post("/x", reader, headers=headers).json() == expected


@pytest.mark.parametrize("place", PLACES)
def test_a_handler_that_fails_is_a_500_and_both_are_in_the_log(serve, caplog, place):
    app = raising({"base": Base("first")})

    @app.exception_handler(Base)
    def fails(request, error):
        raise ZeroDivisionError("second") from error

    answer = serve(app).get(f"{place}/base")
    assert (answer.status, answer.json()) == (500, {"detail": "Internal Server Error"})
    (record,) = caplog.records
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert isinstance(record.exc_info[1].__cause__, Base)


def test_a_handler_that_raises_what_the_last_handler_knows_is_answered_by_it(serve, caplog):
    app = raising({"base": Base()})

    @app.exception_handler(Base)
    def fails(request, error):
        raise ValueError("in the handler")

    @app.exception_handler(Exception)
    async def last(request, error):
        return {"error": str(error)}

    answer = serve(app).get("/base")
    assert (answer.status, answer.json()) == (500, {"error": "in the handler"})


def test_a_handler_may_turn_an_exception_into_an_http_exception(serve, caplog):
    app = raising({"base": Base()})

    @app.exception_handler(Base)
    def turns(request, error):
        raise HTTPException(409, "turned") from error

    answer = serve(app).get("/base")
    assert answer.status in (409, 500)
    assert answer.status == 409 or caplog.records


@pytest.mark.parametrize("key", [Exception, 500])
@pytest.mark.parametrize("place", PLACES)
def test_the_last_handler_answers_what_nothing_else_does_and_the_log_has_it_all_the_same(serve, caplog, key, place):
    app = raising({"value": ValueError("v"), "missing": HTTPException(404)})

    @app.exception_handler(key)
    def last(request, error):
        return JSONResponse({"path": request.path, "error": repr(error)}, 500)

    instance = serve(app)
    assert instance.get(f"{place}/value").json() == {"path": f"{place}/value", "error": "ValueError('v')"}
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]
    assert instance.get(f"{place}/missing").json() == {"detail": "Not Found"}


@pytest.mark.parametrize("result", [1 / 3, object(), "\ud800", {"a": float("nan")}, ("a", "b")])
def test_a_last_handler_that_fails_or_gives_nothing_that_can_be_sent_is_a_500(serve, caplog, result):
    app = raising({"value": ValueError()})

    @app.exception_handler(Exception)
    def last(request, error):
        return result

    @app.exception_handler(Base)
    def fails(request, error):
        raise error

    @app.get("/derived")
    def derived():
        raise Derived

    instance = serve(app)
    assert instance.get("/value").status == 500
    assert instance.get("/derived").status == 500


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("place", PLACES)
def test_what_would_end_a_program_ends_the_request_only(serve, caplog, error, place):
    app = raising({"end": error})
    app.get("/next")(lambda: "x")
    instance = serve(app)
    assert instance.get(f"{place}/end").status == 500
    assert instance.get("/next").text == "x"


@pytest.mark.parametrize("status", [200, 204, 205, 304, 400, 599])
def test_http_exceptions_of_every_status_are_those_of_fastapi(serve, status):
    def build(kit):
        @kit.app.get("/plain")
        def plain():
            raise kit.HTTPException(status)

        @kit.app.get("/detail")
        async def detail():
            raise kit.HTTPException(status, detail={"why": [1, None]}, headers={"X-Why": "so"})

        @kit.app.get("/dependency", dependencies=[kit.Depends(plain)])
        def dependency():
            return {}

    with twins(serve, build) as both:
        for path in ("/plain", "/detail", "/dependency"):
            if status != 599:
                both.agree("GET", path, status=status)
        answer, reference = both.both("GET", "/detail")
        assert answer.header("x-why") == reference.header("x-why") == "so"


def test_handlers_give_the_answers_of_fastapi(serve):
    class Known(Exception):
        pass

    class Closer(Known):
        pass

    def build(kit):
        app = kit.app

        @app.exception_handler(Known)
        async def known(request, error):
            return kit.JSONResponse({"handled": str(error), "path": request.url.path}, 418, headers={"x-h": "1"})

        @app.exception_handler(404)
        def missing(request, error):
            return kit.JSONResponse({"missing": error.detail}, 404)

        @app.exception_handler(kit.RequestValidationError)
        def invalid(request, error):
            return kit.JSONResponse({"count": len(error.errors()), "body": repr(error.body)}, 400)

        @app.get("/known")
        def raise_known():
            raise Known("k")

        @app.get("/closer")
        async def raise_closer():
            raise Closer("c")

        @app.get("/missing")
        def raise_missing():
            raise kit.HTTPException(404, "not this")

        @app.post("/items/{n}")
        def item(n: int, body: dict[str, int]):
            return body

    with twins(serve, build) as both:
        for path, status in (("/known", 418), ("/closer", 418), ("/missing", 404), ("/nothing", 404)):
            both.agree("GET", path, status=status)
        both.agree("POST", "/items/x", {"a": "b", "c": 1}, status=400)
        both.agree("POST", "/items/1", "plain text", status=400)
        both.agree("POST", "/items/1", '{"a":', [("content-type", "application/json")], status=400)
        both.agree("POST", "/items/1", None, status=400)
        both.agree("GET", "/items/1", status=405)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("application/json", "text/plain; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_debug_shows_the_traceback_and_escapes_it(serve, caplog, place, accept, content_type):
    app = raising({"value": ValueError("<script>&'")}, debug=True)
    headers = [("accept", accept)] if accept else []
    answer = serve(app).get(f"{place}/value?q=<script>", headers=[*headers, ("x-a", "<script>")])
    assert (answer.status, answer.header("content-type")) == (500, content_type)
    assert "Traceback" in answer.text
    assert "test_failures.py" in answer.text
    if content_type.startswith("text/html"):
        assert "<script>" not in answer.text
        assert "&lt;script&gt;" in answer.text
    assert len(caplog.records) == 1


def test_without_debug_nothing_of_an_exception_is_told(serve, caplog):
    app = raising({"value": ValueError("secret")})
    answer = serve(app).get("/value", headers=[("accept", "text/html")])
    assert (answer.status, answer.headers, answer.json()) == (
        500,
        [("content-type", "application/json")],
        {"detail": "Internal Server Error"},
    )
    assert "secret" in caplog.text


def test_debug_leaves_exceptions_that_are_expected(serve, caplog):
    app = raising({"missing": HTTPException(404), "base": Base()}, debug=True)
    app.exception_handler(Base)(says("base"))
    instance = serve(app)
    assert (instance.get("/missing").status, instance.get("/base").text, caplog.records) == (404, "base: Base", [])


@pytest.mark.parametrize("detail", [object(), "\ud800", {"a": float("inf")}, [{1, 2}]])
@pytest.mark.parametrize("place", PLACES)
def test_a_detail_that_is_no_json_is_a_500_at_worst(serve, caplog, place, detail):
    app = raising({"odd": HTTPException(400, detail)})
    answer = serve(app).get(f"{place}/odd")
    assert answer.status in (400, 500)
    assert answer.json()


def test_a_detail_may_be_nothing_and_false(serve):
    app = raising({"none": HTTPException(400, None), "empty": HTTPException(400, ""), "zero": HTTPException(400, 0)})
    instance = serve(app)
    found = [instance.get(f"/{name}").json()["detail"] for name in ("none", "empty", "zero")]
    assert found == ["Bad Request", "", 0]


def test_an_exception_of_one_request_is_not_seen_in_another(serve, caplog):
    app = CovetPy()

    @app.get("/{n}")
    async def handler(n: int):
        await asyncio.sleep(n / 100)
        if n % 2:
            raise HTTPException(400 + n)
        return n

    instance = serve(app)
    tasks = [instance.begin("GET", f"/{n}") for n in (3, 2, 1, 0)]
    instance.host.run()
    assert [instance.answer(task).status for task in tasks] == [403, 200, 401, 200]


def test_exceptions_in_groups_are_not_taken_apart(serve, caplog):
    app = CovetPy()

    @app.get("/")
    async def handler():
        async def fails():
            raise HTTPException(404)

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    assert serve(app).get("/").status == 500
    assert isinstance(caplog.records[0].exc_info[1], ExceptionGroup)


def test_a_response_may_be_sent_where_an_exception_is_caught(serve):
    app = CovetPy()

    @app.get("/")
    def handler():
        try:
            raise Base
        except Base:
            return Response("caught", 202)

    assert serve(app).get("/").status == 202
