"""Values as JSON and back.

With orjson, if the application has it among its dependencies: in a component it writes and reads several times as fast as the
standard library. What it does not do, or does otherwise, goes through the standard library all the same.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from json import encoder as _encoder
from json.decoder import JSONDecoder
from pathlib import PurePath
from typing import Any
from uuid import UUID

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment, unused-ignore]

__all__ = ["decode_body", "decode_json", "encode_json"]


def encode_json(value: Any) -> str:
    """Writes a value as JSON, without spaces and with text as it is.

    Beside what JSON has: dataclasses, datetimes, dates and times (ISO 8601), timedeltas (seconds), UUIDs, enumerations,
    Decimals, sets, tuples and other iterables, paths, bytes (as UTF-8), and objects with a `model_dump` (pydantic).
    Raises TypeError for anything else, and ValueError for the numbers that JSON does not have, which become null with orjson.
    """
    try:
        return _dumps(value)
    except TypeError:
        return _encode_all(value)


def decode_json(data: str | bytes) -> Any:
    """Reads JSON, and raises, as `json.loads` does."""
    return _loads(data)


def decode_body(data: str | bytes) -> Any:
    """As `decode_json`, of a body, which may have come as text or as octets: a byte order mark is nothing in either."""
    try:
        return _loads(data)
    except ValueError:
        if isinstance(data, str) and data.startswith("\ufeff"):
            return _loads(data[1:])
        raise


def _encode_all(value: Any) -> str:
    try:
        return "".join(_encode(value, 0))
    except TypeError:
        # Keys that are not strings, for example, which the encoder has no hook for.
        return "".join(_encode(_jsonable(value), 0))


def _default(value: Any) -> Any:
    """What the encoder writes in the place of a value that JSON does not have."""
    for type_ in type(value).__mro__:
        convert = _CONVERSIONS.get(type_)
        if convert is not None:
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json", by_alias=True)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _jsonable(value: Any) -> Any:
    """The value with keys that JSON can have."""
    if isinstance(value, dict):
        return {_key(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _jsonable(_default(value))


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    return str(_default(key))


def _decimal(value: Decimal) -> int | float:
    exponent = value.as_tuple().exponent
    return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    UUID: str,
    Enum: lambda value: value.value,
    Decimal: _decimal,
    PurePath: str,
    bytes: bytes.decode,
    set: list,
    frozenset: list,
}


def _read(data: str | bytes) -> Any:
    try:
        text = data if isinstance(data, str) else data.decode()
        # `json.loads` looks for white space around the value before and after, which takes longer than small values do.
        value, end = _scan_once(text, 0)
        if end == len(text):
            return value
    except (StopIteration, ValueError):
        pass
    return json.loads(data)


def _read_with_orjson(data: str | bytes) -> Any:
    octets = data.encode(errors="replace") if isinstance(data, str) else data
    # It makes floats of integers that need more than 64 bits.
    if octets.translate(_DIGITS).find(_LONG_NUMBER) < 0:
        try:
            return orjson.loads(octets)
        except ValueError:
            # The standard library accepts a little more, and says better what is wrong.
            pass
    return _read(data)


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """The encoder of `json`, made once: `json.dumps` makes one for each call, which costs more than a small object.

    It does not look for cycles, which end in a RecursionError instead of a ValueError.
    """
    make: Any = getattr(_encoder, "c_make_encoder", None)
    if make is None:
        # An interpreter without the C part of json.
        plain = _encoder.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)
        return lambda value, _: (plain.encode(value),)
    encode: Callable[[Any, int], Iterable[str]] = make(
        None, _default, _encoder.encode_basestring, None, ":", ",", False, False, False
    )
    return encode


_encode = _make_encoder()
_scan_once: Callable[[str, int], tuple[Any, int]] = JSONDecoder().scan_once  # type: ignore[attr-defined]
_dumps: Callable[[Any], str] = _encode_all
_loads: Callable[[str | bytes], Any] = _read
if orjson is not None:
    _dumps = lambda value: orjson.dumps(value, _default, orjson.OPT_PASSTHROUGH_DATACLASS).decode()  # noqa: E731
    _loads = _read_with_orjson
#: Every digit as 0, and everything else as a space.
_DIGITS = bytes(48 if 48 <= octet <= 57 else 32 for octet in range(256))
_LONG_NUMBER = b"0" * 19
