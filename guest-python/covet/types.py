"""Types that several modules and applications share."""

from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, Literal, TypeAlias

from .datastructures import Headers, PathParams, QueryParams, State

__all__ = ["Chunk", "Chunks", "Endpoint", "ErrorDetail", "ExceptionHandler", "Handler", "Headers", "Hook", "Isolation"]
__all__ += ["Middleware", "PathParams", "QueryParams", "State"]

#: A handler of a route: a function or a coroutine function.
Endpoint: TypeAlias = Callable[..., Any]

#: A piece of a streamed body; text is sent as UTF-8.
Chunk: TypeAlias = str | bytes | bytearray | memoryview

#: What a streamed body is made of.
Chunks: TypeAlias = Iterable[Chunk] | AsyncIterable[Chunk]

#: From a request to an awaitable response: what a middleware gets as `call_next`.
Handler: TypeAlias = Callable[..., Any]

#: A middleware: a class with `__call__(request, call_next)`, an object or a function like it, or a class with its options.
Middleware: TypeAlias = Any

#: Called with the request and the exception; returns whatever a handler may return.
ExceptionHandler: TypeAlias = Callable[..., Any]

#: A function or coroutine function without arguments that runs at startup or shutdown.
Hook: TypeAlias = Callable[[], Any]

#: What of other requests a request can see: nothing; what its instance's earlier requests left; or what all requests of its
#: instance do.
Isolation: TypeAlias = Literal["fresh", "reuse", "shared"]

#: One error of a 422 response: `type`, `loc`, `msg`, `input` and, for some types, `ctx`.
ErrorDetail: TypeAlias = dict[str, Any]
