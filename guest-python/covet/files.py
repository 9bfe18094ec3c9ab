"""Responses that are files: `FileResponse`, with conditional requests and ranges (RFC 9110, sections 13 and 14).

A file is read as any other, natively from the file system and in a component from what was bundled.
"""

import mimetypes
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from time import gmtime
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from . import _files
from .datastructures import MutableHeaders
from .responses import _DAYS, _MONTHS, Response, StreamingResponse

if TYPE_CHECKING:
    from .requests import Request

__all__ = ["FileResponse", "media_type_of"]


class FileResponse(Response):
    """A file, or the part of it that the client asks for.

    `media_type` is found by the name if it is not given. With a `filename` the response says that the client should store
    the file under that name, or, if `content_disposition_type` is `inline`, show it. `stat_result` saves a look at the file
    if somebody has looked already; with `method` only that counts and not the method of the request.

    It is answered with a 304 when the client has the file already, with a 206 when it wants ranges, with a 416 when the file
    does not have them, with a 412 when the client wants another version of it, and with a 400 when it asks for something
    that has no meaning. A file that does not exist when the response is sent raises RuntimeError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        filename: str | None = None,
        content_disposition_type: str = "attachment",
        stat_result: os.stat_result | None = None,
        method: str | None = None,
        background: Callable[[], Any] | None = None,
    ) -> None:
        self.path = path
        self.filename = filename
        self.stat_result = stat_result
        self._method = method
        super().__init__(None, status_code, headers, media_type or media_type_of(filename or path), background)
        if filename is not None:
            self._describe("content-disposition", _disposition(content_disposition_type, filename))
        self._describe("accept-ranges", "bytes")
        if stat_result is not None:
            self._describe_version(stat_result)

    def _prepare(self, request: "Request") -> Response:
        """The response for a request. The core calls it when middleware has seen the response."""
        # A copy, so that a handler may return the same response again.
        response = object.__new__(type(self))
        response.__dict__.update(self.__dict__, _prepare=None)
        response.headers = MutableHeaders()
        response.headers._items = self.headers._items.copy()
        if self.body:
            # A middleware has put something else in the place of the file.
            return response._without(_OF_THE_FILE)
        return response._answer(request)

    def _answer(self, request: "Request") -> Response:
        status = self.stat_result
        if status is None:
            status = self._look()
            self._describe_version(status)
        method = (self._method or request.method).upper()
        fields = request.headers
        # Most requests have none of them, and this is found out faster for all together than for each.
        if self.status_code == 200 and method in ("GET", "HEAD") and not _CONDITIONS.isdisjoint(map(_NAME, fields._items)):
            refused = self._condition(fields)
            if refused is not None:
                return refused
            ranges = fields.getlist("range")
            if ranges and status.st_size and self._may_be_partial(fields):
                partial = self._partial(ranges, status.st_size, method)
                if partial is not None:
                    return partial
        return self._whole(status.st_size, method)

    def _look(self) -> os.stat_result:
        try:
            entry = _files.bundled(self.path)
            status = os.stat(self.path) if entry is None else entry.status
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RuntimeError(f"the file {os.fspath(self.path)!r} of a FileResponse does not exist") from error
        if not stat.S_ISREG(status.st_mode):
            raise RuntimeError(f"{os.fspath(self.path)!r} of a FileResponse is not a file")
        return status

    def _describe(self, name: str, value: str) -> None:
        """Adds a field that is not there. It does what `setdefault` does, and costs less: there are few fields, and `name`
        is in lower case."""
        items = self.headers._items
        for key, _ in items:
            if key == name:
                return
        items.append((name, value))

    def _describe_version(self, status: os.stat_result) -> None:
        """Adds what clients recognise the file by."""
        self._describe("last-modified", http_date(int(status.st_mtime)))
        self._describe("etag", f'"{status.st_mtime_ns:x}-{status.st_size:x}"')

    def _condition(self, fields: "Mapping[str, str]") -> Response | None:
        """The answer to a conditional request whose condition is not met, in the order of RFC 9110, section 13.2.2."""
        etag, modified = self.headers.get("etag", ""), self.headers.get("last-modified", "")
        if (wanted := _joined(fields, "if-match")) is not None:
            # A weak tag matches nothing here.
            if wanted != "*" and etag not in _TAG.findall(wanted):
                return self._bodiless(412)
        elif (unmodified := fields.get("if-unmodified-since")) is not None and _is_later(modified, unmodified):
            return self._bodiless(412)
        if (known := _joined(fields, "if-none-match")) is not None:
            if known == "*" or etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in _TAG.findall(known)):
                return self._bodiless(304)
        elif (since := fields.get("if-modified-since")) is not None and _is_later(modified, since) is False:
            return self._bodiless(304)
        return None

    def _may_be_partial(self, fields: "Mapping[str, str]") -> bool:
        """Whether the ranges count: not if the client has parts of another version."""
        version = fields.get("if-range")
        if version is None:
            return True
        return not version.startswith("W/") and version in (self.headers.get("etag"), self.headers.get("last-modified"))

    def _partial(self, fields: Sequence[str], size: int, method: str) -> Response | None:
        """The parts of the file that are asked for; None if they are not in bytes, or so many that they cannot be meant."""
        unit, equals, wanted = ",".join(fields).partition("=")
        if equals and unit.strip().lower() != "bytes":
            # RFC 9110, section 14.2: ignored.
            return None
        found = _ranges(wanted, size) if equals else None
        if found is None:
            return self._refusal(400, "The field range is malformed")
        if not found:
            refused = self._refusal(416, "The file has no such range")
            refused.headers["content-range"] = f"bytes */{size}"
            return refused
        if len(found) > RANGES_MAX:
            return None
        merged = _merged(found)
        if len(merged) == 1:
            ((start, end),) = merged
            self.headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
            return self._sent(206, [(start, end)], end - start, method)
        return self._multipart(merged, size, method)

    def _multipart(self, ranges: list[tuple[int, int]], size: int, method: str) -> Response:
        boundary = os.urandom(12).hex()
        media_type = self.headers["content-type"]
        self.headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
        parts: list[bytes | tuple[int, int]] = []
        length = 0
        for start, end in ranges:
            head = (
                f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n\r\n".encode()
            )
            parts += [head, (start, end), b"\r\n"]
            length += len(head) + end - start + 2
        last = f"--{boundary}--\r\n".encode()
        return self._sent(206, [*parts, last], length + len(last), method)

    def _whole(self, size: int, method: str) -> Response:
        if size > WHOLE_MAX or method == "HEAD":
            return self._sent(self.status_code, [(0, size)] if size else [], size, method)
        data = self._bundled()
        if data is None:
            with self._open() as file:
                data = file.read()
        self.body = data
        self._describe("content-length", str(len(self.body)))
        return self

    def _sent(self, status_code: int, parts: Sequence[bytes | tuple[int, int]], length: int, method: str) -> Response:
        """A response of parts: bytes, and ranges of the file."""
        self.headers["content-length"] = str(length)
        response: Response
        if method == "HEAD" and length:
            # As a stream, because the length of a body that is there is its own.
            response = StreamingResponse(())
        else:
            pieces = Pieces(self._open(), parts)
            response = Response(b"".join(pieces)) if length <= WHOLE_MAX else StreamingResponse(pieces)
        return self._like(response, status_code)

    def _open(self) -> IO[bytes]:
        try:
            return open(self.path, "rb")
        except FileNotFoundError as error:
            raise RuntimeError(f"the file {os.fspath(self.path)!r} of a FileResponse does not exist") from error

    def _bundled(self) -> bytes | None:
        """The file in a component, without the way through `open`, which costs more than all the rest."""
        try:
            entry = _files.bundled(self.path)
        except OSError:
            # `_open` says it.
            return None
        return None if entry is None else entry.data

    def _bodiless(self, status_code: int) -> Response:
        self._without(_OF_CONTENT)
        return self._like(Response(), status_code)

    def _refusal(self, status_code: int, detail: str) -> Response:
        """What middleware has added stays; what describes the file does not."""
        self._without(_OF_THE_FILE | _OF_CONTENT)
        self.headers["content-type"] = "text/plain; charset=utf-8"
        return self._like(Response(detail), status_code)

    def _like(self, response: Response, status_code: int) -> Response:
        response.status_code = status_code
        response.headers = self.headers
        response.background = self.background
        return response

    def _without(self, names: frozenset[str]) -> Response:
        for name in names:
            if name in self.headers:
                del self.headers[name]
        return self


class Pieces(Iterator[bytes]):
    """The parts of a body: bytes, and ranges of a file, which are read in pieces."""

    def __init__(self, file: IO[bytes], parts: Sequence[bytes | tuple[int, int]]) -> None:
        self._file = file
        self._parts = iter(parts)
        self._left = 0

    def __next__(self) -> bytes:
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                self.close()
                raise StopIteration
            if isinstance(part, bytes):
                return part
            self._file.seek(part[0])
            self._left = part[1] - part[0]
        piece = self._file.read(min(self._left, PIECE))
        if not piece:
            self.close()
            raise RuntimeError(f"the file {self._file.name!r} became shorter while it was sent")
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Closes the file. May be called again."""
        self._parts = iter(())
        self._left = 0
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


