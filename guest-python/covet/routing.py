"""Routes and routers: paths with their methods, handlers and options.

The host matches paths and decodes placeholders before the guest is called, so nothing is matched here. What a handler needs is
read by `_routes.signature`, and made into a function by `_routes.compile`.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, get_args
from urllib.parse import quote

from ._routes.compile import Run, compile_route
from ._routes.failures import Handlers
from ._routes.fields import Field
from ._routes.middleware import registered
from ._routes.results import Result, response_model_of
from ._routes.signature import Plan, read_plan
from .dependencies import Dependency
from .responses import Response
from .types import Endpoint, ExceptionHandler, Isolation, Middleware

if TYPE_CHECKING:
    from .applications import CovetPy

__all__ = ["APIRouter", "Route", "RouteOptions", "Router", "parse_path"]

E_ = TypeVar("E_", bound=Endpoint)


class RouteOptions(TypedDict, total=False):
    """What can be said about a route beside its path, its methods and its handler."""

    #: Of results that bring none of their own; else that of the response class, or 200.
    status_code: int | None
    #: What results are wrapped in that are no responses.
    response_class: type[Response] | None
    #: What results are validated against and written as; fields that it does not have are left out. Without it the
    #: annotation of what the handler returns counts, if there is a model in it; False is for none at all.
    response_model: Any
    #: Which fields of the model are written.
    response_model_include: Any
    response_model_exclude: Any
    response_model_by_alias: bool
    response_model_exclude_unset: bool
    response_model_exclude_defaults: bool
    response_model_exclude_none: bool
    #: For `url_for`; else the name of the function.
    name: str | None
    #: Called before the handler; their results are not used.
    dependencies: Sequence[Any] | None
    #: Around the handler, inside of the application's; the first one is outermost. See `CovetPy.add_middleware`.
    middleware: Sequence[Middleware] | None
    #: Before those of the router and of the application.
    exception_handlers: Handlers | None
    #: For a handler that needs a certain one, whatever the host's default is: `fresh` (a request sees nothing of others),
    #: `reuse` (what earlier requests of its instance left) or `shared` (what all requests of its instance do; routes with it
    #: share instances).
    isolation: Isolation | None
    #: For the OpenAPI document, as are the following.
    summary: str | None
    description: str | None
    response_description: str
    #: By status: `{404: {"description": "No such item", "model": Problem}}`.
    responses: Mapping[int | str, Mapping[str, Any]] | None
    tags: Sequence[str] | None
    deprecated: bool | None
    operation_id: str | None
    include_in_schema: bool
    #: Merged into the operation.
    openapi_extra: Mapping[str, Any] | None


class Route:
    """One handler with its path. Raises ValueError and TypeError for what cannot be served."""

    #: Returns the record of the response, or a coroutine that does.
    run: Run

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        methods: Sequence[str],
        options: RouteOptions,
        is_partial: bool = False,
    ) -> None:
        self._check(path, options)
        self.endpoint = endpoint
        #: Whether a prefix with more placeholders may still come before the path.
        self.is_partial = is_partial
        #: In upper case; an empty one stands for every method.
        self.methods = ["" if method == "*" else method.upper() for method in methods]
        self.options: RouteOptions = options
        self.name: str = options.get("name") or getattr(endpoint, "__name__", None) or type(endpoint).__name__
        self.isolation: Isolation | None = options.get("isolation")
        self.include_in_schema: bool = options.get("include_in_schema", True)
        #: The handlers of exceptions, its own and those of its routers.
        self.levels: list[Handlers] = [options.get("exception_handlers") or {}]
        #: Those of its routers and its own, the first one outermost.
        self.middleware: list[Middleware] = registered(options.get("middleware") or ())
        self.dependencies: list[Any] = [*(options.get("dependencies") or ())]
        self._take_path(path)
        self.response_model = self._read_response_model()
        self.is_async = False

    @property
    def fields(self) -> list[Field]:
        """Everything that is read from its requests."""
        return self.plan.fields

    @property
    def status_code(self) -> int:
        """Of results that bring none of their own."""
        status = self.options.get("status_code")
        if status is None:
            # That of the class, which has another for redirections.
            response_class = self.options.get("response_class")
            parameter = inspect.signature(response_class).parameters.get("status_code") if response_class is not None else None
            status = parameter.default if parameter is not None else 200
        return status if isinstance(status, int) else 200

    @property
    def shape(self) -> str:
        """The pattern without the names of its placeholders: two routes with the same one match the same paths."""
        return _BRACES.sub(lambda match: match[0][:2] if match[0][:2] in ("{{", "}}", "{*") else "{", self.pattern)

    def _take_path(self, path: str) -> None:
        self.path = path
        #: The path as the host reads it, and the names and converters of its placeholders.
        self.pattern, self.placeholders = parse_path(path)
        self.path_names = tuple(name for name, _ in self.placeholders)
        # Now, because errors in it belong to the line of the decorator.
        self.plan = self._read_plan({})

    def compile(self, app: "CovetPy") -> None:
        """Makes `run`, for an application and with the application's middleware."""
        # Always, because there may have been other overrides before.
        self.plan = self._read_plan(app.dependency_overrides, app.dependencies)
        result = Result(
            app,
            self.path_names,
            self.status_code,
            self.options.get("response_class", app.default_response_class),
            self.response_model,
            {option: value for key, option in _MODEL_OPTIONS.items() if (value := self.options.get(key)) is not None},
        )
        around = [*app.middleware_stack, *map(app.middleware_object, self.middleware)]
        levels = [level for level in (*self.levels, app.exception_handlers) if level]
        self.run, self.is_async = compile_route(app, self.plan, self.path_names, result, around, levels, self.pattern)

    def included(self, prefix: str, outer: "Inclusion") -> "Route":
        """The same route in another router."""
        route = copy(self)
        options: RouteOptions = {**self.options}
        options["tags"] = [*outer.tags, *(self.options.get("tags") or ())]
        options["responses"] = {**outer.responses, **(self.options.get("responses") or {})}
        if self.options.get("deprecated") is None:
            options["deprecated"] = outer.deprecated
        if outer.response_class is not None:
            options.setdefault("response_class", outer.response_class)
        route.options = options
        route.isolation = self.isolation or outer.isolation
        route.include_in_schema = outer.include_in_schema and self.include_in_schema
        route.levels = [*self.levels, *outer.levels]
        route.middleware = [*outer.middleware, *self.middleware]
        route.dependencies = [*outer.dependencies, *self.dependencies]
        route._take_path(prefix + self.path)
        return route

    def completed(self) -> "Route":
        """The same route with the path that it is going to have. Raises TypeError for parameters that are not in it."""
        if not self.is_partial:
            return self
        route = copy(self)
        route.is_partial = False
        route._take_path(self.path)
        return route

    def answered_by_middleware(self, method: str, endpoint: Endpoint) -> "Route":
        """The route for a method that only the middleware of this one answers; the handler is for when it does not."""
        route = copy(self)
        route.methods = [method]
        route.endpoint = endpoint
        route.include_in_schema = False
        route.dependencies = []
        route.response_model = None
        route._take_path(self.path)
        return route

    def url_path(self, path_params: Mapping[str, Any]) -> str:
        """The path with values in the place of its placeholders. Raises LookupError if they are not the right ones."""
        if set(path_params) != set(self.path_names):
            raise LookupError(
                f"the route {self.name!r} has the placeholders {sorted(self.path_names)}, not {sorted(path_params)}"
            )

        def fill(match: re.Match[str]) -> str:
            if match[0] in ("{{", "}}"):
                return match[0][0]
            name, _, converter = match[0][1:-1].partition(":")
            return quote(str(path_params[name]), safe="/" if converter == "path" else "")

        return _BRACES.sub(fill, self.path)

    def _check(self, path: str, options: RouteOptions) -> None:
        unknown = set(options) - RouteOptions.__optional_keys__
        if unknown:
            known = ", ".join(sorted(RouteOptions.__optional_keys__))
            raise TypeError(f"{path}: a route has no option {min(unknown)!r}; there are {known}")
        isolation = options.get("isolation")
        if isolation is not None and isolation not in get_args(Isolation):
            raise ValueError(f"{path}: there is no isolation {isolation!r}: {', '.join(get_args(Isolation))}")
        for dependency in options.get("dependencies") or ():
            if not isinstance(dependency, Dependency):
                raise TypeError(f"{path}: dependencies is a list of Depends(...), not of {dependency!r}")
        status = options.get("status_code")
        if status is not None and not (isinstance(status, int) and 100 <= status <= 599):
            raise ValueError(f"{path}: status_code={status!r} is no HTTP status")

    def _read_plan(self, overrides: Mapping[Any, Any], outer: Sequence[Any] = ()) -> Plan:
        has_body = any(method in _METHODS_WITH_BODY for method in self.methods)
        try:
            dependencies = [*outer, *self.dependencies]
            converters = dict(self.placeholders)
            return read_plan(
                self.endpoint, self.path_names, converters, has_body, dependencies, overrides, is_partial=self.is_partial
            )
        except TypeError as error:
            raise TypeError(f"{self.name} ({self.path}): {error}") from None

    def _read_response_model(self) -> Any:
        said = self.options.get("response_model")
        if "response_model" in self.options and said is None:
            said = False
        try:
            annotation = inspect.signature(self.endpoint, eval_str=True).return_annotation
        except ValueError:
            annotation = None
        #: What results are said to be; None if nothing is said.
        self.return_annotation = annotation if said is None and annotation is not inspect.Parameter.empty else None
        try:
            return response_model_of(annotation, said)
        except TypeError as error:
            raise TypeError(f"{self.name} ({self.path}): the response model: {error}") from None

    def __repr__(self) -> str:
        return f"<Route {','.join(method or '*' for method in self.methods)} {self.path}>"


