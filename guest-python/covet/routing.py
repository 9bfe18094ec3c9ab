"""Routes: a path, its methods, and a handler, made into one function from request record to response record.

The host has matched the path and decoded the placeholders before the guest is called, so nothing is matched here. How a
string becomes a value is in `params`.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin
from urllib.parse import parse_qsl

from . import _bridge
from ._scalars import Invalid
from .datastructures import parse_query
from .exceptions import RequestValidationError
from .params import Field, InvalidItems, field_of
from .requests import Request
from .responses import JSON_HEADERS, Response, as_record, encode_json
from .types import Endpoint, ErrorDetail, Isolation

if TYPE_CHECKING:
    from .applications import CovetPy

__all__ = ["Route", "parse_path"]

#: Returns the record of the response, or a coroutine that does.
Run = Callable[["_bridge.RequestRecord"], Any]


class Route:
    """One handler with its path. Raises ValueError and TypeError for what cannot be served."""

    def __init__(
        self,
        app: "CovetPy",
        path: str,
        endpoint: Endpoint,
        methods: Sequence[str],
        *,
        status_code: int = 200,
        response_class: type[Response] | None = None,
        name: str | None = None,
        summary: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        deprecated: bool = False,
        include_in_schema: bool = True,
        isolation: Isolation | None = None,
    ) -> None:
        if isolation is not None and isolation not in get_args(Isolation):
            raise ValueError(f"{path}: there is no isolation {isolation!r}: {', '.join(get_args(Isolation))}")
        self.path = path
        self.endpoint = endpoint
        #: In upper case; an empty one stands for every method.
        self.methods = ["" if method == "*" else method.upper() for method in methods]
        self.status_code = _bridge.checked_status(status_code)
        self.response_class = response_class
        self.name: str = name or getattr(endpoint, "__name__", None) or type(endpoint).__name__
        self.summary = summary
        self.description = description if description is not None else inspect.getdoc(endpoint)
        self.tags = list(tags)
        self.deprecated = deprecated
        self.include_in_schema = include_in_schema
        self.isolation = isolation
        #: The path as the host reads it, and the names and converters of its placeholders.
        self.pattern, self.placeholders = parse_path(path)
        self.path_names = tuple(name for name, _ in self.placeholders)
        self.is_async = _is_coroutine_function(endpoint)
        self.fields: list[Field] = []
        #: The names of the parameters that take the Request.
        self.request_names: list[str] = []
        self._positional: set[str] = set()
        try:
            self._read_signature()
        except TypeError as error:
            raise TypeError(f"{self.name} ({path}): {error}") from None
        self.run: Run = self._compile(app)

    def validate(self, record: "_bridge.RequestRecord") -> list[ErrorDetail]:
        """Everything in a request that does not fit the handler's parameters."""
        errors: list[ErrorDetail] = []
        query = parse_query(record.target.partition("?")[2])
        single = dict(query)
        for field in self.fields:
            if field.where == "path":
                field.read(record.params[self.path_names.index(field.alias)], errors)
            elif field.alias not in single:
                if field.required:
                    errors.append(field.missing())
            elif field.many:
                field.read([value for name, value in query if name == field.alias], errors)
            else:
                field.read(single[field.alias], errors)
        return errors

    def _read_signature(self) -> None:
        converters = dict(self.placeholders)
        for parameter in inspect.signature(self.endpoint, eval_str=True).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"the parameter *{parameter.name} cannot be read from a request; name what you need")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                self._positional.add(parameter.name)
            annotation = parameter.annotation
            if annotation is inspect.Parameter.empty and converters.get(parameter.name) is not None:
                annotation = converters[parameter.name]
            bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
            untyped_request = annotation is inspect.Parameter.empty and parameter.name == "request"
            if untyped_request or (isinstance(bare, type) and issubclass(bare, Request)):
                self.request_names.append(parameter.name)
            else:
                self.fields.append(field_of(parameter, annotation, self.path_names))

    def _compile(self, app: "CovetPy") -> Run:
        """Makes the function that serves a request of this route.

        It is generated source rather than a loop over the fields, which saves about a microsecond for each of them. Only
        numbers and the names of the handler's own parameters are put into the source; all values are passed in beside it.
        """
        names: dict[str, Any] = {
            "Invalid": Invalid,
            "InvalidItems": InvalidItems,
            "RequestValidationError": RequestValidationError,
            "ResponseRecord": _bridge.ResponseRecord,
            "BodyText": _bridge.BodyText,
            "ABSENT": _bridge.ABSENT,
            "JSON_HEADERS": JSON_HEADERS,
            "STATUS": self.status_code,
            "as_record": partial(_as_response, self.response_class) if self.response_class else as_record,
            "encode_json": encode_json,
            "endpoint": self.endpoint,
            "fail": app._fail,
            "make_request": partial(_make_request, app, self.path_names),
            "read_query": _query_lists if any(field.many for field in self.fields) else _query_dict,
            "route": self,
            "utf8": _bridge.utf8,
            "NOTHING": {},
        }
        lines = ["async def run(record):" if self.is_async else "def run(record):", " try:", "  try:"]
        arguments = []
        if any(field.where == "query" for field in self.fields):
            lines.append("   query = record.target.partition('?')[2]")
            lines.append("   query = read_query(query) if query else NOTHING")
        for number, field in enumerate(self.fields):
            names[f"parse{number}"], names[f"name{number}"] = field.parse, field.alias
            arguments.append((field.name, f"value{number}"))
            lines += self._lines_of(number, field, names)
        lines.append("   pass")
        lines.append("  except (Invalid, InvalidItems):")
        lines.append("   raise RequestValidationError(route.validate(record)) from None")
        for name in self.request_names:
            arguments.append((name, "make_request(record)"))
        call = f"endpoint({self._call_arguments(arguments, names)})"
        lines.append(f"  result = await {call}" if self.is_async else f"  result = {call}")
        if self.response_class is None:
            # The most usual kind of result, without a call.
            lines.append("  if type(result) is dict:")
            lines.append("   text = encode_json(result)")
            lines.append(
                "   return ResponseRecord(STATUS, JSON_HEADERS, BodyText(text if text.isascii() else utf8(text)), ABSENT)"
            )
        lines.append("  return as_record(result, STATUS)")
        # Everything is caught, SystemExit too: an exception that leaves an export ends the instance.
        lines.append(" except BaseException as error:")
        lines.append("  result = fail(route, record, error)")
        lines.append(" if result.__class__ is not ResponseRecord:" if self.is_async else " return result")
        if self.is_async:
            lines.append("  result = await result")
            lines.append(" return result")
        exec(compile("\n".join(lines), f"<route {self.pattern}>", "exec"), names)
        run: Run = names["run"]
        return run

    def _lines_of(self, number: int, field: Field, names: dict[str, Any]) -> list[str]:
        """The source that reads one parameter."""
        value = f"value{number}"
        if field.where == "path":
            return [f"   {value} = parse{number}(record.params[{self.path_names.index(field.alias)}])"]
        lines = [f"   {value} = query.get(name{number})", f"   if {value} is None:"]
        if field.required:
            lines.append("    raise Invalid('missing', 'Field required')")
        elif field.default_factory is not None:
            names[f"default{number}"] = field.default_factory
            lines.append(f"    {value} = default{number}()")
        else:
            names[f"default{number}"] = field.default
            lines.append(f"    {value} = default{number}")
        lines.append("   else:")
        single = "" if field.many or names["read_query"] is _query_dict else "[-1]"
        lines.append(f"    {value} = parse{number}({value}{single})")
        return lines

    def _call_arguments(self, arguments: list[tuple[str, str]], names: dict[str, Any]) -> str:
        order = list(inspect.signature(self.endpoint).parameters)
        arguments.sort(key=lambda argument: order.index(argument[0]))
        return ", ".join(value if name in self._positional else f"{name}={value}" for name, value in arguments)

    def __repr__(self) -> str:
        return f"<Route {','.join(self.methods)} {self.path}>"


