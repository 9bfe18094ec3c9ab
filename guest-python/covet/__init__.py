"""covet: web applications in Python whose handlers run as sandboxed WebAssembly components.

    from covet import CovetPy

    app = CovetPy()

    @app.get("/users/{user_id}")
    def read_user(user_id: int):
        return {"user_id": user_id}

`covet build main:app` makes it into one file, `covet-host run app.wasm` serves it.
"""

from typing import TYPE_CHECKING

from .applications import CovetPy
from .background import BackgroundTask, BackgroundTasks
from .datastructures import URL, Address, Headers, MutableHeaders, PathParams, QueryParams, State
from .dependencies import Depends, Security, SecurityScopes
from .exceptions import HostUnavailable, HTTPException, RequestValidationError, ResponseValidationError
from .forms import FormData, UploadFile
from .middleware import BaseMiddleware
from .params import Body, Cookie, File, Form, Header, Path, Query
from .requests import Request
from .responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse, XMLResponse
from .routing import APIRouter, Router
from .sse import EventSourceResponse, ServerSentEvent

if TYPE_CHECKING:
    from .files import FileResponse

__version__ = "0.1.0"

__all__ = [
    "URL",
    "APIRouter",
    "Address",
    "BackgroundTask",
    "BackgroundTasks",
    "BaseMiddleware",
    "Body",
    "Cookie",
    "CovetPy",
    "Depends",
    "EventSourceResponse",
    "File",
    "FileResponse",
    "Form",
    "FormData",
    "HTMLResponse",
    "HTTPException",
    "Header",
    "Headers",
    "HostUnavailable",
    "JSONResponse",
    "MutableHeaders",
    "Path",
    "PathParams",
    "PlainTextResponse",
    "Query",
    "QueryParams",
    "RedirectResponse",
    "Request",
    "RequestValidationError",
    "Response",
    "ResponseValidationError",
    "Router",
    "Security",
    "SecurityScopes",
    "ServerSentEvent",
    "State",
    "StreamingResponse",
    "UploadFile",
    "XMLResponse",
    "__version__",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # Imported when it is asked for, because most applications have no files.
        if name == "FileResponse":
            from .files import FileResponse

            return FileResponse
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
