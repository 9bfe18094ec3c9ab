"""ASGI applications behind the exports of a component: scope, messages in both directions, lifespan, routes, anyio."""

import asyncio
import contextvars
import gc
import importlib.util
import json
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator import Err, Stuck

from covet import CovetPy
from covet._asgi import anyio as _anyio
from covet._asgi import starlette, warmup
from covet._asgi.application import ASGIApplication, is_asgi
from covet._asgi.exchange import scope_of
from covet._asgi.routes import pattern_of, read_routes
from covet._guest import absent, entry
from covet._guest.bridge import EMPTY, BodyText, RequestRecord
from covet._native import matching

with warnings.catch_warnings():
    # Among what they import are modules that others have not kept up with.
    warnings.simplefilter("ignore")
    import anyio
    import anyio.from_thread
    import anyio.to_thread
    from anyio._backends._asyncio import AsyncIOBackend
    from anyio._core import _eventloop
    from fastapi import APIRouter, BackgroundTasks, FastAPI, Request
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(serve, caplog):
    """Serves an ASGI application; what it logged as an error is `run.errors`."""

    def run(app, startup=True):
        return serve(ASGIApplication(app), startup)

    run.errors = lambda: [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return run


@pytest.fixture
def in_line(monkeypatch):
    """anyio as it is in a component."""
    for name in ("run_sync_in_worker_thread", "run_async_from_thread", "run_sync_from_thread", "check_cancelled"):
        monkeypatch.setattr(AsyncIOBackend, name, vars(AsyncIOBackend)[name])
    _anyio.install()
    yield
    del _eventloop.threadlocals.current_token


def start(status=200, *headers, **more):
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(content=b"", more_body=False):
    return {"type": "http.response.body", "body": content, "more_body": more_body}


def sending(*messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    return app


# --- The scope


def test_the_scope_is_that_of_uvicorn(run):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)
        await send(start())
        await send(body())

    headers = [("host", "testhost:8000"), ("x-name", "äöü"), ("accept", "a"), ("accept", "b")]
    run(app, startup=False).get("/a%20b/%C3%A4?q=%20&r", headers=headers)
    assert seen == [
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a b/ä",
            "raw_path": b"/a%20b/%C3%A4",
            "query_string": b"q=%20&r",
            "root_path": "",
            "headers": [(b"host", b"testhost:8000"), (b"x-name", "äöü".encode()), (b"accept", b"a"), (b"accept", b"b")],
            "client": ("127.0.0.1", 5000),
            "server": ("testhost", 8000),
            "state": {},
            "extensions": {},
        }
    ]


def test_the_version_of_http_is_in_the_scope_and_not_among_the_headers():
    fields = [("host", "a"), ("covet-http-version", "2"), ("covet-client-subject", "CN=me")]
    scope = scope_of(RequestRecord(0, "GET", "https://a", "/", [], fields, "1.2.3.4:5", EMPTY), {})
    assert (scope["http_version"], scope["scheme"]) == ("2", "https")
    assert scope["headers"] == [(b"host", b"a"), (b"covet-client-subject", b"CN=me")]


@pytest.mark.parametrize(
    ("origin", "peer", "server", "client"),
    [
        ("http://a", "1.2.3.4:5", ("a", 80), ("1.2.3.4", 5)),
        ("https://a", "[::1]:5", ("a", 443), ("::1", 5)),
        ("https://a:0", "unix", ("a", 0), ("unix", 0)),
        ("http://[::1]", "[::1]:0", ("::1", 80), ("::1", 0)),
        ("http://[::1]:81", "", ("::1", 81), ("", 0)),
    ],
)
def test_addresses_have_a_port(origin, peer, server, client):
    scope = scope_of(RequestRecord(0, "GET", origin, "/", [], [], peer, EMPTY), {})
    assert (scope["server"], scope["client"]) == (server, client)
    assert scope["scheme"] == origin.partition(":")[0]


# --- The body of a request


@pytest.mark.parametrize(
    ("content", "octets"), [(None, b""), ("text ä", "text ä".encode()), (b"\xff\x00", b"\xff\x00"), ("", b"")]
)
def test_a_short_body_comes_in_one_piece_and_then_the_end(run, content, octets):
    events = []

    async def app(scope, receive, send):
        events.append(await receive())
        await send(start())
        await send(body())
        events.append(await receive())
        events.append(await receive())

    run(app, startup=False).post("/", content)
    assert events == [{"type": "http.request", "body": octets, "more_body": False}, *[{"type": "http.disconnect"}] * 2]


def test_a_long_body_comes_in_pieces(run):
    events = []

    async def app(scope, receive, send):
        while True:
            events.append(await receive())
            if not events[-1]["more_body"]:
                break
        await send(start())
        await send(body())

    instance = run(app, startup=False)
    instance.post("/", instance.host.body(b"one", b"two")[0])
    assert [event["body"] for event in events] == [b"one", b"two", b""]
    assert [event["more_body"] for event in events] == [True, True, False]


