"""An application with pydantic 2, whose core is a native extension: its state is to be put back like everything else."""

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from covet import CovetPy, HTTPException, Request, Response

app = CovetPy()
kept: list[object] = []


class Item(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=40)]
    price: Annotated[float, Field(gt=0)]
    tags: set[str] = set()
    parent: "Item | None" = None


@app.post("/items")
async def create(request: Request):
    try:
        item = Item.model_validate_json(await request.body())
    except ValidationError as error:
        return Response(error.json(include_url=False), status_code=422, media_type="application/json")
    return Response(item.model_dump_json(), media_type="application/json")


@app.get("/adapter/{length}")
def adapter(length: int):
    """Compiles a validator of its own in the request, and keeps it: memory of the extension that a reset takes back."""
    adapter = TypeAdapter(dict[str, Annotated[list[int], Field(max_length=length)]])
    made = create_model(f"Made{length}", **{f"field_{number}": (int, number) for number in range(length)})
    kept.extend([adapter, made])
    value = adapter.validate_json(json.dumps({"numbers": list(range(length))}))
    return {"kept": len(kept), "sum": sum(value["numbers"]), "fields": len(made().model_dump())}


@app.get("/fail")
def fail():
    """An exception of the extension that nobody handles."""
    Item.model_validate({"name": "", "price": -1})


@app.get("/change")
def change():
    """Rebuilds a model that every request uses."""
    Item.model_rebuild(force=True)
    Item.__pydantic_validator__ = TypeAdapter(int).validator
    if Item.model_validate(7) != 7:
        raise HTTPException(500, "the validator was not changed")
    return "changed"


@app.get("/state")
def state():
    schema = json.dumps(Item.model_json_schema(), sort_keys=True)
    return {"kept": len(kept), "schema": hashlib.sha256(schema.encode()).hexdigest(), "core": repr(Item.__pydantic_validator__)[:40]}
