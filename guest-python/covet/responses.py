"""What a handler may return, and how it becomes a response."""

import re
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from ._guest import bridge
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
        expires: datetime | str | int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Adds a `set-cookie` field. `max_age`, and `expires` where it is a number, are in seconds from now.

        A value that is more than letters, digits and the signs of a token is quoted, as `http.cookies` does it. Raises
        ValueError for a name that is no token, and for attributes that would be read as several.
        """
        if _TOKEN.fullmatch(key) is None:
            raise ValueError(f"{key!r} is no name of a cookie")
        if isinstance(expires, int):
            expires = datetime.fromtimestamp(time.time() + expires, UTC)
        parts = [f"{key}={quoted_cookie(value)}"]
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
        if expires is not None:
            parts.append(f"expires={expires if isinstance(expires, str) else _http_date(expires)}")
        if path is not None:
            parts.append(f"Path={path}")
        if domain is not None:
            parts.append(f"Domain={domain}")
        words = (("Secure", secure), ("HttpOnly", httponly), ("Partitioned", partitioned))
        parts += [word for word, wanted in words if wanted]
        if samesite is not None:
            parts.append(f"SameSite={samesite}")
        for part in parts[1:]:
            if ";" in part or not part.isprintable():
                raise ValueError(f"{part!r} is no attribute of a cookie")
        self.headers.append("set-cookie", "; ".join(parts))

    def delete_cookie(
        self,
        key: str,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Makes the client forget a cookie. `path` and `domain` are those with which it was set."""
        past = "Thu, 01 Jan 1970 00:00:00 GMT"
        self.set_cookie(
            key, max_age=0, expires=past, path=path, domain=domain, secure=secure, httponly=httponly, samesite=samesite
        )

    def _lower(self, after: After | None = None) -> "bridge.ResponseRecord":
        """The record that the host gets; `after` is done when the response has been sent, and after its background."""
        if self.background is not None or after is not None:
            bridge.run_after(_in_turn(self.background, after))
        return bridge.response(self.status_code, self.headers._items, self.body)


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

    def _lower(self, after: After | None = None) -> "bridge.ResponseRecord":
        if self.background is not None or after is not None:
            after = _in_turn(self.background, after)
        return bridge.streaming_response(self.status_code, self.headers._items, self.body_iterator, after)


def as_record(result: Any, status: int) -> "bridge.ResponseRecord":
    """What a handler returned, as the record that the host gets. `status` is that of the route, one that has a body."""
    if isinstance(result, str):
        return bridge.response(status, TEXT_HEADERS, str(result))
    if isinstance(result, Response):
        return result._lower()
    type_ = type(result)
    if type_ is tuple or type_ is GeneratorType or type_ is AsyncGeneratorType:
        return as_response(result, status)._lower()
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bridge.response(status, BYTES_HEADERS, bytes(result))
    return bridge.response(status, JSON_HEADERS, encode_json(result))


def as_response(result: Any, status: int) -> Response:
    """What a handler returned, as a Response. `status` is that of the route."""
    if isinstance(result, Response):
        return result
    if type(result) is tuple:
        return _of_tuple(result, as_response)
    if not allows_body(status):
        return Response(None, status)
    if isinstance(result, str):
        return PlainTextResponse(str(result), status)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Response(result, status, media_type="application/octet-stream")
    if isinstance(result, (GeneratorType, AsyncGeneratorType)):
        return StreamingResponse(result, status)
    return JSONResponse(result, status)


def allows_body(status: int) -> bool:
    """Whether a response with this status has a body at all (RFC 9110, 6.4.1)."""
    return status >= 200 and status not in (204, 205, 304)


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


def quoted_cookie(value: str) -> str:
    """The value of a cookie, in quotes where it has to be: what is in it cannot become another attribute."""
    if not value or _COOKIE_VALUE.fullmatch(value):
        return value
    return '"' + _COOKIE_SPECIAL.sub(_escaped, value) + '"'


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0] if match[0] in '"\\' else f"\\{ord(match[0]):03o}"


def _http_date(moment: datetime) -> str:
    """A time as HTTP has it; one without a zone is taken for UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{_DAYS[moment.weekday()]}, {moment:%d} {_MONTHS[moment.month - 1]} {moment:%Y %H:%M:%S} GMT"


def _with_charset(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") and "charset" not in media_type else media_type


#: As in RFC 6265, 4.1.1, but for what `http.cookies` quotes beside that.
_TOKEN = re.compile(r"[\w!#$%&'*+\-.^`|~]+", re.ASCII)
_COOKIE_VALUE = re.compile(r"[\w!#$%&'*+\-.^`|~:=/@?()<>\[\]{}]*", re.ASCII)
_COOKIE_SPECIAL = re.compile(r'[\x00-\x1f"\\,;\x7f-\xff]')

JSON_HEADERS = [("content-type", "application/json")]
TEXT_HEADERS = [("content-type", "text/plain; charset=utf-8")]
BYTES_HEADERS = [("content-type", "application/octet-stream")]

# Not from strftime, which uses the locale's names.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
