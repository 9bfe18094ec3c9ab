"""The same for FastAPI, which runs both in the guest and natively."""

from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request
from pydantic import BaseModel

app = FastAPI(openapi_url=None)


class Item(BaseModel):
    name: str
    price: float
    tags: list[str]
    description: str | None = None
    tax: float | None = None


@app.get("/users/{user_id}")
async def read_user(user_id: int):
    return {"user_id": user_id, "name": f"user {user_id}"}


@app.get("/request/{user_id}")
async def read_request(request: Request):
    return {"user_id": request.path_params["user_id"], "agent": request.headers.get("user-agent")}


async def current_user(accept: Annotated[str, Header()] = "*/*"):
    return {"accept": accept}


async def database():
    yield "database"


@app.get("/dependency/{user_id}")
async def read_with_dependency(user_id: int, user: Annotated[dict, Depends(current_user)]):
    return {"user_id": user_id, "user": user}


@app.get("/yield/{user_id}")
async def read_with_exit(user_id: int, db: Annotated[str, Depends(database)]):
    return {"user_id": user_id, "db": db}


@app.post("/items")
async def create_item(item: Item):
    return {"name": item.name, "total": item.price + (item.tax or 0)}


@app.post("/items/model")
async def echo_item(item: Item) -> Item:
    return item
