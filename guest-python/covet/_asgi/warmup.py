"""Warms up what serves an ASGI application, in the build and when the host asks for it. Nothing of the application runs.

In `fresh` every request begins with the memory of the start, so what a framework makes at the first request it would make
at each: routes of included routers, where the code of a handler stands, compiled templates. That is made here. And an
application of the framework's own, which answers some requests of each kind, lets the interpreter see the code that serves
them, which otherwise it would get to know anew in every request.

All of this only saves time. It reaches into FastAPI, whose next version may differ; what fails is left out.
"""

import logging
import sys
from asyncio import events
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

from covet._guest import bridge

from .application import ASGIApplication

__all__ = ["answer", "prepare", "run"]


def prepare(app: Any) -> None:
    """Has an application make what it would make at its first request."""
    for step in (_match_routes, _look_at_handlers, _compile_templates):
        try:
            step(app)
        except Exception as error:
            _logger.debug("%s: %r", step.__name__, error)


def run() -> None:
    """Serves requests with applications of the frameworks' own, in the build."""
    from covet._guest import loop

    logger = logging.getLogger()
    level, logger.level = logger.level, logging.CRITICAL
    try:
        with _without_runtime():
            for app in _apps():
                app._finish()
                for record in _examples() * ROUNDS + [_usual()] * ROUNDS_AT_THE_END:
                    code = loop.start(0, 0, app.run(record))
                    while code == _YIELD:
                        code = loop._callback(0, 0, 0)
    finally:
        logger.level = level


def answer() -> Callable[["bridge.RequestRecord"], Any]:
    """Makes what answers the requests that the host sends to warm an instance up: with 204 and nothing else."""
    from . import exchange

    calls = [app._call for app in _apps()]
    last = ASGIApplication(_no_content)
    last._finish()

    async def run(record: "bridge.RequestRecord") -> Any:
        for call in calls:
            for example in [*_examples(), *[_usual()] * ROUNDS_AT_THE_END]:
                body = exchange._octets(example.body)
                try:
                    await call(exchange.scope_of(example, {}), partial(_receive, body), _drop)
                except Exception as error:
                    _logger.debug("warm-up: %r", error)
        return await last.run(record)

    return run


# --- What is made at the first request


def _match_routes(app: Any) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": [], "query_string": b"", "app": app}
    for route in getattr(app, "routes", ()):
        route.matches(dict(scope))
    for route in getattr(app, "routes", ()):
        _match_routes_below(route)


def _match_routes_below(route: Any) -> None:
    inner = getattr(route, "app", None)
    if inner is not None and getattr(inner, "routes", None):
        prepare(inner)


def _look_at_handlers(app: Any) -> None:
    routing, models = sys.modules.get("fastapi.routing"), sys.modules.get("fastapi.dependencies.models")
    if routing is None or models is None:
        return
    for context in routing.iter_route_contexts(app.routes):
        first: Any = getattr(context, "dependant", None)
        if first is not None:
            # It reads the source of the handler, for error messages that nobody may ever see.
            routing._extract_endpoint_context(first.call)
        dependants = [] if first is None else [first]
        while dependants:
            dependant = dependants.pop()
            dependants += dependant.dependencies
            for kind in ("_is_gen_callable", "_is_async_gen_callable", "_is_coroutine_callable"):
                getattr(models, kind)(dependant.call)


def _compile_templates(app: Any) -> None:
    del app
    environment_module = sys.modules.get("jinja2.environment")
    if environment_module is None:
        return
    import gc

    from jinja2.exceptions import TemplateError

    for environment in [value for value in gc.get_objects() if isinstance(value, environment_module.Environment)]:
        if environment.loader is None or environment.cache is None:
            continue
        try:
            names = environment.list_templates()
        except (TypeError, TemplateError):
            # A loader that does not know them.
            continue
        for name in names[: environment.cache.capacity]:
            try:
                environment.get_template(name)
            except TemplateError:
                # Not a template, or one that the handler is to fail with.
                continue


# --- Applications and requests of the frameworks' own


def _apps() -> Iterator[ASGIApplication]:
    for name, make in (("fastapi", _fastapi_app), ("starlette.middleware.base", _middleware_app)):
        if name in sys.modules:
            try:
                yield ASGIApplication(make())
            except Exception as error:
                _logger.debug("%s: %r", make.__name__, error)


