"""Annotations as a tree of nodes: what the framework's own models know of types.

How values are checked against a node is in `_models.native`, how they are written in `_models.dump`, and the JSON schema in
`_models.schema`. The labels of nodes are those that pydantic gives to the members of a union in the `loc` of an error.
"""

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

__all__ = [
    "ABSENT",
    "BOUNDS",
    "SCALARS",
    "Alias",
    "Anything",
    "Checked",
    "Choice",
    "Collection",
    "Enumeration",
    "Field",
    "Fixed",
    "Node",
    "Nullable",
    "Record",
    "Scalar",
    "Table",
    "Union_",
    "label_of",
    "node_of",
    "walk",
]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


#: The default of a field that has none.
ABSENT: Any = _Absent()


@dataclass(slots=True, eq=False)
class Node:
    """One type."""


@dataclass(slots=True, eq=False)
class Anything(Node):
    """`Any` and `object`: a value as it is."""


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """One of the types of `SCALARS`, within bounds."""

    cls: Any
    bounds: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Choice(Node):
    """A `Literal`."""

    values: list[Any]


@dataclass(slots=True, eq=False)
class Enumeration(Node):
    """A subclass of `Enum`; `kind` is the type that its values have beside, or None."""

    cls: type[Enum]
    kind: type | None


@dataclass(slots=True, eq=False)
class Nullable(Node):
    """A type or None."""

    item: Node


@dataclass(slots=True, eq=False)
class Union_(Node):
    """One of several types, None not among them."""

    members: list[Node]


@dataclass(slots=True, eq=False)
class Collection(Node):
    """A `list`, `set`, `frozenset`, `tuple` of any length, or `Sequence`."""

    cls: Any
    item: Node
    least: int | None = None
    most: int | None = None


@dataclass(slots=True, eq=False)
class Fixed(Node):
    """A `tuple` of one length."""

    items: list[Node]
    least: int | None = None
    most: int | None = None


@dataclass(slots=True, eq=False)
class Table(Node):
    """A `dict`."""

    key: Node
    value: Node
    least: int | None = None
    most: int | None = None


@dataclass(slots=True, eq=False)
class Checked(Node):
    """A type with bounds that pydantic checks afterwards, whatever the value is: those of a union, for example."""

    item: Node
    bounds: dict[str, Any]


@dataclass(slots=True, eq=False)
class Alias(Node):
    """A type alias that is used inside of itself."""

    name: str
    item: Node


@dataclass(slots=True, eq=False)
class Field:
    """A field of a record."""

    name: str
    #: The name in requests.
    alias: str
    #: The name in responses.
    written: str
    node: Node
    required: bool
    default: Any = ABSENT
    factory: Callable[[], Any] | None = None
    #: False for a field of a dataclass that is not read from a request.
    init: bool = True
    kw_only: bool = False
    title: str | None = None
    description: str | None = None
    examples: list[Any] | None = None
    deprecated: bool = False
    #: Whether it is left out of responses.
    exclude: bool = False
    #: More keywords for the JSON schema.
    json_schema_extra: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Record(Node):
    """A dataclass, a TypedDict or a NamedTuple."""

    kind: Literal["dataclass", "typed-dict", "named-tuple"]
    cls: Any
    #: Those of a generic dataclass.
    arguments: tuple[Any, ...]
    fields: list[Field]

    @property
    def name(self) -> str:
        """The name of the class."""
        return str(self.cls.__name__)


#: The names of bounds, in the order in which pydantic applies them.
BOUNDS: tuple[str, ...] = ("multiple_of", "le", "lt", "ge", "gt", "min_length", "max_length", "pattern")
BOUNDS += ("allow_inf_nan", "max_digits", "decimal_places", "strict")

_ORDER = frozenset(["le", "lt", "ge", "gt"])
_NUMERIC = _ORDER | {"multiple_of"}
_LENGTHS = frozenset(["min_length", "max_length"])

