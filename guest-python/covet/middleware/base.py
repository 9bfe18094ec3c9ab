"""What a middleware is: code that runs around the handlers of an application, or of a router or a route."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from covet.responses import Response

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["BaseMiddleware", "CallNext"]

#: Goes on with the request: to the next middleware, in the end to the handler. Awaited, it gives the response.
CallNext: TypeAlias = "Callable[[Request], Awaitable[Response]]"


class BaseMiddleware:
    """The base of middleware. Override `process_request` and `process_response`, or `__call__` for all of it.

    An application makes one object when it is built, with the options of `add_middleware`, and uses it for every request;
    what belongs to a request is kept in `request.state`. The middleware that was added first is the outermost.
    """

    #: Methods that the middleware answers for the routes that it is around. Where it is around those of a router or a single
    #: one, the application registers them there: the host finds routes before the application is asked.
    answers_methods: ClassVar[tuple[str, ...]] = ()

    #: The options of a class that has no `__init__` of its own.
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, **options: Any) -> None:
        if options:
            self.options = MappingProxyType(options)

    def process_request(self, request: "Request") -> Response | Awaitable[Response | None] | None:
        """Called on the way in; it may be `async`. A response that it returns is sent back from here: what is further in,
        and `process_response` of this middleware, are not called."""
        return None

    def process_response(self, request: "Request", response: Response) -> Response | Awaitable[Response | None] | None:
        """Called on the way out; it may be `async`. It changes the response, or returns another one in its place.

        An HTTPException and everything that has an exception handler has become a response by then. Other exceptions pass
        all middleware and are answered with a 500.
        """
        return None

    async def __call__(self, request: "Request", call_next: CallNext) -> Response:
        """Handles a request: the two methods above around `await call_next(request)`."""
        result = self.process_request(request)
        if result is not None:
            answer = await self._settled(result, "process_request")
            if answer is not None:
                return answer
        response = await call_next(request)
        result = self.process_response(request, response)
        if result is not None:
            return await self._settled(result, "process_response") or response
        return response

    async def _settled(self, result: Any, method: str) -> Response | None:
        if not isinstance(result, Response) and isawaitable(result):
            result = await result
        if result is not None and not isinstance(result, Response):
            raise TypeError(f"{type(self).__name__}.{method} returns a Response or None, not {type(result).__name__}")
        return result
