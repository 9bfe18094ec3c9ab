"""JSON with orjson and without: the same text and the same values."""

import dataclasses
import enum
import importlib.util
import json
import math
import sys
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import covet._json


def variant(with_orjson: bool) -> ModuleType:
    """Another copy of the module, which finds orjson or does not."""
    if with_orjson:
        pytest.importorskip("orjson", reason="orjson is not installed")
    spec = importlib.util.spec_from_file_location("covet._json_variant", covet._json.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    hidden = sys.modules.get("orjson", ...)
    if not with_orjson:
        sys.modules["orjson"] = None  # type: ignore[assignment]
    try:
        spec.loader.exec_module(module)
    finally:
        if hidden is ...:
            sys.modules.pop("orjson", None) if not with_orjson else None
        else:
            sys.modules["orjson"] = hidden
    assert (module.orjson is not None) is with_orjson
    return module


FAST, PLAIN = variant(True), variant(False)


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Item:
    name: str
    _private: int = 1
    tags: tuple[str, ...] = ("a",)


class Pair(NamedTuple):
    a: int
    b: int


VALUES: list[Any] = [
    None,
    True,
    -1,
    2**53 + 1,
    2**63 - 1,
    2**64,
    -(2**70),
    0.1,
    1e300,
    "plain",
    '\u20ac \U0001f600 \u2028 \x00 " \\ /',
    [],
    {},
    {"a": [1, {"b": None}]},
    (1, 2),
    {1: "int", None: "none", 1.5: "float"},
    {True: "bool"},
    {uuid.UUID(int=5): 1, date(2026, 1, 2): 2, Color.RED: 3},
    OrderedDict(b=1, a=2),
    Item("x"),
    [Item("x"), Pair(1, 2)],
    Color.RED,
    Level.HIGH,
    {"level": Level.HIGH},
    uuid.UUID(int=7),
    date(2026, 11, 23),
    datetime(2026, 11, 23, 1, 2, 3, 4),
    datetime(2026, 11, 23, tzinfo=UTC),
    datetime(2026, 11, 23, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    time(1, 2, 3),
    timedelta(seconds=1.5),
    Decimal("1.50"),
    Decimal(3),
    {"set": frozenset([1])},
    range(3),
    b"text",
    PurePosixPath("/a"),
    "\ud800",
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_written_the_same(value: Any) -> None:
    assert FAST.encode_json(value) == PLAIN.encode_json(value)


@pytest.mark.parametrize("value", [object(), {object(): 1}, [1, object()], len], ids=["object", "key", "item", "function"])
def test_what_has_no_json_is_refused_the_same(value: Any) -> None:
    errors = []
    for module in (FAST, PLAIN):
        with pytest.raises(TypeError) as caught:
            module.encode_json(value)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_numbers_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        PLAIN.encode_json({"a": math.nan})
    assert FAST.encode_json({"a": math.inf}) == '{"a":null}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_is_read_again(value: Any) -> None:
    for writer in (FAST, PLAIN):
        text = writer.encode_json(value)
        for reader in (FAST, PLAIN):
            for data in (text, text.encode(errors="replace")):
                again = reader.decode_json(data)
                assert again == json.loads(data)
                assert repr(again) == repr(json.loads(data))


TEXTS = [
    "",
    " ",
    "{",
    "[1,]",
    "nul",
    '"\\ud800"',
    "NaN",
    "[-Infinity]",
    "1e999",
    "123456789012345678901234567890",
    "18446744073709551616",
    '{"a": 1, "a": 2}',
    ' [1, 2.50, "x"]\n',
    "0123",
    '"\t"',
    "1.0000000000000000000000001",
    "[" * 2000 + "]" * 2000,
    "\ufeff1",
    '{"a": 1} x',
]


def outcome(read: Any, data: str | bytes) -> Any:
    try:
        return repr(read(data))
    except (ValueError, RecursionError) as error:
        return type(error), str(error) if not isinstance(error, RecursionError) else ""


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
def test_a_text_is_read_or_refused_the_same(text: str) -> None:
    for data in (text, text.encode()):
        expected = outcome(json.loads, data)
        assert outcome(FAST.decode_json, data) == expected
        assert outcome(PLAIN.decode_json, data) == expected


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', "[1]".encode("utf-16")], ids=repr)
def test_octets_are_read_or_refused_the_same(data: bytes) -> None:
    assert outcome(FAST.decode_json, data) == outcome(PLAIN.decode_json, data) == outcome(json.loads, data)
