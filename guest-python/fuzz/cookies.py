"""Cookies: nothing is raised, and each is a pair of the header, with its value as `http.cookies` reads it.

A line of the input is a header field.
"""

import http.cookies
from typing import Any

from harness import fuzz, requests

from covet._guest.bridge import BodyEmpty, RequestRecord

TOKENS = [
    b";",
    b"; ",
    b"=",
    b'"',
    b",",
    b"\\",
    b"\\073",
    b'\\"',
    b"a=1; ",
    b'a="1"; ',
    b"\n",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"\xc3\xa4",
    b"$Path=/",
]


def check(data: bytes) -> None:
    lines = data.decode("latin-1").split("\n")
    headers = [("cookie", line) for line in lines]
    record = RequestRecord(0, "GET", "http://h", "/", [], headers, "127.0.0.1:1", BodyEmpty())
    app: Any = None
    cookies = requests.Request(record, app).cookies
    pairs = [part.split("=", 1) for line in lines for part in line.split(";") if "=" in part]
    assert set(cookies) == {name.strip() for name, _ in pairs}
    for name, value in cookies.items():
        first = next(value for other, value in pairs if other.strip() == name).strip()
        assert value == http.cookies._unquote(first)  # type: ignore[attr-defined]


if __name__ == "__main__":
    fuzz(check, TOKENS)
