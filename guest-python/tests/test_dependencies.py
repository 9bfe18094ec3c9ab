# ruff: noqa: B008, because parameters are described by calls in defaults.
"""Dependencies: what is called, how often, in which order and with what, and what follows a `yield`; as in FastAPI."""

import asyncio
import contextvars
import dataclasses
from functools import partial
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from twins import twins

from covet import (
    BackgroundTasks,
    CovetPy,
    Depends,
    Header,
    HTTPException,
    JSONResponse,
    Query,
    Request,
    Response,
    Router,
    Security,
    SecurityScopes,
    StreamingResponse,
)

JSON = [("content-type", "application/json")]


def check(serve, build, *targets):
    """Sends GET requests to both frameworks and compares answers and what was logged; returns that of the last one."""
    logged = None
    with twins(serve, build) as both:
        for target in targets:
            both.agree("GET", target)
            logged = both.logs()
    return logged


# --- What is called, and how often


def test_a_dependency_is_called_once_for_all_that_need_it(serve):
    def build(kit):
        count = iter(range(100))

        def counter():
            kit.log.append("counter")
            return next(count)

        def one(value=kit.Depends(counter)):
            return value

        async def two(value=kit.Depends(counter), again=kit.Depends(one)):
            return [value, again]

        @kit.app.get("/")
        def handler(a=kit.Depends(one), b=kit.Depends(two), c=kit.Depends(counter)):
            return [a, b, c]

    assert check(serve, build, "/", "/") == ["counter"]


@pytest.mark.parametrize("order", ["abcd", "badc", "dcba", "cabd"])
def test_one_that_is_not_cached_is_called_again(serve, order):
    def build(kit):
        count = iter(range(100))

        def counter():
            return next(count)

        def cached(value=kit.Depends(counter)):
            return value

        def fresh(value=kit.Depends(counter, use_cache=False)):
            return value

        parameters = {
            "a": kit.Depends(cached),
            "b": kit.Depends(fresh),
            "c": kit.Depends(counter),
            "d": kit.Depends(counter, use_cache=False),
        }
        one, two, three, four = (parameters[name] for name in order)

        @kit.app.get("/")
        def handler(first=one, second=two, third=three, fourth=four):
            return [first, second, third, fourth]

    check(serve, build, "/", "/")


class Common:
    def __init__(self, q: str | None = None, skip: int = 0):
        self.q, self.skip = q, skip


def test_classes_and_their_shorthand(serve):
    def build(kit):
        Also = Annotated[Common, kit.Depends()]

        @kit.app.get("/")
        def handler(one: Also, two: Annotated[Any, kit.Depends(Common)], three: Common = kit.Depends()):
            return [one.q, one.skip, one is two, two is three]

    check(serve, build, "/", "/?q=x&skip=5")


class Multiplies:
    def __init__(self, log, by):
        self.log, self.by = log, by

    def __call__(self, n: int):
        return n * self.by

    def method(self, n: int):
        self.log.append("method")
        return n

    async def coroutine(self, n: int):
        await asyncio.sleep(0)
        return n

    def generator(self, n: int):
        self.log.append("in")
        yield n
        self.log.append("out")


class Awaits:
    async def __call__(self, n: int):
        await asyncio.sleep(0)
        return n


class Yields:
    def __init__(self, log):
        self.log = log

    async def __call__(self, n: int):
        self.log.append("object in")
        yield n
        self.log.append("object out")


def test_objects_methods_partials_and_lambdas(serve):
    def build(kit):
        multiplies = Multiplies(kit.log, 3)

        def add(a: int, b: int):
            return a + b

        async def add_later(a: int, b: int):
            return a + b

        def add_and_yield(a: int, b: int):
            yield a + b
            kit.log.append("partial out")

        dependencies = [
            multiplies,
            multiplies.coroutine,
            multiplies.generator,
            Awaits(),
            Yields(kit.log),
            partial(add, b=1),
            partial(add_later, b=2),
            partial(add_and_yield, b=3),
            lambda n: n,
        ]
        for number, dependency in enumerate(dependencies):

            def handler(value=kit.Depends(dependency)):
                return {"value": value if isinstance(value, int) else type(value).__name__}

            kit.app.get(f"/{number}")(handler)

        # A method is another object wherever it is named.
        @kit.app.get("/methods")
        def methods(a=kit.Depends(multiplies.method), b=kit.Depends(multiplies.method)):
            return [a, b]

    targets = [f"/{number}?n=2&a=4" for number in range(9)] + [f"/{number}?n=x&a=x" for number in range(9)]
    assert check(serve, build, *targets, "/methods?n=1") == ["method"]


