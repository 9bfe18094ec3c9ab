"""Applications that run natively: the test clients, the ASGI adapter, and what takes the host's place."""

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from covet import (
    BackgroundTasks,
    BaseMiddleware,
    CovetPy,
    HTTPException,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    StreamingResponse,
    host,
)
from covet._native.host import NativeHost, stream
from covet._native.matching import RouteError
from covet.asgi import ASGIAdapter, InvalidResponse
from covet.testing import AsyncTestClient, TestClient


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, which would take the simulator's event loop away from other tests."""
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


@pytest.fixture
def app() -> CovetPy:
    app = CovetPy()
    app.state.seen = []

    @app.get("/users/{user_id}")
    def read_user(user_id: int) -> dict[str, int]:
        return {"user_id": user_id}

    @app.get("/boom")
    def boom() -> None:
        raise ValueError("boom")

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        return {"body": await request.text(), "url": str(request.url), "client": request.client.host}

    return app


# --- A client for tests


def test_a_request_goes_through_the_application(app: CovetPy) -> None:
    with TestClient(app) as client:
        response = client.get("/users/42")
        assert (response.status_code, response.json()) == (200, {"user_id": 42})
        assert response.headers == httpx.Headers({"content-type": "application/json", "content-length": "14"})
        assert client.get("/users/x").status_code == 422
        assert client.post("/echo", content="ä").json() == {
            "body": "ä",
            "url": "http://testserver/echo",
            "client": "testclient",
        }


def test_what_no_route_answers_is_answered_as_by_the_host(app: CovetPy) -> None:
    client = TestClient(app)
    missing = client.get("/nothing")
    assert (missing.status_code, missing.text) == (404, '{"detail":"Not Found"}')
    assert missing.headers["content-type"] == "application/json"
    refused = client.delete("/users/1")
    assert (refused.status_code, refused.text) == (405, '{"detail":"Method Not Allowed"}')
    assert refused.headers["allow"] == "GET, HEAD"
    broken = client.get(httpx.URL("http://testserver", raw_path=b"/users/%ff"))
    assert (broken.status_code, broken.text) == (400, '{"detail":"Bad Request"}')


def test_head_has_the_fields_of_get_and_no_body(app: CovetPy) -> None:
    response = TestClient(app).head("/users/42")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "14"


def test_startup_and_shutdown_run_around_the_block_and_only_there(app: CovetPy) -> None:
    seen = app.state.seen

    @app.on_event("startup")
    async def begin() -> None:
        await asyncio.sleep(0)
        seen.append("startup")

    @app.on_event("shutdown")
    def end() -> None:
        seen.append("shutdown")

    client = TestClient(app)
    client.get("/users/1")
    assert seen == []
    with client:
        assert seen == ["startup"]
        client.get("/users/1")
        with pytest.raises(RuntimeError, match="entered already"):
            client.__enter__()
    assert seen == ["startup", "shutdown"]
    with client:
        assert client.get("/users/1").status_code == 200
    assert seen == ["startup", "shutdown"] * 2


def test_a_lifespan_is_entered_and_left_in_one_task() -> None:
    tasks = []

    @asynccontextmanager
    async def lifespan(app: CovetPy) -> AsyncIterator[dict[str, str]]:
        tasks.append(asyncio.current_task())
        yield {"name": "value"}
        tasks.append(asyncio.current_task())

    app = CovetPy(lifespan=lifespan)

    @app.get("/")
    def read() -> str:
        return str(app.state.name)

    with TestClient(app) as client:
        assert client.get("/").text == "value"
    assert len(tasks) == 2
    assert len(set(tasks)) == 1


def test_a_startup_that_fails_raises_its_exception_in_the_test(app: CovetPy) -> None:
    @app.on_event("startup")
    def fail() -> None:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"), TestClient(app):
        pytest.fail("entered")
    with pytest.raises(RuntimeError, match="startup failed: LookupError: no database"):
        TestClient(app, raise_server_exceptions=False).__enter__()


def test_a_shutdown_that_fails_raises_its_exception_in_the_test(app: CovetPy) -> None:
    @app.on_event("shutdown")
    def fail() -> None:
        raise LookupError("no disk")

    client = TestClient(app).__enter__()
    with pytest.raises(LookupError, match="no disk"):
        client.__exit__()