#: The scalar types, pydantic's names for them, and their bounds.
SCALARS: dict[Any, tuple[str, frozenset[str]]] = {
    NoneType: ("none", frozenset()),
    bool: ("bool", frozenset()),
    int: ("int", _NUMERIC),
    float: ("float", _NUMERIC | {"allow_inf_nan"}),
    str: ("str", _LENGTHS | {"pattern"}),
    bytes: ("bytes", _LENGTHS),
    Decimal: ("decimal", _NUMERIC | {"allow_inf_nan", "max_digits", "decimal_places"}),
    datetime: ("datetime", _ORDER),
    date: ("date", _ORDER),
    time: ("time", _ORDER),
    timedelta: ("timedelta", _NUMERIC),
    UUID: ("uuid", frozenset()),
}


def node_of(annotation: Any, bounds: Mapping[str, Any]) -> Node:
    """The node of an annotation within bounds. Raises TypeError for a type that is not known, and names the annotation."""
    reader = _Reader()
    try:
        return reader.bounded(reader.read(annotation, {}), bounds)
    except _Unknown as unknown:
        raise TypeError(f"{_shown(annotation)} cannot be validated: {unknown}") from None


def label_of(node: Node, open_: tuple[Alias, ...] = ()) -> str:
    """The name of a node in the `loc` of a union's error. An alias inside of itself is `...`."""
    match node:
        case Anything():
            return "any"
        case Scalar():
            name, bounds = SCALARS[node.cls][0], node.bounds.keys() - {"allow_inf_nan"}
            return f"constrained-{name}" if bounds and node.cls in (int, float, str, bytes) else name
        case Choice():
            return f"literal[{','.join(map(repr, node.values))}]"
        case Enumeration():
            kind = f"{node.kind.__name__}-" if node.kind is not None else ""
            return f"{kind}enum[{node.cls.__qualname__}]"
        case Nullable():
            return f"nullable[{_label_inside(node.item, open_)}]"
        case Union_():
            return f"union[{','.join(_label_inside(member, open_) for member in node.members)}]"
        case Collection():
            # pydantic makes the label of a list when it is needed, and those of others when it makes their validators.
            item = label_of(node.item, open_) if node.cls is list else _label_inside(node.item, open_)
            if node.cls is Sequence:
                python = "is-instance[Sequence]"
                if not isinstance(node.item, Anything):
                    python = f"chain[{python},function-wrap[sequence_validator()]]"
                return f"json-or-python[json=list[{item}],python={python}]"
            return f"tuple[{item}, ...]" if node.cls is tuple else f"{node.cls.__name__}[{item}]"
        case Fixed():
            return f"tuple[{', '.join(_label_inside(item, open_) for item in node.items)}]"
        case Table():
            return f"dict[{_label_inside(node.key, open_)},{_label_inside(node.value, open_)}]"
        case Checked():
            return f"function-after[{', '.join(node.bounds)}(), {_label_inside(node.item, open_)}]"
        case Alias():
            return "..." if node in open_ else label_of(node.item, (*open_, node))
        case Record():
            return node.name
    raise AssertionError(node)


def _label_inside(node: Node, open_: tuple[Alias, ...]) -> str:
    return "..." if isinstance(node, Alias) else label_of(node, open_)


def walk(node: Node) -> Iterator[Node]:
    """The node and all that it consists of, each once."""
    seen: set[Node] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        match one:
            case Nullable() | Collection() | Checked() | Alias():
                waiting.append(one.item)
            case Union_():
                waiting += one.members
            case Fixed():
                waiting += one.items
            case Table():
                waiting += [one.key, one.value]
            case Record():
                waiting += [field.node for field in one.fields]


class _Unknown(TypeError):
    """A part of an annotation is not known."""


