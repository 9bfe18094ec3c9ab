"""`Query` and `Path`, and how a handler's parameters are read from a request.

What a string means for a type is in `_scalars`; here are constraints, lists, defaults, and the schema of each parameter.
"""

import inspect
import math
import re
import types
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, ParamSpec, Union, get_args, get_origin
from uuid import UUID

from . import _scalars
from ._scalars import Invalid, Parse
from .types import ErrorDetail

__all__ = ["Field", "Path", "Query", "field_of"]


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


class Param:
    """What is said about a parameter beside its type."""

    where = ""

    def __init__(
        self,
        default: Any = REQUIRED,
        *,
        default_factory: Callable[[], Any] | None = None,
        alias: str | None = None,
        title: str | None = None,
        description: str | None = None,
        gt: Any = None,
        ge: Any = None,
        lt: Any = None,
        le: Any = None,
        multiple_of: float | None = None,
        allow_inf_nan: bool | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
        examples: Sequence[Any] | None = None,
        deprecated: bool = False,
        include_in_schema: bool = True,
    ) -> None:
        self.default = REQUIRED if default is ... else default
        self.default_factory = default_factory
        self.alias = alias
        self.title = title
        self.description = description
        self.gt, self.ge, self.lt, self.le = gt, ge, lt, le
        self.multiple_of = multiple_of
        self.allow_inf_nan = allow_inf_nan
        self.min_length, self.max_length = min_length, max_length
        self.pattern = pattern
        self.examples = examples
        self.deprecated = deprecated
        self.include_in_schema = include_in_schema

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.default!r})"


class QueryParam(Param):
    """A parameter of the query string: `limit: int = Query(10, ge=1, le=100)`.

    Without a default, or with `...`, it must be given. `ge`, `gt`, `le`, `lt` and `multiple_of` bound numbers and dates,
    `min_length` and `max_length` strings and lists, `pattern` is a regular expression that is searched in a string.
    `alias` is its name in the query string where that is not the name of the parameter.
    """

    where = "query"


class PathParam(Param):
    """A placeholder of the route's path: `user_id: int = Path(ge=1)`. It has no default, because it is always there."""

    where = "path"


P = ParamSpec("P")


def _as_default(make: Callable[P, Param]) -> Callable[P, Any]:
    """Lets a type checker accept `limit: int = Query(10)`."""
    return make


Query = _as_default(QueryParam)
Path = _as_default(PathParam)


@dataclass(slots=True)
class Field:
    """One parameter of a handler, ready to be read from requests."""

    #: The name of the handler's parameter.
    name: str
    #: The name in the request.
    alias: str
    #: `query` or `path`.
    where: str
    parse: Parse
    #: Whether it takes all the values of its name, as a list.
    many: bool
    required: bool
    default: Any
    default_factory: Callable[[], Any] | None
    schema: dict[str, Any]
    info: Param

    def read(self, value: Any, errors: list[ErrorDetail]) -> Any:
        """Reads a string (a list of strings where `many`), or adds what is wrong with it to `errors`."""
        try:
            return self.parse(value)
        except InvalidItems as error:
            for index, item in error.items:
                errors.append(_detail(item, (self.where, self.alias, index), value[index]))
        except Invalid as error:
            errors.append(_detail(error, (self.where, self.alias), value))
        return None

    def missing(self) -> ErrorDetail:
        """The error of a parameter that must be given and is not."""
        return {"type": "missing", "loc": (self.where, self.alias), "msg": "Field required", "input": None}


class InvalidItems(Exception):
    """Items of a list that are not values of its type."""

    def __init__(self, items: list[tuple[int, Invalid]]) -> None:
        super().__init__(items)
        self.items = items


def field_of(parameter: inspect.Parameter, annotation: Any, path_names: Sequence[str]) -> Field:
    """The field of a handler's parameter. Raises TypeError when its annotation cannot be read from a request."""
    annotation, info = _info_of(parameter, annotation, path_names)
    many, parse, schema, optional = _reader(annotation, info, parameter.name)
    default = info.default
    if info.where == "path":
        if many:
            raise TypeError(f"the path parameter {parameter.name!r} cannot be a list")
        required = True
    else:
        required = default is REQUIRED and info.default_factory is None
    if optional:
        schema = {"anyOf": [schema, {"type": "null"}]} if info.where == "query" else schema
    if not required and default is not None and default is not REQUIRED:
        schema = {**schema, "default": default}
    alias = info.alias or parameter.name
    schema = {**schema, "title": info.title or alias.replace("_", " ").title()}
    if info.description is not None:
        schema = {**schema, "description": info.description}
    if info.examples is not None:
        schema = {**schema, "examples": list(info.examples)}
    factory = info.default_factory
    if factory is None and isinstance(default, (list, dict, set)):
        factory = _copying(default)
    return Field(parameter.name, alias, info.where, parse, many, required, default, factory, schema, info)