def test_routes_that_the_host_would_refuse_are_refused_at_startup() -> None:
    app = CovetPy()
    app.get("/a/{x}", name="one")(lambda x: x)
    app.get("/a/{y}", name="two")(lambda y: y)
    with pytest.raises(RouteError, match=r"route GET /a/\{y\} \(two\) conflicts with route GET /a/\{x\} \(one\)"):
        TestClient(app).__enter__()


def test_an_unexpected_exception_is_raised_in_the_test_or_answered(app: CovetPy) -> None:
    with TestClient(app) as client:
        with pytest.raises(ValueError, match="boom"):
            client.get("/boom")
        assert client.get("/users/1").status_code == 200
    response = TestClient(app, raise_server_exceptions=False).get("/boom")
    assert (response.status_code, response.text) == (500, '{"detail":"Internal Server Error"}')


def test_an_exception_is_raised_even_if_logging_was_configured_anew(app: CovetPy) -> None:
    logger = logging.getLogger("covet")
    logger.disabled = True
    try:
        with pytest.raises(ValueError, match="boom"):
            TestClient(app).get("/boom")
    finally:
        logger.disabled = False


def test_an_expected_exception_is_a_response(app: CovetPy) -> None:
    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "short")

    @app.exception_handler(ValueError)
    def on_value_error(request: Request, error: ValueError) -> tuple[str, int]:
        return f"handled {error}", 400

    client = TestClient(app)
    assert (client.get("/teapot").status_code, client.get("/teapot").json()) == (418, {"detail": "short"})
    assert (client.get("/boom").status_code, client.get("/boom").text) == (400, "handled boom")


def test_a_response_that_the_host_would_not_send_is_refused() -> None:
    app = CovetPy()
    app.get("/field")(lambda: Response("x", headers={"x-a": "1\r\nx-b: 2"}))
    app.get("/status")(lambda: Response("x", status_code=600))
    app.get("/length")(lambda: StreamingResponse(iter(["x"]), headers={"content-length": "+1"}))
    for path, message in {"/field": "header field 'x-a'", "/status": "status 600", "/length": r"content-length '\+1'"}.items():
        with pytest.raises(InvalidResponse, match=message):
            TestClient(app).get(path)
        response = TestClient(app, raise_server_exceptions=False).get(path)
        assert (response.status_code, response.text) == (502, '{"detail":"Bad Gateway"}'), path


def test_the_framing_of_the_connection_is_not_the_applications() -> None:
    app = CovetPy()
    fields = {"Connection": "upgrade", "Transfer-Encoding": "chunked", "Content-Length": "7", "X-Ä".replace("Ä", "A"): "ä"}
    app.get("/")(lambda: Response("abc", headers=fields))
    response = TestClient(app).get("/")
    assert response.headers.raw == [(b"x-a", "ä".encode()), (b"content-length", b"3")]


def test_a_status_without_a_body_has_none() -> None:
    app = CovetPy()
    app.get("/204", status_code=204)(lambda: None)
    app.get("/304")(lambda: Response("text", status_code=304))
    for path in ("/204", "/304"):
        response = TestClient(app).get(path)
        assert (response.content, "content-length" in response.headers) == (b"", False), path


def test_cookies_stay_and_redirects_are_followed(app: CovetPy) -> None:
    @app.get("/login")
    def login() -> Response:
        response = RedirectResponse("/me", 303)
        response.set_cookie("session", "abc")
        return response

    @app.get("/me")
    def me(request: Request) -> dict[str, Any]:
        return {"cookies": request.cookies, "header": request.headers.get("x-token")}

    client = TestClient(app, headers={"X-Token": "t"}, cookies={"first": "1"})
    assert client.get("/login").json() == {"cookies": {"first": "1", "session": "abc"}, "header": "t"}
    assert TestClient(app, follow_redirects=False).get("/login").status_code == 303


def test_the_url_is_that_of_the_client(app: CovetPy) -> None:
    client = TestClient(app, base_url="https://example.com:8443/")
    assert client.post("/echo").json()["url"] == "https://example.com:8443/echo"
    assert client.post("/echo?a=%20b", headers={"host": "other"}).json()["url"] == "https://other/echo?a=%20b"