def test_synchronous_and_asynchronous_ones_are_mixed_at_will(serve):
    def build(kit):
        async def outer(h: str = kit.Header("none")):
            await asyncio.sleep(0)
            kit.log.append("outer")
            return h

        def middle(value=kit.Depends(outer)):
            kit.log.append("middle")
            return f"{value}!"

        async def inner(value=kit.Depends(middle), again=kit.Depends(outer)):
            kit.log.append("inner")
            return f"{value}{again}"

        @kit.app.get("/sync")
        def sync(value=kit.Depends(inner)):
            return {"value": value}

        @kit.app.get("/async")
        async def asynchronous(value=kit.Depends(inner), other=kit.Depends(middle)):
            return {"value": value, "other": other}

    assert check(serve, build, "/sync", "/async") == ["outer", "middle", "inner"]


def test_dependencies_of_application_routers_inclusions_and_routes_are_called_in_this_order(serve):
    def build(kit):
        def says(name):
            return kit.Depends(lambda: kit.log.append(name))

        kit.app = kit.make_app(dependencies=[says("app")])
        inner = kit.APIRouter(prefix="/inner", dependencies=[says("inner")])

        @inner.get("/x", dependencies=[says("route 1"), says("route 2")])
        def handler(value=says("parameter")):
            kit.log.append("handler")
            return {}

        outer = kit.APIRouter(prefix="/outer", dependencies=[says("outer")])
        outer.include_router(inner, prefix="/in", dependencies=[says("inclusion")])
        kit.app.include_router(outer, dependencies=[says("inclusion in app")])

    found = check(serve, build, "/outer/in/inner/x")
    assert found == ["app", "inclusion in app", "outer", "inclusion", "inner", "route 1", "route 2", "parameter", "handler"]


def test_what_is_shared_by_routers_and_handlers_is_called_once(serve):
    def build(kit):
        def user(q: str = "nobody"):
            kit.log.append(f"user {q}")
            return q

        router = kit.APIRouter(dependencies=[kit.Depends(user)])

        @router.get("/", dependencies=[kit.Depends(user)])
        def handler(me=kit.Depends(user)):
            return {"me": me}

        kit.app.include_router(router)

    assert check(serve, build, "/?q=a") == ["user a"]


# --- What they are given


class Model(BaseModel):
    a: int
    b: str = "z"


@dataclasses.dataclass
class Data:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


def test_parameters_of_dependencies_are_read_like_those_of_handlers(serve):
    def build(kit):
        def in_path(n: int):
            return n

        def in_header(x_token: str = kit.Header(), c: int = kit.Cookie(3)):
            return [x_token, c]

        def keyword(x: Annotated[int, kit.Query()] = 5, *, y: int = 6):
            return x + y

        def from_request(request: kit.Request):
            return [request.method, request.url.path, request.query_params.get("x")]

        @kit.app.get("/path/{n}")
        def path(value=kit.Depends(in_path)):
            return {"value": value}

        @kit.app.get("/header")
        def header(value=kit.Depends(in_header)):
            return value

        @kit.app.get("/keyword")
        def keywords(value=kit.Depends(keyword)):
            return {"value": value}

        @kit.app.get("/request/{n}")
        def request_(n: int, value=kit.Depends(from_request)):
            return value

        @kit.app.get("/model")
        def model(value: Model = kit.Depends()):
            return {"value": repr(value)}

        @kit.app.get("/shadow")
        def shadow(x: str, value=kit.Depends(keyword)):
            return [x, value]

    with twins(serve, build) as both:
        for target in ("/path/3", "/path/x", "/keyword?x=1&y=2", "/keyword?x=a&y=b", "/request/1?x=2", "/request/x"):
            both.agree("GET", target)
        for target in ("/model?a=1", "/model?a=x", "/model", "/shadow?x=1", "/shadow?x=a", "/shadow"):
            both.agree("GET", target)
        for headers in ([("x-token", "t"), ("cookie", "c=5")], [("cookie", "c=x")], []):
            both.agree("GET", "/header", headers=headers)


