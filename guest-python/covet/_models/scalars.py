"""Checks of scalar values: Python objects instead of strings, which are in `strings`, and the bounds of both.

A check takes a value and returns one of its type, or raises `Invalid` with the error that pydantic has for it. What it
converts is told to the trace, if there is one: a union chooses the member that had to convert least.
"""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, DecimalException
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

from . import strings
from .strings import Invalid
from .types import Enumeration, Scalar

__all__ = [
    "EXACT",
    "LAX",
    "STRICT",
    "Check",
    "InvalidConverted",
    "Trace",
    "check_choice",
    "check_enumeration",
    "check_scalar",
    "inline_test",
]
__all__ += ["check_bounds", "shown", "too_long", "too_short"]

#: How much of a conversion was needed: none, that of a subclass or of a mapping to a record, or another.
LAX, STRICT, EXACT = range(3)


class Trace:
    """What a union has to know of the way in which a member took a value."""

    __slots__ = ("exactness", "fields", "known")

    def __init__(self, known: dict[tuple[int, int], Any]) -> None:
        self.exactness = EXACT
        #: What unions inside of this one have found for the values that they were asked for: several members may ask for the
        #: same, and those inside of them again, which doubles with each level.
        self.known = known
        #: How many fields of records were given; None if there is no record.
        self.fields: int | None = None

    def floor(self, exactness: int) -> None:
        if exactness < self.exactness:
            self.exactness = exactness

    def add_fields(self, count: int) -> None:
        self.fields = count if self.fields is None else self.fields + count


Check = Callable[[Any, Trace | None], Any]


