"""A host of components in plain Python: the part of the component model that the guest's event loop uses.

It stands in for componentize-py's runtime and for the bindings that it generates, so that an application runs through its
real exports without WebAssembly. It is strict where wasmtime is: what would be a trap there is a `Trap` here, and
`leftovers` says which handles a call has left behind. Time is simulated.

`install` must run before anything of covet is imported that needs the guest; `conftest.py` does it.
"""

import asyncio
import enum
import sys
import types
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


class Trap(BaseException):
    """The instance is lost."""


class Stuck(Exception):
    """Every task waits, and nothing is going to happen."""


@dataclass
class Ok:
    value: Any


@dataclass(frozen=True)
class Err(Exception):
    value: Any


class CallbackCode:
    EXIT = 0
    YIELD = 1
    WAIT = 2


class Event:
    NONE = 0
    SUBTASK = 1
    STREAM_READ = 2
    STREAM_WRITE = 3
    FUTURE_READ = 4
    FUTURE_WRITE = 5
    CANCELLED = 6


class Status:
    STARTING = 0
    STARTED = 1
    RETURNED = 2


COMPLETED, DROPPED = 0, 1


@dataclass
class Task:
    """One call of an export."""

    name: str
    code: int = -1
    context: Any = None
    returned: bool = False
    result: Any = None
    #: The stream of the body that was returned.
    streamed: Any = None
    polls: int = 0

    @property
    def ended(self) -> bool:
        return self.code == CallbackCode.EXIT


@dataclass
class Waitable:
    set: int = 0
    event: tuple[int, int] | None = None


@dataclass
class Stream:
    """A stream of octets. An end belongs to the guest if it has a handle, else to the host."""

    reader: int = 0
    writer: int = 0
    reader_open: bool = True
    writer_open: bool = True
    #: Size of a read, and data of a write, that wait.
    reading: int | None = None
    writing: bytes | None = None
    #: Octets on their way: from the host to the guest's reader.
    incoming: deque[bytes] = field(default_factory=deque)
    #: What a read that has ended gave.
    delivered: bytes = b""
    #: What the host's reader has taken, and how much it still has room for.
    taken: list[bytes] = field(default_factory=list)
    room: float = float("inf")


