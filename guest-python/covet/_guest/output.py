"""`sys.stdout` and `sys.stderr` of a component: whole lines go to the host's log.

They do not write to the streams of WASI. Those are handles that stay open once they have been used, and a host cannot reset
an instance that has open handles. Levels and targets are the ones that the host gives to what does go there, such as
`os.write(1, ...)`.
"""

import codecs
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .bridge import host

__all__ = ["LineStream", "collected_in", "finish", "install", "unfinished"]


def install() -> None:
    """Replaces the standard streams. Before the application is imported: a logging handler keeps the one that it finds."""
    for name, level in (("stdout", "INFO"), ("stderr", "WARN")):
        stream = LineStream(level, name, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        _installed.append(stream)


@contextmanager
def collected_in(path: str) -> Iterator[None]:
    """Collects what is printed in a file while there is no host: componentize-py ends with an error after 10,000 bytes."""
    before = [stream.without_host for stream in _installed]
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        for stream in _installed:
            stream.without_host = file
        try:
            yield
        finally:
            for stream, original in zip(_installed, before, strict=True):
                stream.without_host = original


def finish() -> None:
    """Writes what stands without a line feed at its end. `_guest.loop` calls it at the end of a call, if there is any."""
    for stream in list(unfinished):
        stream.finish()


class LineStream(io.TextIOBase):
    """A text stream that hands whole lines to the host, and everything to another stream while there is no host."""

    encoding = "utf-8"
    errors = "replace"
    mode = "w"
    newlines = None
    line_buffering = True
    write_through = False

    def __init__(self, level: str, target: str, without_host: TextIO) -> None:
        self.without_host = without_host
        self.name = f"<{target}>"
        self.buffer = _Octets(self)
        self._level = level
        self._target = target
        #: The beginning of a line.
        self._pending = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not host.live:
            return self.without_host.write(text)
        pending = self._pending + text if self._pending else text
        if "\n" in text:
            *lines, pending = pending.split("\n")
            for line in lines:
                self._log(line)
        if len(pending) >= LINE_BYTES_MAX:
            *pieces, pending = _pieces(pending)
            for piece in pieces:
                self._log(piece)
        self._pending = pending
        if pending:
            unfinished.add(self)
        return len(text)

    def flush(self) -> None:
        """Keeps the beginning of a line until the rest of it comes: an event of the log is a line."""
        if not host.live:
            self.without_host.flush()

    def finish(self) -> None:
        """Writes what stands without a line feed at its end."""
        self.buffer.finish()
        line, self._pending = self._pending, ""
        unfinished.discard(self)
        if line:
            self._log(line)

    def close(self) -> None:
        """Ends the line, and no more: the next request needs the stream again."""
        self.finish()

    def reconfigure(self, **options: Any) -> None:
        """Accepted and without effect: what the host gets is UTF-8."""

    def _log(self, line: str) -> None:
        line = line.rstrip("\r")
        for piece in _pieces(line) if len(line) > CHARACTERS_SAFE else (line,):
            host.log(self._level, self._target, piece)


class _Octets(io.BufferedIOBase):
    """What `sys.stdout.buffer` is. Octets that are not UTF-8 are replaced."""

    def __init__(self, text: LineStream) -> None:
        self.name = text.name
        self.mode = "wb"
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        octets = bytes(memoryview(data))
        if text := self._decoder.decode(octets):
            self._text.write(text)
        if self._decoder.getstate()[0] and host.live:
            unfinished.add(self._text)
        return len(octets)

    def flush(self) -> None:
        self._text.flush()

    def finish(self) -> None:
        """Writes a character of which only the beginning has come."""
        if text := self._decoder.decode(b"", final=True):
            self._text.write(text)

    def close(self) -> None:
        self._text.close()


def _pieces(line: str) -> list[str]:
    """Cuts a line into pieces of at most LINE_BYTES_MAX octets, of which none begins inside of a character."""
    octets = line.encode(errors="replace")
    pieces = []
    begin = 0
    while len(octets) - begin > LINE_BYTES_MAX:
        end = begin + LINE_BYTES_MAX
        while octets[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(octets[begin:end].decode())
        begin = end
    return [*pieces, octets[begin:].decode()]


#: Octets of one event of the log, as in the host's own streams.
LINE_BYTES_MAX = 8 * 1024
#: A line of so many characters is never too long.
CHARACTERS_SAFE = LINE_BYTES_MAX // 4

#: The streams that may hold something that has not been written.
unfinished: set[LineStream] = set()
_installed: list[LineStream] = []