class InvalidConverted(Invalid):
    """As `Invalid`; the error shows what the value became, not the value."""

    def __init__(self, value: Any, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.value = value


def check_scalar(node: Scalar) -> Check:
    """The check of a scalar type within its bounds."""
    check = _CHECKS[node.cls]
    if node.cls is float and node.bounds.get("allow_inf_nan") is False:
        check = _finite(check)
    if node.cls is Decimal:
        return _decimal(node.bounds)
    bounds = {name: bound for name, bound in node.bounds.items() if name != "allow_inf_nan"}
    if not bounds:
        return check
    if node.cls is str:
        return _sized_text(bounds)
    if node.cls is bytes:
        return _sized_bytes(bounds)
    return _bounded(check, node.cls, bounds)


def inline_test(node: Scalar, name: str, names: dict[str, Any]) -> str | None:
    """Source that is true if the value called `name` needs no check at all; what it refers to is put into `names`."""
    if node.cls is NoneType:
        return f"{name} is None"
    if node.cls not in (bool, int, float, str, bytes):
        return None
    test = f"type({name}) is {node.cls.__name__}"
    if node.cls is str and node.bounds:
        # Half of a surrogate pair is refused where a string is looked into.
        test += f" and {name}.isascii()"
    for key, bound in node.bounds.items():
        if key in _OPERATORS:
            constant = f"bound{len(names)}"
            names[constant] = bound
            test += f" and {name} {_OPERATORS[key]} {constant}"
        elif key == "min_length":
            test += f" and len({name}) >= {int(bound)}"
        elif key == "max_length":
            test += f" and len({name}) <= {int(bound)}"
        elif key == "pattern":
            constant = f"bound{len(names)}"
            names[constant] = _compiled(bound).search
            test += f" and {constant}({name}) is not None"
        elif key == "allow_inf_nan":
            test += f" and {name} - {name} == 0.0" if bound is False else ""
        else:
            return None
    return test


def check_choice(values: list[Any], read_integers: bool) -> Check:
    """The check of a `Literal`. With `read_integers` "1" is 1."""
    expected = _expected(values)
    lookup = _Lookup([(value, value) for value in values])
    integers = _integers(values) if read_integers else None

    def check(value: Any, trace: Trace | None) -> Any:
        found = lookup.find(value)
        if found is not _ABSENT:
            return found
        if integers is not None and type(value) is str:
            try:
                return integers[strings.parse_int(value)]
            except (Invalid, KeyError):
                pass
        raise Invalid("literal_error", f"Input should be {expected}", {"expected": expected})

    return check


def check_enumeration(node: Enumeration, read_integers: bool) -> Check:
    """The check of an enumeration: its members, and their values."""
    class_, kind = node.cls, node.kind
    members = list(class_)
    values = [member.value for member in members]
    expected = _expected(values)
    lookup = _Lookup([(member.value, member) for member in members])
    integers = _integers(values) if read_integers else None
    by_integer = {value: member for value, member in zip(values, members, strict=True) if type(value) is int}

    def convert(value: Any) -> Any:
        """The member of a value; `_ABSENT` if there is none."""
        if kind is None:
            found = lookup.find(value)
            if found is _ABSENT and isinstance(value, str):
                return lookup.find_str(value)
            if found is _ABSENT and isinstance(value, (int, float)):
                return lookup.find_int(value)
            return found
        if kind is int:
            return lookup.find_int(value)
        if kind is str:
            return lookup.find_str(value)
        return lookup.find_float(value)

    def check(value: Any, trace: Trace | None) -> Any:
        if type(value) is class_:
            return value
        if trace is not None:
            trace.floor(LAX)
        found = convert(value)
        if found is not _ABSENT:
            return found
        if integers is not None and type(value) is str:
            try:
                return by_integer[strings.parse_int(value)]
            except (Invalid, KeyError):
                pass
        try:
            # The class has a word in it too, by its `_missing_`.
            return class_(value)
        except (ValueError, TypeError):
            # A TypeError is that of a value that has no hash, where the values of the members have.
            raise Invalid("enum", f"Input should be {expected}", {"expected": expected}) from None

    return check


def check_bounds(bounds: dict[str, Any]) -> Callable[[Any], None]:
    """The bounds that are checked of a value of any type, after it has been read."""

    def check(value: Any) -> None:
        for name, bound in bounds.items():
            if name == "min_length":
                if not len(value) >= bound:
                    raise too_short("Value", bound, len(value))
            elif name == "max_length":
                if len(value) > bound:
                    raise too_long("Value", bound, len(value))
            elif not _COMPARISONS[name](value, bound):
                type_, words = _WORDS[name]
                context = bound if isinstance(bound, (int, float, str)) else repr(bound)
                raise Invalid(type_, f"Input should be {words} {shown(context)}", {name: context})

    return check


def too_short(what: str, least: int, count: int) -> Invalid:
    return Invalid(
        "too_short",
        f"{what} should have at least {least} item{_plural(least)} after validation, not {count}",
        {"field_type": what, "min_length": least, "actual_length": count},
    )


def too_long(what: str, most: int, count: int | None) -> Invalid:
    return Invalid(
        "too_long",
        f"{what} should have at most {most} item{_plural(most)} after validation, not {'more' if count is None else count}",
        {"field_type": what, "max_length": most, "actual_length": count},
    )


def shown(bound: Any) -> str:
    """A bound in a message, as Rust writes it: floats never have an exponent."""
    if type(bound) is not float:
        return str(bound)
    if not math.isfinite(bound):
        return "NaN" if math.isnan(bound) else "inf" if bound > 0 else "-inf"
    text = format(Decimal(repr(bound)), "f")
    return text.removesuffix(".0")


def _check_none(value: Any, trace: Trace | None) -> None:
    if value is not None:
        raise Invalid("none_required", "Input should be None")


def _check_bool(value: Any, trace: Trace | None) -> Any:
    if type(value) is bool:
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, bytes)):
        return _parsed(strings.parse_bool, value, "bool_parsing", "a valid boolean, unable to interpret input")
    number = _number(value)
    if number is not None and -_I64 <= number < _I64:
        if number == 0 or number == 1:
            return bool(number)
        if number == int(number):
            raise Invalid("bool_parsing", "Input should be a valid boolean, unable to interpret input")
    raise Invalid("bool_type", "Input should be a valid boolean")


