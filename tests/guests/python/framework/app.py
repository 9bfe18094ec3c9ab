"""A route for each feature of the framework; the tests ask the same of it natively and under the host."""

import asyncio
import contextvars
import enum
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path as FilePath
from typing import Annotated, Any, NotRequired, TypedDict

import covet.host
from covet import BackgroundTasks, BaseMiddleware, CovetPy, Depends, EventSourceResponse, FileResponse, HTMLResponse, HTTPException, JSONResponse, PlainTextResponse, RedirectResponse, Request, Response, Router, Security, SecurityScopes, ServerSentEvent, StreamingResponse, UploadFile, XMLResponse
from covet.authentication import APIKeyBackend, BasicBackend, BearerBackend, SimpleUser, requires
from covet.middleware import AuthenticationMiddleware, CORSMiddleware, GZipMiddleware, RateLimitMiddleware, RequestIDMiddleware, SecurityHeadersMiddleware, SessionMiddleware, TimingMiddleware, TrustedHostMiddleware
from covet.patterns import BatchProcessor, ConnectionPool
from covet.security import HTTPBearer, OAuth2PasswordBearer, OAuth2PasswordRequestForm
from covet.staticfiles import StaticFiles
from covet.types import PathParams, QueryParams
from covet.validation import Body, Cookie, File, Form, Header, Path, Query

LOG: list[str] = []
CURRENT: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="nobody")


@asynccontextmanager
async def lifespan(app: CovetPy) -> AsyncIterator[dict[str, Any]]:
    app.greeting = "hello"
    yield {"started": True}


app = CovetPy(title="Features", version="1.2.3", lifespan=lifespan, openapi_tags=[{"name": "items"}])


@app.on_event("startup")
async def on_startup() -> None:
    app.state.tokens = {"secret": "ada"}


# --- Parameters


class Color(str, enum.Enum):
    RED = "red"
    BLUE = "blue"


@app.get("/path/{number:int}/{ratio:float}/{key:uuid}/{rest:path}")
def paths(number: int, ratio: float, key: uuid.UUID, rest: str, all_of_them: PathParams) -> Any:
    return {"number": number, "ratio": ratio, "key": key, "rest": rest, "names": sorted(all_of_them)}


@app.get("/query")
def query(
    text: Annotated[str, Query(min_length=2, max_length=5, pattern="^[a-z]+$", alias="t", description="Some text")],
    count: Annotated[int, Query(ge=1, lt=10, example=3)] = 5,
    color: Color | None = None,
    day: date | None = None,
    at: datetime | None = None,
    ids: list[int] = Query([]),
    everything: QueryParams = None,
) -> Any:
    return [text, count, color, day, at, ids, everything.multi_items()]


@app.get("/required")
def required(needed: int = Query(...)) -> int:
    return needed


@app.get("/headers")
def headers(user_agent: str = Header(), x_list: list[int] = Header([]), session: str | None = Cookie(None)) -> Any:
    return {"agent": user_agent, "list": x_list, "session": session}


@app.route("/methods", methods=["PUT", "PATCH", "DELETE"])
def methods(request: Request) -> Any:
    return request.method


# --- Bodies


class Address(TypedDict):
    street: str
    number: NotRequired[int]


@dataclass
class Item:
    name: str
    price: float
    tags: list[str] = field(default_factory=list)
    color: Color = Color.RED
    address: Address | None = None
    parent: "Item | None" = None


@dataclass
class Shown:
    name: str
    price: float


@app.post("/items", status_code=201, tags=["items"])
def create_item(item: Item) -> Item:
    return item


@app.post("/items/shown", response_model=Shown)
def show_item(item: Item) -> Any:
    return item


@app.post("/items/wrong", response_model=Shown)
def wrong_result() -> Any:
    return {"name": "x"}


@app.put("/items/{item_id}")
def put_item(item_id: Annotated[int, Path(ge=1)], item: Item, note: Annotated[str, Body(max_length=5)] = "none") -> Any:
    return {"id": item_id, "item": item, "note": note}


@app.post("/numbers")
def numbers(values: list[int] | dict[str, int]) -> Any:
    return values


@app.post("/form")
def form(name: str = Form(min_length=2), age: int = Form(0), tags: list[str] = Form([])) -> Any:
    return {"name": name, "age": age, "tags": tags}


@app.post("/upload")
async def upload(file: UploadFile, note: str = Form(""), more: list[UploadFile] = File([])) -> Any:
    content = await file.read()
    return {"name": file.filename, "type": file.content_type, "size": len(content), "note": note, "more": len(more)}


@app.post("/upload/stream")
async def upload_stream(request: Request) -> Any:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return {"size": size}


@app.post("/read")
async def read(request: Request) -> Any:
    body = await request.body()
    return {"body": body.decode(), "json": (await request.json()) if request.is_json else None, "type": request.content_type}


# --- Dependencies