class _Reader:
    """Reads one annotation; records and type aliases are read once, so that they may contain themselves."""

    def __init__(self) -> None:
        self.records: dict[Any, Record] = {}
        self.aliases: dict[Any, Alias] = {}
        self.used: set[Any] = set()
        #: The modules of the type aliases that are being read: forward references in them are names of theirs.
        self.modules: list[str] = []

    def read(self, annotation: Any, variables: Mapping[Any, Any]) -> Node:
        if annotation is None:
            annotation = NoneType
        if annotation is Any or annotation is object:
            return Anything()
        if isinstance(annotation, TypeVar):
            return self._variable(annotation, variables)
        if isinstance(annotation, (str, ForwardRef)):
            return self.read(self._resolved(annotation), variables)
        if hasattr(annotation, "__supertype__"):
            return self.read(annotation.__supertype__, variables)
        if type(annotation).__name__ == "TypeAliasType":
            return self._alias(annotation, (), variables)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._annotated(arguments[0], arguments[1:], variables)
        if origin in (Union, types.UnionType):
            return self._union(arguments, variables)
        if origin is Literal:
            return Choice(_flattened(arguments))
        if type(origin).__name__ == "TypeAliasType":
            return self._alias(origin, arguments, variables)
        if origin is not None and getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly", "Final"):
            return self.read(arguments[0], variables)
        class_ = annotation if origin is None else origin
        if class_ in _COLLECTIONS:
            return self._collection(_COLLECTIONS[class_], arguments, variables)
        if class_ is tuple:
            return self._tuple(annotation, arguments, variables)
        if class_ in _TABLES:
            key, value = arguments or (Any, Any)
            return Table(self.read(key, variables), self.read(value, variables))
        if isinstance(class_, type):
            return self._class(class_, tuple(variables.get(argument, argument) for argument in arguments))
        raise _Unknown(f"there is no way to read {_shown(annotation)}")

    def bounded(self, node: Node, bounds: Mapping[str, Any]) -> Node:
        """The node within more bounds."""
        said = {name: value for name in BOUNDS if (value := bounds.get(name)) is not None}
        said = {name: value for name, value in said.items() if not (name == "strict" and value is False)}
        if unknown := {name for name, value in bounds.items() if value is not None} - set(BOUNDS):
            raise _Unknown(f"there is no constraint {min(unknown)!r}")
        if not said:
            return node
        if "strict" in said:
            raise _Unknown("strict is only known to pydantic")
        if isinstance(node, Nullable):
            return Nullable(self.bounded(node.item, bounds))
        if isinstance(node, Scalar) and said.keys() <= SCALARS[node.cls][1]:
            return Scalar(node.cls, _checked_bounds(node.cls, node.bounds | said))
        if isinstance(node, Checked) and not said.keys() & node.bounds.keys():
            inner = self.bounded(node.item, said)
            return Checked(node.item, node.bounds | inner.bounds) if isinstance(inner, Checked) else inner
        if isinstance(node, (Collection, Table, Fixed)):
            return self._bounded_collection(node, said)
        if not said.keys() <= _NUMERIC | _LENGTHS:
            names = ", ".join(said.keys() - _NUMERIC - _LENGTHS)
            raise _Unknown(f"{names} has no meaning for {label_of(node)}")
        return Checked(node, said)

    def _bounded_collection(self, node: Node, said: dict[str, Any]) -> Node:
        """Of a collection, the lengths are its own; everything else is said of its items."""
        lengths = {name: said.pop(name) for name in _LENGTHS if name in said}
        if said:
            if not isinstance(node, Collection):
                raise _Unknown(f"{', '.join(said)} has no meaning for {label_of(node)}")
            node = dataclasses.replace(node, item=self.bounded(node.item, said))
        if isinstance(node, Collection) and node.cls is Sequence and lengths:
            return Checked(node, lengths)
        assert isinstance(node, (Collection, Table, Fixed))
        return dataclasses.replace(node, least=lengths.get("min_length", node.least), most=lengths.get("max_length", node.most))

    def _variable(self, variable: TypeVar, variables: Mapping[Any, Any]) -> Node:
        if variable in variables:
            return self.read(variables[variable], {})
        if variable.__constraints__:
            return self._union(variable.__constraints__, variables)
        if variable.__bound__ is not None:
            return self.read(variable.__bound__, variables)
        return Anything()

    def _resolved(self, reference: str | ForwardRef) -> Any:
        text = reference if isinstance(reference, str) else reference.__forward_arg__
        try:
            return eval(text, dict(vars(sys.modules[self.modules[-1]])))
        except (IndexError, KeyError, NameError, SyntaxError, TypeError):
            raise _Unknown(f"the forward reference {text!r} is not resolved") from None

    def _alias(self, alias: Any, arguments: tuple[Any, ...], variables: Mapping[Any, Any]) -> Node:
        key = (alias, tuple(variables.get(argument, argument) for argument in arguments))
        if key in self.aliases:
            self.used.add(key)
            return self.aliases[key]
        own = dict(zip(alias.__type_params__, key[1], strict=False))
        self.aliases[key] = reference = Alias(alias.__name__, Anything())
        self.modules.append(alias.__module__)
        try:
            reference.item = self.read(alias.__value__, own)
        except NameError as error:
            raise _Unknown(str(error)) from None
        finally:
            self.modules.pop()
        if key in self.used:
            return reference
        del self.aliases[key]
        return reference.item

    def _annotated(self, annotation: Any, metadata: Sequence[Any], variables: Mapping[Any, Any]) -> Node:
        node = self.read(annotation, variables)
        for item in _expanded(metadata):
            node = self.bounded(node, _bounds_of(item))
        return node

    def _union(self, arguments: Sequence[Any], variables: Mapping[Any, Any]) -> Node:
        members = [argument for argument in arguments if argument not in (None, NoneType)]
        nodes = [self.read(member, variables) for member in members]
        node = nodes[0] if len(nodes) == 1 else Union_(nodes)
        return Nullable(node) if len(members) < len(arguments) else node

    def _collection(self, class_: Any, arguments: tuple[Any, ...], variables: Mapping[Any, Any]) -> Node:
        return Collection(class_, self.read(arguments[0], variables) if arguments else Anything())

    def _tuple(self, annotation: Any, arguments: tuple[Any, ...], variables: Mapping[Any, Any]) -> Node:
        if not arguments and annotation in (tuple, typing.Tuple):  # noqa: UP006
            return Collection(tuple, Anything())
        if len(arguments) == 2 and arguments[1] is ...:
            return Collection(tuple, self.read(arguments[0], variables))
        if any(argument is ... or getattr(argument, "__unpacked__", False) for argument in arguments):
            raise _Unknown(f"there is no way to read {_shown(annotation)}")
        # Before Python 3.11, `Tuple[()]` had one argument.
        return Fixed([self.read(argument, variables) for argument in arguments if argument != ()])

    def _class(self, class_: type, arguments: tuple[Any, ...]) -> Node:
        if class_ in SCALARS:
            return Scalar(class_)
        if issubclass(class_, Enum):
            return _enumeration(class_)
        if _is_pydantic(class_):
            raise _Unknown(f"{class_.__name__} needs pydantic")
        kind = _kind_of(class_)
        if kind is None:
            raise _Unknown(f"there is no way to read {_shown(class_)}")
        key = (class_, arguments)
        if key not in self.records:
            self.records[key] = record = Record(kind, class_, arguments, [])
            try:
                hints = get_type_hints(class_, include_extras=True)
            except (NameError, TypeError) as error:
                raise _Unknown(f"an annotation of {class_.__name__} cannot be resolved: {error}") from None
            variables = dict(zip(getattr(class_, "__parameters__", ()), arguments, strict=False))
            try:
                record.fields.extend(_FIELDS[kind](self, class_, hints, variables))
            except _Unknown as unknown:
                raise _Unknown(f"{class_.__name__}: {unknown}") from None
        return self.records[key]

    def dataclass_fields(self, class_: Any, hints: dict[str, Any], variables: Mapping[Any, Any]) -> Iterator[Field]:
        if any(str(one._field_type) == "_FIELD_INITVAR" for one in class_.__dataclass_fields__.values()):
            raise _Unknown("InitVar is only known to pydantic")
        fields = dataclasses.fields(class_)
        # As in the signature, and as pydantic checks them, those that have a position come first.
        for one in sorted(fields, key=lambda one: bool(one.kw_only)):
            info: Mapping[str, Any] = one.metadata
            if (doc := getattr(one, "doc", None)) is not None:
                info = {**info, "description": doc}
            default: Any = ABSENT if one.default is MISSING else one.default
            factory = None if one.default_factory is MISSING else one.default_factory
            if _is_param(default):
                info = {**vars(default), **info}
                factory = default.default_factory
                default = ABSENT if repr(default.default) == "required" else default.default
            required = default is ABSENT and factory is None
            if not one.init and required:
                continue
            read = self._field(one.name, hints[one.name], info, variables)
            read.required = required
            read.default = default
            read.factory = factory
            read.init, read.kw_only = one.init, bool(one.kw_only)
            yield read

    def typed_dict_fields(self, class_: Any, hints: dict[str, Any], variables: Mapping[Any, Any]) -> Iterator[Field]:
        for name, hint in hints.items():
            read = self._field(name, hint, {}, variables)
            qualifiers = _qualifiers(hint)
            read.required = "NotRequired" not in qualifiers and (
                "Required" in qualifiers or name in getattr(class_, "__required_keys__", ())
            )
            yield read

    def named_tuple_fields(self, class_: Any, hints: dict[str, Any], variables: Mapping[Any, Any]) -> Iterator[Field]:
        for name in class_._fields:
            read = self._field(name, hints.get(name, Any), {}, variables)
            read.default = class_._field_defaults.get(name, ABSENT)
            read.required = read.default is ABSENT
            yield read

    def _field(self, name: str, hint: Any, info: Mapping[str, Any], variables: Mapping[Any, Any]) -> Field:
        """A field with what is said of it in its metadata and in `Annotated`."""
        if type(info.get("default")).__module__.startswith("pydantic") or _UNKNOWN_INFO & info.keys():
            raise _Unknown(f"the field {name!r} needs pydantic")
        said = {key: info.get(key) for key in _SAID}
        for item in _expanded(_metadata(hint)):
            for key in _SAID:
                if said[key] is None and _is_param(item):
                    said[key] = getattr(item, key, None)
        try:
            node = self.bounded(self.read(hint, variables), {key: info[key] for key in BOUNDS if key in info})
        except _Unknown as unknown:
            raise _Unknown(f"the field {name!r}: {unknown}") from None
        alias = said["validation_alias"] or said["alias"] or name
        extra = said["json_schema_extra"]
        if not isinstance(alias, str) or not isinstance(extra, (dict, NoneType)):
            raise _Unknown(f"the field {name!r} needs pydantic")
        return Field(
            name,
            alias,
            said["serialization_alias"] or said["alias"] or name,
            node,
            required=True,
            title=said["title"],
            description=said["description"],
            examples=list(said["examples"]) if said["examples"] is not None else None,
            deprecated=bool(said["deprecated"]),
            exclude=bool(said["exclude"]),
            json_schema_extra=extra,
        )


