"""Between the framework and the host: the only module that knows the bindings of the WIT package.

The records of the package are defined here, and `connect` puts them into the bindings; so the framework can be imported
and tested where there are no bindings. What a handler does with a request is in `routing`, how a call runs in `loop`.
"""

import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covet.exceptions import HostUnavailable
from covet.types import Chunk, Chunks

if TYPE_CHECKING:
    from covet.applications import CovetPy


@dataclass(slots=True)
class BodyEmpty:
    pass


@dataclass(slots=True)
class BodyText:
    value: str


@dataclass(slots=True)
class BodyBytes:
    value: bytes


@dataclass(slots=True)
class BodyStream:
    #: The reading end, `streams.StreamReader`.
    value: Any


Body = BodyEmpty | BodyText | BodyBytes | BodyStream


@dataclass(slots=True)
class TrailersAbsent:
    pass


@dataclass(slots=True)
class RequestRecord:
    """One request, see `request` in `types.wit`."""

    route: int
    method: str
    origin: str
    target: str
    params: list[str]
    headers: list[tuple[str, str]]
    peer: str
    body: Body


@dataclass(slots=True)
class ResponseRecord:
    """The answer, see `response` in `types.wit`. The bindings panic on other types than these."""

    status: int
    headers: list[tuple[str, str]]
    body: Body
    trailers: TrailersAbsent


@dataclass(slots=True)
class Usage:
    """What the instances of the application use together, see `usage` in `host.wit`."""

    in_flight: int
    requests: int
    #: Bytes.
    memory: int
    #: Processor time in microseconds.
    cpu_us: int


@dataclass(slots=True)
class Traffic:
    """How the application answers, see `traffic` in `host.wit`."""

    active: int
    answered: int
    abandoned: int
    client_errors: int
    server_errors: int
    per_second: float
    #: Milliseconds, as the next ones.
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float


def response(status: int, headers: Iterable[tuple[str, str]], content: str | bytes) -> ResponseRecord:
    """The record of a response whose body is there."""
    return ResponseRecord(checked_status(status), header_list(headers), _body(content), ABSENT)


def streaming_response(
    status: int, headers: Iterable[tuple[str, str]], chunks: Chunks, after: Callable[[], Any] | None = None
) -> ResponseRecord:
    """The record of a response whose body is made while it is sent; `after` is called when that has ended."""
    status, fields = checked_status(status), header_list(headers)
    if type(chunks) is BodyChunks and (body := chunks.untouched()) is not None:
        # The body of the request as the body of the response: the host connects the two ends.
        if after is not None:
            run_after(after)
        return ResponseRecord(status, fields, body, ABSENT)
    writer, reader = _new_stream()
    _hold(_write(chunks, writer, after))
    return ResponseRecord(status, fields, BodyStream(reader), ABSENT)


def run_after(function: Callable[[], Any]) -> None:
    """Calls a function, whose result is awaited, when the response has been handed to the host."""
    _after(_finish(function))


def checked_status(status: int) -> int:
    """The status, which the bindings take as 16 bits; the host decides which of them it sends."""
    if not isinstance(status, int) or isinstance(status, bool) or not 0 <= status <= 0xFFFF:
        raise ValueError(f"{status!r} is no HTTP status")
    return int(status)


