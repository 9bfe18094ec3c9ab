"""The event loop of a guest: asyncio on the component model's tasks, for componentize-py 0.25.

It replaces the loop that componentize-py brings, which has no timers, fails on tasks that nobody awaits, and hangs where
two calls share a lock. It does not know requests and responses: that is `_guest.bridge`.

How it works. Each call of an export is one component-model task and gets one `Call`: the callbacks that are ready, the
timers, and what it waits for at the host. A callback belongs to the call in whose `contextvars` context it was made, and
runs only while that call has the processor, because what it asks of the host is accounted to the task that runs.
`asyncio` locks, queues and events may connect two calls of one instance; a call that makes something of another call
ready wakes that one. A call ends when it has returned and nothing of it can go on: tasks that nobody awaits run to their
end. A task that waits only for another call does not keep its own call open; it goes on in the call that wakes it.
"""

import asyncio
import errno
import heapq
import logging
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from functools import partial
from itertools import count
from math import ceil, inf
from time import monotonic
from types import CoroutineType
from typing import Any, NoReturn

import componentize_py_async_support as support
import componentize_py_runtime as runtime
from componentize_py_types import Err, Ok

from . import absent, output

__all__ = ["Call", "after", "current", "hold", "install", "let_go", "pause", "respond", "run_from_now_on", "run_in"]
__all__ += ["start", "start_sync", "wait"]

Resume = Callable[[int], None]


class Call:
    """One call of an export: a component-model task."""

    __slots__ = (
        *("before_wait", "before_work", "began", "borrows", "closing", "ended", "export", "holds", "is_pausing", "later"),
        *("ready", "sleeping", "timers", "waitables", "waiting", "waking"),
    )

    def __init__(self, closing: Callable[[], None] | None) -> None:
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        #: What the host will report, by handle.
        self.waiting: dict[int, Resume] = {}
        #: The waitable set, made when the call waits for the first time.
        self.waitables = 0
        #: Work that must end before the call does: the handler, and the writers of streamed bodies.
        self.holds = 0
        #: What begins when the response is with the host.
        self.later: list[tuple[Coroutine[Any, Any, None], Context]] = []
        #: When the earliest sleep at the host ends.
        self.sleeping = inf
        self.began = 0.0
        self.waking = False
        self.ended = False
        self.closing = closing
        #: The export that has to return, and what was lent to it; -1 when it has returned.
        self.export = -1
        self.borrows = 0
        #: Whether the host is to run before the call goes on.
        self.is_pausing = False
        #: Called once, when nothing of the call is ready any more and it has not ended. May begin a task.
        self.before_wait: Callable[[], asyncio.Task[Any] | None] | None = None
        #: The same for work that may take its time, see `let_go`.
        self.before_work: Callable[[], asyncio.Task[Any] | None] | None = None