def _check_int(value: Any, trace: Trace | None) -> Any:
    if type(value) is int:
        return value
    if isinstance(value, int):
        if trace is not None:
            trace.floor(LAX if type(value) is bool else STRICT)
        return int(value)
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, bytes)):
        return _parsed(strings.parse_int, value, "int_parsing", "a valid integer, unable to parse string as an integer")
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise Invalid("finite_number", "Input should be a finite number")
        if value.as_integer_ratio()[1] != 1:
            raise Invalid("int_from_float", "Input should be a valid integer, got a number with a fractional part")
        if isinstance(value, float) and not -_I64 < value < _I64:
            message = "Unable to parse input string as an integer, exceeded maximum size"
            raise Invalid("int_parsing_size", message)
        return int(value)
    if isinstance(value, Enum) and isinstance(value.value, int):
        return value.value
    raise Invalid("int_type", "Input should be a valid integer")


def _check_float(value: Any, trace: Trace | None) -> Any:
    if type(value) is float:
        return value
    if isinstance(value, (str, bytes)):
        if trace is not None:
            trace.floor(LAX)
        return _parsed(strings.parse_float, value, "float_parsing", "a valid number, unable to parse string as a number")
    if trace is not None:
        trace.floor(LAX if type(value) is bool else STRICT)
    if isinstance(value, (int, float, Decimal)):
        try:
            return float(value)
        except (ArithmeticError, ValueError):
            pass
    raise Invalid("float_type", "Input should be a valid number")


def _check_str(value: Any, trace: Trace | None) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, str):
        if trace is not None:
            trace.floor(STRICT)
        # What the string is, whatever its class makes of `str()`.
        return _checked_unicode("".join(value))
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise _not_unicode() from None
    if isinstance(value, Enum):
        return str(value.value)
    raise Invalid("string_type", "Input should be a valid string")


def _check_bytes(value: Any, trace: Trace | None) -> Any:
    if isinstance(value, bytes):
        if trace is not None and type(value) is not bytes:
            trace.floor(STRICT)
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, str):
        return _checked_unicode(value).encode()
    if isinstance(value, bytearray):
        return bytes(value)
    raise Invalid("bytes_type", "Input should be a valid bytes")


def _check_datetime(value: Any, trace: Trace | None) -> Any:
    if isinstance(value, datetime):
        if trace is not None and type(value) is not datetime:
            trace.floor(STRICT)
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, bytes)):
        return _parsed(strings.parse_datetime, value)
    if type(value) is not bool and (number := _number(value)) is not None:
        return strings.datetime_of_number(number)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    raise Invalid("datetime_type", "Input should be a valid datetime")


def _check_date(value: Any, trace: Trace | None) -> Any:
    if type(value) is date:
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        if trace is not None:
            trace.floor(STRICT)
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, bytes)):
        return _parsed(strings.parse_date, value)
    if isinstance(value, datetime):
        if value.time() != time():
            message = "Datetimes provided to dates should have zero time - e.g. be exact dates"
            raise Invalid("date_from_datetime_inexact", message)
        return value.date()
    if type(value) is not bool and (number := _number(value)) is not None:
        return strings.date_of_number(number)
    raise Invalid("date_type", "Input should be a valid date")


def _check_time(value: Any, trace: Trace | None) -> Any:
    if isinstance(value, time):
        if trace is not None and type(value) is not time:
            trace.floor(STRICT)
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, bytes)):
        return _parsed(strings.parse_time, value)
    if type(value) is not bool and (number := _number(value)) is not None:
        return strings.time_of_number(number)
    raise Invalid("time_type", "Input should be a valid time")


def _check_timedelta(value: Any, trace: Trace | None) -> Any:
    if isinstance(value, timedelta):
        if trace is not None and type(value) is not timedelta:
            trace.floor(STRICT)
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, bytes)):
        return _parsed(strings.parse_timedelta, value)
    if (number := _number(value)) is not None:
        return strings.timedelta_of_number(number)
    raise Invalid("time_delta_type", "Input should be a valid timedelta")


def _number(value: Any) -> float | None:
    """An integer of 64 bits, or a float; None for what is no number, or larger than those."""
    if isinstance(value, int) and -_I64 <= value < _I64:
        return int(value)
    if isinstance(value, (int, float, Decimal)):
        with suppress(ArithmeticError, ValueError):
            return float(value)
    return None


