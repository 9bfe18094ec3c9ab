"""What a handler needs: the parameters of its function and of everything that it depends on, as a plan of calls."""

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

from covet.background import BackgroundTasks
from covet.datastructures import URL, Address, Headers, PathParams, QueryParams, State
from covet.dependencies import Dependency, SecurityScopes
from covet.forms import FormData
from covet.params import BodyParam
from covet.requests import Request
from covet.responses import Response
from covet.types import Endpoint

from .fields import Field, field_of

__all__ = ["Argument", "Call", "Plan", "read_plan"]

Kind = Literal["function", "coroutine function", "generator", "asynchronous generator"]


@dataclass(slots=True)
class Argument:
    """One argument of a call."""

    name: str
    is_positional: bool
    #: Read from the request; made by an earlier call; or one of the values of `_PROVIDED`.
    source: "Field | Call | str"


@dataclass(slots=True, eq=False)
class Call:
    """A function whose arguments come from the request: the handler, or something that it depends on."""

    function: Callable[..., Any]
    kind: Kind
    arguments: list[Argument]
    #: For arguments of type `SecurityScopes`.
    scopes: tuple[str, ...]

    @property
    def fields(self) -> list[Field]:
        """What it reads itself."""
        return [argument.source for argument in self.arguments if isinstance(argument.source, Field)]

    @property
    def dependencies(self) -> "list[Call]":
        """What it needs to be called first."""
        return [argument.source for argument in self.arguments if isinstance(argument.source, Call)]

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", None) or type(self.function).__name__


@dataclass(slots=True)
class Plan:
    """The calls for a request, in their order; the last one is the handler."""

    calls: list[Call] = field(default_factory=list)
    #: The dependencies with security schemes, and their scopes, for the OpenAPI document.
    security: list[tuple[Any, tuple[str, ...]]] = field(default_factory=list)
    #: Whether the body's parameters are members of one object.
    is_embedded: bool = False

    @property
    def fields(self) -> list[Field]:
        return [field for call in self.calls for field in call.fields]

    @property
    def body_fields(self) -> list[Field]:
        return [field for field in self.fields if field.where == "body"]

    @property
    def form_fields(self) -> list[Field]:
        return [field for field in self.fields if field.where == "form"]

    def provides(self, *names: str) -> bool:
        """Whether an argument is one of these values of `_PROVIDED`."""
        return any(
            argument.source in names for call in self.calls for argument in call.arguments if isinstance(argument.source, str)
        )

    @property
    def is_async(self) -> bool:
        """Whether a call has to be awaited."""
        return any(call.kind in ("coroutine function", "asynchronous generator") for call in self.calls)

    @property
    def has_exits(self) -> bool:
        """Whether a dependency has something to do afterwards."""
        return any(call.kind in ("generator", "asynchronous generator") for call in self.calls[:-1])


def read_plan(
    endpoint: Endpoint,
    path_names: Sequence[str],
    converters: Mapping[str, Any],
    has_body: bool,
    dependencies: Sequence[Dependency] = (),
    overrides: Mapping[Any, Any] | None = None,
    is_partial: bool = False,
) -> Plan:
    """Reads the signatures. Raises TypeError, with the name of the function, for what cannot be read from a request.

    With `is_partial` there may be more placeholders than are known.
    """
    reader = _PlanReader(path_names, converters, has_body, overrides or {}, is_partial)
    for dependency in dependencies:
        reader.depend(dependency, inspect.Parameter.empty, (), "dependencies")
    reader.plan.calls.append(reader.call(endpoint, (), is_endpoint=True))
    plan = reader.plan
    if plan.body_fields and plan.form_fields:
        names = ", ".join(sorted({field.name for field in plan.body_fields}))
        raise TypeError(f"a request has one body: {names} cannot be read from JSON beside the fields of a form")
    distinct = {field.alias for field in plan.body_fields}
    infos = [field.info for field in plan.body_fields]
    plan.is_embedded = len(distinct) > 1 or any(isinstance(info, BodyParam) and info.embed for info in infos)
    return plan