def database() -> Iterator[str]:
    LOG.append("open")
    try:
        yield "db"
    finally:
        LOG.append("close")


async def current_user(token: Annotated[str, Header(alias="x-token")], db: Annotated[str, Depends(database)]) -> str:
    name = app.state.tokens.get(token)
    if name is None:
        raise HTTPException(401, "Who are you?")
    CURRENT.set(name)
    return name


class Page:
    def __init__(self, limit: int = Query(10, le=100), offset: int = 0) -> None:
        self.limit, self.offset = limit, offset


@app.get("/dependencies")
async def dependencies(
    user: Annotated[str, Depends(current_user)],
    db: Annotated[str, Depends(database)],
    page: Annotated[Page, Depends()],
) -> Any:
    await asyncio.sleep(0)
    return {"user": user, "db": db, "limit": page.limit, "current": CURRENT.get(), "opened": LOG.count("open")}


@app.get("/log")
def log() -> Any:
    return LOG


oauth2 = OAuth2PasswordBearer(tokenUrl="token", scopes={"read": "Read", "write": "Write"})


@app.post("/token")
def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Any:
    return {"access_token": form.username, "scopes": form.scopes}


def scoped(scopes: SecurityScopes, token: Annotated[str, Depends(oauth2)]) -> Any:
    return {"token": token, "scopes": scopes.scopes}


@app.get("/scoped")
def read_scoped(found: Annotated[Any, Security(scoped, scopes=["read"])]) -> Any:
    return found


@app.get("/bearer")
def bearer(credentials: Annotated[Any, Depends(HTTPBearer())]) -> Any:
    return credentials.credentials


# --- Requests and responses


@app.get("/request/{name}")
def about(request: Request, name: str) -> Any:
    request.state.seen = True
    return {
        "url": str(request.url.path),
        "for": request.url_for("about", name="a b").path,
        "accepts": request.accepts("text/html", "application/json"),
        "language": request.accepts_language("de", "en"),
        "client": bool(request.client.host),
        "state": request.state.seen,
        "app": request.app is app,
    }


@app.get("/responses/{kind}")
def responses(kind: str) -> Any:
    made: dict[str, Any] = {
        "json": lambda: JSONResponse({"a": 1}, 202),
        "text": lambda: PlainTextResponse("text"),
        "html": lambda: HTMLResponse("<p>"),
        "xml": lambda: XMLResponse("<a/>"),
        "redirect": lambda: RedirectResponse("/responses/json", 303),
        "tuple": lambda: ({"a": 1}, 418, {"x-tea": "pot"}),
        "none": lambda: (None, 204),
        "bytes": lambda: b"\xff\x00",
        "str": lambda: "plain",
    }
    return made[kind]()


@app.get("/cookies")
def cookies(response: Response) -> Any:
    response.set_cookie("a", "b", max_age=60, httponly=True, samesite="strict")
    response.headers["x-extra"] = "1"
    response.status_code = 203
    return {}


@app.get("/stream")
async def stream() -> Any:
    async def pieces() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/generator")
def generator() -> Any:
    yield "a"
    yield "b"


@app.get("/events")
async def events() -> Any:
    async def make() -> AsyncIterator[Any]:
        yield {"number": 1}
        await asyncio.sleep(0.01)
        yield ServerSentEvent("two\nlines", event="done", id="2", retry=500)

    return EventSourceResponse(make())


@app.get("/file")
def file() -> Any:
    return FileResponse("static/prices.csv", filename="prices.csv")


@app.get("/read-file")
def read_file() -> Any:
    return (FilePath(__file__).parent / "static" / "prices.csv").read_text()


app.mount("/static", StaticFiles(directory="static"))


@app.get("/background")
def background(tasks: BackgroundTasks) -> Any:
    async def later() -> None:
        await asyncio.sleep(0.01)
        LOG.append("async task")

    def busy() -> None:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
        LOG.append("busy task")

    tasks.add_task(busy)
    tasks.add_task(later)
    return {"at": time.monotonic()}


# --- Errors


class ShopError(Exception):
    pass


class OutOfStock(ShopError):
    pass


class Broken(Exception):
    pass


@app.exception_handler(ShopError)
def on_shop_error(request: Request, error: ShopError) -> Any:
    return {"shop": type(error).__name__}, 409


@app.exception_handler(Broken)
def on_broken(request: Request, error: Broken) -> Any:
    raise RuntimeError("the handler fails too")


@app.exception_handler(404)
async def on_not_found(request: Request, error: HTTPException) -> Any:
    return JSONResponse({"missing": request.path}, 404)


@app.get("/errors/{kind}")
def errors(kind: str) -> Any:
    if kind == "http":
        raise HTTPException(403, {"reason": "no"}, headers={"x-reason": "no"})
    if kind == "stock":
        raise OutOfStock
    if kind == "broken":
        raise Broken
    if kind == "missing":
        raise HTTPException(404)
    raise ValueError("nobody expects this")