def test_two_tasks_do_not_get_the_same_piece(run):
    pieces = []

    async def app(scope, receive, send):
        async def read():
            while (event := await receive())["type"] == "http.request":
                pieces.append(event["body"])

        readers = [asyncio.create_task(read()) for _ in range(2)]
        await asyncio.sleep(0.1)
        await send(start())
        await send(body())
        await asyncio.gather(*readers)

    instance = run(app, startup=False)
    reader, stream = instance.host.body(b"one", ended=False)
    task = instance.begin("POST", "/", reader)
    instance.host.send(stream, b"two")
    instance.host.finish(stream)
    instance.host.run()
    assert task.returned
    assert pieces == [b"one", b"two", b""]


def test_a_read_that_was_given_up_loses_nothing(run):
    given_up = []

    async def app(scope, receive, send):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await receive()
        given_up.append(True)
        first, second = await receive(), await receive()
        await send(start())
        await send(body(first["body"] + second["body"]))

    instance = run(app, startup=False)
    reader, stream = instance.host.body(ended=False)
    task = instance.begin("POST", "/", reader)
    instance.host.run(lambda: bool(given_up))
    instance.host.send(stream, b"late")
    instance.host.finish(stream)
    instance.host.run()
    assert instance.answer(task).content == b"late"


def test_whoever_waits_for_the_end_is_told_of_it(run):
    events = []

    async def app(scope, receive, send):
        async def listen():
            events.append((await receive())["type"])
            events.append((await receive())["type"])

        listening = [asyncio.create_task(listen())]
        await asyncio.sleep(0.1)
        assert events == ["http.request"]
        await send(start())
        await send(body())
        await asyncio.gather(*listening)

    run(app, startup=False).get("/")
    assert events == ["http.request", "http.disconnect"]


# --- Responses of one piece


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "BodyEmpty"),
        (b"ascii", "BodyText"),
        ("ä\u20ac".encode(), "BodyText"),
        (b"\xff\xfe", "BodyBytes"),
        (b"\xff" * 20_000, "BodyStream"),
        (bytearray(b"array"), "BodyText"),
        (memoryview(b"view"), "BodyText"),
    ],
)
def test_a_body_of_one_piece_is_handed_over_as_a_value(run, content, kind):
    answer = run(sending(start(201, (b"X-Name", b"v")), body(content)), startup=False).get("/")
    assert (answer.status, answer.headers, answer.content) == (201, [("x-name", "v")], bytes(content))
    assert type(answer.task.result.body).__name__ == kind


def test_a_piece_and_an_empty_end_are_one_piece(run):
    answer = run(sending(start(), body(b"all", True), body()), startup=False).get("/")
    assert type(answer.task.result.body) is BodyText
    assert answer.content == b"all"


def test_fields_are_what_their_octets_say(run):
    fields = [(b"Set-Cookie", b"a"), (b"set-cookie", b"b"), (b"x-utf", "ä".encode()), (b"x-latin", b"\xe4")]
    answer = run(sending(start(200, *fields), body()), startup=False).get("/")
    assert answer.headers == [("set-cookie", "a"), ("set-cookie", "b"), ("x-utf", "ä"), ("x-latin", "ä")]


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(run, status):
    answer = run(sending(start(status, (b"content-length", b"7")), body(b"dropped")), startup=False).get("/")
    assert (answer.status, answer.content, answer.stream) == (status, b"", None)


@pytest.mark.parametrize("messages", [[body()], [body(b"", True), body()], [body(b"", True), body(b"", True), body()]])
def test_the_length_is_kept_for_head(run, messages):
    """The host takes the length that the head tells only from a streamed body."""
    answer = run(sending(start(200, (b"content-length", b"7")), *messages), startup=False).request("HEAD", "/")
    assert answer.headers == [("content-length", "7")]
    assert answer.stream is not None
    assert answer.content == b""


def test_the_body_for_head_may_be_there_or_not(run):
    answer = run(sending(start(200, (b"content-length", b"7")), body(b"content")), startup=False).request("HEAD", "/")
    assert answer.content == b"content", "the host leaves it out"
    streamed = run(sending(start(), body(b"a", True), body(b"b", True), body()), startup=False).request("HEAD", "/")
    assert streamed.content == b""


# --- Responses in pieces


def test_the_first_piece_goes_out_before_the_second_is_made(run):
    made = []

    async def app(scope, receive, send):
        await send(start())
        for number in range(3):
            made.append(number)
            await send(body(b"%d;" % number, True))
            await asyncio.sleep(10)
        await send(body())

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    assert task.returned
    instance.host.run(seconds=1)
    assert (task.streamed.taken, made) == ([b"0;"], [0])
    instance.host.run()
    assert task.streamed.taken == [b"0;", b"1;", b"2;"]
    assert not task.streamed.writer_open


