"""covet: web applications in Python whose handlers run as sandboxed WebAssembly components.

    from covet import CovetPy

    app = CovetPy()

    @app.get("/users/{user_id}")
    def read_user(user_id: int):
        return {"user_id": user_id}

`covet build main:app` makes it into one file, `covet-host run app.wasm` serves it.
"""

from .applications import CovetPy
from .datastructures import URL, Address, Headers, QueryParams
from .exceptions import HostUnavailable, HTTPException, RequestValidationError
from .params import Path, Query
from .requests import Request
from .responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)

__version__ = "0.1.0"

__all__ = [
    "URL",
    "Address",
    "CovetPy",
    "HTMLResponse",
    "HTTPException",
    "Headers",
    "HostUnavailable",
    "JSONResponse",
    "Path",
    "PlainTextResponse",
    "Query",
    "QueryParams",
    "RedirectResponse",
    "Request",
    "RequestValidationError",
    "Response",
    "StreamingResponse",
    "__version__",
]
