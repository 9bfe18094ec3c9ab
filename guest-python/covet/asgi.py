"""A CovetPy as an ASGI application: for development, for tests, and for any ASGI server.

It does what covet-host does around a component: it finds the route, makes the request's record, checks the response, and
answers what no route answers. What it cannot do is isolate requests from each other: they share one process.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ._guest import bridge
from ._native.host import Call, Incoming, NativeHost
from ._native.matching import BadPath, Found, MethodNotAllowed, RouteError, RouteKey, Router

if TYPE_CHECKING:
    from .applications import CovetPy

__all__ = ["ASGIAdapter", "InvalidResponse", "router_of"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Status and fields.
Head = tuple[int, list[tuple[bytes, bytes]]]


class InvalidResponse(RuntimeError):
    """A handler's response is not valid HTTP. The answer is a 502, as covet-host gives it."""


class ASGIAdapter:
    """Serves a CovetPy on an ASGI server.

    `config` gives the values of `covet.host.config`; without it they are in environment variables `COVET_CONFIG_<KEY>`.
    With `raise_errors` an exception that no handler of exceptions expects is raised to the server, in the place of the
    response or after it.
    """

    def __init__(self, app: "CovetPy", *, config: Mapping[str, str] | None = None, raise_errors: bool = False) -> None:
        self.app = app
        self.host = NativeHost(config)
        self.raise_errors = raise_errors
        if raise_errors:
            # Errors are seen where they are logged, and a configuration of logging may have switched that off.
            _logger.disabled = False
        #: Why startup or shutdown failed last.
        self.failure: BaseException | None = None
        self._router: Router | None = None
        self._routes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            # Before it was accepted, which makes it a 403.
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        else:
            raise ValueError(f"CovetPy serves http, not {kind!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The way of a request, see `dispatch.rs`."""
        figures = self.host.figures
        began = figures.begin()
        call = Call(self.host)
        incoming = Incoming(receive, ended=not _has_body(scope))
        response = Outgoing(send, incoming, scope["method"])
        try:
            try:
                route, record = await self._record(scope, incoming)
                answer = await call.run(self.app.routes[route].run, record)
                body = answer.body
                if self.raise_errors and call.errors:
                    raise call.errors[0]
                head = response_head(answer)
            except Refusal as refusal:
                if incoming.gone:
                    figures.abandoned += 1
                    return
                head, body = refusal.head(), refusal.body()
            except InvalidResponse as error:
                if self.raise_errors:
                    raise
                _logger.error("%s %s: %s", scope["method"], scope["path"], error)
                if type(body) is bridge.BodyStream:
                    body.value.close()
                head, body = BAD_GATEWAY.head(), BAD_GATEWAY.body()
            figures.answer(began, head[0])
            await response.send(head, body)
            incoming.close()
            await call.finish()
            if self.raise_errors and call.errors:
                raise call.errors[0]
        finally:
            figures.end()
            incoming.stop()
            call.cancel()

    async def _record(self, scope: Scope, incoming: Incoming) -> tuple[int, "bridge.RequestRecord"]:
        """The route and what it gets. Raises Refusal."""
        raw = scope["headers"]
        origin = _origin(scope, raw)
        path, query = _target(scope)
        # An application that another one has mounted gets the whole path, and of it only the rest is its own.
        own_path = path.removeprefix(quote(scope.get("root_path", ""), safe=PATH_CHARACTERS))
        try:
            found = self._current_router().find(scope["method"], own_path or "/")
        except BadPath:
            raise Refusal(400) from None
        if isinstance(found, MethodNotAllowed):
            raise Refusal(405, [("allow", found.allow)])
        if not isinstance(found, Found):
            raise Refusal(404)
        try:
            headers = [(name.decode("ascii").lower(), value.decode()) for name, value in raw]
            # Those are the host's, see `request.rs`.
            headers = [field for field in headers if not field[0].startswith("covet-")]
            if (version := scope.get("http_version", "1.1")) != "1.1":
                headers.insert(0, ("covet-http-version", version))
        except UnicodeDecodeError:
            raise Refusal(400, CLOSE) from None
        client = scope.get("client")
        record = bridge.RequestRecord(
            found.route,
            scope["method"],
            origin,
            path + query,
            found.params,
            headers,
            _peer(*client) if client else "",
            await _body(headers, incoming),
        )
        return found.route, record

    def _current_router(self) -> Router:
        if self._router is None or self._routes != len(self.app.routes):
            self._router = router_of(self.app)
            self._routes = len(self.app.routes)
        return self._router

    async def _live(self, receive: Receive, send: Send) -> None:
        """Startup and shutdown."""
        event = "startup"
        while True:
            if (await receive())["type"] == "lifespan.shutdown":
                event = "shutdown"
            call = Call(self.host)
            message = await self._run_hooks(call, event)
            if message is not None:
                self.failure = call.errors[0] if call.errors else None
                await send({"type": f"lifespan.{event}.failed", "message": message})
                if self.raise_errors and call.errors:
                    raise call.errors[0]
                return
            await send({"type": f"lifespan.{event}.complete"})
            if event == "shutdown":
                return

    async def _run_hooks(self, call: Call, event: str) -> str | None:
        if event == "startup":
            try:
                self._current_router()
            except RouteError as error:
                _logger.error("%s", error)
                call.errors.append(error)
                return str(error)
        message: str | None = await call.run_here(getattr(self.app, event))
        await call.finish()
        return message


class Refusal(Exception):
    """An answer that no route gives, with the status and in the words of the host, see `response.rs`."""

    def __init__(self, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.headers = list(headers)

    def head(self) -> Head:
        fields = [("content-type", "application/json"), *self.headers]
        return self.status, [(name.encode(), value.encode()) for name, value in fields]

    def body(self) -> "bridge.Body":
        return bridge.BodyText(f'{{"detail":"{HTTPStatus(self.status).phrase}"}}')


class Outgoing:
    """A response on its way to the server."""

    def __init__(self, send: Send, incoming: Incoming, method: str) -> None:
        self._send = send
        self._incoming = incoming
        self._method = method

    async def send(self, head: Head, body: "bridge.Body") -> None:
        """Sends it all, or as much as the client wants to have of it."""
        status, headers = head
        has_body = self._method != "HEAD" and status not in (204, 304)
        try:
            if type(body) is bridge.BodyStream:
                await self._send_stream(status, headers, body.value, has_body)
                return
            data = _octets(body)
            if status not in (204, 304) and (data or self._method != "HEAD"):
                headers.append((b"content-length", str(len(data)).encode()))
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": data if has_body else b""})
        except OSError:
            # The client has gone, which is its right.
            self._incoming.gone = True

    async def _send_stream(self, status: int, headers: list[tuple[bytes, bytes]], reader: Any, has_body: bool) -> None:
        watching = asyncio.ensure_future(self._close_when_gone(reader))
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            while has_body and (data := await reader.read()):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
            if not self._incoming.gone:
                await self._send({"type": "http.response.body", "body": b""})
        finally:
            watching.cancel()
            reader.close()

    async def _close_when_gone(self, reader: Any) -> None:
        await self._incoming.watch()
        reader.close()


def router_of(app: "CovetPy") -> Router:
    """The routes of an application as the host reads them. Raises RouteError if they cannot be served together."""
    app._finish()
    keys: list[RouteKey] = []
    places: list[int] = []
    for place, route in enumerate(app.routes):
        for method in route.methods:
            keys.append(RouteKey(method, route.pattern, route.name))
            places.append(place)
    return _PlacedRouter(keys, places)


class _PlacedRouter(Router):
    """A router that gives the place in `app.routes`: a route has one key for each of its methods."""

    def __init__(self, keys: list[RouteKey], places: list[int]) -> None:
        super().__init__(keys)
        self._places = places

    def find(self, method: str, path: str) -> Found | MethodNotAllowed | None:
        found = super().find(method, path)
        return Found(self._places[found.route], found.params) if isinstance(found, Found) else found


def response_head(record: "bridge.ResponseRecord") -> Head:
    """The status and the fields of a response. Raises InvalidResponse for what the host would not send."""
    if not 200 <= record.status < 600:
        raise InvalidResponse(f"the response is not valid HTTP: status {record.status}")
    is_stream = type(record.body) is bridge.BodyStream
    fields = []
    lengths = 0
    for name, value in record.headers:
        octets = value.encode()
        lower = name.lower()
        if _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(octets) is None:
            raise InvalidResponse(f"the response is not valid HTTP: header field {name!r}: {value!r}")
        if lower == "content-length":
            lengths += 1
            if is_stream and (lengths > 1 or not (value.isascii() and value.isdigit()) or int(value) >= 1 << 64):
                raise InvalidResponse(f"the response is not valid HTTP: content-length {value!r}")
            if not is_stream:
                continue
        if lower not in OF_THE_CONNECTION:
            fields.append((lower.encode(), octets.strip(b" \t")))
    return record.status, fields


def _origin(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """`scheme://authority`, see `request.rs`."""
    hosts = [value for name, value in headers if name.lower() == b"host"]
    if len(hosts) > 1:
        raise Refusal(400, CLOSE)
    scheme = scope.get("scheme", "http")
    if hosts and hosts[0]:
        authority = _AUTHORITY.fullmatch(hosts[0].decode("latin-1"))
        if authority is None:
            raise Refusal(400, CLOSE)
        return f"{scheme}://{authority[0]}"
    if not hosts and scope.get("http_version", "1.1") == "1.1":
        raise Refusal(400, CLOSE)
    server = scope.get("server")
    return f"{scheme}://{_peer(*server) if server and server[1] is not None else 'localhost'}"


def _target(scope: Scope) -> tuple[str, str]:
    """The path as it was received, and the query string with its question mark."""
    raw = scope.get("raw_path")
    if raw is None:
        raw = quote(scope["path"], safe=PATH_CHARACTERS).encode()
    query = scope.get("query_string", b"")
    try:
        path = raw.partition(b"?")[0].decode()
        return path, f"?{query.decode()}" if query else ""
    except UnicodeDecodeError:
        raise Refusal(400) from None


def _peer(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_body(scope: Scope) -> bool:
    if scope.get("http_version", "1.1") not in ("1.0", "1.1"):
        # There a body needs no field that says so.
        return True
    return any(
        (name == b"content-length" and value.strip() != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    )


async def _body(headers: list[tuple[str, str]], incoming: Incoming) -> "bridge.Body":
    """A short body as one value, a long or open-ended one as a stream, as the host gives them."""
    if incoming.ended:
        return bridge.EMPTY
    length = next((value for name, value in headers if name == "content-length"), "")
    if not (length.isascii() and length.isdigit() and int(length) <= INLINE_BODY_BYTES_MAX):
        return bridge.BodyStream(incoming)
    pieces = []
    try:
        while data := await incoming.read():
            pieces.append(data)
    except ConnectionError:
        raise Refusal(400) from None
    whole = b"".join(pieces)
    if not whole:
        return bridge.EMPTY
    try:
        return bridge.BodyText(whole.decode())
    except UnicodeDecodeError:
        return bridge.BodyBytes(whole)


def _octets(body: "bridge.Body") -> bytes:
    if type(body) is bridge.BodyText:
        return body.value.encode()
    return body.value if type(body) is bridge.BodyBytes else b""


CLOSE = (("connection", "close"),)
BAD_GATEWAY = Refusal(502)
#: What a path may have as it is (RFC 3986 section 3.3).
PATH_CHARACTERS = "/:@!$&'()*+,;=~-._"
#: As in `request.rs`.
INLINE_BODY_BYTES_MAX = 16 * 1024
#: Fields that the server writes, as in `response.rs`; with a stream the length may be the application's.
OF_THE_CONNECTION = frozenset({"connection", "transfer-encoding", "upgrade", "keep-alive"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=-]+)(?::[0-9]*)?")
_logger = logging.getLogger("covet")