def test_the_head_goes_out_before_the_first_piece_is_made(run):
    async def app(scope, receive, send):
        await send(start(202))
        await asyncio.sleep(10)
        await send(body(b"late"))

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    assert task.returned
    assert task.result.status == 202
    instance.host.run()
    assert instance.answer(task).content == b"late"


def test_pieces_that_are_made_without_a_pause_keep_their_order(run):
    pieces = [b"%d;" % number for number in range(50)]
    answer = run(sending(start(), *[body(piece, True) for piece in pieces], body(b"end")), startup=False).get("/")
    assert answer.content == b"".join(pieces) + b"end"


def test_nothing_is_made_that_the_client_has_no_room_for(run):
    made = []

    async def app(scope, receive, send):
        await send(start())
        await asyncio.sleep(0.1)
        for number in range(100):
            made.append(number)
            await send(body(b"x" * 1000, True))
        await send(body())

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    instance.host.run(lambda: task.returned)
    stream = task.streamed
    stream.room = 2500
    with pytest.raises(Stuck):
        instance.host.run()
    assert len(made) == 3
    instance.host.make_room(stream, float("inf"))
    instance.host.run()
    assert sum(map(len, stream.taken)) == 100_000


def test_several_tasks_may_send_at_the_same_time(run):
    async def app(scope, receive, send):
        await send(start())
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(send(body(b"%d" % number * 1000, True)))
        await send(body())

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    instance.host.run(lambda: task.returned)
    task.streamed.room = 10
    while task.streamed.writer_open:
        instance.host.make_room(task.streamed, 700)
        instance.host.run(lambda: task.streamed.room <= 0 or not task.streamed.writer_open)
    instance.host.run()
    content = instance.answer(task).content
    assert content == b"".join(b"%d" % number * 1000 for number in range(5))


def test_a_piece_may_follow_one_that_was_cancelled(run):
    given_up = []

    async def app(scope, receive, send):
        await send(start())
        await send(body(b"first;", True))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await send(body(b"x" * 1000, True))
        given_up.append(True)
        await send(body(b";last"))

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    instance.host.run(lambda: bool(task.streamed.taken))
    task.streamed.room = 10
    instance.host.run(lambda: bool(given_up))
    instance.host.make_room(task.streamed, float("inf"))
    instance.host.run()
    content = instance.answer(task).content
    assert content.startswith(b"first;xxxxx")
    assert content.endswith(b";last")


def test_a_task_of_another_request_may_send(run):
    """What it asks of the host is accounted to the request whose response it is."""
    sends = {}

    async def app(scope, receive, send):
        if scope["path"] == "/other":
            await sends["/"](start())
            await sends["/"](body(b"from ", True))
            await sends["/"](body(b"another"))
            sends["done"].set_result(None)
        else:
            sends["/"], sends["done"] = send, asyncio.get_running_loop().create_future()
            await sends["done"]
            return
        await send(start(204))
        await send(body())

    instance = run(app, startup=False)
    first = instance.begin("GET", "/")
    assert not first.returned
    second = instance.begin("GET", "/other")
    instance.host.run()
    assert instance.answer(first).content == b"from another"
    assert instance.answer(second).status == 204


# --- Clients that go away


def test_sending_to_nobody_raises_and_is_not_logged(run):
    ended = []

    async def app(scope, receive, send):
        async def pieces():
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0.01)
            finally:
                await asyncio.sleep(0.01)
                ended.append("closed")

        waiting = asyncio.create_task(wait_for_the_end(receive, ended))
        try:
            await StreamingResponse(pieces())(scope, receive, send)
        finally:
            await waiting

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    instance.host.run(seconds=0.1)
    assert ended == []
    instance.host.hang_up(task.streamed)
    instance.host.run()
    gc.collect()
    instance.host.run()
    assert sorted(ended) == ["closed", "http.disconnect"]
    assert run.errors() == []


async def wait_for_the_end(receive, ended):
    await receive()
    ended.append((await receive())["type"])


def test_what_fails_besides_is_logged(run):
    async def app(scope, receive, send):
        await send(start())
        try:
            while True:
                await send(body(b"x", True))
                await asyncio.sleep(0.01)
        except OSError:
            raise ValueError("while cleaning up") from None

    instance = run(app, startup=False)
    task = instance.begin("GET", "/")
    instance.host.run(seconds=0.1)
    instance.host.hang_up(task.streamed)
    instance.host.run()
    # `from None` hides a cause from readers; it is still there.
    assert run.errors() == []
    assert task.ended


# --- Applications that are wrong


async def raises(scope, receive, send):
    raise ValueError("wrong")


async def raises_after_its_head(scope, receive, send):
    await send(start(200))
    raise ValueError("wrong")


async def raises_after_a_piece(scope, receive, send):
    await send(start(200))
    await send(body(b"piece", True))
    raise ValueError("wrong")


async def ends_the_process(scope, receive, send):
    sys.exit(3)


async def never_sends(scope, receive, send):
    pass