def test_dependencies_may_read_the_body_alone_or_with_the_handler(serve):
    def build(kit):
        def several(name: str = kit.Body(), n: int = kit.Body(3)):
            return [name, n]

        def whole(item: dict[str, int]):
            return item

        @kit.app.post("/several")
        def with_several(made=kit.Depends(several), extra: int = kit.Body()):
            return [made, extra]

        @kit.app.post("/whole")
        def with_whole(made=kit.Depends(whole)):
            return made

        @kit.app.post("/both")
        def with_both(item: dict[str, int], made=kit.Depends(whole)):
            return [item, made]

        @kit.app.post("/model")
        async def with_model(model: Model, made=kit.Depends(several)):
            return [repr(model), made]

    bodies = [
        {"name": "a", "extra": 1},
        {"name": 1, "n": "y", "extra": "x"},
        {"name": "a", "model": {"a": 1}},
        {"model": {"a": "x"}},
        {"a": 1, "b": 2},
        {"a": "x"},
        {},
        [],
        None,
        '{"name',
    ]
    with twins(serve, build) as both:
        for path in ("/several", "/whole", "/both", "/model"):
            for body in bodies:
                both.agree("POST", path, body, JSON)


class Other(BaseModel):
    a: str
    b: int = 1


def test_a_body_is_for_each_of_those_that_name_it_what_they_say_it_is(serve):
    def build(kit):
        def numbers(item: Model):
            return item

        def optional(item: Model | None = None):
            return item

        def one(n: int = kit.Body()):
            return n

        def after(q: int, item: Model = kit.Body()):
            return item

        @kit.app.post("/required")
        def required(item: Other, made=kit.Depends(numbers)):
            return [repr(item), repr(made)]

        @kit.app.post("/optional")
        def maybe(item: Other | None = None, made=kit.Depends(optional)):
            return [repr(item), repr(made)]

        @kit.app.post("/scalar")
        async def scalar(n: str = kit.Body(), made=kit.Depends(one)):
            return [n, made]

        @kit.app.post("/after")
        async def with_after(item: Other, made=kit.Depends(after)):
            return [repr(item), repr(made)]

    with twins(serve, build) as both:
        for target in ("/required", "/optional", "/scalar", "/after", "/after?q=1"):
            for body in ({"a": 1}, {"a": "1"}, {"a": "x", "b": "y"}, "1", '"1"', None, {}):
                both.agree("POST", target, body, JSON)


def test_errors_are_those_of_dependencies_first_each_in_the_order_of_its_places(serve):
    def build(kit):
        def first(h: int = kit.Header(), q: int = kit.Query()):
            kit.log.append("first")

        def second(b: int = kit.Body(), value=kit.Depends(first), p: int = kit.Path()):
            kit.log.append("second")

        def fine(r: int = 1):
            kit.log.append("fine")

        @kit.app.post("/{p}")
        def handler(
            b2: int = kit.Body(),
            c: int = kit.Cookie(),
            h2: int = kit.Header(),
            q2: int = kit.Query(),
            value=kit.Depends(second),
            p: str = kit.Path(max_length=1),
            ok=kit.Depends(fine),
        ):
            kit.log.append("handler")

    with twins(serve, build) as both:
        found = both.agree("POST", "/xx", {"b": "x"}, JSON, status=422)
        assert [".".join(error["loc"]) for error in found["detail"]] == [
            *["query.q", "header.h"],
            *["path.p", "body.b"],
            *["path.p", "query.q2", "header.h2", "cookie.c", "body.b2"],
        ]
        # Ours was asked for three times: with a body of bytes, of text, and as a stream.
        assert (both.ours.log, both.theirs.log) == (["fine"] * 3, ["fine"])