def header_list(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Header fields as the bindings want them: they panic on other types, and on text that is not Unicode."""
    fields = []
    for name, value in headers:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"header names and values are str: {name!r}: {value!r}")
        fields.append((utf8(name), utf8(value)))
    return fields


def utf8(text: str) -> str:
    """The text with `?` in the place of lone surrogates, which UTF-8 cannot have and the bindings panic on."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


async def read_bytes(record: RequestRecord) -> bytes:
    """The whole body of a request."""
    body = record.body
    if type(body) is BodyBytes:
        return body.value
    if type(body) is BodyText:
        return body.value.encode()
    if type(body) is BodyStream:
        pieces = []
        while data := await body.value.read():
            pieces.append(data)
        body.value.close()
        # For whoever reads it again.
        record.body = BodyBytes(b"".join(pieces))
        return record.body.value
    return b""


def body_data(record: RequestRecord) -> str | bytes:
    """The body of a request that is no stream; text if it came as text."""
    body = record.body
    return body.value if type(body) is BodyText or type(body) is BodyBytes else b""


async def read_data(record: RequestRecord) -> str | bytes:
    """The whole body of a request; text if it came as text."""
    body = record.body
    return body.value if type(body) is BodyText else await read_bytes(record)


def is_json(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the body is said to be JSON: `application/json`, or a type that ends with `+json`."""
    for name, value in headers:
        if name == "content-type":
            media_type = value.partition(";")[0].strip().lower()
            return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
    return False


class BodyChunks(AsyncIterator[bytes]):
    """The body of a request, piece by piece."""

    __slots__ = ("_ended", "_record", "_started")

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._started = False
        self._ended = False

    async def __anext__(self) -> bytes:
        self._started = True
        body = self._record.body
        if self._ended:
            raise StopAsyncIteration
        if type(body) is BodyStream:
            data: bytes = await body.value.read()
            if not data:
                self._ended = True
                body.value.close()
                raise StopAsyncIteration
            return data
        self._ended = True
        data = await read_bytes(self._record)
        if not data:
            raise StopAsyncIteration
        return data

    def untouched(self) -> Body | None:
        """The body itself, if nothing of it has been read; it then belongs to the caller."""
        if self._started:
            return None
        self._started = self._ended = True
        body, self._record.body = self._record.body, EMPTY
        return body


class Host:
    """The functions of the host. Without one, and at build time, each raises HostUnavailable."""

    def __init__(self) -> None:
        #: Whether the functions may be called: they trap while a component is built.
        self.live = False
        self._functions: Any = None
        self._levels: Any = None

    def log(self, level: str, target: str, message: str) -> bool:
        """Writes to the host's log; False where there is none."""
        if not self.live:
            return False
        self._functions.log(self._levels[level], utf8(target), utf8(message))
        return True

    def metrics(self) -> Usage:
        usage: Usage = self._function("metrics")()
        return usage

    def statistics(self) -> Traffic:
        traffic: Traffic = self._function("statistics")()
        return traffic

    def random_seed(self) -> bytes:
        return bytes(self._function("random_seed")())

    def config(self, key: str) -> str | None:
        value: str | None = self._function("config")(utf8(key))
        return value

    def _function(self, name: str) -> Any:
        if not self.live:
            raise HostUnavailable(
                f"host.{name} needs a running covet-host: call it in a handler or at startup, not while a module is imported"
            )
        return getattr(self._functions, name)


def connect() -> None:
    """Puts the framework's records, streams and event loop into the bindings. Once, before the bindings are set up."""
    global _after, _hold, _new_stream
    import componentize_py_async_support as support
    import componentize_py_runtime as runtime
    from componentize_py_async_support import streams as support_streams

    from . import loop, streams

    support_streams.ByteStreamReader = streams.StreamReader
    import wit_world
    from wit_world.imports import host as host_functions
    from wit_world.imports import types

    types.Body_Empty, types.Body_Text, types.Body_Bytes, types.Body_Stream = BodyEmpty, BodyText, BodyBytes, BodyStream
    types.Request, types.Response, types.Trailers_Absent = RequestRecord, ResponseRecord, TrailersAbsent
    host_functions.Usage, host_functions.Traffic = Usage, Traffic

    sleep = _number_of(runtime, "call_import", lambda: host_functions.sleep(0).send(None))
    stream = _number_of(runtime, "stream_new", wit_world.byte_stream)
    loop.install(sleep, stream)
    _hold = loop.hold
    _after = loop.after
    _new_stream = lambda: streams.stream(stream)  # noqa: E731
    host._functions = host_functions
    host._levels = host_functions.Level.__members__
    del support


def exports(app: "CovetPy") -> tuple[type, type]:
    """The classes that the bindings look for in the application's module: `Handler` and `App`."""
    import componentize_py_async_support as support
    from componentize_py_types import Err
    from wit_world import exports as generated
    from wit_world.exports.app import Isolation, RouteKind
    from wit_world.exports.app import Route as RouteRecord

    from . import loop, settle, warmup
    from . import random as _random

    start, start_sync = loop.start, loop.start_sync
    table = [(route.run, route.is_async) for route in app.routes for _ in route.methods]
    warm_up = getattr(app, "_warm_up", warmup.answer)()

    class Probe(generated.Handler):  # type: ignore[misc]
        def handle(self, request: Any) -> None:
            """Not a coroutine, so that none is left over."""

    export = _number_of(support, "first_poll", lambda: Probe()._async_start_handle(None, 0))

    class Handler(generated.Handler):  # type: ignore[misc]
        def _async_start_handle(self, record: RequestRecord, borrows: int) -> int:
            # In the place of the generated method, which makes a coroutine and a task for every request: a handler that
            # is a plain function needs neither.
            body = record.body
            closing = body.value.close if type(body) is BodyStream else None
            try:
                try:
                    run, is_async = table[record.route]
                except IndexError:
                    # Found here, a warm-up costs the requests that have a route no comparison.
                    if record.route != WARM_UP:
                        raise
                    return start_sync(export, borrows, warm_up, record, closing)
                if is_async:
                    return start(export, borrows, run(record), closing)
                return start_sync(export, borrows, run, record, closing)
            except BaseException:
                # An exception that leaves an export ends the instance and every request in it.
                _logger.critical("a request could not be handled", exc_info=True)
                return start_sync(export, borrows, internal_error, None, closing)

        async def handle(self, request: RequestRecord) -> ResponseRecord:
            raise NotImplementedError("see _async_start_handle")

    isolations: dict[str | None, Any] = {"fresh": Isolation.FRESH, "reuse": Isolation.REUSE, "shared": Isolation.SHARED}

    class App(generated.App):  # type: ignore[misc]
        def routes(self) -> list[Any]:
            return [
                RouteRecord(method, route.pattern, utf8(route.name), RouteKind.HTTP, isolations.get(route.isolation))
                for route in app.routes
                for method in route.methods
            ]

        def openapi(self) -> str | None:
            return app.openapi_json()

        async def startup(self) -> None:
            host.live = True
            if (message := await app.startup()) is not None:
                raise Err(utf8(message))
            # The host may start every request from a copy of the memory as it is now.
            _random.restart()
            settle.settle()

        async def shutdown(self) -> None:
            if (message := await app.shutdown()) is not None:
                raise Err(utf8(message))

    return Handler, App


def run_from_now_on() -> None:
    """The last step of a build: from here on everything runs in calls of exports."""
    from . import loop

    loop.run_from_now_on()


async def _write(chunks: Chunks, writer: Any, after: Callable[[], Any] | None = None) -> None:
    """Writes the pieces of a body until the end, or until nobody reads them any more."""
    try:
        if isinstance(chunks, AsyncIterable):
            async for chunk in chunks:
                if not await writer.write(_octets(chunk)):
                    break
        else:
            for chunk in chunks:
                if not await writer.write(_octets(chunk)):
                    break
    except GeneratorExit:
        raise
    except BaseException:
        _logger.exception("the body of a response ends early, because what makes it failed")
    writer.close()
    try:
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()
        elif (close := getattr(chunks, "close", None)) is not None:
            close()
    except GeneratorExit:
        raise
    except BaseException:
        _logger.exception("what makes the body of a response failed when it was closed")
    if after is not None:
        await _finish(after)


async def _finish(function: Callable[[], Any]) -> None:
    try:
        await function()
    except GeneratorExit:
        raise
    except BaseException:
        _logger.exception("what was to be done after a response failed")


def _octets(chunk: Chunk) -> bytes:
    if isinstance(chunk, str):
        return chunk.encode(errors="replace")
    # Not `bytes(chunk)`, which makes that many zeros of a number.
    return chunk if type(chunk) is bytes else bytes(memoryview(chunk))


def _body(content: str | bytes) -> Body:
    if not content:
        return EMPTY
    if isinstance(content, str):
        return BodyText(utf8(content))
    if content.isascii():
        # The same octets; and componentize-py 0.25 never frees a list of bytes that Python hands out.
        return BodyText(content.decode("ascii"))
    if len(content) <= BYTES_MAX:
        return BodyBytes(content)
    writer, reader = _new_stream()
    _hold(_write([content], writer))
    return BodyStream(reader)


class _Found(Exception):
    pass


def _number_of(module: Any, function: str, call: Callable[[], object]) -> int:
    """The number that the generated code has for an export, an import or a type: the first argument of a function."""
    original = getattr(module, function)

    def find(number: int, *_: object) -> None:
        raise _Found(number)

    setattr(module, function, find)
    try:
        call()
    except _Found as found:
        number: int = found.args[0]
        return number
    finally:
        setattr(module, function, original)
    raise AssertionError(f"the bindings do not call {function}")


def internal_error(_: object) -> ResponseRecord:
    return ResponseRecord(500, [("content-type", "application/json")], BodyText(INTERNAL_ERROR), ABSENT)


def _without_stream() -> Any:
    raise HostUnavailable("a body can only be streamed in a component")


EMPTY = BodyEmpty()
ABSENT = TrailersAbsent()
INTERNAL_ERROR = '{"detail":"Internal Server Error"}'
#: The route of the requests with which the host warms an instance up; they are answered with 204, and reach no application.
WARM_UP = 0xFFFFFFFF
#: Larger binaries are streamed, because componentize-py 0.25 leaks lists of bytes.
BYTES_MAX = 16 * 1024

host = Host()
_logger = logging.getLogger("covet")
_new_stream: Callable[[], Any] = _without_stream
#: Runs a coroutine, and keeps the call open until it has ended; `_after` begins with it when the response is with the host.
_hold: Callable[[Any], None]
_after: Callable[[Any], None]