class Loop(asyncio.AbstractEventLoop):
    """The one event loop of an instance."""

    def __init__(self) -> None:
        #: The call that has the processor.
        self.current: Call | None = None
        #: Callbacks made outside of any call, by a finalizer for example; the next call runs them.
        self.unowned: deque[asyncio.Handle] = deque()
        self._handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None

    # The callbacks are typed less strictly than in the base class.
    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        current = self.current
        owner = context.get(_owner, current)
        if owner is None or owner.ended:
            owner = current
        if owner is None:
            self.unowned.append(handle)
        else:
            owner.ready.append(handle)
            if owner is not current:
                _wake(owner)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(monotonic() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if context is None:
            context = copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        owner = context.get(_owner, self.current)
        if owner is None or owner.ended:
            owner = self.current
        if owner is None:
            raise RuntimeError("a timer can only be set while a request or a hook is being handled")
        heapq.heappush(owner.timers, (when, next(_order), handle))
        if owner is not self.current:
            _wake(owner)
        return handle

    def time(self) -> float:
        return monotonic()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Calls `func` at once: a component has no threads. An executor that is given is not used."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except StopIteration as error:
            future.set_exception(RuntimeError(f"{func!r} raised StopIteration: {error}"))
        except Exception as error:
            future.set_exception(error)
        return future

    def set_default_executor(self, executor: Any) -> None:
        """Accepted and not used, see `run_in_executor`."""

    async def create_connection(self, *arguments: Any, **options: Any) -> NoReturn:
        """Fails as without a network, which is what libraries expect of it."""
        raise OSError(errno.ENETUNREACH, "A component has no sockets")

    async def getaddrinfo(self, *arguments: Any, **options: Any) -> NoReturn:
        """Fails, see there."""
        absent.resolve_nothing()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._handler is None:
            self.default_exception_handler(context)
        else:
            try:
                self._handler(self, context)
            except Exception:
                _logger.exception("the exception handler of the event loop failed")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        details = [f"{key}: {value!r}" for key, value in context.items() if key not in ("message", "exception")]
        _logger.error("\n".join([context.get("message") or "error in the event loop", *details]), exc_info=error)

    def set_exception_handler(self, handler: Any) -> None:
        self._handler = handler

    def get_exception_handler(self) -> Any:
        return self._handler

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """Accepted and without effect."""

    def get_task_factory(self) -> None:
        return None

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: asynchronous generators are closed when they become unreachable."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Nothing to do, see `run_in_executor`."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """`asyncio` tells; a cancelled timer is dropped when it comes to the top."""


def start(
    export: int,
    borrows: int,
    coroutine: Coroutine[Any, Any, Any],
    closing: Callable[[], None] | None = None,
    call: Call | None = None,
    context: Context | None = None,
) -> int:
    """Runs an export that is a coroutine as far as it goes. Returns what the host expects of an asynchronous export.

    The coroutine must not raise. `closing` is called at the end of the call.
    """
    if call is None:
        call = _begin(closing)
    if context is None:
        context = copy_context()
        context.run(_owner.set, call)
    call.export, call.borrows = export, borrows
    if sys.version_info >= (3, 12):
        # The coroutine starts at once instead of after one more turn, and most handlers then are done.
        task = asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
        if task.done():
            if call.export >= 0:
                call.export = -1
                _return(export, borrows, task.result())
            return _poll(call, first=True)
    else:
        task = asyncio.Task(coroutine, loop=loop, context=context)
    call.holds += 1
    task.add_done_callback(partial(_returned, call), context=context)
    return _poll(call, first=True)


def start_sync(
    export: int,
    borrows: int,
    function: Callable[[Any], Any],
    argument: Any,
    closing: Callable[[], None] | None = None,
) -> int:
    """Runs an export that is a function of one argument, without a task. It may return a coroutine, which is run.

    Neither may raise.
    """
    call = _begin(closing)
    context = copy_context()
    result = context.run(_enter, call, function, argument)
    if isinstance(result, CoroutineType):
        return start(export, borrows, result, None, call, context)
    _return(export, borrows, result)
    return _poll(call, first=True) if call.ready or not _is_done(call) else _end(call, first=True)


def current() -> Call:
    """The call that has the processor. Raises RuntimeError outside of any."""
    call = loop.current
    if call is None:
        raise RuntimeError("no call is under way")
    return call


def respond(value: Any) -> None:
    """Returns from the export of the current call at once; its coroutine goes on, and what that returns is not used.

    Raises RuntimeError when the call has returned before.
    """
    call = current()
    export, call.export = call.export, -1
    if export < 0:
        raise RuntimeError("the call has returned already")
    _return(export, call.borrows, value)


class _Pause:
    def __await__(self) -> Generator[None, None, None]:
        if (call := loop.current) is not None:
            call.is_pausing = True
        yield


#: To be awaited: lets the host go on with what it has got, such as a response, before the current call does.
pause = _Pause()


async def let_go() -> None:
    """To be awaited before work of unknown length: what the call holds back goes to the host, which goes on with it first.

    Where nothing is held back it does nothing; to let the host go on costs more than a small handler.
    """
    call = loop.current
    if call is not None and call.before_work is not None:
        before_work = call.before_work
        call.before_wait = call.before_work = None
        if (task := before_work()) is not None:
            await task
        await pause


async def run_in(call: Call, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine in another call, which must not have ended, as if that had started it."""
    context = copy_context()
    context.run(_owner.set, call)
    return await asyncio.Task(coroutine, loop=loop, context=context)


def hold(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine, which must not raise, and keeps the current call open until its end."""
    call = loop.current
    if call is None:
        coroutine.close()
        raise RuntimeError("no call is under way")
    call.holds += 1
    asyncio.Task(coroutine, loop=loop).add_done_callback(partial(_released, call))


def after(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine when the response is with the host, and keeps the current call open until its end.

    To be called by what makes the response, as the last thing that it does. The coroutine must not raise.
    """
    call = loop.current
    if call is None:
        coroutine.close()
        raise RuntimeError("no call is under way")
    call.holds += 1
    call.later.append((coroutine, copy_context()))


def wait(waitable: int, promise: int) -> asyncio.Future[Any]:
    """A future for what the host has begun; its result is lifted when the host reports it, even if it was cancelled."""
    call = loop.current
    if call is None:
        raise RuntimeError("no call is under way")
    future = loop.create_future()
    _watch(call, waitable, partial(_resolve, future, promise))
    return future


def install(sleep: int, stream: int) -> None:
    """Puts the loop in the place of the one that componentize-py brings.

    `sleep` is the number of the host's import of that name, `stream` the number of the type `stream<u8>`.
    """
    global _SLEEP, _STREAM
    _SLEEP, _STREAM = sleep, stream
    support.first_poll = _first_poll
    support.callback = _callback
    support.await_result = _await_result
    support.spawn = _spawn
    support._loop = loop
    asyncio.set_event_loop(loop)
    # While the application is imported nothing can be awaited.
    events._set_running_loop(None)
    sys.set_asyncgen_hooks(finalizer=_close_generator)


def run_from_now_on() -> None:
    """Makes the loop the running one for good: later all code runs in calls, and setting it for each costs time."""
    events._set_running_loop(loop)


def _begin(closing: Callable[[], None] | None) -> Call:
    call = Call(closing)
    if loop.unowned:
        call.ready, loop.unowned = loop.unowned, call.ready
    loop.current = call
    return call


def _enter(call: Call, function: Callable[[Any], Any], argument: Any) -> Any:
    _owner.set(call)
    return function(argument)


def _return(export: int, borrows: int, value: Any) -> None:
    if type(value) is Ok or type(value) is Err:
        runtime.call_task_return(export, borrows, value)
    else:
        # One holder for all calls: the bindings read `value` and are done with it before this returns.
        _result.value = value
        runtime.call_task_return(export, borrows, _result)
        _result.value = None


def _returned(call: Call, task: asyncio.Task[Any]) -> None:
    export, call.export = call.export, -1
    if export >= 0:
        _return(export, call.borrows, task.result())
    call.holds -= 1


def _released(call: Call, task: asyncio.Task[Any]) -> None:
    call.holds -= 1
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.error("a body could not be written", exc_info=error)


def _poll(call: Call, first: bool = False) -> int:
    """Runs what is ready, and says how the task goes on: it ends, it yields, or it waits."""
    ready = call.ready
    for _ in range(ROUNDS_MAX):
        if call.is_pausing:
            call.is_pausing = False
            break
        if call.timers:
            _expire(call)
        if not ready:
            if call.later:
                _begin_later(call)
                break
            if call.before_wait is None:
                return _end(call, first) if _is_done(call) else _suspend(call)
            before_wait = call.before_wait
            call.before_wait = call.before_work = None
            before_wait()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                try:
                    handle._run()
                except BaseException:
                    # SystemExit and KeyboardInterrupt of a task pass through `asyncio`; they must not end the instance.
                    _logger.error("a task tried to end the process", exc_info=True)
            # Not kept while the call waits: it refers to what its callback does.
            del handle
    # A task that never waits, as in `while not done: await asyncio.sleep(0)`, must let the host and other calls go on.
    loop.current = None
    runtime.context_set(call)
    return _YIELD


def _begin_later(call: Call) -> None:
    for coroutine, context in call.later:
        asyncio.Task(coroutine, loop=loop, context=context).add_done_callback(partial(_released, call))
    call.later.clear()


def _is_done(call: Call) -> bool:
    return not (call.holds or call.waiting or call.timers)


def _end(call: Call, first: bool) -> int:
    call.ended = True
    closing = call.closing
    if closing is not None:
        call.closing = None
        closing()
        if call.waiting:
            # What was closed is still being read; the host ends that soon.
            call.ended = False
            return _suspend(call)
    if output.unfinished:
        output.finish()
    if call.waitables:
        runtime.waitable_set_drop(call.waitables)
    loop.current = None
    # wasmtime 48 keeps one table entry for every composed call that ends at its first poll; a call that yields once
    # after its return leaves none (`_callback` ends it).
    return _YIELD if first and not call.waitables else _EXIT


def _suspend(call: Call) -> int:
    if not call.waitables:
        call.waitables = runtime.waitable_set_new()
        for waitable in call.waiting:
            runtime.waitable_join(waitable, call.waitables)
    if call.timers and call.timers[0][0] < call.sleeping and not _sleep(call):
        # The host slept no time at all: come back.
        loop.current = None
        runtime.context_set(call)
        return _YIELD
    loop.current = None
    runtime.context_set(call)
    return _WAIT | call.waitables << 4


def _callback(event: int, waitable: int, code: int) -> int:
    """The host calls this when something that a call waits for has happened, or after it yielded."""
    call: Call | None = runtime.context_get()
    if call is None:
        return _EXIT
    runtime.context_set(None)
    loop.current = call
    if event == support._Event.SUBTASK:
        if code == support._Status.RETURNED:
            runtime.waitable_join(waitable, 0)
            runtime.subtask_drop(waitable)
            call.waiting.pop(waitable)(code)
    elif event not in (support._Event.NONE, support._Event.CANCELLED):
        # A call that is cancelled goes on: it has to return, and componentize-py cannot say that it was cancelled.
        runtime.waitable_join(waitable, 0)
        call.waiting.pop(waitable)(code)
    return _poll(call)


def _expire(call: Call) -> None:
    """Moves the timers that are due to the callbacks that are ready."""
    timers = call.timers
    now = monotonic()
    while timers:
        when, _, handle = timers[0]
        if handle._cancelled:
            heapq.heappop(timers)
        elif when <= now:
            heapq.heappop(timers)
            call.ready.append(handle)
        else:
            break


def _sleep(call: Call) -> bool:
    """Asks the host to wake the call for its next timer.

    componentize-py cannot cancel a sleep, and a call cannot end before its sleeps have. So that a timer that is cancelled
    (`asyncio.timeout` sets one that nearly always is) does not keep the call open, a sleep takes at most half of the time
    that the call has waited so far, and is then renewed: the call ends late by half at worst, and a long wait costs a
    number of wake-ups that grows with the logarithm of its length.
    """
    now = monotonic()
    if not call.began:
        call.began = now
    seconds = min(call.timers[0][0] - now, max(SLEEP_MIN, (now - call.began) / 2))
    result = runtime.call_import(_SLEEP, [ceil(max(seconds, 0.0) * 1000)])
    if type(result) is Ok:
        return False
    waitable, promise = result.value
    call.sleeping = now + seconds
    _watch(call, waitable, partial(_slept, call, promise))
    return True


def _slept(call: Call, promise: int, code: int) -> None:
    runtime.promise_get_result(code, promise)
    call.sleeping = inf


def _watch(call: Call, waitable: int, resume: Resume) -> None:
    call.waiting[waitable] = resume
    if call.waitables:
        runtime.waitable_join(waitable, call.waitables)


def _resolve(future: asyncio.Future[Any], promise: int, code: int) -> None:
    result = runtime.promise_get_result(code, promise)
    if not future.done():
        future.set_result(result)


def _wake(call: Call) -> None:
    """Makes the host run a call that waits, because another call made something of it ready.

    The only thing that a call can be woken by is an event. So one is made: a stream whose reading end is in the call's
    waitable set, and one byte written to it.
    """
    if call.waking or not call.waitables:
        return
    call.waking = True
    pair = runtime.stream_new(_STREAM)
    writer, reader = pair >> 32, pair & 0xFFFFFFFF
    _, promise = runtime.stream_read(_STREAM, reader, 1).value
    _watch(call, reader, partial(_woken, call, writer, reader, promise))
    runtime.stream_write(_STREAM, writer, b"\0")


def _woken(call: Call, writer: int, reader: int, promise: int, code: int) -> None:
    runtime.promise_get_result(code, promise)
    runtime.stream_drop_writable(_STREAM, writer)
    runtime.stream_drop_readable(_STREAM, reader)
    call.waking = False


def _first_poll(export: int, borrows: int, coroutine: Coroutine[Any, Any, Any]) -> int:
    """What the generated code calls for an export that `_guest.bridge` does not start itself."""
    return start(export, borrows, _result_of(coroutine))


async def _result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """For exports that return a WIT `result`, which the bindings want as it is."""
    try:
        return Ok(await coroutine)
    except Err as error:
        # A new one: the one that was raised refers to the frames it came through, and they to the request.
        return Err(error.value)


async def _await_result(result: Any) -> Any:
    """What the generated code awaits for an import."""
    return result.value if type(result) is Ok else await wait(*result.value)


def _spawn(coroutine: Coroutine[Any, Any, None]) -> None:
    hold(coroutine)


def _close_generator(generator: Any) -> None:
    loop.create_task(generator.aclose())


class _Result:
    value: Any = None


#: Turns of a call before it yields to the host.
ROUNDS_MAX = 100
#: Seconds of the shortest renewed sleep, see `_sleep`.
SLEEP_MIN = 0.005

#: What a callback answers: the call has ended, wants to be called again, or waits for its set of waitables.
_EXIT: int = support._CallbackCode.EXIT
_YIELD: int = support._CallbackCode.YIELD
_WAIT: int = support._CallbackCode.WAIT
_SLEEP = -1
_STREAM = -1
_logger = logging.getLogger("asyncio")
_order = count()
_owner: ContextVar[Call] = ContextVar("covet.call")
_result = _Result()
loop = Loop()  # type: ignore[abstract]  # what it leaves out has no meaning in a component: sockets, processes, signals
