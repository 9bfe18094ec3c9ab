"""Clients for tests, which call an application directly: no server, no WebAssembly.

    from covet.testing import TestClient
    from main import app

    def test_root():
        with TestClient(app) as client:
            assert client.get("/users/1").json() == {"user_id": 1}

What these tests do not show is isolation. Natively all requests share one process, as in the isolation `shared`: what a
request leaves in a module is there for the next one, while a host in its usual isolation `fresh` forgets it. Files can be
read and modules imported late, which a component cannot. The fixture `covet_host` of covet's pytest plugin runs the same
requests against the built component.
"""

import asyncio
import atexit
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import unquote

try:
    import httpx
except ImportError:
    raise ImportError("covet.testing needs httpx; run: pip install 'covet[test]'") from None

from ._native.host import StreamWriter, stream
from .applications import CovetPy
from .asgi import ASGIAdapter

__all__ = ["AsyncTestClient", "TestClient"]

T_ = TypeVar("T_")
Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class TestClient(httpx.Client):
    """An `httpx.Client` whose requests go to an application: a CovetPy, or any ASGI application.

    As a context manager it runs startup before the block and shutdown after it; without one, neither runs. The application
    runs on an event loop in a thread of its own, so responses can be read while they are made, with `client.stream`.

    An exception that nothing in the application handles is raised in the test, unless `raise_server_exceptions` is False;
    then the test gets the response that a client would get. `config` has the values of `covet.host.config`. `headers` and
    `cookies` are sent with every request. A request has returned when the work after its response has been done too.

    There is no isolation here: requests share one process, see the module.
    """

    __test__ = False

    def __init__(
        self,
        app: CovetPy | ASGIApp,
        base_url: str = "http://testserver",
        raise_server_exceptions: bool = True,
        config: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        client: tuple[str, int] = ("testclient", 50000),
        root_path: str = "",
    ) -> None:
        #: The application as it was given.
        self.app = app
        self._application = _Application(app, raise_server_exceptions, config, client, root_path)
        self._transport_here = _Transport(self._application)
        self._lifespan: _Lifespan | None = None
        super().__init__(
            base_url=base_url,
            headers={"user-agent": "testclient", **(headers or {})},
            cookies=dict(cookies) if cookies is not None else None,
            follow_redirects=follow_redirects,
            transport=self._transport_here,
            timeout=None,
        )

    def __enter__(self) -> Self:
        if self._lifespan is not None:
            raise RuntimeError("the client has been entered already")
        thread = _LoopThread()
        try:
            lifespan = _Lifespan(self._application)
            thread.call(lifespan.start())
        except BaseException:
            thread.end()
            raise
        self._transport_here.thread, self._lifespan = thread, lifespan
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        thread, self._transport_here.thread = self._transport_here.thread, None
        lifespan, self._lifespan = self._lifespan, None
        if thread is None or lifespan is None:
            return
        try:
            thread.call(lifespan.stop())
        finally:
            thread.end()


class AsyncTestClient(httpx.AsyncClient):
    """As `TestClient`, for tests that are coroutines: the application runs on the event loop of the test.

    `async with AsyncTestClient(app) as client` runs startup and shutdown.
    """

    __test__ = False

    def __init__(
        self,
        app: CovetPy | ASGIApp,
        base_url: str = "http://testserver",
        raise_server_exceptions: bool = True,
        config: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        client: tuple[str, int] = ("testclient", 50000),
        root_path: str = "",
    ) -> None:
        #: The application as it was given.
        self.app = app
        self._application = _Application(app, raise_server_exceptions, config, client, root_path)
        self._lifespan: _Lifespan | None = None
        super().__init__(
            base_url=base_url,
            headers={"user-agent": "testclient", **(headers or {})},
            cookies=dict(cookies) if cookies is not None else None,
            follow_redirects=follow_redirects,
            transport=_AsyncTransport(self._application),
            timeout=None,
        )

    async def __aenter__(self) -> Self:
        if self._lifespan is not None:
            raise RuntimeError("the client has been entered already")
        lifespan = _Lifespan(self._application)
        await lifespan.start()
        self._lifespan = lifespan
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.stop()