def test_errors_of_one_that_several_need_are_told_once(serve):
    app = CovetPy()

    def shared(q: int):
        return q

    def one(value: int = Depends(shared)):
        return value

    def two(value: int = Depends(shared), r: int = 0):
        return value

    @app.get("/")
    def handler(a: int = Depends(one), b: int = Depends(two), c: int = Depends(shared, use_cache=False)):
        return [a, b, c]

    instance = serve(app)
    # FastAPI tells `q` once for each that needs it.
    assert [error["loc"] for error in instance.get("/?q=x&r=x").json()["detail"]] == [
        ["query", "q"],
        ["query", "r"],
        ["query", "q"],
    ]
    assert instance.get("/?q=1").json() == [1, 1, 1]


def test_response_and_background_tasks_of_dependencies_are_those_of_the_handler(serve):
    def build(kit):
        def sets(response: kit.Response, tasks: kit.BackgroundTasks, q: str = "d"):
            response.headers["x-by"] = q
            response.set_cookie("c", q)
            response.status_code = 202
            tasks.add_task(kit.log.append, f"task of {q}")

        def around():
            yield
            kit.log.append("out")

        needs = [kit.Depends(sets)]

        @kit.app.get("/plain", dependencies=needs)
        def plain():
            return {}

        @kit.app.get("/own", dependencies=needs)
        def own(response: kit.Response, tasks: kit.BackgroundTasks, value=kit.Depends(around)):
            response.headers["x-own"] = "yes"
            response.status_code = 203
            tasks.add_task(kit.log.append, "task of handler")
            return {}

        @kit.app.get("/status", dependencies=needs, status_code=299)
        def status():
            return {}

        @kit.app.get("/made", dependencies=needs)
        def made():
            return kit.JSONResponse({"made": True}, 200, {"x-made": "yes"})

        @kit.app.get("/fails", dependencies=needs)
        def fails():
            raise kit.HTTPException(409)

    with twins(serve, build) as both:
        for path, tasks in (("/plain", 1), ("/own", 2), ("/status", 1), ("/made", 1), ("/fails", 0)):
            both.agree("GET", f"{path}?q=v")
            answer, reference = both.both("GET", f"{path}?q=v")
            for name in ("x-by", "x-own", "x-made"):
                assert answer.header(name) == reference.header(name), path
            cookies = [value.split(";")[0] for name, value in answer.headers if name == "set-cookie"]
            assert cookies == [value.split(";")[0] for name, value in reference.headers if name == "set-cookie"]
            assert len([line for line in both.logs() if line.startswith("task")]) == 2 * tasks


def test_context_variables_that_an_asynchronous_dependency_sets_are_those_of_the_handler(serve):
    var = contextvars.ContextVar("var", default="unset")

    def build(kit):
        async def sets(q: str):
            var.set(q)

        async def around(q: str):
            token = var.set(f"around {q}")
            yield
            kit.log.append(var.get())
            var.reset(token)

        @kit.app.get("/sync")
        def sync(made=kit.Depends(sets)):
            return {"var": var.get()}

        @kit.app.get("/async")
        async def asynchronous(made=kit.Depends(sets)):
            return {"var": var.get()}

        @kit.app.get("/around")
        async def in_between(made=kit.Depends(around)):
            return {"var": var.get()}

    assert check(serve, build, "/sync?q=1", "/async?q=2", "/around?q=3") == ["around 3"]
    assert var.get() == "unset"


def test_a_plain_function_that_sets_a_context_variable_does_so_for_its_request_only(serve):
    var = contextvars.ContextVar("var", default="unset")
    app = CovetPy()

    def sets(q: str):
        var.set(q)

    @app.get("/set", dependencies=[Depends(sets)])
    def handler():
        return {"var": var.get()}

    @app.get("/get")
    def get():
        return {"var": var.get()}

    instance = serve(app)
    assert instance.get("/set?q=1").json() == {"var": "1"}
    assert instance.get("/get").json() == {"var": "unset"}


# --- What follows a yield


