"""Things that requests of one instance share: `ConnectionPool` and `BatchProcessor`.

Both are made at the top of a module, and do nothing until a request uses them. What they share is what the requests of an
instance share: in the isolation `fresh` every request has a pool and a batch of its own, in `reuse` a pool keeps its
connections from one request to the next, and in `shared` requests wait for each other's connections and batch together. A
route that is about this says `isolation="shared"`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from inspect import isawaitable
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["BatchProcessor", "ConnectionPool"]

C_ = TypeVar("C_")
T_ = TypeVar("T_")
R_ = TypeVar("R_")


class ConnectionPool(Generic[C_]):
    """Connections, or other things that are costly to make and can be used by one at a time.

        pool = ConnectionPool(connect, max_connections=5)

        async with pool.acquire() as connection:
            ...

    `factory` makes one, and may be asynchronous. It is called when a connection is wanted and none is idle, never before.
    Never more than `max_connections` are open; who comes when all are in use waits, first come, first served, for at most
    `timeout` seconds, the time that `factory` takes included (None: without end). The one that was used last is used first.

    `health_check`, a function of a connection, says whether one that was idle can still be used; one that cannot, or for
    which it raises, is closed and replaced. `close` ends a connection; without it its method `aclose` or `close` does. An
    idle connection is closed when it has not been used for `max_idle` seconds and more than `min_connections` are open; this
    is found out when another one is given back, since nothing runs in between.

    A connection is not used again after an OSError, an EOFError or a cancellation in the block that uses it, because
    something may still be under way on it, nor after `discard`.
    """

    def __init__(
        self,
        factory: Callable[[], C_ | Awaitable[C_]],
        max_connections: int = 10,
        min_connections: int = 0,
        max_idle: float | None = None,
        timeout: float | None = 30.0,
        health_check: Callable[[C_], Any] | None = None,
        close: Callable[[C_], Any] | None = None,
    ) -> None:
        if max_connections < 1:
            raise ValueError("max_connections is at least 1")
        if not 0 <= min_connections <= max_connections:
            raise ValueError("min_connections is from 0 to max_connections")
        self.max_connections = max_connections
        self.min_connections = min_connections
        self.max_idle = max_idle
        self.timeout = timeout
        self._factory = factory
        self._health_check = health_check
        self._end = close
        self._is_closed = False
        self._begin(None)

    @property
    def idle(self) -> int:
        """The number of connections that nobody uses."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """The number of connections that somebody uses."""
        return len(self._leases)

    def acquire(self) -> "Lease[C_]":
        """A connection for `async with`. Entering raises TimeoutError, RuntimeError after `close`, and what the factory
        raises."""
        return Lease(self)

    def discard(self, connection: C_) -> None:
        """Has a connection that is in use closed when it is given back. Raises ValueError for any other."""
        leases = [lease for lease in self._leases if lease.connection is connection]
        if not leases:
            raise ValueError(f"{connection!r} is not in use")
        for lease in leases:
            lease.is_discarded = True

    async def close(self) -> None:
        """Closes the connections: those that are idle now, those in use when they are given back. May be called again."""
        self._is_closed = True
        while self._idle:
            await self._close(self._idle.pop().connection)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Natively tests have an event loop each, and what belongs to an earlier one is of no use."""
        self._loop = loop
        # Fair, unlike asyncio.Queue, in which who comes just then may be before who has waited.
        self._slots = asyncio.Semaphore(self.max_connections)
        self._idle: deque[_Idle[C_]] = deque()
        self._leases: set[Lease[C_]] = set()

    async def _acquire(self, lease: "Lease[C_]") -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        if not self._slots.locked() and self._idle and self._health_check is None and not self._can_go(self._idle[-1]):
            # Nothing to wait for, so no timer either.
            return await self._take(lease)
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                return await self._take(lease)
        except TimeoutError:
            if not deadline.expired():
                # One of the factory's.
                raise
            raise TimeoutError(
                f"no connection within {self.timeout:g} s: {self.in_use} of at most {self.max_connections} are in use"
            ) from None

    async def _take(self, lease: "Lease[C_]") -> None:
        slots = self._slots
        await slots.acquire()
        try:
            if self._is_closed:
                raise RuntimeError("the pool is closed")
            lease.connection = await self._idle_or_new()
        except BaseException:
            slots.release()
            raise
        lease.slots = slots
        self._leases.add(lease)

    async def _idle_or_new(self) -> C_:
        while self._idle:
            is_old = self._can_go(self._idle[-1])
            connection = self._idle.pop().connection
            if not is_old and await self._is_healthy(connection):
                return connection
            await self._close(connection)
        made = self._factory()
        return (await made) if isawaitable(made) else made

    async def _is_healthy(self, connection: C_) -> bool:
        if self._health_check is None:
            return True
        try:
            healthy = self._health_check(connection)
            return bool(await healthy if isawaitable(healthy) else healthy)
        except Exception:
            return False
        except BaseException:
            # Cancelled in the middle of something.
            await self._close(connection)
            raise

    async def _release(self, lease: "Lease[C_]", error: BaseException | None) -> None:
        self._leases.discard(lease)
        is_usable = not (lease.is_discarded or self._is_closed or (error is not None and _leaves_doubts(error)))
        try:
            if is_usable and lease.slots is self._slots:
                self._idle.append(_Idle(lease.connection, asyncio.get_running_loop().time()))
                # With the place of the one that is idle now, so that there never are too many.
                while len(self._idle) > 1 and self._can_go(self._idle[0]):
                    await self._close(self._idle.popleft().connection)
            else:
                await self._close(lease.connection)
        finally:
            lease.slots.release()

    def _can_go(self, idle: "_Idle[C_]") -> bool:
        """Whether one of the idle connections has not been used for long, and is not one of those to keep."""
        if self.max_idle is None or self.idle + self.in_use <= self.min_connections:
            return False
        return asyncio.get_running_loop().time() - idle.since > self.max_idle

    async def _close(self, connection: C_) -> None:
        """Closes a connection, to the end even if the one who does it is cancelled: its place is free only then."""
        end = self._end
        try:
            if end is not None:
                result = end(connection)
            else:
                method = getattr(connection, "aclose", None) or getattr(connection, "close", None)
                result = method() if method is not None else None
        except Exception:
            _logger.warning("a connection of a pool could not be closed", exc_info=True)
            return
        if isawaitable(result):
            await _to_its_end(_finish_closing(result))