class _Application:
    """An ASGI application, and what each of its requests is told."""

    def __init__(
        self,
        app: Any,
        raise_errors: bool,
        config: Mapping[str, str] | None,
        client: tuple[str, int],
        root_path: str,
    ) -> None:
        if isinstance(app, CovetPy):
            self.run: ASGIApp = ASGIAdapter(app, config=config, raise_errors=raise_errors)
        elif not callable(app):
            raise TypeError(f"{app!r} is neither a CovetPy nor an ASGI application")
        elif config is not None:
            raise TypeError("config is for a CovetPy; other applications do not read it")
        else:
            self.run = app
        self.raise_errors = raise_errors
        self.client = client
        self.root_path = root_path
        #: What the lifespan left, for each request to have a copy of.
        self.state: dict[str, Any] = {}

    def scope(self, request: httpx.Request) -> dict[str, Any]:
        url = request.url
        raw_path = url.raw_path.partition(b"?")[0]
        default_port = {"http": 80, "https": 443}.get(url.scheme)
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": url.query,
            "root_path": self.root_path,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": self.client,
            "server": (url.host, url.port or default_port),
            "state": dict(self.state),
            "extensions": {},
        }


class _Lifespan:
    """Startup and shutdown, in one task as with a server."""

    def __init__(self, application: _Application) -> None:
        self._application = application
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises the exception of what failed, or a RuntimeError with the application's words."""
        self._task = asyncio.ensure_future(self._run())
        await self._ask("startup")

    async def stop(self) -> None:
        if self._task is None or self._task.done():
            return
        await self._ask("shutdown")
        await self._task

    async def _ask(self, event: str) -> None:
        assert self._task is not None
        await self._events.put({"type": f"lifespan.{event}"})
        answer = await self._answers.get()
        if answer is None or answer["type"] == f"lifespan.{event}.failed":
            # The exception says more, if there is one.
            await self._task
        if answer is not None and answer["type"] == f"lifespan.{event}.failed":
            raise RuntimeError(answer.get("message", "") or f"{event} failed")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": ASGI, "state": self._application.state}
        try:
            await self._application.run(scope, self._events.get, self._answers.put)
        finally:
            await self._answers.put(None)