def add_yielding(kit):
    """Dependencies that tell when they are entered and left, and with which exception."""

    def named(name, inner=None):
        def plain():
            kit.log.append(f"{name} in")
            try:
                yield name
            except BaseException as error:
                kit.log.append(f"{name}: {type(error).__name__}")
                raise
            finally:
                kit.log.append(f"{name} out")

        async def asynchronous(value=kit.Depends(inner) if inner else None):
            kit.log.append(f"{name} in")
            try:
                yield name
            except BaseException as error:
                kit.log.append(f"{name}: {type(error).__name__}")
                raise
            finally:
                await asyncio.sleep(0)
                kit.log.append(f"{name} out")

        return asynchronous if inner else plain

    one = named("one")
    return one, named("two", one), named("three")


def test_what_follows_a_yield_runs_in_reverse_order_whatever_happens(serve):
    def build(kit):
        app = kit.app
        _, two, three = add_yielding(kit)

        def refuses():
            raise kit.HTTPException(403, "no")

        def needs(n: int):
            return n

        @app.get("/fine")
        def fine(a=kit.Depends(two), b=kit.Depends(three)):
            kit.log.append("handler")
            return [a, b]

        @app.get("/http")
        async def http(a=kit.Depends(two), b=kit.Depends(three)):
            raise kit.HTTPException(418, "tea")

        @app.get("/invalid")
        def invalid(n: int, a=kit.Depends(two), b=kit.Depends(three)):
            return {}

        @app.get("/invalid-dependency")
        def invalid_dependency(a=kit.Depends(two), n=kit.Depends(needs), b=kit.Depends(three)):
            return {}

        @app.get("/refused")
        def refused(a=kit.Depends(two), n=kit.Depends(refuses), b=kit.Depends(three)):
            return {}

        @app.get("/made")
        def made(a=kit.Depends(two)):
            return kit.JSONResponse({}, 201)

        @app.get("/route", dependencies=[kit.Depends(three), kit.Depends(two)])
        def route():
            kit.log.append("handler")
            return {}

    with twins(serve, build) as both:
        for target, status in (
            ("/fine", 200),
            ("/http", 418),
            ("/invalid", 422),
            ("/invalid?n=1", 200),
            ("/invalid-dependency", 422),
            ("/refused", 403),
            ("/made", 201),
            ("/route", 200),
        ):
            both.agree("GET", target, status=status)
            log = both.logs()
            names = [line.split()[0] for line in log if line.endswith(" in")]
            assert [line.split()[0] for line in log if line.endswith(" out")] == names[::-1]


def test_exceptions_that_nobody_expects_are_raised_at_every_yield(serve, caplog):
    def build(kit):
        _, two, three = add_yielding(kit)

        @kit.app.get("/")
        def handler(a=kit.Depends(two), b=kit.Depends(three)):
            raise ValueError("v")

    with twins(serve, build) as both:
        answer, reference = both.both("GET", "/")
        assert answer.status == reference.status == 500
        assert both.logs() == [
            *["one in", "two in", "three in"],
            *["three: ValueError", "three out", "two: ValueError", "two out", "one: ValueError", "one out"],
        ]
    assert isinstance(caplog.records[0].exc_info[1], ValueError)


def test_a_dependency_may_answer_an_exception_with_another(serve, caplog):
    def build(kit):
        def turns():
            try:
                yield
            except ValueError as error:
                raise kit.HTTPException(410, str(error)) from error

        def around():
            try:
                yield
            except BaseException as error:
                kit.log.append(type(error).__name__)
                raise

        def swallows():
            try:
                yield
            except ValueError:
                kit.log.append("swallowed")

        @kit.app.get("/turned")
        def turned(outer=kit.Depends(around), inner=kit.Depends(turns)):
            raise ValueError("gone")

        @kit.app.get("/swallowed")
        def swallowed(inner=kit.Depends(swallows)):
            raise ValueError("v")

    with twins(serve, build) as both:
        both.agree("GET", "/turned", status=410)
        assert both.logs() == ["HTTPException"]
        answer, reference = both.both("GET", "/swallowed")
        # Nothing can be answered then, so the exception counts all the same.
        assert answer.status == reference.status == 500
        assert both.logs() == ["swallowed"]