@pytest.mark.parametrize("host_field", ["a b", "user@a", "a/b", "a:b:c", "a%20b"])
def test_an_invalid_host_is_a_bad_request(app: CovetPy, host_field: str) -> None:
    assert TestClient(app).get("/users/1", headers={"host": host_field}).status_code == 400
    assert TestClient(app).get("/users/1", headers=[("host", "a"), ("host", "b")]).status_code == 400


def test_a_field_that_is_not_utf_8_is_a_bad_request(app: CovetPy) -> None:
    assert TestClient(app).get("/users/1", headers={b"x": b"caf\xe9"}).status_code == 400
    assert TestClient(app).get("/users/1", headers={b"x": "café".encode()}).status_code == 200


def test_another_thing_than_an_application_is_refused() -> None:
    with pytest.raises(TypeError, match="neither a CovetPy nor an ASGI application"):
        TestClient(3)  # type: ignore[arg-type]


# --- Streams


def test_a_stream_arrives_while_it_is_made(app: CovetPy) -> None:
    go_on = threading.Event()

    @app.get("/stream")
    async def pieces() -> StreamingResponse:
        async def make() -> AsyncIterator[str]:
            yield "one"
            await asyncio.to_thread(go_on.wait)
            yield "two"

        return StreamingResponse(make(), media_type="text/event-stream")

    with TestClient(app) as client, client.stream("GET", "/stream") as response:
        assert response.status_code == 200
        parts = response.iter_raw()
        assert next(parts) == b"one"
        go_on.set()
        assert list(parts) == [b"two"]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_client_that_leaves_ends_the_stream_and_closes_its_iterator(app: CovetPy, kind: str) -> None:
    made: list[int] = []
    closed: list[str] = []

    async def count_async() -> AsyncIterator[str]:
        try:
            while True:
                made.append(1)
                yield "x"
        finally:
            closed.append("async")

    def count() -> Iterator[str]:
        try:
            while True:
                made.append(1)
                yield "x"
        finally:
            closed.append("sync")

    app.get("/forever")(lambda: StreamingResponse(count_async() if kind == "async" else count()))
    with TestClient(app) as client:
        with client.stream("GET", "/forever") as response:
            parts = response.iter_raw()
            assert [next(parts) for _ in range(3)] == [b"x"] * 3
        assert closed == [kind]
        # What is made waits until it is read.
        assert len(made) <= 6


def test_a_stream_that_waits_ends_when_the_client_leaves(app: CovetPy) -> None:
    closed = []

    async def wait() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.sleep(0.2)
            yield "y"
            await asyncio.sleep(1000)
        finally:
            closed.append(True)

    app.get("/")(lambda: StreamingResponse(wait()))
    with TestClient(app) as client:
        with client.stream("GET", "/") as response:
            assert next(response.iter_raw()) == b"x"
        assert closed == [True]


def test_a_stream_that_fails_raises_in_the_test_after_what_it_made(app: CovetPy) -> None:
    def fail() -> Iterator[str]:
        yield "one"
        raise ValueError("two")

    app.get("/")(lambda: StreamingResponse(fail()))
    got = []
    with pytest.raises(ValueError, match="two"), TestClient(app).stream("GET", "/") as response:
        got += response.iter_raw()
    with TestClient(app, raise_server_exceptions=False).stream("GET", "/") as response:
        assert list(response.iter_raw()) == [b"one"]


def test_a_large_upload_comes_as_a_stream_and_a_small_one_at_once(app: CovetPy) -> None:
    @app.post("/sizes")
    async def sizes(request: Request) -> list[int]:
        return [len(piece) async for piece in request.stream()]

    client = TestClient(app)
    assert client.post("/sizes", content=b"x" * 16384).json() == [16384]
    assert client.post("/sizes", content=b"x" * 200_000).json() == [65536, 65536, 65536, 3392]
    assert client.post("/sizes").json() == []
    assert client.post("/sizes", content=iter([b"a", b"", b"bc"])).json() == [1, 2]


def test_the_body_of_a_request_can_be_the_body_of_the_response(app: CovetPy) -> None:
    app.post("/pipe")(lambda request: StreamingResponse(request.stream()))
    pieces = [b"x" * 20_000, b"y", b"z" * 100_000]
    assert TestClient(app).post("/pipe", content=iter(pieces)).content == b"".join(pieces)
    assert TestClient(app).post("/pipe", content=b"short").content == b"short"


