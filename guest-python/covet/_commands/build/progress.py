"""What the build tool says while it works: one line per step with its time, on stderr."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Shows steps. On a terminal the line of a step that takes its time counts the seconds."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = stream if stream is not None else sys.stderr
        self._live = not quiet and self._stream.isatty()

    @contextmanager
    def step(self, title: str) -> Iterator["Step"]:
        """A step; what is set as its `result` is shown when it has ended well."""
        step = Step()
        began = time.monotonic()
        ended = threading.Event()
        ticker: threading.Thread | None = None
        if self._live:
            ticker = threading.Thread(target=self._tick, args=(title, began, ended), daemon=True)
            ticker.start()
        try:
            yield step
        except BaseException:
            self._end(ended, ticker)
            raise
        self._end(ended, ticker)
        self.line(f"{title:<14}{step.result}  ({time.monotonic() - began:.1f} s)" if step.result else title)

    def line(self, text: str) -> None:
        """A line of its own."""
        if not self._quiet:
            print(text, file=self._stream, flush=True)

    def _tick(self, title: str, began: float, ended: threading.Event) -> None:
        marks = "|/-\\"
        count = 0
        while not ended.wait(0.1):
            count += 1
            elapsed = time.monotonic() - began
            self._stream.write(f"\r{marks[count % 4]} {title} {elapsed:.1f} s ")
            self._stream.flush()

    def _end(self, ended: threading.Event, ticker: threading.Thread | None) -> None:
        ended.set()
        if ticker is not None:
            ticker.join()
            self._stream.write("\r\x1b[2K")


class Step:
    """One step under way."""

    result: str = ""
