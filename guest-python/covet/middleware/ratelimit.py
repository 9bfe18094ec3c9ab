"""Limits how often a client may ask."""

import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import AddressValueError, IPv6Address
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from covet.responses import JSONResponse, Response

from ._shared import TOKEN, Paths, put, whole_number
from .base import BaseMiddleware, CallNext

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["Allowance", "MemoryStorage", "RateLimitMiddleware", "RateLimitStorage", "client_address"]


@dataclass(slots=True)
class Allowance:
    """What a storage says about one request."""

    allowed: bool
    #: How many requests are left at this moment.
    remaining: int
    #: Seconds until the next request will be allowed; 0 if it would be now.
    retry_after: float
    #: Seconds until all requests are there again.
    reset_after: float


class RateLimitStorage(Protocol):
    """Where the requests are counted. A storage outside of the instance makes limits hold for all instances."""

    def take(self, key: str, limit: int, period: float) -> Allowance | Awaitable[Allowance]:
        """Takes one request of a key, of which `limit` are allowed in `period` seconds. It must do so in one step, because
        requests may overlap. It may be `async`."""


class RateLimitMiddleware(BaseMiddleware):
    """Allows each client `limit` requests in `period` seconds, and answers more with a 429.

    `limit` may have both, as in `"100/minute"` or `"20/10 seconds"` (second, minute, hour, day). It is a token bucket: the
    requests may come at once, and they come back evenly over the period. `key` is a function from the request to the
    text that names a client, by default `client_address`; None stands for no limit. It must not be something that a
    client can choose freely, and behind a proxy the address is that of the proxy. `exempt` are paths without a limit, with
    `/*` at the end for all below.

    Responses say how many requests are left: `x-ratelimit-limit`, `-remaining` and `-reset` (in seconds), and `ratelimit`
    and `ratelimit-policy` (draft-ietf-httpapi-ratelimit-headers), in which the limit is called `name`; a 429 also has
    `retry-after`. With `headers=False` only that one is sent.

    **It counts in memory, for each instance on its own.** With the isolation `fresh` every request begins with the memory
    as it was at startup, so nothing is ever counted and nothing is limited; with `reuse` and `shared` a client may have
    `limit` requests from each of the instances. Where a limit must hold, give a `storage` that is outside of the
    instances, see `RateLimitStorage`; limits that share one need different names. The storage in memory keeps
    `max_keys` clients, and forgets those first that have not been seen for the longest time.
    """

    def __init__(
        self,
        limit: int | str,
        *,
        period: float | None = None,
        key: "Callable[[Request], str | None] | None" = None,
        exempt: Collection[str] = (),
        storage: RateLimitStorage | None = None,
        max_keys: int = 10_000,
        name: str = "default",
        headers: bool = True,
    ) -> None:
        self.limit, self.period = parse_limit(limit, period)
        if key is not None and not callable(key):
            raise ValueError(f"key is a function of the request, not {key!r}")
        if storage is not None and not callable(getattr(storage, "take", None)):
            raise ValueError(f"storage has a method take, see RateLimitStorage; {storage!r} has none")
        if not isinstance(name, str) or TOKEN.fullmatch(name) is None:
            raise ValueError(f"name: {name!r} is no token, such as 'default'")
        self._key = key or client_address
        self._exempt = Paths("exempt", exempt)
        self._storage = storage or MemoryStorage(max_keys=max_keys)
        self._name = name
        self._headers = headers
        self._policy = f'"{name}";q={self.limit};w={ceil(self.period)}'

    async def __call__(self, request: "Request", call_next: CallNext) -> Response:
        key = None if self._exempt.covers(request) else self._key(request)
        if key is None:
            return await call_next(request)
        if len(key) > KEY_LENGTH_MAX:
            # A key that a client makes long must not take more memory than others.
            key = sha256(key.encode(errors="surrogatepass")).hexdigest()
        taken = self._storage.take(f"{self._name}:{key}", self.limit, self.period)
        allowance = taken if isinstance(taken, Allowance) else await taken
        if allowance.allowed:
            response = await call_next(request)
        else:
            response = JSONResponse({"detail": "Too Many Requests"}, 429)
            response.headers["retry-after"] = str(max(1, ceil(allowance.retry_after)))
        if self._headers:
            self._describe(response, allowance)
        return response

    def _describe(self, response: Response, allowance: Allowance) -> None:
        remaining, reset = str(allowance.remaining), str(ceil(allowance.reset_after))
        headers = response.headers
        put(
            headers,
            [("x-ratelimit-limit", str(self.limit)), ("x-ratelimit-remaining", remaining), ("x-ratelimit-reset", reset)],
        )
        # Lists: another limit, of a route for example, may have put its own there.
        headers.append("ratelimit-policy", self._policy)
        headers.append("ratelimit", f'"{self._name}";r={remaining};t={reset}')


class MemoryStorage:
    """Counts in the memory of the instance, for at most `max_keys` keys.

    What is forgotten first are the keys that were not seen for the longest time, whose requests are most likely all there
    again. `clock` gives seconds.
    """

    def __init__(self, *, max_keys: int = 10_000, clock: Callable[[], float] = monotonic) -> None:
        self._max_keys = whole_number("max_keys", max_keys, 1)
        self._clock = clock
        #: Tokens and when they were counted, those that were asked for last at the end.
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str, limit: int, period: float) -> Allowance:
        """See RateLimitStorage."""
        now = self._clock()
        rate = limit / period
        tokens, counted = self._buckets.pop(key, (float(limit), now))
        tokens = min(float(limit), tokens + max(0.0, now - counted) * rate)
        # What is missing by rounding is not waited for.
        allowed = tokens >= 1 - ROUNDING
        if allowed:
            tokens = max(0.0, tokens - 1)
        self._buckets[key] = (tokens, now)
        if len(self._buckets) > self._max_keys:
            del self._buckets[next(iter(self._buckets))]
        left = int(tokens + ROUNDING)
        return Allowance(allowed, left, 0.0 if left else (1 - tokens) / rate, (limit - tokens) / rate)

    def __len__(self) -> int:
        """How many keys it has."""
        return len(self._buckets)


def client_address(request: "Request") -> str:
    """The address of the client. Of an IPv6 address it is the first 64 bits, because a client has all that begin so."""
    host = request.client.host
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


def parse_limit(limit: int | str, period: float | None) -> tuple[int, float]:
    """The number of requests, and seconds. Raises ValueError."""
    if isinstance(limit, str):
        match = _LIMIT.fullmatch(limit.strip().lower())
        if match is None or match["unit"] not in UNITS:
            raise ValueError(f"limit: {limit!r} is not like '100/minute' or '20/10 seconds'; units: second, minute, hour, day")
        if period is not None:
            raise ValueError(f"period is given, and limit {limit!r} has one, too")
        limit, period = int(match["limit"]), int(match["count"] or 1) * UNITS[match["unit"]]
    elif period is None:
        raise ValueError("period is missing: the seconds in which limit requests are allowed, or limit='100/minute'")
    whole_number("limit", limit, 1)
    if isinstance(period, bool) or not isinstance(period, (int, float)) or not 0 < period < float("inf"):
        raise ValueError(f"period is a number of seconds above 0, not {period!r}")
    return limit, float(period)


_LIMIT = re.compile(r"(?P<limit>[0-9]+) ?/ ?(?P<count>[0-9]+)? ?(?P<unit>[a-z]+?)s?", re.ASCII)
UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
ROUNDING = 1e-6
#: Longer keys are hashed.
KEY_LENGTH_MAX = 128