class Host:
    """One instance and its host."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.logs: list[tuple[str, str, str]] = []
        self.values: dict[str, str] = {}
        self.tasks: list[Task] = []
        self.current: Task | None = None
        self._last = 0
        self.sets: set[int] = set()
        self.waitables: dict[int, Waitable] = {}
        self.streams: dict[int, Stream] = {}
        self.sleeps: list[tuple[float, int]] = []
        self.promises: dict[int, tuple[str, Any]] = {}
        self.sleep_calls = 0

    # --- What the guest calls

    def call_import(self, index: int, parameters: list[Any]) -> Any:
        if index == SLEEP:
            self.sleep_calls += 1
            (milliseconds,) = parameters
            if type(milliseconds) is not int or milliseconds < 0:
                raise Trap(f"sleep({milliseconds!r})")
            if milliseconds == 0:
                return Ok(None)
            handle = self._handle(Waitable())
            self.sleeps.append((self.now + milliseconds / 1000, handle))
            return Err((handle, self._promise("call", None)))
        if index == LOG:
            level, target, message = parameters
            _check_text(target), _check_text(message)
            self.logs.append((level.name, target, message))
            return None
        if index == METRICS:
            return _module("wit_world.imports.host").Usage(1, len(self.tasks), 1 << 20, 5)
        if index == STATISTICS:
            answered = sum(task.returned for task in self.tasks)
            return _module("wit_world.imports.host").Traffic(1, answered, 2, 3, 4, 1.5, 0.25, 0.125, 8.0, 16.0)
        if index == SEED:
            return bytes(range(32))
        if index == CONFIG:
            return self.values.get(parameters[0])
        raise Trap(f"no import {index}")

    def call_task_return(self, export: int, borrows: int, result: Any) -> None:
        task = self.current
        if task is None or task.returned:
            raise Trap("task.return: no task, or a second time")
        task.returned = True
        if export == HANDLE:
            result = result.value
            _check_response(result)
            if type(result.body) is _body("Stream"):
                self._take_reader(result.body.value)
        elif type(result) not in (Ok, Err):
            raise Trap(f"{type(result)} is no result")
        task.result = result

    def context_set(self, value: Any) -> None:
        self._task().context = value

    def context_get(self) -> Any:
        return self._task().context

    def waitable_set_new(self) -> int:
        self._last += 1
        self.sets.add(self._last)
        return self._last

    def waitable_set_drop(self, number: int) -> None:
        if any(waitable.set == number for waitable in self.waitables.values()):
            raise Trap("waitable-set.drop: resource has children")
        self.sets.remove(number)

    def waitable_join(self, waitable: int, number: int) -> None:
        if number and number not in self.sets:
            raise Trap("waitable.join: no such set")
        self._waitable(waitable).set = number

    def subtask_drop(self, handle: int) -> None:
        if any(handle == other for _, other in self.sleeps):
            raise Trap("subtask.drop: it has not returned")
        if self.waitables.pop(handle).set:
            raise Trap("subtask.drop: it is in a set")

    def promise_get_result(self, event: int, promise: int) -> Any:
        kind, stream = self.promises.pop(promise)
        if kind == "call":
            return None
        code, count = event & 0xF, event >> 4
        if kind == "read":
            data, stream.delivered = stream.delivered[:count], b""
            return (code, data)
        return (code, count)

    def stream_new(self, type_: int) -> int:
        if type_ != STREAM:
            raise Trap(f"no stream type {type_}")
        stream = Stream()
        stream.reader, stream.writer = self._handle(Waitable()), self._handle(Waitable())
        self.streams[stream.reader] = self.streams[stream.writer] = stream
        return stream.writer << 32 | stream.reader

    def stream_read(self, type_: int, handle: int, size: int) -> Any:
        stream = self._stream(handle)
        if stream.reading is not None:
            raise Trap("stream.read: a read is under way")
        if stream.incoming:
            piece = stream.incoming.popleft()
            if len(piece) > size:
                stream.incoming.appendleft(piece[size:])
            code = DROPPED if not stream.writer_open and not stream.incoming else COMPLETED
            return Ok((code, piece[:size]))
        if not stream.writer_open:
            return Ok((DROPPED, b""))
        stream.reading = size
        return Err((handle, self._promise("read", stream)))

    def stream_write(self, type_: int, handle: int, data: bytes) -> Any:
        if type(data) is not bytes:
            raise Trap(f"stream.write of {type(data)}")
        stream = self._stream(handle)
        if stream.writing is not None:
            raise Trap("stream.write: a write is under way")
        if not stream.reader_open:
            return Ok((DROPPED, 0))
        if stream.reader:
            if stream.reading is None:
                stream.writing = data
                return Err((handle, self._promise("write", stream)))
            count = min(stream.reading, len(data))
            self._deliver_read(stream, data[:count], COMPLETED)
            return Ok((COMPLETED, count))
        if stream.room <= 0:
            stream.writing = data
            return Err((handle, self._promise("write", stream)))
        count = int(min(stream.room, len(data)))
        stream.taken.append(data[:count])
        stream.room -= count
        return Ok((COMPLETED, count))

    def stream_drop_readable(self, type_: int, handle: int) -> None:
        stream = self._stream(handle)
        if stream.reading is not None or stream.reader != handle:
            raise Trap("stream.drop-readable: a read is under way")
        self._forget(handle)
        stream.reader_open, stream.reader = False, 0
        self._reader_gone(stream)

    def stream_drop_writable(self, type_: int, handle: int) -> None:
        stream = self._stream(handle)
        if stream.writing is not None or stream.writer != handle:
            raise Trap("stream.drop-writable: a write is under way")
        self._forget(handle)
        stream.writer_open, stream.writer = False, 0
        if stream.reading is not None:
            self._deliver_read(stream, b"", DROPPED)

    # --- What the host does

    def body(self, *pieces: bytes, ended: bool = True) -> tuple[Any, Stream]:
        """A stream from the host to the guest, and the reader for a request record."""
        stream = Stream(writer_open=not ended)
        stream.incoming.extend(pieces)
        stream.reader = self._handle(Waitable())
        self.streams[stream.reader] = stream
        reader = _module("componentize_py_async_support.streams").ByteStreamReader(STREAM, stream.reader)
        return reader, stream

    def send(self, stream: Stream, data: bytes) -> None:
        """More of a body of a request."""
        stream.incoming.append(data)
        if stream.reading is not None:
            size = stream.reading
            piece = stream.incoming.popleft()
            if len(piece) > size:
                stream.incoming.appendleft(piece[size:])
            self._deliver_read(stream, piece[:size], COMPLETED)

    def finish(self, stream: Stream) -> None:
        """The end of a body of a request."""
        stream.writer_open = False
        if stream.reading is not None:
            self._deliver_read(stream, b"", DROPPED)

    def make_room(self, stream: Stream, room: float) -> None:
        """The client has read something."""
        stream.room += room
        if stream.writing is not None and stream.room > 0:
            count = int(min(stream.room, len(stream.writing)))
            stream.taken.append(stream.writing[:count])
            stream.room -= count
            stream.writing = None
            self.waitables[stream.writer].event = (Event.STREAM_WRITE, COMPLETED | count << 4)

    def hang_up(self, stream: Stream) -> None:
        """The client has gone."""
        stream.reader_open = False
        self._reader_gone(stream)

    def start(self, name: str, call: Callable[[], int]) -> Task:
        """Starts a call of an export."""
        task = Task(name)
        self.tasks.append(task)
        self._enter(task, call)
        return task

    def run(self, until: Callable[[], bool] = lambda: False, seconds: float = float("inf")) -> None:
        """Goes on until all tasks have ended. Raises Stuck when nothing more can happen."""
        deadline = self.now + seconds
        for _ in range(TURNS_MAX):
            if until() or all(task.ended for task in self.tasks):
                return
            if self._deliver_one():
                continue
            pending = sorted(self.sleeps)
            if not pending:
                raise Stuck([task.name for task in self.tasks if not task.ended])
            if pending[0][0] > deadline:
                self.now = deadline
                return
            self.now = max(self.now, pending[0][0])
            self._end_sleeps()
        raise Stuck("too many turns")

    def leftovers(self) -> list[str]:
        """Handles and memory that are still there, besides the ends of streams that the host has."""
        left = [f"set {number}" for number in self.sets]
        left += [f"waitable {number}" for number in self.waitables]
        left += [f"promise {promise}" for promise in self.promises]
        left += [f"sleep until {end}" for end, _ in self.sleeps]
        return left

    def _deliver_one(self) -> bool:
        # Events first, tasks that yielded after them, as in wasmtime.
        for task in self.tasks:
            if task.code & 0xF == CallbackCode.WAIT and not task.ended:
                number = task.code >> 4
                for handle, waitable in self.waitables.items():
                    if waitable.set == number and waitable.event is not None:
                        kind, code = waitable.event
                        waitable.event = None
                        self._callback(task, kind, handle, code)
                        return True
        for task in self.tasks:
            if task.code == CallbackCode.YIELD:
                self._callback(task, Event.NONE, 0, 0)
                self._end_sleeps()
                return True
        return False

    def _end_sleeps(self) -> None:
        # Time goes by while tasks only yield.
        self.now += 0.0001
        for end, handle in list(self.sleeps):
            if end <= self.now:
                self.sleeps.remove((end, handle))
                self.waitables[handle].event = (Event.SUBTASK, Status.RETURNED)

    def _callback(self, task: Task, kind: int, handle: int, code: int) -> None:
        self._enter(task, lambda: _module("componentize_py_async_support").callback(kind, handle, code))

    def _enter(self, task: Task, call: Callable[[], int]) -> None:
        if self.current is not None:
            raise Trap("the instance is entered a second time")
        self.current = task
        task.polls += 1
        _module("covet._guest.loop").run_from_now_on()
        try:
            task.code = call()
        finally:
            self.current = None
            asyncio.events._set_running_loop(None)
        if type(task.code) is not int:
            raise Trap(f"an export answers {task.code!r}")
        if task.ended and (not task.returned or task.context is not None):
            raise Trap(f"{task.name} ends without having returned, or keeps a context")
        if task.code & 0xF == CallbackCode.WAIT and task.code >> 4 not in self.sets:
            raise Trap(f"{task.name} waits for a set that is not there")

    def _deliver_read(self, stream: Stream, data: bytes, code: int) -> None:
        stream.reading = None
        stream.delivered = data
        self.waitables[stream.reader].event = (Event.STREAM_READ, code | len(data) << 4)

    def _reader_gone(self, stream: Stream) -> None:
        if stream.writing is not None:
            stream.writing = None
            self.waitables[stream.writer].event = (Event.STREAM_WRITE, DROPPED)

    def _take_reader(self, reader: Any) -> None:
        """The guest hands a reader to the host, as the bindings do it."""
        stream = self._stream(reader.handle)
        if stream.reading is not None:
            raise Trap("a reader that reads cannot be handed out")
        self._forget(reader.handle)
        stream.reader = 0
        del reader.handle
        reader.finalizer.detach()
        if stream.incoming:
            # It came from the host and goes back there.
            stream.taken.extend(stream.incoming)
            stream.incoming.clear()
        self._task().streamed = stream
        # A write may have begun before the reader was handed out.
        self.make_room(stream, 0)

    def _handle(self, waitable: Waitable) -> int:
        self._last += 1
        self.waitables[self._last] = waitable
        return self._last

    def _promise(self, kind: str, stream: Any) -> int:
        self._last += 1
        self.promises[self._last] = (kind, stream)
        return self._last

    def _waitable(self, handle: int) -> Waitable:
        if handle not in self.waitables:
            raise Trap(f"no handle {handle}")
        return self.waitables[handle]

    def _stream(self, handle: int) -> Stream:
        if handle not in self.streams:
            raise Trap(f"no stream {handle}")
        return self.streams[handle]

    def _forget(self, handle: int) -> None:
        if self._waitable(handle).set:
            raise Trap("an end of a stream is dropped that is in a set")
        del self.waitables[handle], self.streams[handle]

    def _task(self) -> Task:
        if self.current is None:
            raise Trap("no task")
        return self.current


@dataclass
class Answer:
    """A response as a client sees it."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes
    task: Task
    stream: Stream | None

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        import json

        return json.loads(self.content)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class Instance:
    """An application behind its exports."""

    def __init__(self, app: Any, startup: bool = True) -> None:
        from covet._guest import bridge

        self.host = use(Host())
        app._finish()
        handler, exported = bridge.exports(app)
        self.handler, self.app = handler(), exported()
        self.routes = self.app.routes()
        self._router: Any = None
        if startup:
            self.startup()

    def startup(self) -> Any:
        task = self.host.start("startup", lambda: self.app._async_start_startup(0))
        self.host.run(lambda: task.ended)
        return task.result

    def shutdown(self) -> Any:
        task = self.host.start("shutdown", lambda: self.app._async_start_shutdown(0))
        self.host.run(lambda: task.ended)
        return task.result

    def begin(self, method: str, target: str, body: Any = None, headers: list[tuple[str, str]] | None = None) -> Task:
        """Starts a request. A body is None, str, bytes, or the reader of a stream."""
        route, params = self._match(method, target.partition("?")[0])
        return self.begin_route(route, method, target, headers, params, body)

    def begin_route(
        self,
        route: int,
        method: str,
        target: str,
        headers: list[tuple[str, str]] | None = None,
        params: Sequence[str] = (),
        body: Any = None,
    ) -> Task:
        """Starts a request for a route that is known by its index."""
        types_ = _module("wit_world.imports.types")
        if body is None:
            wire = types_.Body_Empty()
        elif isinstance(body, str):
            wire = types_.Body_Text(body)
        elif isinstance(body, bytes):
            wire = types_.Body_Bytes(body)
        else:
            wire = types_.Body_Stream(body)
        record = types_.Request(
            route,
            method,
            "http://testhost:8000",
            target,
            list(params),
            headers or [("host", "testhost")],
            "127.0.0.1:5000",
            wire,
        )
        return self.host.start(f"{method} {target}", lambda: self.handler._async_start_handle(record, 0))

    def request(self, method: str, target: str, body: Any = None, headers: list[tuple[str, str]] | None = None) -> Answer:
        """A request from beginning to end, with everything that goes on after its response."""
        task = self.begin(method, target, body, headers)
        self.host.run()
        return self.answer(task)

    def get(self, target: str, **options: Any) -> Answer:
        return self.request("GET", target, **options)

    def post(self, target: str, body: Any = None, **options: Any) -> Answer:
        return self.request("POST", target, body, **options)

    def answer(self, task: Task) -> Answer:
        response = task.result
        body = response.body
        stream = task.streamed
        if stream is not None:
            content = b"".join(stream.taken)
        elif type(body) is _body("Text"):
            content = body.value.encode()
        elif type(body) is _body("Bytes"):
            content = body.value
        else:
            content = b""
        return Answer(response.status, response.headers, content, task, stream)

    def _match(self, method: str, path: str) -> tuple[int, list[str]]:
        """As the host's router, which is tested against its own cases elsewhere."""
        from covet._native.matching import Found, RouteKey, Router

        if self._router is None:
            self._router = Router([RouteKey(route.method, route.pattern, route.name) for route in self.routes])
        found = self._router.find(method, path)
        if not isinstance(found, Found):
            raise LookupError(f"no route for {method} {path}")
        return found.route, found.params


