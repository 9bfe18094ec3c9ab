"""An application in the way of FastAPI's tutorial. Nothing in it knows where it runs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response

from context import request_name
from routers import background, concurrency, items, security, streams, uploads


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    app.state.phase = "started"
    yield {"greeting": "hello", "visits": []}
    app.state.phase = "stopped"
    print("the lifespan has ended")


app = FastAPI(title="Tutorial", version="1.2.3", description="Ein Beispiel – mit Umlauten: äöü", lifespan=lifespan)


class TimingMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        began = time.perf_counter()
        request_name.set(request.headers.get("x-name", "nobody"))
        response = await call_next(request)
        response.headers["x-process-time"] = str(time.perf_counter() - began)
        return response


app.add_middleware(GZipMiddleware, minimum_size=1000)
app.add_middleware(TimingMiddleware)
app.add_middleware(
    CORSMiddleware, allow_origins=["https://example.com"], allow_methods=["GET", "PUT"], allow_headers=["x-token"]
)


@app.middleware("http")
async def add_header(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["x-middleware"] = "function"
    return response


class UnicornException(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


@app.exception_handler(UnicornException)
async def unicorn_exception_handler(request: Request, error: UnicornException) -> JSONResponse:
    return JSONResponse(status_code=418, content={"message": f"Oops! {error.name} did something."})


@app.get("/")
async def root(request: Request) -> dict[str, Any]:
    """The phase of the lifespan, and its state."""
    request.state.visits.append(1)
    return {
        "phase": request.app.state.phase,
        "greeting": request.state.greeting,
        "visits": len(request.state.visits),
        "client": request.client.host if request.client else None,
        "url": str(request.url),
        "name": request_name.get(),
    }


@app.get("/unicorns/{name}")
def read_unicorn(name: str) -> dict[str, str]:
    if name == "yolo":
        raise UnicornException(name=name)
    return {"unicorn_name": name}


@app.get("/broken")
async def broken() -> None:
    raise ValueError("broken on purpose")


@app.get("/broken-plain")
def broken_plain() -> None:
    raise ValueError("broken on purpose, in a function")


@app.get("/page", response_class=HTMLResponse)
def page(request: Request, name: str = "World") -> Any:
    return templates.TemplateResponse(request, "page.html", {"name": name, "numbers": range(3)})


@app.get("/scope")
async def scope(request: Request) -> dict[str, Any]:
    """What the server says of the request."""
    names = ("type", "asgi", "http_version", "method", "scheme", "path", "root_path", "client", "server", "extensions")
    shown = {name: request.scope[name] for name in names}
    shown |= {name: request.scope[name].decode("latin-1") for name in ("raw_path", "query_string")}
    shown["headers"] = [(name.decode("latin-1"), value.decode("utf-8")) for name, value in request.scope["headers"]]
    return shown


@app.api_route("/methods", methods=["GET", "PUT", "DELETE", "PATCH", "QUERY"], include_in_schema=False)
def methods(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.method, headers={"x-method": request.method})


for module in (items, security, uploads, streams, background, concurrency):
    app.include_router(module.router)

admin = FastAPI(title="Admin", openapi_url=None)


@admin.get("/status")
async def status(request: Request) -> dict[str, str]:
    return {"root_path": request.scope["root_path"], "path": request.scope["path"]}


app.mount("/admin", admin)
app.mount("/static", StaticFiles(directory="static"), name="static")
templates = Jinja2Templates(directory="templates")