async def never_ends(scope, receive, send):
    await send(start(200))


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        (raises, "exception in the ASGI application"),
        (raises_after_its_head, "exception in the ASGI application"),
        (raises_after_a_piece, "exception in the ASGI application"),
        (ends_the_process, "exception in the ASGI application"),
        (never_sends, "returned without starting a response"),
        (never_ends, "returned without completing a response"),
        (sending(body()), "exception"),
        (sending({"type": "nonsense"}), "exception"),
        (sending(start(), start()), "exception"),
        (sending(start(), {"type": "http.response.nonsense"}), "exception"),
        (sending({}), "exception"),
        (sending(start("200")), "exception"),
        (sending(start(200, (b"content-length", b"x")), body()), "exception"),
        (sending(start(200, ("str", "str")), body()), "exception"),
        (sending(start(), body("str")), "exception"),
        (sending(start(200, (b"content-length", b"3")), body(b"long")), "exception"),
        (sending(start(200, (b"content-length", b"5")), body(b"long")), "exception"),
    ],
)
def test_what_goes_wrong_before_anything_is_sent_is_a_500(run, app, complaint):
    instance = run(app, startup=False)
    answer = instance.get("/path")
    assert (answer.status, answer.text) == (500, "Internal Server Error")
    assert answer.header("content-type") == "text/plain; charset=utf-8"
    [error] = run.errors()
    assert error.startswith("GET /path: ")
    assert complaint in error
    assert answer.task.ended
    assert instance.get("/path").status == 500, "the instance goes on"


@pytest.mark.parametrize("fail", [True, False])
def test_a_body_that_breaks_off_ends(run, fail):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"piece", True))
        await asyncio.sleep(0.1)
        if fail:
            raise ValueError("wrong")

    answer = run(app, startup=False).get("/")
    assert (answer.status, answer.content) == (200, b"piece")
    assert not answer.stream.writer_open
    [error] = run.errors()
    assert "exception" in error if fail else "without completing" in error


@pytest.mark.parametrize("late", [start(), body(b"more"), {"type": "http.response.nonsense"}, {"type": "http.response.start"}])
def test_a_message_after_the_end_is_an_error(run, late):
    answer = run(sending(start(), body(b"whole"), late), startup=False).get("/")
    assert (answer.status, answer.content) == (200, b"whole")
    assert len(run.errors()) == 1


def test_trailers_are_left_out(run):
    messages = [start(200, trailers=True), body(b"whole"), {"type": "http.response.trailers", "headers": []}]
    assert run(sending(*messages), startup=False).get("/").content == b"whole"
    assert run.errors() == []


def test_what_is_too_long_is_not_sent(run):
    async def app(scope, receive, send):
        await send(start(200, (b"content-length", b"5")))
        await send(body(b"123", True))
        await asyncio.sleep(0.1)
        with pytest.raises(RuntimeError, match="longer than Content-Length"):
            await send(body(b"456", True))
        await send(body(b"45"))

    assert run(app, startup=False).get("/").content == b"12345"


def test_a_result_is_complained_of(run):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"whole"))
        return "something"

    assert run(app, startup=False).get("/").content == b"whole"
    assert "returned 'something' instead of None" in run.errors()[0]


def test_what_fails_after_a_complete_response_is_logged(run):
    async def app(scope, receive, send):
        await send(start())
        await send(body(b"whole"))
        raise ValueError("too late")

    assert run(app, startup=False).get("/").content == b"whole"
    assert len(run.errors()) == 1


# --- What comes after the response


def test_background_tasks_begin_when_the_host_has_the_response(run, in_line):
    order = []

    def plain():
        order.append("function")

    async def coroutine():
        order.append("coroutine")
        await asyncio.sleep(1)
        order.append("later")

    app = FastAPI(openapi_url=None)

    @app.get("/")
    async def index(tasks: BackgroundTasks):
        tasks.add_task(plain)
        tasks.add_task(coroutine)
        return "response"

    instance = run(app)
    task = instance.begin("GET", "/")
    assert (task.returned, order) == (True, []), "the host has it before anything else runs"
    instance.host.run(seconds=0.5)
    assert order == ["function", "coroutine"]
    assert not task.ended
    instance.host.run()
    assert order == ["function", "coroutine", "later"]


def test_the_end_of_a_stream_is_seen_before_its_background_task(run):
    seen = []

    async def app(scope, receive, send):
        async def pieces():
            yield b"a"
            await asyncio.sleep(0.1)
            yield b"b"

        task = BackgroundTask(lambda: seen.append("ran"))
        task.is_async = True

        async def look():
            seen.append(streams[0].writer_open)

        await StreamingResponse(pieces(), background=BackgroundTask(look))(scope, receive, send)

    streams = []
    instance = run(Starlette(routes=[Mount("/", app)]))
    task = instance.begin("GET", "/")
    streams.append(task.streamed)
    polls = task.polls
    instance.host.run()
    assert seen == [False]
    assert task.polls - polls >= 3, "the host ran between the end of the stream and the task"


