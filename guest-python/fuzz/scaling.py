"""Inputs that are made to cost much: four times as large, they must take about four times as long. Needs no fuzzer.

Prints the times, and fails where one grows like a square. What is measured is in the names: a body, and in which pieces.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress

from covet import HTTPException
from covet._guest.bridge import BodyEmpty, RequestRecord
from covet.datastructures import parse_query
from covet.forms import MultipartParser, parse_urlencoded
from covet.requests import Request

SIZE = 256 * 1024
#: A square would be sixteen.
RATIO_MAX = 9
#: Seconds; what takes less is not worth a failure on a machine that does other things too.
TIME_MIN = 0.05

HEAD = b'--bound\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
PART = HEAD + b"\r\n"
LONG = b"b" * 70


def main() -> int:
    slow = []
    for name, run in cases():
        small, large = (best(run, size) for size in (SIZE, 4 * SIZE))
        ratio = large / small
        print(f"{name:44} {small * 1000:8.2f} ms {large * 1000:8.2f} ms  x{ratio:.1f}")
        if ratio > RATIO_MAX and large > TIME_MIN:
            slow.append(name)
    if slow:
        print(f"more than linear: {', '.join(slow)}", file=sys.stderr)
    return bool(slow)


def cases() -> list[tuple[str, Callable[[int], object]]]:
    bodies = {
        "preamble of prefixes": lambda size: repeated(b"\r\n--boun", size),
        "preamble of hyphens": lambda size: b"-" * size,
        "content of prefixes": lambda size: HEAD + repeated(b"\r\n--boun", size),
        "content of boundaries that go on": lambda size: HEAD + repeated(b"\r\n--boundx", size),
        "content of boundaries and hyphens": lambda size: HEAD + repeated(b"\r\n--bound-", size),
        "content of CR": lambda size: HEAD + b"\r" * size,
        "content of CRLF": lambda size: HEAD + b"\r\n" * (size // 2),
        "content of CRLF--": lambda size: HEAD + repeated(b"\r\n--", size),
        "boundary and spaces": lambda size: b"--bound" + b" " * size,
        "header without end": lambda size: b"--bound\r\n" + b"x" * size,
        "headers of CR": lambda size: b"--bound\r\n" + b"\r" * size,
        "empty parts": lambda size: repeated(PART, size),
        "parts with large headers": lambda size: repeated(HEAD[:-4] + b"\r\nX: " + b" " * 7900 + b"\r\n\r\n\r\n", size),
        "parts with many headers": lambda size: repeated(HEAD[:-4] + b"\r\nX: y" * 30 + b"\r\n\r\n\r\n", size),
        "folded headers": lambda size: repeated(HEAD[:-4] + b"\r\nX: y" + b"\r\n " * 2000 + b"z\r\n\r\n\r\n", size),
        "names of backslashes": lambda size: repeated(HEAD[:-5] + b"\\" * 7900 + b'"\r\n\r\n\r\n', size),
        "parameters without names": lambda size: repeated(HEAD[:-4] + b";" * 7900 + b"\r\n\r\n\r\n", size),
    }
    pieces = {"whole": 10**9, "64 KiB": 65536, "61 bytes": 61}
    found: list[tuple[str, Callable[[int], object]]] = [
        (f"{name}, {cut}", lambda size, make=make, step=step: multipart(make(size), step))
        for name, make in bodies.items()
        for cut, step in pieces.items()
    ]
    found += [
        ("long boundary, prefixes, 64 KiB", lambda size: multipart(repeated(b"\r\n--" + LONG[:69] + b"c", size), 65536, LONG)),
        ("long boundary, its letter, whole", lambda size: multipart(b"b" * size, 10**9, LONG)),
        # A quarter, because it takes a call for each byte.
        ("one header, by bytes", lambda size: multipart(b"--bound\r\n" + (b"X: y\r\n" * 1000)[:6000] * (size // 24000), 1)),
        ("content of CRLF--, by bytes", lambda size: multipart(HEAD + repeated(b"\r\n--", size // 4), 1)),
    ]
    for text in ("&", "=", "%", "+", "a&", "a=%41&", "&&=", "%ff"):
        found.append((f"urlencoded {text}", lambda size, text=text: urlencoded(repeated(text.encode(), size), 10**9)))
        found.append((f"query {text}", lambda size, text=text: parse_query(repeated(text.encode(), size).decode())))
    found.append(("urlencoded &, at most 1000 fields", lambda size: urlencoded(b"&" * size, 1000)))
    for text in (";", "=", "a=1;", '"', 'a="";', " ", " ;", "a= "):
        found.append((f"cookies {text}", lambda size, text=text: cookies(repeated(text.encode(), size).decode())))
    for text in ("\\", '\\"', "\\073"):
        found.append((f"cookie of {text}", lambda size, text=text: cookies('a="' + text * (size // len(text)) + '"')))
    return found


def multipart(body: bytes, step: int, boundary: bytes = b"bound") -> None:
    parser = MultipartParser(boundary.decode(), max_files=10**9)
    # Refused is fine as long as it is soon.
    with suppress(HTTPException):
        for start in range(0, len(body), step):
            parser.feed(body[start : start + step])
        parser.finish()


def urlencoded(body: bytes, max_fields: int) -> None:
    with suppress(HTTPException):
        parse_urlencoded(body, max_fields=max_fields, max_part_size=10**9)


def cookies(text: str) -> object:
    record = RequestRecord(0, "GET", "http://h", "/", [], [("cookie", text)], "127.0.0.1:1", BodyEmpty())
    return Request(record, None).cookies  # type: ignore[arg-type]


def repeated(piece: bytes, size: int) -> bytes:
    return piece * (size // len(piece))


def best(run: Callable[[int], object], size: int) -> float:
    """Seconds of processor time, of the fastest of three runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        run(size)
        times.append(time.process_time() - start)
    return max(min(times), 1e-9)


if __name__ == "__main__":
    sys.exit(main())
