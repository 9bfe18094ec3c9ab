"""What a handler sees of a request. Everything is read when it is asked for, not before."""

import json
from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from . import _bridge
from .datastructures import URL, Address, Headers, QueryParams, State
from .exceptions import HTTPException

if TYPE_CHECKING:
    from .applications import CovetPy

__all__ = ["Request"]


_UNREAD: Any = object()


class Request:
    """One request.

    Its body can be read once, by `body`, `text` or `stream`; `json` reads it and keeps what it found.
    """

    _json: Any = _UNREAD

    def __init__(self, record: "_bridge.RequestRecord", app: "CovetPy", path_names: tuple[str, ...] = ()) -> None:
        self._record = record
        self._path_names = path_names
        self._consumed = False
        #: The application that serves the request.
        self.app = app

    @property
    def method(self) -> str:
        """In upper case. `HEAD` where a route for `GET` answers a `HEAD` request."""
        return self._record.method

    @cached_property
    def url(self) -> URL:
        """The whole URL, still percent-encoded."""
        return URL(self._record.origin + self._record.target)

    @property
    def target(self) -> str:
        """Path and query string as received, still percent-encoded."""
        return self._record.target

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded, without the query string."""
        return unquote(self._record.target.partition("?")[0])

    @cached_property
    def query_params(self) -> QueryParams:
        return QueryParams(self._record.target.partition("?")[2])

    @cached_property
    def path_params(self) -> dict[str, str]:
        """The placeholders of the route's path with their values, percent-decoded."""
        return dict(zip(self._path_names, self._record.params, strict=False))

    @cached_property
    def headers(self) -> Headers:
        return Headers.wrap(self._record.headers)

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies. Where a name occurs several times its first value counts."""
        cookies: dict[str, str] = {}
        for header in self.headers.getlist("cookie"):
            for part in header.split(";"):
                name, equals, value = part.strip().partition("=")
                if equals:
                    cookies.setdefault(name.strip(), _unquoted(value.strip()))
        return cookies

    @cached_property
    def client(self) -> Address:
        """Address and port of the client."""
        return Address.parse(self._record.peer)

    @cached_property
    def state(self) -> State:
        """A place for attributes that belong to this request."""
        return State()

    async def body(self) -> bytes:
        """The whole body. Raises RuntimeError when the body has been read before."""
        self._consume()
        return await _bridge.read_bytes(self._record)

    async def text(self) -> str:
        """The whole body as UTF-8 text; octets that are not UTF-8 are replaced. It counts as reading the body."""
        self._consume()
        body = self._record.body
        if type(body) is _bridge.BodyText:
            return body.value
        return (await _bridge.read_bytes(self._record)).decode(errors="replace")

    async def json(self) -> Any:
        """The body read as JSON; the same object each time.

        A body that is not JSON, or is nested too deeply, ends the request with a 400 unless HTTPException is caught.
        """
        if self._json is not _UNREAD:
            return self._json
        self._consume()
        body = self._record.body
        data = body.value if type(body) is _bridge.BodyText else await _bridge.read_bytes(self._record)
        try:
            self._json = json.loads(data)
        except RecursionError:
            raise HTTPException(400, "The body is JSON that is nested too deeply") from None
        except ValueError as error:
            raise HTTPException(400, f"The body is not valid JSON: {error}") from None
        return self._json

    def stream(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it arrives, for `async for`. It counts as reading the body."""
        self._consume()
        return _bridge.BodyChunks(self._record)

    def _consume(self) -> None:
        if self._consumed:
            raise RuntimeError("the body of the request has been read already")
        self._consumed = True

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
