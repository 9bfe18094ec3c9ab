"""The routes that every application has: its OpenAPI document with its pages, and what answers where no route does."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from covet._native.matching import MethodNotAllowed, RouteKey
from covet._native.matching import Router as Matcher
from covet.exceptions import HTTPException
from covet.requests import Request
from covet.responses import Response
from covet.routing import Route

if TYPE_CHECKING:
    from covet.applications import CovetPy

__all__ = ["document_routes", "fallback_route", "preflight_routes"]


def document_routes(app: "CovetPy") -> Iterator[Route]:
    """The route of the OpenAPI document, and those of the pages that show it."""
    if app.openapi_url is None:
        return

    def openapi() -> Response:
        return Response(app.openapi_json(), media_type="application/json")

    yield Route(app.openapi_url, openapi, ["GET"], {"name": "openapi", "include_in_schema": False})
    if app.docs_url is not None or app.redoc_url is not None:
        from covet.docs import pages

        for path, handler in pages(app):
            yield Route(path, handler, ["GET"], {"include_in_schema": False})


def preflight_routes(app: "CovetPy") -> Iterator[Route]:
    """The routes of methods that the middleware of a router or a route answers, such as `OPTIONS` for CORS."""
    taken = {(method, route.pattern) for route in app.routes for method in route.methods}
    for route in list(app.routes):
        allowed = ", ".join(sorted(method for method, pattern in taken if pattern == route.pattern))
        wanted = {method for one in route.middleware for method in getattr(_class_of(one), "answers_methods", ())}
        for method in sorted(wanted):
            if {(method, route.pattern), ("", route.pattern)} & taken:
                continue
            taken.add((method, route.pattern))
            yield route.answered_by_middleware(method, _not_allowed(allowed))


def fallback_route(app: "CovetPy") -> Route:
    """The route of everything that no other takes, so that middleware and handlers of 404 and 405 see it."""
    matcher = Matcher([RouteKey(method, route.pattern, route.name) for route in app.routes for method in route.methods])

    def fallback(request: Request) -> None:
        try:
            found = matcher.find(request.method, request.target.partition("?")[0])
        except ValueError:
            found = None
        if isinstance(found, MethodNotAllowed):
            raise HTTPException(405, headers={"allow": found.allow})
        raise HTTPException(404)

    return Route(FALLBACK, fallback, ["*"], {"name": "fallback", "include_in_schema": False})


def _not_allowed(allowed: str) -> Callable[[], None]:
    def not_allowed() -> None:
        raise HTTPException(405, headers={"allow": allowed})

    return not_allowed


def _class_of(middleware: Any) -> Any:
    return middleware[0] if isinstance(middleware, tuple) else middleware


FALLBACK = "/{path:path}"
