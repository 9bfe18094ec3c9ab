"""Exceptions that applications raise and catch."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from .types import ErrorDetail

__all__ = ["HTTPException", "HostUnavailable", "InvalidBody", "RequestValidationError", "ResponseValidationError"]


class HTTPException(Exception):
    """Ends the handling of a request with a response that has `detail` in it.

    `detail` is anything that can be written as JSON; without it, it is the phrase of the status ("Not Found").
    """

    def __init__(self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None) -> None:
        if detail is None:
            try:
                detail = HTTPStatus(status_code).phrase
            except ValueError:
                detail = ""
        super().__init__(status_code, detail)
        self.status_code = status_code
        self.detail = detail
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status_code}: {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(status_code={self.status_code!r}, detail={self.detail!r})"


class InvalidBody(HTTPException, ValueError):
    """A body is not what `request.json()` reads. It is a 400, and a ValueError for whoever catches those."""


class RequestValidationError(Exception):
    """A request does not fit the parameters of its handler. Without a handler for it the answer is a 422.

    `body` is what has been sent, or a function that reads it when it is asked for.
    """

    def __init__(self, errors: Sequence[ErrorDetail], body: Any = None) -> None:
        super().__init__(errors)
        self._errors = list(errors)
        self._body = body

    @property
    def body(self) -> Any:
        """The body of the request as JSON or a form, text that is not valid JSON, octets of another type; None without one."""
        return self._body() if callable(self._body) else self._body

    def errors(self) -> list[ErrorDetail]:
        """Every error: those of dependencies first, then of the path, the query, headers, cookies and the body."""
        return self._errors

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in self._errors)


class ResponseValidationError(Exception):
    """What a handler returned does not fit the model of its responses. The answer is a 500."""

    def __init__(self, errors: Sequence[ErrorDetail]) -> None:
        super().__init__(errors)
        self._errors = list(errors)

    def errors(self) -> list[ErrorDetail]:
        """Every error."""
        return self._errors

    def __str__(self) -> str:
        places = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}" for error in self._errors)
        return f"the result of the handler does not fit its response model: {places}"


class HostUnavailable(RuntimeError):
    """A function of the host was called where there is no host: at import, or outside covet-host."""
