"""Models, parameters and dependencies."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Cookie, Depends, Header, HTTPException, Path, Query, Response, status
from pydantic import BaseModel, EmailStr, Field, HttpUrl

router = APIRouter(prefix="/items", tags=["items"])


class Size(str, Enum):
    small = "small"
    large = "large"


class Image(BaseModel):
    url: HttpUrl
    name: str


class Item(BaseModel):
    name: str = Field(min_length=1, examples=["Foo"])
    description: str | None = Field(default=None, max_length=300)
    price: Decimal = Field(gt=0)
    tax: float = 10.5
    size: Size = Size.small
    tags: set[str] = set()
    images: list[Image] | None = None
    owner: EmailStr | None = None


class ItemOut(BaseModel):
    id: int
    name: str
    price: Decimal
    tax: float
    tags: set[str] = set()


class Session:
    def __init__(self) -> None:
        opened.append("open")

    def close(self) -> None:
        opened.append("close")


#: What became of the sessions, in order.
opened: list[str] = []
database: dict[int, Item] = {1: Item(name="Foo", price=Decimal("50.2")), 2: Item(name="Bär", price=Decimal(62), tags={"a", "b"})}


async def get_session() -> AsyncIterator[Session]:
    session = Session()
    try:
        yield session
    finally:
        session.close()


def get_plain_session() -> Iterator[Session]:
    session = Session()
    try:
        yield session
    except ValueError:
        opened.append("rolled back")
        raise
    finally:
        session.close()


class Paging:
    def __init__(self, skip: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 10) -> None:
        self.skip = skip
        self.limit = limit


@router.get("/")
async def read_items(
    paging: Annotated[Paging, Depends()],
    session: Annotated[Session, Depends(get_session)],
    q: Annotated[list[str] | None, Query(min_length=2)] = None,
) -> dict[str, Any]:
    names = [item.name for item in database.values()][paging.skip : paging.skip + paging.limit]
    return {"items": names, "q": q, "limit": paging.limit, "sessions": opened[-1]}


@router.get("/sessions")
async def read_sessions() -> list[str]:
    return opened


@router.get("/failing-session")
def read_failing(session: Annotated[Session, Depends(get_plain_session)], fail: bool = True) -> str:
    if fail:
        raise ValueError("in a handler with a session")
    return "fine"


@router.get("/search")
def search(
    q: str,
    when: datetime | None = None,
    within: timedelta = timedelta(days=1),
    user_agent: Annotated[str | None, Header()] = None,
    x_token: Annotated[list[str] | None, Header()] = None,
    session_id: Annotated[str | None, Cookie()] = None,
) -> dict[str, Any]:
    return {"q": q, "when": when, "within": within, "agent": user_agent, "tokens": x_token, "session": session_id}


@router.get("/{item_id}", response_model=ItemOut)
async def read_item(item_id: Annotated[int, Path(title="The ID", ge=1)]) -> Any:
    if item_id not in database:
        raise HTTPException(status_code=404, detail="Item not found", headers={"X-Error": "There goes my error"})
    return {"id": item_id, **database[item_id].model_dump()}


@router.post("/", response_model=ItemOut, status_code=status.HTTP_201_CREATED, response_model_exclude_unset=True)
async def create_item(item: Item, response: Response) -> Any:
    database[len(database) + 1] = item
    response.headers["Location"] = f"/items/{len(database)}"
    response.set_cookie("last", item.name, httponly=True, samesite="lax")
    return {"id": len(database), **item.model_dump(exclude_unset=True), "tax": item.tax}


@router.put("/{item_id}")
def replace_item(item_id: int, item: Item, importance: Annotated[int, Body(gt=0)], user: Annotated[str, Body()]) -> dict[str, Any]:
    return {"item_id": item_id, "item": item, "importance": importance, "user": user}


@router.delete("/{item_id}", status_code=204)
async def delete_item(item_id: int) -> None:
    database.pop(item_id, None)


@router.get("/by-uuid/{key}")
def read_by_uuid(key: UUID, size: Size = Size.small) -> dict[str, Any]:
    return {"key": key, "version": key.version, "size": size}


@router.get("/files/{file_path:path}")
async def read_file(file_path: str) -> dict[str, str]:
    return {"file_path": file_path}


@router.get("/range/{first}-{last}")
async def read_range(first: int, last: int) -> dict[str, int]:
    return {"first": first, "last": last}