def test_a_commit_that_fails_is_not_answered_with_200(serve, caplog):
    """FastAPI runs what follows a `yield` after the response, and could not say it any more."""
    app = CovetPy()

    def refuses():
        yield
        raise HTTPException(409, "conflict")

    def breaks():
        yield
        raise ValueError("broken")

    def never():
        if app is None:
            yield

    def twice():
        yield
        yield

    for name, dependency in (("refuses", refuses), ("breaks", breaks), ("never", never), ("twice", twice)):
        app.get(f"/{name}", dependencies=[Depends(dependency)])(lambda: "x")
    instance = serve(app)
    assert (instance.get("/refuses").status, instance.get("/refuses").json()) == (409, {"detail": "conflict"})
    assert [instance.get(path).status for path in ("/breaks", "/never", "/twice")] == [500, 500, 500]


@pytest.mark.parametrize("what", ["stream", "events", "generator", "background", "tasks"])
def test_what_is_still_to_be_done_has_its_dependencies(serve, what):
    app, log = CovetPy(), []

    def dependency():
        log.append("in")
        yield log
        log.append("out")

    async def pieces(log):
        for number in range(2):
            log.append(f"piece {number}")
            yield str(number)
            await asyncio.sleep(0.01)

    async def after(log):
        await asyncio.sleep(0.01)
        log.append("after")

    @app.get("/")
    def handler(tasks: BackgroundTasks, log: list = Depends(dependency)):
        if what == "stream":
            return StreamingResponse(pieces(log))
        if what == "generator":
            return pieces(log)
        if what == "events":
            from covet import EventSourceResponse

            return EventSourceResponse(pieces(log))
        if what == "background":
            return Response("x", background=partial(after, log))
        tasks.add_task(after, log)
        return "x"

    instance = serve(app)
    task = instance.begin("GET", "/")
    instance.host.run(lambda: task.returned)
    assert "out" not in log
    instance.host.run()
    assert log in (["in", "piece 0", "piece 1", "out"], ["in", "after", "out"])


def test_dependencies_of_a_stream_are_left_when_the_client_has_gone(serve):
    app, log = CovetPy(), []

    async def dependency():
        try:
            yield
        finally:
            log.append("out")

    @app.get("/", dependencies=[Depends(dependency)])
    async def handler():
        async def endless():
            while True:
                yield "x"
                await asyncio.sleep(1)

        return StreamingResponse(endless())

    instance = serve(app)
    task = instance.begin("GET", "/")
    instance.host.run(seconds=3)
    assert log == []
    instance.host.hang_up(task.streamed)
    instance.host.run()
    assert log == ["out"]


def test_without_a_stream_dependencies_are_left_before_the_response(serve):
    app, log = CovetPy(), []

    async def dependency():
        yield
        await asyncio.sleep(1)
        log.append("out")

    @app.get("/", dependencies=[Depends(dependency)])
    def handler():
        return "x"

    instance = serve(app)
    task = instance.begin("GET", "/")
    instance.host.run(lambda: task.returned)
    assert log == ["out"]


def test_an_exit_that_fails_after_the_response_is_in_the_log_and_the_others_run(serve, caplog):
    app, log = CovetPy(), []

    def first():
        try:
            yield
        finally:
            log.append("first")

    def second():
        yield
        raise ValueError("too late")

    @app.get("/")
    def handler(one: None = Depends(first), two: None = Depends(second)):
        return StreamingResponse(iter(["x"]))

    assert serve(app).get("/").text == "x"
    assert log == ["first"]
    assert "too late" in caplog.text


def test_requests_that_overlap_have_dependencies_of_their_own(serve):
    app, log = CovetPy(), []

    async def dependency(n: int):
        await asyncio.sleep(n / 100)
        value = [n]
        yield value
        log.append(value)

    def same(value: list = Depends(dependency)):
        return value

    @app.get("/")
    async def handler(one: list = Depends(dependency), two: list = Depends(same)):
        await asyncio.sleep(0.05)
        one.append(one is two)
        return one

    instance = serve(app)
    tasks = [instance.begin("GET", f"/?n={n}") for n in (3, 1, 2)]
    instance.host.run()
    assert [instance.answer(task).json() for task in tasks] == [[3, True], [1, True], [2, True]]
    assert log == [[1, True], [2, True], [3, True]]


# --- Security