class _Exchange:
    """One request and its response."""

    def __init__(self, application: _Application, request: httpx.Request) -> None:
        self._application = application
        self._request = request
        self._pieces: AsyncIterator[bytes] | None = None
        self._is_sent = False
        self._writer, self._reader = stream()
        self._head: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._gone: OSError | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_raised = False

    async def begin(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Starts the application and waits for the head of its response."""
        self._task = asyncio.ensure_future(self._run())
        waiting: list[asyncio.Future[Any]] = [self._task, self._head]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self._head.done():
            return self._head.result()
        self._raise_error()
        self._writer, self._reader = stream()
        _put_all(self._writer, b"Internal Server Error")
        return 500, [(b"content-type", b"text/plain; charset=utf-8")]

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end."""
        data = await self._reader.read(UNLIMITED)
        if not data:
            await self._finish()
        return data

    async def close(self) -> None:
        """Waits until the application is done with it. If the body was not read to its end, the client goes first."""
        if not self._reader.ended:
            self._gone = OSError("the client has gone")
        self._reader.close()
        self._over.set()
        await self._finish()

    async def _finish(self) -> None:
        assert self._task is not None
        if not self._task.done():
            # Work after the response may take as long as it likes; whoever ignores that nobody listens may not.
            await asyncio.wait([self._task], timeout=PATIENCE if self._gone is not None else None)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        self._raise_error()

    def _raise_error(self) -> None:
        assert self._task is not None
        if self._has_raised or not self._application.raise_errors or self._task.cancelled():
            return
        self._has_raised = True
        error = self._task.exception()
        if error is not None and not (self._gone is not None and _comes_of(error, self._gone)):
            raise error
        if error is None and not self._head.done():
            raise RuntimeError("the application ended without a response")

    async def _run(self) -> None:
        try:
            await self._application.run(self._application.scope(self._request), self._receive, self._send)
        finally:
            self._writer.close()
            self._over.set()

    async def _receive(self) -> Message:
        if not self._is_sent:
            if self._pieces is None:
                self._pieces = _pieces_of(self._request)
            async for piece in self._pieces:
                return {"type": "http.request", "body": piece, "more_body": True}
            self._is_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._head.done():
                raise RuntimeError("the application began a second response")
            self._head.set_result((message["status"], [(bytes(n), bytes(v)) for n, v in message.get("headers", ())]))
        elif message["type"] == "http.response.body":
            if not self._head.done():
                raise RuntimeError("the application sent a body before its head")
            if self._gone is None and self._request.method != "HEAD":
                await self._writer.write(bytes(message.get("body", b"")))
            if self._gone is not None:
                raise self._gone
            if not message.get("more_body", False):
                self._writer.close()
                self._over.set()


class _AsyncTransport(httpx.AsyncBaseTransport):
    def __init__(self, application: _Application) -> None:
        self._application = application

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(self._application, request)
        status, headers = await exchange.begin()
        return httpx.Response(status, headers=headers, stream=_AsyncBody(exchange))


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._exchange.read():
            yield data

    async def aclose(self) -> None:
        await self._exchange.close()


class _Transport(httpx.BaseTransport):
    def __init__(self, application: _Application) -> None:
        self._application = application
        #: Where the application runs while its client is entered.
        self.thread: _LoopThread | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        thread = self.thread or _common_thread()
        exchange, status, headers = thread.call(self._begin(request))
        return httpx.Response(status, headers=headers, stream=_Body(exchange, thread))

    async def _begin(self, request: httpx.Request) -> tuple[_Exchange, int, list[tuple[bytes, bytes]]]:
        exchange = _Exchange(self._application, request)
        return exchange, *await exchange.begin()


class _Body(httpx.SyncByteStream):
    def __init__(self, exchange: _Exchange, thread: "_LoopThread") -> None:
        self._exchange = exchange
        self._thread = thread

    def __iter__(self) -> Iterator[bytes]:
        while data := self._thread.call(self._exchange.read()):
            yield data

    def close(self) -> None:
        self._thread.call(self._exchange.close())


class _LoopThread(threading.Thread):
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        super().__init__(name="covet-testclient", daemon=True)
        self._ready = threading.Event()
        self.start()
        self._ready.wait()

    def call(self, coroutine: Coroutine[Any, Any, T_]) -> T_:
        """Runs a coroutine there, and waits for what it returns or raises."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def end(self) -> None:
        """Cancels what still runs."""
        self._loop.call_soon_threadsafe(self._end.set)
        self.join()

    def run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._ready.set()
        await self._end.wait()


def _common_thread() -> _LoopThread:
    """The one for all clients that are not entered: nobody says when such a client is not needed any more."""
    global _common
    with _lock:
        if _common is None:
            _common = _LoopThread()
            atexit.register(_common.end)
        return _common


async def _pieces_of(request: httpx.Request) -> AsyncIterator[bytes]:
    """The body of a request. A synchronous iterator runs in a thread, because it may wait for something."""
    if isinstance(request.stream, httpx.AsyncByteStream):
        async for data in request.stream:
            yield data
        return
    iterator = iter(request.stream)

    def following() -> bytes | None:
        return next(iterator, None)

    while (piece := await asyncio.to_thread(following)) is not None:
        yield piece


def _put_all(writer: StreamWriter, data: bytes) -> None:
    """Writes without waiting for a reader, and ends the stream."""
    writer._pipe.pieces.append(data)
    writer.close()


def _comes_of(error: BaseException | None, cause: BaseException) -> bool:
    while error is not None:
        if error is cause:
            return True
        error = error.__cause__ or error.__context__
    return False


ASGI: dict[Literal["version", "spec_version"], str] = {"version": "3.0", "spec_version": "2.4"}
#: Bytes of a piece of a body: however many there are.
UNLIMITED = 1 << 62
#: Seconds that an application has to notice that the client has gone.
PATIENCE = 5.0
_common: _LoopThread | None = None
_lock = threading.Lock()
