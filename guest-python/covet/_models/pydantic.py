"""Models through pydantic, for what the framework's own models do not know. Only imported if the application uses pydantic."""

# Imported by pydantic and pydantic-core where they are first needed, which is too late in a component.
import collections
import copy
import decimal
import enum
import fractions
import ipaddress
import pathlib
import re
import types
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter, ValidationError
from pydantic._internal import _dataclasses, _model_construction, _repr
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, SchemaError

from covet._json import encode_json

from .model import ERRORS_MAX, InvalidModel, Mode, Model, StringField, read_json

__all__ = ["PydanticModel"]

_LATE_MODULES: tuple[Any, ...] = (collections, copy, decimal, enum, fractions, ipaddress, pathlib, re, uuid)
_LATE_MODULES += (_dataclasses, _model_construction, _repr)


class PydanticModel(Model):
    """A model that is a `TypeAdapter`. Raises TypeError for an annotation for which pydantic has no schema."""

    def __init__(self, annotation: Any, constraints: Mapping[str, Any]) -> None:
        self.annotation = annotation
        annotated: Any = Annotated[annotation, pydantic.Field(**constraints)] if constraints else annotation
        try:
            self.adapter: TypeAdapter[Any] = TypeAdapter(annotated)
            # A forward reference that cannot be resolved makes an adapter that fails at its first use.
            self.adapter.rebuild(force=False, raise_errors=True)
        except (PydanticUserError, SchemaError, NameError, RuntimeError) as error:
            raise TypeError(f"{annotation!r} cannot be validated: {error}") from None
        self._validate = self.adapter.validator.validate_python
        self._validate_json = self.adapter.validator.validate_json
        #: Whether JSON gives the same values when it is read without Python objects in between.
        self._is_direct = not _depends_on_mode(self.adapter.core_schema)
        self._to_python = self.adapter.serializer.to_python
        self._to_json = self.adapter.serializer.to_json

    def validate(self, value: Any) -> Any:
        try:
            # Also from objects, as FastAPI does: errors are then told in other words.
            return self._validate(value, from_attributes=True)
        except ValidationError as error:
            raise _invalid(error) from None

    def validate_json(self, data: str | bytes) -> Any:
        if self._is_direct:
            try:
                return self._validate_json(data)
            except ValidationError:
                # Of JSON, pydantic tells other errors than of Python objects, and of what is no JSON others than `json`.
                pass
        return self.validate(read_json(data))

    def validate_strings(self, value: Any) -> Any:
        return self.validate(value)

    def string_fields(self) -> list[StringField] | None:
        model = self._string_model()
        if model is None:
            return None
        return [
            (name, in_list or _is_sequence(field.annotation), field.is_required())
            for own, field in model.model_fields.items()
            for name, in_list in _names(own, field, model).items()
        ]

    @property
    def takes_other_fields(self) -> bool:
        model = self._string_model()
        return model is not None and model.model_config.get("extra") in ("allow", "forbid")

    def serialize(self, value: Any, *, by_alias: bool = True, **options: Any) -> Any:
        return self._to_python(value, mode="json", by_alias=by_alias, **options)

    def dump_json(self, value: Any, *, by_alias: bool = True, **options: Any) -> str:
        try:
            valid = self._validate(value, from_attributes=True)
        except ValidationError as error:
            raise _invalid(error) from None
        try:
            return self._to_json(valid, by_alias=by_alias, **options).decode()
        except PydanticSerializationError:
            # Text with half of a surrogate pair, which JSON can have, and UTF-8 cannot.
            return encode_json(self.serialize(valid, by_alias=by_alias, **options))

    @classmethod
    def _schemas(
        cls, models: "Sequence[tuple[PydanticModel, Mode]]", ref_template: str, definitions: Mapping[str, dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        inputs = [(index, mode, model.adapter.core_schema) for index, (model, mode) in enumerate(models)]
        generated, found = _GenerateJsonSchema(ref_template=ref_template).generate_definitions(inputs)
        for definition in found.values():
            if "description" in definition:
                # What is after a form feed is not for the document, as in FastAPI.
                definition["description"] = definition["description"].partition("\f")[0]
        return [generated[index, mode] for index, mode, _ in inputs], found  # type: ignore[return-value]

    def _string_model(self) -> type[BaseModel] | None:
        """The model of the annotation, which may be optional."""
        members = [member for member in _members(self.annotation) if member is not type(None)]
        if len(members) == 1 and isinstance(members[0], type) and issubclass(members[0], BaseModel):
            return members[0]
        return None


class _GenerateJsonSchema(GenerateJsonSchema):
    """As FastAPI has it."""

    def bytes_schema(self, schema: Any) -> dict[str, Any]:
        mode = self._config.ser_json_bytes if self.mode == "serialization" else self._config.val_json_bytes
        described = {"type": "string", "contentMediaType": "application/octet-stream"}
        if mode == "base64":
            described["contentEncoding"] = "base64"
        self.update_with_validations(described, schema, self.ValidationsMapping.bytes)
        return described


def _invalid(error: ValidationError) -> InvalidModel:
    return InvalidModel(error.errors(include_url=False)[:ERRORS_MAX])  # type: ignore[arg-type]


def _depends_on_mode(schema: Any) -> bool:
    """Whether values are chosen otherwise when they come from JSON: by a union, or by strictness. FastAPI's never do."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "union" or schema.get("strict") is True:
            return True
        return any(_depends_on_mode(part) for key, part in schema.items() if key not in ("metadata", "serialization"))
    return isinstance(schema, (list, tuple)) and any(map(_depends_on_mode, schema))


def _names(own: str, field: FieldInfo, model: type[BaseModel]) -> dict[str, bool]:
    """The names by which a field is found in a mapping, and whether it is then one of several values."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [] if alias is None else [alias]
    names: dict[str, bool] = {}
    for choice in choices:
        path = choice.path if isinstance(choice, AliasPath) else [choice]
        if isinstance(path[0], str):
            names[path[0]] = len(path) > 1
    config = model.model_config
    if not names or config.get("populate_by_name") or config.get("validate_by_name"):
        names[own] = False
    return names


def _is_sequence(annotation: Any) -> bool:
    return any((get_origin(member) or member) in _SEQUENCES for member in _members(annotation))


def _members(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation alone, without what is annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [annotation]


_SEQUENCES = frozenset([list, set, frozenset, tuple, collections.deque, collections.abc.Sequence, collections.abc.Set])