def test_a_response_without_anything_after_it_needs_one_poll_and_a_yield(run):
    answer = run(sending(start(), body(b"whole")), startup=False).get("/")
    assert answer.task.polls == 2 if sys.version_info >= (3, 12) else answer.task.polls <= 3


# --- Starlette and FastAPI on anyio


def test_functions_run_in_line_in_a_copy_of_the_context(run, in_line):
    variable = contextvars.ContextVar("variable", default="unset")

    def function():
        variable.set("set in the function")
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return threading.get_ident(), variable.get()

    async def app(scope, receive, send):
        thread, inside = await anyio.to_thread.run_sync(function)
        assert (thread, inside) == (threading.get_ident(), "set in the function")
        assert variable.get() == "unset"
        assert asyncio.get_running_loop() is not None
        with pytest.raises(ZeroDivisionError):
            await anyio.to_thread.run_sync(lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await anyio.to_thread.run_sync(next, iter(()))
        await PlainTextResponse("done")(scope, receive, send)

    assert run(app, startup=False).get("/").text == "done"


def test_a_limiter_that_is_used_up_is_waited_for(run, in_line):
    order = []

    async def app(scope, receive, send):
        limiter = anyio.CapacityLimiter(1)

        async def other():
            await anyio.to_thread.run_sync(order.append, "function", limiter=limiter)

        async with anyio.create_task_group() as group, limiter:
            group.start_soon(other)
            await anyio.sleep(0.1)
            order.append("freed")
        await PlainTextResponse("done")(scope, receive, send)

    assert run(app, startup=False).get("/").text == "done"
    assert order == ["freed", "function"]


def test_a_cancelled_scope_keeps_a_function_from_running(run, in_line):
    async def app(scope, receive, send):
        with anyio.CancelScope() as cancelled:
            cancelled.cancel()
            await anyio.to_thread.run_sync(pytest.fail)
        await PlainTextResponse(str(cancelled.cancelled_caught))(scope, receive, send)

    assert run(app, startup=False).get("/").text == "True"


def test_a_function_may_call_back_what_does_not_wait(run, in_line):
    async def double(number):
        await anyio.lowlevel.checkpoint()
        return 2 * number

    def function():
        assert anyio.from_thread.run_sync(asyncio.get_running_loop) is not None
        with pytest.raises(RuntimeError, match="a component has no threads"):
            anyio.from_thread.run(anyio.sleep, 1)
        return anyio.from_thread.run(double, 21)

    async def app(scope, receive, send):
        await PlainTextResponse(str(await anyio.to_thread.run_sync(function)))(scope, receive, send)

    assert run(app, startup=False).get("/").text == "42"


def test_a_piece_goes_out_before_a_function_makes_the_next(run, in_line):
    made = []
    task = None

    def pieces():
        for number in range(3):
            made.append((number, list(task.streamed.taken) if task is not None and task.streamed else []))
            yield b"%d;" % number

    instance = run(Starlette(routes=[Route("/", lambda request: StreamingResponse(pieces()))]))
    task = instance.begin("GET", "/")
    instance.host.run()
    assert instance.answer(task).content == b"0;1;2;"
    assert made[2] == (2, [b"0;", b"1;"])


class Adding(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-added"] = "yes"
        return response


def test_middleware_with_tasks_and_streams_of_its_own_works(run, in_line):
    async def ticks():
        for number in range(3):
            yield f"{number};"
            await anyio.sleep(0.1)

    async def echo(request):
        return Response(await request.body())

    routes = [
        Route("/whole", lambda request: PlainTextResponse("whole")),
        Route("/ticks", lambda request: StreamingResponse(ticks())),
        Route("/echo", echo, methods=["POST"]),
        Route("/broken", lambda request: 1 // 0),
    ]
    instance = run(Starlette(routes=routes, middleware=[Middleware(Adding), Middleware(Adding)]))
    whole = instance.get("/whole")
    assert (whole.content, whole.header("x-added"), whole.stream) == (b"whole", "yes", None)
    task = instance.begin("GET", "/ticks")
    instance.host.run(seconds=0.05)
    assert task.streamed.taken == [b"0;"]
    instance.host.run()
    assert instance.answer(task).content == b"0;1;2;"
    assert instance.post("/echo", instance.host.body(b"a", b"b")[0]).content == b"ab"
    assert instance.get("/broken").status == 500
    assert run.errors() != []
    assert instance.get("/nowhere").status == 404


def test_requests_of_one_instance_overlap_and_may_wait_for_each_other(run, in_line):
    app = FastAPI(openapi_url=None)
    event = asyncio.Event()
    lock = anyio.Lock()
    inside = []

    @app.get("/wait")
    async def wait():
        await event.wait()
        return "woken"

    @app.get("/wake")
    def wake():
        event.set()
        return "waking"

    @app.get("/lock/{number}")
    async def locked(number: int):
        async with lock:
            inside.append(number)
            await anyio.sleep(1)
            inside.append(number)
        return number

    instance = run(app)
    waiting = instance.begin("GET", "/wait")
    assert not waiting.returned
    locking = [instance.begin("GET", f"/lock/{number}") for number in range(3)]
    assert instance.answer(instance.begin("GET", "/wake")).json() == "waking"
    instance.host.run()
    assert instance.answer(waiting).json() == "woken"
    assert [instance.answer(task).json() for task in locking] == [0, 1, 2]
    assert inside == [0, 0, 1, 1, 2, 2]


# --- The lifespan


def test_the_lifespan_is_one_task_around_all_requests(run):
    order = []
    variable = contextvars.ContextVar("variable")

    @asynccontextmanager
    async def lifespan(app):
        variable.set("of the lifespan")
        await asyncio.sleep(1)
        order.append("started")
        async with anyio.create_task_group():
            yield {"made": [1], "number": 1}
        assert variable.get() == "of the lifespan"
        await asyncio.sleep(1)
        order.append("stopped")

    async def index(request):
        order.append("request")
        request.state.number += 1
        request.state.made.append(request.state.number)
        assert variable.get("unset") == "unset"
        return PlainTextResponse(f"{request.state.number} {request.state.made}")

    instance = run(Starlette(routes=[Route("/", index)], lifespan=lifespan))
    assert order == ["started"]
    assert instance.get("/").text == "2 [1, 2]"
    assert instance.get("/").text == "2 [1, 2, 2]", "each request has a copy of the state, but not of what is in it"
    assert instance.shutdown() is not None
    assert order == ["started", "request", "request", "stopped"]


def test_a_startup_that_fails_says_why(run):
    @asynccontextmanager
    async def lifespan(app):
        raise ValueError("no database")
        yield

    instance = run(Starlette(lifespan=lifespan), startup=False)
    assert instance.startup() == Err("startup failed: ValueError: no database")
    assert "Traceback" in run.errors()[0]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"type": "lifespan.startup.failed", "message": "because"}, "startup failed: because"),
        ({"type": "lifespan.startup.failed"}, "startup failed: the application does not say why"),
    ],
)
def test_the_reason_is_what_the_application_says(run, reply, message):
    async def app(scope, receive, send):
        assert (await receive()) == {"type": "lifespan.startup"}
        await send(reply)

    assert run(app, startup=False).startup() == Err(message)


