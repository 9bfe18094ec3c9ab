"""What the framework asks of a host, where there is none: an application that runs natively, on any loop of `asyncio`.

In a component, streams, work after the response and the functions of the host come from covet-host. Here they are plain
Python, behind the same names in `bridge`, so that the framework does not know the difference. What is not here is
isolation: all requests share one process, as they do in the isolation `shared`.
"""

import asyncio
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any

from covet._guest import bridge
from covet.exceptions import HostUnavailable

__all__ = ["Call", "ClientGone", "Incoming", "NativeHost", "StreamReader", "StreamWriter", "install", "stream"]

#: What an ASGI server gives for a request: its next event.
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class ClientGone(ConnectionError):
    """The client has gone while its request was being read."""


class NativeHost:
    """The functions of the host for one application, see `host.wit`, and its figures.

    `config` holds the values of `covet.host.config`; without it they are in environment variables: that of `api-key` is
    `COVET_CONFIG_API_KEY`.
    """

    def __init__(self, config: Mapping[str, str] | None = None) -> None:
        self.values = config
        self.figures = Figures()

    def config(self, key: str) -> str | None:
        if self.values is not None:
            return self.values.get(key)
        return os.environ.get(f"COVET_CONFIG_{re.sub('[^A-Z0-9]', '_', key.upper())}")

    def metrics(self) -> "bridge.Usage":
        figures = self.figures
        return bridge.Usage(figures.active, figures.begun, _memory(), int(time.process_time() * 1e6))

    def statistics(self) -> Any:
        return self.figures.traffic()

    def random_seed(self) -> bytes:
        return os.urandom(32)

    def log(self, level: Any, target: str, message: str) -> None:
        logging.getLogger(target).log(_LEVELS[getattr(level, "name", level)], "%s", message)


class Figures:
    """How many requests there were and how long they took; what the words mean is in `host.wit`, at `traffic`."""

    def __init__(self) -> None:
        self.active = 0
        self.begun = 0
        self.answered = 0
        self.abandoned = 0
        self.client_errors = 0
        self.server_errors = 0
        self._born = time.monotonic()
        #: Seconds, and how many were answered in each.
        self._recent: deque[list[int]] = deque(maxlen=WINDOW)
        self._total = 0.0
        #: How many took so long: a power of two of microseconds, cut into 32.
        self._latencies: dict[int, int] = {}

    def begin(self) -> float:
        """A request has come."""
        self.active += 1
        self.begun += 1
        return time.monotonic()

    def answer(self, began: float, status: int) -> None:
        """The head of its response is ready."""
        now = time.monotonic()
        self.answered += 1
        self.client_errors += 400 <= status < 500
        self.server_errors += status >= 500
        self._total += now - began
        slot = _slot(int((now - began) * 1e6))
        self._latencies[slot] = self._latencies.get(slot, 0) + 1
        if self._recent and self._recent[-1][0] == int(now):
            self._recent[-1][1] += 1
        else:
            self._recent.append([int(now), 1])

    def end(self) -> None:
        """The last byte of its response has gone out."""
        self.active -= 1

    def traffic(self) -> Any:
        now = time.monotonic()
        first = int(now) - WINDOW + 1
        # Of the second that runs only a part has been.
        seconds = max(1.0, now - max(first, self._born))
        recent = sum(count for second, count in self._recent if second >= first)
        mean = self._total / self.answered * 1000 if self.answered else 0.0
        percentiles = [self._percentile(part) for part in (0.5, 0.95, 0.99)]
        counts = (self.active, self.answered, self.abandoned, self.client_errors, self.server_errors)
        return bridge.Traffic(*counts, recent / seconds, mean, *percentiles)

    def _percentile(self, part: float) -> float:
        left = part * self.answered
        for slot in sorted(self._latencies):
            left -= self._latencies[slot]
            if left <= 0:
                return _middle(slot) / 1000
        return 0.0


