"""What is around handlers: from what is registered to functions of request and `call_next`."""

from collections.abc import Callable, Sequence
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from covet.requests import Request
from covet.responses import Response, as_response
from covet.types import Middleware

__all__ = ["hooks", "instance_of", "registered"]

#: Awaited with the request and `call_next`, gives the response.
Around = Callable[[Request, Any], Any]


def registered(middleware: Sequence[Middleware]) -> list[Middleware]:
    """The same, each class as a pair with its options that is like no other: one object is made of it, for all its routes."""
    pairs: list[Middleware] = []
    for one in middleware:
        if isinstance(one, type):
            one = (one, {})
        elif isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], type):
            one = (one[0], dict(one[1]))
        pairs.append(one)
    return pairs


def instance_of(middleware: Middleware) -> Around:
    """The function of a middleware: of a class, which is called without options, of `(class, options)`, or as it is."""
    options: dict[str, Any] = {}
    if isinstance(middleware, tuple) and len(middleware) == 2 and isinstance(middleware[0], type):
        middleware, options = middleware[0], dict(middleware[1])
    if isinstance(middleware, type):
        try:
            middleware = middleware(**options)
        except TypeError as error:
            raise TypeError(f"the middleware {middleware.__name__} cannot be made: {error}") from error
    if not callable(middleware):
        raise TypeError(f"{middleware!r} is no middleware: a class, or a function of request and call_next")
    return middleware if _is_coroutine_function(middleware) else _awaitable(middleware)


def hooks(before: Sequence[Callable[..., Any]], after: Sequence[Callable[..., Any]]) -> Around:
    """The middleware that the functions of `before_request` and `after_request` are."""

    async def call_hooks(request: Request, call_next: Any) -> Response:
        response: Response | None = None
        for hook in before:
            result = hook(request)
            if isawaitable(result):
                result = await result
            if result is not None:
                response = as_response(result, 200)
                break
        if response is None:
            response = await call_next(request)
        for hook in after:
            result = hook(request, response)
            if isawaitable(result):
                result = await result
            if result is not None:
                response = as_response(result, response.status_code)
        return response

    return call_hooks


def _awaitable(middleware: Callable[[Request, Any], Any]) -> Around:
    """A plain function returns the response, or `call_next(request)`, which is awaited for it."""

    async def call(request: Request, call_next: Any) -> Response:
        result = middleware(request, call_next)
        response: Response = await result if isawaitable(result) else result
        return response

    call.__name__ = getattr(middleware, "__name__", type(middleware).__name__)
    return call


def _is_coroutine_function(middleware: Any) -> bool:
    return iscoroutinefunction(middleware) or iscoroutinefunction(getattr(type(middleware), "__call__", None))  # noqa: B004