async def asserts(scope, receive, send):
    assert scope["type"] == "http"


async def returns(scope, receive, send):
    if scope["type"] == "http":
        await send(start())
        await send(body(b"served"))


async def replies_wrongly(scope, receive, send):
    if scope["type"] == "http":
        await returns(scope, receive, send)
    await send({"type": "lifespan.shutdown.complete"})


@pytest.mark.parametrize("app", [asserts, returns, replies_wrongly])
def test_an_application_may_do_without_a_lifespan(run, app):
    instance = run(app)
    if app is returns:
        assert instance.get("/").text == "served"
    assert instance.shutdown().value is None
    assert run.errors() == []


def test_a_module_that_is_missing_at_startup_is_no_reason_to_do_without(run):
    async def app(scope, receive, send):
        await receive()
        raise ModuleNotFoundError("No module named 'late'")

    assert "No module named 'late'" in run(app, startup=False).startup().value


def test_a_shutdown_that_fails_says_why(run):
    @asynccontextmanager
    async def lifespan(app):
        yield
        raise ValueError("still busy")

    assert run(Starlette(lifespan=lifespan)).shutdown() == Err("shutdown failed: ValueError: still busy")

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("raw")

    assert run(app).shutdown() == Err("shutdown failed: ValueError: raw")


# --- Which applications there are


class Single:
    async def __call__(self, scope, receive, send):
        await send(start())
        await send(body(b"three"))


class Double:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await send(start())
        await send(body(b"two"))


def wsgi(environ, start_response):
    return []


def test_both_forms_of_asgi_are_served(run):
    assert run(Single(), startup=False).get("/").content == b"three"
    assert run(Double, startup=False).get("/").content == b"two"
    assert [is_asgi(value) for value in (Single(), Double, FastAPI(), wsgi, print, 1, "app")] == [True] * 3 + [False] * 4


def module(**attributes):
    made = ModuleType("main")
    made.__dict__.update(attributes)
    return made