def test_scopes_are_those_of_all_that_is_on_the_way(serve):
    def build(kit):
        def leaf(scopes: kit.SecurityScopes):
            kit.log.append("leaf")
            return scopes.scopes

        def middle(scopes: kit.SecurityScopes, value=kit.Security(leaf, scopes=["m"])):
            kit.log.append("middle")
            return [value, scopes.scopes, scopes.scope_str]

        def plain(value=kit.Depends(leaf)):
            return value

        @kit.app.get("/nested")
        def nested(
            a=kit.Security(middle, scopes=["a", "b"]),
            b=kit.Security(middle, scopes=["c"]),
            c=kit.Depends(middle),
            d=kit.Security(leaf, scopes=["m", "x"]),
        ):
            return [a, b, c, d]

        @kit.app.get("/through")
        def through(a=kit.Security(plain, scopes=["p"]), b=kit.Security(plain, scopes=["q"]), c=kit.Depends(plain)):
            return [a, b, c]

        @kit.app.get("/same", dependencies=[kit.Security(leaf, scopes=["z"])])
        def same(a=kit.Security(leaf, scopes=["z"]), b=kit.Security(leaf, scopes=["z"], use_cache=False)):
            return [a, b]

        @kit.app.get("/twice")
        def twice(a=kit.Security(middle, scopes=["n", "m"])):
            return a

        router = kit.APIRouter(dependencies=[kit.Security(leaf, scopes=["router"])])
        router.add_api_route("/router", nested) if kit.name == "fastapi" else router.add_route("/router", nested)
        kit.app.include_router(router, dependencies=[kit.Security(middle, scopes=["inclusion"])])

    check(serve, build, "/nested", "/through", "/same", "/twice", "/router")


AUTHORIZATIONS = [
    [],
    [("authorization", "Bearer abc")],
    [("authorization", "bearer  abc ")],
    [("authorization", "Bearer")],
    [("authorization", "Basic dTpw")],
    [("authorization", "Basic !!")],
    [("authorization", "Digest abc")],
    [("authorization", "")],
    [("x-key", "K")],
    [("cookie", "k=C")],
]


def test_security_schemes_are_dependencies(serve):
    def build(kit):
        schemes = {
            "bearer": kit.HTTPBearer(),
            "bearer-none": kit.HTTPBearer(auto_error=False),
            "basic": kit.HTTPBasic(),
            "header": kit.APIKeyHeader(name="X-Key"),
            "query": kit.APIKeyQuery(name="k"),
            "cookie": kit.APIKeyCookie(name="k"),
            "oauth": kit.OAuth2PasswordBearer(tokenUrl="token"),
        }
        for name, scheme in schemes.items():

            def user(found=kit.Security(scheme, scopes=["a"])):
                return found

            def handler(found=kit.Depends(user)):
                return found.__dict__ if hasattr(found, "__dict__") else {"found": found}

            kit.app.get(f"/{name}", name=name)(handler)

    with twins(serve, build) as both:
        for name in ("bearer", "bearer-none", "basic", "header", "query", "cookie", "oauth"):
            for headers in AUTHORIZATIONS:
                for target in (f"/{name}", f"/{name}?k=Q"):
                    answer, reference = both.both("GET", target, headers=headers)
                    assert answer.status == reference.status, (target, headers)
                    assert answer.header("www-authenticate") == reference.header("www-authenticate")
                    if answer.status != 200 or name in ("header", "query", "cookie", "oauth"):
                        both.agree("GET", target, headers=headers)


# --- Overrides


