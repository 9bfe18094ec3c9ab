"""Bodies as pydantic models in covet."""

from pydantic import BaseModel

from covet import CovetPy

app = CovetPy(openapi_url=None)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str]
    description: str | None = None
    tax: float | None = None


@app.get("/users/{user_id}")
def read_user(user_id: int):
    return {"user_id": user_id, "name": f"user {user_id}"}


@app.post("/items")
def create_item(item: Item):
    return {"name": item.name, "total": item.price + (item.tax or 0)}


@app.post("/items/model")
def echo_item(item: Item) -> Item:
    return item
