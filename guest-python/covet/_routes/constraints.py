"""Scalars and lists of them within the bounds that a `Param` gives, and their schemas."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from covet._models import strings
from covet._models.model import InvalidModel
from covet._models.strings import Invalid, Parse
from covet.params import Param

__all__ = ["COLLECTIONS", "InvalidItems", "bounds_of_items", "is_known_scalar", "list_reader", "scalar"]


class InvalidItems(Exception):
    """Items of a list that are not values of its type."""

    def __init__(self, items: list[tuple[int, Invalid | InvalidModel]]) -> None:
        super().__init__(items)
        self.items = items


def bounds_of_items(info: Param) -> Param:
    """Of a list, the lengths are those of the list; everything else is said of its items."""
    copied = info.with_default(info.default)
    copied.min_length = copied.max_length = None
    return copied


def list_reader(parse: Parse, collection: Callable[[list[Any]], Any], info: Param) -> Parse:
    least, most = info.min_length, info.max_length
    field_type = collection.__name__.title() if isinstance(collection, type) else "List"

    def too_long(count: int) -> Invalid:
        return Invalid(
            "too_long",
            f"{field_type} should have at most {most} item{_plural(most or 0)} after validation, not {count}",
            {"field_type": field_type, "max_length": most, "actual_length": count},
        )

    def parse_all(texts: Any) -> Any:
        if most is not None and collection in (list, tuple) and len(texts) > most:
            raise too_long(len(texts))
        values: list[Any] = []
        invalid: list[tuple[int, Invalid | InvalidModel]] = []
        for index, text in enumerate(texts):
            try:
                values.append(parse(text))
            except (Invalid, InvalidModel) as error:
                invalid.append((index, error))
        if invalid:
            raise InvalidItems(invalid)
        result = collection(values)
        count = len(result)
        if least is not None and count < least:
            raise Invalid(
                "too_short",
                f"{field_type} should have at least {least} item{_plural(least)} after validation, not {count}",
                {"field_type": field_type, "min_length": least, "actual_length": count},
            )
        if most is not None and count > most:
            raise too_long(count)
        return result

    return parse_all


def is_known_scalar(annotation: Any) -> bool:
    return (
        annotation in _SCALARS
        or get_origin(annotation) is Literal
        or (isinstance(annotation, type) and issubclass(annotation, Enum))
    )


def scalar(annotation: Any, info: Param) -> tuple[Parse, dict[str, Any]]:
    """How a string is read as the type, within the bounds."""
    if annotation in _SCALARS:
        parse, schema = _SCALARS[annotation]
        schema = dict(schema)
    elif get_origin(annotation) is Literal:
        parse, schema = strings.literal(annotation), _schema_of_values(get_args(annotation))
    else:
        parse = strings.enumeration(annotation)
        schema = _schema_of_values([member.value for member in annotation])
    if annotation is float and info.allow_inf_nan is False:
        parse = _finite(parse)
    parse = _bounded(parse, annotation, info, schema)
    if annotation in (str, Any):
        parse = _sized(parse, info, schema)
    return parse, schema


def _bounded(parse: Parse, annotation: Any, info: Param, schema: dict[str, Any]) -> Parse:
    # In the order in which pydantic checks them; for numbers the context has them as the type of the parameter.
    for key, check, type_, words, keyword in _BOUNDS:
        bound = getattr(info, key)
        if bound is not None:
            if annotation is float:
                bound = float(bound)
            elif annotation is Decimal:
                bound = Decimal(str(bound))
            schema[keyword] = bound
            shown = str(int(bound)) if isinstance(bound, float) and bound.is_integer() else str(bound)
            parse = _checked(parse, bound, check, Invalid(type_, f"Input should be {words} {shown}", {key: bound}))
    return parse


def _checked(parse: Parse, bound: Any, check: Callable[[Any, Any], bool], error: Invalid) -> Parse:
    type_, message, context = error.type, error.message, error.context

    def bounded(text: str) -> Any:
        value = parse(text)
        if check(value, bound):
            return value
        raise Invalid(type_, message, context)

    return bounded


def _finite(parse: Parse) -> Parse:
    def finite(text: str) -> Any:
        value = parse(text)
        if math.isfinite(value):
            return value
        raise Invalid("finite_number", "Input should be a finite number")

    return finite


def _sized(parse: Parse, info: Param, schema: dict[str, Any]) -> Parse:
    least, most, pattern = info.min_length, info.max_length, info.pattern
    if least is None and most is None and pattern is None:
        return parse
    if least is not None:
        schema["minLength"] = least
    if most is not None:
        schema["maxLength"] = most
    if pattern is not None:
        schema["pattern"] = pattern
    search = re.compile(pattern).search if pattern is not None else None

    def sized(text: str) -> Any:
        if least is not None and len(text) < least:
            message = f"String should have at least {least} character{_plural(least)}"
            raise Invalid("string_too_short", message, {"min_length": least})
        if most is not None and len(text) > most:
            message = f"String should have at most {most} character{_plural(most)}"
            raise Invalid("string_too_long", message, {"max_length": most})
        if search is not None and search(text) is None:
            message = f"String should match pattern '{pattern}'"
            raise Invalid("string_pattern_mismatch", message, {"pattern": pattern})
        return text

    return sized


def _schema_of_values(values: Sequence[Any]) -> dict[str, Any]:
    plain = [value.value if isinstance(value, Enum) else value for value in values]
    schema: dict[str, Any] = {"enum": plain}
    kinds = {type(value) for value in plain}
    for kind, word in ((str, "string"), (int, "integer")):
        if all(issubclass(found, kind) for found in kinds):
            schema["type"] = word
    return schema


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _is_multiple(value: Any, step: Any) -> bool:
    rest = value % step
    if not isinstance(value, float):
        return bool(rest == 0)
    # As pydantic: a float is a multiple when it misses by no more than its own rounding.
    return bool(min(abs(rest), abs(rest - step)) <= abs(value) / 1e9)


_SCALARS: dict[Any, tuple[Parse, dict[str, Any]]] = {
    str: (strings.parse_str, {"type": "string"}),
    Any: (strings.parse_str, {}),
    int: (strings.parse_int, {"type": "integer"}),
    float: (strings.parse_float, {"type": "number"}),
    bool: (strings.parse_bool, {"type": "boolean"}),
    UUID: (strings.parse_uuid, {"type": "string", "format": "uuid"}),
    datetime: (strings.parse_datetime, {"type": "string", "format": "date-time"}),
    date: (strings.parse_date, {"type": "string", "format": "date"}),
    time: (strings.parse_time, {"type": "string", "format": "time"}),
    Decimal: (strings.parse_decimal, {"type": "string", "format": "decimal"}),
}

COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
}

_BOUNDS: tuple[tuple[str, Callable[[Any, Any], bool], str, str, str], ...] = (
    ("multiple_of", _is_multiple, "multiple_of", "a multiple of", "multipleOf"),
    ("le", lambda value, bound: bool(value <= bound), "less_than_equal", "less than or equal to", "maximum"),
    ("lt", lambda value, bound: bool(value < bound), "less_than", "less than", "exclusiveMaximum"),
    ("ge", lambda value, bound: bool(value >= bound), "greater_than_equal", "greater than or equal to", "minimum"),
    ("gt", lambda value, bound: bool(value > bound), "greater_than", "greater than", "exclusiveMinimum"),
)