def use(host: Host) -> Host:
    """Makes a host the one that the runtime's functions belong to, and its clock that of the event loop."""
    from covet._guest import bridge, loop

    global _host
    _host = host
    loop.loop.__init__()  # type: ignore[misc]
    loop.monotonic = lambda: _host.now
    bridge.host.live = False
    return host


def install() -> None:
    """Puts the stand-ins of the runtime and of the bindings into `sys.modules`."""
    runtime = _make("componentize_py_runtime")
    for name in _RUNTIME_FUNCTIONS:
        setattr(runtime, name, _forward(name))
    _make("componentize_py_types", Ok=Ok, Err=Err)
    support = _make("componentize_py_async_support", _CallbackCode=CallbackCode, _Event=Event, _Status=Status)
    support.first_poll = None  # type: ignore[attr-defined]
    support.streams = _make("componentize_py_async_support.streams", ByteStreamReader=None)  # type: ignore[attr-defined]
    world = _make("wit_world")
    world.byte_stream = lambda: sys.modules["componentize_py_runtime"].stream_new(STREAM)  # type: ignore[attr-defined]
    imports = _make("wit_world.imports")
    imports.types = _make("wit_world.imports.types")  # type: ignore[attr-defined]
    imports.host = _make_host()  # type: ignore[attr-defined]
    world.imports = imports  # type: ignore[attr-defined]
    exports = _make("wit_world.exports", App=_App, Handler=_Handler)
    exports.app = _make("wit_world.exports.app", Route=Route, RouteKind=RouteKind, Isolation=Isolation)  # type: ignore[attr-defined]
    world.exports = exports  # type: ignore[attr-defined]
    from covet._guest import bridge

    bridge.connect()