def _fastapi_app() -> Any:
    from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query
    from pydantic import BaseModel, Field

    class Part(BaseModel):
        name: str
        size: float = Field(default=1.0, ge=0)

    class Thing(BaseModel):
        name: str
        price: float | None = None
        parts: list[Part] = []

    async def opened() -> AsyncIterator[int]:
        yield 1

    def plain(agent: Annotated[str | None, Header()] = None) -> str | None:
        return agent

    router = APIRouter(prefix="/router")

    @router.get("/{number}")
    async def coroutine(
        number: int,
        one: Annotated[int, Depends(opened)],
        agent: Annotated[str | None, Depends(plain)],
        flag: bool = False,
        names: Annotated[list[str], Query(max_length=5)] = [],  # noqa: B006
    ) -> Any:
        return {"number": number, "one": one, "agent": agent, "flag": flag, "names": names}

    app = FastAPI(openapi_url=None)

    @app.get("/function/{number}")
    def function(number: int, q: str | None = None) -> Any:
        return {"number": number, "q": q}

    @app.get("/coroutine/{number}")
    async def usual(number: int, q: str | None = None) -> Any:
        return {"number": number, "q": q}

    @app.post("/thing", status_code=201)
    async def thing(thing: Thing) -> Thing:
        return thing

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    app.include_router(router)
    return app


def _middleware_app() -> Any:
    from starlette.applications import Starlette
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-warm"] = "up"
            return response

    async def endpoint(request: Any) -> Any:
        return JSONResponse({"path": request.url.path, "query": dict(request.query_params)})

    app = Starlette(routes=[Route("/function/{number:int}", endpoint), Route("/coroutine/{number:int}", endpoint)])
    app.add_middleware(Passing)
    return app


def _examples() -> list["bridge.RequestRecord"]:
    """A request of each kind."""
    return [
        _record("GET", "/nowhere"),
        _record("GET", "/missing"),
        _record("GET", "/router/x?flag=perhaps"),
        _record("POST", "/thing", '{"price": "x"}'),
        _record("POST", "/thing", '{"name": "a", "price": 1.5, "parts": [{"name": "\u20ac"}]}'),
        _record("GET", "/function/7?q=a"),
        _record("GET", "/router/7?flag=on&names=a&names=b%20c"),
    ]


def _usual() -> "bridge.RequestRecord":
    return _record("GET", "/coroutine/7?q=a")


def _record(method: str, target: str, body: str = "") -> "bridge.RequestRecord":
    headers = [("host", "localhost:8000"), ("user-agent", "covet"), ("accept", "*/*"), ("accept-encoding", "gzip")]
    if body:
        headers += [("content-type", "application/json"), ("content-length", str(len(body.encode())))]
    content = bridge.BodyText(body) if body else bridge.EMPTY
    return bridge.RequestRecord(0, method, "http://localhost:8000", target, [], headers, "127.0.0.1:50000", content)


async def _no_content(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _receive(body: bytes) -> Any:
    return {"type": "http.request", "body": body, "more_body": False}


async def _drop(message: Any) -> None:
    """For messages to nobody."""


@contextmanager
def _without_runtime() -> Iterator[None]:
    """Puts the little that these requests need into the place of what cannot be called while a component is built."""
    import componentize_py_runtime as runtime

    from covet._guest import loop

    names = ("call_task_return", "context_set", "context_get")
    originals = {name: getattr(runtime, name) for name in names}
    context = [None]
    running = events._get_running_loop()
    runtime.call_task_return = lambda *_: None
    runtime.context_set = lambda value: context.__setitem__(0, value)
    runtime.context_get = lambda: context[0]
    loop.run_from_now_on()
    try:
        yield
    finally:
        events._set_running_loop(running)
        for name, function in originals.items():
            setattr(runtime, name, function)


#: Enough for the interpreter to specialise its code.
ROUNDS = 20
#: CPython notes beside each branch which way it went the last 16 times. When that is the same way each time, a request that
#: goes it too writes nothing new to the code's memory, which need not be put back then.
ROUNDS_AT_THE_END = 17

_YIELD = 1
_logger = logging.getLogger("covet")
