"""One request and its response as an ASGI application sees them: the scope, `receive` and `send`.

What goes over to the host when. The head of a response is held back until it is known whether a body of one piece follows,
because such a body is handed over as a value and costs no stream. So is the first piece of a body, because middleware that
passes pieces on ends a body with an empty one. And a complete response is held back until the application has returned,
which it nearly always does at once. What is held back goes out at the latest when nothing of the call is ready any more,
when another piece comes, or before a background task or a function that runs in line (`_asgi.anyio`) may take its time.

This is version 2.4 of ASGI's HTTP: `send` raises an OSError when the client has gone, which is what lets Starlette send a
stream without a group of tasks that waits for that.
"""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote

from covet._guest import bridge, loop

__all__ = ["ClientGone", "Exchange", "scope_of"]

Message = MutableMapping[str, Any]


def scope_of(record: "bridge.RequestRecord", state: dict[str, Any]) -> dict[str, Any]:
    """The scope of a request, as uvicorn makes it."""
    raw_path, _, query = record.target.partition("?")
    headers = record.headers
    version = "1.1"
    # What the host says is at the beginning, after the name of the host.
    for name, value in headers[:2]:
        if name == "covet-http-version":
            version = value
            headers = [field for field in headers if field[0] != name]
    scheme, _, authority = record.origin.partition("://")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": version,
        "method": record.method,
        "scheme": scheme,
        "path": unquote(raw_path) if "%" in raw_path else raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": _address(record.peer, 0),
        "server": _address(authority, 443 if scheme == "https" else 80),
        "state": state.copy(),
        "extensions": {},
    }


class ClientGone(OSError):
    """Raised by `send` when nobody reads the response any more."""