def _enumeration(class_: Any) -> Node:
    if not list(class_):
        raise _Unknown(f"{class_.__name__} has no members")
    if _is_pydantic(class_):
        raise _Unknown(f"{class_.__name__} needs pydantic")
    values: list[Any] = [member.value for member in class_]
    for kind in (int, str, float):
        if issubclass(class_, kind) and all(isinstance(value, kind) for value in values):
            return Enumeration(class_, kind)
    return Enumeration(class_, None)


def _kind_of(class_: Any) -> Literal["dataclass", "typed-dict", "named-tuple"] | None:
    if dataclasses.is_dataclass(class_):
        return "dataclass"
    if issubclass(class_, dict) and hasattr(class_, "__total__") and hasattr(class_, "__required_keys__"):
        return "typed-dict"
    if issubclass(class_, tuple) and hasattr(class_, "_fields"):
        return "named-tuple"
    return None


def _is_pydantic(class_: Any) -> bool:
    """Whether a class says something that only pydantic understands."""
    if hasattr(class_, "__get_pydantic_core_schema__") or hasattr(class_, "__pydantic_config__"):
        return True
    if hasattr(class_, "__pydantic_validator__"):
        return True
    if "pydantic" not in sys.modules or not hasattr(class_, "__dataclass_fields__"):
        return False
    return any(
        type(value).__module__.startswith("pydantic")
        for base in class_.__mro__
        for value in (*vars(base).values(), *(one.default for one in vars(base).get("__dataclass_fields__", {}).values()))
    )