def test_the_build_finds_asgi_applications():
    app, other = FastAPI(openapi_url=None), CovetPy()
    assert entry._find_app(module(app=app), None).app is app
    assert entry._find_app(module(application=returns), None).app is returns
    assert entry._find_app(module(web=app), "web").app is app
    assert entry._find_app(module(app=app, mine=other), None) is other
    assert entry._find_app(module(admin=FastAPI(), app=app), None).app is app
    with pytest.raises(entry.AppError, match="has no application: it needs a line like"):
        entry._find_app(module(web=app, CovetPy=CovetPy, FastAPI=FastAPI), None)
    with pytest.raises(entry.AppError, match="'main:app' is a function, neither a CovetPy nor an ASGI application"):
        entry._find_app(module(app=wsgi), "app")
    with pytest.raises(entry.AppError, match=r"is a type, neither.*; it has main:app"):
        entry._find_app(module(app=app, Web=FastAPI), "Web")
    with pytest.raises(entry.AppError, match="has no 'nothing'; it has main:app"):
        entry._find_app(module(app=app), "nothing")


# --- Routes


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/", "/"),
        ("/users/{user_id}", "/users/{user_id}"),
        ("/users/{user_id:int}/x", "/users/{user_id}/x"),
        ("/files/{path:path}", "/files/{*path}"),
        ("/a{b}", None),
        ("/{first}-{last}", None),
        ("/range/{first}-{last}", None),
        ("/files/{path:path}/end", None),
        ("/{top}", None),
        ("/{top}/below", None),
        ("/literal/{not-a-name}", "/literal/{{not-a-name}}"),
        ("/x/{", "/x/{{"),
        ("", None),
        ("relative", None),
    ],
)
def test_a_path_is_what_the_host_can_express_or_left_to_the_last_route(path, pattern):
    assert pattern_of(path) == pattern


def table(app):
    return [(method, route.pattern, route.name) for route in read_routes(app, print) for method in route.methods]


def test_the_routes_of_routers_and_mounts_are_read():
    router = APIRouter(prefix="/router")
    inner = APIRouter()

    @router.get("/{key}")
    def read(key: str): ...

    @inner.post("/deep/{path:path}")
    def write(path: str): ...

    router.include_router(inner, prefix="/inner")
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router, prefix="/v1")
    app.mount("/sub", Starlette(routes=[Route("/page", wsgi, name="page")]))
    app.mount("/raw", returns)
    assert table(app) == [
        ("GET", "/openapi.json", "openapi"),
        ("HEAD", "/openapi.json", "openapi"),
        ("GET", "/v1/router/{key}", "read"),
        ("POST", "/v1/router/inner/deep/{*path}", "write"),
        ("GET", "/sub/page", "page"),
        ("HEAD", "/sub/page", "page"),
        ("", "/sub/{*path}", "Mount"),
        ("", "/raw/{*path}", "Mount"),
        ("", "/{*path}", "FastAPI"),
    ]
    assert table(returns) == [("", "/{*path}", "function")]


def test_routes_that_conflict_are_left_to_the_last_one():
    def endpoint(request): ...

    paths = ["/a/{x}", "/a/{y}", "/a/{z:path}", "/b/{z:path}", "/b/{x}", "/c", "/c", "/a/{x}/b", "/a/{y}/c", "/a/{y}/{z}"]
    app = Starlette(routes=[Route(path, endpoint, methods=["POST"]) for path in paths])
    assert [pattern for _, pattern, _ in table(app)] == [
        *("/a/{x}", "/b/{*z}", "/c", "/a/{x}/b", "/a/{y}/c", "/a/{y}/{z}"),
        "/{*path}",
    ]


segments = st.sampled_from(["a", "b", "{x}", "{y:int}", "{z:path}", "a{x}", "{x}-{y}", "", "{", "ä"])
paths = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
routes = st.lists(st.tuples(paths, st.sampled_from([["GET"], ["POST"], ["GET", "POST"], None])), max_size=8)


@given(routes, paths, st.sampled_from(["GET", "POST", "HEAD", "BREW"]))
def test_the_host_takes_every_table_and_finds_a_route_for_everything(described, path, method):
    routes = [SimpleNamespace(path=path, methods=methods, name="name") for path, methods in described]
    keys = [matching.RouteKey(*row) for row in table(SimpleNamespace(routes=routes))]
    found = matching.Router(keys).find(method, path.replace("{", "x").replace("}", "x"))
    assert isinstance(found, matching.Found)


def test_the_host_finds_a_route_and_the_application_decides(run):
    app = FastAPI()

    @app.get("/users/me")
    def me(): ...

    @app.get("/users/{user_id:int}")
    def user(user_id: int): ...

    instance = run(app)
    assert instance.get("/users/x").json() == {"detail": "Not Found"}
    refused = instance.request("DELETE", "/users/me")
    assert (refused.status, refused.header("allow")) == (405, "GET")
    assert instance.get("/users/me/").header("location") == "http://testhost/users/me"
    assert json.loads(instance.app.openapi())["paths"].keys() == {"/users/me", "/users/{user_id}"}


def test_a_document_that_cannot_be_made_is_no_reason_not_to_serve(run):
    app = FastAPI()
    app.openapi = lambda: 1 // 0

    @app.get("/")
    def index():
        return "served"

    instance = run(app, startup=False)
    assert instance.app.openapi() is None
    assert run.errors() == ["the OpenAPI document cannot be made"]


