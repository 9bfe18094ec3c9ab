"""Requests through the real exports: handlers, results, errors, and what the host gets of them."""

import asyncio
import gc
import logging

import pytest

from covet import (
    CovetPy,
    HTMLResponse,
    HTTPException,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Request,
    RequestValidationError,
    Response,
    StreamingResponse,
    host,
)
from covet._guest import loop, warmup
from covet._guest import random as _random
from covet._guest.logging import HostHandler


def test_a_function_and_a_coroutine_function_are_served_alike(serve):
    app = CovetPy()

    @app.get("/sync/{user_id}")
    def sync(user_id: int):
        return {"user_id": user_id}

    @app.get("/async/{user_id}")
    async def asynchronous(user_id: int):
        return {"user_id": user_id}

    instance = serve(app)
    for path in ("/sync/7", "/async/7"):
        answer = instance.get(path)
        assert (answer.status, answer.headers, answer.text) == (
            200,
            [("content-type", "application/json")],
            '{"user_id":7}',
        )


def test_a_call_that_ends_at_its_first_poll_yields_once_after_its_return(serve):
    app = CovetPy()

    @app.get("/")
    def index():
        return "x"

    task = serve(app).get("/").task
    assert (task.polls, task.code) == (2, 0)


@pytest.mark.parametrize(
    ("result", "status", "content_type", "content"),
    [
        ({"a": 1}, 200, "application/json", b'{"a":1}'),
        ([1, "\u20ac"], 200, "application/json", '[1,"\u20ac"]'.encode()),
        ("text \u20ac", 200, "text/plain; charset=utf-8", "text \u20ac".encode()),
        ("", 200, "text/plain; charset=utf-8", b""),
        (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
        (bytearray(b"abc"), 200, "application/octet-stream", b"abc"),
        (None, 200, "application/json", b"null"),
        (7, 200, "application/json", b"7"),
        (True, 200, "application/json", b"true"),
        (({"a": 1}, 202), 202, "application/json", b'{"a":1}'),
        (("made", 201, {"x-made": "yes"}), 201, "text/plain; charset=utf-8", b"made"),
        ((PlainTextResponse("x"), 202), 202, "text/plain; charset=utf-8", b"x"),
        (HTMLResponse("<p>"), 200, "text/html; charset=utf-8", b"<p>"),
        (JSONResponse({"a": 1}, 418), 418, "application/json", b'{"a":1}'),
        (Response(b"x" * 16385), 200, None, b"x" * 16385),
        (Response(b"\xff" * 16384), 200, None, b"\xff" * 16384),
        (Response(b"\xff" * 500_000), 200, None, b"\xff" * 500_000),
        (Response(None, 204), 204, None, b""),
    ],
)
def test_results_become_responses(serve, result, status, content_type, content):
    app = CovetPy()

    @app.get("/")
    async def index():
        return result

    answer = serve(app).get("/")
    assert (answer.status, answer.header("content-type"), answer.content) == (status, content_type, content)


def test_a_large_binary_is_streamed_and_a_small_one_is_not(serve):
    app = CovetPy()

    @app.get("/{size}")
    def sized(size: int):
        return Response(b"\xff" * size)

    instance = serve(app)
    assert instance.get("/16384").stream is None
    assert instance.get("/16385").stream is not None


def test_the_status_of_the_route_is_that_of_its_results(serve):
    app = CovetPy()

    @app.post("/", status_code=201)
    def create():
        return {"id": 1}

    @app.delete("/", status_code=204)
    def remove():
        return None

    @app.get("/", response_class=HTMLResponse, status_code=203)
    def page():
        return "<p>"

    instance = serve(app)
    assert instance.post("/").status == 201
    removed = instance.request("DELETE", "/")
    assert (removed.status, removed.headers, removed.content) == (204, [], b"")
    page_answer = instance.get("/")
    assert (page_answer.status, page_answer.header("content-type")) == (203, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), RecursionError(), MemoryError()]
)
@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_whatever_a_handler_raises_is_a_500_and_in_the_log(serve, caplog, error, path):
    app = CovetPy()

    @app.get("/sync")
    def sync():
        raise error

    @app.get("/async")
    async def asynchronous():
        raise error

    answer = serve(app).get(path)
    assert (answer.status, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert [record.exc_info[1] for record in caplog.records] == [error]


def test_deep_recursion_in_a_handler_and_in_a_result_is_a_500(serve, caplog):
    app = CovetPy()

    @app.get("/handler")
    def handler():
        return handler()

    @app.get("/result")
    def result():
        value = []
        for _ in range(100_000):
            value = [value]
        return value

    instance = serve(app)
    assert instance.get("/handler").status == 500
    assert instance.get("/result").status == 500
    assert instance.get("/result").status == 500


def test_http_exceptions_have_their_status_detail_and_headers(serve):
    app = CovetPy()

    @app.get("/{status}")
    def fail(status: int):
        raise HTTPException(status, headers={"x-error": "yes"})

    @app.get("/detail/")
    async def detail():
        raise HTTPException(409, detail={"why": [1]})

    instance = serve(app)
    answer = instance.get("/404")
    assert (answer.status, answer.json(), answer.header("x-error")) == (404, {"detail": "Not Found"}, "yes")
    assert instance.get("/detail/").json() == {"detail": {"why": [1]}}
    assert instance.get("/204").content == b""
    assert instance.get("/799").json() == {"detail": ""}


def test_exception_handlers_are_found_by_status_by_class_and_by_base_class(serve, caplog):
    class Base(Exception):
        pass

    class Derived(Base):
        pass

    app = CovetPy()

    @app.exception_handler(Base)
    async def on_base(request: Request, error: Base):
        return JSONResponse({"handled": str(error), "path": request.path}, status_code=418)

    @app.exception_handler(404)
    def on_not_found(request: Request, error: HTTPException):
        return {"nothing": request.path_params}

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError):
        return PlainTextResponse(str(error), 400)

    @app.exception_handler(Exception)
    def on_everything(request: Request, error: Exception):
        raise ValueError("in the handler of exceptions")

    @app.get("/derived")
    def derived():
        raise Derived("x")

    @app.get("/users/{user_id}")
    async def user(user_id: int):
        raise HTTPException(404)

    @app.get("/gone")
    async def gone():
        raise HTTPException(410)

    @app.get("/other")
    async def other():
        raise KeyError("x")

    instance = serve(app)
    answer = instance.get("/derived")
    assert (answer.status, answer.json()) == (418, {"handled": "x", "path": "/derived"})
    answer = instance.get("/users/7")
    assert (answer.status, answer.json()) == (404, {"nothing": {"user_id": "7"}})
    answer = instance.get("/users/x")
    assert (answer.status, answer.text.startswith("path.user_id: Input should be")) == (400, True)
    assert instance.get("/gone").status == 410
    answer = instance.get("/other")
    assert (answer.status, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert "in the handler of exceptions" in caplog.text


def test_results_that_cannot_be_sent_are_a_500(serve, caplog):
    app = CovetPy()

    @app.get("/{kind}")
    def bad(kind: str):
        return {
            "object": lambda: {"value": object()},
            "tuple": lambda: (1, "x"),
            "status": lambda: Response("x", 70000),
            "status-type": lambda: Response("x", "200"),
            "header": lambda: Response("x", headers=[("a", 1)]),
            "content": lambda: Response({"a": 1}),
        }[kind]()

    instance = serve(app)
    for kind in ("object", "tuple", "status", "status-type", "header", "content"):
        assert instance.get(f"/{kind}").status == 500, kind


def test_text_that_utf_8_cannot_have_does_not_reach_the_bindings(serve):
    app = CovetPy()

    @app.get("/json")
    def as_json():
        return {"text": "\ud800"}

    @app.get("/list")
    def as_list():
        return ["\ud800"]

    @app.get("/text")
    def as_text():
        return "\ud800\u20ac", 200, {"x": "\ud800"}

    instance = serve(app)
    assert instance.get("/json").json() == {"text": "?"}
    assert instance.get("/list").json() == ["?"]
    answer = instance.get("/text")
    assert (answer.text, answer.header("x")) == ("?\u20ac", "?")


def test_every_method_can_be_served_by_one_handler(serve):
    app = CovetPy()

    @app.route("/any", ["*"])
    def any_method(request: Request):
        return request.method

    @app.route("/two", ["get", "PUT"])
    def two(request: Request):
        return request.method

    instance = serve(app)
    assert [(route.method, route.pattern) for route in instance.routes][:3] == [("", "/any"), ("GET", "/two"), ("PUT", "/two")]
    assert instance.request("PURGE", "/any").text == "PURGE"
    assert instance.request("PUT", "/two").text == "PUT"


def test_redirects_and_cookies(serve):
    app = CovetPy()

    @app.get("/redirect")
    def redirect():
        return RedirectResponse("/caf\u00e9?a=b c", 303)

    @app.get("/cookies")
    def cookies(request: Request):
        response = JSONResponse(request.cookies)
        response.set_cookie("a", "1", max_age=60, httponly=True, secure=True)
        response.delete_cookie("b")
        return response

    instance = serve(app)
    answer = instance.get("/redirect")
    assert (answer.status, answer.header("location")) == (303, "/caf%C3%A9?a=b%20c")
    answer = instance.get("/cookies", headers=[("cookie", 'x=1; y="2"'), ("cookie", "x=3; broken")])
    assert answer.json() == {"x": "1", "y": "2"}
    assert [value for name, value in answer.headers if name == "set-cookie"] == [
        "a=1; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=lax",
        "b=; Max-Age=0; expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; SameSite=lax",
    ]


def test_startup_and_shutdown_run_hooks_and_the_lifespan_in_order(serve):
    seen = []

    class Lifespan:
        async def __aenter__(self):
            seen.append("enter")
            return {"database": "opened"}

        async def __aexit__(self, *error):
            seen.append("exit")

    app = CovetPy(lifespan=lambda app: Lifespan())

    @app.on_event("startup")
    async def start():
        seen.append("startup")

    @app.on_event("shutdown")
    def stop():
        seen.append("shutdown")

    @app.get("/")
    def index():
        return app.state.database

    instance = serve(app)
    assert instance.get("/").text == "opened"
    assert instance.shutdown().value is None
    assert seen == ["enter", "startup", "shutdown", "exit"]


@pytest.mark.parametrize("error", [ValueError("no database"), SystemExit("no database")])
def test_an_error_at_startup_is_told_to_the_host(serve, caplog, error):
    app = CovetPy()

    @app.on_event("startup")
    def start():
        raise error

    result = serve(app, startup=False).startup()
    assert type(result).__name__ == "Err"
    assert result.value == f"startup failed: {type(error).__name__}: no database"


def test_the_openapi_document_is_a_route_and_an_export(serve):
    app = CovetPy(title="Shop", version="2")

    @app.get("/items/{item_id}")
    def item(item_id: int):
        return item_id

    instance = serve(app)
    document = instance.get("/openapi.json").json()
    assert document == app.openapi()
    assert document["info"] == {"title": "Shop", "version": "2"}
    assert instance.app.openapi() == app.openapi_json()
    assert serve(CovetPy(openapi_url=None)).routes == []


def test_the_functions_of_the_host_need_a_host(serve):
    app = CovetPy()

    @app.get("/")
    def index():
        return [host.metrics(), host.config("greeting"), host.config("none"), len(host.random_seed())]

    instance = serve(app, startup=False)
    with pytest.raises(host._host._function.__globals__["HostUnavailable"], match="needs a running covet-host"):
        host.metrics()
    instance.startup()
    instance.host.values["greeting"] = "hello"
    usage, greeting, none, seed = instance.get("/").json()
    assert (usage["memory"], greeting, none, seed) == (1 << 20, "hello", None, 32)


def test_the_warm_up_serves_everything_and_leaves_nothing(serve, caplog):
    instance = serve(CovetPy())
    warmup.run()
    assert caplog.records == []
    assert instance.host.leftovers() == []
    assert (loop.loop.current, len(loop.loop.unowned)) == (None, 0)


def test_a_warm_up_of_the_host_is_answered_without_the_application(serve, caplog):
    app = CovetPy()
    called = []
    app.exception_handler(Exception)(lambda request, error: called.append(error))
    app.get("/")(lambda: called.append("handler"))
    instance = serve(app)
    for _ in range(3):
        task = instance.begin_route(0xFFFFFFFF, "GET", "/", [("host", "localhost"), ("user-agent", "covet-host")])
        instance.host.run()
        answer = instance.answer(task)
        assert (answer.status, answer.headers, answer.content, answer.stream) == (204, [], b"", None)
        assert (task.polls, task.code) == (2, 0)
    assert (called, caplog.records, instance.host.logs) == ([], [], [])
    assert instance.get("/").status == 200


def test_a_route_that_does_not_exist_is_a_500_and_in_the_log(serve, caplog):
    instance = serve(CovetPy(openapi_url=None))
    task = instance.begin_route(0, "GET", "/")
    instance.host.run()
    assert instance.answer(task).status == 500
    assert [record.message for record in caplog.records] == ["a request could not be handled"]


def test_an_index_error_of_a_handler_is_not_taken_for_a_missing_route(serve, caplog):
    app = CovetPy()

    @app.get("/")
    def index():
        return [][0]

    assert serve(app).get("/").status == 500
    assert [type(record.exc_info[1]) for record in caplog.records] == [IndexError]


def test_what_startup_made_is_not_traversed_by_later_collections(serve):
    app = CovetPy()
    app.on_event("startup")(lambda: setattr(app.state, "made", [[number] for number in range(10_000)]))
    gc.unfreeze()
    try:
        serve(app)
        assert gc.get_freeze_count() > 10_000
        assert gc.isenabled()
        assert not any(item is app.state.made for item in gc.get_objects())
    finally:
        gc.unfreeze()


def test_generators_are_seeded_anew_after_the_hooks_of_startup_and_only_if_they_went_well(serve, monkeypatch, caplog):
    seen = []
    monkeypatch.setattr(_random, "restart", lambda: seen.append("restart"))
    app = CovetPy()
    app.on_event("startup")(lambda: seen.append("startup"))
    serve(app)
    assert seen == ["startup", "restart"]
    app.on_event("startup")(lambda: 1 / 0)
    assert type(serve(app, startup=False).startup()).__name__ == "Err"
    assert seen == ["startup", "restart", "startup"]


def test_json_that_is_nested_too_deeply_is_a_400(serve):
    app = CovetPy()

    @app.post("/")
    async def index(request: Request):
        return await request.json()

    instance = serve(app)
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        text = opening * 100_000 + "1" + closing * 100_000
        for body in (text, text.encode(), instance.host.body(text.encode())[0], opening * 100_000):
            answer = instance.post("/", body)
            assert answer.status == 400
            assert answer.header("content-type") == "application/json"
            assert answer.json() == {"detail": "The body is JSON that is nested too deeply"}
    assert instance.post("/", "{").json()["detail"].startswith("The body is not valid JSON: ")
    assert instance.post("/", "[" * 50 + "]" * 50).status == 200


def test_requests_leave_no_reference_cycles(serve, caplog):
    app = CovetPy()

    @app.exception_handler(KeyError)
    async def on_key_error(request: Request, error: KeyError):
        return {"key": str(error)}

    @app.get("/sync/{value}")
    def sync(value: int):
        return {"value": value}

    @app.post("/async/{value}")
    async def asynchronous(value: int, request: Request):
        return await request.json()

    @app.get("/fail/{kind}")
    async def fail(kind: str):
        raise {"http": HTTPException(404), "key": KeyError("x"), "value": ValueError("x")}[kind]

    @app.get("/tasks")
    async def tasks():
        async with asyncio.timeout(1):
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        return "x"

    @app.get("/stream")
    async def stream():
        return StreamingResponse(iter(["a", "b"]))

    instance = serve(app)
    gc.collect()
    gc.disable()
    try:
        for target in ("/sync/1", "/sync/x", "/fail/http", "/fail/key", "/tasks", "/stream"):
            for _ in range(20):
                instance.get(target)
            instance.host.tasks.clear()
            assert gc.collect() < 20, target
        for _ in range(20):
            instance.post("/async/1", instance.host.body(b"{")[0])
        instance.host.tasks.clear()
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_log_records_reach_the_host_with_level_logger_and_traceback(serve):
    app = CovetPy()
    logger = logging.getLogger("shop.cart")
    handler = HostHandler()
    logger.addHandler(handler)
    logger.setLevel(1)
    try:

        @app.get("/")
        def index():
            logger.log(5, "trace")
            logger.debug("debug")
            logger.info("info %d", 1)
            logger.warning("warning \ud800")
            try:
                raise ValueError("why")
            except ValueError:
                logger.exception("failed")

        instance = serve(app)
        instance.get("/")
    finally:
        logger.removeHandler(handler)
    levels = [(level, target) for level, target, _ in instance.host.logs]
    assert levels == [(level, "shop.cart") for level in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")]
    messages = [message for _, _, message in instance.host.logs]
    assert messages[2:4] == ["info 1", "warning ?"]
    assert messages[4].startswith("failed\nTraceback")
    assert messages[4].endswith("ValueError: why")


def test_a_context_variable_of_one_request_is_not_seen_by_the_next(serve):
    from contextvars import ContextVar

    name = ContextVar("name", default="none")
    app = CovetPy()

    @app.get("/sync")
    def sync():
        before = name.get()
        name.set("sync")
        return before

    @app.get("/async")
    async def asynchronous():
        before = name.get()
        name.set("async")
        return before

    instance = serve(app)
    for path in ("/sync", "/sync", "/async", "/sync", "/async"):
        assert instance.get(path).text == "none"


def test_a_route_asks_for_its_isolation(serve):
    app = CovetPy()

    @app.get("/room", isolation="shared")
    def room():
        return "room"

    @app.get("/plain")
    def plain():
        return "plain"

    asked = [route.isolation for route in serve(app).routes]
    assert [asked[0].name, asked[1]] == ["SHARED", None]
    with pytest.raises(ValueError, match=r"/x: there is no isolation 'alone': fresh, reuse, shared"):
        app.get("/x", isolation="alone")(plain)