def _check_uuid(value: Any, trace: Trace | None) -> Any:
    if isinstance(value, UUID):
        return value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, str):
        return strings.parse_uuid(_checked_unicode(value))
    if isinstance(value, bytes):
        # As text, or as its octets.
        with suppress(Invalid, UnicodeDecodeError):
            return strings.parse_uuid(value.decode())
        if len(value) == 16:
            return UUID(bytes=value)
        error = f"invalid length: expected 16 bytes, found {len(value)}"
        raise Invalid("uuid_parsing", f"Input should be a valid UUID, {error}", {"error": error})
    raise Invalid("uuid_type", "UUID input should be a string, bytes or UUID object")


def _check_decimal(value: Any, trace: Trace | None) -> Any:
    if type(value) is Decimal:
        return value
    if isinstance(value, Decimal):
        if trace is not None:
            trace.floor(STRICT)
        return Decimal(value)
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (str, int, float)) and type(value) is not bool:
        try:
            return Decimal(str(value) if isinstance(value, float) else value)
        except (DecimalException, ValueError):
            raise Invalid("decimal_parsing", "Input should be a valid decimal") from None
    raise Invalid("decimal_type", "Decimal input should be an integer, float, string or Decimal object")


def _decimal(bounds: dict[str, Any]) -> Check:
    # pydantic looks at digits and places before it compares, and at the multiple in between.
    digits, places = bounds.get("max_digits"), bounds.get("decimal_places")
    finite = not bounds.get("allow_inf_nan", False)
    comparisons = {name: bound for name, bound in bounds.items() if name in _COMPARISONS}

    def check(value: Any, trace: Trace | None) -> Decimal:
        number: Decimal = _check_decimal(value, trace)
        if not number.is_finite() and (finite or digits is not None or places is not None):
            raise Invalid("finite_number", "Input should be a finite number")
        if digits is not None or places is not None:
            _check_digits(number, digits, places)
        for name, bound in comparisons.items():
            if number.is_nan() or not _COMPARISONS[name](number, bound):
                type_, words = _WORDS[name]
                raise Invalid(type_, f"Input should be {words} {bound}", {name: bound})
        return number

    return check


def _check_digits(number: Decimal, digits_max: int | None, places_max: int | None) -> None:
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    stripped = "".join(map(str, digits)).rstrip("0")
    found = [_count_digits(len(digits), exponent)]
    # A zero after the point does not count.
    found.append(_count_digits(len(stripped), exponent + len(digits) - len(stripped)) if exponent < 0 else found[0])
    if not stripped:
        found[1] = (0, 1)
    if digits_max is not None and all(digits > digits_max for _, digits in found):
        message = f"Decimal input should have no more than {digits_max} digit{_plural(digits_max)} in total"
        raise Invalid("decimal_max_digits", message, {"max_digits": digits_max})
    if places_max is None:
        return
    if all(places > places_max for places, _ in found):
        message = f"Decimal input should have no more than {places_max} decimal place{_plural(places_max)}"
        raise Invalid("decimal_max_places", message, {"decimal_places": places_max})
    if digits_max is not None:
        whole = max(digits_max - places_max, 0)
        if all(digits - places > whole for places, digits in found):
            message = f"Decimal input should have no more than {whole} digit{_plural(whole)} before the decimal point"
            raise Invalid("decimal_whole_digits", message, {"whole_digits": whole})


def _count_digits(count: int, exponent: int) -> tuple[int, int]:
    """The places after the point, and the digits altogether."""
    return (0, count + exponent) if exponent >= 0 else (-exponent, max(count, -exponent))


def _finite(check: Check) -> Check:
    def finite(value: Any, trace: Trace | None) -> Any:
        number = check(value, trace)
        if math.isfinite(number):
            return number
        raise Invalid("finite_number", "Input should be a finite number")

    return finite