class Call:
    """One request, or one hook, that runs natively; it is in the context of all that belongs to it."""

    def __init__(self, host: NativeHost) -> None:
        self.host = host
        #: Exceptions that nobody expected, in the order in which they were logged.
        self.errors: list[BaseException] = []
        #: The server has given the request up.
        self.is_cancelled = False
        #: What has to end before the call does: writers of bodies, and work after the response.
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: list[tuple[Coroutine[Any, Any, None], Context]] = []

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function, in a context of its own, and awaits its result if it is to be awaited."""
        install()
        context = copy_context()
        context.run(_current.set, self)
        task = asyncio.get_running_loop().create_task(_call(function, arguments), context=context)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # A route turns every exception into a response, this one too.
            self.is_cancelled = True
            task.cancel()
            await asyncio.wait([task])
            raise
        return task.result()

    async def run_here(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Calls and awaits a function in the current task, as a lifespan needs it."""
        install()
        token = _current.set(self)
        try:
            return await function()
        finally:
            _current.reset(token)

    def hold(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._start(coroutine, copy_context())

    def after(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._later.append((coroutine, copy_context()))

    async def finish(self) -> None:
        """Does what was put off until after the response, and waits for the end of all that belongs to the call."""
        later, self._later = self._later, []
        for coroutine, context in later:
            self._start(coroutine, context)
        try:
            while self._tasks or self._later:
                if self._tasks:
                    await asyncio.wait(self._tasks)
                if self._later:
                    await self.finish()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Ends what belongs to the call, and forgets what was put off."""
        for coroutine, _ in self._later:
            coroutine.close()
        self._later.clear()
        for task in self._tasks:
            task.cancel()

    def _start(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("what belongs to a request failed", exc_info=error)
            self.errors.append(error)


class StreamWriter:
    """The end of a stream that writes; it has the methods of `_guest.streams.StreamWriter`."""

    def __init__(self, pipe: "_Pipe") -> None:
        self._pipe = pipe

    @property
    def open(self) -> bool:
        """Whether somebody reads."""
        return self._pipe.reading

    async def write(self, data: bytes) -> bool:
        """Waits until all of `data` has been taken. False when nobody reads any more."""
        pipe = self._pipe
        if data and pipe.reading:
            pipe.pieces.append(data)
            pipe.changed()
            while pipe.pieces and pipe.reading:
                await pipe.change()
        return pipe.reading

    def close(self) -> None:
        """Ends the body. May be called again."""
        self._pipe.writing = False
        self._pipe.changed()


class StreamReader:
    """The end of a stream that reads; it has the methods of `_guest.streams.StreamReader`."""

    def __init__(self, pipe: "_Pipe") -> None:
        self._pipe = pipe

    @property
    def ended(self) -> bool:
        return not (self._pipe.writing or self._pipe.pieces)

    async def read(self, size: int = 65536) -> bytes:
        """Waits for up to `size` bytes. No bytes mean the end. A read that is cancelled loses nothing."""
        pipe = self._pipe
        while pipe.reading and not pipe.pieces:
            if not pipe.writing:
                return b""
            await pipe.change()
        if not pipe.reading:
            return b""
        piece = pipe.pieces.popleft()
        if len(piece) > size:
            pipe.pieces.appendleft(piece[size:])
        pipe.changed()
        return piece[:size]

    def close(self) -> None:
        """Tells the writer that nobody reads. May be called again."""
        self._pipe.reading = False
        self._pipe.pieces.clear()
        self._pipe.changed()


class Incoming:
    """The body of a request that comes from an ASGI server, and the news that its client has gone.

    It is a reader as `StreamReader` is. `ended` says that there is no body, or no more of it.
    """

    def __init__(self, receive: Receive, ended: bool = False) -> None:
        self._receive = receive
        self._pending: asyncio.Task[Mapping[str, Any]] | None = None
        self._rest = b""
        self.ended = ended
        self.gone = False
        #: Nobody reads the body any more, so that `watch` may look for what comes after it.
        self._over = asyncio.Event()
        if ended:
            self._over.set()

    async def read(self, size: int = 65536) -> bytes:
        """Waits for up to `size` bytes. No bytes mean the end. Raises ClientGone if the client does not send it all."""
        while not self._rest and not self.ended and not self._over.is_set():
            message = await self._next()
            if message["type"] == "http.disconnect":
                self.gone = True
                self._over.set()
            else:
                self._rest = message.get("body", b"")
                if not message.get("more_body", False):
                    self.ended = True
        if self.gone:
            raise ClientGone("the client has gone before all of its request was read")
        data, self._rest = self._rest[:size], self._rest[size:]
        if self.ended and not self._rest:
            self._over.set()
        return data

    def close(self) -> None:
        """Nobody reads the rest of the body. May be called again."""
        self._rest = b""
        self._over.set()

    async def watch(self) -> None:
        """Waits until the client has gone. As long as the body is read, its reader finds out."""
        await self._over.wait()
        while not self.gone:
            self.gone = (await self._next())["type"] == "http.disconnect"

    def stop(self) -> None:
        """Asks the server for nothing more."""
        self.close()
        if self._pending is not None:
            self._pending.cancel()

    async def _next(self) -> Mapping[str, Any]:
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._receive())
        # Shielded: who comes next takes what it gives, if this is cancelled.
        message = await asyncio.shield(self._pending)
        self._pending = None
        return message


class _Pipe:
    """What the two ends share. It holds one write: the next one waits until that has been taken."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.writing = True
        self.reading = True
        self._waiting: list[asyncio.Future[None]] = []

    async def change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def stream() -> tuple[StreamWriter, StreamReader]:
    """A new stream."""
    pipe = _Pipe()
    return StreamWriter(pipe), StreamReader(pipe)


def install() -> None:
    """Puts the native functions in the place of those of a component, for all that belongs to a `Call`.

    What belongs to none is left to those that were there before. May be called again.
    """
    global _installed
    host = bridge.host
    # It is also what says that a component is not being built.
    host.live = True
    if _installed:
        return
    _installed = True
    bridge._new_stream = _instead(bridge._new_stream, lambda call: stream)
    bridge._hold = _instead(getattr(bridge, "_hold", None), lambda call: call.hold)
    bridge._after = _instead(getattr(bridge, "_after", None), lambda call: call.after)
    host._functions = _Functions(host._functions)
    if host._levels is None:
        host._levels = {name: name for name in _LEVELS}
    _logger.addFilter(_note_error)


def _instead(before: Callable[..., Any] | None, of: Callable[[Call], Callable[..., Any]]) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        call = _current.get(None)
        if call is not None:
            return of(call)(*arguments)
        if before is None:
            raise HostUnavailable("no request is under way")
        return before(*arguments)

    return function


class _Functions:
    """The functions of the host of whichever call is under way."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __getattr__(self, name: str) -> Any:
        call = _current.get(None)
        if call is not None:
            return getattr(call.host, name)
        if self._before is None:
            raise HostUnavailable(f"host.{name} works in a handler or at startup, not while a module is imported")
        return getattr(self._before, name)


def _note_error(record: logging.LogRecord) -> bool:
    """Sees what the framework logs: that is what it does with an exception that nobody expected."""
    call = _current.get(None)
    error = record.exc_info[1] if record.exc_info else None
    if call is None or error is None or record.levelno < logging.ERROR:
        return True
    if isinstance(error, ClientGone) or (call.is_cancelled and isinstance(error, asyncio.CancelledError)):
        return False
    call.errors.append(error)
    return True


async def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    result = function(*arguments)
    return await result if isinstance(result, Awaitable) else result


def _slot(microseconds: int) -> int:
    shift = max(microseconds.bit_length() - 6, 0)
    return (shift << 6) + (microseconds >> shift)


def _middle(slot: int) -> float:
    shift, steps = slot >> 6, slot & 63
    return steps * 2.0**shift + (2.0**shift - 1) / 2


def _memory() -> int:
    """Bytes that the process has in memory, at most; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    # In KiB, except on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


#: Seconds over which the rate of requests is taken.
WINDOW = 10
_LEVELS = {"TRACE": 5, "DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}
_installed = False
_current: ContextVar[Call] = ContextVar("covet.native")
_logger = logging.getLogger("covet")
