"""Says in each response how long it took."""

from time import perf_counter
from typing import TYPE_CHECKING

from covet.responses import Response

from ._shared import TOKEN
from ._shared import header_name as _header_name
from .base import BaseMiddleware, CallNext

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["TimingMiddleware"]


class TimingMiddleware(BaseMiddleware):
    """Puts the time from here to the response into a header field.

    In `server-timing`, which browsers show, it is in milliseconds and called `metric`, beside what handlers put there; in
    any other field, `x-process-time` for example, it is a number of seconds. What a streamed body takes is not in it.
    """

    def __init__(self, *, header_name: str = "server-timing", metric: str = "app") -> None:
        self._header = _header_name("header_name", header_name)
        if not isinstance(metric, str) or TOKEN.fullmatch(metric) is None:
            raise ValueError(f"metric: {metric!r} is no name for a metric of server-timing")
        self._metric = metric

    async def __call__(self, request: "Request", call_next: CallNext) -> Response:
        start = perf_counter()
        response = await call_next(request)
        seconds = perf_counter() - start
        if self._header == "server-timing":
            response.headers.append("server-timing", f"{self._metric};dur={seconds * 1000:.3f}")
        else:
            response.headers[self._header] = f"{seconds:.6f}"
        return response