def _bounded(check: Check, type_: Any, bounds: dict[str, Any]) -> Check:
    tests = [(_COMPARISONS[name], bound, _refusal(type_, name, bound)) for name, bound in bounds.items()]

    def bounded(value: Any, trace: Trace | None) -> Any:
        read = check(value, trace)
        for compare, bound, refusal in tests:
            if not compare(read, bound):
                raise InvalidConverted(read, *refusal) if type_ is timedelta else Invalid(*refusal)
        return read

    return bounded


def _refusal(type_: Any, name: str, bound: Any) -> tuple[str, str, dict[str, Any]]:
    error, words = _WORDS[name]
    if type_ is timedelta:
        context: Any = _human(bound)
    elif type_ in (int, float):
        context = type_(bound)
    else:
        context = _iso(bound)
    return error, f"Input should be {words} {shown(context)}", {name: context}


def _sized_text(bounds: dict[str, Any]) -> Check:
    least, most, pattern = bounds.get("min_length"), bounds.get("max_length"), bounds.get("pattern")
    compiled = _compiled(pattern) if pattern is not None else None
    search = compiled.search if compiled is not None else None

    def check(value: Any, trace: Trace | None) -> str:
        text = _checked_unicode(_check_str(value, trace))
        if least is not None and len(text) < least:
            message = f"String should have at least {least} character{_plural(least)}"
            raise Invalid("string_too_short", message, {"min_length": least})
        if most is not None and len(text) > most:
            message = f"String should have at most {most} character{_plural(most)}"
            raise Invalid("string_too_long", message, {"max_length": most})
        if search is not None and search(text) is None:
            source = getattr(pattern, "pattern", pattern)
            raise Invalid("string_pattern_mismatch", f"String should match pattern '{source}'", {"pattern": source})
        return text

    return check


def _sized_bytes(bounds: dict[str, Any]) -> Check:
    least, most = bounds.get("min_length"), bounds.get("max_length")

    def check(value: Any, trace: Trace | None) -> bytes:
        data: bytes = _check_bytes(value, trace)
        if least is not None and len(data) < least:
            message = f"Data should have at least {least} byte{_plural(least)}"
            raise Invalid("bytes_too_short", message, {"min_length": least})
        if most is not None and len(data) > most:
            message = f"Data should have at most {most} byte{_plural(most)}"
            raise Invalid("bytes_too_long", message, {"max_length": most})
        return data

    return check


def _compiled(pattern: Any) -> re.Pattern[str]:
    return pattern if isinstance(pattern, re.Pattern) else strings.pattern_of(pattern)


class _Lookup:
    """Finds what belongs to a value, in pydantic's order: by type and value first, then by equality."""

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self.bools: dict[bool, Any] = {}
        self.ints: dict[int, Any] = {}
        self.strs: dict[str, Any] = {}
        self.others: dict[Any, Any] = {}
        self.unhashable: list[tuple[Any, Any]] = []
        self.primitives: dict[Any, Any] = {}
        for value, found in pairs:
            if type(value) is bool:
                self.bools[value] = self.primitives[value] = self.others[value] = found
            elif type(value) is int and -_I64 <= value < _I64:
                self.ints[value] = self.primitives[value] = found
            elif type(value) is str:
                self.strs[value] = self.primitives[value] = found
            else:
                try:
                    self.others[value] = found
                except TypeError:
                    self.unhashable.append((value, found))

    def find(self, value: Any) -> Any:
        type_ = type(value)
        if type_ is str:
            if value in self.strs:
                return self.strs[value]
            if self.strs:
                _checked_unicode(value)
        elif type_ is int:
            if value in self.ints:
                return self.ints[value]
            if self.ints:
                _checked_size(value)
        elif type_ is bool and value in self.bools:
            return self.bools[value]
        try:
            if value in self.others:
                return self.others[value]
        except TypeError:
            pass
        for other, found in self.unhashable:
            if other == value:
                return found
        try:
            return self.primitives.get(value, _ABSENT)
        except TypeError:
            return _ABSENT

    def find_int(self, value: Any) -> Any:
        return self._found(self.ints, _check_int, value)

    def find_str(self, value: Any) -> Any:
        return self._found(self.strs, lambda text, trace: _checked_unicode(_check_str(text, trace)), value, refuse=True)

    def find_float(self, value: Any) -> Any:
        return self._found(self.others, _check_float, value)

    @staticmethod
    def _found(values: dict[Any, Any], check: Check, value: Any, refuse: bool = False) -> Any:
        if not values:
            return _ABSENT
        try:
            read = check(value, None)
        except Invalid as error:
            if refuse and error.type == "string_unicode" and isinstance(value, str):
                raise
            return _ABSENT
        return values.get(_checked_size(read) if check is _check_int else read, _ABSENT)


