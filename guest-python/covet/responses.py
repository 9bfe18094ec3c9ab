"""What a handler may return, and how values become responses."""

import dataclasses
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json import encoder as _encoder
from pathlib import PurePath
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from . import _bridge
from .datastructures import MutableHeaders
from .types import Chunks

__all__ = [
    "HTMLResponse",
    "JSONResponse",
    "PlainTextResponse",
    "RedirectResponse",
    "Response",
    "StreamingResponse",
    "encode_json",
]


class Response:
    """A response with its whole body.

    Text is sent as UTF-8. `media_type` becomes the `content-type`, with `charset=utf-8` where it begins with `text/`.
    """

    media_type: str | None = None

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        media_type: str | None = None,
    ) -> None:
        self.status_code = status_code
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
            moment = expires if isinstance(expires, str) else expires.strftime("%a, %d %b %Y %H:%M:%S GMT")
            parts.append(f"expires={moment}")
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

    def _lower(self) -> "_bridge.ResponseRecord":
        """The record that the host gets."""
        return _bridge.response(self.status_code, self.headers._items, self.body)


class PlainTextResponse(Response):
    media_type = "text/plain"


class HTMLResponse(Response):
    media_type = "text/html"


class JSONResponse(Response):
    """A response whose content is written as JSON, see `encode_json`."""

    media_type = "application/json"

    def render(self, content: Any) -> str | bytes:
        return encode_json(content)


class RedirectResponse(Response):
    """Sends the client to another URL, with the same method unless `status_code` says otherwise."""

    def __init__(self, url: str, status_code: int = 307, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(None, status_code, headers)
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
    ) -> None:
        if not isinstance(content, (AsyncIterable, Iterable)) or isinstance(content, (str, bytes)):
            raise TypeError(f"the content of a StreamingResponse is an iterator, not {type(content).__name__}")
        super().__init__(None, status_code, headers, media_type)
        self.content = content

    def _lower(self) -> "_bridge.ResponseRecord":
        return _bridge.streaming_response(self.status_code, self.headers._items, self.content)


def encode_json(value: Any) -> str:
    """Writes a value as JSON, without spaces and with text as it is.

    Beside what JSON has: dataclasses, datetimes, dates and times (ISO 8601), timedeltas (seconds), UUIDs, enumerations,
    Decimals, sets, tuples and other iterables, paths, bytes (as UTF-8), and objects with a `model_dump` (pydantic).
    Raises TypeError for anything else, and ValueError for the numbers that JSON does not have.
    """
    try:
        return "".join(_encode(value, 0))
    except TypeError:
        # Keys that are not strings, for example, which the encoder has no hook for.
        return "".join(_encode(_jsonable(value), 0))


def as_record(result: Any, status: int) -> "_bridge.ResponseRecord":
    """What a handler returned, as the record that the host gets. `status` is that of the route."""
    if isinstance(result, Response):
        return result._lower()
    if type(result) is tuple:
        return _of_tuple(result, status)
    if isinstance(result, str):
        return _bridge.response(status, TEXT_HEADERS, str(result))
    if isinstance(result, (bytes, bytearray, memoryview)):
        return _bridge.response(status, BYTES_HEADERS, bytes(result))
    if result is None and (status in (204, 304) or status < 200):
        return _bridge.response(status, [], "")
    return _bridge.response(status, JSON_HEADERS, encode_json(result))


def _of_tuple(result: tuple[Any, ...], status: int) -> "_bridge.ResponseRecord":
    """`(body, status)` and `(body, status, headers)`."""
    if not 2 <= len(result) <= 3 or type(result[1]) is not int:
        raise TypeError(
            f"a handler may return (body, status) or (body, status, headers), not {result!r}; for JSON return a list"
        )
    record = as_record(result[0], result[1])
    record.status = result[1]
    if len(result) == 3 and result[2] is not None:
        headers = MutableHeaders(record.headers)
        headers.update(result[2])
        record.headers = _bridge.header_list(headers._items)
    return record


def _with_charset(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") and "charset" not in media_type else media_type


def _default(value: Any) -> Any:
    """What the encoder writes in the place of a value that JSON does not have."""
    for type_ in type(value).__mro__:
        convert = _CONVERSIONS.get(type_)
        if convert is not None:
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _jsonable(value: Any) -> Any:
    """The value with keys that JSON can have."""
    if isinstance(value, dict):
        return {_key(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _jsonable(_default(value))


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    return str(_default(key))


def _decimal(value: Decimal) -> int | float:
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    UUID: str,
    Enum: lambda value: value.value,
    Decimal: _decimal,
    PurePath: str,
    bytes: bytes.decode,
    set: list,
    frozenset: list,
}

JSON_HEADERS = [("content-type", "application/json")]
TEXT_HEADERS = [("content-type", "text/plain; charset=utf-8")]
BYTES_HEADERS = [("content-type", "application/octet-stream")]


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """The encoder of `json`, made once: `json.dumps` makes one for each call, which costs more than a small object.

    It does not look for cycles, which end in a RecursionError instead of a ValueError.
    """
    make: Any = getattr(_encoder, "c_make_encoder", None)
    if make is None:
        # An interpreter without the C part of json.
        plain = _encoder.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)
        return lambda value, _: (plain.encode(value),)
    encode: Callable[[Any, int], Iterable[str]] = make(
        None, _default, _encoder.encode_basestring, None, ":", ",", False, False, False
    )
    return encode


_encode = _make_encoder()