def media_type_of(path: str | os.PathLike[str]) -> str:
    """The media type by the extension of a file's name, as `mimetypes` knows it, `application/octet-stream` if it is unknown.

    What a compressed file holds does not count: `a.tar.gz` is `application/gzip`.
    """
    name = os.path.basename(os.fspath(path))
    stem, dot, extension = name.rpartition(".")
    if not stem:
        # No extension, or a hidden file of that name.
        return UNKNOWN
    extension = f"{dot}{extension.lower()}"
    if extension in mimetypes.suffix_map:
        extension = os.path.splitext(mimetypes.suffix_map[extension])[1]
    if extension in mimetypes.encodings_map:
        return _ENCODINGS.get(mimetypes.encodings_map[extension], UNKNOWN)
    found = mimetypes.types_map.get(extension)
    if found is None:
        return _MORE_TYPES.get(extension, UNKNOWN)
    # As versions before Python 3.12 have it, and RFC 9239 has not.
    return "text/javascript" if found == "application/javascript" else found


@lru_cache(maxsize=1024)
def http_date(seconds: int) -> str:
    """A time as HTTP has it. Not from `strftime`, which uses the locale's names."""
    year, month, day, hour, minute, second, weekday, *_ = gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02} GMT"


def _moment(date: str) -> tuple[int, ...] | None:
    """A date of HTTP as year, month, day, hour, minute and second, in any of the three forms of RFC 9110, section 5.6.7."""
    for form in _DATES:
        if (match := form.fullmatch(date.strip())) is not None:
            year = int(match["year"])
            if year < 100:
                # The form of RFC 850 has two digits, of a year that is past or near.
                year += 2000 if year < 70 else 1900
            clock = map(int, match["time"].split(":"))
            return year, _MONTHS.index(match["month"]) + 1, int(match["day"]), *clock
    return None


