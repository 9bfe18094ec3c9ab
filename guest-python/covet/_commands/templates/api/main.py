"""The API of PROJECT_NAME: users, items, search, signing in, uploads, streams, errors, and a part for administrators.

A handler runs in a sandbox. In the isolation `fresh`, which is the host's usual one, a request sees what startup left and
nothing of other requests: what is to last belongs into a database, and what is kept in a variable is only a demonstration.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Annotated, Any

from covet import (
    BackgroundTasks,
    CovetPy,
    Depends,
    EventSourceResponse,
    File,
    Form,
    Header,
    HTTPException,
    JSONResponse,
    Path,
    Query,
    Request,
    Response,
    Router,
    ServerSentEvent,
    StreamingResponse,
    UploadFile,
    host,
)
from covet.middleware import CORSMiddleware, GZipMiddleware, RequestIDMiddleware
from covet.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm

log = logging.getLogger("PROJECT_NAME")


@asynccontextmanager
async def lifespan(app: CovetPy) -> AsyncIterator[None]:
    """Runs once when the application is loaded; every request begins with what it leaves."""
    # `covet-host run --env SECRET_KEY=...`; natively the variable is COVET_CONFIG_SECRET_KEY. Without one, tokens are valid
    # until the host is restarted.
    app.state.key = (host.config("SECRET_KEY") or secrets.token_hex(32)).encode()
    app.state.items = {1: Item("Lamp", 40.0, ["home"]), 2: Item("Kettle", 25.5, ["home", "kitchen"]), 3: Item("Bicycle", 320.0)}
    yield


app = CovetPy(title="PROJECT_NAME", lifespan=lifespan)
app.add_middleware(RequestIDMiddleware)
app.add_middleware(CORSMiddleware, allow_origins=["http://localhost:3000"], allow_methods=["*"], allow_headers=["*"])
app.add_middleware(GZipMiddleware, minimum_size=1000)


@app.middleware("http")
async def measure(request: Request, call_next: Any) -> Response:
    began = time.perf_counter()
    response: Response = await call_next(request)
    response.headers["x-process-time"] = f"{time.perf_counter() - began:.6f}"
    return response


# --- Items


@dataclass
class Item:
    name: Annotated[str, Query(min_length=1, max_length=50)]
    price: Annotated[float, Query(gt=0)]
    tags: list[str] = field(default_factory=list)
    description: str | None = None


def items(request: Request) -> dict[int, Item]:
    found: dict[int, Item] = request.app.state.items
    return found


Items = Annotated[dict[int, Item], Depends(items)]
ItemId = Annotated[int, Path(ge=1)]


@app.get("/items", tags=["items"])
def list_items(items: Items, skip: int = Query(0, ge=0), limit: int = Query(10, ge=1, le=100)) -> list[dict[str, Any]]:
    return [{"id": number, **asdict(item)} for number, item in list(items.items())[skip : skip + limit]]


@app.post("/items", status_code=201, tags=["items"])
def create_item(item: Item, items: Items, tasks: BackgroundTasks) -> dict[str, Any]:
    number = max(items, default=0) + 1
    items[number] = item
    tasks.add_task(log.info, "item %s was created", number)
    return {"id": number, **asdict(item)}


@app.get("/items/{item_id}", tags=["items"])
def read_item(item_id: ItemId, items: Items) -> Item:
    if item_id not in items:
        raise UnknownItem(item_id)
    return items[item_id]


@app.put("/items/{item_id}", tags=["items"])
def replace_item(item_id: ItemId, item: Item, items: Items) -> Item:
    if item_id not in items:
        raise UnknownItem(item_id)
    items[item_id] = item
    return item


@app.delete("/items/{item_id}", status_code=204, tags=["items"])
def delete_item(item_id: ItemId, items: Items) -> None:
    if items.pop(item_id, None) is None:
        raise UnknownItem(item_id)


class Order(Enum):
    NAME = "name"
    PRICE = "price"


@app.get("/search", tags=["items"])
def search(
    items: Items,
    q: Annotated[str, Query(min_length=1, description="Part of a name")],
    tag: Annotated[list[str], Query(description="May be given several times")] = [],  # noqa: B006
    price_max: Annotated[float | None, Query(gt=0)] = None,
    order: Order = Order.NAME,
    user_agent: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    found = [item for item in items.values() if q.lower() in item.name.lower() and set(tag) <= set(item.tags)]
    if price_max is not None:
        found = [item for item in found if item.price <= price_max]
    found.sort(key=lambda item: item.name if order is Order.NAME else item.price)
    return {"q": q, "count": len(found), "items": found, "user_agent": user_agent}


# --- Users, and signing in


@dataclass
class User:
    id: int
    name: str
    email: str
    is_admin: bool = False


@dataclass
class StoredUser(User):
    salt: bytes = b""
    #: See `hash_password`.
    password: str = ""


#: Their passwords are wonderland and builder.
ALICE = "7df4f0a24a10df75455689cbce09a465bbc27d10338a3a1a95366484cdab3a24"
BOB = "b8e5e61cf9e21f587cf9077d3e449396f4203ea772b10f17ebc4ff46c4dbff0b"
USERS = {
    "alice": StoredUser(1, "alice", "alice@example.com", True, b"s1", ALICE),
    "bob": StoredUser(2, "bob", "bob@example.com", False, b"s2", BOB),
}
TOKEN_SECONDS = 3600
oauth2 = OAuth2PasswordBearer(tokenUrl="/token")


def current_user(request: Request, token: Annotated[str, Depends(oauth2)]) -> StoredUser:
    user = USERS.get(read_token(token, request.app.state.key) or "")
    if user is None:
        raise HTTPException(401, "The token is not valid", headers={"www-authenticate": "Bearer"})
    return user


CurrentUser = Annotated[StoredUser, Depends(current_user)]


@app.post("/token", tags=["users"])
def sign_in(request: Request, form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    user = USERS.get(form.username)
    # The same work for a name that does not exist, so that the time says nothing.
    given = hash_password(form.password, user.salt if user else b"")
    if user is None or not hmac.compare_digest(given, user.password):
        raise HTTPException(401, "Incorrect username or password", headers={"www-authenticate": "Bearer"})
    return {"access_token": make_token(user.name, request.app.state.key), "token_type": "bearer"}


@app.get("/users/me", tags=["users"], response_model=User)
def read_me(user: CurrentUser) -> StoredUser:
    return user


@app.get("/users/{user_id}", tags=["users"], response_model=User)
def read_user(user_id: int) -> StoredUser:
    for user in USERS.values():
        if user.id == user_id:
            return user
    raise HTTPException(404, "No such user")


def hash_password(password: str, salt: bytes) -> str:
    """PBKDF2 (RFC 8018) with SHA-256; hashlib has it only with OpenSSL, which a component does not have.

    A service that people entrust their passwords to should raise ROUNDS, or leave signing in to an identity provider.
    """
    start = hmac.new(password.encode(), digestmod=hashlib.sha256)

    def turn(data: bytes) -> bytes:
        mac = start.copy()
        mac.update(data)
        return mac.digest()

    block = turn(salt + (1).to_bytes(4, "big"))
    result = int.from_bytes(block, "big")
    for _ in range(ROUNDS - 1):
        block = turn(block)
        result ^= int.from_bytes(block, "big")
    return result.to_bytes(32, "big").hex()


ROUNDS = 5000


def make_token(name: str, key: bytes) -> str:
    claim = f"{name}.{int(time.time()) + TOKEN_SECONDS}"
    return f"{claim}.{sign(claim, key)}"


def read_token(token: str, key: bytes) -> str | None:
    """The name in a token, None if it is not ours or too old."""
    claim, _, signature = token.rpartition(".")
    name, _, end = claim.rpartition(".")
    # As octets, because compare_digest takes no text outside of ASCII.
    if not hmac.compare_digest(signature.encode(), sign(claim, key).encode()) or int(end) < time.time():
        return None
    return name


def sign(text: str, key: bytes) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")


# --- Uploads and streams


@app.post("/upload", tags=["files"])
async def upload(file: Annotated[UploadFile, File()], note: Annotated[str, Form(max_length=200)] = "") -> dict[str, Any]:
    content = await file.read()
    digest = hashlib.sha256(content).hexdigest()
    return {"name": file.filename, "type": file.content_type, "size": len(content), "sha256": digest, "note": note}


@app.post("/digest", tags=["files"])
async def digest(request: Request) -> dict[str, Any]:
    """Takes a body of any size, and never has more than a piece of it in memory."""
    size, sha256 = 0, hashlib.sha256()
    async for piece in request.stream():
        size += len(piece)
        sha256.update(piece)
    return {"size": size, "sha256": sha256.hexdigest()}


@app.get("/stream", tags=["files"])
def stream(lines: int = Query(5, ge=1, le=100_000)) -> StreamingResponse:
    def make() -> Iterator[str]:
        for number in range(1, lines + 1):
            yield f"line {number}\n"

    return StreamingResponse(make(), media_type="text/plain")


@app.get("/events", tags=["files"])
async def events(count: int = Query(3, ge=1, le=1000)) -> EventSourceResponse:
    async def make() -> AsyncIterator[ServerSentEvent]:
        for number in range(1, count + 1):
            yield ServerSentEvent({"number": number}, event="tick", id=str(number))
            await asyncio.sleep(0.05)

    return EventSourceResponse(make())


# --- Errors


class UnknownItem(Exception):
    def __init__(self, item_id: int) -> None:
        self.item_id = item_id


@app.exception_handler(UnknownItem)
def on_unknown_item(request: Request, error: UnknownItem) -> JSONResponse:
    return JSONResponse({"detail": "No such item", "item_id": error.item_id}, 404)


@app.get("/errors/{status}", tags=["errors"])
def raise_status(status: int = Path(ge=400, le=599)) -> None:
    raise HTTPException(status, headers={"x-error": "on purpose"})


@app.get("/crash", tags=["errors"])
def crash() -> None:
    """A 500 without details; the traceback is in the log, and with `covet dev` in the answer."""
    raise RuntimeError("on purpose")


# --- For administrators


def administrator(user: CurrentUser) -> StoredUser:
    if not user.is_admin:
        raise HTTPException(403, "Only for administrators")
    return user


admin = Router(prefix="/admin", tags=["admin"], dependencies=[Depends(administrator)])


@admin.get("/users", response_model=list[User])
def list_users() -> list[StoredUser]:
    return list(USERS.values())


@admin.get("/figures")
def figures() -> dict[str, Any]:
    """What the host counts of the whole application."""
    return app.metrics.as_dict()


app.include_router(admin)