class RouteKind(enum.Enum):
    HTTP = 0


class Isolation(enum.Enum):
    FRESH = 0
    REUSE = 1
    SHARED = 2


@dataclass
class Route:
    method: str
    pattern: str
    name: str
    kind: RouteKind
    isolation: Isolation | None


class _App:
    def _async_start_startup(self, borrows: int) -> int:
        result: int = _module("componentize_py_async_support").first_poll(STARTUP, borrows, self.startup())  # type: ignore[attr-defined]
        return result

    def _async_start_shutdown(self, borrows: int) -> int:
        result: int = _module("componentize_py_async_support").first_poll(SHUTDOWN, borrows, self.shutdown())  # type: ignore[attr-defined]
        return result


class _Handler:
    def _async_start_handle(self, request: Any, borrows: int) -> int:
        result: int = _module("componentize_py_async_support").first_poll(HANDLE, borrows, self.handle(request))  # type: ignore[attr-defined]
        return result


class _Level(enum.Enum):
    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


def _make_host() -> types.ModuleType:
    host = _make("wit_world.imports.host", Level=_Level, Usage=None, Traffic=None)
    runtime = _module("componentize_py_runtime")

    async def sleep(milliseconds: int) -> None:
        result = runtime.call_import(SLEEP, [milliseconds])
        await _module("componentize_py_async_support").await_result(result)

    host.sleep = sleep  # type: ignore[attr-defined]
    host.log = lambda level, target, message: runtime.call_import(LOG, [level, target, message])  # type: ignore[attr-defined]
    host.metrics = lambda: runtime.call_import(METRICS, [])  # type: ignore[attr-defined]
    host.statistics = lambda: runtime.call_import(STATISTICS, [])  # type: ignore[attr-defined]
    host.random_seed = lambda: runtime.call_import(SEED, [])  # type: ignore[attr-defined]
    host.config = lambda key: runtime.call_import(CONFIG, [key])  # type: ignore[attr-defined]
    return host