def test_an_upload_that_is_not_read_is_no_obstacle(app: CovetPy) -> None:
    app.post("/ignore")(lambda: StreamingResponse(iter(["a", "b"])))
    assert TestClient(app).post("/ignore", content=b"x" * 1_000_000).text == "ab"


def test_a_read_that_is_cancelled_loses_nothing(app: CovetPy) -> None:
    release = threading.Event()

    def body() -> Iterator[bytes]:
        release.wait()
        yield b"late"

    @app.post("/patient")
    async def patient(request: Request) -> str:
        pieces = request.stream().__aiter__()
        try:
            await asyncio.wait_for(asyncio.ensure_future(pieces.__anext__()), 0.02)
        except TimeoutError:
            release.set()
        return (await pieces.__anext__()).decode()

    assert TestClient(app).post("/patient", content=body()).text == "late"


def test_what_one_end_writes_the_other_end_reads() -> None:
    async def check() -> None:
        writer, reader = stream()
        written: list[Any] = []

        async def write() -> None:
            written.append(await writer.write(b"abcdef"))
            written.append(await writer.write(b""))
            written.append(await writer.write(b"gh"))
            writer.close()

        task = asyncio.ensure_future(write())
        assert await reader.read(4) == b"abcd"
        await asyncio.sleep(0)
        assert written == []
        assert await reader.read(4) == b"ef"
        assert await reader.read(4) == b"gh"
        assert (await reader.read(4), reader.ended) == (b"", True)
        await task
        assert written == [True] * 3

    run(check())


def test_a_writer_learns_that_nobody_reads() -> None:
    async def check() -> None:
        writer, reader = stream()
        task = asyncio.ensure_future(writer.write(b"x"))
        await asyncio.sleep(0)
        reader.close()
        assert not await task
        assert not writer.open
        assert not await writer.write(b"y")
        assert await reader.read() == b""
        writer.close()
        writer.close()

    run(check())


# --- Work after the response


def test_work_after_the_response_is_done_when_the_request_returns(app: CovetPy) -> None:
    seen = app.state.seen

    async def work(word: str) -> None:
        await asyncio.sleep(0.01)
        seen.append(word)

    @app.get("/begin")
    def begin(tasks: BackgroundTasks) -> str:
        tasks.add_task(work, "one")
        tasks.add_task(seen.append, "two")
        return "begun"

    assert TestClient(app).get("/begin").text == "begun"
    assert seen == ["one", "two"]


def test_work_after_the_response_does_not_keep_the_response_back(app: CovetPy) -> None:
    go_on = threading.Event()

    @app.get("/begin")
    def begin(tasks: BackgroundTasks) -> str:
        tasks.add_task(asyncio.to_thread, go_on.wait)
        return "begun"

    with TestClient(app) as client, client.stream("GET", "/begin") as response:
        assert next(response.iter_raw()) == b"begun"
        go_on.set()


def test_work_that_fails_raises_in_the_test(app: CovetPy) -> None:
    @app.get("/begin")
    def begin(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: 1 / 0)
        return "begun"

    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/begin")
    assert TestClient(app, raise_server_exceptions=False).get("/begin").text == "begun"


# --- What belongs to one request


def test_each_request_has_a_context_of_its_own(app: CovetPy) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @app.get("/set/{value}")
    async def set_value(value: str) -> list[str]:
        before = variable.get()
        variable.set(value)
        await asyncio.sleep(0.01)
        return [before, variable.get(), await asyncio.create_task(read())]

    async def read() -> str:
        return variable.get()

    async def check() -> None:
        async with AsyncTestClient(app) as client:
            answers = await asyncio.gather(*(client.get(f"/set/{number}") for number in range(5)))
        assert [answer.json() for answer in answers] == [["unset", str(n), str(n)] for n in range(5)]
        assert variable.get() == "unset"

    run(check())


def test_requests_overlap(app: CovetPy) -> None:
    barrier = asyncio.Barrier(2)

    @app.get("/both")
    async def both() -> int:
        await barrier.wait()
        return barrier.parties

    async def check() -> None:
        async with AsyncTestClient(app) as client:
            first, second = await asyncio.gather(client.get("/both"), client.get("/both"))
        assert first.json() == second.json() == 2

    run(check())