def _is_param(item: Any) -> bool:
    """Whether it is one of the framework's own `Query`, `Body`, ..., or has their form."""
    return all(hasattr(item, name) for name in ("default", "default_factory", "alias", "ge"))


def _expanded(metadata: Sequence[Any]) -> Iterator[Any]:
    """Each thing that `Annotated` says, those of groups (`annotated_types.Interval`) one by one."""
    for item in metadata:
        if getattr(item, "__is_annotated_types_grouped_metadata__", False) is True:
            yield from item
        else:
            yield item


def _bounds_of(item: Any) -> dict[str, Any]:
    """The bounds that an object in `Annotated` has as attributes. Other objects say nothing about a type."""
    module = type(item).__module__
    if module.partition(".")[0] in ("pydantic", "pydantic_core") or hasattr(item, "__get_pydantic_core_schema__"):
        raise _Unknown(f"{item!r} needs pydantic")
    if isinstance(item, (str, bytes, int, re.Pattern, slice, type)) or module == "typing":
        return {}
    bounds = {name: value for name in BOUNDS if (value := getattr(item, name, None)) is not None}
    if not bounds and module == "annotated_types" and type(item).__name__ not in ("Unit", "DocInfo"):
        raise _Unknown(f"{item!r} needs pydantic")
    return bounds


