"""The framework's own models: values checked against the tree of an annotation, without pydantic.

Each node becomes a function from a value to a value of its type; records become generated source, as the routes do. What is
accepted and what is said of the rest is what pydantic accepts and says. How values are written is in `_models.dump`, and the
JSON schema in `_models.schema`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from covet.responses import encode_json
from covet.types import ErrorDetail

from .dump import Dumper
from .model import ERRORS_MAX, IncEx, InvalidModel, Mode, Model, StringField, read_json
from .scalars import (
    EXACT,
    LAX,
    STRICT,
    Check,
    InvalidConverted,
    Trace,
    check_bounds,
    check_choice,
    check_enumeration,
    check_scalar,
    inline_test,
    too_long,
    too_short,
)
from .schema import json_schemas
from .strings import Invalid
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
    label_of,
    node_of,
    walk,
)

__all__ = ["NativeModel"]


class NativeModel(Model):
    """A model of the standard library's types and of records made of them. Raises TypeError for other types."""

    def __init__(self, annotation: Any, constraints: Mapping[str, Any]) -> None:
        self.annotation = annotation
        self.node = node_of(annotation, constraints)
        self._check = _Compiler(strings=False).check(self.node)
        # Only these mean something else where everything is a string.
        of_strings = any(isinstance(node, (Choice, Enumeration)) for node in walk(self.node))
        self._check_strings = _Compiler(strings=True).check(self.node) if of_strings else self._check
        self._dumper = Dumper(self.node)

    def validate(self, value: Any) -> Any:
        try:
            return self._check(value, None)
        except _ENDS as failure:
            raise _invalid(failure, value) from None

    def validate_result(self, value: Any) -> Any:
        try:
            return self._check(value, None)
        except _ENDS:
            return self.validate(_of_attributes(self.node, value, _DEPTH_MAX))

    def validate_json(self, data: str | bytes) -> Any:
        value = read_json(data)
        try:
            return self._check(value, None)
        except _ENDS as failure:
            raise _invalid(failure, value) from None

    def validate_strings(self, value: Any) -> Any:
        try:
            return self._check_strings(value, None)
        except _ENDS as failure:
            raise _invalid(failure, value) from None

    def string_fields(self) -> list[StringField] | None:
        record = self.node.item if isinstance(self.node, Nullable) else self.node
        if not isinstance(record, Record) or record.kind == "named-tuple":
            return None
        return [(field.alias, _is_list(field.node), field.required) for field in record.fields if field.init]

    @property
    def takes_other_fields(self) -> bool:
        return False

    def serialize(self, value: Any, **options: Any) -> Any:
        return self._dumper.dump(value, **options)

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
        valid = self.validate_result(value)
        if include is None and exclude is None and by_alias and not exclude_defaults and not exclude_none:
            return encode_json(self._dumper.plain(valid))
        dumped = self._dumper.dump(
            valid,
            include=include,
            exclude=exclude,
            by_alias=by_alias,
            exclude_defaults=exclude_defaults,
            exclude_none=exclude_none,
        )
        return encode_json(dumped)

    @classmethod
    def _schemas(
        cls, models: "Sequence[tuple[NativeModel, Mode]]", ref_template: str, definitions: Mapping[str, dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        return json_schemas([(model.node, mode) for model, mode in models], ref_template, definitions)


class _Refused(Exception):
    """What is wrong inside of a value; the `loc` of each error is a list, and the other way round."""

    def __init__(self, errors: list[ErrorDetail]) -> None:
        super().__init__(errors)
        self.errors = errors


def _invalid(failure: Exception, value: Any) -> InvalidModel:
    """What a caller gets to know."""
    if isinstance(failure, RecursionError):
        message = "Recursion error - maximum validation depth exceeded"
        # What is nested that deeply cannot be written either.
        return InvalidModel([{"type": "recursion_depth_exceeded", "loc": (), "msg": message, "input": None}])
    errors = _errors_of(failure, value)[:ERRORS_MAX]
    for error in errors:
        error["loc"] = tuple(reversed(error["loc"]))
    return InvalidModel(errors)


def _errors_of(failure: Exception, value: Any) -> list[ErrorDetail]:
    if isinstance(failure, _Refused):
        return failure.errors
    assert isinstance(failure, Invalid), failure
    if isinstance(failure, InvalidConverted):
        value = failure.value
    error: ErrorDetail = {"type": failure.type, "loc": [], "msg": failure.message, "input": value}
    if failure.context is not None:
        error["ctx"] = failure.context
    return [error]


def _collect(errors: list[ErrorDetail] | None, failure: Exception, key: Any, value: Any) -> list[ErrorDetail]:
    """Adds what is wrong with the value at a key."""
    more = _errors_of(failure, value)
    for error in more:
        error["loc"].append(key)
    return more if errors is None else errors + more


def _add(errors: list[ErrorDetail] | None, failure: Exception, key: Any, value: Any) -> list[ErrorDetail]:
    """The same; what comes after `ERRORS_MAX` errors is not looked at."""
    errors = _collect(errors, failure, key, value)
    if len(errors) >= ERRORS_MAX:
        raise _Refused(errors)
    return errors


def _missing(errors: list[ErrorDetail] | None, key: Any, value: Any) -> list[ErrorDetail]:
    return _add(errors, Invalid("missing", "Field required"), key, value)


class _Compiler:
    """Makes the function of each node."""

    def __init__(self, strings: bool) -> None:
        #: Whether integers are read from strings in enumerations and literals.
        self.strings = strings
        self.checks: dict[Node, Check] = {}
        self.open: dict[Node, list[Check]] = {}

    def check(self, node: Node) -> Check:
        if node in self.checks:
            return self.checks[node]
        if node in self.open:
            # A record inside of itself: its function is known later.
            return _late(self.open[node])
        self.open[node] = made = []
        self.checks[node] = check = self._make(node)
        made.append(check)
        return check

    def _make(self, node: Node) -> Check:
        match node:
            case Anything():
                return _check_anything
            case Scalar():
                return check_scalar(node)
            case Choice():
                return check_choice(node.values, self.strings)
            case Enumeration():
                return check_enumeration(node, self.strings)
            case Nullable():
                return _nullable(self.check(node.item))
            case Union_():
                return self._union(node)
            case Collection():
                return _COLLECTIONS[node.cls](node, self)
            case Fixed():
                return _fixed(node, [self.check(item) for item in node.items])
            case Table():
                return _table(node, self.check(node.key), self.check(node.value))
            case Checked():
                return _checked(self.check(node.item), check_bounds(node.bounds))
            case Alias():
                return self.check(node.item)
            case Record():
                return _RECORDS[node.kind](node, self)
        raise AssertionError(node)

    def test(self, node: Node, name: str, names: dict[str, Any]) -> str | None:
        """Source that is true if a value needs no check."""
        if isinstance(node, Scalar):
            return inline_test(node, name, names)
        if isinstance(node, Nullable):
            test = self.test(node.item, name, names)
            return test and f"{name} is None or {test}"
        return None

    def _union(self, node: Union_) -> Check:
        members = [(label_of(member), self.check(member)) for member in node.members]
        scalars = [member.cls for member in node.members if isinstance(member, Scalar) and not member.bounds]
        # A value of exactly one of these types is taken as it is, whatever else there is.
        exact = frozenset(scalars) if len(scalars) == len(members) else frozenset()
        return _union(members, exact)


def _late(made: list[Check]) -> Check:
    def check(value: Any, trace: Trace | None) -> Any:
        return made[0](value, trace)

    return check


def _check_anything(value: Any, trace: Trace | None) -> Any:
    if trace is not None:
        # A union takes it rather than a conversion, and another member that fits rather than it.
        trace.floor(STRICT)
    return value


def _nullable(item: Check) -> Check:
    def check(value: Any, trace: Trace | None) -> Any:
        return None if value is None else item(value, trace)

    return check


def _checked(item: Check, bounds: Callable[[Any], None]) -> Check:
    def check(value: Any, trace: Trace | None) -> Any:
        read = item(value, trace)
        bounds(read)
        return read

    return check


def _union(members: list[tuple[str, Check]], exact: frozenset[Any]) -> Check:
    def choose(value: Any, known: dict[tuple[int, int], Any]) -> tuple[Any, Trace | None]:
        errors: list[ErrorDetail] | None = None
        best: Trace | None = None
        result: Any = None
        for label, member in members:
            own = Trace(known)
            try:
                read = member(value, own)
            except _FAILURES as failure:
                if best is None:
                    errors = _collect(errors, failure, label, value)[:ERRORS_MAX]
                continue
            if own.exactness == EXACT and own.fields is None:
                return read, None
            if best is None or _is_better(own, best):
                best, result = own, read
        if best is None:
            assert errors is not None
            raise _Refused(errors)
        return result, best

    def check(value: Any, trace: Trace | None) -> Any:
        if type(value) in exact:
            return value
        if trace is None:
            return choose(value, {})[0]
        result, best = _known(choose, value, trace.known) if type(value) in (dict, list) else choose(value, trace.known)
        if best is not None:
            trace.floor(best.exactness)
            if best.fields is not None:
                trace.add_fields(best.fields)
        return result

    return check


def _known(
    choose: Callable[[Any, Any], tuple[Any, Trace | None]], value: Any, known: dict[tuple[int, int], Any]
) -> tuple[Any, Trace | None]:
    """What a union has found for a value, if it has been asked already."""
    key = (id(choose), id(value))
    found: tuple[Any, Trace | None] = (None, None)
    errors: list[ErrorDetail] | None = None
    if key not in known:
        try:
            found = choose(value, known)
        except _Refused as refused:
            errors = refused.errors
        # The value is kept, so that no other one has its identity meanwhile.
        known[key] = value, found, errors
    _, found, errors = known[key]
    if errors is not None:
        raise _Refused([{**error, "loc": error["loc"].copy()} for error in errors])
    return found


def _is_better(new: Trace, best: Trace) -> bool:
    """More fields first, then less conversion; else the one that comes first."""
    if new.fields is not None and best.fields is not None and new.fields != best.fields:
        return new.fields > best.fields
    return new.exactness > best.exactness


def _list(node: Collection, compiler: _Compiler) -> Check:
    names: dict[str, Any] = {
        "FAILURES": _FAILURES,
        "Refused": _Refused,
        "add": _add,
        "as_list": _as_list,
        "check_item": compiler.check(node.item),
        "too_long": too_long,
        "too_short": too_short,
    }
    test = compiler.test(node.item, "item", names)
    lines = [
        "def check(value, trace):",
        " if type(value) is not list:",
        "  value = as_list(value, list, 'list', trace)",
    ]
    if node.most is not None:
        lines += [f" if len(value) > {node.most}:", f"  raise too_long('List', {node.most}, len(value))"]
    if isinstance(node.item, Anything):
        lines.append(" read = value.copy()")
    else:
        lines += [
            " errors = None",
            " read = []",
            " append = read.append",
            " for index, item in enumerate(value):",
            *([f"  if {test}:", "   append(item)", "   continue"] if test else []),
            "  try:",
            "   append(check_item(item, trace))",
            "  except FAILURES as failure:",
            "   errors = add(errors, failure, index, item)",
            " if errors is not None:",
            "  raise Refused(errors)",
        ]
    if node.least is not None:
        lines += [f" if len(read) < {node.least}:", f"  raise too_short('List', {node.least}, len(read))"]
    lines.append(" return read")
    return _made(lines, names, "list")


def _set(node: Collection, compiler: _Compiler) -> Check:
    type_, least, most = node.cls, node.least, node.most
    name, words = type_.__name__, type_.__name__
    field_type = "Set" if type_ is set else "Frozenset"
    item_check = compiler.check(node.item)

    def check(value: Any, trace: Trace | None) -> Any:
        errors: list[ErrorDetail] | None = None
        read: set[Any] = set()
        for index, item in enumerate(_as_list(value, type_, words, trace, name)):
            try:
                one = item_check(item, trace)
                try:
                    read.add(one)
                except TypeError:
                    raise Invalid("set_item_not_hashable", "Set items should be hashable") from None
            except _FAILURES as failure:
                errors = _add(errors, failure, index, item)
                continue
            if most is not None and len(read) > most:
                raise too_long(field_type, most, None)
        if errors is not None:
            raise _Refused(errors)
        if least is not None and len(read) < least:
            raise too_short(field_type, least, len(read))
        return read if type_ is set else frozenset(read)

    return check


def _tuple(node: Collection, compiler: _Compiler) -> Check:
    least, most = node.least, node.most
    item_check = compiler.check(node.item)

    def check(value: Any, trace: Trace | None) -> Any:
        items = _as_list(value, tuple, "tuple", trace)
        errors: list[ErrorDetail] | None = None
        read: list[Any] = []
        for index, item in enumerate(items):
            try:
                read.append(item_check(item, trace))
            except _FAILURES as failure:
                errors = _add(errors, failure, index, item)
                continue
            if most is not None and len(read) > most:
                raise too_long("Tuple", most, len(items))
        return _finished_tuple(read, errors, least, value)

    return check


def _fixed(node: Fixed, checks: list[Check]) -> Check:
    least, most, count = node.least, node.most, len(checks)

    def check(value: Any, trace: Trace | None) -> Any:
        items = _as_list(value, tuple, "tuple", trace)
        errors: list[ErrorDetail] | None = None
        read: list[Any] = []
        for index, item_check in enumerate(checks):
            if index >= len(items):
                errors = _missing(errors, index, value)
                continue
            try:
                read.append(item_check(items[index], trace))
            except _FAILURES as failure:
                errors = _add(errors, failure, index, items[index])
                continue
            if most is not None and len(read) > most:
                raise too_long("Tuple", most, len(items))
        if len(items) > count:
            raise too_long("Tuple", count, len(items))
        return _finished_tuple(read, errors, least, value)

    return check


def _finished_tuple(read: list[Any], errors: list[ErrorDetail] | None, least: int | None, value: Any) -> tuple[Any, ...]:
    if least is not None and len(read) < least:
        errors = [*(errors or []), *_errors_of(too_short("Tuple", least, len(read)), value)]
    if errors is not None:
        raise _Refused(errors)
    return tuple(read)


def _sequence(node: Collection, compiler: _Compiler) -> Check:
    if isinstance(node.item, Anything):
        return _check_sequence
    item_check = _list(Collection(list, node.item), compiler)

    def check(value: Any, trace: Trace | None) -> Any:
        if type(value) is list:
            return item_check(value, trace)
        _check_sequence(value, trace)
        type_: Any = type(value)
        if isinstance(value, (str, bytes)):
            message = f"'{type_.__name__}' instances are not allowed as a Sequence value"
            raise Invalid("sequence_str", message, {"type_name": type_.__name__})
        read = item_check(list(value) if type_ is tuple else value, trace)
        if isinstance(value, range):
            return read
        return type_(*read) if hasattr(type_, "_fields") else type_(read)

    return check


def _check_sequence(value: Any, trace: Trace | None) -> Any:
    # Of anything, pydantic takes a string for a sequence too.
    if not isinstance(value, Sequence):
        raise Invalid("is_instance_of", "Input should be an instance of Sequence", {"class": "Sequence"})
    return value


def _table(node: Table, key_check: Check, value_check: Check) -> Check:
    least, most = node.least, node.most
    # Keys of JSON objects are strings.
    plain_keys = isinstance(node.key, Anything) or (
        isinstance(node.key, Scalar) and node.key.cls is str and not node.key.bounds
    )
    any_key = isinstance(node.key, Anything)

    def check(value: Any, trace: Trace | None) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise Invalid("dict_type", "Input should be a valid dictionary")
        errors: list[ErrorDetail] | None = None
        read: dict[Any, Any] = {}
        for key, item in value.items():
            good = True
            own = key
            if not (plain_keys and ((any_key and trace is None) or type(key) is str)):
                try:
                    own = key_check(key, trace)
                except _FAILURES as failure:
                    inner = _Refused(_collect(None, failure, "[key]", key))
                    errors = _add(errors, inner, _loc(key), key)
                    good = False
            try:
                one = value_check(item, trace)
            except _FAILURES as failure:
                errors = _add(errors, failure, _loc(key), item)
                continue
            if good:
                read[own] = one
                if most is not None and len(read) > most:
                    raise too_long("Dictionary", most, None)
        if errors is not None:
            raise _Refused(errors)
        if least is not None and len(read) < least:
            raise too_short("Dictionary", least, len(read))
        return read

    return check


def _dataclass(node: Record, compiler: _Compiler) -> Check:
    class_ = node.cls
    names = _record_names(node)
    names["MESSAGE"] = f"Input should be a dictionary or an instance of {node.name}"
    names["NAME"] = node.name
    fields = [field for field in node.fields if field.init]
    lines = [
        "def check(value, trace):",
        " if type(value) is not dict:",
        "  if isinstance(value, class_):",
        "   return value",
        "  if not isinstance(value, dict):",
        "   raise Invalid('dataclass_type', MESSAGE, {'class_name': NAME})",
        f" is_strange = len(value) != {len(fields)}",
        *_field_lines(fields, compiler, names),
        " if is_strange:",
        "  errors = strange_keys(value, errors)",
        " if errors is not None:",
        "  raise Refused(errors)",
        " if trace is not None:",
        f"  trace.add_fields(given(value, names) + {len(node.fields) - len(fields)})",
        f"  trace.floor({STRICT})",
        *_construction_lines(node, fields, names),
    ]
    names["class_"] = class_
    return _made(lines, names, node.name)


def _construction_lines(node: Record, fields: list[Field], names: dict[str, Any]) -> list[str]:
    """The source that makes an instance."""
    class_ = node.cls
    own_init = "__dataclass_params__" in vars(class_) and class_.__dataclass_params__.init and "__init__" in vars(class_)
    has_post_init = hasattr(class_, "__post_init__")
    lines = []
    if own_init and not class_.__dataclass_params__.frozen:
        values = [f"{field.name}=value{index}" if field.kw_only else f"value{index}" for index, field in enumerate(fields)]
        made = f"class_({', '.join(values)})"
        if not has_post_init:
            return [f" return {made}"]
        lines = [" try:", f"  return {made}"]
    else:
        # An instance whose class has another `__init__`, or whose `__init__` is slow because it is frozen.
        names["new"], names["set_attribute"] = object.__new__, object.__setattr__
        lines.append(" made = new(class_)")
        parts = [(field.name, f"value{index}") for index, field in enumerate(fields)]
        for index, field in enumerate(field for field in node.fields if not field.init):
            names[f"absent{index}"] = field.factory if field.factory is not None else field.default
            parts.append((field.name, f"absent{index}{'()' if field.factory is not None else ''}"))
        if hasattr(class_, "__slots__"):
            lines += [f" set_attribute(made, {name!r}, {value})" for name, value in parts]
        else:
            lines.append(f" set_attribute(made, '__dict__', {{{', '.join(f'{name!r}: {value}' for name, value in parts)}}})")
        if not has_post_init:
            return [*lines, " return made"]
        lines += [" try:", "  made.__post_init__()", "  return made"]
    names["refusal_of"] = _refusal_of
    return [*lines, " except (ValueError, AssertionError) as error:", "  raise refusal_of(error) from None"]


def _typed_dict(node: Record, compiler: _Compiler) -> Check:
    names = _record_names(node)
    names["Mapping"] = Mapping
    lines = [
        "def check(value, trace):",
        " if type(value) is not dict and not isinstance(value, Mapping):",
        "  raise Invalid('dict_type', 'Input should be a valid dictionary')",
        *_field_lines(node.fields, compiler, names),
        " if errors is not None:",
        "  raise Refused(errors)",
        " if trace is not None:",
        "  trace.add_fields(given(value, names))",
        f" read = {{{', '.join(f'{field.name!r}: value{index}' for index, field in enumerate(node.fields))}}}",
    ]
    if any(not field.required for field in node.fields):
        # In the order of the fields.
        lines[-1] = " read = {}"
        for index, field in enumerate(node.fields):
            if not field.required:
                lines.append(f" if value{index} is not ABSENT:")
            lines.append(f"{'' if field.required else ' '} read[{field.name!r}] = value{index}")
    lines.append(" return read")
    return _made(lines, names, node.name)


def _record_names(node: Record) -> dict[str, Any]:
    return {
        "ABSENT": ABSENT,
        "FAILURES": _FAILURES,
        "Invalid": Invalid,
        "Refused": _Refused,
        "add": _add,
        "given": _given,
        "missing": _missing,
        "names": frozenset(field.alias for field in node.fields if field.init),
        "strange_keys": _strange_keys,
    }


def _field_lines(fields: list[Field], compiler: _Compiler, names: dict[str, Any]) -> list[str]:
    """The source that reads each field of a mapping into a variable."""
    lines = [" errors = None"]
    if fields:
        lines.append(" get = value.get")
    for index, field in enumerate(fields):
        value, key = f"value{index}", f"{field.alias!r}"
        names[f"check{index}"] = compiler.check(field.node)
        test = compiler.test(field.node, value, names)
        lines.append(f" {value} = get({key}, ABSENT)")
        indent = " "
        if test is not None:
            lines.append(f" if not ({test}):")
            indent = "  "
        lines.append(f"{indent}if {value} is ABSENT:")
        # If a field is not there, another key may be in its place.
        lines.append(f"{indent} is_strange = True")
        if field.required:
            lines.append(f"{indent} errors = missing(errors, {key}, value)")
        elif field.factory is not None:
            names[f"default{index}"] = field.factory
            lines.append(f"{indent} {value} = default{index}()")
        elif field.default is not ABSENT:
            names[f"default{index}"] = field.default
            lines.append(f"{indent} {value} = default{index}")
        if isinstance(field.node, Anything):
            lines += [f"{indent}elif trace is not None:", f"{indent} trace.floor({STRICT})"]
        else:
            lines += [
                f"{indent}else:",
                f"{indent} try:",
                f"{indent}  {value} = check{index}({value}, trace)",
                f"{indent} except FAILURES as failure:",
                f"{indent}  errors = add(errors, failure, {key}, {value})",
            ]
    return lines


def _named_tuple(node: Record, compiler: _Compiler) -> Check:
    class_, fields, checks = node.cls, node.fields, [compiler.check(field.node) for field in node.fields]
    names = frozenset(field.alias for field in fields)
    message = f"Input should be a tuple, list, dictionary or an instance of {node.name}"

    def read_items(items: list[Any], value: Any, trace: Trace | None, named: bool) -> list[Any]:
        errors: list[ErrorDetail] | None = None
        read = []
        for index, (field, item_check) in enumerate(zip(fields, checks, strict=True)):
            key = field.name if named else index
            if index < len(items):
                try:
                    read.append(item_check(items[index], trace))
                except _FAILURES as failure:
                    errors = _add(errors, failure, key, items[index])
            elif field.required:
                errors = _missing(errors, key, value)
            else:
                read.append(field.default)
        if len(items) > len(fields):
            raise too_long("NamedTuple", len(fields), len(items))
        if errors is not None:
            raise _Refused(errors)
        return read

    def read_mapping(value: Mapping[Any, Any], trace: Trace | None) -> list[Any]:
        errors: list[ErrorDetail] | None = None
        read = []
        for field, item_check in zip(fields, checks, strict=True):
            item = value.get(field.alias, ABSENT)
            if item is not ABSENT:
                try:
                    read.append(item_check(item, trace))
                except _FAILURES as failure:
                    errors = _add(errors, failure, field.alias, item)
            elif field.required:
                errors = _missing(errors, field.alias, value)
            else:
                read.append(field.default)
        for key, item in value.items():
            if not isinstance(key, str):
                errors = _add(errors, Invalid("invalid_key", "Keys should be strings"), _loc(key), key)
            elif key not in names:
                errors = _add(errors, Invalid("extra_forbidden", "Extra inputs are not permitted"), key, item)
        if errors is not None:
            raise _Refused(errors)
        return read

    def check(value: Any, trace: Trace | None) -> Any:
        if isinstance(value, class_):
            return class_(*read_items(list(value), value, trace, True))
        if isinstance(value, Mapping):
            read = read_mapping(value, trace)
        else:
            try:
                items = _as_list(value, tuple, "tuple", trace)
            except Invalid:
                raise Invalid("named_tuple_type", message, {"class_name": node.name}) from None
            read = read_items(items, value, trace, False)
        if trace is not None:
            trace.floor(STRICT)
        return class_(*read)

    return check


def _refusal_of(error: Exception) -> Invalid:
    """What an exception of `__post_init__` says to the client."""
    if isinstance(error, AssertionError):
        return Invalid("assertion_error", f"Assertion failed, {error}", {"error": error})
    return Invalid("value_error", f"Value error, {error}", {"error": error})


def _strange_keys(value: Mapping[Any, Any], errors: list[ErrorDetail] | None) -> list[ErrorDetail] | None:
    for key in value:
        if not isinstance(key, str):
            errors = _add(errors, Invalid("invalid_key", "Keys should be strings"), _loc(key), key)
    return errors


def _given(value: Mapping[Any, Any], names: frozenset[str]) -> int:
    return sum(name in value for name in names)


def _as_list(value: Any, type_: Any, words: str, trace: Trace | None, name: str = "") -> Any:
    """The items of whatever has items, but is no text and no mapping. The name of the error is that of the type."""
    if isinstance(value, type_):
        return list(value) if isinstance(value, (set, frozenset)) else value
    if trace is not None:
        trace.floor(LAX)
    if isinstance(value, (list, tuple)):
        return value if type_ is not list else list(value)
    if not isinstance(value, (str, bytes, bytearray, Mapping)) and isinstance(value, Iterable):
        return list(value)
    raise Invalid(f"{_TYPE_ERRORS[type_]}_type", f"Input should be a valid {words}")


def _loc(key: Any) -> Any:
    """A key of a mapping in the place of an error."""
    if isinstance(key, str):
        # Half of a surrogate pair has no UTF-8, and pydantic keeps places as UTF-8.
        return key if key.isascii() else key.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(key, int) and -(1 << 63) <= key < 1 << 63:
        return int(key)
    return repr(key)


def _is_list(node: Node) -> bool:
    match node:
        case Collection() | Fixed():
            return True
        case Nullable() | Checked() | Alias():
            return _is_list(node.item)
        case Union_():
            return any(_is_list(member) for member in node.members)
    return False


def _of_attributes(node: Node, value: Any, depth: int) -> Any:
    """The value with mappings in the place of objects, where records are expected."""
    if depth == 0:
        return value
    match node:
        case Nullable() | Checked() | Alias():
            return _of_attributes(node.item, value, depth - 1) if value is not None else None
        case Record() if node.kind != "named-tuple" and not (node.kind == "dataclass" and isinstance(value, node.cls)):
            if isinstance(value, Mapping):
                nodes = {field.alias: field.node for field in node.fields}
                return {
                    name: _of_attributes(nodes[name], item, depth - 1) if name in nodes else item
                    for name, item in value.items()
                }
            if type(value).__module__ in ("builtins", "datetime", "collections"):
                return value
            return {
                field.alias: _of_attributes(field.node, getattr(value, field.name), depth - 1)
                for field in node.fields
                if field.init and hasattr(value, field.name)
            }
        case Collection() if isinstance(value, (list, tuple, set, frozenset)):
            return [_of_attributes(node.item, item, depth - 1) for item in value]
        case Fixed() if isinstance(value, (list, tuple)) and len(value) == len(node.items):
            return [_of_attributes(item, one, depth - 1) for item, one in zip(node.items, value, strict=True)]
        case Union_():
            # Whatever member it is: each has the attributes that it knows.
            records = [member for member in node.members if isinstance(member, Record)]
            return _of_attributes(records[0], value, depth - 1) if len(records) == 1 else value
        case Table() if isinstance(value, Mapping):
            return {key: _of_attributes(node.value, item, depth - 1) for key, item in value.items()}
    return value


def _made(lines: list[str], names: dict[str, Any], name: str) -> Check:
    """The function of generated source. Only names of fields, as literals, and numbers are in the source."""
    exec(compile("\n".join(lines), f"<model {name}>", "exec"), names)
    check: Check = names["check"]
    return check


_FAILURES = (Invalid, _Refused)
#: What ends a validation; a RecursionError is not caught on the way.
_ENDS = (Invalid, _Refused, RecursionError)
_TYPE_ERRORS: dict[Any, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozen_set"}
_COLLECTIONS: dict[Any, Callable[[Collection, _Compiler], Check]] = {
    list: _list,
    set: _set,
    frozenset: _set,
    tuple: _tuple,
    Sequence: _sequence,
}
_RECORDS: dict[str, Callable[[Record, _Compiler], Check]] = {
    "dataclass": _dataclass,
    "typed-dict": _typed_dict,
    "named-tuple": _named_tuple,
}
_DEPTH_MAX = 100