def on_key_error(request: Request, error: KeyError) -> Any:
    return {"route": str(error)}, 400


@app.get("/errors-of-route", exception_handlers={KeyError: on_key_error})
def errors_of_route() -> Any:
    return {}["nothing"]


# --- Routers and middleware


class Stamp(BaseMiddleware):
    def __init__(self, name: str = "stamp") -> None:
        super().__init__()
        self.name = name

    def process_request(self, request: Request) -> None:
        request.state.order = [*getattr(request.state, "order", []), self.name] if "order" in request.state else [self.name]

    async def process_response(self, request: Request, response: Response) -> None:
        response.headers.append("x-order", self.name)


async def by_function(request: Request, call_next: Any) -> Response:
    request.state.order.append("function")
    response = await call_next(request)
    response.headers.append("x-order", "function")
    return response


inner = Router(prefix="/inner", tags=["inner"])
shop = Router(prefix="/shop", tags=["shop"], middleware=[(Stamp, {"name": "router"})])


@shop.exception_handler(ShopError)
def on_shop_error_in_shop(request: Request, error: ShopError) -> Any:
    return {"router": type(error).__name__}, 410


@inner.get("/{number}", middleware=[by_function])
def inner_item(request: Request, number: int) -> Any:
    if number == 0:
        raise OutOfStock
    return {"number": number, "order": request.state.order}


shop.include_router(inner)
app.include_router(shop, prefix="/v1", dependencies=[Depends(database)])
app.add_middleware(Stamp, name="first")
app.add_middleware(RequestIDMiddleware)
app.add_middleware(TimingMiddleware)
app.add_middleware(SecurityHeadersMiddleware)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "testserver", "localhost"])
app.add_middleware(CORSMiddleware, allow_origins=["https://example.org"], allow_methods=["*"])
app.add_middleware(GZipMiddleware, minimum_size=1000)
app.add_middleware(SessionMiddleware, secret_key="a key that is long enough")


@app.middleware("http")
async def last(request: Request, call_next: Any) -> Response:
    response = await call_next(request)
    response.headers.append("x-order", "last")
    return response


@app.before_request
def before(request: Request) -> Any:
    return ("stopped", 503) if request.headers.get("x-stop") else None


@app.after_request
def after(request: Request, response: Response) -> None:
    response.headers["x-after"] = "1"


@app.get("/large")
def large() -> Any:
    return "x" * 5000


@app.get("/visits")
def visits(request: Request) -> Any:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return request.session["visits"]


private = Router(
    prefix="/private",
    middleware=[
        AuthenticationMiddleware(
            backend=[
                BearerBackend(lambda token: SimpleUser("bearer") if token == "t" else None),
                BasicBackend(lambda name, password: (name, password) == ("ada", "pw"), realm="shop"),
                APIKeyBackend(lambda key: SimpleUser("key") if key == "k" else None, header="x-api-key"),
            ]
        )
    ],
)


@private.get("/who")
def who(request: Request) -> Any:
    return {"user": request.user.display_name, "known": request.user.is_authenticated}


@private.get("/only")
@requires("authenticated", status_code=401)
def only(request: Request) -> Any:
    return "in"


app.include_router(private)


@app.get("/limited", middleware=[RateLimitMiddleware(limit=3, period=60)], isolation="shared")
def limited() -> Any:
    return "ok"


# --- State, asyncio and patterns


@app.get("/state")
def state() -> Any:
    return {"greeting": app.greeting, "started": app.state.started}


@app.get("/context/{name}")
async def context(name: str) -> Any:
    CURRENT.set(name)

    async def child() -> str:
        await asyncio.sleep(0.01)
        return CURRENT.get()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child()) for _ in range(3)]
    return [task.result() for task in tasks]


async def square_all(items: list[int]) -> list[Any]:
    await asyncio.sleep(0)
    return [[item * item, len(items)] if item >= 0 else ValueError("negative") for item in items]


batch = BatchProcessor(square_all, batch_size=4, timeout=0.2)


@app.get("/batch/{number}", isolation="shared")
async def batched(number: int) -> Any:
    try:
        return await batch.submit(number)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


class Connection:
    made = 0

    def __init__(self) -> None:
        Connection.made += 1
        self.number = Connection.made
        self.users = 0


async def connect() -> Connection:
    await asyncio.sleep(0)
    return Connection()


pool = ConnectionPool(connect, max_connections=2)


@app.get("/pool", isolation="shared")
async def pooled() -> Any:
    async with pool.acquire() as connection:
        connection.users += 1
        together = connection.users
        await asyncio.sleep(0.02)
        connection.users -= 1
        return {"connection": connection.number, "together": together}


@app.get("/metrics")
def metrics() -> Any:
    return app.metrics.as_dict()


@app.get("/config")
def config() -> Any:
    return covet.host.config("greeting")


@app.get("/random")
def random() -> Any:
    return [uuid.uuid4()]
