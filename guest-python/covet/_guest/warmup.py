"""Uses the framework's own paths before an instance serves: in the build, and when the host asks for it.

A module that is first imported by a request cannot be found any more, and what the interpreter makes lazily would be made
anew in every instance. Nothing of the application runs here.
"""

import asyncio
import importlib
import logging
import warnings
from asyncio import events
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from covet.applications import CovetPy
from covet.exceptions import HTTPException
from covet.params import Query
from covet.requests import Request
from covet.responses import HTMLResponse, JSONResponse, Response

from . import bridge

__all__ = ["answer", "run"]


def run() -> None:
    """Imports what the standard library imports late, and serves each kind of request a few times."""
    for name in _LATE_MODULES:
        with warnings.catch_warnings(), suppress(ImportError):
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    app = _app()
    app._finish()
    handler = bridge.exports(app)[0]()
    loggers = [logging.getLogger(name) for name in ("covet", "asyncio")]
    for logger in loggers:
        # Formatted as a real one, for what that imports, but not shown.
        logger.addFilter(_format_and_drop)
    try:
        with _without_runtime():
            for _ in range(ROUNDS):
                for index, route in enumerate(app.routes):
                    for target, params in _REQUESTS[route.path]:
                        handler._async_start_handle(_record(index, target, params), 0)
    finally:
        for logger in loggers:
            logger.removeFilter(_format_and_drop)


def answer() -> Callable[[bridge.RequestRecord], Any]:
    """Makes what answers the requests that the host sends to warm an instance up: with 204 and nothing else.

    Each of them goes the way of a request to a function and that of one to a coroutine function.
    """
    app = CovetPy(openapi_url=None)

    @app.get("/function")
    def function(request: Request, number: int = 1) -> Any:
        return {"path": request.path, "number": number, "agent": request.headers.get("user-agent")}

    @app.get("/coroutine")
    async def coroutine(request: Request, number: int = 1) -> Response:
        return Response(None, 204)

    app._finish()
    first, second = (route.run for route in app.routes)

    def run(record: bridge.RequestRecord) -> Any:
        first(record)
        return second(record)

    return run


@contextmanager
def _without_runtime() -> Iterator[None]:
    """Takes away what cannot be called while a component is built; the handlers here do not wait for anything."""
    import componentize_py_runtime as runtime

    from . import loop

    originals = runtime.call_task_return, runtime.context_set
    running = events._get_running_loop()
    runtime.call_task_return = runtime.context_set = lambda *_: None
    loop.run_from_now_on()
    try:
        yield
    finally:
        events._set_running_loop(running)
        runtime.call_task_return, runtime.context_set = originals


def _app() -> CovetPy:
    app = CovetPy(openapi_url=None)

    @app.get("/plain/{number}")
    def plain(number: int, flag: bool = False, names: list[str] = Query([]), least: float = Query(1.0, ge=0)) -> Any:
        return {"number": number, "flag": flag, "names": names, "least": least, "text": "e\u0301\u20ac"}

    @app.get("/text")
    def text() -> str:
        return "text"

    @app.get("/response")
    def response(request: Request) -> Response:
        made = HTMLResponse("<p>", headers={"x": "y"})
        made.headers["path"] = request.path
        made.set_cookie("a", request.headers.get("user-agent", ""))
        return made

    @app.get("/tuple")
    async def pair(request: Request) -> Any:
        return [request.query_params.get("a"), str(request.url), request.client], 201, {"x": "y"}

    @app.post("/body")
    async def body(request: Request) -> Any:
        return JSONResponse(await request.json())

    @app.get("/tasks")
    async def tasks() -> Any:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(asyncio.sleep(0, number) for number in range(3)))

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(404)

    @app.get("/broken")
    def broken() -> None:
        raise ValueError("warm-up")

    return app


def _record(route: int, target: str, params: list[str]) -> bridge.RequestRecord:
    headers = [("host", "localhost"), ("user-agent", "covet"), ("accept", "*/*"), ("cookie", "a=b; c=d")]
    body = bridge.BodyText('{"a": [1, 2.5, null, true, "\u20ac"]}')
    return bridge.RequestRecord(route, "GET", "http://localhost", target, params, headers, "127.0.0.1:1", body)


def _format_and_drop(record: logging.LogRecord) -> bool:
    logging.Formatter("%(asctime)s %(message)s").format(record)
    record.exc_text = None
    return False


#: Enough for the interpreter to specialise its code.
ROUNDS = 30

_REQUESTS: dict[str, list[tuple[str, list[str]]]] = {
    "/plain/{number}": [
        ("/plain/7", ["7"]),
        ("/plain/7?flag=on&names=a&names=b%20c&least=2.5", ["7"]),
        ("/plain/x?flag=perhaps&least=-1", ["x"]),
    ],
    "/text": [("/text", [])],
    "/response": [("/response?a=b", [])],
    "/tuple": [("/tuple?a=%C3%A9+b", [])],
    "/body": [("/body", [])],
    "/tasks": [("/tasks", [])],
    "/missing": [("/missing", [])],
    "/broken": [("/broken", [])],
}

#: What CPython's library imports inside of functions, and codecs, which are found by name. What an application imports is
#: seen by the build tool.
_LATE_MODULES = [
    "_colorize",
    "_strptime",
    "ast",
    "base64",
    "calendar",
    "concurrent.futures.thread",
    "copy",
    "encodings.ascii",
    "encodings.cp1252",
    # For the names of files in a `zipfile`.
    "encodings.cp437",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
    "encodings.raw_unicode_escape",
    "encodings.unicode_escape",
    "encodings.utf_16",
    "encodings.utf_16_be",
    "encodings.utf_16_le",
    "encodings.utf_32",
    "encodings.utf_8_sig",
    "locale",
    "platform",
    "random",
    "secrets",
    "stringprep",
    "tokenize",
    "unicodedata",
]
