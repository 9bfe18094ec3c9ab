"""JSON with orjson, which the framework uses because it is among the dependencies."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from covet import CovetPy, Request, _json

app = CovetPy()


@dataclass
class Item:
    name: str
    price: float


@app.get("/which")
def which() -> Any:
    return {"orjson": orjson.__version__, "used": _json.orjson is orjson}


@app.get("/values")
def values() -> Any:
    return [Item("a", 1.5), datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.50"), 2**70, {1: "€"}, {2, 2}, "\ud800"]


@app.post("/echo")
async def echo(request: Request) -> Any:
    return await request.json()


@app.post("/item")
def item(item: Item) -> Item:
    return item