def test_an_asynchronous_client_streams_and_raises(app: CovetPy) -> None:
    closed = []

    async def count() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.append(True)

    app.get("/forever")(lambda: StreamingResponse(count()))

    async def check() -> None:
        async with AsyncTestClient(app) as client:
            async with client.stream("GET", "/forever") as response:
                async for piece in response.aiter_raw():
                    assert piece == b"x"
                    break
            assert closed == [True]
            with pytest.raises(ValueError, match="boom"):
                await client.get("/boom")

            async def body() -> AsyncIterator[bytes]:
                yield b"a"
                yield b"b"

            assert (await client.post("/echo", content=body())).json()["body"] == "ab"

    run(check())


def test_middleware_runs_natively(app: CovetPy) -> None:
    class Stamp(BaseMiddleware):
        async def process_response(self, request: Request, response: Response) -> None:
            response.headers["x-stamp"] = request.method

    app.add_middleware(Stamp)
    client = TestClient(app)
    assert client.get("/users/1").headers["x-stamp"] == "GET"
    assert (client.get("/no").status_code, client.get("/no").headers["x-stamp"]) == (404, "GET")


# --- The functions of the host


def test_configuration_comes_from_the_test_or_from_the_environment(app: CovetPy, monkeypatch: pytest.MonkeyPatch) -> None:
    @app.get("/config/{key}")
    def read(key: str) -> dict[str, str | None]:
        return {"value": host.config(key)}

    monkeypatch.setenv("COVET_CONFIG_API_KEY", "from outside")
    assert TestClient(app).get("/config/api-key").json() == {"value": "from outside"}
    assert TestClient(app).get("/config/other").json() == {"value": None}
    client = TestClient(app, config={"api-key": "from the test"})
    assert client.get("/config/api-key").json() == {"value": "from the test"}
    assert client.get("/config/API_KEY").json() == {"value": None}
    with pytest.raises(TypeError, match="config is for a CovetPy"):
        TestClient(PlainTextResponse, config={})  # type: ignore[arg-type]


def test_configuration_is_there_at_startup_and_for_work_after_the_response(app: CovetPy) -> None:
    seen = app.state.seen
    app.on_event("startup")(lambda: seen.append(host.config("key")))

    @app.get("/begin")
    def begin(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: seen.append(host.config("key")))
        return "begun"

    with TestClient(app, config={"key": "value"}) as client:
        client.get("/begin")
    assert seen == ["value", "value"]


