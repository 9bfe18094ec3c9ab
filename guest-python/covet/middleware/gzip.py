"""Compression of responses with gzip."""

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterator
from typing import TYPE_CHECKING, Any

from covet.responses import Response
from covet.types import Chunk, Chunks

from ._shared import add_vary, texts, whole_number
from .base import BaseMiddleware

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["GZipMiddleware"]

#: Streams of events, whose readers often understand no encoding, and what is compressed already.
EXCLUDED_CONTENT_TYPES = (
    "application/grpc",
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "audio/*",
    "font/woff",
    "font/woff2",
    "image/avif",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/event-stream",
    "video/*",
)


class GZipMiddleware(BaseMiddleware):
    """Compresses the bodies of responses for clients that accept it.

    `minimum_size` is in bytes: shorter bodies stay as they are. `compresslevel` is from 1, fast, to 9, small.
    `exclude_content_types` are left alone, by default streams of events and what is compressed already. A streamed body
    is compressed piece by piece, and each piece is sent when it is there. An `etag` becomes a weak one.

    Not compressed are responses with a `content-encoding` or `content-range`, with the status 204, 206 or 304, with
    `cache-control: no-transform`, and those that would become longer.

    A response that has a secret beside text from the request should not be compressed where others can see its length:
    from many lengths the secret can be guessed (the attack is known as BREACH).
    """

    def __init__(
        self,
        *,
        minimum_size: int = 500,
        compresslevel: int = 6,
        exclude_content_types: Collection[str] = EXCLUDED_CONTENT_TYPES,
    ) -> None:
        self.minimum_size = whole_number("minimum_size", minimum_size)
        self.compresslevel = whole_number("compresslevel", compresslevel, 1, 9)
        types = [type_.partition(";")[0].strip().lower() for type_ in texts("exclude_content_types", exclude_content_types)]
        self._excluded = frozenset(types)

    def process_response(self, request: "Request", response: Response) -> Response | None:
        if response._prepare is None and len(response.body) * 4 < self.minimum_size and not hasattr(response, "body_iterator"):
            # Most responses are short, and need no look at their headers. A character has at most four bytes.
            return None
        if not self._may_be_compressed(response):
            return None
        if response._prepare is not None:
            # What it will send, a file for example, is known only when it has seen the request.
            add_vary(response.headers, "Accept-Encoding")
            if not accepts_gzip(request.headers.getlist("accept-encoding")):
                return None
            response = response._prepare(request)
            # It may be the same object, which must not be prepared a second time.
            response._prepare = None
            if not self._may_be_compressed(response):
                return response
        pieces: Chunks | None = getattr(response, "body_iterator", None)
        if pieces is None:
            self._compress_whole(request, response)
        else:
            self._compress_stream(request, response, pieces)
        return response

    def _may_be_compressed(self, response: Response) -> bool:
        if response.status_code in _WITHOUT_ENCODING or response.status_code < 200:
            return False
        fields = dict(response.headers._items)
        if "content-encoding" in fields or "content-range" in fields or self._is_excluded(fields.get("content-type")):
            return False
        return "cache-control" not in fields or not _forbids_transformation(response)

    def _compress_whole(self, request: "Request", response: Response) -> None:
        body: str | bytes = response.body
        if len(body) < self.minimum_size:
            if isinstance(body, bytes):
                return
            body = body.encode(errors="replace")
            if len(body) < self.minimum_size:
                return
        add_vary(response.headers, "Accept-Encoding")
        if not accepts_gzip(request.headers.getlist("accept-encoding")):
            return
        if isinstance(body, str):
            body = body.encode(errors="replace")
        compressed = compress(body, self.compresslevel)
        if len(compressed) >= len(body):
            return
        response.body = compressed
        _describe(response)
        if "content-length" in response.headers:
            response.headers["content-length"] = str(len(compressed))

    def _compress_stream(self, request: "Request", response: Any, pieces: Chunks) -> None:
        length = response.headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) < self.minimum_size:
            return
        add_vary(response.headers, "Accept-Encoding")
        if not accepts_gzip(request.headers.getlist("accept-encoding")):
            return
        if isinstance(pieces, AsyncIterable):
            response.body_iterator = _AsyncPieces(pieces, self.compresslevel)
        else:
            response.body_iterator = _Pieces(pieces, self.compresslevel)
        _describe(response)
        if length is not None:
            del response.headers["content-length"]

    def _is_excluded(self, content_type: str | None) -> bool:
        if content_type is None:
            return False
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type in self._excluded or media_type.partition("/")[0] + "/*" in self._excluded:
            return True
        return media_type.startswith("application/grpc+") and "application/grpc" in self._excluded


def compress(body: bytes, level: int) -> bytes:
    """A whole body as gzip."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


def accepts_gzip(fields: list[str]) -> bool:
    """Whether the `accept-encoding` fields of a request allow gzip, and do not prefer to have it not (RFC 9110, 12.5.3).

    Without such a field a client would accept anything, in theory; it gets what all clients understand.
    """
    weights: dict[str, float] = {}
    for field in fields:
        for item in field.split(","):
            coding, *parameters = item.split(";")
            weight = _weight(parameters)
            if weight is not None:
                weights.setdefault(coding.strip().lower(), weight)
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _weight(parameters: list[str]) -> float | None:
    """The `q` of an item, 1 if it has none; None if it is not valid, and the item with it."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                weight = float(value)
            except ValueError:
                return None
            return weight if 0 <= weight <= 1 else None
    return 1.0


class _Compressor:
    def __init__(self, level: int) -> None:
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._ended = False

    def _piece(self, chunk: Chunk) -> bytes:
        data = chunk.encode(errors="replace") if isinstance(chunk, str) else chunk
        if not len(data):
            return b""
        # What was written must not wait for what comes later.
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def _rest(self) -> bytes:
        self._ended = True
        return self._compressor.flush()


class _Pieces(_Compressor):
    """A body that is made by an iterator, compressed. Not a generator: one that never began would not close its source."""

    def __init__(self, pieces: Any, level: int) -> None:
        super().__init__(level)
        self._source = pieces
        self._iterator = iter(pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        for chunk in self._iterator:
            if data := self._piece(chunk):
                return data
        return self._rest()

    def close(self) -> None:
        """Closes what makes the body."""
        if (close := getattr(self._source, "close", None)) is not None:
            close()


class _AsyncPieces(_Compressor):
    """A body that is made by an asynchronous iterator, compressed."""

    def __init__(self, pieces: Any, level: int) -> None:
        super().__init__(level)
        self._source = pieces
        self._iterator = aiter(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        async for chunk in self._iterator:
            if data := self._piece(chunk):
                return data
        return self._rest()

    async def aclose(self) -> None:
        """Closes what makes the body."""
        if (close := getattr(self._source, "aclose", None)) is not None:
            await close()
        elif (close := getattr(self._source, "close", None)) is not None:
            close()


def _forbids_transformation(response: Response) -> bool:
    return "no-transform" in ", ".join(response.headers.getlist("cache-control")).lower()


def _describe(response: Response) -> None:
    """Says that the body is compressed."""
    headers = response.headers
    headers["content-encoding"] = "gzip"
    etag = headers.get("etag")
    if etag is not None and not etag.startswith("W/"):
        # The bytes are others than those that a strong tag stands for (RFC 9110 section 8.8.1).
        headers["etag"] = f"W/{etag}"


#: Statuses without a body, and the one of a part of it.
_WITHOUT_ENCODING = (204, 206, 304)