class Exchange:
    """A request that is being answered."""

    __slots__ = (
        *("_body_is_read", "_call", "_first", "_headers", "_left", "_reading", "_record", "_state", "_status", "_waiting"),
        *("_whole", "_writer", "_writing"),
    )
    _first: bytes
    _headers: list[tuple[str, str]]
    #: Octets of the body that are still to come, if the head says how long it is.
    _left: int | None
    _status: int
    #: The guest's end of the body, once that is a stream. Any: `_guest.streams.StreamWriter`, or None for a body that is
    #: dropped.
    _writer: Any
    _writing: asyncio.Lock

    def __init__(self, record: "bridge.RequestRecord") -> None:
        self._record = record
        self._call = loop.current()
        self._state = _NOTHING
        self._body_is_read = False
        self._reading: asyncio.Lock | None = None
        #: The whole response while it is held back.
        self._whole: bridge.ResponseRecord | None = None
        #: Those who wait for the end of the exchange.
        self._waiting: list[asyncio.Future[None]] | None = None

    async def receive(self) -> Message:
        """The next event: a piece of the request's body, and after its end the end of the exchange."""
        if not self._body_is_read and self._state < _COMPLETE:
            body = self._record.body
            if type(body) is not bridge.BodyStream:
                self._body_is_read = True
                return {"type": "http.request", "body": _octets(body), "more_body": False}
            if (message := await self._next_piece(body.value)) is not None:
                return message
        while self._state < _COMPLETE:
            future = loop.loop.create_future()
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(future)
            await future
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Takes a part of the response, and waits until the host has taken it.

        Raises ClientGone when nobody reads the response, and RuntimeError for messages out of order.
        """
        state = self._state
        kind = message["type"]
        if state >= _COMPLETE:
            self._refuse_late(kind)
        elif loop.loop.current is not self._call:
            # From a task of another request: what it asks of the host would be accounted to that one.
            await loop.run_in(self._call, self.send(message))
        elif kind == "http.response.body" and state != _NOTHING:
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if type(body) is not bytes:
                body = bytes(body)
            if self._left is not None:
                self._count(len(body), more)
            if more:
                await self._send_piece(body)
            elif state == _HEAD:
                self._send_whole(body)
            else:
                await self._send_last(body)
        elif kind == "http.response.start" and state == _NOTHING:
            self._start(message)
        else:
            expected = "http.response.start" if state == _NOTHING else "http.response.body"
            raise RuntimeError(f"Expected ASGI message {expected!r}, but got {kind!r}.")

    async def end(self, result: object) -> "bridge.ResponseRecord | None":
        """The application has returned. Returns the response if none has been handed over."""
        if result is not None:
            self._complain(f"the ASGI application returned {result!r} instead of None")
        if self._state >= _COMPLETE:
            return self._take_whole()
        verb = "starting" if self._state == _NOTHING else "completing"
        self._complain(f"the ASGI application returned without {verb} a response")
        return await self._give_up()

    async def fail(self, error: BaseException) -> "bridge.ResponseRecord | None":
        """The application has raised. Returns the response if none has been handed over."""
        if not (self._state == _GONE and _comes_from_client(error)):
            self._complain("exception in the ASGI application", error)
        return await self._give_up()

    def _complain(self, what: str, error: BaseException | None = None) -> None:
        _logger.error("%s %s: %s", self._record.method, self._record.target, what, exc_info=error)

    async def _give_up(self) -> "bridge.ResponseRecord | None":
        if self._state >= _COMPLETE:
            return self._take_whole()
        if self._state == _STREAM:
            await self._write(b"")
            self._close(_COMPLETE)
            return None
        # Nothing has gone out, so it can still be another response.
        self._call.before_wait = self._call.before_work = None
        self._over(_COMPLETE)
        content = bridge.BodyText("Internal Server Error")
        return bridge.ResponseRecord(500, [("content-type", "text/plain; charset=utf-8")], content, bridge.ABSENT)

    # --- The body of the request

    async def _next_piece(self, reader: Any) -> Message | None:
        if self._reading is None:
            self._reading = asyncio.Lock()
        async with self._reading:
            if self._body_is_read:
                return None
            data: bytes = await reader.read()
            if not data:
                self._body_is_read = True
                reader.close()
            return {"type": "http.request", "body": data, "more_body": bool(data)}

    # --- The parts of the response

    def _start(self, message: Message) -> None:
        status = bridge.checked_status(message["status"])
        fields = message.get("headers", ())
        try:
            headers = [(name.decode().lower(), value.decode()) for name, value in fields]
        except UnicodeDecodeError:
            headers = [(_text(name).lower(), _text(value)) for name, value in fields]
        left = None
        for name, value in headers:
            if name == "content-length":
                left = int(value)
        self._status, self._headers, self._first = status, headers, b""
        # These have no body, and the length that they tell is another one's.
        self._left = None if self._is_bodyless() else left
        self._state = _HEAD
        self._call.before_wait = self._begin_stream

    def _is_bodyless(self) -> bool:
        return self._status in (204, 304) or self._record.method == "HEAD"

    def _count(self, size: int, more: bool) -> None:
        assert self._left is not None
        if size > self._left:
            raise RuntimeError("Response content longer than Content-Length")
        self._left -= size
        if self._left and not more:
            raise RuntimeError("Response content shorter than Content-Length")

    def _send_whole(self, body: bytes) -> None:
        content: bridge.Body
        if not body or self._status in (204, 304):
            content = self._empty()
        elif body.isascii():
            # The same octets, and cheaper as text, see `bridge`.
            content = bridge.BodyText(body.decode("ascii"))
        else:
            content = _content(body)
        self._whole = bridge.ResponseRecord(self._status, self._headers, content, bridge.ABSENT)
        self._call.before_wait = self._call.before_work = self._hand_over
        self._over(_COMPLETE)

    def _hand_over(self) -> None:
        loop.respond(self._whole)
        self._whole = None

    def _take_whole(self) -> "bridge.ResponseRecord | None":
        self._call.before_wait = self._call.before_work = None
        return self._whole

    async def _send_piece(self, body: bytes) -> None:
        if self._state == _HEAD:
            self._first = body
            self._state = _PIECE
            self._call.before_work = self._begin_stream
            return
        if self._state == _PIECE:
            self._call.before_wait = self._call.before_work = None
            self._hand_head_over()
        if not await self._write(body):
            raise ClientGone("the client has gone")

    async def _send_last(self, body: bytes) -> None:
        if self._state == _PIECE:
            self._send_whole(self._first + body)
            return
        is_read = await self._write(body)
        if self._state == _STREAM:
            self._close(_COMPLETE)
            # That the body has ended is to be seen before what comes after it.
            self._call.before_work = _nothing
        if not is_read:
            raise ClientGone("the client has gone")

    def _begin_stream(self) -> asyncio.Task[bool] | None:
        """Hands over what was held back. Returns a task while that is not done."""
        self._hand_head_over()
        return asyncio.Task(self._write(b""), loop=loop.loop) if self._first else None

    def _hand_head_over(self) -> None:
        content: bridge.Body
        self._writing = asyncio.Lock()
        if self._is_bodyless():
            self._writer, content = None, self._empty()
        else:
            self._writer, reader = bridge._new_stream()
            content = bridge.BodyStream(reader)
        loop.respond(bridge.ResponseRecord(self._status, self._headers, content, bridge.ABSENT))
        self._state = _STREAM

    def _empty(self) -> "bridge.Body":
        if self._record.method != "HEAD":
            return bridge.EMPTY
        # With a stream the host keeps the length that the head tells, which is that of the body for a GET.
        writer, reader = bridge._new_stream()
        writer.close()
        return bridge.BodyStream(reader)

    async def _write(self, body: bytes) -> bool:
        """Writes what was held back, and then another piece. Returns whether somebody reads."""
        async with self._writing:
            first, self._first = self._first, b""
            for data in (first, body):
                if data and self._writer is not None and self._state == _STREAM and not await self._writer.write(data):
                    self._close(_GONE)
        return self._state != _GONE

    def _close(self, state: int) -> None:
        if self._writer is not None:
            self._writer.close()
        self._over(state)

    def _over(self, state: int) -> None:
        self._state = state
        if self._waiting is not None:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)

    def _refuse_late(self, kind: str) -> None:
        if self._state == _GONE:
            raise ClientGone("the client has gone")
        # The guest's interface has trailers and Starlette sends them only where a server says so; nobody misses them.
        if kind != "http.response.trailers":
            raise RuntimeError(f"Unexpected ASGI message {kind!r} sent, after response already completed.")


def _nothing() -> None:
    """There is nothing to hand over."""


def _address(text: str, port: int) -> tuple[str, int]:
    """Reads `host:port`, where the port may be missing and the host may be in brackets."""
    host, _, digits = text.rpartition(":")
    if host and digits.isascii() and digits.isdigit():
        text, port = host, int(digits)
    return (text.strip("[]"), port)


def _octets(body: "bridge.Body") -> bytes:
    if type(body) is bridge.BodyText:
        return body.value.encode()
    return body.value if type(body) is bridge.BodyBytes else b""


def _content(body: bytes) -> "bridge.Body":
    try:
        return bridge.BodyText(body.decode())
    except UnicodeDecodeError:
        return bridge._body(body)


def _text(octets: bytes) -> str:
    """A field of a response. The host sends text as UTF-8, so that what is UTF-8 already arrives as it is."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _comes_from_client(error: BaseException | None) -> bool:
    """Whether an error is only there because the client has gone."""
    for _ in range(CAUSES_MAX):
        if error is None or isinstance(error, ClientGone):
            return error is not None
        if isinstance(error, BaseExceptionGroup):
            return all(_comes_from_client(part) for part in error.exceptions)
        error = error.__cause__ or error.__context__
    return False


#: How far causes are followed; they may form a ring.
CAUSES_MAX = 100

# What has become of a response, in this order.
_NOTHING = 0
#: There is a head, held back.
_HEAD = 1
#: There is a head and a piece, held back.
_PIECE = 2
#: The head has been handed over with a stream.
_STREAM = 3
#: All has been handed over.
_COMPLETE = 4
#: Nobody reads it.
_GONE = 5

_logger = logging.getLogger("covet")
