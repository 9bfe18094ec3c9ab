"""What a handler may return, and how it becomes a response."""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from . import _bridge
from ._json import encode_json
from .datastructures import MutableHeaders
from .types import Chunks

if TYPE_CHECKING:
    from .requests import Request

__all__ = [
    "HTMLResponse",
    "JSONResponse",
    "PlainTextResponse",
    "RedirectResponse",
    "Response",
    "StreamingResponse",
    "XMLResponse",
    "encode_json",
]

#: Work after the response: a function that returns something to await.
After = Callable[[], Any]


class Response:
    """A response with its whole body.

    Text is sent as UTF-8. `media_type` becomes the `content-type`, with `charset=utf-8` where it begins with `text/`.
    """

    media_type: str | None = None
    #: For responses that depend on the request, on its conditions or ranges for example.
    _prepare: "Callable[[Request], Response] | None" = None

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        media_type: str | None = None,
        background: After | None = None,
    ) -> None:
        self.status_code = status_code
        #: What is called when the response has been sent: a BackgroundTask, or another function without arguments.
        self.background = background
        if media_type is not None:
            self.media_type = media_type
        self.headers = MutableHeaders()
        if self.media_type is not None:
            self.headers._items.append(("content-type", _with_charset(self.media_type)))
        if headers is not None:
            if isinstance(headers, Mapping):
                self.headers.update(headers)
            else:
                for name, value in headers:
                    if name.lower() == "content-type":
                        self.headers[name] = value
                    else:
                        self.headers.append(name, value)
        self.body = self.render(content)

    def render(self, content: Any) -> str | bytes:
        """Turns the content into the body. Raises TypeError when it cannot."""
        if content is None:
            return ""
        if isinstance(content, (bytearray, memoryview)):
            return bytes(content)
        if not isinstance(content, (str, bytes)):
            raise TypeError(f"the content of a {type(self).__name__} is str or bytes, not {type(content).__name__}")
        return content

    def set_cookie(
        self,
        key: str,
        value: str = "",
        max_age: int | None = None,
        expires: datetime | str | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Adds a `set-cookie` field. `max_age` is in seconds."""
        parts = [f"{key}={value}"]
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
        if expires is not None:
            parts.append(f"expires={expires if isinstance(expires, str) else _http_date(expires)}")
        if path is not None:
            parts.append(f"Path={path}")
        if domain is not None:
            parts.append(f"Domain={domain}")
        parts += [word for word, wanted in (("Secure", secure), ("HttpOnly", httponly)) if wanted]
        if samesite is not None:
            parts.append(f"SameSite={samesite}")
        self.headers.append("set-cookie", "; ".join(parts))

    def delete_cookie(self, key: str, path: str = "/", domain: str | None = None) -> None:
        """Makes the client forget a cookie."""
        self.set_cookie(key, max_age=0, expires="Thu, 01 Jan 1970 00:00:00 GMT", path=path, domain=domain)

    def _lower(self, after: After | None = None) -> "_bridge.ResponseRecord":
        """The record that the host gets; `after` is done when the response has been sent, and after its background."""
        if self.background is not None or after is not None:
            _bridge.run_after(_in_turn(self.background, after))
        return _bridge.response(self.status_code, self.headers._items, self.body)


class PlainTextResponse(Response):
    media_type = "text/plain"


class HTMLResponse(Response):
    media_type = "text/html"


class XMLResponse(Response):
    media_type = "application/xml"


class JSONResponse(Response):
    """A response whose content is written as JSON, see `encode_json`."""

    media_type = "application/json"

    def render(self, content: Any) -> str | bytes:
        return encode_json(content)


class RedirectResponse(Response):
    """Sends the client to another URL, with the same method unless `status_code` says otherwise."""

    def __init__(
        self,
        url: object,
        status_code: int = 307,
        headers: Mapping[str, str] | None = None,
        background: After | None = None,
    ) -> None:
        super().__init__(None, status_code, headers, None, background)
        self.headers["location"] = quote(str(url), safe=":/%#?=@[]!$&'()*+,;~")


class StreamingResponse(Response):
    """A response whose body is sent while an iterator makes it, piece by piece.

    The iterator, synchronous or asynchronous, yields str or bytes. It is closed when the client has gone. When it raises,
    the exception is logged and the body ends there, because the status has been sent.
    """

    def __init__(
        self,
        content: Chunks,
        status_code: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        media_type: str | None = None,
        background: After | None = None,
    ) -> None:
        if not isinstance(content, (AsyncIterable, Iterable)) or isinstance(content, (str, bytes)):
            raise TypeError(f"the content of a StreamingResponse is an iterator, not {type(content).__name__}")
        super().__init__(None, status_code, headers, media_type, background)
        #: The pieces. A middleware may put another iterator in its place.
        self.body_iterator = content

    def _lower(self, after: After | None = None) -> "_bridge.ResponseRecord":
        if self.background is not None or after is not None:
            after = _in_turn(self.background, after)
        return _bridge.streaming_response(self.status_code, self.headers._items, self.body_iterator, after)


def as_record(result: Any, status: int) -> "_bridge.ResponseRecord":
    """What a handler returned, as the record that the host gets. `status` is that of the route."""
    if isinstance(result, str):
        return _bridge.response(status, TEXT_HEADERS, str(result))
    if isinstance(result, Response):
        return result._lower()
    type_ = type(result)
    if type_ is tuple or type_ is GeneratorType or type_ is AsyncGeneratorType:
        return as_response(result, status)._lower()
    if isinstance(result, (bytes, bytearray, memoryview)):
        return _bridge.response(status, BYTES_HEADERS, bytes(result))
    if result is None and (status in (204, 304) or status < 200):
        return _bridge.response(status, [], "")
    return _bridge.response(status, JSON_HEADERS, encode_json(result))


def as_response(result: Any, status: int) -> Response:
    """What a handler returned, as a Response. `status` is that of the route."""
    if isinstance(result, Response):
        return result
    if type(result) is tuple:
        return _of_tuple(result, as_response)
    if isinstance(result, str):
        return PlainTextResponse(str(result), status)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Response(result, status, media_type="application/octet-stream")
    if isinstance(result, (GeneratorType, AsyncGeneratorType)):
        return StreamingResponse(result, status)
    if result is None and (status in (204, 304) or status < 200):
        return Response(None, status)
    return JSONResponse(result, status)


def _of_tuple(result: tuple[Any, ...], convert: Callable[[Any, int], Response]) -> Response:
    """`(body, status)` and `(body, status, headers)`."""
    if not 2 <= len(result) <= 3 or type(result[1]) is not int:
        raise TypeError(
            f"a handler may return (body, status) or (body, status, headers), not {result!r}; for JSON return a list"
        )
    response = convert(result[0], result[1])
    response.status_code = result[1]
    if len(result) == 3 and result[2] is not None:
        response.headers.update(result[2])
    return response


def _in_turn(first: After | None, second: After | None) -> After:
    """Both, one after the other, also when the first one fails."""

    async def run() -> None:
        try:
            if first is not None:
                await first()
        finally:
            if second is not None:
                await second()

    return run


def _http_date(moment: datetime) -> str:
    """A time as HTTP has it; one without a zone is taken for UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{_DAYS[moment.weekday()]}, {moment:%d} {_MONTHS[moment.month - 1]} {moment:%Y %H:%M:%S} GMT"


def _with_charset(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") and "charset" not in media_type else media_type


JSON_HEADERS = [("content-type", "application/json")]
TEXT_HEADERS = [("content-type", "text/plain; charset=utf-8")]
BYTES_HEADERS = [("content-type", "application/octet-stream")]

# Not from strftime, which uses the locale's names.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
