"""The two ends of a `stream<u8>`, in the guest.

They take the place of componentize-py's `ByteStreamReader` and `ByteStreamWriter`, which cannot be used any more when a
read or a write was cancelled, and whose finalizers cost more than a small body. They know nothing of HTTP.
"""

import asyncio
from typing import Any

import componentize_py_runtime as runtime
from componentize_py_types import Ok

from . import loop

__all__ = ["StreamReader", "StreamWriter", "stream"]


def stream(type_: int) -> tuple["StreamWriter", "StreamReader"]:
    """A new stream; the reader is meant for the host."""
    pair = runtime.stream_new(type_)
    return StreamWriter(type_, pair >> 32), StreamReader(type_, pair & 0xFFFFFFFF)


class _NoFinalizer:
    """The bindings detach a finalizer when they hand a reader out; ours is `__del__`, which looks for the handle."""

    def detach(self) -> tuple[()]:
        return ()


class StreamReader:
    """The end that reads. The bindings make one for each stream that comes in."""

    __slots__ = ("_closed", "_pending", "ended", "handle", "type_")
    finalizer = _NoFinalizer()

    def __init__(self, type_: int, handle: int) -> None:
        self.type_ = type_
        self.handle = handle
        self.ended = False
        self._closed = False
        self._pending: asyncio.Future[Any] | None = None

    async def read(self, size: int = 65536) -> bytes:
        """Waits for up to `size` bytes. No bytes mean the end. A read that is cancelled loses nothing."""
        while not (self.ended or self._closed):
            pending = self._pending
            if pending is None:
                result = runtime.stream_read(self.type_, self.handle, size)
                if type(result) is Ok:
                    code, data = result.value
                else:
                    self._pending = pending = loop.wait(*result.value)
            if pending is not None:
                # Shielded: the host goes on reading, and the next read takes what it got.
                code, data = await asyncio.shield(pending)
                self._pending = None
            self.ended = code == _DROPPED
            if data:
                return bytes(data)
        return b""

    def close(self) -> None:
        """Tells the writer that nobody reads. May be called again."""
        if self._closed or not hasattr(self, "handle"):
            return
        self._closed = True
        if self._pending is None or self._pending.done():
            runtime.stream_drop_readable(self.type_, self.handle)
        else:
            self._pending.add_done_callback(self._drop)

    def _drop(self, _: object) -> None:
        runtime.stream_drop_readable(self.type_, self.handle)

    def __del__(self) -> None:
        if not self._closed and hasattr(self, "handle"):
            runtime.stream_drop_readable(self.type_, self.handle)


class StreamWriter:
    """The end that writes."""

    __slots__ = ("_closed", "_pending", "handle", "open", "type_")

    def __init__(self, type_: int, handle: int) -> None:
        self.type_ = type_
        self.handle = handle
        #: Whether somebody reads.
        self.open = True
        self._closed = False
        self._pending: asyncio.Future[Any] | None = None

    async def write(self, data: bytes) -> bool:
        """Waits until all of `data` has been taken. False when nobody reads any more.

        A write that is cancelled may have written a part of its data. One write at a time.
        """
        if self._pending is not None:
            # One that was cancelled: the host still has it.
            code, _ = await asyncio.shield(self._pending)
            self._pending = None
            self.open = code != _DROPPED
        offset = 0
        while self.open and offset < len(data):
            # The reader takes as much as it has room for. What is left goes out in pieces, so that a large body is not
            # copied again for each of them.
            piece = data if offset == 0 else data[offset : offset + PIECE]
            result = runtime.stream_write(self.type_, self.handle, piece)
            if type(result) is Ok:
                code, count = result.value
            else:
                self._pending = loop.wait(*result.value)
                code, count = await asyncio.shield(self._pending)
                self._pending = None
            offset += count
            self.open = code != _DROPPED
        return self.open

    def close(self) -> None:
        """Ends the body. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._pending is None or self._pending.done():
            runtime.stream_drop_writable(self.type_, self.handle)
        else:
            self._pending.add_done_callback(self._drop)

    def _drop(self, _: object) -> None:
        runtime.stream_drop_writable(self.type_, self.handle)

    def __del__(self) -> None:
        self.close()


#: Bytes of a piece of what a reader left over.
PIECE = 256 * 1024

_DROPPED = 1
