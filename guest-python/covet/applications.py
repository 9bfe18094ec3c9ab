"""The application: its routes, what is around them, its start and its end."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from typing import Any, Literal, Self, TypeVar

from ._routes import middleware as _middleware
from ._routes.failures import Handlers
from .datastructures import State
from .exceptions import HTTPException
from .metrics import Metrics
from .openapi import openapi_document
from .requests import Request
from .responses import RedirectResponse, Response
from .routing import Route, Router
from .types import Hook, Middleware

__all__ = ["CovetPy"]

H_ = TypeVar("H_", bound=Hook)
F_ = TypeVar("F_", bound=Callable[..., Any])


class CovetPy(Router):
    """An application.

    `title`, `version`, `summary`, `description`, `openapi_tags`, `servers`, `contact`, `license_info` and
    `terms_of_service` are for the OpenAPI document, which is served at `openapi_url`, with pages that show it at `docs_url`
    and `redoc_url` (None: nowhere). `lifespan` is a function from the application to an asynchronous context manager that is
    entered at startup and left at shutdown. With `debug` an unexpected exception is answered with its traceback, which tells
    clients more than they should know. The other arguments are those of a router.
    """

    _is_partial = False

    def __init__(
        self,
        *,
        title: str = "CovetPy",
        version: str = "0.1.0",
        summary: str | None = None,
        description: str | None = None,
        openapi_url: str | None = "/openapi.json",
        docs_url: str | None = "/docs",
        redoc_url: str | None = "/redoc",
        openapi_tags: Sequence[Mapping[str, Any]] = (),
        servers: Sequence[Mapping[str, Any]] = (),
        contact: Mapping[str, str] | None = None,
        license_info: Mapping[str, str] | None = None,
        terms_of_service: str | None = None,
        lifespan: "Callable[[CovetPy], AbstractAsyncContextManager[Any]] | None" = None,
        debug: bool = False,
        dependencies: Sequence[Any] | None = None,
        middleware: Sequence[Middleware] = (),
        exception_handlers: Handlers | None = None,
        default_response_class: type[Response] | None = None,
    ) -> None:
        super().__init__(
            dependencies=dependencies,
            middleware=middleware,
            exception_handlers=exception_handlers,
            default_response_class=default_response_class,
        )
        self.title = title
        self.version = version
        self.summary = summary
        self.description = description
        self.openapi_url = openapi_url
        self.docs_url = docs_url
        self.redoc_url = redoc_url
        self.openapi_tags = list(openapi_tags)
        self.servers = list(servers)
        self.contact = contact
        self.license_info = license_info
        self.terms_of_service = terms_of_service
        self.debug = debug
        #: A place for what startup makes and handlers use.
        self.state = State()
        #: What the host counts of this application, over all its instances.
        self.metrics = Metrics()
        self._overrides = _Overrides(self._recompile)
        self._lifespan = lifespan
        self._lifespan_entered: AbstractAsyncContextManager[Any] | None = None
        self._hooks: dict[str, list[Hook]] = {"startup": [], "shutdown": []}
        self._before: list[Callable[..., Any]] = []
        self._after: list[Callable[..., Any]] = []
        self._stack: list[_middleware.Around] | None = None
        #: What has been made of the middleware of routers and routes, which is kept beside it, by its id.
        self._objects: dict[int, tuple[Middleware, _middleware.Around]] = {}
        self._openapi_json: str | None = None
        self._asgi: Any = None
        self._is_finished = False

    @property
    def dependency_overrides(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """Other functions in the place of dependencies, for tests."""
        return self._overrides

    @dependency_overrides.setter
    def dependency_overrides(self, overrides: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
        self._overrides = _Overrides(self._recompile, overrides)
        self._recompile()

    def add_middleware(self, middleware: Middleware, **options: Any) -> None:
        """Adds a middleware, which is around every handler: a class, of which one object is made with the options, or an
        object or function of request and `call_next`.

        The one that is added first is outermost: it sees a request first and its response last. All of the application's
        are around those of routers, and those around those of routes. Requests that no route takes go through it too.
        """
        if options:
            if not isinstance(middleware, type):
                raise TypeError(f"options are for a class of middleware, and {middleware!r} is none")
            middleware = (middleware, options)
        self._middleware.append(middleware)
        self._stack = None

    def middleware(self, kind: Literal["http"] = "http") -> Callable[[F_], F_]:
        """Registers a function of request and `call_next` as a middleware, see `add_middleware`."""
        if kind != "http":
            raise ValueError(f"there is no middleware for {kind!r}, only for 'http'")

        def register(function: F_) -> F_:
            self.add_middleware(function)
            return function

        return register

    def before_request(self, hook: F_) -> F_:
        """Registers a function of the request that is called before each handler, inside of the middleware.

        What it returns, unless that is None, is the response, and the handler is not called.
        """
        self._before.append(hook)
        self._stack = None
        return hook

    def after_request(self, hook: F_) -> F_:
        """Registers a function of request and response that is called after each handler, inside of the middleware.

        It may change the response, or return another one. It is not called after exceptions that nothing handles.
        """
        self._after.append(hook)
        self._stack = None
        return hook

    @property
    def middleware_stack(self) -> "list[_middleware.Around]":
        """The middleware as functions, the outermost first; each class has one object."""
        if self._stack is None:
            self._stack = [_middleware.instance_of(one) for one in self._middleware]
            if self._before or self._after:
                self._stack.append(_middleware.hooks(self._before, self._after))
        return self._stack

    def middleware_object(self, middleware: Middleware) -> "_middleware.Around":
        """The function of a middleware of routers or routes, the same whenever it is asked for."""
        known = self._objects.get(id(middleware))
        if known is None:
            known = self._objects[id(middleware)] = middleware, _middleware.instance_of(middleware)
        return known[1]

    def mount(self, path: str, app: Any, name: str | None = None) -> None:
        """Serves everything below a path with another application or router, or with a handler of requests such as
        `StaticFiles`, which reads the rest of the path from `request.path_params["path"]`.

        The routes of an application keep the middleware, the hooks and the dependencies that it has now, and its handlers of
        exceptions; for the rest they belong to this one. Its lifespan and its pages are left out.
        """
        if isinstance(app, CovetPy):
            hooks = [_middleware.hooks(app._before, app._after)] if app._before or app._after else []
            self.include_router(
                app,
                prefix=path,
                middleware=[*app._middleware, *hooks],
                dependencies=app.dependencies,
                exception_handlers=app.exception_handlers,
                default_response_class=app.default_response_class,
            )
        elif isinstance(app, Router):
            self.include_router(app, prefix=path)
        elif callable(app):

            async def mounted(request: Request) -> Any:
                result = app(request)
                return await result if isawaitable(result) else result

            mounted.__name__ = name or type(app).__name__
            prefix = path.rstrip("/")
            self.add_route(prefix + "/{path:path}", mounted, ["GET", "HEAD"], name=name, include_in_schema=False)
            if prefix:

                def redirect(request: Request) -> RedirectResponse:
                    # As it was received: decoded, a placeholder could hold another host, or a `?`.
                    path, mark, query = request.target.partition("?")
                    return RedirectResponse(f"{path}/{mark}{query}")

                self.add_route(prefix, redirect, ["GET", "HEAD"], name=f"{mounted.__name__}_root", include_in_schema=False)
        else:
            raise TypeError(f"{app!r} cannot be mounted: it is no application, router or handler")

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
        """The OpenAPI document. Override it, or replace it, to change the document."""
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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves natively, as an ASGI application, under any server of such: for tests and development, since nothing keeps
        requests apart there."""
        if self._asgi is None:
            from .asgi import ASGIAdapter

            self._asgi = ASGIAdapter(self)
        await self._asgi(scope, receive, send)

    async def _run_hooks(self, event: str) -> None:
        for hook in self._hooks[event]:
            result = hook()
            if isawaitable(result):
                await result

    def _adopt(self, route: Route) -> None:
        if not route.path:
            raise ValueError("the path '' must begin with '/', or its router have a prefix")
        # What belongs to the application itself is put around its routes when they are compiled.
        route = route.completed()
        self._add(route)
        self._openapi_json = None
        if self._is_finished:
            route.compile(self)

    def _finish(self) -> None:
        """Compiles the routes, and adds those of the OpenAPI document, its pages, and of what no route takes. May be called
        again, when routes have been added."""
        if not self._is_finished:
            taken = {(method, route.shape) for route in self.routes for method in route.methods}
            for route in self._own_routes():
                if not any((method, route.shape) in taken for method in route.methods):
                    self.routes.append(route)
        self._is_finished = True
        self._recompile()

    def _own_routes(self) -> Iterator[Route]:
        from ._routes.own import document_routes, fallback_route, preflight_routes

        yield from document_routes(self)
        yield from preflight_routes(self)
        if self._middleware or self._before or self._after or {404, 405, HTTPException} & set(self.exception_handlers):
            yield fallback_route(self)

    def _recompile(self) -> None:
        if self._is_finished:
            for route in self.routes:
                route.compile(self)


class _Overrides(dict[Callable[..., Any], Callable[..., Any]]):
    """The overrides of dependencies; each change is told."""

    def __init__(
        self, changed: Callable[[], None], overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None
    ) -> None:
        super().__init__(overrides or {})
        self._changed = changed

    def __setitem__(self, key: Callable[..., Any], value: Callable[..., Any]) -> None:
        super().__setitem__(key, value)
        self._changed()

    def __delitem__(self, key: Callable[..., Any]) -> None:
        super().__delitem__(key)
        self._changed()

    def clear(self) -> None:
        super().clear()
        self._changed()

    def pop(self, *arguments: Any) -> Any:
        value = super().pop(*arguments)
        self._changed()
        return value

    def popitem(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        item = super().popitem()
        self._changed()
        return item

    def setdefault(self, *arguments: Any) -> Any:
        value = super().setdefault(*arguments)
        self._changed()
        return value

    def update(self, *arguments: Any, **named: Any) -> None:
        super().update(*arguments, **named)
        self._changed()

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        self.update(other)
        return self


_logger = logging.getLogger("covet")
