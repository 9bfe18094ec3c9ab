"""Models: what the framework's own accept, refuse and write is what pydantic accepts, refuses and writes."""

import dataclasses
import enum
import json
import math
import subprocess
import sys
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
)
from uuid import UUID

import annotated_types as at
import pydantic
import pydantic_core
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType, TypedDict

from covet import Query
from covet._models.model import ERRORS_MAX, InvalidJSON, InvalidModel, Model, dump_errors, json_schemas, model_of, read_json
from covet._models.native import NativeModel
from covet._models.nesting import NESTING_MAX, is_nested_too_deeply
from covet._models.pydantic import PydanticModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fastapi._compat.v2 import GenerateJsonSchema


class Color(enum.Enum):
    """What paint is."""

    red = "red"
    one = 1
    half = 1.5
    none = None
    pair = (1, 2)


class Name(str, enum.Enum):  # noqa: UP042
    ada = "ada"
    one = "1"


class Size(enum.IntEnum):
    small = 1
    large = 2


class Ratio(float, enum.Enum):
    half = 0.5
    two = 2.0


@dataclass
class Leaf:
    value: int
    text: str = "x"


@dataclass
class Other:
    """Something else.

    At length."""

    value: int
    more: int | None = None


@dataclass(frozen=True)
class Frozen:
    a: int
    b: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Slots:
    a: int = field(metadata={"alias": "A-a", "ge": 1, "description": "A number", "examples": [3]})
    b: Leaf | None = None


@dataclass
class Post:
    a: int
    b: int = field(init=False, default=7)
    c: str = field(default="q", kw_only=True)
    d: float = 1

    def __post_init__(self) -> None:
        if self.a == 3:
            raise ValueError("not three")
        assert self.a != 4, "four"


@dataclass(frozen=True)
class FrozenPost:
    a: int
    b: list[int] = field(init=False, default_factory=lambda: [5])

    def __post_init__(self) -> None:
        if self.a == 3:
            raise ValueError("not three")


class OwnInit(Leaf):
    """A class with another `__init__` than that of the dataclass."""

    def __init__(self) -> None:
        raise RuntimeError


@dataclass
class Tree:
    value: int
    children: "list[Tree]" = field(default_factory=list)
    left: "Tree | None" = None


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Part(TypedDict, total=False):
    a: Required[int]
    b: list[str]


T = TypeVar("T")


@dataclass
class Page(Generic[T]):
    items: list[T]
    first: T | None = None


UserId = NewType("UserId", int)
Nested = TypeAliasType("Nested", "list[Nested] | int")


@dataclass
class Item:
    name: str
    count: int
    price: float = 1.5
    tags: list[str] = field(default_factory=list)
    leaf: Leaf | None = None
    next: "Item | None" = None


SCALARS: list[Any] = [int, float, str, bool, bytes, None, Decimal, datetime, date, time, timedelta, UUID, Any, object]
OTHERS: list[Any] = [
    Color,
    Name,
    Size,
    Ratio,
    Literal["a", "b"],
    Literal[1, "1", True],
    Literal[None, 2],  # noqa: PYI061
    Literal[Color.red, "red"],
]
OTHERS += [Leaf, Other, Frozen, FrozenPost, Slots, Post, OwnInit, Tree, Point, Movie, Part, Page[int], UserId, Nested]
BOUNDED: list[Any] = [
    Annotated[int, at.Ge(1), at.Le(10)],
    Annotated[int, at.Gt(1), at.Lt(2**70)],
    Annotated[int, at.MultipleOf(3)],
    Annotated[float, at.Gt(0.5), at.Lt(100)],
    Annotated[float, at.MultipleOf(0.5), at.Ge(-1e20)],
    Annotated[str, at.Len(1, 3)],
    Annotated[bytes, at.Len(1, 3)],
    Annotated[Decimal, at.Ge(1), at.Lt(Decimal("10.5"))],
    Annotated[Decimal, at.MultipleOf(Decimal("0.5"))],
    Annotated[date, at.Ge(date(2020, 1, 1)), at.Lt(date(2021, 1, 1))],
    Annotated[datetime, at.Ge(datetime(2020, 1, 1))],
    Annotated[datetime, at.Gt(datetime(2020, 1, 1, tzinfo=UTC))],
    Annotated[time, at.Gt(time(1))],
    Annotated[timedelta, at.Gt(timedelta(hours=1)), at.Le(timedelta(days=3, hours=2, seconds=1, microseconds=5))],
    Annotated[timedelta, at.MultipleOf(timedelta(seconds=7))],
    Annotated[int | None, at.Ge(3)],
]