def test_other_functions_may_be_put_in_the_place_of_dependencies(serve):
    def build(kit):
        def real():
            return "real"

        def nested(value=kit.Depends(real)):
            return f"nested {value}"

        @kit.app.get("/", dependencies=[kit.Depends(real)])
        def handler(one=kit.Depends(real), two=kit.Depends(nested)):
            return [one, two]

        def other(q: int = 1):
            return f"other {q}"

        async def later():
            yield "later"

        kit.real, kit.nested, kit.other, kit.later = real, nested, other, later

    with twins(serve, build) as both:

        def agree(targets, expected):
            # The host is told of the routes anew.
            both.instance = serve(both.ours.app)
            assert [both.agree("GET", target) for target in targets] == expected

        agree(["/"], [["real", "nested real"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides[kit.real] = kit.other
        agree(["/", "/?q=5"], [["other 1", "nested other 1"], ["other 5", "nested other 5"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides[kit.nested] = kit.later
            del kit.app.dependency_overrides[kit.real]
        agree(["/"], [["real", "later"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides.clear()
        agree(["/"], [["real", "nested real"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides = {kit.real: kit.other}
        agree(["/?q=2"], [["other 2", "nested other 2"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides.update({kit.real: kit.later})
            kit.app.dependency_overrides |= {kit.nested: kit.later}
        agree(["/"], [["later", "later"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides.popitem()
            kit.app.dependency_overrides.pop(kit.real)
            kit.app.dependency_overrides.setdefault(kit.real, kit.other)
        agree(["/"], [["other 1", "nested other 1"]])
        for kit in (both.ours, both.theirs):
            kit.app.dependency_overrides = {}
        agree(["/"], [["real", "nested real"]])


def test_those_of_the_application_and_of_routers_are_overridden_too(serve):
    log = []

    def real():
        log.append("real")

    def other():
        log.append("other")

    app = CovetPy(dependencies=[Depends(real)])
    router = Router(prefix="/r", dependencies=[Depends(real)])
    router.add_route("/x", lambda: "x", dependencies=[Depends(real, use_cache=False)])
    app.include_router(router)
    serve(app).get("/r/x")
    assert log == ["real", "real"]
    app.dependency_overrides[real] = other
    serve(app).get("/r/x")
    assert log == ["real", "real", "other", "other"]
    app.dependency_overrides.clear()
    serve(app).get("/r/x")
    assert log[4:] == ["real", "real"]


def test_an_override_changes_what_is_async_and_what_is_sync(serve):
    app = CovetPy()

    async def real():
        await asyncio.sleep(0.01)
        return "real"

    @app.get("/")
    def handler(value: str = Depends(real)):
        return value

    assert serve(app).get("/").text == "real"
    app.dependency_overrides[real] = lambda: "plain"
    assert serve(app).get("/").text == "plain"


# --- What cannot be served


def test_what_cannot_be_called_is_refused_where_it_is_written():
    app = CovetPy()

    def unknown(n: object()):
        pass

    def rest(*values):
        pass

    def of_itself(value=None):
        pass

    of_itself.__defaults__ = (Depends(of_itself),)
    cases: list[tuple[Any, str]] = [
        (unknown, "in the dependency unknown"),
        (rest, r"in the dependency rest: the parameter \*values"),
        (of_itself, "depends on itself"),
    ]
    for dependency, message in cases:

        def handler(value=Depends(dependency)):
            pass

        with pytest.raises(TypeError, match=message):
            app.get("/")(handler)
    with pytest.raises(TypeError, match="a dependency is a function"):
        Depends(5)
    with pytest.raises(TypeError, match="without a function"):
        app.get("/")(lambda value=Depends(): value)
    with pytest.raises(TypeError, match=r"dependencies is a list of Depends"):
        app.get("/", dependencies=[unknown])(lambda: "x")
    with pytest.raises(TypeError, match="scopes is a list"):
        Security(unknown, scopes="a b")


def test_a_dependency_that_is_no_function_of_the_request_at_all_is_called_without_arguments(serve):
    app = CovetPy()
    app.get("/")(lambda value=Depends(dict): {"made": value})
    assert serve(app).get("/").json() == {"made": {}}


def test_dependencies_may_come_from_annotations_alone(serve):
    app = CovetPy()

    def user(x_user: Annotated[str, Header()] = "nobody"):
        return x_user

    User = Annotated[str, Depends(user)]
    Limit = Annotated[int, Query(ge=1)]

    @app.get("/")
    def handler(user: User, limit: Limit = 5, *, request: Request, scopes: SecurityScopes):
        return JSONResponse([user, limit, request.method, scopes.scopes])

    instance = serve(app)
    assert instance.get("/?limit=3", headers=[("x-user", "me")]).json() == ["me", 3, "GET", []]
    assert instance.get("/?limit=0").status == 422
