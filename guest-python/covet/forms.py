"""Forms: urlencoded and multipart bodies, and the files in them. Nothing here knows of requests.

What a client can get wrong raises HTTPException: a 400 for what is malformed, and, as in Starlette, for too many fields or
files; a 413 for what is too large.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from io import BytesIO
from typing import BinaryIO, NamedTuple, TypedDict, Unpack
from urllib.parse import unquote_to_bytes

from .datastructures import Headers, parse_query
from .exceptions import HTTPException

__all__ = [
    "FormData",
    "FormLimits",
    "MultipartParser",
    "Part",
    "UploadFile",
    "multipart_boundary",
    "multipart_parts",
    "parse_urlencoded",
    "read_form",
    "read_form_sync",
]


class UploadFile:
    """A file of a form.

    Its content is in memory: a component has no disk. It is put together when it is read first, which takes twice its size
    for a moment; `multipart_parts` is for files that are too large for that.

    `filename` is what the client says, empty where a file could have been chosen and was not. It can be anything, also a
    path out of a directory. `headers` are those of the file's part of the form, `size` is in bytes.
    """

    __slots__ = ("_content", "_file", "filename", "headers", "size")

    def __init__(
        self,
        file: BinaryIO,
        *,
        size: int | None = None,
        filename: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        self._file: BinaryIO | None = file
        self._content: _Content | None = None
        self.size = size
        self.filename = filename
        self.headers = Headers() if headers is None else headers

    @classmethod
    def _of(cls, content: "_Content", head: "_Head") -> "UploadFile":
        upload = cls.__new__(cls)
        upload._file, upload._content = None, content
        upload.size, upload.filename, upload.headers = content.size, head.filename, head.headers
        return upload

    @property
    def content_type(self) -> str | None:
        """The media type that the client says."""
        return self.headers.get("content-type")

    @property
    def file(self) -> BinaryIO:
        """The content as a file, which can also be used without `await`."""
        if self._file is None:
            # The pieces are joined here and not copied again: a BytesIO shares the bytes that it is made of, and its
            # `read` and `getvalue` hand them out as they are.
            self._file = BytesIO(b"" if self._content is None else self._content.joined())
            self._content = None
        return self._file

    def content(self) -> bytes:
        """The whole content, wherever the file stands."""
        file = self.file
        if isinstance(file, BytesIO):
            return file.getvalue()
        position = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(position)
        return content

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from where the file stands, all that is left without a size."""
        return self.file.read(size)

    async def write(self, data: bytes) -> None:
        """Writes where the file stands."""
        self.file.write(data)
        if self.size is not None:
            self.size = max(self.size, self.file.tell())

    async def seek(self, offset: int) -> None:
        """Puts the file `offset` bytes behind its beginning."""
        self.file.seek(offset)

    async def close(self) -> None:
        """Frees the content. May be called again."""
        self.file.close()

    def __repr__(self) -> str:
        return f"UploadFile(filename={self.filename!r}, size={self.size!r}, headers={self.headers!r})"


