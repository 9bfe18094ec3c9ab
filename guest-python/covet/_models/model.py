"""Models: what a value from outside must look like, and how a value of that kind is written as JSON.

A model is made of an annotation, once, when an application is built. The framework's own models (`_models.native`) know the
standard library's types and dataclasses; what needs pydantic goes through pydantic (`_models.pydantic`), if the application
has imported it. Which of the two it is makes no difference to what is accepted, nor to the errors. Where values come from
(a body, a query string) is not known here.
"""

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from covet._json import decode_body, encode_json
from covet.types import ErrorDetail

from .nesting import is_nested_too_deeply

__all__ = [
    "ERRORS_MAX",
    "REF_TEMPLATE",
    "IncEx",
    "InvalidJSON",
    "InvalidModel",
    "Mode",
    "Model",
    "StringField",
    "dump_errors",
    "json_schemas",
    "model_of",
    "read_json",
    "uses_pydantic",
]

#: Which fields are written, or left out: names (indexes of a list), or a mapping of them to what counts inside.
IncEx: TypeAlias = set[int] | set[str] | Mapping[int, Any] | Mapping[str, Any]

#: A schema for what is read, or for what is written.
Mode: TypeAlias = Literal["validation", "serialization"]

#: A field of a model that is read from strings: its name in the request, whether it takes all values of that name as a list,
#: and whether it must be there.
StringField: TypeAlias = tuple[str, bool, bool]

#: Where the definitions of an OpenAPI document are.
REF_TEMPLATE = "#/components/schemas/{model}"

#: No more errors than this are told of one value: an answer should not be much larger than the question.
ERRORS_MAX = 100


class InvalidModel(Exception):
    """A value does not fit a model.

    Each error has `type`, `loc` (a tuple, relative to the value), `msg`, `input` and, for some types, `ctx`, as in pydantic's
    `errors(include_url=False)`. There are at most `ERRORS_MAX`.
    """

    def __init__(self, errors: list[ErrorDetail]) -> None:
        super().__init__(errors)
        self.errors = errors


