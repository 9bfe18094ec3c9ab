"""The JSON schema of the framework's own models, in the form that pydantic gives it.

Records and enumerations become definitions, so that each is in a document once.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from .dump import infer
from .model import Mode
from .types import (
    ABSENT,
    Alias,
    Anything,
    Checked,
    Choice,
    Collection,
    Enumeration,
    Field,
    Fixed,
    Node,
    Nullable,
    Record,
    Scalar,
    Table,
    Union_,
)

__all__ = ["json_schemas"]


def json_schemas(
    nodes: Sequence[tuple[Node, Mode]], ref_template: str, others: Mapping[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The schema of each node, and the definitions of all of them.

    `others` are definitions that the same document has already: what is equal to one of them is not given again, and another
    of its name gets the name of its module too.
    """
    builder = _Builder()
    schemas = [builder.schema(node, mode) for node, mode in nodes]
    builder.merge()
    names = builder.names(ref_template, others)
    definitions = {names[key]: _resolved(schema, names, ref_template) for key, schema in builder.definitions.items()}
    return [_resolved(schema, names, ref_template) for schema in schemas], definitions


@dataclass(frozen=True, slots=True)
class _Key:
    """A definition: what is defined, and for what, if that makes a difference."""

    name: str
    cls: Any
    arguments: tuple[Any, ...]
    mode: Mode | None


