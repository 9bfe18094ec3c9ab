"""Work that is done after the response: `BackgroundTask`, `BackgroundTasks`."""

import logging
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any

__all__ = ["BackgroundTask", "BackgroundTasks"]


class BackgroundTask:
    """One function, synchronous or not, that is called when the response has been sent."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs

    async def __call__(self) -> None:
        result = self.function(*self.args, **self.kwargs)
        if isawaitable(result):
            await result


class BackgroundTasks(BackgroundTask):
    """Several of them, called one after the other. One that fails is logged, and the next one runs.

    A handler that has a parameter of this type adds its tasks to it. They count against the request's deadline and its
    processor time; in the isolation `fresh` the request's instance lives until they have ended.
    """

    def __init__(self, tasks: Sequence[BackgroundTask] = ()) -> None:
        self.tasks: list[Any] = list(tasks)

    def add_task(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Adds a call of `function`."""
        self.tasks.append(BackgroundTask(function, *args, **kwargs))

    async def __call__(self) -> None:
        for task in self.tasks:
            try:
                await task()
            except Exception:
                _logger.exception("a background task failed")


_logger = logging.getLogger("covet")
