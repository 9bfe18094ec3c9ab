"""What parts of the framework cost, one route for each."""

from dataclasses import dataclass
from typing import Annotated

from covet import CovetPy, Depends, Header, Request, Router

app = CovetPy(openapi_url=None)


@dataclass
class Item:
    name: str
    price: float
    tags: list[str]
    description: str | None = None
    tax: float | None = None


@app.get("/users/{user_id}")
def read_user(user_id: int):
    return {"user_id": user_id, "name": f"user {user_id}"}


@app.get("/async/{user_id}")
async def read_user_async(user_id: int):
    return {"user_id": user_id, "name": f"user {user_id}"}


@app.get("/request/{user_id}")
def read_request(request: Request):
    return {"user_id": request.path_params["user_id"], "agent": request.headers.get("user-agent")}


def current_user(accept: Annotated[str, Header()] = "*/*"):
    return {"accept": accept}


def database():
    yield "database"


@app.get("/dependency/{user_id}")
def read_with_dependency(user_id: int, user: Annotated[dict, Depends(current_user)]):
    return {"user_id": user_id, "user": user}


@app.get("/yield/{user_id}")
def read_with_exit(user_id: int, db: Annotated[str, Depends(database)]):
    return {"user_id": user_id, "db": db}


@app.post("/items")
def create_item(item: Item):
    return {"name": item.name, "total": item.price + (item.tax or 0)}


@app.post("/items/model")
def echo_item(item: Item) -> Item:
    return item


async def stamp(request, call_next):
    response = await call_next(request)
    response.headers["x-stamp"] = "1"
    return response


for count in (1, 3):
    router = Router(prefix=f"/middleware{count}", middleware=[stamp] * count)

    @router.get("/{user_id}")
    def read_behind(user_id: int):
        return {"user_id": user_id, "name": f"user {user_id}"}

    app.include_router(router)