def parse_path(path: str) -> tuple[str, list[tuple[str, Any]]]:
    """A path as the host reads it, and the name and type of each placeholder.

    `{name}` stays, `{name:int}` (also float, str, uuid) becomes `{name}`, and `{name:path}`, which must be at the end,
    becomes `{*name}`. Raises ValueError for anything else in braces.
    """
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} must begin with '/'")
    placeholders: list[tuple[str, Any]] = []

    def replace(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0]
        placeholder = _PLACEHOLDER.fullmatch(match[0])
        if placeholder is None:
            raise ValueError(f"the path {path!r} has {match[0]!r}, which is neither {{name}} nor {{name:converter}}")
        name, converter = placeholder[1], placeholder[2]
        if any(name == other for other, _ in placeholders):
            raise ValueError(f"the path {path!r} has {{{name}}} twice")
        if converter is not None and converter not in _CONVERTERS:
            raise ValueError(f"the path {path!r} has the converter {converter!r}; there are {', '.join(_CONVERTERS)}")
        if converter == "path" and match.end() != len(path):
            raise ValueError(f"the path {path!r} goes on after {match[0]}, which takes all the rest")
        placeholders.append((name, None if converter is None else _CONVERTERS[converter]))
        return f"{{*{name}}}" if converter == "path" else f"{{{name}}}"

    pattern = _BRACES.sub(replace, path)
    return pattern, placeholders


def _as_response(response_class: type[Response], result: Any, status: int) -> "_bridge.ResponseRecord":
    if isinstance(result, (Response, tuple)):
        return as_record(result, status)
    return response_class(result, status)._lower()


def _make_request(app: "CovetPy", path_names: tuple[str, ...], record: "_bridge.RequestRecord") -> Request:
    return Request(record, app, path_names)


def _query_dict(query: str) -> dict[str, str]:
    """The last value of each name."""
    if "%" in query or "+" in query:
        return dict(parse_qsl(query, keep_blank_values=True))
    return {name: value for name, _, value in [part.partition("=") for part in query.split("&")]}


def _query_lists(query: str) -> dict[str, list[str]]:
    """All values of each name."""
    lists: dict[str, list[str]] = {}
    for name, value in parse_query(query):
        lists.setdefault(name, []).append(value)
    return lists


def _is_coroutine_function(endpoint: Any) -> bool:
    while isinstance(endpoint, partial):
        endpoint = endpoint.func
    return inspect.iscoroutinefunction(endpoint) or inspect.iscoroutinefunction(getattr(type(endpoint), "__call__", None))  # noqa: B004


_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}?|\}")
_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)(?::(\w+))?\}")


def _converters() -> dict[str, Any]:
    from uuid import UUID

    return {"str": str, "int": int, "float": float, "uuid": UUID, "path": str}


_CONVERTERS = _converters()