def test_there_is_no_host_outside_of_requests_and_hooks() -> None:
    program = """
from covet import CovetPy, HostUnavailable, host
from covet.testing import TestClient

def check():
    for function in (host.metrics, host.statistics, host.random_seed, lambda: host.config("x")):
        try:
            function()
        except HostUnavailable:
            continue
        raise AssertionError(function)

app = CovetPy()
app.get("/")(lambda: host.config("x") or "none")
check()
with TestClient(app) as client:
    assert client.get("/").text == "none"
    check()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_random_seeds_differ(app: CovetPy) -> None:
    app.get("/seed")(lambda: host.random_seed().hex())
    client = TestClient(app)
    seeds = {client.get("/seed").text for _ in range(3)}
    assert len(seeds) == 3
    assert {len(seed) for seed in seeds} == {64}


def test_the_figures_are_those_of_the_application(app: CovetPy) -> None:
    app.get("/figures")(lambda: app.metrics.as_dict())
    client = TestClient(app, raise_server_exceptions=False)
    client.get("/users/1"), client.get("/nothing"), client.get("/boom")
    figures = client.get("/figures").json()
    assert figures["total_requests"] == 3
    assert (figures["active_requests"], figures["client_errors"], figures["server_errors"]) == (1, 1, 1)
    assert 0 < figures["mean_latency_ms"] <= figures["p99_latency_ms"] * 1.05
    assert figures["p50_latency_ms"] <= figures["p95_latency_ms"] <= figures["p99_latency_ms"]
    assert 0.25 < figures["requests_per_second"] <= 3
    app.get("/usage")(lambda: [host.metrics().requests, host.metrics().memory > 1 << 20])
    assert client.get("/usage").json() == [5, True]


def test_percentiles_are_within_a_thirtysecond() -> None:
    figures = NativeHost().figures
    figures.answered = 1000
    from covet._native import host as _native

    for microseconds in range(1, 1001):
        slot = _native._slot(microseconds * 7)
        figures._latencies[slot] = figures._latencies.get(slot, 0) + 1
    for part in (0.5, 0.95, 0.99):
        assert figures._percentile(part) * 1000 == pytest.approx(part * 7000, rel=1 / 32)
    for small in range(64):
        assert _native._middle(_native._slot(small)) == small


def test_what_is_written_to_the_hosts_log_goes_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "covet.test"):
        NativeHost().log("WARN", "covet.test", "100 % done")
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("covet.test", "WARNING", "100 % done")
    ]


# --- The adapter on its own, as a server calls it


class Server:
    """Calls an ASGI application with a scope as servers make it, and keeps what it sends."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sent: list[dict[str, Any]] = []

    def scope(self, **different: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"testhost")],
            "client": ("127.0.0.1", 5000),
            "server": ("127.0.0.1", 8000),
            **different,
        }

    async def __call__(self, *messages: dict[str, Any], on_send: Callable[[Any], Any] | None = None, **different: Any) -> None:
        left = list(messages)

        async def receive() -> dict[str, Any]:
            if not left:
                await asyncio.sleep(1000)
            return left.pop(0)

        async def send(message: Any) -> None:
            self.sent.append(message)
            if on_send is not None:
                on_send(message)

        await self.app(self.scope(**different), receive, send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def test_a_covetpy_is_an_asgi_application(app: CovetPy) -> None:
    server = Server(ASGIAdapter(app))
    run(server(path="/users/1", raw_path=b"/users/1"))
    assert (server.status, server.body) == (200, b'{"user_id":1}')
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({"path": "/sub/x", "raw_path": b"/sub/x", "root_path": "/sub"}, "x http://testhost/sub/x /sub/x"),
        ({"path": "/a/b", "raw_path": b"/a%2Fb"}, "a/b http://testhost/a%2Fb /a/b"),
        ({"path": "/ä", "raw_path": None}, "ä http://testhost/%C3%A4 /ä"),
        ({"path": "/x", "raw_path": b"/x", "headers": [], "http_version": "2"}, "x http://127.0.0.1:8000/x /x"),
        ({"path": "/x", "raw_path": b"/x", "headers": [(b"host", b"")], "server": ("::1", 80)}, "x http://[::1]:80/x /x"),
    ],
)
def test_the_scope_becomes_a_request(different: dict[str, Any], expected: str) -> None:
    app = CovetPy()

    @app.get("/{name}")
    def read(name: str, request: Request) -> str:
        return f"{name} {request.url} {request.path}"

    server = Server(ASGIAdapter(app))
    run(server({"type": "http.request"}, **different))
    assert server.body.decode() == expected


def test_a_client_that_leaves_while_it_sends_its_body_gets_nothing_and_is_no_error(
    app: CovetPy, caplog: pytest.LogCaptureFixture
) -> None:
    part = {"type": "http.request", "body": b"x", "more_body": True}
    gone = {"type": "http.disconnect"}
    for length in (b"10", b"100000"):
        adapter = ASGIAdapter(app)
        server = Server(adapter)
        headers = [(b"host", b"a"), (b"content-length", length)]
        run(server(part, gone, method="POST", path="/echo", raw_path=b"/echo", headers=headers))
        assert adapter.host.figures.active == 0
    assert caplog.records == []


def test_a_client_that_leaves_ends_a_stream_that_waits() -> None:
    app = CovetPy()
    closed = []

    async def wait() -> AsyncIterator[str]:
        try:
            yield "one"
            await asyncio.sleep(0.05)
            yield "two"
            yield "three"
        finally:
            closed.append(True)

    app.get("/")(lambda: StreamingResponse(wait()))
    server = Server(ASGIAdapter(app))
    run(server({"type": "http.request"}, {"type": "http.disconnect"}))
    assert closed == [True]
    assert b"three" not in server.body