class Inclusion:
    """What a router adds to the routes that it includes."""

    def __init__(
        self,
        tags: Sequence[str] | None = None,
        dependencies: Sequence[Any] | None = None,
        middleware: Sequence[Middleware] = (),
        levels: Sequence[Handlers] = (),
        responses: Mapping[int | str, Mapping[str, Any]] | None = None,
        deprecated: bool | None = None,
        include_in_schema: bool = True,
        isolation: Isolation | None = None,
        response_class: type[Response] | None = None,
    ) -> None:
        self.tags = tags or ()
        self.dependencies = dependencies or ()
        self.middleware = middleware
        self.levels = levels
        self.responses = responses or {}
        self.deprecated = deprecated
        self.include_in_schema = include_in_schema
        self.isolation = isolation
        self.response_class = response_class


class Router:
    """Routes that belong together, to be included in an application or in another router.

    `prefix` is put before their paths; `tags`, `dependencies`, `middleware`, `responses`, `deprecated`, `include_in_schema`,
    `isolation` and `default_response_class` apply to all of them.
    """

    #: Whether the paths of its routes may get a prefix.
    _is_partial = True

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: Sequence[str] | None = None,
        dependencies: Sequence[Any] | None = None,
        middleware: Sequence[Middleware] = (),
        exception_handlers: Handlers | None = None,
        responses: Mapping[int | str, Mapping[str, Any]] | None = None,
        deprecated: bool | None = None,
        include_in_schema: bool = True,
        isolation: Isolation | None = None,
        default_response_class: type[Response] | None = None,
    ) -> None:
        _check_prefix(prefix)
        self.prefix = prefix
        self.tags = list(tags or ())
        self.dependencies = list(dependencies or ())
        self.responses = dict(responses or {})
        self.deprecated = deprecated
        self.include_in_schema = include_in_schema
        self.isolation = isolation
        self.default_response_class = default_response_class
        #: By class of exception or by status.
        self.exception_handlers: dict[int | type[BaseException], ExceptionHandler] = dict(exception_handlers or {})
        #: In the order of registration.
        self.routes: list[Route] = []
        self._middleware: list[Middleware] = registered(middleware)
        #: The routers that include this one, and with what.
        self._inclusions: list[tuple[Router, str, Inclusion]] = []

    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `GET path`; for the options see `RouteOptions`."""
        return self.route(path, ["GET"], **options)

    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `POST path`; for the options see `RouteOptions`."""
        return self.route(path, ["POST"], **options)

    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `PUT path`; for the options see `RouteOptions`."""
        return self.route(path, ["PUT"], **options)

    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `PATCH path`; for the options see `RouteOptions`."""
        return self.route(path, ["PATCH"], **options)

    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `DELETE path`; for the options see `RouteOptions`."""
        return self.route(path, ["DELETE"], **options)

    def head(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `HEAD path`, which otherwise that of `GET` answers; for the options see `RouteOptions`."""
        return self.route(path, ["HEAD"], **options)

    def options(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `OPTIONS path`; for the options see `RouteOptions`."""
        return self.route(path, ["OPTIONS"], **options)

    def trace(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers the handler of `TRACE path`; for the options see `RouteOptions`."""
        return self.route(path, ["TRACE"], **options)

    def route(self, path: str, methods: Sequence[str] = ("GET",), **options: Unpack[RouteOptions]) -> Callable[[E_], E_]:
        """Registers a handler for a path and several methods; `"*"` stands for every method.

        The path may have placeholders: `{name}` for a segment or a part of one, `{name:int}` with a type, `{name:path}`
        at the end for all the rest. Raises ValueError for a path, and TypeError for a handler, that cannot be served.
        """
        if isinstance(methods, str):
            raise TypeError(f"methods is a list: methods=[{methods!r}]")

        def register(endpoint: E_) -> E_:
            self.add_route(path, endpoint, methods, **options)
            return endpoint

        return register

    #: As in FastAPI.
    api_route = route

    def add_route(
        self, path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",), **options: Unpack[RouteOptions]
    ) -> None:
        """As the decorator `route`."""
        self._adopt(Route(path, endpoint, methods, options, self._is_partial))

    #: As in FastAPI.
    add_api_route = add_route

    def include_router(
        self,
        router: "Router",
        *,
        prefix: str = "",
        tags: Sequence[str] | None = None,
        dependencies: Sequence[Any] | None = None,
        middleware: Sequence[Middleware] = (),
        exception_handlers: Handlers | None = None,
        responses: Mapping[int | str, Mapping[str, Any]] | None = None,
        deprecated: bool | None = None,
        include_in_schema: bool = True,
        isolation: Isolation | None = None,
        default_response_class: type[Response] | None = None,
    ) -> None:
        """Adds the routes of a router, also those that it gets later, with `prefix` before their paths."""
        _check_prefix(prefix)
        if router is self or self._is_below(router):
            raise ValueError("a router cannot include itself")
        outer = Inclusion(
            tags,
            dependencies,
            registered(middleware),
            [exception_handlers or {}],
            responses,
            deprecated,
            include_in_schema,
            isolation,
            default_response_class,
        )
        router._inclusions.append((self, prefix, outer))
        for route in router.routes:
            self._adopt(route.included(prefix, outer))

    def exception_handler(self, exception: int | type[BaseException]) -> Callable[[ExceptionHandler], ExceptionHandler]:
        """Registers a function of request and exception for a class of exceptions, or for an HTTPException's status.

        What it returns becomes the response, as with any handler. `Exception` or 500 is for what nothing else handles.
        """

        def register(handler: ExceptionHandler) -> ExceptionHandler:
            self.exception_handlers[exception] = handler
            return handler

        return register

    def url_path_for(self, name: str, /, **path_params: Any) -> str:
        """The path of a route by its name. Raises LookupError if there is none with such placeholders."""
        wrong: LookupError | None = None
        for route in self.routes:
            if route.name == name:
                try:
                    return route.url_path(path_params)
                except LookupError as error:
                    wrong = error
        raise wrong or LookupError(f"there is no route {name!r}")

    def _adopt(self, route: Route) -> None:
        own = Inclusion(
            self.tags,
            self.dependencies,
            self._middleware,
            [self.exception_handlers],
            self.responses,
            self.deprecated,
            self.include_in_schema,
            self.isolation,
            self.default_response_class,
        )
        self._add(route.included(self.prefix, own))

    def _add(self, route: Route) -> None:
        self.routes.append(route)
        for router, prefix, outer in self._inclusions:
            router._adopt(route.included(prefix, outer))

    def _is_below(self, router: "Router") -> bool:
        return any(outer is router or outer._is_below(router) for outer, _, _ in self._inclusions)


#: The name that FastAPI's users know.
APIRouter = Router


def parse_path(path: str) -> tuple[str, list[tuple[str, Any]]]:
    """A path as the host reads it, and the name and type of each placeholder.

    `{name}` stays, `{name:int}` (also float, str, uuid) becomes `{name}`, and `{name:path}`, which must be at the end,
    becomes `{*name}`. Raises ValueError for anything else in braces. An empty path is for routers that have a prefix, or will
    be included with one.
    """
    if path and not path.startswith("/"):
        raise ValueError(f"the path {path!r} must begin with '/'")
    placeholders: list[tuple[str, Any]] = []

    def replace(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0]
        placeholder = _PLACEHOLDER.fullmatch(match[0])
        if placeholder is None:
            raise ValueError(f"the path {path!r} has {match[0]!r}, which is neither {{name}} nor {{name:converter}}")
        name, converter = placeholder[1], placeholder[2]
        if any(name == other for other, _ in placeholders):
            raise ValueError(f"the path {path!r} has {{{name}}} twice")
        if converter is not None and converter not in _CONVERTERS:
            raise ValueError(f"the path {path!r} has the converter {converter!r}; there are {', '.join(_CONVERTERS)}")
        if path.startswith("}", match.end()):
            raise ValueError(f"the path {path!r} has a brace after {match[0]}, which the host reads as a part of it")
        if converter == "path" and match.end() != len(path):
            raise ValueError(f"the path {path!r} goes on after {match[0]}, which takes all the rest")
        placeholders.append((name, None if converter is None else _CONVERTERS[converter]))
        return f"{{*{name}}}" if converter == "path" else f"{{{name}}}"

    pattern = _BRACES.sub(replace, path)
    return pattern, placeholders


def _check_prefix(prefix: str) -> None:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"the prefix {prefix!r} must begin with '/' and not end with it")


_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_MODEL_OPTIONS = {
    "response_model_include": "include",
    "response_model_exclude": "exclude",
    "response_model_by_alias": "by_alias",
    "response_model_exclude_unset": "exclude_unset",
    "response_model_exclude_defaults": "exclude_defaults",
    "response_model_exclude_none": "exclude_none",
}
_BRACES = re.compile(r"\{\{|\}\}|\{[^{}]*\}?|\}")
_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)(?::(\w+))?\}")


def _converters() -> dict[str, Any]:
    from uuid import UUID

    return {"str": str, "int": int, "float": float, "uuid": UUID, "path": str}


_CONVERTERS = _converters()
