"""Reads one string into a value of a scalar type, as pydantic 2 does in its lax mode, with its error messages.

What is here is one function per type; constraints, lists and defaults are in `params`.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, get_args
from uuid import UUID

__all__ = ["Invalid", "Parse", "enumeration", "literal", "parse_bool", "parse_date", "parse_datetime", "parse_decimal"]
__all__ += ["parse_float", "parse_int", "parse_str", "parse_time", "parse_uuid"]

Parse = Callable[[str], Any]


class Invalid(ValueError):
    """A string is not a value of a type: pydantic's name of the error, its message, and its context."""

    def __init__(self, type_: str, message: str, context: dict[str, Any] | None = None, item: int | None = None) -> None:
        super().__init__(type_, message)
        self.type = type_
        self.message = message
        self.context = context
        #: The place in a list.
        self.item = item


def parse_str(text: str) -> str:
    return text


def parse_int(text: str) -> int:
    if text.isdigit() and text.isascii() and len(text) <= _DIGITS_MAX:
        return int(text)
    cleaned = text.strip()
    if (match := _INT.fullmatch(cleaned)) is None:
        raise Invalid("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
    digits = match[1].replace("_", "")
    if len(digits.lstrip("+-")) > _DIGITS_MAX:
        raise Invalid("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size")
    return int(digits)


def parse_float(text: str) -> float:
    if "_" not in text:
        cleaned = text.strip()
    elif text.startswith("_") or text.endswith("_") or "__" in text or " " in text:
        cleaned = ""
    else:
        cleaned = text.replace("_", "")
    if cleaned.isascii():
        try:
            return float(cleaned)
        except ValueError:
            pass
    raise Invalid("float_parsing", "Input should be a valid number, unable to parse string as a number")


def parse_bool(text: str) -> bool:
    value = _BOOLS.get(text.lower())
    if value is None:
        raise Invalid("bool_parsing", "Input should be a valid boolean, unable to interpret input")
    return value


def parse_decimal(text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise Invalid("decimal_parsing", "Input should be a valid decimal") from None
    if not value.is_finite():
        raise Invalid("finite_number", "Input should be a finite number")
    return value


def parse_uuid(text: str) -> UUID:
    if _UUID.fullmatch(text):
        return UUID(text)
    error = _uuid_error(text)
    if error is None:
        return UUID(text.strip("{}").removeprefix("urn:uuid:"))
    raise Invalid("uuid_parsing", f"Input should be a valid UUID, {error}", {"error": error})


def parse_datetime(text: str) -> datetime:
    """RFC 3339, a date alone, or seconds or milliseconds since 1970."""
    data = text.encode(errors="replace")
    try:
        try:
            return _read_datetime(data)
        except _Unreadable:
            day = _read_date(data)
            return datetime(day.year, day.month, day.day)
    except _Unreadable as error:
        raise _unreadable("datetime_from_date_parsing", "Input should be a valid datetime or date", error) from None
    except _YearZero as error:
        raise _unreadable("datetime_parsing", "Input should be a valid datetime", error) from None


def parse_date(text: str) -> date:
    """A date of RFC 3339, a datetime at midnight, or such a number of seconds or milliseconds since 1970."""
    data = text.encode(errors="replace")
    try:
        try:
            return _read_date(data)
        except _Unreadable:
            moment = _read_datetime(data)
    except _Unreadable as error:
        raise _unreadable("date_from_datetime_parsing", "Input should be a valid date or datetime", error) from None
    except _YearZero as error:
        raise _unreadable("date_parsing", "Input should be a valid date in the format YYYY-MM-DD", error) from None
    if moment.time() != time():
        raise Invalid("date_from_datetime_inexact", "Datetimes provided to dates should have zero time - e.g. be exact dates")
    return moment.date()


def parse_time(text: str) -> time:
    try:
        return _read_time(text.encode(errors="replace"), 0)
    except _Unreadable as error:
        raise _unreadable("time_parsing", "Input should be in a valid time format", error) from None


def _unreadable(type_: str, message: str, error: ValueError) -> Invalid:
    return Invalid(type_, f"{message}, {error}", {"error": str(error)})


def enumeration(type_: type[Enum]) -> Parse:
    """Reads a member by its value, which is a string or an integer."""
    return _choice("enum", [(member.value, member) for member in type_])


def literal(annotation: Any) -> Parse:
    """Reads one of the values of a `Literal`: strings, integers, and members of enumerations."""
    values = get_args(annotation)
    return _choice("literal_error", [(value.value if isinstance(value, Enum) else value, value) for value in values])


def _choice(error: str, choices: list[tuple[Any, Any]]) -> Parse:
    texts = {key: value for key, value in reversed(choices) if isinstance(key, str)}
    # pydantic reads integers only for an IntEnum; here `Literal[1, 2]` and an Enum of integers have a use too.
    integers = {key: value for key, value in reversed(choices) if type(key) is int}
    expected = _alternatives([key for key, _ in choices])

    def parse(text: str) -> Any:
        if text in texts:
            return texts[text]
        if integers:
            try:
                return integers[parse_int(text)]
            except (Invalid, KeyError):
                pass
        raise Invalid(error, f"Input should be {expected}", {"expected": expected})

    return parse


def _alternatives(values: list[Any]) -> str:
    texts = [repr(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


class _Unreadable(ValueError):
    """Why a date or time cannot be read, in the words of the crate `speedate`, which pydantic uses."""


class _YearZero(ValueError):
    """A date that is well formed, and before those that Python has."""


def _read_date_part(data: bytes) -> tuple[int, int, int]:
    if len(data) < 10:
        raise _Unreadable("input is too short")
    year = _digits(data, 0, 4, "invalid character in year")
    if data[4] != _DASH:
        raise _Unreadable("invalid date separator, expected `-`")
    month = _digits(data, 5, 2, "invalid character in month")
    if data[7] != _DASH:
        raise _Unreadable("invalid date separator, expected `-`")
    day = _digits(data, 8, 2, "invalid character in day")
    if not 1 <= month <= 12:
        raise _Unreadable("month value is outside expected range of 1-12")
    if not 1 <= day <= _days(year, month):
        raise _Unreadable("day value is outside expected range")
    return year, month, day


def _read_date(data: bytes) -> date:
    try:
        year, month, day = _read_date_part(data)
        if len(data) > 10:
            raise _Unreadable("unexpected extra characters at the end of the input")
    except _Unreadable:
        if not _NUMBER.fullmatch(data):
            raise
        moment = _from_number(data)
        if moment.time() != time():
            raise _Unreadable("Timestamp is not an exact date") from None
        return moment.date()
    return _date(year, month, day)


def _read_datetime(data: bytes) -> datetime:
    try:
        year, month, day = _read_date_part(data)
        if data[10:11] not in (b"T", b"t", b" ", b"_"):
            raise _Unreadable("invalid datetime separator, expected `T`, `t`, `_` or space")
        clock = _read_time(data, 11)
    except _Unreadable:
        if not (_NUMBER.fullmatch(data) or _FRACTION.fullmatch(data)):
            raise
        return _from_number(data).replace(tzinfo=UTC)
    return datetime.combine(_date(year, month, day), clock)


def _read_time(data: bytes, at: int) -> time:
    if len(data) - at < 5:
        raise _Unreadable("input is too short")
    hour = _digits(data, at, 2, "invalid character in hour")
    if data[at + 2] != _COLON:
        raise _Unreadable("invalid time separator, expected `:`")
    minute = _digits(data, at + 3, 2, "invalid character in minute")
    if hour > 23:
        raise _Unreadable("hour value is outside expected range of 0-23")
    if minute > 59:
        raise _Unreadable("minute value is outside expected range of 0-59")
    at += 5
    second = microsecond = 0
    if data[at : at + 1] == b":":
        second = _digits(data, at + 1, 2, "invalid character in second")
        if second > 59:
            raise _Unreadable("second value is outside expected range of 0-59")
        at += 3
        if data[at : at + 1] in (b".", b","):
            fraction = _LEADING_DIGITS.match(data, at + 1)
            if fraction is None:
                raise _Unreadable("second fraction digits missing after `.`")
            microsecond = int(fraction[0][:6].ljust(6, b"0"))
            at = fraction.end()
    zone, at = _read_zone(data, at)
    if at < len(data):
        raise _Unreadable("unexpected extra characters at the end of the input")
    return time(hour, minute, second, microsecond, zone)


def _read_zone(data: bytes, at: int) -> tuple[timezone | None, int]:
    if at >= len(data):
        return None, at
    if data[at : at + 1] in (b"Z", b"z"):
        return UTC, at + 1
    sign = 1 if data[at : at + 1] == b"+" else -1
    if data.startswith("\N{MINUS SIGN}".encode(), at):
        at += 3
    elif data[at : at + 1] in (b"+", b"-"):
        at += 1
    else:
        raise _Unreadable("invalid timezone sign")
    hours = _digits(data, at, 2, "invalid timezone hour")
    at += 3 if data[at + 2 : at + 3] == b":" else 2
    if not data[at : at + 1].isdigit() and data[at - 1 : at] != b":":
        raise _Unreadable("invalid timezone minute")
    minutes = _digits(data, at, 2, "invalid timezone minute")
    if minutes > 59:
        raise _Unreadable("timezone minute value is outside expected range of 0-59")
    if hours * 60 + minutes >= 24 * 60:
        raise _Unreadable("timezone offset must be less than 24 hours")
    offset = timedelta(hours=hours, minutes=minutes) * sign
    return UTC if not offset else timezone(offset), at + 2


def _from_number(data: bytes) -> datetime:
    """Seconds since 1970, or milliseconds where they are more than `_MILLISECONDS_FROM`."""
    value = Decimal(data.decode())
    if abs(value) > _MILLISECONDS_FROM:
        value /= 1000
    if value < _UNIX_0000:
        raise _Unreadable("dates before 0000 are not supported as unix timestamps")
    if value > _UNIX_9999:
        raise _Unreadable("dates after 9999 are not supported as unix timestamps")
    try:
        return _EPOCH + timedelta(microseconds=round(value * 1_000_000))
    except OverflowError:
        raise _YearZero("year 0 is out of range") from None


def _date(year: int, month: int, day: int) -> date:
    if year == 0:
        raise _YearZero("year 0 is out of range")
    return date(year, month, day)


def _digits(data: bytes, at: int, count: int, error: str) -> int:
    digits = data[at : at + count]
    if len(digits) < count or not digits.isdigit():
        raise _Unreadable(error)
    return int(digits)


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _uuid_error(text: str) -> str | None:
    """Why a string is no UUID, in the words of the crate `uuid`, which pydantic uses; None if it is one after all."""
    offset = 0
    body = text
    if text.startswith("{") and text.endswith("}"):
        offset, body = 1, text[1:-1]
    elif text.startswith("urn:uuid:"):
        offset, body = 9, text[9:]
    for index, character in enumerate(body):
        if character not in _HEX and character != "-":
            return f"invalid character: found `{character}` at {index + offset}"
    groups = body.split("-")
    if len(groups) == 1 and offset == 0:
        return None if len(body) == 32 else f"invalid length: found {len(body)}"
    if len(groups) != 5:
        return f"invalid group count: expected 5, found {len(groups)}"
    for index, (group, expected) in enumerate(zip(groups, (8, 4, 4, 4, 12), strict=True)):
        if len(group) != expected:
            return f"invalid group length in group {index}: expected {expected}, found {len(group)}"
    return None


_HEX = frozenset("0123456789abcdefABCDEF")
_INT = re.compile(r"([+-]?\d+(?:_\d+)*)(?:\.0+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_NUMBER = re.compile(rb"[+-]?\d+")
_FRACTION = re.compile(rb"[+-]?\d+\.\d*")
_LEADING_DIGITS = re.compile(rb"\d+")
_BOOLS = dict.fromkeys(["1", "on", "t", "true", "y", "yes"], True) | dict.fromkeys(["0", "off", "f", "false", "n", "no"], False)
#: CPython refuses longer ones, and so does pydantic.
_DIGITS_MAX = 4300
_MILLISECONDS_FROM = 20_000_000_000
_UNIX_0000 = -62_167_219_200
_UNIX_9999 = 253_402_300_799
_EPOCH = datetime(1970, 1, 1)
_DASH = ord("-")
_COLON = ord(":")
