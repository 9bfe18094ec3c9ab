"""From exceptions to responses: which handler is meant, and what happens without one."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from html import escape
from inspect import isawaitable
from typing import TYPE_CHECKING

from covet._guest import bridge
from covet._models.model import dump_errors
from covet.exceptions import HTTPException, RequestValidationError
from covet.requests import Request
from covet.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, allows_body, as_response
from covet.types import ExceptionHandler

if TYPE_CHECKING:
    from covet.applications import CovetPy

__all__ = ["Handlers", "answer", "answer_for_certain", "answer_record"]

#: By class of exception or by status.
Handlers = Mapping[int | type[BaseException], ExceptionHandler]


async def answer(levels: Sequence[Handlers], request: Request, error: BaseException) -> Response | None:
    """The response to an exception that somebody expects: of a handler, or of its own; None for others.

    `levels` are those of the route, of its routers and of the application, in this order; the first that knows the
    exception's class, or the nearest of its base classes, is asked. Handlers of `Exception` and of 500 are not among
    those: they are for `answer_for_certain`.
    """
    handler = _handler_of(levels, error)
    if handler is not None:
        result = handler(request, error)
        if isawaitable(result):
            result = await result
        return as_response(result, _status_of(error))
    if isinstance(error, HTTPException):
        return _of_http_exception(error)
    if isinstance(error, RequestValidationError):
        return _of_validation_error(error)
    return None


async def answer_for_certain(app: "CovetPy", levels: Sequence[Handlers], request: Request, error: BaseException) -> Response:
    """The response to any exception, also to one that a handler of exceptions has raised."""
    try:
        response = await answer(levels, request, error)
        if response is not None:
            return response
    except BaseException as second:
        error = second
    return await _unexpected(app, levels, request, error)


async def answer_record(
    app: "CovetPy", levels: Sequence[Handlers], request: Request, error: BaseException
) -> "bridge.ResponseRecord":
    """As `answer_for_certain`, as the record that the host gets. It never raises."""
    try:
        response = await answer_for_certain(app, levels, request, error)
        return prepared(response, request)._lower()
    except BaseException:
        _logger.exception("%s %s: the response to an exception could not be made", request.method, request.target)
        return bridge.internal_error(None)


def prepared(response: Response, request: Request) -> Response:
    """The response, fitted to the request where it is one that depends on it."""
    return response if response._prepare is None else response._prepare(request)


def plain_record(error: BaseException) -> "bridge.ResponseRecord | None":
    """The response to an exception that has one of its own, without any handlers; None for others."""
    if isinstance(error, HTTPException):
        return _of_http_exception(error)._lower()
    if isinstance(error, RequestValidationError):
        return _of_validation_error(error)._lower()
    return None


async def _unexpected(app: "CovetPy", levels: Sequence[Handlers], request: Request, error: BaseException) -> Response:
    """The response to an exception that nobody expects."""
    _logger.error("%s %s: unhandled exception", request.method, request.target, exc_info=error)
    if app.debug:
        return _debug_page(request, error)
    for level in levels:
        handler = level.get(500) or level.get(Exception)
        if handler is not None:
            try:
                result = handler(request, error)
                if isawaitable(result):
                    result = await result
                return as_response(result, 500)
            except BaseException:
                _logger.exception("%s %s: the handler of exceptions failed", request.method, request.target)
                break
    return Response(bridge.INTERNAL_ERROR, 500, media_type="application/json")


def _handler_of(levels: Sequence[Handlers], error: BaseException) -> ExceptionHandler | None:
    status = error.status_code if isinstance(error, HTTPException) else None
    for level in levels:
        if not level:
            continue
        if status is not None and status in level:
            return level[status]
        for type_ in type(error).__mro__:
            if type_ in level and type_ is not Exception and type_ is not BaseException:
                return level[type_]
    return None


def _of_http_exception(error: HTTPException) -> Response:
    if not allows_body(error.status_code):
        return Response(None, error.status_code, error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _of_validation_error(error: RequestValidationError) -> Response:
    return Response(f'{{"detail":{dump_errors(error.errors())}}}', 422, media_type="application/json")


def _status_of(error: BaseException) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    return 422 if isinstance(error, RequestValidationError) else 500


def _debug_page(request: Request, error: BaseException) -> Response:
    """The traceback, as a page for browsers and as text for others."""
    text = "".join(traceback.format_exception(error))
    if request.accepts("text/plain", "text/html") != "text/html":
        return PlainTextResponse(text, 500)
    title = escape(f"{type(error).__name__}: {error}")
    rows = "".join(f"<tr><th scope=row>{escape(name)}<td>{escape(value)}" for name, value in _described(request).items())
    return HTMLResponse(_PAGE.format(title=title, trace=escape(text), rows=rows), 500)


def _described(request: Request) -> dict[str, str]:
    return {"request": f"{request.method} {request.target}", "client": request.client.host, **dict(request.headers)}


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><title>{title}</title>
<style>body{{font:1rem/1.5 system-ui;margin:2rem}}pre{{background:#f4f4f4;padding:1rem;overflow:auto}}
th{{text-align:left;padding-right:1rem;vertical-align:top}}</style>
<h1>{title}</h1><pre>{trace}</pre><h2>Request</h2><table>{rows}</table></html>
"""
_logger = logging.getLogger("covet")
