"""Reads one string into a value of a scalar type, as pydantic 2 does in its lax mode, with its error messages.

What is here is one function per type; constraints, lists and defaults are in `params`.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, get_args
from uuid import UUID

__all__ = ["Invalid", "Parse", "enumeration", "literal", "parse_bool", "parse_date", "parse_datetime", "parse_decimal"]
__all__ += ["date_of_number", "datetime_of_number", "parse_float", "parse_int", "parse_str", "parse_time", "parse_timedelta"]
__all__ += ["parse_uuid", "pattern_of", "time_of_number", "timedelta_of_number"]

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


def parse_timedelta(text: str) -> timedelta:
    """A duration of ISO 8601, or `[D day[s], ]HH:MM:SS`, with a sign before."""
    data = text.encode(errors="replace")
    try:
        return _read_timedelta(data)
    except _Unreadable as error:
        raise _unreadable("time_delta_parsing", "Input should be a valid timedelta", error) from None


def datetime_of_number(value: float) -> datetime:
    """Seconds since 1970 as UTC, or milliseconds where they are more than `_MILLISECONDS_FROM`."""
    try:
        return _moment(value).replace(tzinfo=UTC)
    except (_Unreadable, _YearZero) as error:
        raise _unreadable("datetime_parsing", "Input should be a valid datetime", error) from None


def date_of_number(value: float) -> date:
    """The day of such a number, which must be midnight."""
    try:
        moment = _moment(value)
    except _Unreadable as error:
        raise _unreadable("date_from_datetime_parsing", "Input should be a valid date or datetime", error) from None
    except _YearZero as error:
        raise _unreadable("date_parsing", "Input should be a valid date in the format YYYY-MM-DD", error) from None
    if moment.time() != time():
        raise Invalid("date_from_datetime_inexact", "Datetimes provided to dates should have zero time - e.g. be exact dates")
    return moment.date()


def time_of_number(value: float) -> time:
    """Seconds since midnight, as UTC."""
    try:
        if value != value:
            raise _Unreadable("NaN values not permitted")
        if value < 0:
            raise _Unreadable("time in seconds should be positive")
        if value >= 86_401:
            raise _Unreadable("numeric times may not exceed 86,399 seconds")
        seconds = math.floor(value)
        microseconds = seconds * 1_000_000 + _rounded(math.fmod(value, 1.0) * 1_000_000)
        if microseconds >= 86_400_000_000:
            raise _Unreadable("numeric times may not exceed 86,399 seconds")
    except _Unreadable as error:
        raise _unreadable("time_parsing", "Input should be in a valid time format", error) from None
    return (_EPOCH + timedelta(microseconds=microseconds)).time().replace(tzinfo=UTC)


def timedelta_of_number(value: float) -> timedelta:
    """Seconds."""
    try:
        if value != value:
            raise _Unreadable("NaN values not permitted")
        if abs(value) >= 86_400 * 1_000_000_000:
            raise _Unreadable(_DAYS_TOO_MANY)
        size = abs(value)
        seconds = int(size)
        microseconds = 0 if isinstance(value, int) else _rounded(math.fmod(size, 1.0) * 1_000_000)
        return _duration(value >= 0, seconds // 86_400, seconds % 86_400, microseconds)
    except _Unreadable as error:
        raise _unreadable("time_delta_parsing", "Input should be a valid timedelta", error) from None


def pattern_of(pattern: str) -> re.Pattern[str]:
    """Compiles a regular expression in which `$` is the end of the text only, as in pydantic.

    For `re` it is also the place before a line feed at the end. Raises re.error.
    """
    return re.compile(_DOLLAR.sub(lambda match: match[1] or r"\Z", pattern) if "(?m" not in pattern else pattern)


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
    clock, at = _read_clock(data, at)
    zone, at = _read_zone(data, at)
    if at < len(data):
        raise _Unreadable("unexpected extra characters at the end of the input")
    return clock if zone is None else clock.replace(tzinfo=zone)


def _read_clock(data: bytes, at: int) -> tuple[time, int]:
    """A time without its zone, and the place after it."""
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
    return time(hour, minute, second, microsecond), at


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


def _read_timedelta(data: bytes) -> timedelta:
    positive = data[:1] != b"-"
    body = data[1:] if data[:1] in (b"-", b"+") else data
    if not body:
        raise _Unreadable("input is too short")
    if body[:1] == b"P":
        return _duration(positive, *_read_iso_duration(body[1:]))
    if b"d" in body.lower() or len(body) < 5:
        return _duration(positive, *_read_days(body))
    return _duration(positive, *_read_hours(body))


def _read_iso_duration(data: bytes) -> tuple[int, int, int]:
    """What follows the `P`: days, seconds and microseconds. A year has 365 days, a month 30."""
    days = seconds = microseconds = at = 0
    in_time = had_fraction = False
    while at < len(data):
        if data[at : at + 1] == b"T":
            if in_time:
                raise _Unreadable("`t` character repeated in duration")
            in_time = True
        else:
            number = _QUANTITY.match(data, at)
            if number is None:
                raise _Unreadable("invalid digit in duration")
            value = _read_u32(number[1])
            if had_fraction:
                raise _Unreadable("quantity fraction invalid in duration")
            had_fraction = number[2] is not None
            # A float has no more digits than this.
            fraction = int(number[2]) / 10 ** len(number[2]) if number[2] and len(number[2]) < 309 else 0.0
            at = number.end()
            unit = (_TIME_UNITS if in_time else _DATE_UNITS).get(data[at : at + 1])
            if unit is None:
                raise _Unreadable(f"quantity invalid in {'time' if in_time else 'date'} part of duration")
            if in_time:
                seconds = _checked_u32(seconds + _checked_u32(value * unit))
                extra = fraction * unit
            else:
                days = _checked_u32(days + _checked_u32(value * unit))
                extra_days = fraction * unit
                days = _checked_u32(days + int(extra_days))
                extra = math.fmod(extra_days, 1.0) * 86_400.0
            seconds = _checked_u32(seconds + int(extra))
            microseconds += _rounded(math.fmod(extra, 1.0) * 1_000_000)
        at += 1
    if at < 2:
        raise _Unreadable("input is too short")
    return days, seconds, microseconds


def _read_days(data: bytes) -> tuple[int, int, int]:
    number = _LEADING_DIGITS.match(data)
    if number is None:
        raise _Unreadable("invalid digit in duration")
    days = _read_u32(number[0])
    word = _DAYS.match(data, number.end())
    if word is None:
        raise _Unreadable('"day" identifier in duration not correctly formatted')
    rest = data[word.end() :]
    if not rest:
        return days, 0, 0
    more, seconds, microseconds = _read_hours(rest)
    if more:
        raise _Unreadable("durations may not exceed 999,999,999 hours")
    return days, seconds, microseconds


def _read_hours(data: bytes) -> tuple[int, int, int]:
    if len(data) < 5:
        raise _Unreadable("input is too short")
    hour, colon, rest = data.partition(b":")
    if not colon:
        raise _Unreadable("invalid character in hour")
    if len(hour) > 10:
        raise _Unreadable("durations may not exceed 999,999,999 hours")
    if hour and not hour.isdigit():
        raise _Unreadable("invalid character in hour")
    hours = int(hour or b"0")
    if hours > 24 * 10**8:
        raise _Unreadable("durations may not exceed 999,999,999 hours")
    clock, end = _read_clock(b"00:" + rest[:12], 0)
    if end < len(rest[:12]) + 3:
        raise _Unreadable("unexpected extra characters at the end of the input")
    seconds = hours % 24 * 3600 + clock.minute * 60 + clock.second
    return hours // 24, seconds, clock.microsecond


def _duration(positive: bool, days: int, seconds: int, microseconds: int) -> timedelta:
    size = timedelta(seconds=seconds, microseconds=microseconds)
    if days + size.days > 999_999_999:
        raise _Unreadable(_DAYS_TOO_MANY)
    size += timedelta(days=days)
    try:
        return size if positive else -size
    except OverflowError:
        # Of negative ones there is less than a day less.
        raise _Unreadable(_DAYS_TOO_MANY) from None


def _read_u32(digits: bytes) -> int:
    # More digits than an integer may have are refused by `int`.
    return _checked_u32(int(digits.lstrip(b"0")[:11] or b"0"))


def _checked_u32(value: int) -> int:
    if value >= 1 << 32:
        raise _Unreadable("a numeric value in the duration is too large")
    return value


def _rounded(value: float) -> int:
    """Halves are rounded away from zero, as in Rust."""
    return math.floor(value + 0.5)


def _moment(value: float) -> datetime:
    """The moment of a number that is an int or a float, as `speedate` finds it."""
    if value != value:
        raise _Unreadable("NaN values not permitted")
    whole = max(min(value if isinstance(value, int) else _floored(value), _I64_MAX), -_I64_MAX - 1)
    milliseconds = abs(value) > _MILLISECONDS_FROM
    fraction = 0.0 if isinstance(value, int) or math.isinf(value) else value - math.floor(value)
    microseconds = _rounded(fraction * (1_000 if milliseconds else 1_000_000))
    seconds = whole
    if milliseconds:
        seconds, rest = divmod(whole, 1000)
        microseconds += rest * 1000
    seconds += microseconds // 1_000_000
    if seconds < _UNIX_0000:
        raise _Unreadable("dates before 0000 are not supported as unix timestamps")
    if seconds > _UNIX_9999:
        raise _Unreadable("dates after 9999 are not supported as unix timestamps")
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=microseconds % 1_000_000)
    except OverflowError:
        raise _YearZero("year 0 is out of range") from None


def _floored(value: float) -> int:
    return math.floor(value) if math.isfinite(value) else _I64_MAX if value > 0 else -_I64_MAX - 1


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
    """Why a string is no UUID, in the words of the crate `uuid`, which pydantic uses; None if it is one after all.

    Places and lengths are in octets of UTF-8, and of a character the crate looks at the last octet of its number only.
    """
    size = len(text.encode(errors="replace"))
    if not 0 < size <= 45:
        return f"invalid length: found {size}"
    start, body, is_hyphenated = 0, text, size == 36
    for prefix, suffix, whole in (("{", "}", 38), ("urn:uuid:", "", 45)):
        if not is_hyphenated and text.startswith(prefix) and text.endswith(suffix) and size > len(suffix):
            body = text[len(prefix) : len(text) - len(suffix)]
            if size == whole:
                # Of the right length, it is only looked at inside.
                is_hyphenated, size = True, 36
            else:
                start = len(prefix)
            break
    hyphens: list[int] = []
    index = 0
    for character in body:
        octet = chr(ord(character) & 0xFF)
        if octet == "-":
            hyphens.append(index)
        elif octet not in _HEX:
            return f"invalid character: found `{character}` at {index + start}"
        index += len(character.encode(errors="replace"))
    if not hyphens and start == 0 and not is_hyphenated:
        return None if size == 32 and text.isascii() else f"invalid length: found {size}"
    if len(hyphens) != 4:
        return f"invalid group count: expected 5, found {len(hyphens) + 1}"
    for group, (at, begin, expected) in enumerate(zip(hyphens, (0, 9, 14, 19), (8, 4, 4, 4), strict=True)):
        if at != begin + expected:
            return f"invalid group length in group {group}: expected {expected}, found {at - begin}"
    if index == 36 and body.isascii():
        return None
    return f"invalid group length in group 4: expected 12, found {size - 24}"


_HEX = frozenset("0123456789abcdefABCDEF")
_INT = re.compile(r"([+-]?\d+(?:_\d+)*)(?:\.0+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_NUMBER = re.compile(rb"[+-]?\d+")
_FRACTION = re.compile(rb"[+-]?\d+\.\d*")
_LEADING_DIGITS = re.compile(rb"\d+")
_QUANTITY = re.compile(rb"(\d+)(?:[.,](\d*))?")
_DAYS = re.compile(rb" ?[dD](?:ays?|AYS?|(?![aA]))(?:, ?| )?")
#: A `$` outside of a set of characters; what must be skipped before it is the group.
_DOLLAR = re.compile(r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|\$", re.DOTALL)
_TIME_UNITS = {b"H": 3600, b"M": 60, b"S": 1}
_DATE_UNITS = {b"Y": 365, b"M": 30, b"W": 7, b"D": 1}
_DAYS_TOO_MANY = "durations may not exceed 999,999,999 days"
_I64_MAX = (1 << 63) - 1
_BOOLS = dict.fromkeys(["1", "on", "t", "true", "y", "yes"], True) | dict.fromkeys(["0", "off", "f", "false", "n", "no"], False)
#: CPython refuses longer ones, and so does pydantic.
_DIGITS_MAX = 4300
_MILLISECONDS_FROM = 20_000_000_000
_UNIX_0000 = -62_167_219_200
_UNIX_9999 = 253_402_300_799
_EPOCH = datetime(1970, 1, 1)
_DASH = ord("-")
_COLON = ord(":")
