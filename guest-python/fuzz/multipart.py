"""Multipart bodies: nothing but a 400 or 413 is raised, and how a body is cut changes neither the form nor the error.

The first byte of an input says how the body is cut and which limits there are; the rest is the body.
"""

from collections.abc import Coroutine
from typing import Any

from harness import Result, forms, fuzz, outcome

BOUNDARY = "bound"
LIMITS: list[forms.FormLimits] = [
    {},
    {"max_fields": 2, "max_files": 1},
    {"max_part_size": 9, "max_file_size": 9},
    {"max_part_size": 5000},
]
TOKENS = [
    b"\r\n",
    b"\r",
    b"\n",
    b"--",
    b" ",
    b"\t",
    b";",
    b"\0",
    b"\xff",
    b"\xc3\xa4",
    b"\\",
    b'"',
    b"%22",
    b"--bound",
    b"\r\n--bound",
    b"\r\n--bound\r\n",
    b"\r\n--bound--",
    b"\r\n--boun",
    b"\r\n\r\n",
    b"Content-Disposition: form-data",
    b'; name="a"',
    b'; filename="f"',
    b"; filename*=utf-8''%c3%a4",
    b'Content-Disposition: form-data; name="a"\r\n\r\n',
    b'Content-Disposition: form-data; name="f"; filename="f"\r\n',
    b'Content-Disposition: form-data; name="_charset_"\r\n\r\nwindows-1252',
    b"Content-Type: text/plain; charset=iso-8859-1\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
]


def check(data: bytes) -> None:
    if not data:
        return
    options, body = data[0], data[1:]
    limits = LIMITS[options >> 6]
    size = options % 64 + 1
    cut = [body[start : start + size] for start in range(0, len(body), size)]
    whole = outcome(lambda: fields(forms.read_form_sync(f"multipart/form-data; boundary={BOUNDARY}", body, **limits)))
    assert outcome(lambda: fields(parsed(cut, limits))) == whole
    if not limits:
        parts = outcome(lambda: finished(streamed(cut)))
        # Without looking at their contents nobody sees in which charset the fields are.
        if isinstance(whole, list) and isinstance(parts, list) and not any(name == "_charset_" for name, *_ in whole):
            assert [part[:2] for part in parts] == [item[:2] for item in whole]
            assert [part[2] for part in parts if part[1] is not None] == [item[-1] for item in whole if item[1] is not None]


def parsed(pieces: list[bytes], limits: forms.FormLimits) -> forms.FormData:
    parser = forms.MultipartParser(BOUNDARY, **limits)
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def fields(form: forms.FormData) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, ...]] = []
    for name, value in form.multi_items():
        if isinstance(value, str):
            items.append((name, None, value))
            # Whatever is in the form can be sent somewhere else.
            (name + value).encode()
        else:
            assert value.size == len(value.content())
            items.append((name, value.filename, value.headers.multi_items(), value.content()))
            (name + (value.filename or "")).encode()
    return items


def finished(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("it waits")


async def streamed(pieces: list[bytes]) -> list[tuple[str, str | None, bytes]]:
    async def stream() -> Any:
        for piece in pieces:
            yield piece

    return [(part.name, part.filename, await part.read()) async for part in forms.multipart_parts(stream(), BOUNDARY)]


if __name__ == "__main__":
    fuzz(check, TOKENS)
