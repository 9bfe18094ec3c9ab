"""Starlette's background tasks begin when the response has gone out.

Starlette runs them in the coroutine that sends the response. Where nothing comes after a response it is handed over when
that coroutine ends (`_asgi.exchange`), so a task has to say that something does.
"""

import sys
from functools import wraps
from typing import Any

from covet._guest import loop

__all__ = ["install"]


def install() -> None:
    """Changes Starlette if the application has imported it. May be called again."""
    background = sys.modules.get("starlette.background")
    if background is None or hasattr(background.BackgroundTask.__call__, "__wrapped__"):
        return
    run = background.BackgroundTask.__call__

    @wraps(run)
    async def run_later(task: Any) -> None:
        await loop.let_go()
        await run(task)

    background.BackgroundTask.__call__ = run_later