# --- What is done in the build


def test_warming_up_runs_nothing_of_the_application(serve, in_line):
    ran = []

    class Middle:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            ran.append(scope["type"])
            await self.app(scope, receive, send)

    app = FastAPI(openapi_url=None, middleware=[Middleware(Middle)])

    @app.get("/users/{user_id}", dependencies=[])
    def user(user_id: int):
        ran.append("handler")

    warmup.prepare(app)
    warmup.run()
    instance = serve(ASGIApplication(app), startup=False)
    task = instance.begin_route(0xFFFFFFFF, "GET", "/")
    instance.host.run()
    assert instance.answer(task).status == 204
    assert ran == []


def test_included_routers_are_worked_out_and_handlers_looked_up():
    from fastapi import routing

    router = APIRouter()

    @router.get("/below")
    def below(request: Request): ...

    app = FastAPI(openapi_url=None)
    app.include_router(router)
    [included] = app.routes
    assert included._effective_candidates_version is None
    warmup.prepare(app)
    assert included._effective_candidates_version is not None
    assert id(below) in routing._endpoint_context_cache


def test_imports_inside_of_functions_of_dependencies_are_done(tmp_path):
    files = {
        "package/__init__.py": "from . import early",
        "package/early.py": """
def function():
    def inner():
        from .late import value
        from . import other
        import standalone, absent, unittest
        from package.late import missing
        return value
class Class:
    method = lambda self: __import__("json") or (lambda: (yield))
    def get(self):
        import wave as w
""",
        "package/late.py": "import package.deeper\nvalue = 1\ndef f():\n    import package.deepest",
        "package/deeper.py": "",
        "package/deepest.py": "",
        "package/other.py": "",
        "package/unused.py": "",
        "standalone.py": "def __getattr__(name):\n    import lazy\n    return lazy\ndef __dir__():\n    return ['attribute']",
        "lazy.py": "raise RuntimeError('fails')",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import importlib.util
spec = importlib.util.spec_from_file_location("late_imports", {str(ROOT / "covet" / "_guest" / "late_imports.py")!r})
late_imports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(late_imports)
import package
late_imports.import_all({str(tmp_path)!r})
print(*sorted(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = set(result.stdout.split())
    assert {"package.late", "package.other", "package.deeper", "package.deepest", "standalone", "wave"} <= found
    assert not {"package.unused", "absent", "unittest", "lazy", "multiprocessing", "tkinter"} & found


# --- Stand-ins


def test_the_stand_in_for_ssl_has_the_names_and_says_what_it_cannot():
    ssl = absent._ssl()
    context = ssl.create_default_context(cafile="x")
    context.load_cert_chain("a", "b")
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert context.verify_flags is ssl.VerifyFlags.VERIFY_X509_STRICT
    assert isinstance(context, ssl.SSLContext)
    assert issubclass(ssl.SSLCertVerificationError, ssl.SSLError)
    assert ssl.CertificateError is ssl.SSLCertVerificationError
    for cannot in (context.wrap_bio, context.wrap_socket, ssl.MemoryBIO):
        with pytest.raises(ssl.SSLError, match="TLS is not there"):
            cannot()


def test_names_of_hosts_are_not_resolved_and_connections_not_made():
    names = SimpleNamespace()
    absent.resolve_no_names(names)
    for resolve in (names.getaddrinfo, names.gethostbyname, names.getnameinfo):
        with pytest.raises(socket.gaierror, match="A component has no sockets"):
            resolve("localhost", 80)


def test_connections_are_refused_as_without_a_network(run):
    async def app(scope, receive, send):
        texts = []
        for connect in (asyncio.open_connection, asyncio.get_running_loop().getaddrinfo):
            try:
                await connect("localhost", 80)
            except OSError as error:
                texts.append(error.strerror)
        await PlainTextResponse(", ".join(texts))(scope, receive, send)

    assert run(app).get("/").text == "A component has no sockets, A component has no sockets, and resolves no names"


def test_temporary_files_are_in_memory():
    spec = importlib.util.spec_from_file_location("tempfile_copy", tempfile.__file__)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    copy.NamedTemporaryFile = copy._TemporaryFileWrapper = None
    absent.keep_in_memory(copy)
    with copy.SpooledTemporaryFile(max_size=10) as spooled:
        spooled.write(b"x" * 1000)
        spooled.writelines([b"y"] * 10)
        spooled.rollover()
        spooled.seek(0)
        assert spooled.read() == b"x" * 1000 + b"y" * 10
        spooled.truncate(500)
    with copy.TemporaryFile() as binary, copy.TemporaryFile("w+", encoding="utf-8") as text:
        binary.write(b"\xff")
        text.write("ä")
        text.seek(0)
        assert text.read() == "ä"


def test_starlette_is_changed_once():
    starlette.install()
    changed = BackgroundTask.__call__
    starlette.install()
    assert BackgroundTask.__call__ is changed