class _Builder:
    """Makes schemas in which a `$ref` is the key of a definition."""

    def __init__(self) -> None:
        self.definitions: dict[_Key, dict[str, Any]] = {}
        #: Keys that are the same in both modes, and the key that stands for them.
        self.merged: dict[_Key, _Key] = {}

    def schema(self, node: Node, mode: Mode) -> dict[str, Any]:
        match node:
            case Anything():
                return {}
            case Scalar():
                return _scalar(node, mode)
            case Choice():
                return _choice(node.values)
            case Enumeration():
                return self._definition(_Key(node.cls.__name__, node.cls, (), None), lambda: _enumeration(node))
            case Nullable():
                return _any_of([self.schema(node.item, mode), {"type": "null"}])
            case Union_():
                return _any_of([self.schema(member, mode) for member in node.members])
            case Collection():
                unique = {"uniqueItems": True} if node.cls in (set, frozenset) else {}
                lengths = _lengths(node.least, node.most, "Items")
                return {"type": "array", **unique, "items": self.schema(node.item, mode), **lengths}
            case Fixed():
                count = len(node.items)
                prefix = {"prefixItems": [self.schema(item, mode) for item in node.items]} if count else {}
                least = count if node.least is None else node.least
                return {"type": "array", **prefix, **_lengths(least, count if node.most is None else node.most, "Items")}
            case Table():
                return self._table(node, mode)
            case Checked():
                return {**self.schema(node.item, mode), **_checked(node)}
            case Alias():
                key = _Key(node.name, node, (), mode)
                return self._definition(key, lambda: self.schema(node.item, mode))
            case Record():
                return self._record(node, mode)
        raise AssertionError(node)

    def merge(self) -> None:
        """Makes one definition of two that are the same in both modes."""
        pairs = {key: _Key(key.name, key.cls, key.arguments, "serialization") for key in self.definitions}
        pairs = {key: other for key, other in pairs.items() if key.mode == "validation" and other in self.definitions}
        self.merged = {other: key for key, other in pairs.items()}
        while True:
            different = [
                other
                for other, key in self.merged.items()
                if self._merged(self.definitions[other]) != self._merged(self.definitions[key])
            ]
            if not different:
                break
            for other in different:
                del self.merged[other]
        self.definitions = {key: schema for key, schema in self.definitions.items() if key not in self.merged}

    def names(self, ref_template: str, others: Mapping[str, dict[str, Any]]) -> dict[_Key, str]:
        """The shortest names that are not those of other definitions."""
        names: dict[_Key, str] = {}
        by_name: dict[str, list[_Key]] = {}
        for key in self.definitions:
            by_name.setdefault(_normal(key.name), []).append(key)
        for name, keys in by_name.items():
            classes = {(key.cls, key.arguments) for key in keys}
            for key in keys:
                twice = any(other.mode != key.mode and other.cls is key.cls for other in keys)
                suffix = f"-{_SUFFIXES[key.mode]}" if twice and key.mode is not None else ""
                long = len(classes) > 1 and isinstance(key.cls, type)
                names[key] = (_long_name(key) if long else name) + suffix
        for other, key in self.merged.items():
            names[other] = names[key]
        for key in self.definitions:
            schema = others.get(names[key])
            if schema is not None and schema != _resolved(self.definitions[key], names, ref_template):
                names[key] = _long_name(key)
        return names

    def _merged(self, value: Any) -> Any:
        if isinstance(value, _Key):
            return self.merged.get(value, value)
        if isinstance(value, dict):
            return {name: self._merged(item) for name, item in value.items()}
        return [self._merged(item) for item in value] if isinstance(value, list) else value

    def _definition(self, key: _Key, make: Any) -> dict[str, Any]:
        if key not in self.definitions:
            self.definitions[key] = {}
            self.definitions[key] = make()
        return {"$ref": key}

    def _record(self, node: Record, mode: Mode) -> dict[str, Any]:
        arguments = ", ".join(getattr(argument, "__name__", str(argument)) for argument in node.arguments)
        name = f"{node.name}[{arguments}]" if arguments else node.name
        key = _Key(name, node.cls, node.arguments, mode)
        return self._definition(key, lambda: _RECORDS[node.kind](self, node, mode))

    def object(self, node: Record, mode: Mode) -> dict[str, Any]:
        fields = [field for field in node.fields if not (field.exclude and mode == "serialization")]
        names = [field.alias if mode == "validation" else field.written for field in fields]
        schema: dict[str, Any] = {}
        if (description := _description(node)) is not None:
            schema["description"] = description
        schema["properties"] = {name: self._field(field, name, mode) for name, field in zip(names, fields, strict=True)}
        required = [name for name, field in zip(names, fields, strict=True) if field.required]
        if required:
            schema["required"] = required
        return {**schema, "title": node.name, "type": "object"}

    def array(self, node: Record, mode: Mode) -> dict[str, Any]:
        items = [self._field(field, field.name, mode) for field in node.fields]
        least = sum(field.required for field in node.fields)
        prefix = {"prefixItems": items} if items else {}
        return {"maxItems": len(items), "minItems": least, **prefix, "type": "array"}

    def _field(self, field: Field, name: str, mode: Mode) -> dict[str, Any]:
        schema = self.schema(field.node, mode)
        if field.default is not ABSENT:
            schema = {**schema, "default": infer(field.default)}
        if field.title is not None:
            schema = {**schema, "title": field.title}
        elif "$ref" not in schema and not _has_reference(schema):
            schema = {**schema, "title": name.title().replace("_", " ").strip()}
        if field.description is not None:
            schema = {**schema, "description": inspect.cleandoc(field.description)}
        if field.examples is not None:
            schema = {**schema, "examples": infer(field.examples)}
        if field.deprecated:
            schema = {**schema, "deprecated": True}
        return {**schema, **(field.json_schema_extra or {})}

    def _table(self, node: Table, mode: Mode) -> dict[str, Any]:
        values = self.schema(node.value, mode)
        keys = dict(self.schema(node.key, mode))
        schema: dict[str, Any] = {"type": "object"}
        pattern = keys.pop("pattern", None)
        if pattern is not None:
            schema["patternProperties"] = {pattern: values}
        else:
            schema["additionalProperties"] = values or True
        if (keys.get("type") == "string" and len(keys) > 1) or "$ref" in keys:
            keys.pop("type", None)
            schema["propertyNames"] = keys
        return {**schema, **_lengths(node.least, node.most, "Properties")}


def _scalar(node: Scalar, mode: Mode) -> dict[str, Any]:
    bounds = {keyword: node.bounds[name] for name, keyword in _KEYWORDS.items() if name in node.bounds}
    if node.cls is Decimal:
        if mode == "serialization":
            return {"type": "string"}
        return {"anyOf": [{"type": "number", **{name: float(bound) for name, bound in bounds.items()}}, {"type": "string"}]}
    if node.cls in (datetime, date, time, timedelta):
        bounds = {}
    if isinstance(bounds.get("pattern"), re.Pattern):
        bounds["pattern"] = bounds["pattern"].pattern
    return {**_SCALARS[node.cls], **bounds}


