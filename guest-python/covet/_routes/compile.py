"""From the plan of a route to the function that serves its requests.

The function is generated source rather than a loop over the parameters, which saves about a microsecond for each of them.
Only numbers and the names of the functions' own parameters are put into the source; all values are passed in beside it.

There are two forms. The plain one goes from request record to response record, for routes whose handler needs nothing around
it. The other one goes from Request to Response, for those with middleware, background tasks or dependencies that have
something to do afterwards. Either is a plain function if nothing in it has to be awaited; one that reads a body then also has
a coroutine function, for bodies that arrive as a stream.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from covet._guest import bridge
from covet._json import encode_json
from covet._models.model import InvalidJSON
from covet._models.strings import Invalid
from covet.background import BackgroundTasks
from covet.datastructures import parse_cookies
from covet.dependencies import SecurityScopes
from covet.exceptions import RequestValidationError
from covet.forms import UploadFile
from covet.requests import Request
from covet.responses import JSON_HEADERS, Response, allows_body

from . import reading
from .failures import Handlers, answer, answer_for_certain, answer_record, plain_record, prepared
from .fields import INVALID, MISSING, Field
from .reading import BodyReader
from .results import Result
from .signature import Argument, Call, Plan

if TYPE_CHECKING:
    from covet.applications import CovetPy

__all__ = ["Run", "compile_route"]

#: Returns the record of the response, or a coroutine that does. It never raises.
Run = Callable[["bridge.RequestRecord"], Any]


def compile_route(
    app: "CovetPy",
    plan: Plan,
    path_names: tuple[str, ...],
    result: Result,
    middleware: Sequence[Callable[[Request, Any], Any]],
    levels: Sequence[Handlers],
    name: str,
) -> tuple[Run, bool]:
    """Makes the function of a route, and says whether it is a coroutine function.

    `middleware` is around the handler, the first one outermost; `levels` are the handlers of exceptions.
    """
    make_request = partial(_make_request, app, path_names)
    if not middleware and not plan.has_exits and not plan.provides("background", "response"):
        return _compile_plain(app, plan, path_names, result, levels, make_request, name)
    respond = _function(plan, path_names, result, name, is_plain=False, is_async=True, extra={})
    handle = _with_exits(respond, levels)
    for one in reversed(middleware):
        handle = _around(one, handle)

    async def run(record: "bridge.RequestRecord") -> "bridge.ResponseRecord":
        request = make_request(record)
        try:
            try:
                response = await handle(request)
            except BaseException as error:
                response = await answer_for_certain(app, levels, request, error)
            exits = request._exits
            return prepared(response, request)._lower(None if exits is None else exits.aclose)
        except BaseException as error:
            # Everything is caught, SystemExit too: an exception that leaves an export ends the instance.
            return await answer_record(app, (), request, error)

    return run, True


def _compile_plain(
    app: "CovetPy",
    plan: Plan,
    path_names: tuple[str, ...],
    result: Result,
    levels: Sequence[Handlers],
    make_request: Callable[["bridge.RequestRecord"], Request],
    name: str,
) -> tuple[Run, bool]:
    has_handlers = app.debug or any(levels)

    def fail(record: "bridge.RequestRecord", error: BaseException) -> Any:
        if not has_handlers:
            try:
                if (plain := plain_record(error)) is not None:
                    return plain
            except BaseException as second:
                error = second
        return answer_record(app, levels, make_request(record), error)

    extra = {"fail": fail, "make_request": make_request}
    is_async = plan.is_async
    if not is_async and (plan.body_fields or plan.form_fields or plan.provides("form")):
        extra["run_async"] = _function(plan, path_names, result, name, is_plain=True, is_async=True, extra=dict(extra))
    return _function(plan, path_names, result, name, is_plain=True, is_async=is_async, extra=extra), is_async


def _with_exits(respond: Callable[[Request], Any], levels: Sequence[Handlers]) -> Callable[[Request], Any]:
    """The innermost of the chain: runs the exits of dependencies, and turns exceptions that somebody expects into responses."""

    async def handle(request: Request) -> Response:
        try:
            try:
                response: Response = await respond(request)
            except BaseException as error:
                exits, request._exits = request._exits, None
                if exits is not None:
                    # Raised at the `yield` of each; one of them may raise another instead.
                    await exits.__aexit__(type(error), error, error.__traceback__)
                raise
            if request._exits is not None and response.background is None and not hasattr(response, "body_iterator"):
                # Before the response, so that a commit that fails is not answered with 200. What is still to come may
                # need what the dependencies have made: then they end after it.
                exits, request._exits = request._exits, None
                await exits.aclose()
            return response
        except BaseException as error:
            answered = await answer(levels, request, error)
            if answered is None:
                raise
            return answered

    return handle


def _around(middleware: Callable[[Request, Any], Any], handle: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def call(request: Request) -> Response:
        response = await middleware(request, handle)
        if not isinstance(response, Response):
            name = getattr(middleware, "__name__", type(middleware).__name__)
            raise TypeError(f"the middleware {name} returned {type(response).__name__}, not a Response")
        return response

    return call


def _function(
    plan: Plan,
    path_names: tuple[str, ...],
    result: Result,
    name: str,
    *,
    is_plain: bool,
    is_async: bool,
    extra: dict[str, Any],
) -> Any:
    writer = _Writer(plan, path_names, result, is_plain, is_async)
    source = "\n".join(writer.lines())
    names = {**writer.names, **extra}
    exec(compile(source, f"<route {name}>", "exec"), names)
    return names["run"]


class _Writer:
    """Writes the source of one function, and collects the values that it refers to."""

    def __init__(self, plan: Plan, path_names: tuple[str, ...], result: Result, is_plain: bool, is_async: bool) -> None:
        self._plan = plan
        self._path_names = path_names
        self._result = result
        self._is_plain = is_plain
        self._is_async = is_async
        self._body = BodyReader(plan.body_fields, plan.is_embedded) if plan.body_fields else None
        self._has_lists = any(field.where == "query" and (field.many or field.members) for field in plan.fields)
        self._numbers = {id(field): number for number, field in enumerate(plan.fields)}
        self._calls = {id(call): number for number, call in enumerate(plan.calls)}
        #: The calls that may be left out, because what they need is not valid.
        self._fallible = {id(call) for call in plan.calls if self._may_fail(call)}
        self.names: dict[str, Any] = {
            "ABSENT": bridge.ABSENT,
            "BodyStream": bridge.BodyStream,
            "BodyText": bridge.BodyText,
            "INVALID": (*INVALID, InvalidJSON),
            "Invalid": Invalid,
            "JSON_HEADERS": JSON_HEADERS,
            "MISSING": MISSING,
            "NOTHING": {},
            "RequestValidationError": RequestValidationError,
            "ResponseRecord": bridge.ResponseRecord,
            "STATUS": result.status_code,
            "BackgroundTasks": BackgroundTasks,
            "Response": Response,
            "UploadFile": UploadFile,
            "add_background": _add_background,
            "all_errors": reading.all_errors,
            "as_record": result.as_record,
            "as_response": result.as_response,
            "body_members": reading.body_members,
            "body_of": reading.body_of,
            "encode_json": encode_json,
            "enter": _enter,
            "filled": reading.filled,
            "form_lists": _form_lists,
            "header_dict": reading.header_dict,
            "header_lists": _header_lists,
            "inject": _inject,
            "members_of": reading.members_of,
            "parse_cookies": parse_cookies,
            "path_names": path_names,
            "plan": plan,
            "read_body": None if self._body is None else self._body.read,
            "read_data": bridge.read_data,
            "read_query": reading.query_lists if self._has_lists else reading.query_dict,
            "reader": self._body,
            "sent": partial,
            "utf8": bridge.utf8,
        }

    def _may_fail(self, call: Call) -> bool:
        return bool(call.fields) or any(self._may_fail(dependency) for dependency in call.dependencies)

    def lines(self) -> Iterator[str]:
        define = "async def" if self._is_async else "def"
        if not self._is_plain:
            yield f"{define} run(request):"
            yield " record = request._record"
            yield from self._prepare(" ")
            yield from self._steps(" ")
            yield from self._finish_response(" ")
            return
        yield f"{define} run(record):"
        if not self._is_async and self._reads_body():
            yield " if record.body.__class__ is BodyStream:"
            yield "  return run_async(record)"
        yield " try:"
        yield from self._prepare("  ")
        yield from self._steps("  ")
        if self._result.is_plain:
            # The most usual kind of result, without a call.
            yield "  if result.__class__ is dict:"
            yield "   text = encode_json(result)"
            yield "   return ResponseRecord(STATUS, JSON_HEADERS, BodyText(text if text.isascii() else utf8(text)), ABSENT)"
        request = "request" if self._needs_request() else "None"
        yield f"  return as_record(result, {request}, record)"
        # Everything is caught, SystemExit too: an exception that leaves an export ends the instance.
        yield " except BaseException as error:"
        yield "  failure = fail(record, error)"
        if self._is_async:
            yield " if failure.__class__ is not ResponseRecord:"
            yield "  failure = await failure"
        yield " return failure"

    def _reads_body(self) -> bool:
        return bool(self._plan.body_fields or self._plan.form_fields) or self._plan.provides("form")

    def _needs_request(self) -> bool:
        plan = self._plan
        return bool(plan.form_fields) or plan.provides(
            "request", "headers", "query_params", "path_params", "state", "app", "url", "client", "form"
        )

    def _prepare(self, indent: str) -> Iterator[str]:
        """What several parameters are read from."""
        places = {field.where for field in self._plan.fields}
        if self._is_plain and self._needs_request():
            yield f"{indent}request = make_request(record)"
        if "query" in places:
            yield f"{indent}query = record.target.partition('?')[2]"
            yield f"{indent}query = read_query(query) if query else NOTHING"
        for where, function in (("header", "header"), ("cookie", "cookie")):
            fields = [field for field in self._plan.fields if field.where == where]
            if not fields:
                continue
            if where == "cookie":
                yield f"{indent}cookies = parse_cookies(record.headers)"
            else:
                lists = any(field.many or field.members for field in fields)
                yield f"{indent}headers = {function}_{'lists' if lists else 'dict'}(record.headers)"
        if not self._is_plain:
            if self._plan.provides("response"):
                yield f"{indent}injected = Response()"
                yield f"{indent}injected.status_code = None"
            if self._plan.provides("background"):
                yield f"{indent}background = BackgroundTasks()"
        if len(self._fallible) > 1:
            yield f"{indent}errors = None"

    def _read_body(self, indent: str, call: Call) -> Iterator[str]:
        """Reads the body when the first call comes that needs it, so that nobody sends one who is refused before."""
        places = {field.where for field in call.fields}
        if "body" in places and self._is_async:
            yield f"{indent}await read_data(record)"
        if "form" in places or any(argument.source == "form" for argument in call.arguments):
            yield f"{indent}form = {'await request.form()' if self._is_async else 'request._form_at_once()'}"

    def _steps(self, indent: str) -> Iterator[str]:
        several = len(self._fallible) > 1
        for number, call in enumerate(self._plan.calls):
            is_last = number == len(self._plan.calls) - 1
            yield from self._read_body(indent, call)
            failing = [f"failed{self._calls[id(other)]}" for other in call.dependencies if id(other) in self._fallible]
            if call.fields:
                yield f"{indent}try:"
                yield from self._read_fields(indent + " ", call)
                self.names[f"fields{number}"] = call.fields
                form = "form" if self._needs_form(call) else "None"
                found = f"all_errors(fields{number}, record, path_names, {form}, reader)"
                yield f"{indent}except INVALID:"
                if several:
                    yield f"{indent} errors = (errors or []) + {found}"
                    yield f"{indent} failed{number} = True"
                    yield f"{indent}else:"
                    yield f"{indent} failed{number} = {' or '.join(failing) or 'False'}"
                else:
                    yield f"{indent} raise RequestValidationError({found}, sent(body_of, record, {form}, reader)) from None"
            elif failing and several:
                yield f"{indent}failed{number} = {' or '.join(failing)}"
            if is_last and several:
                yield f"{indent}if errors is not None:"
                form = "form" if self._plan.form_fields else "None"
                yield f"{indent} raise RequestValidationError(errors, sent(body_of, record, {form}, reader))"
            if several and not is_last and id(call) in self._fallible:
                yield f"{indent}if not failed{number}:"
                yield f"{indent} {self._call(number, call)}"
            else:
                yield f"{indent}{self._call(number, call)}"

    def _needs_form(self, call: Call) -> bool:
        return any(field.where == "form" for field in call.fields)

    def _call(self, number: int, call: Call) -> str:
        self.names[f"function{number}"] = call.function
        arguments = ", ".join(self._argument(argument, call) for argument in call.arguments)
        target = "result" if number == len(self._plan.calls) - 1 else f"made{number}"
        if call.kind == "coroutine function":
            return f"{target} = await function{number}({arguments})"
        if call.kind in ("generator", "asynchronous generator"):
            manager = contextmanager if call.kind == "generator" else asynccontextmanager
            self.names[f"function{number}"] = manager(call.function)
            return f"{target} = await enter(request, function{number}({arguments}))"
        return f"{target} = function{number}({arguments})"

    def _argument(self, argument: Argument, call: Call) -> str:
        value = self._value(argument, call)
        return value if argument.is_positional else f"{argument.name}={value}"

    def _value(self, argument: Argument, call: Call) -> str:
        source = argument.source
        if isinstance(source, Field):
            return f"value{self._numbers[id(source)]}"
        if isinstance(source, Call):
            return f"made{self._calls[id(source)]}"
        if source == "scopes":
            name = f"scopes{self._calls[id(call)]}"
            self.names[name] = partial(SecurityScopes, call.scopes)
            return f"{name}()"
        return {
            "request": "request",
            "response": "injected",
            "background": "background",
            "form": "form",
        }.get(source, f"request.{source}")

    def _read_fields(self, indent: str, call: Call) -> Iterator[str]:
        if any(field.where == "body" for field in call.fields) and self._plan.is_embedded:
            yield f"{indent}members = body_members(record)"
        for field in call.fields:
            number = self._numbers[id(field)]
            self.names[f"parse{number}"], self.names[f"name{number}"] = field.parse, field.key
            yield from self._read_field(indent, number, field)

    def _read_field(self, indent: str, number: int, field: Field) -> Iterator[str]:
        value = f"value{number}"
        if field.where == "path":
            yield f"{indent}{value} = parse{number}(record.params[{self._path_names.index(field.alias)}])"
            return
        if field.where == "body" and not self._plan.is_embedded:
            self.names[f"field{number}"] = field
            yield f"{indent}{value} = read_body(record, field{number})"
            return
        if field.members:
            self.names[f"field{number}"] = field
            source = {"query": "query", "header": "headers", "form": "form_lists(form)"}.get(field.where)
            source = source or "{name: [value] for name, value in cookies.items()}"
            yield f"{indent}{value} = members_of(field{number}, {source})"
        else:
            yield f"{indent}{value} = {self._get(number, field)}"
        if field.where == "body" or field.members:
            yield f"{indent}if {value} is MISSING:"
        elif field.where == "form":
            is_unchosen = f"{value}.__class__ is UploadFile and not {value}.filename and not {value}.size"
            yield f"{indent}if {value} is None or {value} == '' or {value} == [] or {is_unchosen}:"
        else:
            yield f"{indent}if {value} is None:"
        if field.required:
            yield f"{indent} raise Invalid('missing', 'Field required')"
        elif field.default_factory is not None:
            self.names[f"default{number}"] = field.default_factory
            yield f"{indent} {value} = default{number}()"
        else:
            self.names[f"default{number}"] = field.default
            yield f"{indent} {value} = default{number}"
        yield f"{indent}else:"
        last = "[-1]" if field.where == "query" and self._has_lists and not (field.many or field.members) else ""
        yield f"{indent} {value} = parse{number}({value}{last})"

    def _get(self, number: int, field: Field) -> str:
        """The expression of what the request has for a parameter."""
        name = f"name{number}"
        if field.where == "body":
            return f"members.get({name}, MISSING)"
        if field.where == "form":
            return f"filled(form.getlist({name}))" if field.many else f"form.get({name})"
        if field.where == "header":
            lists = any(other.where == "header" and (other.many or other.members) for other in self._plan.fields)
            if lists:
                return f"headers.get({name})" if field.many else f"headers.get({name}, (None,))[0]"
            return f"headers.get({name})"
        if field.where == "cookie":
            return f"cookies.get({name})"
        return f"query.get({name})"

    def _finish_response(self, indent: str) -> Iterator[str]:
        yield f"{indent}response = as_response(result)"
        if self._plan.provides("response"):
            yield f"{indent}inject(injected, result, response)"
        if self._plan.provides("background"):
            yield f"{indent}if background.tasks:"
            yield f"{indent} add_background(response, background)"
        yield f"{indent}return response"


async def _enter(request: Request, manager: Any) -> Any:
    """Enters a dependency that yields; it is left when the request ends."""
    if request._exits is None:
        request._exits = AsyncExitStack()
    if hasattr(manager, "__aenter__"):
        return await request._exits.enter_async_context(manager)
    return request._exits.enter_context(manager)


def _inject(injected: Response, result: Any, response: Response) -> None:
    """Puts what a handler has said with a parameter of type Response into the response, unless it has made one itself."""
    if not isinstance(result, Response):
        for name, value in injected.headers.multi_items():
            if name == "set-cookie":
                response.headers.append(name, value)
            else:
                response.headers[name] = value
        # None unless it was set.
        if injected.status_code:
            response.status_code = injected.status_code
            if not allows_body(response.status_code):
                response.body = ""


def _add_background(response: Response, tasks: BackgroundTasks) -> None:
    if response.background is not None:
        tasks.tasks.insert(0, response.background)
    response.background = tasks


def _form_lists(form: Any) -> dict[str, list[Any]]:
    return reading._lists(form.multi_items())


def _header_lists(headers: Any) -> dict[str, list[str]]:
    return reading._lists(headers)


def _make_request(app: "CovetPy", path_names: tuple[str, ...], record: "bridge.RequestRecord") -> Request:
    return Request(record, app, path_names)