def _make(name: str, **attributes: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module
    return module


def _module(name: str) -> Any:
    return sys.modules[name]


def _forward(name: str) -> Callable[..., Any]:
    return lambda *arguments: getattr(_host, name)(*arguments)


def _body(case: str) -> type:
    found: type = getattr(_module("wit_world.imports.types"), f"Body_{case}")
    return found


def _check_response(response: Any) -> None:
    """The types that the bindings take without a panic."""
    if type(response.status) is not int or not 0 <= response.status <= 0xFFFF:
        raise Trap(f"status {response.status!r}")
    if type(response.headers) is not list:
        raise Trap(f"headers {response.headers!r}")
    for item in response.headers:
        if type(item) is not tuple or len(item) != 2:
            raise Trap(f"header {item!r}")
        _check_text(item[0]), _check_text(item[1])
    kind = type(response.body)
    if kind not in [_body(case) for case in ("Empty", "Text", "Bytes", "Stream")]:
        raise Trap(f"body {response.body!r}")
    if kind is _body("Text"):
        _check_text(response.body.value)
    if kind is _body("Bytes") and type(response.body.value) is not bytes:
        raise Trap(f"bytes {response.body.value!r}")
    if type(response.trailers) is not _module("wit_world.imports.types").Trailers_Absent:
        raise Trap(f"trailers {response.trailers!r}")


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise Trap(f"{text!r} is no string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Trap(f"{text!r} is not Unicode") from None


_RUNTIME_FUNCTIONS = [
    "call_import",
    "call_task_return",
    "context_get",
    "context_set",
    "promise_get_result",
    "stream_drop_readable",
    "stream_drop_writable",
    "stream_new",
    "stream_read",
    "stream_write",
    "subtask_drop",
    "waitable_join",
    "waitable_set_drop",
    "waitable_set_new",
]
SLEEP, LOG, METRICS, SEED, CONFIG, STATISTICS = 0, 1, 2, 3, 4, 5
STARTUP, SHUTDOWN, HANDLE = 2, 3, 4
STREAM = 7
TURNS_MAX = 100_000
_host: Host = Host()
