"""How a parameter of a handler is read from a request: where it is, what its strings mean, its default, its schema.

What a string means for a scalar type is in `_models.strings`, what a model is in `_models.model`; `_routes.signature` says
which parameters a function has.
"""

import dataclasses
import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from covet._json import encode_json
from covet._models import model as _models
from covet._models.model import InvalidModel, Model
from covet._models.strings import Invalid, Parse
from covet.dependencies import Dependency
from covet.forms import UploadFile
from covet.params import REQUIRED, BodyParam, FileParam, FormParam, HeaderParam, Param, PathParam, QueryParam
from covet.types import ErrorDetail

from .constraints import COLLECTIONS, InvalidItems, bounds_of_items, is_known_scalar, list_reader, scalar

__all__ = ["INVALID", "MISSING", "Field", "detail_of", "field_of"]

#: What is not in a request.
MISSING: Any = object()


#: What `Field.parse` raises.
INVALID = (Invalid, InvalidItems, InvalidModel)


@dataclass(slots=True)
class Field:
    """One parameter, ready to be read from requests."""

    #: The name of the function's parameter.
    name: str
    #: The name in the request, as it was written.
    alias: str
    #: `path`, `query`, `header`, `cookie`, `form` or `body`.
    where: str
    #: From what is in the request to the value: a string; a list of them where `many`; a dict where `members`; what JSON
    #: has in a body. Raises one of `INVALID`.
    parse: Callable[[Any], Any]
    #: Whether it takes all the values of its name, as a list.
    many: bool
    required: bool
    default: Any
    default_factory: Callable[[], Any] | None
    info: Param
    #: Makes the schema of its type, and the definitions that it refers to.
    describe: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
    #: What validates it, if that is a model.
    model: Model | None = None
    #: The names in the request, and whether each is a list, of a model whose members are parameters.
    members: list[tuple[str, str, bool]] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The name by which it is found in a request: those of headers have arrived in lower case."""
        return self.alias.lower() if self.where == "header" else self.alias

    @property
    def location(self) -> tuple[str | int, ...]:
        """Where it is, for messages."""
        place = "body" if self.where == "form" else self.where
        return (place,) if self.members else (place, self.alias)

    def read(self, value: Any, errors: list[ErrorDetail], location: tuple[str | int, ...] | None = None) -> Any:
        """Reads what the request has, or adds what is wrong with it to `errors`."""
        location = self.location if location is None else location
        if value is MISSING:
            if self.required:
                errors.append({"type": "missing", "loc": location, "msg": "Field required", "input": None})
                return None
            return self.make_default()
        try:
            return self.parse(value)
        except InvalidItems as error:
            for index, item in error.items:
                self._tell(item, (*location, index), value[index], errors)
        except (Invalid, InvalidModel) as error:
            self._tell(error, location, value, errors)
        return None

    def _tell(
        self, error: Invalid | InvalidModel, location: tuple[str | int, ...], value: Any, errors: list[ErrorDetail]
    ) -> None:
        if isinstance(error, Invalid):
            errors.append(detail_of(error, location, value))
        else:
            errors += [{**detail, "loc": (*location, *self._names(detail["loc"]))} for detail in error.errors]

    def _names(self, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The place in a model of headers, with the name that the header has."""
        if self.where == "header" and self.members and location:
            name = next((name for name, member, _ in self.members if member == location[0]), location[0])
            return name, *location[1:]
        return location

    def make_default(self) -> Any:
        """The value where the request has none."""
        return self.default if self.default_factory is None else self.default_factory()

    def schema(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The schema with title, default and words, and the definitions that it refers to."""
        schema, definitions = self.describe()
        extra: dict[str, Any] = {}
        if not self.required and self.default is not None and self.default is not REQUIRED:
            # A default that no request could send is nothing to tell.
            with suppress(TypeError, ValueError):
                extra["default"] = json.loads(encode_json(self.default))
        if "$ref" not in schema or self.info.title is not None:
            extra["title"] = self.info.title or self.alias.replace("_", " ").title()
        if self.info.deprecated:
            extra["deprecated"] = True
        if self.info.description is not None:
            extra["description"] = self.info.description
        if self.info.examples is not None:
            extra["examples"] = list(self.info.examples)
        return {**schema, **extra}, definitions


def detail_of(error: Invalid, location: tuple[str | int, ...], value: Any) -> ErrorDetail:
    """An error of a 422 response."""
    shown = value if not isinstance(value, UploadFile) else value.filename
    detail: ErrorDetail = {"type": error.type, "loc": location, "msg": error.message, "input": shown}
    if error.context is not None:
        detail["ctx"] = error.context
    return detail


def field_of(
    parameter: inspect.Parameter, annotation: Any, path_names: Sequence[str], has_body: bool, is_partial: bool = False
) -> Field:
    """The field of a function's parameter. Raises TypeError when its annotation cannot be read from a request.

    `has_body` says whether the requests may have one: a list that is not described is in the body then. `is_partial` says
    whether the path may have other placeholders than `path_names`.
    """
    annotation, info = _info_of(parameter, annotation, path_names, has_body, is_partial)
    default = info.default
    alias = info.alias or parameter.name
    if isinstance(info, HeaderParam) and info.alias is None and info.convert_underscores:
        alias = alias.replace("_", "-")
    required = info.where == "path" or (default is REQUIRED and info.default_factory is None)
    factory = info.default_factory
    if factory is None and isinstance(default, (list, dict, set)):
        factory = _copying(default)
    reader = _reader(annotation, info, parameter.name)
    if info.where == "path" and (reader.many or reader.members):
        raise TypeError(f"the path parameter {parameter.name!r} cannot be a list")
    if reader.members and (info.where == "path"):
        raise TypeError(f"the path parameter {parameter.name!r} cannot be a model")
    return Field(
        name=parameter.name,
        alias=alias,
        where=info.where,
        parse=reader.parse,
        many=reader.many,
        required=required,
        default=default,
        default_factory=factory,
        info=info,
        describe=reader.describe,
        model=reader.model,
        members=reader.members,
    )


def _info_of(
    parameter: inspect.Parameter, annotation: Any, path_names: Sequence[str], has_body: bool, is_partial: bool
) -> tuple[Any, Param]:
    """The type of a parameter, and what is said about it."""
    info: Param | None = None
    default = REQUIRED if parameter.default is inspect.Parameter.empty or parameter.default is ... else parameter.default
    if get_origin(annotation) is Annotated:
        bare, *metadata = get_args(annotation)
        rest = []
        for item in metadata:
            if isinstance(item, type) and issubclass(item, Param):
                item = item()
            if isinstance(item, Param):
                info = item
            elif not isinstance(item, (str, Dependency)):
                rest.append(item)
        annotation = Annotated[(bare, *rest)] if rest else bare
    if isinstance(default, Param):
        info, default = default, default.default
    elif info is not None and info.default is not REQUIRED and default is REQUIRED:
        default = info.default
    in_path = parameter.name in path_names
    if info is None:
        info = PathParam() if in_path else _kind_of(annotation, has_body)(default)
    elif info.where == "path" and not is_partial and (info.alias or parameter.name) not in path_names:
        raise TypeError(f"{parameter.name!r} is a Path parameter, but the path has no {{{info.alias or parameter.name}}}")
    elif info.where != "path" and in_path:
        raise TypeError(f"{parameter.name!r} is in the path, so it cannot be a {info.where.title()} parameter")
    if info.where == "path" and default is not REQUIRED:
        raise TypeError(f"the path parameter {parameter.name!r} cannot have a default: it is always there")
    if info.default is not default:
        info = info.with_default(default)
    if annotation is inspect.Parameter.empty:
        annotation = str if default is REQUIRED or default is None else type(default)
    return annotation, info


def _kind_of(annotation: Any, has_body: bool) -> type[Param]:
    """Where a parameter is that is not described."""
    if _is_upload(annotation):
        return FileParam
    return BodyParam if _is_complex(annotation, has_body) else QueryParam


def _is_upload(annotation: Any) -> bool:
    return any(
        member is UploadFile or (get_origin(member) in COLLECTIONS and UploadFile in get_args(member))
        for member in _members(annotation)
    )


def _is_complex(annotation: Any, has_body: bool) -> bool:
    """Whether a type is one that a query string does not usually have."""
    for member in _members(annotation):
        origin = get_origin(member) or member
        if origin in COLLECTIONS:
            if has_body or any(_is_complex(item, has_body) for item in get_args(member) if item is not ...):
                return True
        elif isinstance(origin, type) and (
            dataclasses.is_dataclass(origin)
            or issubclass(origin, Mapping)
            or (issubclass(origin, tuple) and hasattr(origin, "_fields"))
            or hasattr(origin, "__pydantic_validator__")
        ):
            return True
    return False


def _members(annotation: Any) -> list[Any]:
    """The types of a union, without None; of anything else itself."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if hasattr(annotation, "__value__") and type(annotation).__name__ == "TypeAliasType":
        return _members(annotation.__value__)
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) if member is not type(None) for inner in _members(member)]
    return [annotation]


