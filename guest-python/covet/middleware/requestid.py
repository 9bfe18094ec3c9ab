"""A name for each request, for its response and the lines of the log that belong to it."""

import logging
import os
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from covet.responses import Response

from ._shared import header_name as _header_name
from .base import BaseMiddleware

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["RequestIDFilter", "RequestIDMiddleware", "get_request_id", "request_id"]

#: The id of the request that is being handled, None outside of requests.
request_id: ContextVar[str | None] = ContextVar("covet_request_id", default=None)


class RequestIDMiddleware(BaseMiddleware):
    """Gives each request an id: in `request.state.request_id`, in the context variable `request_id`, and in the field
    `header_name` of the response.

    `generator` is a function without arguments that makes ids; without it they are 32 random hexadecimal digits. With
    `trust_incoming` the id that the request brings in the field is kept, if it is between 1 and 128 letters, digits and
    `. _ : + / = @ -`; otherwise a new one is made, so a client cannot put lines into a log with it.
    """

    def __init__(
        self,
        *,
        header_name: str = "x-request-id",
        trust_incoming: bool = False,
        generator: Callable[[], str] | None = None,
    ) -> None:
        self._header = _header_name("header_name", header_name)
        self._trust_incoming = trust_incoming
        if generator is not None and not callable(generator):
            raise ValueError(f"generator is a function that returns an id, not {generator!r}")
        self._generator = generator or new_id

    def process_request(self, request: "Request") -> None:
        value = None
        if self._trust_incoming:
            incoming = request.headers.getlist(self._header)
            if len(incoming) == 1 and _ID.fullmatch(incoming[0]) is not None:
                value = incoming[0]
        if value is None:
            value = self._generator()
        request.state.request_id = value
        # It is never reset: the context is that of the request, and what runs after the response, as background tasks and
        # streamed bodies do, is to have the id, too.
        request_id.set(value)

    def process_response(self, request: "Request", response: Response) -> None:
        response.headers[self._header] = request.state.request_id


class RequestIDFilter(logging.Filter):
    """Gives each log record `request_id`, for formats such as `"%(request_id)s %(message)s"`; `-` outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get() or "-"
        return True


def get_request_id() -> str | None:
    """The id of the request that is being handled, None outside of requests and without RequestIDMiddleware."""
    return request_id.get()


def new_id() -> str:
    """128 random bits in hexadecimal digits."""
    return os.urandom(16).hex()


_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
