"""anyio without threads: what it would run in one runs in line.

That is what `run_in_threadpool` of Starlette and FastAPI comes down to: plain functions as handlers, dependencies and
background tasks. Everything else of anyio is made of asyncio's parts and needs no change.
"""

import sys
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from covet._guest import loop as guest_loop

__all__ = ["install"]


def install() -> None:
    """Changes anyio if the application has imported it. Its backend is imported late, so now it is."""
    if "anyio" not in sys.modules:
        return
    from anyio import lowlevel
    from anyio._backends import _asyncio
    from anyio._core import _eventloop

    backend = _asyncio.AsyncIOBackend
    for function in (run_sync_in_worker_thread, run_async_from_thread, run_sync_from_thread, check_cancelled):
        setattr(backend, function.__name__, staticmethod(function))
    # Whatever runs may call back into the event loop as if it were in a thread of anyio's.
    _eventloop.threadlocals.current_token = lowlevel.EventLoopToken(backend, guest_loop.loop)
    _eventloop.loaded_backends["asyncio"] = backend
    _checkpoint.append(backend.checkpoint_if_cancelled)


async def run_sync_in_worker_thread(
    func: Callable[..., Any], args: tuple[Any, ...], abandon_on_cancel: bool = False, limiter: Any = None
) -> Any:
    """Calls a function, in a copy of the context as a thread would."""
    del abandon_on_cancel
    await _checkpoint[0]()
    await guest_loop.let_go()
    if limiter is not None and limiter.available_tokens <= 0:
        async with limiter:
            return _run(func, args)
    return _run(func, args)


def _run(func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # In a thread there would be no event loop, and some functions look whether there is one.
    loop = _get_running_loop()
    _set_running_loop(None)
    try:
        return copy_context().run(func, *args)
    finally:
        _set_running_loop(loop)


def run_async_from_thread(func: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], token: object) -> Any:
    """Runs a coroutine function as far as it goes without waiting for anything that has yet to happen."""
    del token
    with _event_loop():
        coroutine = func(*args)
        try:
            while coroutine.send(None) is None:
                pass
        except StopIteration as end:
            return end.value
        coroutine.close()
    raise RuntimeError(
        "anyio.from_thread.run: a component has no threads, so a plain function cannot wait for a coroutine; "
        "make the function a coroutine function"
    )


def run_sync_from_thread(func: Callable[..., Any], args: tuple[Any, ...], token: object) -> Any:
    """Calls a function."""
    del token
    with _event_loop():
        return func(*args)


def check_cancelled() -> None:
    """Nothing can be cancelled while a function runs."""


@contextmanager
def _event_loop() -> Iterator[None]:
    before = _get_running_loop()
    _set_running_loop(guest_loop.loop)
    try:
        yield
    finally:
        _set_running_loop(before)


#: `checkpoint_if_cancelled` of anyio's backend.
_checkpoint: list[Callable[[], Coroutine[Any, Any, None]]] = []