class InvalidJSON(ValueError):
    """Text is not JSON: what is wrong in the words of the `json` module, and the place, in characters."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(f"{message}: char {position}")
        self.position = position
        self.message = message


class Model(ABC):
    """Validates and writes the values of one annotation."""

    @abstractmethod
    def validate(self, value: Any) -> Any:
        """Makes a value of the annotation from Python objects, as `json.loads` makes them, or from a value of it.

        What means the same is converted: "1" is an int, 1.0 too, but 1 is no str. Raises InvalidModel.
        """

    def validate_result(self, value: Any) -> Any:
        """Makes a value of the annotation from what a handler returns, which may be an object with a record's attributes."""
        return self.validate(value)

    @abstractmethod
    def validate_json(self, data: str | bytes) -> Any:
        """Makes a value of the annotation from JSON. Raises InvalidModel, and InvalidJSON for what is not JSON."""

    @abstractmethod
    def validate_strings(self, value: Any) -> Any:
        """Makes a value of the annotation from a string, a list of strings, or a mapping of names to them.

        The names are those of `string_fields`. Raises InvalidModel.
        """

    @abstractmethod
    def string_fields(self) -> list[StringField] | None:
        """The fields of a model that can be read from a query string, headers, cookies or a form; None if it has none."""

    @property
    @abstractmethod
    def takes_other_fields(self) -> bool:
        """Whether `validate_strings` wants to see other names than those of `string_fields` too, to keep or refuse them."""

    @abstractmethod
    def serialize(
        self,
        value: Any,
        *,
        include: IncEx | None = None,
        exclude: IncEx | None = None,
        by_alias: bool = True,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> Any:
        """Turns a value of the annotation into what `json.dumps` takes. The value is not validated."""

    @abstractmethod
    def dump_json(
        self,
        value: Any,
        *,
        include: IncEx | None = None,
        exclude: IncEx | None = None,
        by_alias: bool = True,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> str:
        """Validates a value, or an object with the attributes of a model, and writes it as JSON.

        Fields that the model does not have are left out. Raises InvalidModel.
        """

    def json_schema(self, mode: Mode, ref_template: str = REF_TEMPLATE) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The JSON schema, and the definitions to which it refers by `ref_template`. A class is always a definition."""
        (schema,), definitions = json_schemas([(self, mode)], ref_template)
        return schema, definitions

    @classmethod
    @abstractmethod
    def _schemas(
        cls, models: "Sequence[tuple[Any, Mode]]", ref_template: str, definitions: Mapping[str, dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        """The schemas of models of this class, and definitions beside those that there are."""


def model_of(annotation: Any, *, constraints: Mapping[str, Any] | None = None) -> Model:
    """Makes the model of an annotation.

    `constraints` has any of `ge`, `gt`, `le`, `lt`, `multiple_of`, `allow_inf_nan`, `min_length`, `max_length`, `pattern`,
    `max_digits`, `decimal_places` and `strict`; None says nothing. Raises TypeError, which names the annotation, for what
    cannot be validated.
    """
    from .native import NativeModel

    said = {name: value for name, value in (constraints or {}).items() if value is not None}
    try:
        return NativeModel(annotation, said)
    except TypeError:
        if not uses_pydantic():
            raise
    from .pydantic import PydanticModel

    return PydanticModel(annotation, said)


def uses_pydantic() -> bool:
    """Whether the application has imported pydantic."""
    return "pydantic" in sys.modules


def json_schemas(
    models: Sequence[tuple[Model, Mode]], ref_template: str = REF_TEMPLATE
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The JSON schemas of several models for one document, and the definitions of all of them.

    A definition that is not the same for what is read and for what is written is there twice, as `Name-Input` and
    `Name-Output`; two classes of one name have the names of their modules too.
    """
    schemas: dict[int, dict[str, Any]] = {}
    definitions: dict[str, dict[str, Any]] = {}
    # Those of pydantic first: its names cannot be chosen.
    kinds = sorted({type(model) for model, _ in models}, key=lambda kind: kind.__name__, reverse=True)
    for kind in kinds:
        places = [place for place, (model, _) in enumerate(models) if type(model) is kind]
        found, more = kind._schemas([models[place] for place in places], ref_template, definitions)
        schemas.update(zip(places, found, strict=True))
        definitions.update(more)
    return [schemas[place] for place in range(len(models))], definitions


def read_json(data: str | bytes) -> Any:
    """Reads JSON as `json.loads` does. Raises InvalidJSON, also for what is nested too deeply."""
    if is_nested_too_deeply(data):
        raise InvalidJSON(0, "nested too deeply")
    try:
        return decode_body(data)
    except json.JSONDecodeError as error:
        raise InvalidJSON(error.pos, error.msg) from None
    except UnicodeDecodeError as error:
        raise InvalidJSON(error.start, "Invalid UTF-8") from None
    except RecursionError:
        raise InvalidJSON(0, "nested too deeply") from None
    except ValueError as error:
        # More digits than an integer may have.
        raise InvalidJSON(0, str(error)) from None


def dump_errors(errors: Iterable[Mapping[str, Any]]) -> str:
    """Writes errors as a JSON array, whatever their `input` and `ctx` are.

    Exceptions become `{}`, numbers that JSON does not have null, as in FastAPI; other objects that have no JSON become their
    `repr`, and what is nested more than `_DEPTH_MAX` deep null. No error is written after `_SIZE_MAX` characters.
    """
    parts: list[str] = []
    size = 0
    for error in errors:
        try:
            part = encode_json(error)
        except (TypeError, ValueError, RecursionError):
            part = encode_json(_plain(error, _DEPTH_MAX))
        parts.append(part)
        size += len(part)
        if size > _SIZE_MAX:
            break
    return f"[{','.join(parts)}]"


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        # Half of a surrogate pair has no UTF-8.
        return value.encode(errors="replace").decode()
    if isinstance(value, BaseException):
        return {}
    if isinstance(value, Mapping):
        return {str(_plain(key, 0)): _plain(item, depth - 1) for key, item in value.items()} if depth > 0 else None
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in value] if depth > 0 else None
    try:
        return json.loads(encode_json(value))
    except (TypeError, ValueError, RecursionError):
        return repr(value)


_DEPTH_MAX = 100
_SIZE_MAX = 1_000_000
