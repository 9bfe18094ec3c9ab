"""Models: what the framework's own accept, refuse and write is what pydantic accepts, refuses and writes."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest

from covet._models import InvalidJSON, InvalidModel, model_of
from covet._native_models import NativeModel


@dataclass
class Leaf:
    value: int


@dataclass
class Item:
    name: str
    count: int
    price: float = 1.5
    tags: list[str] = field(default_factory=list)
    leaf: Leaf | None = None
    next: "Item | None" = None


def outcome(validate: Any, value: Any) -> Any:
    try:
        return validate(value)
    except InvalidModel as invalid:
        return invalid.errors
    except pydantic.ValidationError as error:
        return error.errors(include_url=False)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "a", "count": 1},
        {"name": "a", "count": "1", "price": "2", "tags": ["x"], "leaf": {"value": 2.0}, "next": {"name": "b", "count": True}},
        {"name": 1, "count": "x", "price": None, "tags": [1, "a", {}], "leaf": {"value": 1.5}, "next": {"count": 1}},
        {},
        [],
        None,
    ],
)
def test_a_dataclass_is_read_as_by_pydantic(value: Any) -> None:
    model = model_of(Item)
    assert isinstance(model, NativeModel)
    assert outcome(model.validate, value) == outcome(pydantic.TypeAdapter(Item).validate_python, value)


def test_a_dataclass_is_written_with_its_fields_only() -> None:
    model = model_of(Item)
    text = '{"name":"a","count":1,"price":1.5,"tags":[],"leaf":null,"next":null}'
    assert model.dump_json(Item("a", 1)) == text
    assert model.dump_json({"name": "a", "count": "1", "secret": 2}) == text
    more = dataclasses.make_dataclass("More", [("name", str), ("count", int), ("secret", int)])
    assert model.dump_json(more("a", 1, 2)) == text


def test_what_is_no_json_is_told_with_its_place() -> None:
    with pytest.raises(InvalidJSON) as caught:
        model_of(Item).validate_json('{"name":')
    assert (caught.value.position, caught.value.message) == (8, "Expecting value")