def _is_later(modified: str, since: str) -> bool | None:
    """Whether a date of ours is later than one of the client's; None if that is none."""
    if modified == since:
        return False
    ours, theirs = _moment(modified), _moment(since)
    return None if ours is None or theirs is None else ours > theirs


def _joined(fields: Any, name: str) -> str | None:
    values = fields.getlist(name)
    return ",".join(values).strip() if values else None


def _ranges(wanted: str, size: int) -> list[tuple[int, int]] | None:
    """The ranges that a file of that size has, as begin and end; None if they are malformed."""
    ranges = []
    specified = 0
    for part in wanted.split(","):
        part = part.strip()
        if not part:
            continue
        specified += 1
        match = _RANGE.fullmatch(part)
        if match is None:
            return None
        first, last = match.groups()
        if first:
            start, end = int(first), min(int(last) + 1, size) if last else size
            if last and int(last) < start:
                return None
        elif last:
            start, end = max(size - int(last), 0), size
        else:
            return None
        if start < end:
            ranges.append((start, end))
    return ranges if specified else None


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges in order and without overlaps, so that nothing is sent twice."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _disposition(kind: str, filename: str) -> str:
    """RFC 6266: the name in ASCII for all clients, and as it is for those that know RFC 8187."""
    plain = "".join(character if " " <= character <= "~" else "_" for character in filename)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    # Some clients decode these in what is meant literally.
    literal = plain == filename and not set(filename) & set('%"\\')
    field = f'{kind}; filename="{quoted}"'
    return field if literal else f"{field}; filename*=utf-8''{quote(filename, safe='', errors='replace')}"


#: Bytes up to which a body is sent whole, and of the pieces of a larger one.
WHOLE_MAX = 256 * 1024
PIECE = 256 * 1024
#: A client that asks for more ranges gets the whole file.
RANGES_MAX = 100

UNKNOWN = "application/octet-stream"
#: What makes the answer another one than the whole file.
_CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range"})
_NAME = itemgetter(0)
#: An entity tag: RFC 9110, section 8.8.3.
_TAG = re.compile(r'(?:W/)?"[^"]*"')
#: More digits than a size can have are malformed, and not a reason to compute with them.
_RANGE = re.compile(r"([0-9]{0,20})-([0-9]{0,20})")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
_DATES = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]+, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)

#: What describes a body, and so is no part of a response without one.
_OF_CONTENT = frozenset({"content-disposition", "content-encoding", "content-language", "content-length", "content-type"})
#: What describes the file, and nothing else.
_OF_THE_FILE = frozenset({"accept-ranges", "content-disposition", "content-length", "content-range", "etag", "last-modified"})

#: By what `mimetypes` calls an encoding.
_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/x-brotli",
}
#: What is served on the web and not known to every version of `mimetypes`.
_MORE_TYPES = {
    ".avif": "image/avif",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


def _remember_dates() -> None:
    """A component has the dates of its files before the first request, which in the isolation `fresh` all are."""
    for status in _files.statuses():
        http_date(int(status.st_mtime))


_files.at_the_end(_remember_dates)
# It reads files of the system when it is used for the first time.
mimetypes.init()