def _info_of(parameter: inspect.Parameter, annotation: Any, path_names: Sequence[str]) -> tuple[Any, Param]:
    """The type of a parameter, and its `Query` or `Path`."""
    info: Param | None = None
    default = REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        for item in metadata:
            if isinstance(item, type) and issubclass(item, Param):
                item = item()
            if isinstance(item, Param):
                info = item
    if isinstance(default, Param):
        info, default = default, default.default
    elif info is not None and info.default is not REQUIRED and default is REQUIRED:
        default = info.default
    in_path = parameter.name in path_names
    if info is None:
        info = PathParam() if in_path else QueryParam(default)
    elif info.where == "path" and (info.alias or parameter.name) not in path_names:
        raise TypeError(f"{parameter.name!r} is a Path parameter, but the path has no {{{info.alias or parameter.name}}}")
    elif info.where == "query" and in_path:
        raise TypeError(f"{parameter.name!r} is in the path, so it cannot be a Query parameter")
    if info.where == "path" and default is not REQUIRED:
        raise TypeError(f"the path parameter {parameter.name!r} cannot have a default: it is always there")
    if info.default is not default:
        info = _with_default(info, default)
    if annotation is inspect.Parameter.empty:
        annotation = str if default is REQUIRED or default is None else type(default)
    return annotation, info


def _with_default(info: Param, default: Any) -> Param:
    copied = type(info).__new__(type(info))
    copied.__dict__.update(info.__dict__)
    copied.default = default
    return copied


def _copying(default: Any) -> Callable[[], Any]:
    return lambda: deepcopy(default)


def _reader(annotation: Any, info: Param, name: str) -> tuple[bool, Parse, dict[str, Any], bool]:
    """Whether it is a list, how it is read, its schema, and whether it may be None."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional = len(members) < len(get_args(annotation))
        if len(members) != 1:
            raise TypeError(f"the parameter {name!r} has several types ({annotation}); one, or one and None, can be read")
        annotation = members[0]
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
    origin = get_origin(annotation) or annotation
    collection = _COLLECTIONS.get(origin)
    if collection is not None:
        (item,) = [argument for argument in get_args(annotation) if argument is not ...] or [str]
        parse, schema = _scalar(item, _bounds_of_items(info), name)
        many_schema: dict[str, Any] = {"type": "array", "items": schema}
        if collection in (set, frozenset):
            many_schema["uniqueItems"] = True
        if info.min_length is not None:
            many_schema["minItems"] = info.min_length
        if info.max_length is not None:
            many_schema["maxItems"] = info.max_length
        return True, _list_reader(parse, collection, info), many_schema, optional
    parse, schema = _scalar(annotation, info, name)
    return False, parse, schema, optional


def _bounds_of_items(info: Param) -> Param:
    """Of a list, the lengths are those of the list; everything else is said of its items."""
    copied = _with_default(info, info.default)
    copied.min_length = copied.max_length = None
    return copied


def _list_reader(parse: Parse, collection: Callable[[list[Any]], Any], info: Param) -> Parse:
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
        invalid: list[tuple[int, Invalid]] = []
        for index, text in enumerate(texts):
            try:
                values.append(parse(text))
            except Invalid as error:
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


def _scalar(annotation: Any, info: Param, name: str) -> tuple[Parse, dict[str, Any]]:
    """How a string is read as the type, within the bounds."""
    if annotation in _SCALARS:
        parse, schema = _SCALARS[annotation]
        schema = dict(schema)
    elif get_origin(annotation) is Literal:
        parse, schema = _scalars.literal(annotation), _schema_of_values(get_args(annotation))
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        parse = _scalars.enumeration(annotation)
        schema = _schema_of_values([member.value for member in annotation])
    else:
        raise TypeError(
            f"the parameter {name!r} has the type {_name_of(annotation)}, which cannot be read from a path or a query string. "
            "Take `request: Request` and read the body with `await request.json()`."
        )
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


def _detail(error: Invalid, location: tuple[str | int, ...], value: Any) -> ErrorDetail:
    detail: ErrorDetail = {"type": error.type, "loc": location, "msg": error.message, "input": value}
    if error.context is not None:
        detail["ctx"] = error.context
    return detail


def _name_of(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _is_multiple(value: Any, step: Any) -> bool:
    rest = value % step
    if not isinstance(value, float):
        return bool(rest == 0)
    # As pydantic: a float is a multiple when it misses by no more than its own rounding.
    return bool(min(abs(rest), abs(rest - step)) <= abs(value) / 1e9)


_SCALARS: dict[Any, tuple[Parse, dict[str, Any]]] = {
    str: (_scalars.parse_str, {"type": "string"}),
    Any: (_scalars.parse_str, {}),
    int: (_scalars.parse_int, {"type": "integer"}),
    float: (_scalars.parse_float, {"type": "number"}),
    bool: (_scalars.parse_bool, {"type": "boolean"}),
    UUID: (_scalars.parse_uuid, {"type": "string", "format": "uuid"}),
    datetime: (_scalars.parse_datetime, {"type": "string", "format": "date-time"}),
    date: (_scalars.parse_date, {"type": "string", "format": "date"}),
    time: (_scalars.parse_time, {"type": "string", "format": "time"}),
    Decimal: (_scalars.parse_decimal, {"type": "string", "format": "decimal"}),
}

_COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
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