class Lease(Generic[C_]):
    """A connection for as long as a block takes."""

    __slots__ = ("_pool", "connection", "is_discarded", "slots")

    connection: C_
    #: Where its place came from.
    slots: asyncio.Semaphore

    def __init__(self, pool: ConnectionPool[C_]) -> None:
        self._pool = pool
        #: Whether nobody shall use it after this.
        self.is_discarded = False

    async def __aenter__(self) -> C_:
        await self._pool._acquire(self)
        return self.connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._pool._release(self, error)


class _Idle(NamedTuple, Generic[C_]):
    connection: C_
    #: By the clock of the event loop.
    since: float


class BatchProcessor(Generic[T_, R_]):
    """Collects items of several requests and has them processed together.

        batch = BatchProcessor(look_up_many, batch_size=50, timeout=0.005)

        name = await batch.submit(user_id)

    `handler`, which may be asynchronous, gets a list of items when there are `batch_size` of them, or `timeout` seconds after
    the first one came. It returns a list of as many results in the same order, or a dict of results by item. A result that is
    an exception is raised to the one who submitted the item; one that the handler raises, to all of them.

    It runs in a task of its own, with the context variables of one of those who wait for it, and to its end even if they do
    not. Several batches may be processed at the same time.
    """

    def __init__(
        self,
        handler: Callable[[list[T_]], Any],
        batch_size: int = 32,
        timeout: float = 0.01,
    ) -> None:
        if batch_size < 1:
            raise ValueError("batch_size is at least 1")
        if timeout < 0:
            raise ValueError("timeout is a number of seconds")
        self.batch_size = batch_size
        self.timeout = timeout
        self._handler = handler
        self._waiting: list[_Entry[T_, R_]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        # An event loop does not hold its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: T_) -> R_:
        """Adds an item to the batch and waits for its result. Who is cancelled takes the item back, if it is not too late."""
        loop = asyncio.get_running_loop()
        if self._waiting and self._waiting[0].future.get_loop() is not loop:
            # Natively, of a test that has ended.
            self._waiting, self._timer = [], None
        entry: _Entry[T_, R_] = _Entry(item, loop.create_future(), copy_context())
        self._waiting.append(entry)
        if len(self._waiting) >= self.batch_size:
            self._process(loop)
        elif len(self._waiting) == 1:
            self._due = loop.time() + self.timeout
            self._set_timer(loop)
        try:
            return await entry.future
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._withdraw(loop, entry)
            raise

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the timer in the context of the one who has waited longest: a component keeps a request's call open for its
        timers, and that one's is open anyway."""
        self._timer = loop.call_at(self._due, self._process, loop, context=self._waiting[0].context)

    def _withdraw(self, loop: asyncio.AbstractEventLoop, entry: "_Entry[T_, R_]") -> None:
        was_first = entry is self._waiting[0]
        self._waiting.remove(entry)
        if was_first:
            self._stop_timer()
            if self._waiting:
                self._set_timer(loop)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _process(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop_timer()
        batch, self._waiting = self._waiting, []
        task = loop.create_task(self._run(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: "list[_Entry[T_, R_]]") -> None:
        try:
            results = self._handler([entry.item for entry in batch])
            if isawaitable(results):
                results = await results
            outcomes = _outcomes(results, batch)
        except Exception as error:
            outcomes = [error] * len(batch)
        except BaseException as error:
            failure = RuntimeError("the handler of the batch was ended")
            failure.__cause__ = error
            _deliver([failure] * len(batch), batch)
            raise
        _deliver(outcomes, batch)


class _Entry(Generic[T_, R_]):
    __slots__ = ("context", "future", "item")

    def __init__(self, item: T_, future: "asyncio.Future[R_]", context: Context) -> None:
        self.item = item
        self.future = future
        self.context = context


async def _finish_closing(result: Awaitable[Any]) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await result
    except Exception:
        _logger.warning("a connection of a pool could not be closed", exc_info=True)


async def _to_its_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Awaits something that takes a short time, and lets itself be cancelled only after it."""
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _outcomes(results: Any, batch: Sequence[_Entry[Any, Any]]) -> list[Any]:
    """A result or an exception for each item."""
    if isinstance(results, Mapping):
        missing = object()
        found = [results.get(entry.item, missing) for entry in batch]
        return [
            LookupError(f"the handler of the batch has no result for {entry.item!r}") if result is missing else result
            for entry, result in zip(batch, found, strict=True)
        ]
    if isinstance(results, (str, bytes)) or not isinstance(results, Sequence):
        raise TypeError(f"the handler of a batch returns a list or a dict, not {type(results).__name__}")
    if len(results) != len(batch):
        raise ValueError(f"the handler of a batch returned {len(results)} results for {len(batch)} items")
    return list(results)


def _deliver(outcomes: Sequence[Any], batch: Sequence[_Entry[Any, Any]]) -> None:
    for outcome, entry in zip(outcomes, batch, strict=True):
        if entry.future.done():
            # Cancelled meanwhile.
            continue
        if not isinstance(outcome, BaseException):
            entry.future.set_result(outcome)
        elif isinstance(outcome, StopIteration) or not isinstance(outcome, Exception):
            # A future cannot hold the first, and the others would end more than the one who waits.
            failure = RuntimeError(f"an item of the batch failed with {outcome!r}")
            failure.__cause__ = outcome
            entry.future.set_exception(failure)
        else:
            entry.future.set_exception(outcome)


def _leaves_doubts(error: BaseException) -> bool:
    """Whether a connection may be in the middle of something after it."""
    return isinstance(error, (OSError, EOFError)) or not isinstance(error, Exception)


#: Seconds that the end of a connection may take.
CLOSE_TIMEOUT = 5.0
_logger = logging.getLogger("covet")
