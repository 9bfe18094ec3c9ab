"""Server-sent events."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._json import encode_json
from .responses import StreamingResponse

__all__ = ["EventSourceResponse", "ServerSentEvent"]


@dataclass(slots=True)
class ServerSentEvent:
    """One event. `data` that is not a str is sent as JSON; `retry` is in milliseconds; `comment` is not seen by scripts."""

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None
    comment: str | None = None

    def encode(self) -> str:
        """The event as it is sent. Raises ValueError for a name or an id with a line break."""
        lines = []
        if self.comment is not None:
            lines += [f": {line}" for line in _lines(self.comment)]
        for name, value in (("event", self.event), ("id", self.id)):
            if value is not None:
                if "\n" in value or "\r" in value or "\0" in value:
                    raise ValueError(f"the {name} of an event has a line break: {value!r}")
                lines.append(f"{name}: {value}")
        if self.retry is not None:
            lines.append(f"retry: {int(self.retry)}")
        if self.data is not None:
            text = self.data if isinstance(self.data, str) else encode_json(self.data)
            lines += [f"data: {line}" for line in _lines(text)]
        return "\n".join(lines) + "\n\n"


class EventSourceResponse(StreamingResponse):
    """A stream of events for a browser's `EventSource`.

    The iterator yields ServerSentEvents, or values that become the `data` of one: str as it is, others as JSON.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        content: Iterable[Any] | AsyncIterable[Any],
        status_code: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        media_type: str | None = None,
        background: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(_encoded(content), status_code, headers, media_type, background)
        # A proxy must not keep events back to send them together, nor may anything keep them for later.
        self.headers.setdefault("cache-control", "no-store")
        self.headers.setdefault("x-accel-buffering", "no")


async def _encoded(content: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[str]:
    try:
        if isinstance(content, AsyncIterable):
            async for item in content:
                yield _encode(item)
        else:
            for item in content:
                yield _encode(item)
    finally:
        # When the client has gone, so that what the iterator holds is given back at once.
        if (aclose := getattr(content, "aclose", None)) is not None:
            await aclose()
        elif (close := getattr(content, "close", None)) is not None:
            close()


def _encode(item: Any) -> str:
    return item.encode() if isinstance(item, ServerSentEvent) else ServerSentEvent(item).encode()


def _lines(text: str) -> list[str]:
    # Not splitlines, which knows more line breaks than events do.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