@dataclass(slots=True)
class _Reader:
    parse: Callable[[Any], Any]
    describe: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
    many: bool = False
    model: Model | None = None
    members: list[tuple[str, str, bool]] = field(default_factory=list)


def _reader(annotation: Any, info: Param, name: str) -> _Reader:
    """How a parameter is read, and whether it is a list."""
    if isinstance(info, BodyParam):
        model = _model(annotation, info, name)
        return _Reader(model.validate, lambda: model.json_schema("validation"), model=model)
    while type(annotation).__name__ == "TypeAliasType":
        annotation = annotation.__value__
    bare, optional = annotation, False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        optional = len(members) < len(get_args(annotation))
        if len(members) == 1:
            bare = members[0]
        if get_origin(bare) is Annotated and all(isinstance(item, str) for item in get_args(bare)[1:]):
            bare = get_args(bare)[0]
    origin = get_origin(bare) or bare
    if origin in COLLECTIONS:
        reader = _collection_reader(bare, origin, info, name)
    elif _is_complex(bare, has_body=False):
        reader = _members_reader(annotation, info, name)
    else:
        reader = _scalar_reader(bare, info, name)
        if isinstance(info, FormParam) and bare not in (UploadFile, bytes):
            reader.parse = _text_only(reader.parse)
    if optional and info.where != "path" and not reader.members:
        describe = reader.describe
        reader.describe = lambda: _or_null(*describe())
    return reader