def _checked_bounds(type_: Any, bounds: dict[str, Any]) -> dict[str, Any]:
    """Bounds as values of the type that they bound, in the order in which they are checked."""
    converted = dict(bounds)
    for name in _NUMERIC & bounds.keys():
        value = bounds[name]
        try:
            if type_ is int:
                converted[name] = int(value)
                if converted[name] != value:
                    raise ValueError(value)
            elif type_ is float:
                # As it was said: the schema has it like that.
                converted[name] = value if type(value) is int else float(value)
            elif type_ is Decimal:
                converted[name] = value if isinstance(value, Decimal) else Decimal(str(value))
            elif not isinstance(value, type_):
                raise TypeError(value)
        except (TypeError, ValueError, ArithmeticError):
            raise _Unknown(f"{name}={value!r} is no bound for {type_.__name__}") from None
        if name == "multiple_of" and not converted[name] > type_(0):
            raise _Unknown("multiple_of must be more than 0")
    return {name: converted[name] for name in BOUNDS if name in converted}


def _qualifiers(hint: Any) -> list[str]:
    """`Required`, `NotRequired` and `ReadOnly` around the type of a field."""
    found: list[str] = []
    while True:
        origin = get_origin(hint)
        name = getattr(origin, "_name", None)
        if name in ("Required", "NotRequired", "ReadOnly"):
            found.append(name)
        elif origin is not Annotated:
            return found
        hint = get_args(hint)[0]


def _metadata(hint: Any) -> Sequence[Any]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _flattened(values: Sequence[Any]) -> list[Any]:
    """The values of a `Literal`, with those of `Literal`s in it."""
    return [one for value in values for one in (_flattened(get_args(value)) if get_origin(value) is Literal else [value])]


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


_COLLECTIONS: dict[Any, Any] = {
    list: list,
    set: set,
    frozenset: frozenset,
    Sequence: Sequence,
    MutableSequence: list,
    AbstractSet: frozenset,
    MutableSet: set,
}
_TABLES = frozenset([dict, Mapping, MutableMapping])
#: What a field's metadata, or a `Query` and the like in `Annotated`, may say beside bounds.
_SAID: tuple[str, ...] = ("alias", "validation_alias", "serialization_alias", "title", "description", "examples")
_SAID += ("deprecated", "exclude", "json_schema_extra")
#: What pydantic reads in the metadata of a field of a dataclass, and the framework does not.
_UNKNOWN_INFO = frozenset(
    ["coerce_numbers_to_str", "discriminator", "exclude_if", "fail_fast", "union_mode", "validate_default"]
)
_FIELDS: dict[str, Callable[..., Iterator[Field]]] = {
    "dataclass": _Reader.dataclass_fields,
    "typed-dict": _Reader.typed_dict_fields,
    "named-tuple": _Reader.named_tuple_fields,
}
