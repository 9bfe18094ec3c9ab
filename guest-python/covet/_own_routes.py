"""The routes that every application has: its OpenAPI document with its pages, and what answers where no route does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ._matching import MethodNotAllowed, RouteKey
from ._matching import Router as Matcher
from .exceptions import HTTPException
from .requests import Request
from .responses import Response
from .routing import Route

if TYPE_CHECKING:
    from .applications import CovetPy

__all__ = ["document_routes", "fallback_route"]


def document_routes(app: "CovetPy") -> Iterator[Route]:
    """The route of the OpenAPI document, and those of the pages that show it."""
    if app.openapi_url is None:
        return

    def openapi() -> Response:
        return Response(app.openapi_json(), media_type="application/json")

    yield Route(app.openapi_url, openapi, ["GET"], {"name": "openapi", "include_in_schema": False})
    if app.docs_url is not None or app.redoc_url is not None:
        from .docs import pages

        for path, handler in pages(app):
            yield Route(path, handler, ["GET"], {"include_in_schema": False})


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


FALLBACK = "/{path:path}"