def _choice(values: list[Any]) -> dict[str, Any]:
    plain = [infer(value) for value in values]
    schema: dict[str, Any] = {"const": plain[0]} if len(plain) == 1 else {"enum": plain}
    kinds = {type(value) for value in plain}
    if len(kinds) == 1 and (kind := kinds.pop()) in _KINDS:
        schema["type"] = _KINDS[kind]
    return schema


def _enumeration(node: Enumeration) -> dict[str, Any]:
    values = [infer(member.value) for member in node.cls]
    schema: dict[str, Any] = {"enum": values, "title": node.cls.__name__}
    description = _documentation(node.cls)
    if description is not None and description != "An enumeration.":
        schema["description"] = description
    kinds = {type(value) for value in values}
    if node.kind is not None:
        schema["type"] = _KINDS[node.kind]
    elif len(kinds) == 1 and (kind := kinds.pop()) in _KINDS:
        schema["type"] = _KINDS[kind]
    return schema


def _checked(node: Checked) -> dict[str, Any]:
    """Bounds that pydantic checks afterwards are in the schema under their own names, but for lengths."""
    items = isinstance(node.item, Collection)
    words = {"min_length": "minItems" if items else "minLength", "max_length": "maxItems" if items else "maxLength"}
    return {words.get(name, name): infer(bound) for name, bound in node.bounds.items()}


def _lengths(least: int | None, most: int | None, what: str) -> dict[str, Any]:
    lengths = {f"min{what}": least, f"max{what}": most}
    return {name: length for name, length in lengths.items() if length is not None}


def _any_of(members: list[dict[str, Any]]) -> dict[str, Any]:
    """One of several schemas, each of them once."""
    flat: list[dict[str, Any]] = []
    for member in members:
        for one in member["anyOf"] if member.keys() == {"anyOf"} else [member]:
            if one not in flat:
                flat.append(one)
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _has_reference(schema: Any) -> bool:
    """Whether it is a definition, or one of them or null: these have titles of their own."""
    members = schema.get("anyOf", [])
    return len(members) == 2 and {"type": "null"} in members and any("$ref" in member for member in members)


def _description(node: Record) -> str | None:
    documentation = _documentation(node.cls)
    # What `dataclass` writes where there is no docstring.
    if documentation is not None and node.kind == "dataclass" and documentation.startswith(f"{node.name}("):
        return None
    return documentation


def _documentation(cls: Any) -> str | None:
    # What is after a form feed is not for the document, as in FastAPI.
    return inspect.cleandoc(cls.__doc__).partition("\f")[0] if cls.__doc__ else None


def _resolved(value: Any, names: Mapping[_Key, str], ref_template: str) -> Any:
    """The schema with names in the place of keys."""
    if isinstance(value, _Key):
        return ref_template.format(model=names[value])
    if isinstance(value, dict):
        return {name: _resolved(item, names, ref_template) for name, item in value.items()}
    return [_resolved(item, names, ref_template) for item in value] if isinstance(value, list) else value


def _long_name(key: _Key) -> str:
    module = getattr(key.cls, "__module__", "")
    qualified = f"{module}.{getattr(key.cls, '__qualname__', key.name)}"
    return _normal(qualified.replace(".", "__") + key.name.removeprefix(getattr(key.cls, "__name__", key.name)))


def _normal(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", name)


_RECORDS: dict[str, Any] = {"dataclass": _Builder.object, "typed-dict": _Builder.object, "named-tuple": _Builder.array}
_SUFFIXES = {"validation": "Input", "serialization": "Output"}
_KEYWORDS = {
    "multiple_of": "multipleOf",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
}
_KINDS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null", list: "array"}
_SCALARS: dict[Any, dict[str, Any]] = {
    NoneType: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    # As FastAPI has it, not pydantic.
    bytes: {"type": "string", "contentMediaType": "application/octet-stream"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    timedelta: {"type": "string", "format": "duration"},
    UUID: {"type": "string", "format": "uuid"},
}
