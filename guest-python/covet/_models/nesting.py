"""Tells JSON that is nested so deeply that reading it would exhaust the stack of a component, which ends the instance.

CPython's own limit counts on a stack that it can measure; that of WebAssembly it cannot.
"""

import json
import re
from itertools import accumulate

__all__ = ["NESTING_MAX", "is_nested_too_deeply"]

#: Arrays and objects around a value. CPython natively reads no more than this either; a component reads some ten thousand.
NESTING_MAX = 1000


def is_nested_too_deeply(data: str | bytes) -> bool:
    """Whether JSON is nested more than `NESTING_MAX` deep; of text that is not JSON, whether a reader could get there.

    What has few brackets is not looked at, and the rest mostly by functions that take a nanosecond for each octet.
    """
    opening = ("[", "{") if isinstance(data, str) else (b"[", b"{")
    if data.count(opening[0]) + data.count(opening[1]) <= NESTING_MAX:  # type: ignore[arg-type]
        return False
    if isinstance(data, bytes):
        encoding = json.detect_encoding(data)
        octets = data if encoding.startswith("utf-8") else data.decode(encoding, "replace").encode()
    else:
        octets = data.encode("utf-8", "surrogatepass")
    brackets = _brackets(octets)
    depth = 0
    for _ in range(_ROUNDS):
        for pair in (b"[]", b"{}"):
            # Of what is wide, nearly everything goes here.
            count = len(brackets)
            brackets = brackets.replace(pair, b"")
            depth += len(brackets) < count
    if len(brackets) + depth <= NESTING_MAX:
        return False
    return depth + max(accumulate(memoryview(brackets.translate(_STEPS)).cast("b")), default=0) > NESTING_MAX


def _brackets(data: bytes) -> bytes:
    """The brackets that are not in strings."""
    if b"\\" in data:
        data = _ESCAPES.sub(b"", data)
    # Two quotes side by side can go: what comes after them is in a string or not as before.
    data = data.translate(None, _OTHERS).replace(b'""', b"")
    return _STRINGS.sub(b"", data) if b'"' in data else data


_ESCAPES = re.compile(rb"\\.", re.DOTALL)
#: Also one without an end.
_STRINGS = re.compile(rb'"[^"]*+"?')
_OTHERS = bytes(octet for octet in range(256) if octet not in b'[]{}"')
_STEPS = bytes(1 if octet in b"[{" else 255 for octet in range(256))
_ROUNDS = 3