def extended(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types made of types."""
    hashable = st.sampled_from([int, str, float, bool, Color, Size, date, UUID, bytes, Literal["a", "b"], tuple[int, str]])
    hashable |= st.sampled_from([Annotated[str, at.MinLen(2)], Decimal])

    def sized(types_: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        lengths = st.tuples(st.integers(0, 2), st.integers(1, 4))
        return types_ | st.builds(lambda type_, by: Annotated[type_, at.Len(by[0], by[0] + by[1])], types_, lengths)

    return st.one_of(
        sized(inner.map(lambda item: list[item])),
        sized(hashable.map(lambda item: set[item])),
        sized((hashable | inner).map(lambda item: frozenset[item])),
        sized(inner.map(lambda item: tuple[item, ...])),
        sized(st.lists(inner, min_size=1, max_size=3).map(lambda items: tuple[tuple(items)])),
        inner.map(lambda item: Sequence[item]),
        sized(st.tuples(hashable, inner).map(lambda pair: dict[pair])),
        inner.map(lambda item: Mapping[str, item]),
        inner.map(lambda item: Optional[item]),  # noqa: UP045
        st.lists(inner, min_size=2, max_size=3).map(lambda items: Union[tuple(items)]),  # noqa: UP007
    )


TYPES = st.recursive(st.sampled_from([*SCALARS, *OTHERS, *BOUNDED]), extended, max_leaves=4)
TEXTS = [
    "",
    "1",
    "0",
    "true",
    "a",
    "b",
    "red",
    "ada",
    "x",
    "1.5",
    "1.0",
    " 7 ",
    "-3",
    "nan",
    "inf",
    "2020-01-01",
    "12:00",
    "yes",
]
TEXTS += ["2020-01-01T00:00:00", "2020-06-01T01:02:03Z", "01:00:01.5", "P1DT2H", "1 day, 02:00:00", "PT7S", "-PT1H", "0" * 32]
TEXTS += ["00000000-0000-0000-0000-000000000005", "\u00e9", "\ud800", "1e400", "1" * 4301, "1_000", "None", "abcd", "86400"]
NUMBERS = [2**63, -(2**63), 2**63 - 1, 10**20, 10**400, 86400, 86400000000000, -86400, 20000000001, 10**15]
FLOATS = [0.0, 1.0, 2.0, 1.5, 1e300, math.nan, math.inf, -math.inf, 1e19, 9.2e18, 86400.0, 86399.9999999, 1e-7]
ATOMS = st.none() | st.booleans() | st.integers(-5, 12) | st.sampled_from(NUMBERS) | st.floats(-5, 12) | st.sampled_from(FLOATS)
ATOMS |= st.sampled_from(TEXTS) | st.text(max_size=4)
KEYS = [
    "value",
    "text",
    "more",
    "a",
    "b",
    "A-a",
    "c",
    "d",
    "x",
    "y",
    "title",
    "year",
    "children",
    "left",
    "1",
    "red",
    "items",
    "zz",
]
VALUES = st.recursive(
    ATOMS, lambda item: st.lists(item, max_size=4) | st.dictionaries(st.sampled_from(KEYS), item, max_size=4), max_leaves=8
)
SAMPLES: dict[Any, list[Any]] = {
    int: [1, -3, 12, "1", "2.0", 3.0, True],
    float: [1.5, -2.0, 11.0, "1", "2.5", 3, True],
    str: TEXTS,
    bytes: TEXTS,
    bool: [True, False, 1, 0, "on", 1.0],
    None: [None],
    type(None): [None],
    Decimal: ["1.5", 1, 2.5, "10", "1e3", "x"],
    datetime: ["2020-01-01", "2020-06-01T01:02:03Z", "2020-01-01T00:00:00", 86400, 86400.5, "x", 1577836800, 1600000000000],
    date: ["2020-01-01", "2020-06-01T01:02:03Z", "2020-01-01T00:00:00", 86400, 86400.5, "x", 1577836800],
    time: ["12:00", "01:02:03.5Z", 3600, 3600.25, "x", 86400],
    timedelta: ["P1DT2H", "1 day, 02:00:00", 3601, 3601.25, "x", 7, "PT14S", "-1 days", "P3DT2H1.000005S", 10**14, -5.5],
    UUID: ["0" * 32, "00000000-0000-0000-0000-000000000005", "x"],
    UserId: [1, "2", "x"],
}


@st.composite
def fitting(draw: Any, type_: Any) -> Any:
    """JSON that is mostly a value of a type."""
    if draw(st.integers(0, 5)) == 0:
        return draw(VALUES)
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return draw(fitting(arguments[0]))
    if origin in (Union, types.UnionType):
        return draw(fitting(draw(st.sampled_from(arguments))))
    if origin in (list, set, frozenset, Sequence) or (origin is tuple and arguments[-1] is ...):
        return draw(st.lists(fitting(arguments[0]), max_size=4))
    if origin is tuple:
        return [draw(fitting(argument)) for argument in arguments] + draw(st.sampled_from([[]] * 5 + [[1]]))
    if origin in (dict, Mapping):
        keys = draw(
            st.lists(fitting(arguments[0]).filter(lambda key: isinstance(key, str)) | st.sampled_from("12x"), max_size=3)
        )
        return {key: draw(fitting(arguments[1])) for key in keys}
    if origin is Literal:
        return draw(st.sampled_from([one.value if isinstance(one, enum.Enum) else one for one in arguments]))
    if type_ in SAMPLES:
        return draw(st.sampled_from(SAMPLES[type_]))
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return draw(st.sampled_from([member.value for member in type_]))
    class_ = origin or type_
    if class_ in OTHERS or class_ is Page:
        return draw(record(class_, arguments))
    return draw(VALUES)


@st.composite
def record(draw: Any, class_: Any, arguments: tuple[Any, ...]) -> Any:
    if class_ is Nested:
        return draw(st.recursive(st.integers(), st.lists, max_leaves=5))
    found = {}
    for name, hint in typing.get_type_hints(class_).items():
        if name in ("children", "left") and draw(st.integers(0, 2)):
            continue
        if draw(st.integers(0, 7)):
            found["A-a" if class_ is Slots and name == "a" else name] = draw(fitting(int if arguments and T is hint else hint))
    if draw(st.integers(0, 9)) == 0:
        found["zz"] = 1
    return list(found.values()) if class_ is Point and draw(st.booleans()) else found


_ADAPTERS: dict[Any, tuple[NativeModel, "pydantic.TypeAdapter[Any]"] | None] = {}


def both(type_: Any) -> tuple[NativeModel, "pydantic.TypeAdapter[Any]"] | None:
    """The models of both; None where there is none, which must be so for both."""
    key = str(type_)
    if key not in _ADAPTERS:
        try:
            theirs = pydantic.TypeAdapter(type_)
        except Exception:
            _ADAPTERS[key] = None
        else:
            _ADAPTERS[key] = NativeModel(type_, {}), theirs
    return _ADAPTERS[key]


def outcome(validate: Any, value: Any) -> Any:
    """A value in a tuple, or a list of errors."""
    try:
        return (validate(value),)
    except InvalidModel as invalid:
        return invalid.errors
    except pydantic.ValidationError as error:
        return error.errors(include_url=False)


def equal(ours: Any, theirs: Any) -> bool:
    """Equal, and of the same types inside."""
    if type(ours) is not type(theirs):
        # An exception of `__post_init__`.
        return isinstance(ours, Exception) and repr(ours) == repr(theirs)
    if dataclasses.is_dataclass(ours):
        return all(equal(getattr(ours, one.name), getattr(theirs, one.name)) for one in dataclasses.fields(ours))
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (datetime, time)):
        return ours == theirs and ours.utcoffset() == theirs.utcoffset()
    if isinstance(ours, float):
        return repr(ours) == repr(theirs)
    return bool(ours == theirs) or repr(ours) == repr(theirs)


def equal_error(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    # A validator of pydantic that is a function has its address in its label. And one that a recursive alias has made is
    # "..." in the label of another, or not, depending on which of them pydantic has made first in this process.
    place = [
        mine if "function-" in str(other) or "..." in str(other) else other
        for mine, other in zip(ours["loc"], theirs["loc"], strict=False)
    ]
    context = [{key: str(value) for key, value in error.get("ctx", {}).items()} for error in (ours, theirs)]
    types_ = [{key: type(value) for key, value in error.get("ctx", {}).items()} for error in (ours, theirs)]
    return (
        list(ours) == list(theirs)
        and (ours["type"], ours["msg"]) == (theirs["type"], theirs["msg"])
        and (len(ours["loc"]) == len(theirs["loc"]) and list(ours["loc"]) == place)
        and equal(ours["input"], theirs["input"])
        and context[0] == context[1]
        and types_[0] == types_[1]
    )


def same(type_: Any, value: Any) -> None:
    models = both(type_)
    if models is None:
        return
    ours = outcome(models[0].validate, value)
    try:
        theirs = outcome(models[1].validate_python, value)
    except OverflowError:
        # Of the smallest timedelta, pydantic makes a server error.
        theirs = None
        assert isinstance(ours, list)
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        assert equal(ours[0], theirs[0]), (type_, value, ours, theirs)
    elif theirs is not None:
        assert isinstance(ours, list), (type_, value, ours, theirs)
        assert isinstance(theirs, list), (type_, value, ours, theirs)
        assert len(ours) == len(theirs[:ERRORS_MAX]), (type_, value, ours, theirs)
        for mine, other in zip(ours, theirs, strict=False):
            assert equal_error(mine, other), (type_, value, mine, other)


def slowly(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


# --- The same values and the same errors as pydantic


@slowly(800)
@given(st.sampled_from([*SCALARS, *OTHERS, *BOUNDED]), VALUES)
@example(Literal[1, "1", True], 2**63)
@example(datetime, 10**400)
@example(UUID, "\u0830")
@example(Annotated[float, at.MultipleOf(0.5)], math.inf)
@example(Post, {"a": 3})
@example(Post, {"a": 4, "b": 1})
def test_any_value_is_read_as_by_pydantic(type_: Any, value: Any) -> None:
    same(type_, value)


@slowly(600)
@given(st.data())
def test_types_made_of_types_are_read_as_by_pydantic(data: Any) -> None:
    type_ = data.draw(TYPES)
    for _ in range(3):
        same(type_, data.draw(fitting(type_)))


OBJECTS = [Leaf(1), Frozen(1, [2]), Point(1, 2.5), Point("x", None), Color.red, Name.ada, Size.small]  # type: ignore[arg-type]
OBJECTS += [
    Ratio.half,
    Decimal("1.5"),
    Decimal("nan"),
    Decimal(3),
    Decimal("1e30"),
    datetime(2020, 1, 1),
    datetime(2020, 1, 1, 1),
]
OBJECTS += [
    date(2020, 1, 1),
    time(1),
    timedelta(1),
    UUID(int=5),
    b"a",
    b"\xff",
    bytearray(b"1"),
    b"2020-01-01",
    {1, 2},
    (1, "a"),
]
OBJECTS += [frozenset("a"), range(2), {1: 2}, {None: 1}, {(1, 2): 3}, types.MappingProxyType({"value": 1}), object, b"0" * 16]
OBJECTS += [types.SimpleNamespace(value=1), [1, (2, [3])], "text"]


@pytest.mark.parametrize("value", OBJECTS)
def test_objects_are_read_as_by_pydantic(value: Any) -> None:
    collections: list[Any] = [
        list[int],
        set[Any],
        tuple[Any, ...],
        tuple[int, str],
        Sequence[int],
        dict[Any, Any],
        dict[int, int],
    ]
    unions: list[Any] = [
        int | str,
        float | int,
        date | datetime,
        Leaf | Other,
        Leaf | None,
        Size | int,
        str | Color,
        list | set,
    ]
    for type_ in [*SCALARS, *OTHERS, *BOUNDED, *collections, *unions]:
        # pydantic takes any member of an enumeration for an integer.
        if not (value is Color.red and ("int" in str(type_) or type_ in (Size, UserId, Nested))):
            same(type_, value)


DURATIONS = st.text("0123456789PTYMWDHSdays:,.+- ", max_size=12) | st.timedeltas().map(str)
DURATIONS |= st.from_regex(
    r"[+-]?P(\d{1,3}([.,]\d{0,3})?Y)?(\d{1,3}([.,]\d{1,9})?M)?(\d{1,3}W)?(\d{1,10}(\.\d+)?D)?"
    r"(T(\d{1,6}H)?(\d{1,3}([.,]\d+)?M)?(\d{1,3}(\.\d{1,9})?S)?)?",
    fullmatch=True,
)
DURATIONS |= st.from_regex(
    r"[+-]?(\d{1,10} ?(d|D|days?|DAYS?|dayz),? ?)?(\d{0,11}:[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?)?", fullmatch=True
)


@slowly(400)
@given(DURATIONS)
@example("-999999999 days, 0:00:00.000001")
@example("P" + "1" * 5000 + "D")
@example("P1." + "1" * 400 + "D")
def test_durations_are_read_as_by_pydantic(text: str) -> None:
    same(timedelta, text)


@slowly(300)
@given(st.floats() | st.floats(-1e11, 1e13) | st.integers(-(10**15), 10**15) | st.floats(-100000, 100000) | st.integers())
def test_numbers_are_moments_as_with_pydantic(value: float) -> None:
    for type_ in (timedelta, datetime, date, time):
        same(type_, value)


UUIDS = st.from_regex(
    r"(\{|urn:uuid:)?[0-9a-f]{7,9}-?[0-9a-f]{4}-[0-9a-fA-F]{3,5}-[0-9a-f]{4}-[0-9a-f]{11,13}\}?", fullmatch=True
)


@slowly(300)
@given(UUIDS | st.text("0123456789abcdef-{}\u00e9\u0830urn:id", max_size=48))
@example("0" * 36)
@example("{" + "0" * 34 + "}")
def test_what_looks_like_a_uuid_is_read_as_by_pydantic(text: str) -> None:
    same(UUID, text)


PATTERNS = [r"^a+$", r"a$", r"[$]", r"\$", r"[]$]x$", r"(?m)^a$", r"^\d{2}"]


@pytest.mark.parametrize("pattern", PATTERNS[:4] + PATTERNS[5:])
def test_patterns_are_those_of_pydantic(pattern: str) -> None:
    ours = NativeModel(str, {"pattern": pattern, "max_length": 3})
    theirs = pydantic.TypeAdapter(Annotated[str, pydantic.Field(pattern=pattern, max_length=3)])
    for value in ["a", "aa", "a\n", "\na", "$", "b", "", "12", "12\n", "\u0663\u0663", "aaaa", 1, "\ud800"]:
        assert outcome(ours.validate, value) == outcome(theirs.validate_python, value)


def test_digits_of_decimals_are_counted_as_by_pydantic() -> None:
    for digits, places in [(4, 2), (4, None), (None, 2), (3, 3), (2, 0)]:
        constraints = {"max_digits": digits, "decimal_places": places}
        ours = NativeModel(Decimal, constraints)
        theirs = pydantic.TypeAdapter(Annotated[Decimal, pydantic.Field(max_digits=digits, decimal_places=places)])
        for text in [
            "1",
            "12.34",
            "123.4",
            "1234",
            "12345",
            "1.234",
            "0.001",
            "1.2000",
            "1e3",
            "1e5",
            "0e-9",
            "0.0",
            "-12.34",
            "nan",
        ]:
            assert outcome(ours.validate, text) == outcome(theirs.validate_python, text), (digits, places, text)


def test_bounds_of_what_has_none_of_its_own_are_checked_afterwards() -> None:
    for type_, value in [(int | float, 1), (int | float, 5), (Color, "red"), (bool, False)]:
        ours, theirs = NativeModel(type_, {"ge": 3}), pydantic.TypeAdapter(Annotated[type_, at.Ge(3)])
        if type_ is not Color:
            assert outcome(ours.validate, value) == outcome(theirs.validate_python, value)
    ours, theirs = NativeModel(Sequence[int], {"min_length": 2}), pydantic.TypeAdapter(Annotated[Sequence[int], at.MinLen(2)])
    for value in ([1], [1, 2], (1, 2), "ab"):
        assert outcome(ours.validate, value) == outcome(theirs.validate_python, value)


def test_of_a_list_everything_but_lengths_is_said_of_its_items() -> None:
    model = model_of(list[int], constraints={"ge": 1, "max_length": 2, "title": None})
    assert model.validate(["1"]) == [1]
    assert [error["loc"] for error in outcome(model.validate, [0, 1])] == [(0,)]
    assert outcome(model.validate, [1, 2, 3])[0]["type"] == "too_long"


def test_parameters_in_annotations_of_fields_have_a_say() -> None:
    @dataclass
    class Search:
        text: Annotated[str, Query(max_length=3, alias="q", description="What")]
        limit: int = Query(10, ge=1)
        page: int = Query(ge=1)
        many: list[int] = Query(default_factory=list)

    model = model_of(Search)
    assert model.validate({"q": "abc", "page": "2"}) == Search("abc", 10, 2, [])
    assert [error["loc"] for error in outcome(model.validate, {"q": "abcd", "limit": 0})] == [("q",), ("limit",), ("page",)]
    schema = model.json_schema("validation")[1]["Search"]
    assert schema["properties"]["q"] == {"type": "string", "maxLength": 3, "description": "What", "title": "Q"}
    assert schema["required"] == ["q", "page"]


# --- Limits


def test_no_more_errors_than_a_hundred_are_told() -> None:
    errors = outcome(model_of(list[int]).validate, ["x"] * 1000)
    assert [error["loc"] for error in errors] == [(index,) for index in range(ERRORS_MAX)]
    errors = outcome(model_of(list[list[int]]).validate, [["x"] * 7] * 1000)
    assert len(errors) == ERRORS_MAX
    assert errors[-1]["loc"] == (14, 1)
    assert len(outcome(PydanticModel(list[int], {}).validate, ["x"] * 1000)) == ERRORS_MAX
    # The length is told all the same, and a member of a union is not given up.
    assert outcome(model_of(list[int], constraints={"max_length": 500}).validate, ["x"] * 1000)[0]["type"] == "too_long"
    assert model_of(list[int] | list[str]).validate(["x"] * 1000) == ["x"] * 1000


@dataclass
class Left:
    a: int
    inside: "list[Left | Right]" = field(default_factory=list)


@dataclass
class Right:
    b: int
    inside: "list[Left | Right]" = field(default_factory=list)


def test_unions_inside_of_unions_take_no_longer_with_each_level_than_one_level() -> None:
    model = model_of(Left | Right)
    value: dict[str, Any] = {"a": 1, "b": 1}
    for _ in range(60):
        value = {"a": "1", "b": 2, "inside": [value]}
    read = model.validate(value)
    # Whose number need not be converted.
    assert type(read) is Right
    assert type(read.inside[0]) is Right
    value = {"a": 1, "b": 1, "inside": 5}
    for _ in range(60):
        value = {"a": "1", "b": 2, "inside": [value]}
    assert len(outcome(model.validate, value)) == ERRORS_MAX


@pytest.mark.parametrize("depth", [300, 900, 5000, 100_000])
def test_deep_nesting_is_refused_and_nothing_else(depth: int) -> None:
    messages = set()
    for model in (
        model_of(Tree),
        model_of(Left | Right),
        model_of(list),
        model_of(Nested),
        PydanticModel(Tree, {}),
        PydanticModel(list, {}),
    ):
        for text in (
            '{"value":1,"children":[' * depth + "]}" * depth,
            "[" * depth + "]" * depth,
            '{"a":' * depth + "1" + "}" * depth,
        ):
            try:
                model.validate_json(text)
            except InvalidModel as refused:
                dump_errors(refused.errors)
            except InvalidJSON as refused:
                messages.add(refused.message)
    assert messages == ({"nested too deeply"} if depth > 500 else set())


def test_nesting_is_counted_outside_of_strings_only() -> None:
    assert not is_nested_too_deeply("[" * NESTING_MAX + "]" * NESTING_MAX)
    assert is_nested_too_deeply("[" * (NESTING_MAX + 1))
    assert is_nested_too_deeply(b'{"a":[' * NESTING_MAX)
    assert is_nested_too_deeply(("[" * 2 * NESTING_MAX).encode("utf-16"))
    assert is_nested_too_deeply('["\\"]' + '",[' * 2 * NESTING_MAX)
    assert is_nested_too_deeply(json.dumps(["]" * NESTING_MAX] * 3) + ",[" * 2 * NESTING_MAX)
    assert not is_nested_too_deeply(json.dumps(["[" * NESTING_MAX, '"', "\\", {"a": "{" * NESTING_MAX}]))
    assert not is_nested_too_deeply(json.dumps([{"a": [], "b": [{}]}] * NESTING_MAX))
    assert not is_nested_too_deeply('"' + '\\"[' * 2 * NESTING_MAX)


@settings(deadline=None)
@given(
    st.recursive(
        st.text('[]{}"\\a\u00e9', max_size=5) | st.integers(),
        lambda item: st.lists(item) | st.dictionaries(st.text('[{"\\'), item),
    )
)
def test_nesting_is_never_taken_for_less_than_it_is(value: Any) -> None:
    def depth_of(value: Any) -> int:
        inside = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inside is None else 1 + max(map(depth_of, inside), default=0)

    with pytest.MonkeyPatch.context() as patch:
        depth = depth_of(value)
        for ascii_ in (True, False):
            text = json.dumps(value, ensure_ascii=ascii_)
            patch.setattr("covet._models.nesting.NESTING_MAX", depth - 1)
            assert depth < 1 or is_nested_too_deeply(text)
            # What is wide is looked at less exactly.
            patch.setattr("covet._models.nesting.NESTING_MAX", depth + 6)
            assert not is_nested_too_deeply(text)


@pytest.mark.parametrize(
    "data", ['{"a"', "", "[1,]", "nul", '"\\ud8"', b"\xff", "1" * 5000, "[1] 2", b'\xef\xbb\xbf{"a":}', "'a'", '{"a":1,}']
)
def test_what_is_no_json_is_told_as_by_the_json_module(data: str | bytes) -> None:
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        json.loads(data)
    with pytest.raises(InvalidJSON) as caught:
        read_json(data)
    if isinstance(expected.value, json.JSONDecodeError):
        assert (caught.value.position, caught.value.message) == (expected.value.pos, expected.value.msg)
    with pytest.raises(InvalidJSON):
        PydanticModel(int, {}).validate_json(data)


@pytest.mark.parametrize(
    "data",
    [" [1, 2.5]\n", b"[1]", '"\\ud800"', "NaN", "1e999", '{"a":1,"a":2}', "[1]".encode("utf-16"), "12345678901234567890123"],
)
def test_what_is_json_is_read_as_by_the_json_module(data: str | bytes) -> None:
    for model in (NativeModel(Any, {}), PydanticModel(Any, {})):
        assert repr(model.validate_json(data)) == repr(json.loads(data))


def test_errors_are_written_whatever_is_in_them() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    errors = [
        {"type": "a", "loc": ("body", 1), "msg": "\ud800", "input": math.nan, "ctx": {"error": ValueError("x")}},
        {"type": "b", "loc": (), "msg": "", "input": object},
        {"type": "c", "loc": (), "msg": "", "input": {(1, 2): deep, "d": {1, 2}, "e": b"\xff", "f": Leaf(1), "g": [math.inf]}},
    ]
    written = json.loads(dump_errors(errors))
    assert written[0] == {"type": "a", "loc": ["body", 1], "msg": "?", "input": None, "ctx": {"error": {}}}
    assert written[1]["input"].startswith("<class")
    assert written[2]["input"]["g"] == [None]
    assert written[2]["input"]["f"] == {"value": 1, "text": "x"}
    large = [{"type": "a", "loc": (), "msg": "", "input": "x" * 400_000}] * 100
    assert len(dump_errors(large)) < 2_000_000
    while isinstance(deep, list):
        # Freed level by level, as an interpreter that was made for debugging needs it.
        deep = deep[0]


# --- How values are written


OPTIONS = st.fixed_dictionaries(
    {"by_alias": st.booleans()},
    optional={
        "exclude_none": st.booleans(),
        "exclude_defaults": st.booleans(),
        "exclude_unset": st.booleans(),
        "include": st.sampled_from(
            [{"a", "value"}, {"a": True, "children": {0}}, {0}, {"__all__": {"a"}}, {"value": ..., "x": {"a"}}]
        ),
        "exclude": st.sampled_from(
            [{"a"}, {"b": {"value"}}, {-1}, {0: {"a"}}, {"__all__": {"value"}}, {"left": {"left": True}}, {"A-a"}]
        ),
    },
)


@slowly(400)
@given(st.data())
def test_values_are_written_as_by_pydantic(data: Any) -> None:
    type_ = data.draw(TYPES.filter(lambda type_: "set[" not in str(type_)))
    models = both(type_)
    if models is None:
        return
    ours, theirs = models
    options = data.draw(OPTIONS)
    try:
        value = theirs.validate_python(data.draw(fitting(type_)))
        expected = theirs.dump_json(value, **options)
    except (pydantic.ValidationError, ValueError, OverflowError):
        return
    if "\\ud" in repr(value):
        # Half a surrogate pair is replaced by pydantic in some places, and refused in others; here it is escaped.
        return
    assert json.loads(ours.dump_json(value, **options)) == json.loads(expected), (type_, value, options)


MISPLACED: list[Any] = [*OBJECTS[:20], [1.0, math.nan], {"a": {1}}, {1: 2, None: 3, 1.5: 4, date(2020, 1, 1): 5, Color.red: 6}]
MISPLACED += [
    datetime(2020, 1, 1, tzinfo=UTC),
    time(1, tzinfo=UTC),
    timedelta(days=400, seconds=3661, microseconds=5),
    -timedelta(1),
]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("value", MISPLACED)
def test_what_a_handler_puts_where_it_does_not_belong_is_written_by_what_it_is(value: Any) -> None:
    @dataclass
    class Anywhere:
        any: Any
        text: str
        number: float
        when: datetime
        leaf: Leaf
        several: int | Leaf | None
        items: list[date]
        table: dict[str, Decimal]
        color: Color
        point: Point

    made = Anywhere(*[value] * 10)
    try:
        expected = json.loads(pydantic.TypeAdapter(Anywhere).dump_json(made))
    except pydantic_core.PydanticSerializationError:
        # Octets that are not text.
        return
    written = json.loads(model_of(Anywhere).dump_json(made))
    # What JSON has no type for is written in a form of its own there.
    assert {**written, "text": None} == {**expected, "text": None}


def test_fields_that_a_model_does_not_have_are_dropped() -> None:
    text = '{"name":"a","count":1,"price":1.5,"tags":[],"leaf":null,"next":null}'
    model = model_of(Item)
    more = dataclasses.make_dataclass("More", [("name", str), ("count", int), ("secret", int)])

    @dataclass
    class Secret(Item):
        secret: int = 1

    for value in (Item("a", 1), {"name": "a", "count": "1", "secret": 2}, more("a", 1, 2), Secret("a", 1)):
        assert model.dump_json(value) == text
    row = types.SimpleNamespace(name="a", count=1, leaf=types.SimpleNamespace(value=3, secret=4), next=more("b", 2, 3))
    assert json.loads(model_of(list[Item]).dump_json([row]))[0]["leaf"] == {"value": 3, "text": "x"}
    assert model_of(Item | None).validate_result(row).next == Item("b", 2)
    assert model_of(dict[str, Movie]).dump_json({"a": {"title": "b", "secret": 1}}) == '{"a":{"title":"b"}}'


@pytest.mark.parametrize("value", [{"name": "a"}, 5, types.SimpleNamespace(name="a", count="x"), None, [Item("a", 1)]])
def test_results_that_do_not_fit_are_refused(value: Any) -> None:
    with pytest.raises(InvalidModel):
        model_of(Item).dump_json(value)


def test_fields_may_be_left_out_of_responses_altogether() -> None:
    @dataclass
    class User:
        name: str
        password: str = field(metadata={"exclude": True})
        other: int = field(default=1, metadata={"serialization_alias": "Other"})

    model = model_of(User)
    assert model.validate({"name": "a", "password": "b"}) == User("a", "b")
    assert model.dump_json(User("a", "b")) == '{"name":"a","Other":1}'
    assert model.serialize(User("a", "b"), by_alias=False) == {"name": "a", "other": 1}
    for mode, names in (("validation", {"name", "password", "other"}), ("serialization", {"name", "Other"})):
        assert model.json_schema(mode)[1]["User"]["properties"].keys() == names  # type: ignore[arg-type]


# --- JSON schema


@slowly(250)
@given(TYPES.filter(lambda type_: "Nested" not in str(type_)), st.sampled_from(["validation", "serialization"]))
@example(dict[Annotated[str, at.MinLen(2)], int], "validation")
@example(Annotated[Sequence[int], at.Len(1, 2)], "validation")
@example(Page[int] | Page[str], "validation")
def test_schemas_are_those_of_pydantic(type_: Any, mode: Any) -> None:
    models = both(type_)
    if models is None:
        return
    ours, theirs = models
    generator = GenerateJsonSchema(ref_template="#/here/{model}")
    try:
        found, definitions = generator.generate_definitions([(0, mode, theirs.core_schema)])
    except pydantic.errors.PydanticInvalidForJsonSchema:
        return
    expected = (found[0, mode], dict(definitions))
    assert json.loads(json.dumps(ours.json_schema(mode, "#/here/{model}"))) == json.loads(json.dumps(expected))


def test_a_recursive_alias_is_a_definition() -> None:
    schema, definitions = model_of(Nested).json_schema("validation")
    assert schema == {"$ref": "#/components/schemas/Nested"}
    reference = {"$ref": "#/components/schemas/Nested"}
    assert definitions == {"Nested": {"anyOf": [{"type": "array", "items": reference}, {"type": "integer"}]}}


def test_definitions_of_one_document_have_names_of_their_own() -> None:
    @dataclass
    class Movie:
        price: Decimal

    @dataclass
    class Holder:
        movie: Movie

    class Model(pydantic.BaseModel):
        movie: Leaf

    first, second = model_of(Holder), model_of(list[__import__("sys").modules[__name__].Movie])
    models: list[tuple[Any, Any]] = [(first, "validation"), (first, "serialization"), (second, "validation")]
    schemas, definitions = json_schemas([*models, (model_of(Model), "validation"), (model_of(Leaf), "validation")])
    assert schemas[0] == {"$ref": "#/components/schemas/Holder-Input"}
    assert schemas[1] == {"$ref": "#/components/schemas/Holder-Output"}
    names = {name for name in definitions if "Movie" in name}
    assert len(names) == 3
    assert schemas[2]["items"]["$ref"].rpartition("/")[2] in names
    assert definitions["Holder-Input"]["properties"]["movie"]["$ref"].rpartition("/")[2] in names
    # The same dataclass, whether pydantic describes it or not.
    assert [name for name in definitions if "Leaf" in name] == ["Leaf"]
    assert schemas[4] == {"$ref": "#/components/schemas/Leaf"}


# --- Strings


def test_integers_are_read_from_strings_for_enumerations_and_literals() -> None:
    @dataclass
    class Parameters:
        kind: Literal[1, 2, "x"]
        color: Color
        size: Size = Size.small
        tags: list[int] = field(default_factory=list)
        limit: int | None = None
        table: dict[str, int] = field(default_factory=dict)

    model = model_of(Parameters)
    assert model.string_fields() == [
        ("kind", False, True),
        ("color", False, True),
        ("size", False, False),
        ("tags", True, False),
        ("limit", False, False),
        ("table", False, False),
    ]
    given_ = {"kind": "2", "color": "1", "size": "2", "tags": ["1", "2"], "limit": "3"}
    assert model.validate_strings(given_) == Parameters(2, Color.one, Size.large, [1, 2], 3)
    assert [error["loc"] for error in outcome(model.validate, given_)] == [("kind",), ("color",)]
    assert outcome(model.validate_strings, {"kind": "3", "color": "2"})[0]["msg"] == "Input should be 1, 2 or 'x'"
    assert model_of(int).string_fields() is None
    assert not model.takes_other_fields


# --- Which of the two it is


class Validated(pydantic.BaseModel):
    model_config = {"extra": "forbid"}

    a: int = pydantic.Field(alias="A")
    b: str = pydantic.Field(default="", validation_alias=pydantic.AliasChoices("b", pydantic.AliasPath("bb", 0)))
    c: list[str] = []
    when: UUID | str = "x"

    @pydantic.field_validator("a")
    @classmethod
    def small(cls, value: int) -> int:
        if value > 5:
            raise ValueError("too large")
        return value


@dataclass
class WithModel:
    model: Validated


@dataclass
class WithField:
    a: int = pydantic.Field(ge=1)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Item, NativeModel),
        (list[Item | None], NativeModel),
        (Annotated[int, "words", at.Ge(1)], NativeModel),
        (Validated, PydanticModel),
        (list[Validated], PydanticModel),
        (WithModel, PydanticModel),
        (WithField, PydanticModel),
        (pydantic.HttpUrl, PydanticModel),
        (Annotated[int, pydantic.AfterValidator(abs)], PydanticModel),
        (pydantic.dataclasses.dataclass(Leaf), PydanticModel),
    ],
    ids=str,
)
def test_pydantic_is_asked_where_it_is_needed(annotation: Any, kind: type[Model]) -> None:
    assert type(model_of(annotation)) is kind


class Unknown:
    pass


@pytest.mark.parametrize("annotation", [Unknown, list[Unknown], "Leaf", dict[int, Unknown]], ids=str)
def test_what_cannot_be_validated_is_named(annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"Unknown|Leaf"):
        model_of(annotation)
    with pytest.raises(TypeError, match=r"Unknown|Leaf"):
        NativeModel(annotation, {})


@pytest.mark.parametrize(
    ("annotation", "constraints", "words"),
    [
        (int, {"ge": 1.5}, "ge=1.5 is no bound"),
        (int, {"multiple_of": 0}, "more than 0"),
        (int, {"least": 1}, "no constraint 'least'"),
        (Leaf, {"pattern": "a"}, "pattern has no meaning for Leaf"),
        (date, {"ge": "x"}, "no bound for date"),
        (int, {"strict": True}, "only known to pydantic"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(annotation: Any, constraints: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        NativeModel(annotation, constraints)


def test_models_of_pydantic_say_what_they_say_to_fastapi() -> None:
    model = model_of(Validated)
    assert model.validate_json('{"A": "1", "bb": ["x", "y"]}') == Validated(A=1, b="x")
    # As a Python object a string is a string, as JSON it would be a UUID.
    assert model.validate_json(f'{{"A": 1, "when": "{"0" * 32}"}}').when == "0" * 32
    assert model.string_fields() == [
        ("A", False, True),
        *[(name, name != "b", False) for name in ("b", "bb", "c")],
        ("when", False, False),
    ]
    assert model.takes_other_fields
    for text in ('{"A": 6, "d": 1}', "[]", '{"A": "x", "when": 5}', "null"):
        with pytest.raises(pydantic.ValidationError) as expected:
            pydantic.TypeAdapter(Validated).validate_python(json.loads(text), from_attributes=True)
        errors = outcome(model.validate_json, text)
        assert json.loads(dump_errors(errors)) == json.loads(dump_errors(expected.value.errors(include_url=False)))
    assert model.dump_json(types.SimpleNamespace(A=1, b="z", c=[], when="y")) == '{"A":1,"b":"z","c":[],"when":"y"}'
    assert model.serialize(Validated(A=1), include={"a"}, by_alias=False) == {"a": 1}
    assert model_of(list[Validated], constraints={"min_length": 1}).json_schema("validation")[0]["minItems"] == 1
    assert outcome(model_of(list[Validated], constraints={"min_length": 1}).validate, [])[0]["type"] == "too_short"


def test_text_that_has_no_utf_8_is_written_all_the_same() -> None:
    class Text(pydantic.BaseModel):
        text: str

    for annotation in (Text, Movie):
        model = model_of(annotation)
        read = model.validate_json('{"text": "\\ud800", "title": "\\ud800"}')
        assert "\ud800" in model.dump_json(read)


WITHOUT_PYDANTIC = """
import sys
from dataclasses import dataclass
from covet import CovetPy
from covet._models.model import InvalidModel, model_of

@dataclass
class Leaf:
    value: int

app = CovetPy()

@app.post("/")
def handler(leaf: Leaf) -> Leaf:
    return leaf

model = model_of(list[Leaf])
try:
    model.validate_json('[{"value": "x"}]')
except InvalidModel as invalid:
    print(invalid.errors)
model.json_schema("validation")
assert not any(name.partition(".")[0].startswith("pydantic") for name in sys.modules), "pydantic was imported"
assert "annotated_types" not in sys.modules
"""


def test_an_application_without_pydantic_does_not_import_it() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYDANTIC], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(outcome(pydantic.TypeAdapter(list[Leaf]).validate_python, [{"value": "x"}]))