def _or_null(schema: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"anyOf": [schema, {"type": "null"}]}, definitions


def _model(annotation: Any, info: Param, name: str) -> Model:
    try:
        return _models.model_of(annotation, constraints=info.constraints())
    except TypeError as error:
        raise TypeError(f"the parameter {name!r} has the type {_name_of(annotation)}, which cannot be read: {error}") from None


def _members_reader(annotation: Any, info: Param, name: str) -> _Reader:
    """A model whose members are the parameters."""
    model = _model(annotation, info, name)
    found = model.string_fields()
    if not found:
        raise TypeError(
            f"the parameter {name!r} has the type {_name_of(annotation)}, which cannot be read from a path or a query string. "
            "Say where it is with Body() or Form()"
        )
    members = []
    for member, many, _ in found:
        named = member.replace("_", "-") if isinstance(info, HeaderParam) and info.convert_underscores else member
        members.append((named, member, many))
    return _Reader(model.validate_strings, lambda: model.json_schema("validation"), model=model, members=members)


def _collection_reader(annotation: Any, origin: Any, info: Param, name: str) -> _Reader:
    collection = COLLECTIONS[origin]
    items = [argument for argument in get_args(annotation) if argument is not ...] or [str]
    if len(items) > 1:
        model = _model(annotation, info, name)
        return _Reader(model.validate_strings, lambda: model.json_schema("validation"), many=True, model=model)
    item = _scalar_reader(items[0], bounds_of_items(info), name)

    def describe() -> tuple[dict[str, Any], dict[str, Any]]:
        schema, definitions = item.describe()
        many: dict[str, Any] = {"type": "array", "items": schema}
        if collection in (set, frozenset):
            many["uniqueItems"] = True
        if info.min_length is not None:
            many["minItems"] = info.min_length
        if info.max_length is not None:
            many["maxItems"] = info.max_length
        return many, definitions

    parse = item.parse
    if isinstance(info, FormParam) and items[0] not in (UploadFile, bytes):
        parse = _text_only(parse)
    return _Reader(list_reader(parse, collection, info), describe, many=True)


def _scalar_reader(annotation: Any, info: Param, name: str) -> _Reader:
    if isinstance(info, FormParam) and annotation in (UploadFile, bytes):
        schema = {"type": "string", "contentMediaType": "application/octet-stream"}
        return _Reader(_read_upload if annotation is UploadFile else _read_content, lambda: (schema, {}))
    if not is_known_scalar(annotation):
        try:
            model = _models.model_of(annotation, constraints=info.constraints())
        except TypeError:
            raise TypeError(
                f"the parameter {name!r} has the type {_name_of(annotation)}, which cannot be read from a path or a query "
                "string. Take `request: Request` and read the body with `await request.json()`."
            ) from None
        return _Reader(model.validate_strings, lambda: model.json_schema("validation"), model=model)
    parse, schema = scalar(annotation, info)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        # By its name, as in models.
        return _Reader(parse, lambda: _models.model_of(annotation).json_schema("validation"))
    return _Reader(parse, lambda: (schema, {}))


def _read_upload(value: Any) -> UploadFile:
    if isinstance(value, UploadFile):
        return value
    raise Invalid("value_error", f"Value error, Expected UploadFile, received: {type(value)}", {"error": {}})


def _read_content(value: Any) -> bytes:
    return value.content() if isinstance(value, UploadFile) else str(value).encode()


def _text_only(parse: Parse) -> Parse:
    def parse_text(value: Any) -> Any:
        if isinstance(value, str):
            return parse(value)
        raise Invalid("string_type", "Input should be a valid string")

    return parse_text


def _copying(default: Any) -> Callable[[], Any]:
    return lambda: deepcopy(default)


def _name_of(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