def _checked_size(value: int) -> int:
    """Only integers of 64 bits are looked for."""
    if -_I64 <= value < _I64:
        return value
    raise InvalidConverted(value, "int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size")


def _integers(values: list[Any]) -> dict[int, Any] | None:
    return {value: value for value in values if type(value) is int} or None


def _expected(values: list[Any]) -> str:
    texts = [repr(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def _parsed(parse: Callable[[str], Any], value: str | bytes, type_: str = "", words: str = "") -> Any:
    """Reads text; `type_` and `words` are the error for octets that are no text."""
    if isinstance(value, bytes):
        try:
            value = value.decode() if type_ else value.decode(errors="replace")
        except UnicodeDecodeError:
            raise Invalid(type_, f"Input should be {words}") from None
    try:
        return parse(value)
    except Invalid:
        # A string that holds half of a surrogate pair is nothing but that.
        _checked_unicode(value)
        raise


def _checked_unicode(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _not_unicode() from None
    return text


def _not_unicode() -> Invalid:
    return Invalid("string_unicode", "Input should be a valid string, unable to parse raw data as a unicode string")


def _is_multiple(value: Any, step: Any) -> bool:
    if isinstance(value, float):
        # As pydantic: within 1e-9.
        if not math.isfinite(value / step):
            return not math.isfinite(value)
        return not abs(value - math.floor(value / step + 0.5) * step) > 1e-9
    if isinstance(value, Decimal):
        try:
            return bool((value / step) % 1 == 0)
        except DecimalException:
            return False
    return bool(value % step == type(value)(0))


def _iso(bound: Any) -> str:
    """A date or time as the crate `speedate` writes it."""
    text: str = bound.isoformat()
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text


def _human(bound: timedelta) -> str:
    hours, rest = divmod(bound.seconds, 3600)
    parts = [(bound.days, "day"), (hours, "hour"), (rest // 60, "minute"), (rest % 60, "second")]
    parts.append((bound.microseconds, "microsecond"))
    return " and ".join(f"{count} {unit}{_plural(count)}" for count, unit in parts if count) or "0 seconds"


def _as_utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(value: Any, bound: Any) -> bool:
        try:
            return bool(compare(value, bound))
        except TypeError:
            # One of them has a zone, the other has not.
            return bool(compare(_as_utc(value), _as_utc(bound)))

    return compared


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


_ABSENT: Any = object()
_I64 = 1 << 63

_CHECKS: dict[Any, Check] = {
    NoneType: _check_none,
    bool: _check_bool,
    int: _check_int,
    float: _check_float,
    str: _check_str,
    bytes: _check_bytes,
    Decimal: _check_decimal,
    datetime: _check_datetime,
    date: _check_date,
    time: _check_time,
    timedelta: _check_timedelta,
    UUID: _check_uuid,
}
_OPERATORS = {"le": "<=", "lt": "<", "ge": ">=", "gt": ">"}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "multiple_of": _is_multiple,
    "le": _compared(lambda value, bound: value <= bound),
    "lt": _compared(lambda value, bound: value < bound),
    "ge": _compared(lambda value, bound: value >= bound),
    "gt": _compared(lambda value, bound: value > bound),
}
_WORDS = {
    "multiple_of": ("multiple_of", "a multiple of"),
    "le": ("less_than_equal", "less than or equal to"),
    "lt": ("less_than", "less than"),
    "ge": ("greater_than_equal", "greater than or equal to"),
    "gt": ("greater_than", "greater than"),
}
