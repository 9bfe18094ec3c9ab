"""The application: where routes, hooks and exception handlers are registered."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from typing import Any, Literal, TypeVar

from . import _bridge
from .datastructures import State
from .exceptions import HTTPException, RequestValidationError
from .openapi import openapi_document
from .requests import Request
from .responses import JSONResponse, Response, as_record
from .routing import Route
from .types import Endpoint, ExceptionHandler, Hook, Isolation

__all__ = ["CovetPy"]

E_ = TypeVar("E_", bound=Endpoint)
H_ = TypeVar("H_", bound=Hook)


class CovetPy:
    """An application.

    `title`, `version` and `description` are for the OpenAPI document, which is served at `openapi_url` (None: nowhere).
    `lifespan` is a function from the application to an asynchronous context manager that is entered at startup and left
    at shutdown.
    """

    def __init__(
        self,
        *,
        title: str = "CovetPy",
        version: str = "0.1.0",
        description: str | None = None,
        openapi_url: str | None = "/openapi.json",
        lifespan: "Callable[[CovetPy], AbstractAsyncContextManager[Any]] | None" = None,
    ) -> None:
        self.title = title
        self.version = version
        self.description = description
        self.openapi_url = openapi_url
        #: A place for what startup makes and handlers use.
        self.state = State()
        #: In the order of registration.
        self.routes: list[Route] = []
        #: By class of exception or by status.
        self.exception_handlers: dict[int | type[BaseException], ExceptionHandler] = {}
        self._lifespan = lifespan
        self._lifespan_entered: AbstractAsyncContextManager[Any] | None = None
        self._hooks: dict[str, list[Hook]] = {"startup": [], "shutdown": []}
        self._openapi_json: str | None = None

    def get(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `GET path`; for the options see `route`."""
        return self.route(path, ["GET"], **options)

    def post(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `POST path`; for the options see `route`."""
        return self.route(path, ["POST"], **options)

    def put(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `PUT path`; for the options see `route`."""
        return self.route(path, ["PUT"], **options)

    def patch(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `PATCH path`; for the options see `route`."""
        return self.route(path, ["PATCH"], **options)

    def delete(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `DELETE path`; for the options see `route`."""
        return self.route(path, ["DELETE"], **options)

    def head(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `HEAD path`, which otherwise that of `GET` answers; for the options see `route`."""
        return self.route(path, ["HEAD"], **options)

    def options(self, path: str, **options: Any) -> Callable[[E_], E_]:
        """Registers the handler of `OPTIONS path`; for the options see `route`."""
        return self.route(path, ["OPTIONS"], **options)

    def route(
        self,
        path: str,
        methods: Sequence[str] = ("GET",),
        *,
        status_code: int = 200,
        response_class: type[Response] | None = None,
        name: str | None = None,
        summary: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        deprecated: bool = False,
        include_in_schema: bool = True,
        isolation: Isolation | None = None,
    ) -> Callable[[E_], E_]:
        """Registers a handler for a path and several methods; `"*"` stands for every method.

        The path may have placeholders: `{name}` for a segment or a part of one, `{name:int}` with a type, `{name:path}`
        at the end for all the rest. `status_code` is that of results that bring none of their own, `response_class`
        what they are wrapped in; `summary`, `description`, `tags`, `deprecated` and `include_in_schema` are for the
        OpenAPI document. `isolation` is for a handler that needs a certain one, whatever the host's default is: `fresh`
        (a request sees nothing of others), `reuse` (what earlier requests of its instance left) or `shared` (what all
        requests of its instance do; routes with it share instances). Raises ValueError for a path, and TypeError for a
        handler, that cannot be served.
        """

        def register(endpoint: E_) -> E_:
            self.routes.append(
                Route(
                    self,
                    path,
                    endpoint,
                    methods,
                    status_code=status_code,
                    response_class=response_class,
                    name=name,
                    summary=summary,
                    description=description,
                    tags=tags,
                    deprecated=deprecated,
                    include_in_schema=include_in_schema,
                    isolation=isolation,
                )
            )
            self._openapi_json = None
            return endpoint

        if isinstance(methods, str):
            raise TypeError(f"methods is a list: methods=[{methods!r}]")
        return register

    def exception_handler(self, exception: int | type[BaseException]) -> Callable[[ExceptionHandler], ExceptionHandler]:
        """Registers a function of request and exception for a class of exceptions, or for an HTTPException's status.

        What it returns becomes the response, as with any handler. `Exception` or 500 is for what nothing else handles.
        """

        def register(handler: ExceptionHandler) -> ExceptionHandler:
            self.exception_handlers[exception] = handler
            return handler

        return register

    def on_event(self, event: Literal["startup", "shutdown"]) -> Callable[[H_], H_]:
        """Registers a function without arguments for startup, which runs once when the host loads the application and is
        what every instance begins with, or for shutdown."""
        if event not in self._hooks:
            raise ValueError(f"there is no event {event!r}: startup, shutdown")

        def register(hook: H_) -> H_:
            self._hooks[event].append(hook)
            return hook

        return register

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi_document(self)

    def openapi_json(self) -> str:
        """The OpenAPI document as JSON, made once."""
        if self._openapi_json is None:
            self._openapi_json = json.dumps(self.openapi(), ensure_ascii=False, separators=(",", ":"), default=str)
        return self._openapi_json

    async def startup(self) -> str | None:
        """Enters the lifespan and runs the hooks. Returns what went wrong, if anything did."""
        try:
            if self._lifespan is not None:
                self._lifespan_entered = self._lifespan(self)
                state = await self._lifespan_entered.__aenter__()
                for name, value in (state or {}).items():
                    setattr(self.state, name, value)
            await self._run_hooks("startup")
        except BaseException as error:
            _logger.exception("startup failed")
            return f"startup failed: {type(error).__name__}: {error}"
        return None

    async def shutdown(self) -> str | None:
        """Runs the hooks and leaves the lifespan. Returns what went wrong, if anything did."""
        try:
            await self._run_hooks("shutdown")
            if self._lifespan_entered is not None:
                entered, self._lifespan_entered = self._lifespan_entered, None
                await entered.__aexit__(None, None, None)
        except BaseException as error:
            _logger.exception("shutdown failed")
            return f"shutdown failed: {type(error).__name__}: {error}"
        return None

    async def _run_hooks(self, event: str) -> None:
        for hook in self._hooks[event]:
            result = hook()
            if isawaitable(result):
                await result

    def _finish(self) -> None:
        """Called once when all routes are there: adds the route of the OpenAPI document."""
        document = self.openapi_json()
        if self.openapi_url is not None and all(self.openapi_url != route.path for route in self.routes):

            @self.get(self.openapi_url, name="openapi", include_in_schema=False)
            def openapi() -> Response:
                return Response(document, media_type="application/json")

            self._openapi_json = document

    def _fail(self, route: Route, record: "_bridge.RequestRecord", error: BaseException) -> Any:
        """The response to an exception, or a coroutine that makes it. It never raises."""
        handler = self._handler_of(error)
        if handler is None:
            return _default_response(record, error)
        try:
            result = handler(Request(record, self, route.path_names), error)
            if isawaitable(result):
                return self._finish_failure(record, result)
            return as_record(result, _status_of(error))
        except BaseException as second:
            return _default_response(record, second)

    async def _finish_failure(self, record: "_bridge.RequestRecord", result: Any) -> "_bridge.ResponseRecord":
        try:
            return as_record(await result, 500)
        except BaseException as error:
            return _default_response(record, error)

    def _handler_of(self, error: BaseException) -> ExceptionHandler | None:
        handlers = self.exception_handlers
        if not handlers:
            return None
        if isinstance(error, HTTPException) and error.status_code in handlers:
            return handlers[error.status_code]
        for type_ in type(error).__mro__:
            if type_ in handlers and not (type_ is Exception and isinstance(error, _ANSWERED)):
                return handlers[type_]
        return None if isinstance(error, _ANSWERED) else handlers.get(500)


def _default_response(record: "_bridge.RequestRecord", error: BaseException) -> "_bridge.ResponseRecord":
    try:
        if isinstance(error, HTTPException):
            return _http_error(error)
        if isinstance(error, RequestValidationError):
            return _validation_error(error)
        _logger.error("%s %s: unhandled exception", record.method, record.target, exc_info=error)
    except BaseException:
        _logger.exception("%s %s: the response to an exception could not be made", record.method, record.target)
    return _bridge._internal_error(None)


def _http_error(error: HTTPException) -> "_bridge.ResponseRecord":
    if error.status_code in (204, 304) or error.status_code < 200:
        return Response(None, error.status_code, error.headers)._lower()
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)._lower()


def _validation_error(error: RequestValidationError) -> "_bridge.ResponseRecord":
    return as_record(({"detail": error.errors()}, 422), 422)


def _status_of(error: BaseException) -> int:
    if isinstance(error, HTTPException):
        return error.status_code
    return 422 if isinstance(error, RequestValidationError) else 500


#: Exceptions that have a response of their own.
_ANSWERED = (HTTPException, RequestValidationError)
_logger = logging.getLogger("covet")
