"""A pytest plugin that runs the test suites of Starlette and FastAPI against the bridge.

It puts another transport into Starlette's `TestClient`: a request becomes a request record, goes through the exports of a
component to the application, on the guest's event loop and on the host in plain Python (`guest-python/tests/simulator.py`),
and the response record becomes the response. What the real host does to both on the way is done here too. The tests
themselves are not changed.

Some tests cannot run this way; `exclusions.toml` says which and why, and the summary counts them.
"""

import asyncio
import re
import sys
import threading
import tomllib
from asyncio import events
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import simulator

simulator.install()

from anyio import lowlevel  # noqa: E402
from anyio._backends._asyncio import AsyncIOBackend  # noqa: E402
from anyio._core import _eventloop  # noqa: E402
from covet._asgi import anyio, application
from covet._guest import bridge, loop
from covet._native import matching  # noqa: E402
from starlette import testclient  # noqa: E402

httpx = testclient.httpx


class BridgedClient(testclient.TestClient):
    """`TestClient` whose requests take the way that they take in a component."""

    def __init__(self, app: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(app, *arguments, **options)
        if self.async_backend["backend"] != "asyncio":
            pytest.skip("excluded: trio")
        transport = self._transport
        self._transport = _Transport(self.app, transport.raise_server_exceptions, transport.root_path, transport.client)

    def __enter__(self) -> Self:
        self.app_state = self._transport.startup()
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.shutdown()

    def websocket_connect(self, *_: Any, **__: Any) -> Any:
        pytest.skip("excluded: WebSocket")


class _Transport(httpx.BaseTransport):  # type: ignore[misc]
    def __init__(self, app: Any, raise_server_exceptions: bool, root_path: str, client: tuple[str, int]) -> None:
        self.raise_server_exceptions = raise_server_exceptions
        self._app = _Observed(app, root_path)
        self._peer = f"{client[0]}:{client[1]}"
        self._served: _Served | None = None
        self._open: list[_Exchange] = []

    def startup(self) -> dict[str, Any]:
        with _lock:
            self._served = _Served(self._app)
            result = self._served.run_hook("startup")
            self._raise()
            if type(result) is simulator.Err:
                raise RuntimeError(result.value)
            return self._served.bridged._lifespan.state

    def shutdown(self) -> None:
        with _lock:
            while self._open:
                self._open.pop().close()
            served, self._served = self._served, None
            if served is not None:
                served.run_hook("shutdown")
            self._raise()

    def handle_request(self, request: Any) -> Any:
        with _lock:
            _was_used.append(True)
            # Without a context the original has an event loop for each request.
            served = self._served or _Served(self._app)
            try:
                task = served.begin(request, self._peer)
            except matching.BadPath:
                return httpx.Response(400, request=request)
            exchange = _Exchange(served, task, request, self._raise)
            self._open.append(exchange)
            return exchange.response()

    def _raise(self) -> None:
        errors, self._app.errors = self._app.errors, []
        if errors and self.raise_server_exceptions:
            raise errors[0]


class _Observed:
    """The application, with what only a test client offers: its exceptions, and what a template was given."""

    def __init__(self, app: Any, root_path: str) -> None:
        self.app = app
        self.root_path = root_path
        self.errors: list[BaseException] = []
        self.debug: dict[str, Any] | None = None

    @property
    def routes(self) -> Any:
        return getattr(self.app, "routes", ())

    @property
    def openapi_url(self) -> Any:
        return getattr(self.app, "openapi_url", None)

    @property
    def openapi(self) -> Any:
        return getattr(self.app, "openapi", None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def observe(message: Any) -> None:
            if message["type"] == "http.response.debug":
                self.debug = message["info"]
            else:
                await send(message)

        if scope["type"] == "http":
            scope["root_path"] = self.root_path
            scope["extensions"]["http.response.debug"] = {}
        try:
            await self.app(scope, receive, observe)
        except BaseException as error:
            self.errors.append(error)
            raise


class _Served:
    """An application behind its exports, in an instance of its own."""

    def __init__(self, app: _Observed) -> None:
        with _on_guest_loop():
            self.observed = app
            self.bridged = application.ASGIApplication(app)
            self.instance = simulator.Instance(self.bridged, startup=False)
            routes = self.instance.routes
            self.router = matching.Router([matching.RouteKey(route.method, route.pattern, route.name) for route in routes])

    def run_hook(self, name: str) -> Any:
        with _on_guest_loop():
            simulator._host = self.instance.host
            return getattr(self.instance, name)()

    def begin(self, request: Any, peer: str) -> simulator.Task:
        method, target = request.method, request.url.raw_path.decode("ascii")
        headers = [(name.lower(), value) for name, value in request.headers.multi_items()]
        found = self.router.find(method, target.partition("?")[0])
        # The route for everything takes what no other one does.
        assert isinstance(found, matching.Found), found
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        host = self.instance.host
        body = _request_body(host, request)
        record = bridge.RequestRecord(found.route, method, origin, target, found.params, headers, peer, body)
        with _on_guest_loop():
            simulator._host = host
            return host.start(f"{method} {target}", lambda: self.instance.handler._async_start_handle(record, 0))

    def run(self, until: Callable[[], bool]) -> None:
        with _on_guest_loop():
            simulator._host = self.instance.host
            self.instance.host.run(until)


class _Exchange:
    """A request under way, and its response as the client reads it."""

    def __init__(self, served: _Served, task: simulator.Task, request: Any, check: Callable[[], None]) -> None:
        self._served = served
        self._task = task
        self._request = request
        self._check = check
        self._is_closed = False

    def response(self) -> Any:
        task = self._task
        self._served.run(lambda: task.returned)
        record = task.result
        status, headers = record.status, list(record.headers)
        if not 200 <= status < 600:
            status, headers, content = 502, [], b""
            self.close()
        elif task.streamed is None:
            content = _octets(record.body)
            # The host frames what is whole.
            headers = [field for field in headers if field[0] != "content-length"]
            if status not in (204, 304):
                headers.append(("content-length", str(len(content))))
            self.close()
        if task.streamed is not None:
            task.streamed.room = _CLIENT_BUFFER
            response = httpx.Response(status, headers=headers, stream=_BodyStream(self), request=self._request)
        else:
            content = b"" if self._request.method == "HEAD" or status in (204, 304) else content
            stream = httpx.ByteStream(content)
            response = httpx.Response(status, headers=headers, stream=stream, request=self._request)
        info = self._served.observed.debug
        if info is not None:
            self._served.observed.debug = None
            response.extensions["http.response.debug"] = info
            for name in ("template", "context"):
                if name in info:
                    setattr(response, name, info[name])
        return response

    def pieces(self) -> Iterator[bytes]:
        stream = self._task.streamed
        while True:
            with _lock:
                self._served.run(lambda: bool(stream.taken) or not stream.writer_open)
                pieces, stream.taken = stream.taken, []
                self._served.instance.host.make_room(stream, sum(map(len, pieces)))
            if not pieces:
                break
            if self._request.method != "HEAD":
                yield from pieces
        self.close()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with _lock:
            stream, host = self._task.streamed, self._served.instance.host
            if stream is not None and stream.writer_open:
                host.hang_up(stream)
            try:
                self._served.run(lambda: self._task.ended)
            except simulator.Stuck:
                # It waits for something that only another request or a thread could do.
                pass
            else:
                assert [left for left in host.leftovers() if len(host.tasks) == 1] == []
            self._check()


class _BodyStream(httpx.SyncByteStream):  # type: ignore[misc]
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self._exchange.pieces()

    def close(self) -> None:
        self._exchange.close()


def _request_body(host: simulator.Host, request: Any) -> Any:
    """As the host hands a body over: short ones of known length as a value, others as a stream."""
    content = request.read()
    if "content-length" in request.headers or not content:
        if not content:
            return bridge.BodyEmpty()
        if len(content) <= _INLINE_BODY:
            try:
                return bridge.BodyText(content.decode())
            except UnicodeDecodeError:
                return bridge.BodyBytes(content)
    pieces = [content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK)]
    return bridge.BodyStream(host.body(*pieces)[0])


def _octets(body: Any) -> bytes:
    if type(body) is bridge.BodyText:
        return body.value.encode()
    return body.value if type(body) is bridge.BodyBytes else b""


class _on_guest_loop:
    """Takes the thread away from whatever event loop runs in it, for as long as the guest does."""

    depth = 0

    def __enter__(self) -> None:
        _on_guest_loop.depth += 1
        self._hooks = sys.get_asyncgen_hooks()
        self._running = events._get_running_loop()
        self._task = asyncio.current_task() if self._running is not None else None
        if self._task is not None:
            asyncio._leave_task(self._running, self._task)
        events._set_running_loop(None)
        sys.set_asyncgen_hooks(finalizer=loop._close_generator, firstiter=None)
        # In a component anyio always believes itself in a thread that it has started.
        _eventloop.threadlocals.current_token = lowlevel.EventLoopToken(AsyncIOBackend, loop.loop)

    def __exit__(self, *_: object) -> None:
        _on_guest_loop.depth -= 1
        del _eventloop.threadlocals.current_token
        events._set_running_loop(self._running)
        if self._task is not None:
            asyncio._enter_task(self._running, self._task)
        sys.set_asyncgen_hooks(*self._hooks)


def _install_anyio() -> None:
    """anyio runs in line on the guest's loop; elsewhere, as in the tests that have a loop of their own, it does not."""
    names = ("run_sync_in_worker_thread", "run_async_from_thread", "run_sync_from_thread", "check_cancelled")
    originals = {name: getattr(AsyncIOBackend, name) for name in names}
    anyio.install()
    del _eventloop.threadlocals.current_token
    for name in names:
        setattr(AsyncIOBackend, name, staticmethod(_either(getattr(AsyncIOBackend, name), originals[name])))


def _either(in_line: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def choose(*arguments: Any, **options: Any) -> Any:
        return (in_line if _on_guest_loop.depth else original)(*arguments, **options)

    return choose


# --- Which tests run


def pytest_configure(config: pytest.Config) -> None:
    global _exclusions
    table = tomllib.loads((Path(__file__).parent / "exclusions.toml").read_text(encoding="utf-8"))
    suite = config.rootpath.name.partition("-")[0]
    _exclusions = [(re.compile(pattern), entry["reason"]) for entry in table.get(suite, []) for pattern in entry["tests"]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    used: set[str] = set()
    for item in items:
        if "trio" in item.nodeid.partition("[")[2].rstrip("]").split("-"):
            item.add_marker(pytest.mark.skip(reason="excluded: trio"))
            continue
        for pattern, reason in _exclusions:
            if pattern.search(item.nodeid):
                used.add(pattern.pattern)
                item.add_marker(pytest.mark.skip(reason=f"excluded: {reason}"))
                break
    unused = [pattern.pattern for pattern, _ in _exclusions if pattern.pattern not in used]
    if unused and len(items) > 1000:
        raise pytest.UsageError(f"exclusions that no test has: {unused}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    _was_used.clear()
    result = yield
    if _was_used:
        _bridged.add(item.nodeid)
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith("excluded: "):
            _excluded[reason.removeprefix("excluded: ")] += 1
        else:
            _skipped[reason] += 1
    elif report.when == "call" and report.passed:
        _passed.append(report.nodeid)
    elif report.failed:
        _failed.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    terminalreporter.section("covet")
    through = len(_bridged.intersection(_passed))
    write(f"passed    {len(_passed):5}  ({through} of them send requests through the bridge)")
    write(f"failed    {len(set(_failed)):5}")
    write(f"excluded  {_excluded.total():5}")
    for reason, count in _excluded.most_common():
        write(f"            {count:5}  {reason}")
    write(f"skipped   {_skipped.total():5}  by the suite itself")


_exclusions: list[tuple[re.Pattern[str], str]] = []
_passed: list[str] = []
_failed: list[str] = []
_excluded: Counter[str] = Counter()
_skipped: Counter[str] = Counter()
_bridged: set[str] = set()
_was_used: list[bool] = []
_lock = threading.RLock()

# Before a conftest.py takes the client out of its module.
testclient.TestClient = BridgedClient  # type: ignore[misc]
_install_anyio()

#: Octets, as in the host.
_INLINE_BODY = 16 << 10
_CHUNK = 64 << 10
_CLIENT_BUFFER = 128 << 10
