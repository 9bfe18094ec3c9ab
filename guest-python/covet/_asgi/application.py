"""Any ASGI application in the place of a CovetPy: what `bridge.exports` needs to know of one.

It says which routes there are, runs the lifespan, and has each request answered by an `Exchange`. It does not know how a
message becomes a record; that is in `_asgi.exchange`.
"""

import asyncio
import inspect
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .routes import ASGIRoute, read_routes

if TYPE_CHECKING:
    from covet._guest import bridge

    from .exchange import Exchange

__all__ = ["ASGIApplication", "is_asgi"]


def is_asgi(value: Any) -> bool:
    """Whether something can be an ASGI application: an asynchronous callable, or one of ASGI 2."""
    return callable(value) and (_is_asgi3(value) or _is_asgi2(value))


class ASGIApplication:
    """An ASGI application with the shape of a CovetPy, as far as it is served."""

    def __init__(self, app: Any) -> None:
        #: As it was given.
        self.app = app
        self.routes: list[ASGIRoute] = read_routes(app, self.run)
        self._call: Callable[..., Any] = app if _is_asgi3(app) else partial(_call_asgi2, app)
        self._lifespan = _Lifespan(self._call)
        self._openapi_json: str | None = None

    async def run(self, record: "bridge.RequestRecord") -> "bridge.ResponseRecord | None":
        """Answers a request. Returns the response, or None if it has been handed over already."""
        exchange: Exchange = _exchanges.Exchange(record)
        try:
            scope = _exchanges.scope_of(record, self._lifespan.state)
            result = await self._call(scope, exchange.receive, exchange.send)
        except GeneratorExit:
            raise
        except BaseException as error:
            return await exchange.fail(error)
        return await exchange.end(result)

    def openapi_json(self) -> str | None:
        """The OpenAPI document of a FastAPI application as JSON; None if it has none."""
        return self._openapi_json

    async def startup(self) -> str | None:
        """Runs the lifespan up to where the application is ready. Returns what went wrong, if anything did."""
        return await self._lifespan.startup()

    async def shutdown(self) -> str | None:
        """Runs the rest of the lifespan. Returns what went wrong, if anything did."""
        return await self._lifespan.shutdown()

    def _warm_up(self) -> "Callable[[bridge.RequestRecord], Any]":
        """What answers the requests with which the host warms an instance up."""
        from . import warmup

        return warmup.answer()

    def _finish(self) -> None:
        """Called once when the application has been imported, in a component."""
        global _exchanges
        from . import exchange as _exchanges
        from . import starlette

        starlette.install()
        if callable(openapi := getattr(self.app, "openapi", None)) and getattr(self.app, "openapi_url", None):
            try:
                self._openapi_json = _encoder.encode(openapi())
            except Exception:
                # It is only a document; the application answers everything else.
                _logger.exception("the OpenAPI document cannot be made")


class _Lifespan:
    """The task that an application keeps for its whole life. It is suspended while requests are served."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        #: What the application puts there at startup; each request gets a copy.
        self.state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, Any]]
        #: The event whose answer is waited for, and the answer: what went wrong.
        self._asked: str | None = None
        self._answer: asyncio.Future[str | None]

    async def startup(self) -> str | None:
        self._events = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return await self._ask("startup")

    async def shutdown(self) -> str | None:
        if self._task is None or self._task.done():
            return None
        return await self._ask("shutdown")

    async def _ask(self, event: str) -> str | None:
        self._asked, self._answer = event, asyncio.get_running_loop().create_future()
        self._events.put_nowait({"type": f"lifespan.{event}"})
        message = await self._answer
        return None if message is None else f"{event} failed: {message}"

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._call(scope, self._events.get, self._send)
        except GeneratorExit:
            raise
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"
            if self._asked == "startup" and not isinstance(error, ImportError):
                # An application may do without a lifespan: it raises when it sees the scope.
                _logger.info("the ASGI application has no lifespan (%s)", what)
            elif self._asked is not None:
                _logger.error("the lifespan of the ASGI application failed", exc_info=error)
                self._reply(what)
        self._reply(None)

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self._asked is None or kind not in (f"lifespan.{self._asked}.complete", f"lifespan.{self._asked}.failed"):
            raise RuntimeError(f"Unexpected ASGI message {kind!r} in the lifespan.")
        if kind.endswith(".complete"):
            self._reply(None)
            return
        text = str(message.get("message", "")).strip()
        if text:
            _logger.error("%s", text)
        # Starlette sends a traceback, whose last line says what went wrong.
        self._reply(text.rpartition("\n")[2] or "the application does not say why")

    def _reply(self, message: str | None) -> None:
        if self._asked is not None:
            self._asked = None
            if not self._answer.done():
                self._answer.set_result(message)


def _is_asgi3(app: Any) -> bool:
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    while isinstance(app, partial):
        app = app.func
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004


def _is_asgi2(app: Any) -> bool:
    """A callable that takes the scope and returns one that takes `receive` and `send`."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return required == ["scope"]


async def _call_asgi2(app: Any, scope: Any, receive: Any, send: Any) -> Any:
    return await app(scope)(receive, send)


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)
_exchanges: Any = None
_logger = logging.getLogger("covet")