class _PlanReader:
    def __init__(
        self,
        path_names: Sequence[str],
        converters: Mapping[str, Any],
        has_body: bool,
        overrides: Mapping[Any, Any],
        is_partial: bool,
    ) -> None:
        self.plan = Plan()
        self._path_names = path_names
        self._converters = converters
        self._has_body = has_body
        self._overrides = overrides
        self._is_partial = is_partial
        self._made: dict[tuple[Any, tuple[str, ...]], Call] = {}
        #: The security schemes below a call, by its id.
        self._schemes: dict[int, list[tuple[Any, tuple[str, ...]]]] = {}
        #: The functions that are being read, to find circles.
        self._reading: list[Any] = []
        self._uses_scopes = False

    def depend(self, dependency: Dependency, annotation: Any, scopes: tuple[str, ...], name: str) -> Call:
        """The call of a dependency, made once where it may be shared."""
        function = dependency.dependency
        if function is None:
            function = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
            if not callable(function) or function is inspect.Parameter.empty:
                raise TypeError(f"the parameter {name!r} has Depends() without a function, and no type that could be called")
        scopes = tuple(dict.fromkeys((*scopes, *dependency.scopes)))
        if hasattr(function, "model") and hasattr(function, "scheme_name"):
            self.plan.security.append((function, scopes))
        if self._overrides and isinstance(function, Hashable):
            function = self._overrides.get(function, function)
        # A method is another object wherever it is named, and the same function all the same.
        known_as = function if isinstance(function, Hashable) else id(function)
        for key in ((known_as, ()), (known_as, scopes)):
            if dependency.use_cache and key in self._made:
                made = self._made[key]
                for scheme, own in self._schemes[id(made)]:
                    self.plan.security.append((scheme, tuple(dict.fromkeys((*scopes, *own)))))
                return made
        outer, self._uses_scopes = self._uses_scopes, False
        known = len(self.plan.security)
        call = self.call(function, scopes)
        self._schemes[id(call)] = self.plan.security[known:]
        # One that is not shared is there for those that share, if it is the first.
        self._made.setdefault((known_as, scopes if self._uses_scopes else ()), call)
        self._uses_scopes = self._uses_scopes or outer
        self.plan.calls.append(call)
        return call

    def call(self, function: Callable[..., Any], scopes: tuple[str, ...], is_endpoint: bool = False) -> Call:
        if any(function is other for other in self._reading):
            raise TypeError(f"{_name(function)} depends on itself")
        self._reading.append(function)
        try:
            arguments = list(self._arguments(function, scopes))
        except TypeError as error:
            raise error if is_endpoint else TypeError(f"in the dependency {_name(function)}: {error}") from None
        finally:
            self._reading.pop()
        kind = _kind(function)
        if is_endpoint and kind in ("generator", "asynchronous generator"):
            # What it returns is the body of the response.
            kind = "function"
        return Call(function, kind, arguments, scopes)

    def _arguments(self, function: Callable[..., Any], scopes: tuple[str, ...]) -> Iterator[Argument]:
        try:
            signature = inspect.signature(function, eval_str=True)
        except NameError as error:
            raise TypeError(f"an annotation cannot be read: {error}") from None
        except ValueError:
            # Built in, without a signature.
            return
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"the parameter *{parameter.name} cannot be read from a request; name what you need")
            yield Argument(parameter.name, parameter.kind is parameter.POSITIONAL_ONLY, self._source(parameter, scopes))

    def _source(self, parameter: inspect.Parameter, scopes: tuple[str, ...]) -> "Field | Call | str":
        annotation = parameter.annotation
        bare, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
        dependency = parameter.default
        if not isinstance(dependency, Dependency):
            dependency = next((item for item in metadata if isinstance(item, Dependency)), None)
        if dependency is not None:
            return self.depend(dependency, annotation, scopes, parameter.name)
        if annotation is inspect.Parameter.empty:
            if parameter.name == "request" and parameter.name not in self._path_names:
                return "request"
            annotation = self._converters.get(parameter.name) or annotation
        provided = _provided(bare)
        if provided is not None:
            self._uses_scopes = self._uses_scopes or provided == "scopes"
            return provided
        return field_of(parameter, annotation, self._path_names, self._has_body, self._is_partial)


def _provided(annotation: Any) -> str | None:
    if not isinstance(annotation, type):
        return None
    for type_, name in _PROVIDED.items():
        if issubclass(annotation, type_):
            return name
    from covet.applications import CovetPy

    return "app" if issubclass(annotation, CovetPy) else None


def _kind(function: Any) -> Kind:
    while isinstance(function, partial):
        function = function.func
    # An object with __call__ is what its method is; a class is called, and makes an object.
    for candidate in (function,) if isinstance(function, type) else (function, getattr(type(function), "__call__", None)):  # noqa: B004
        if inspect.iscoroutinefunction(candidate):
            return "coroutine function"
        if inspect.isasyncgenfunction(candidate):
            return "asynchronous generator"
        if inspect.isgeneratorfunction(candidate):
            return "generator"
    return "function"


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


#: What an argument is that has one of these types.
_PROVIDED: dict[type, str] = {
    Request: "request",
    Response: "response",
    BackgroundTasks: "background",
    SecurityScopes: "scopes",
    QueryParams: "query_params",
    Headers: "headers",
    State: "state",
    URL: "url",
    Address: "client",
    FormData: "form",
    PathParams: "path_params",
}