class FormData(Mapping[str, str | UploadFile]):
    """The fields and files of a form. Where a name occurs several times its last value counts."""

    __slots__ = ("_dict", "_items")

    def __init__(self, items: Mapping[str, str | UploadFile] | Iterable[tuple[str, str | UploadFile]] = ()) -> None:
        self._items: list[tuple[str, str | UploadFile]] = list(items.items() if isinstance(items, Mapping) else items)
        self._dict = dict(self._items)

    def __getitem__(self, name: str) -> str | UploadFile:
        return self._dict[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def getlist(self, name: str) -> list[str | UploadFile]:
        """Every value of that name."""
        return [value for key, value in self._items if key == name]

    def multi_items(self) -> list[tuple[str, str | UploadFile]]:
        """Every field and file, in the order of the form."""
        return list(self._items)

    async def close(self) -> None:
        """Closes every file."""
        for _, value in self._items:
            if isinstance(value, UploadFile):
                await value.close()

    def __repr__(self) -> str:
        return f"FormData({self._items!r})"


class FormLimits(TypedDict, total=False):
    """How much of a form is taken; see `MultipartParser`. For an urlencoded form those of files mean nothing."""

    max_files: int
    max_fields: int
    max_part_size: int
    max_file_size: int | None
    max_total: int | None


async def read_form(content_type: str, body: str | bytes | AsyncIterable[bytes], **limits: Unpack[FormLimits]) -> FormData:
    """The form in a body of this content type; an empty one if that is no type of forms.

    A multipart body that arrives in pieces is parsed as it arrives. Raises HTTPException, see this module.
    """
    if isinstance(body, (str, bytes)):
        return read_form_sync(content_type, body, **limits)
    match _media_type(content_type):
        case "multipart/form-data":
            parser = _multipart_parser(content_type, limits)
            async for piece in body:
                parser.feed(piece)
            return parser.finish()
        case "application/x-www-form-urlencoded":
            pieces, total = [], 0
            async for piece in body:
                total += len(piece)
                _check_total(total, limits.get("max_total"))
                pieces.append(piece)
            return read_form_sync(content_type, b"".join(pieces), **limits)
    return FormData()


def read_form_sync(content_type: str, body: str | bytes, **limits: Unpack[FormLimits]) -> FormData:
    """The same as `read_form` for a body that is there."""
    if isinstance(body, str) and not body.isascii():
        body = body.encode(errors="replace")
    match _media_type(content_type):
        case "multipart/form-data":
            parser = _multipart_parser(content_type, limits)
            parser.feed(body if isinstance(body, bytes) else body.encode())
            return parser.finish()
        case "application/x-www-form-urlencoded":
            _check_total(len(body), limits.get("max_total"))
            return parse_urlencoded(
                body,
                max_fields=limits.get("max_fields", 1000),
                max_part_size=limits.get("max_part_size", 1024 * 1024),
            )
    return FormData()


def parse_urlencoded(body: str | bytes, *, max_fields: int = 1000, max_part_size: int = 1024 * 1024) -> FormData:
    """The fields of an `application/x-www-form-urlencoded` body, which are UTF-8 whatever else is said about them.

    It is read as a query string is: nothing is malformed, and octets that are not UTF-8 are replaced. `max_part_size` is
    for the bytes of a field with its name, as they are sent.
    """
    if len(body) > max_part_size:
        fields: Sequence[str | bytes] = body.split("&") if isinstance(body, str) else body.split(b"&")
        if max(map(len, fields)) > max_part_size:
            raise _too_large("Field", max_part_size)
    text = body if isinstance(body, str) else body.decode(errors="replace")
    # Counted before anything is decoded, and only then without the empty ones, which are no fields.
    if text.count("&") >= max_fields:
        filled = list(filter(None, text.split("&")))
        if len(filled) > max_fields:
            raise _too_many("fields", max_fields)
        text = "&".join(filled)
    return FormData(parse_query(text))


class MultipartParser:
    """Parses a `multipart/form-data` body (RFC 7578) from pieces of any size: `feed` each, then `finish`.

    At most `max_files` files and `max_fields` other fields are taken, more are a 400. A field may have `max_part_size`
    bytes, a file `max_file_size`, the whole body `max_total`; more is a 413. The names and fields are in `charset` unless a
    field's part or a field with the name `_charset_` says otherwise: UTF-8, ISO-8859-1 or windows-1252.

    Everything is kept in memory; `multipart_parts` hands it on instead. After an exception a parser cannot be used.
    """

    def __init__(
        self,
        boundary: str,
        *,
        max_files: int = 1000,
        max_fields: int = 1000,
        max_part_size: int = 1024 * 1024,
        max_file_size: int | None = None,
        max_total: int | None = None,
        charset: str = "utf-8",
    ) -> None:
        self._scanner = _Scanner(boundary, charset)
        self._max_files = max_files
        self._max_fields = max_fields
        self._max_part_size = max_part_size
        self._max_file_size = max_file_size
        self._max_total = max_total
        self._items: list[tuple[str, str | UploadFile]] = []
        self._files = 0
        self._fields = 0
        self._total = 0
        self._head = _NO_HEAD
        self._content = _Content()

    def feed(self, data: bytes) -> None:
        """Parses one more piece of the body. Raises HTTPException as soon as something is wrong."""
        self._total += len(data)
        _check_total(self._total, self._max_total)
        for event in self._scanner.scan(data):
            if isinstance(event, bytes):
                self._content.append(event)
                self._check_size()
            elif event is None:
                self._items.append((self._head.name, self._value()))
                self._content = _Content()
            else:
                self._head = event
                self._count()

    def finish(self) -> FormData:
        """The form, when the whole body has been fed. Raises HTTPException if the body is not complete."""
        self._scanner.finish()
        return FormData(self._items)

    def _count(self) -> None:
        if self._head.filename is None:
            self._fields += 1
            if self._fields > self._max_fields:
                raise _too_many("fields", self._max_fields)
        else:
            self._files += 1
            if self._files > self._max_files:
                raise _too_many("files", self._max_files)

    def _check_size(self) -> None:
        limit = self._max_part_size if self._head.filename is None else self._max_file_size
        if limit is not None and self._content.size > limit:
            raise _too_large("Part", limit)

    def _value(self) -> str | UploadFile:
        if self._head.filename is not None:
            return UploadFile._of(self._content, self._head)
        charset = _charset_of(self._head.content_type) or self._scanner.charset
        value = _decoded(self._content.joined(), charset, "a field")
        if self._head.name == "_charset_":
            # RFC 7578, section 4.6: from here on.
            self._scanner.charset = _known_charset(value)
        return value


def multipart_parts(
    stream: AsyncIterable[bytes], boundary: str, *, max_parts: int = 2000, charset: str = "utf-8"
) -> AsyncIterator["Part"]:
    """The parts of a `multipart/form-data` body while it arrives, for `async for`. Nothing of them is kept.

        boundary = multipart_boundary(request.headers.get("content-type", ""))
        async for part in multipart_parts(request.stream(), boundary):
            async for piece in part:
                ...

    What is left of a part is skipped when the next one is asked for. `_charset_` fields are like any others here. Raises
    HTTPException: a 400 for what is malformed and for more than `max_parts` parts.
    """
    return _Parts(stream, _Scanner(boundary, charset), max_parts)


def multipart_boundary(content_type: str) -> str:
    """The boundary in the content type of a multipart form. Raises HTTPException: a 415 for another type of content."""
    if _media_type(content_type) != "multipart/form-data":
        raise HTTPException(415, "The body is not multipart/form-data.")
    return _boundary(_parameters(content_type)[1])


class Part(AsyncIterator[bytes]):
    """A part of a multipart body that is arriving: `async for piece in part`, before the next part is asked for.

    `filename` is None for a field that is no file, and what the client says for others, see `UploadFile`.
    """

    __slots__ = ("_ended", "_parts", "filename", "headers", "name")

    def __init__(self, head: "_Head", parts: "_Parts") -> None:
        self.name = head.name
        self.filename = head.filename
        self.headers = head.headers
        self._parts = parts
        self._ended = False

    @property
    def content_type(self) -> str | None:
        """The media type that the client says."""
        return self.headers.get("content-type")

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        event = await self._parts._next_of(self)
        if event is None:
            self._ended = True
            raise StopAsyncIteration
        return event

    async def read(self, max_size: int = 1024 * 1024) -> bytes:
        """All that is left of the part. More than `max_size` bytes are a 413."""
        content = _Content()
        async for piece in self:
            content.append(piece)
            if content.size > max_size:
                raise _too_large("Part", max_size)
        return content.joined()

    def __repr__(self) -> str:
        return f"<Part {self.name!r} filename={self.filename!r}>"


class _Parts(AsyncIterator[Part]):
    """The iterator of `multipart_parts`."""

    def __init__(self, stream: AsyncIterable[bytes], scanner: "_Scanner", max_parts: int) -> None:
        self._stream = aiter(stream)
        self._scanner = scanner
        self._events: Iterator[_Event] = iter(())
        self._left = self._max_parts = max_parts
        self._part: Part | None = None

    async def __anext__(self) -> Part:
        self._part = None
        while (event := await self._next()) is not _OVER:
            if isinstance(event, _Head):
                if self._left == 0:
                    raise _too_many("parts", self._max_parts)
                self._left -= 1
                self._part = Part(event, self)
                return self._part
        raise StopAsyncIteration

    async def _next_of(self, part: Part) -> bytes | None:
        """A piece of the part's content, None at its end."""
        if part is not self._part:
            raise RuntimeError("a part of a multipart body can only be read until the next one is asked for")
        event = await self._next()
        assert event is None or isinstance(event, bytes)
        return event

    async def _next(self) -> "_Event | _Over":
        while True:
            if (event := next(self._events, _OVER)) is not _OVER:
                return event
            try:
                piece = await anext(self._stream)
            except StopAsyncIteration:
                self._scanner.finish()
                return _OVER
            self._events = self._scanner.scan(piece)


class _Content:
    """The bytes of a field or file, in pieces."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self.size = 0

    def append(self, piece: bytes) -> None:
        self.size += len(piece)
        if len(piece) >= SMALL_PIECE_BYTES:
            self._pieces.append(piece)
            return
        # Small ones are gathered: a list of single bytes would take forty times the memory of their content.
        last = self._pieces[-1] if self._pieces else None
        if type(last) is bytearray and len(last) < GATHERED_BYTES:
            last += piece
        else:
            self._pieces.append(bytearray(piece) if last is not None else piece)

    def joined(self) -> bytes:
        return b"".join(self._pieces)


class _Head(NamedTuple):
    """What is said about a part before its content."""

    name: str
    #: None for a field that is no file.
    filename: str | None
    content_type: str | None
    headers: Headers


#: A part begins, a piece of its content, or, None, its end.
_Event = _Head | bytes | None


class _State(Enum):
    PREAMBLE = 1
    #: `_rest` begins with the CRLF that ends the line of the boundary.
    HEAD = 2
    CONTENT = 3
    EPILOGUE = 4


class _Scanner:
    """Cuts a multipart body, given in pieces of any size, into events. It keeps nothing but what it cannot decide yet.

    The syntax is that of RFC 2046, section 5.1.1, with the delimiters that clients really send: a line that begins with the
    boundary and goes on with something else than `--` or padding is content.
    """

    def __init__(self, boundary: str, charset: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise _malformed("the boundary is not as RFC 2046 demands")
        self.charset = _known_charset(charset)
        self._delimiter = b"\r\n--" + boundary.encode()
        self._state = _State.PREAMBLE
        #: What has been given and not been decided; None while a piece is scanned, and for good when that failed. The first
        #: delimiter may be at the very beginning, so a line is ended there.
        self._rest: bytes | None = b"\r\n"
        #: How many bytes at the beginning of `_rest` are no content of the part, whatever follows.
        self._lead = 0

    def scan(self, data: bytes) -> Iterator[_Event]:
        """The events of one more piece. All of them must be taken before the next piece."""
        data = self._check_usable() + data
        self._rest = None
        position = 0
        while self._state is not _State.EPILOGUE:
            if self._state is _State.HEAD:
                end = data.find(b"\r\n\r\n", position)
                # Without an end, where it could be at the earliest: the error does not depend on how the body was cut.
                if (len(data) - 3 if end < 0 else end) - position > HEAD_BYTES_MAX:
                    raise _malformed(f"the headers of a part have more than {HEAD_BYTES_MAX} bytes")
                if end < 0:
                    break
                yield _head(data[position + 2 : end], self.charset)
                # The empty line's CRLF can be the one that belongs to the next delimiter, if the part is empty.
                position, self._lead, self._state = end + 2, 2, _State.CONTENT
            cut, follows, line_end = self._find_delimiter(data, position)
            if self._state is _State.CONTENT and cut > position:
                if cut > position + self._lead:
                    yield data[position + self._lead : cut]
                self._lead = 0
            position = cut
            if follows is _Follows.UNDECIDED:
                break
            if follows is _Follows.NONSENSE:
                raise _malformed("a boundary is followed by padding and something else")
            if self._state is _State.CONTENT:
                yield None
            position = line_end
            self._state = _State.HEAD if follows is _Follows.PART else _State.EPILOGUE
        self._rest = data[position:] if self._state is not _State.EPILOGUE else b""

    def finish(self) -> None:
        """Raises HTTPException if the body is not complete."""
        self._check_usable()
        if self._state is not _State.EPILOGUE:
            raise _malformed("the body ends before its last boundary")

    def _check_usable(self) -> bytes:
        if self._rest is None:
            raise RuntimeError("a multipart body that has been refused cannot be read further")
        return self._rest

    def _find_delimiter(self, data: bytes, position: int) -> tuple[int, "_Follows", int]:
        """Where content ends, what follows there, and where the line of the delimiter ends.

        Without a delimiter content ends where one could begin whose rest is still to come.
        """
        delimiter = self._delimiter
        while (found := data.find(delimiter, position)) >= 0:
            position = found + len(delimiter)
            follows, line_end = _after_delimiter(data, position)
            if follows is not _Follows.CONTENT:
                return found, follows, line_end
        # Only the first byte of a delimiter is a CR, so the last CR is the only candidate.
        found = data.rfind(b"\r", max(position, len(data) - len(delimiter) + 1))
        if found < 0 or not delimiter.startswith(data[found:]):
            found = len(data)
        return found, _Follows.UNDECIDED, found


class _Follows(Enum):
    """What comes behind a delimiter."""

    PART = 1
    #: The end of the last part.
    END = 2
    #: It was no delimiter.
    CONTENT = 3
    #: The bytes that would say are not there yet.
    UNDECIDED = 4
    NONSENSE = 5


def _after_delimiter(data: bytes, position: int) -> tuple[_Follows, int]:
    """What comes behind a delimiter that ends at `position`, and where its line ends."""
    after = data[position : position + 2]
    if after == b"\r\n":
        return _Follows.PART, position
    if after == b"--":
        return _Follows.END, position
    if after in (b"", b"\r", b"-"):
        return _Follows.UNDECIDED, position
    padding = _PADDING.match(data, position)
    if padding is None:
        return _Follows.CONTENT, position
    line_end = padding.end()
    if line_end - position > PADDING_BYTES_MAX:
        return _Follows.NONSENSE, line_end
    after = data[line_end : line_end + 2]
    if after == b"\r\n":
        return _Follows.PART, line_end
    return (_Follows.UNDECIDED if after in (b"", b"\r") else _Follows.NONSENSE), line_end


def _head(block: bytes, charset: str) -> _Head:
    """What the header fields of a part say. They are `block`, without the empty line."""
    text = _decoded(block, charset, "a header of a part")
    if "\r\n " in text or "\r\n\t" in text:
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n") if text else []
    if len(lines) > HEAD_FIELDS_MAX:
        raise _malformed(f"a part has more than {HEAD_FIELDS_MAX} headers")
    fields: list[tuple[str, str]] = []
    disposition = content_type = None
    for line in lines:
        if (match := _HEADER.fullmatch(line)) is None:
            raise _malformed("a line of a part's headers is no header")
        name, value = match[1].lower(), match[2].rstrip(" \t")
        fields.append((name, value))
        if name == "content-disposition":
            if disposition is not None:
                raise _malformed("a part has more than one Content-Disposition")
            disposition = value
        elif name == "content-type":
            content_type = value
        elif name == "content-transfer-encoding" and value.lower() in ("base64", "quoted-printable"):
            # RFC 7578, section 4.7, deprecates it, and no browser has ever sent it.
            raise _malformed(f"the content-transfer-encoding {value.lower()} is not supported")
    name, filename = _names(disposition or "")
    return _Head(name, filename, content_type, Headers.wrap(fields))


def _names(disposition: str) -> tuple[str, str | None]:
    """The name of a part, and its filename if it is a file, from its Content-Disposition."""
    kind, parameters = _parameters(disposition)
    if "name" not in parameters:
        raise HTTPException(400, 'The Content-Disposition header field "name" must be provided.')
    if kind != "form-data":
        raise _malformed("the Content-Disposition of a part is not form-data")
    filename = parameters.get("filename")
    if "filename*" in parameters:
        filename = _extended_value(parameters["filename*"])
    elif filename is not None:
        filename = _unescaped(filename)
        if filename[1:3] == ":\\" or filename[:2] == "\\\\":
            # Internet Explorer sends the whole path.
            filename = filename.rpartition("\\")[2]
    return _unescaped(parameters["name"]), filename


def _parameters(text: str) -> tuple[str, dict[str, str]]:
    """The value of a header field and its parameters, as in `form-data; name="a"`. Names are in lower case."""
    value = text.partition(";")[0]
    position = len(value)
    parameters: dict[str, str] = {}
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None:
            raise _malformed("a parameter of a header cannot be read")
        position = match.end()
        name, quoted, plain = match.groups()
        if name is None:
            continue
        name = name.lower()
        if name in parameters:
            raise _malformed("a header has a parameter twice")
        if quoted is None:
            parameters[name] = plain.rstrip(" \t")
        else:
            parameters[name] = _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted
    return value.strip(" \t").lower(), parameters


def _unescaped(value: str) -> str:
    """A name with what browsers escape in it: the HTML standard has quotes and line ends percent-encoded, nothing else."""
    if "%" not in value:
        return value
    return _PERCENT.sub(lambda match: chr(int(match[1], 16)), value)


def _extended_value(text: str) -> str:
    """The value of a parameter like `filename*=UTF-8''na%C3%AFve.txt`, see RFC 5987."""
    charset, _, rest = text.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1") or not _EXTENDED.fullmatch(encoded):
        raise _malformed("a filename* is not as RFC 5987 demands")
    value = _decoded(unquote_to_bytes(encoded), _known_charset(charset), "a filename*")
    if "\0" in value:
        raise _malformed("a header of a part has a control character")
    return value


def _charset_of(content_type: str | None) -> str | None:
    """The charset that a content type names, if it names one."""
    if content_type is None or ";" not in content_type:
        return None
    charset = _parameters(content_type)[1].get("charset")
    return None if charset is None else _known_charset(charset)


def _known_charset(label: str) -> str:
    charset = CHARSETS.get(label.strip().lower())
    if charset is None:
        raise _malformed("it names a charset that is not supported")
    return charset


def _decoded(data: bytes, charset: str, what: str) -> str:
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        raise _malformed(f"{what} is not in {charset}") from None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _multipart_parser(content_type: str, limits: FormLimits) -> MultipartParser:
    parameters = _parameters(content_type)[1]
    return MultipartParser(_boundary(parameters), charset=parameters.get("charset", "utf-8"), **limits)


def _boundary(parameters: dict[str, str]) -> str:
    if not (boundary := parameters.get("boundary")):
        raise HTTPException(400, "Missing boundary in multipart.")
    return boundary


def _check_total(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise _too_large("Form", limit)


def _malformed(what: str) -> HTTPException:
    return HTTPException(400, f"Invalid multipart data: {what}.")


def _too_many(what: str, limit: int) -> HTTPException:
    return HTTPException(400, f"Too many {what}. Maximum number of {what} is {limit}.")


def _too_large(what: str, limit: int) -> HTTPException:
    size = f"{limit} bytes" if limit % 1024 else f"{limit // 1024}KB"
    return HTTPException(413, f"{what} exceeded maximum size of {size}.")


class _Over(Enum):
    """No more events."""

    OVER = 1


_OVER = _Over.OVER
_NO_HEAD = _Head("", None, None, Headers())

#: Bytes of the headers of a part; browsers send some hundred.
HEAD_BYTES_MAX = 8 * 1024
#: Header fields of a part; browsers send two.
HEAD_FIELDS_MAX = 32
#: Bytes of spaces behind a boundary; RFC 2046 has them for gateways that pad lines.
PADDING_BYTES_MAX = 256
#: Pieces of content that have fewer bytes are put together.
SMALL_PIECE_BYTES = 4 * 1024
GATHERED_BYTES = 64 * 1024

#: Those that forms really come in. Others would have to be imported when a form names them, which a component cannot do,
#: and some that Python knows take quadratic time.
CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",
    "ascii": "utf-8",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "latin-1": "latin-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}

#: `token` of RFC 9110, section 5.6.2. Nothing that has matched is tried in another way here and below, or rows of spaces
#: and backslashes would cost quadratic time.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_HEADER = re.compile(rf"({_TOKEN}):[ \t]*+([^\r\n\0]*+)")
#: RFC 2046, section 5.1.1: `bchars`, not with a space at the end.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PADDING = re.compile(rb"[ \t]{1,%d}" % (PADDING_BYTES_MAX + 1))
_PARAMETER = re.compile(
    rf";[ \t]*+(?:({_TOKEN})[ \t]*+=[ \t]*+"
    r'(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t]*+|([^;"]*+)))?(?=;|\Z)'
)
#: Browsers do not escape backslashes, other clients do; so another backslash is one.
_ESCAPE = re.compile(r'\\(["\\])')
_PERCENT = re.compile(r"%(22|0[Dd]|0[Aa])")
#: `value-chars` of RFC 5987.
_EXTENDED = re.compile(r"(?:[0-9A-Za-z!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})*+")
#: The end of a line that goes on in the next, RFC 5322, section 2.2.3.
_FOLD = re.compile(r"\r\n[ \t]++")
