"""How values of the framework's own models are written: as what `json.dumps` takes, in the form that pydantic gives them.

A value that is not of the type that its model says, because a handler has put it there, is written by what it is.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

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

__all__ = ["Dumper", "infer"]

Convert = Callable[[Any], Any]


class Dumper:
    """Writes the values of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        compiler = _Compiler()
        #: With nothing left out.
        self.plain: Convert = compiler.convert(node) or _same

    def dump(
        self,
        value: Any,
        *,
        include: Any = None,
        exclude: Any = None,
        by_alias: bool = True,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> Any:
        """With what is said left out. Records do not know which of their fields were set, so `exclude_unset` is idle."""
        if include is None and exclude is None and by_alias and not exclude_defaults and not exclude_none:
            return self.plain(value)
        return _Options(by_alias, exclude_defaults, exclude_none).dump(self.node, value, include, exclude)


def infer(value: Any) -> Any:
    """What a value is written as when nothing is said of its type."""
    type_ = type(value)
    if type_ in _PLAIN:
        return value
    if type_ is float:
        return value if math.isfinite(value) else None
    if type_ is list or type_ is tuple:
        return [infer(item) for item in value]
    if type_ is dict:
        return {_key(key): infer(item) for key, item in value.items()}
    convert = _INFERRED.get(type_)
    if convert is not None:
        return convert(value)
    return _infer_other(value)


def _infer_other(value: Any) -> Any:
    if isinstance(value, Enum):
        return infer(value.value)
    for type_ in type(value).__mro__:
        if type_ in _INFERRED:
            return _INFERRED[type_](value)
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return infer(float(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: infer(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): infer(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, Iterable) and not hasattr(value, "model_dump")):
        return [infer(item) for item in value]
    # Whatever else the encoder of responses knows.
    return value


class _Compiler:
    """Makes the function of each node that writes its values; None where they are written as they are."""

    def __init__(self) -> None:
        self.converts: dict[Node, Convert | None] = {}
        self.open: dict[Node, list[Convert | None]] = {}

    def convert(self, node: Node) -> Convert | None:
        if node in self.converts:
            return self.converts[node]
        if node in self.open:
            return _late(self.open[node])
        self.open[node] = made = []
        self.converts[node] = convert = self._make(node)
        made.append(convert)
        return convert

    def _make(self, node: Node) -> Convert | None:
        match node:
            case Anything() | Choice():
                return infer
            case Scalar():
                return _SCALARS[node.cls]
            case Enumeration():
                return None if node.kind in (int, str) and _is_plain(node.cls) else infer
            case Nullable():
                item = self.convert(node.item)
                return item and _nullable(item)
            case Union_():
                return self._union(node)
            case Collection():
                return _items(self.convert(node.item), node.cls in (set, frozenset))
            case Fixed():
                return _fixed([self.convert(item) or _same for item in node.items])
            case Table():
                return _table(node, self.convert(node.value))
            case Checked() | Alias():
                return self.convert(node.item)
            case Record():
                return self._record(node)
        raise AssertionError(node)

    def _union(self, node: Union_) -> Convert:
        converts = {member: self.convert(member) or _same for member in _records(node)}
        records = list(converts)
        if not records:
            return infer

        def convert(value: Any) -> Any:
            if type(value) in _PLAIN:
                return value
            record = _record_of(records, value)
            return infer(value) if record is None else converts[record](value)

        return convert

    def _record(self, node: Record) -> Convert:
        fields = [field for field in node.fields if not field.exclude]
        if node.kind == "named-tuple":
            return _fixed([self.convert(field.node) or _same for field in fields])
        names: dict[str, Any] = {"ABSENT": ABSENT, "class_": node.cls, "infer": infer, "isfinite": math.isfinite}
        parts = []
        for index, field in enumerate(fields):
            names[f"convert{index}"] = convert = self.convert(field.node)
            read = f"value.{field.name}" if node.kind == "dataclass" else f"value[{field.name!r}]"
            parts.append((f"{field.written!r}", f"convert{index}({read})" if convert is not None else read))
        test = f"isinstance(value, {'class_' if node.kind == 'dataclass' else 'dict'})"
        lines = ["def convert(value):", f" if not {test}:", "  return infer(value)"]
        if node.kind == "dataclass" or all(field.required for field in fields):
            lines.append(f" return {{{', '.join(f'{key}: {read}' for key, read in parts)}}}")
        else:
            lines.append(" written = {}")
            for field, (key, read) in zip(fields, parts, strict=True):
                lines += [f" if {field.name!r} in value:", f"  written[{key}] = {read}"]
            lines.append(" return written")
        exec(compile("\n".join(lines), f"<writer of {node.name}>", "exec"), names)
        made: Convert = names["convert"]
        return made


@dataclasses.dataclass(slots=True)
class _Options:
    """Writes values with parts of them left out."""

    by_alias: bool
    exclude_defaults: bool
    exclude_none: bool

    def dump(self, node: Node, value: Any, include: Any, exclude: Any) -> Any:
        if value is None:
            return None
        match node:
            case Nullable() | Checked() | Alias():
                return self.dump(node.item, value, include, exclude)
            case Union_():
                record = _record_of(_records(node), value)
                return self.dump(Anything() if record is None else record, value, include, exclude)
            case Collection() if isinstance(value, (list, tuple)):
                return self._items([node.item] * len(value), value, include, exclude)
            case Collection() if isinstance(value, (set, frozenset)):
                return [self.dump(node.item, item, include, exclude) for item in value]
            case Fixed() if isinstance(value, (list, tuple)) and len(value) == len(node.items):
                return self._items(node.items, value, include, exclude)
            case Table() if isinstance(value, Mapping):
                return self._table(node.value, value, include, exclude)
            case Record(kind="dataclass") if isinstance(value, node.cls):
                return self._fields(node.fields, lambda field: getattr(value, field.name), include, exclude)
            case Record(kind="typed-dict") if isinstance(value, dict):
                there = [field for field in node.fields if field.name in value]
                return self._fields(there, lambda field: value[field.name], include, exclude)
            case Record(kind="named-tuple") if isinstance(value, tuple) and len(value) == len(node.fields):
                return self._items([field.node for field in node.fields], value, include, exclude)
            case Scalar():
                convert = _SCALARS[node.cls]
                return value if convert is None else convert(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [_inferred_field(field) for field in dataclasses.fields(value)]
            return self._fields(fields, lambda field: getattr(value, field.name), include, exclude)
        if isinstance(value, Mapping):
            return self._table(Anything(), value, include, exclude)
        if isinstance(value, (list, tuple)):
            return self._items([Anything()] * len(value), value, include, exclude)
        return infer(value)

    def _items(self, nodes: list[Node], values: Any, include: Any, exclude: Any) -> list[Any]:
        written = []
        for index, (node, value) in enumerate(zip(nodes, values, strict=True)):
            wanted, included, excluded = _filtered(index, include, exclude, len(nodes))
            if wanted:
                written.append(self.dump(node, value, included, excluded))
        return written

    def _table(self, node: Node, values: Mapping[Any, Any], include: Any, exclude: Any) -> dict[Any, Any]:
        written = {}
        for key, value in values.items():
            wanted, included, excluded = _filtered(key, include, exclude)
            if wanted:
                written[_key(key)] = self.dump(node, value, included, excluded)
        return written

    def _fields(self, fields: list[Field], read: Callable[[Field], Any], include: Any, exclude: Any) -> dict[str, Any]:
        written = {}
        for field in fields:
            wanted, included, excluded = _filtered(field.name, include, exclude)
            if field.exclude or not wanted:
                continue
            value = read(field)
            if (self.exclude_none and value is None) or (self.exclude_defaults and _is_default(field, value)):
                continue
            name = field.written if self.by_alias else field.name
            written[name] = self.dump(field.node, value, included, excluded)
        return written


def _filtered(key: Any, include: Any, exclude: Any, count: int | None = None) -> tuple[bool, Any, Any]:
    """Whether what is at a key is written, and what of it is included and excluded."""
    excluded, inside_excluded = _said(key, exclude, count)
    if excluded and inside_excluded is None:
        return False, None, None
    if include is None:
        return True, None, inside_excluded
    included, inside_included = _said(key, include, count)
    return included, inside_included, inside_excluded


def _said(key: Any, said: Any, count: int | None) -> tuple[bool, Any]:
    """Whether a key is named, and what is said of its inside; None stands for all of it."""
    if said is None:
        return False, None
    keys = [key, "__all__"] if count is None else [key, key - count, "__all__"]
    for one in keys:
        if one in said:
            inside = said[one] if isinstance(said, Mapping) else None
            if inside is False:
                return False, None
            return True, None if inside is None or inside is True or inside is ... else inside
    return False, None


def _is_default(field: Field, value: Any) -> bool:
    if field.factory is not None:
        return bool(field.factory() == value)
    return field.default is not ABSENT and bool(field.default == value)


def _inferred_field(field: "dataclasses.Field[Any]") -> Field:
    return Field(
        field.name,
        field.name,
        field.name,
        Anything(),
        required=False,
        default=ABSENT if field.default is dataclasses.MISSING else field.default,
    )


def _records(node: Node) -> list[Record]:
    match node:
        case Record():
            return [node]
        case Nullable() | Checked() | Alias():
            return _records(node.item)
        case Union_():
            return [record for member in node.members for record in _records(member)]
    return []


def _record_of(records: list[Record], value: Any) -> Record | None:
    """The record among the members of a union whose value it is."""
    for record in records:
        if record.kind != "typed-dict" and type(value) is record.cls:
            return record
    for record in records:
        if record.kind != "typed-dict" and isinstance(value, record.cls):
            return record
    if not isinstance(value, dict):
        return None
    dicts = [record for record in records if record.kind == "typed-dict"]
    fitting = [record for record in dicts if all(field.name in value for field in record.fields if field.required)]
    # The one of which there is most.
    return max(fitting, key=lambda record: sum(field.name in value for field in record.fields), default=None)


def _late(made: list[Convert | None]) -> Convert:
    def convert(value: Any) -> Any:
        found = made[0]
        return value if found is None else found(value)

    return convert


def _same(value: Any) -> Any:
    return value


def _nullable(item: Convert) -> Convert:
    return lambda value: None if value is None else item(value)


def _items(item: Convert | None, is_set: bool) -> Convert | None:
    if item is None:
        # The encoder knows lists and tuples.
        return list if is_set else None

    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple, set, frozenset)):
            return infer(value)
        return [item(one) for one in value]

    return convert


def _fixed(items: list[Convert]) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            return infer(value)
        return [item(one) for item, one in zip(items, value, strict=True)]

    return convert


def _table(node: Table, item: Convert | None) -> Convert | None:
    plain_keys = isinstance(node.key, Scalar) and node.key.cls in (str, int)
    if plain_keys and item is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return infer(value)
        if item is None:
            return {_key(key): one for key, one in value.items()}
        return {_key(key): item(one) for key, one in value.items()}

    return convert


def _key(key: Any) -> str:
    """A key of a mapping."""
    if type(key) is str:
        return key
    if key is None:
        return "None"
    if isinstance(key, tuple):
        return ",".join(_key(item) for item in key)
    written = infer(key)
    return written if isinstance(written, str) else repr(written).lower() if isinstance(written, bool) else str(written)


def _is_plain(class_: type[Enum]) -> bool:
    """Whether the encoder writes members of an enumeration as their values."""
    return issubclass(class_, (str, int)) and all(type(member.value) in (str, int) for member in class_)


def _of(type_: Any, convert: Convert) -> Convert:
    def checked(value: Any) -> Any:
        return convert(value) if isinstance(value, type_) else infer(value)

    return checked


def _float(value: Any) -> Any:
    if type(value) is float:
        return value if value - value == 0.0 else None
    return _float(float(value)) if isinstance(value, (int, Decimal)) else infer(value)


def _datetime(value: datetime) -> str:
    offset = value.utcoffset()
    text = value.replace(tzinfo=None).isoformat()
    return text if offset is None else text + _zone(offset)


def _time(value: time) -> str:
    offset = value.utcoffset()
    text = value.replace(tzinfo=None).isoformat()
    return text if offset is None else text + _zone(offset)


def _zone(offset: timedelta) -> str:
    seconds = round(offset.total_seconds())
    if not seconds:
        return "Z"
    hours, rest = divmod(abs(seconds), 3600)
    return f"{'-' if seconds < 0 else '+'}{hours:02}:{rest // 60:02}"


def _timedelta(value: timedelta) -> str:
    """A duration of ISO 8601, with years of 365 days."""
    size = abs(value)
    years, days = divmod(size.days, 365)
    hours, rest = divmod(size.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    text = "".join(f"{count}{unit}" for count, unit in ((years, "Y"), (days, "D")) if count)
    clock = "".join(f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M")) if count)
    if seconds or size.microseconds:
        fraction = f".{size.microseconds:06}".rstrip("0") if size.microseconds else ""
        clock += f"{seconds}{fraction}S"
    if clock:
        text += f"T{clock}"
    return f"{'-' if value < timedelta() else ''}P{text or 'T0S'}"


_PLAIN = frozenset([str, int, bool, NoneType])
_INFERRED: dict[Any, Convert] = {
    datetime: _datetime,
    date: date.isoformat,
    time: _time,
    timedelta: _timedelta,
    Decimal: str,
    UUID: str,
    bytes: bytes.decode,
    bytearray: lambda value: value.decode(),
}
_SCALARS: dict[Any, Convert | None] = {
    NoneType: None,
    bool: None,
    int: None,
    str: None,
    float: _float,
    bytes: _of(bytes, bytes.decode),
    Decimal: _of(Decimal, str),
    datetime: _of(datetime, _datetime),
    date: _of(date, lambda value: infer(value)),
    time: _of(time, _time),
    timedelta: _of(timedelta, _timedelta),
    UUID: _of(UUID, str),
}