def test_a_server_that_cannot_send_any_more_ends_a_stream() -> None:
    app = CovetPy()
    closed = []

    async def count() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.append(True)

    def refuse(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the connection is lost")

    app.get("/")(lambda: StreamingResponse(count()))
    run(Server(ASGIAdapter(app))(on_send=refuse))
    assert closed == [True]


def test_a_stream_for_head_is_not_made() -> None:
    app = CovetPy()
    made = []

    def make() -> Iterator[str]:
        made.append(1)
        yield "x"

    app.get("/")(lambda: StreamingResponse(make(), headers={"content-length": "1"}))
    server = Server(ASGIAdapter(app))
    run(server(method="HEAD"))
    assert server.body == b""
    assert server.sent[0]["headers"] == [(b"content-length", b"1")]


def test_a_request_that_the_server_cancels_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    app = CovetPy()

    @app.get("/")
    async def wait() -> None:
        await asyncio.sleep(1000)

    async def check() -> None:
        adapter = ASGIAdapter(app)
        task = asyncio.ensure_future(Server(adapter)())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert adapter.host.figures.active == 0
        assert len(asyncio.all_tasks()) == 1

    run(check())
    assert caplog.records == []


def test_a_websocket_is_refused_for_now(app: CovetPy) -> None:
    server = Server(ASGIAdapter(app))
    run(server({"type": "websocket.connect"}, type="websocket"))
    assert [message["type"] for message in server.sent] == ["websocket.close"]


def test_lifespan_messages_say_what_failed(app: CovetPy) -> None:
    @app.on_event("startup")
    def fail() -> None:
        raise LookupError("no database")

    server = Server(ASGIAdapter(app))
    run(server({"type": "lifespan.startup"}, type="lifespan"))
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "startup failed: LookupError: no database"}]


def test_another_protocol_is_an_error(app: CovetPy) -> None:
    with pytest.raises(ValueError, match="serves http"):
        run(Server(ASGIAdapter(app))(type="ftp"))


def test_routes_that_are_added_later_are_served(app: CovetPy) -> None:
    client = TestClient(app)
    assert client.get("/later").status_code == 404
    app.get("/later")(lambda: "here")
    assert client.get("/later").text == "here"


# --- Any ASGI application, and the simulator beside all this


def test_the_client_calls_any_asgi_application() -> None:
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["name"] = "value"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(scope)
        if scope["path"] == "/silent":
            return
        if scope["path"] == "/boom":
            raise ValueError("boom")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        if scope["path"] == "/late":
            raise ValueError("late")

    with TestClient(application, root_path="/r") as client:
        assert client.get("/x%20y?a=1").text == "ab"
        with pytest.raises(RuntimeError, match="without a response"):
            client.get("/silent")
        with pytest.raises(ValueError, match="boom"):
            client.get("/boom")
        with pytest.raises(ValueError, match="late"):
            client.get("/late")
    scope = seen[0]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/x y", b"/x%20y", b"a=1")
    assert (scope["root_path"], scope["state"], scope["server"]) == ("/r", {"name": "value"}, ("testserver", 80))
    quiet = TestClient(application, raise_server_exceptions=False)
    assert [quiet.get(path).status_code for path in ("/silent", "/boom", "/late")] == [500, 500, 200]


def test_a_starlette_application_is_called_as_by_its_own_client() -> None:
    applications = pytest.importorskip("starlette.applications")
    responses = pytest.importorskip("starlette.responses")
    routing = pytest.importorskip("starlette.routing")

    async def home(request: Any) -> Any:
        return responses.JSONResponse({"path": request.url.path})

    with TestClient(applications.Starlette(routes=[routing.Route("/a", home)])) as client:
        assert client.get("/a").json() == {"path": "/a"}
        assert client.get("/b").status_code == 404


def test_an_application_runs_natively_and_in_a_component_at_once(app: CovetPy, serve: Callable[..., Any]) -> None:
    app.get("/stream")(lambda: StreamingResponse(iter(["a", "b"])))
    instance = serve(app)
    instance.host.values["key"] = "of the component"
    app.get("/config")(lambda: host.config("key") or "none")
    with TestClient(app, config={"key": "of the test"}) as client:
        assert client.get("/stream").text == "ab"
        assert instance.get("/stream").content == b"ab"
        assert client.get("/config").text == "of the test"
        assert instance.begin_route(len(instance.routes), "GET", "/config") is not None
    assert instance.get("/users/1").json() == {"user_id": 1}


def test_a_client_that_is_left_leaves_no_thread(app: CovetPy) -> None:
    TestClient(app).get("/users/1")
    before = threading.active_count()
    for _ in range(3):
        TestClient(app).get("/users/1")
        with TestClient(app) as client:
            client.get("/users/1")
            assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_environment_variables_are_not_changed(app: CovetPy) -> None:
    before = dict(os.environ)
    with TestClient(app, config={"a": "b"}) as client:
        client.get("/users/1")
    assert dict(os.environ) == before
