"""What does not work is part of the answers."""

import inspect
from collections.abc import Callable
from typing import Any


async def error_of(use: Callable[[], Any]) -> str:
    """The exception of something that fails."""
    try:
        result = use()
        if inspect.isawaitable(result):
            await result
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"
