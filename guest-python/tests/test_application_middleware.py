"""What is around handlers: the order of middleware and hooks, what they may do, and what exceptions do on their way."""

import asyncio
import contextvars

import pytest

from covet import (
    BaseMiddleware,
    CovetPy,
    Depends,
    HTTPException,
    JSONResponse,
    PlainTextResponse,
    Request,
    Response,
    Router,
    StreamingResponse,
)


class Noting(BaseMiddleware):
    """Writes down when a request goes in and when its response comes out."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    async def __call__(self, request, call_next):
        self.log.append(f"{self.name} in")
        try:
            return await call_next(request)
        finally:
            self.log.append(f"{self.name} out")


def noting(name, log):
    return (Noting, {"name": name, "log": log})


def nested(*names):
    return [f"{name} in" for name in names] + ["handler"] + [f"{name} out" for name in reversed(names)]


def test_the_first_one_is_outermost_and_the_applications_are_around_those_of_routers_and_routes(serve):
    log = []
    inner = Router(prefix="/inner", middleware=[noting("inner 1", log), noting("inner 2", log)])

    @inner.get("/x", middleware=[noting("route 1", log), noting("route 2", log)])
    def handler():
        log.append("handler")
        return "x"

    outer = Router(prefix="/outer", middleware=[noting("outer", log)])
    outer.include_router(inner, middleware=[noting("inclusion", log)])
    app = CovetPy(middleware=[noting("app 1", log)])
    app.add_middleware(Noting, name="app 2", log=log)

    @app.middleware("http")
    async def app_3(request, call_next):
        log.append("app 3 in")
        response = await call_next(request)
        log.append("app 3 out")
        return response

    app.include_router(outer)

    assert serve(app).get("/outer/inner/x").text == "x"
    assert log == nested("app 1", "app 2", "app 3", "outer", "inclusion", "inner 1", "inner 2", "route 1", "route 2")


def test_hooks_are_inside_of_the_middleware_of_the_application_and_around_that_of_routes(serve):
    log = []
    app = CovetPy(middleware=[noting("app", log)])

    @app.before_request
    def before(request):
        log.append("before 1")

    @app.before_request
    async def before_too(request):
        await asyncio.sleep(0)
        log.append("before 2")

    @app.after_request
    def after(request, response):
        log.append("after 1")

    @app.after_request
    async def after_too(request, response):
        await asyncio.sleep(0)
        log.append("after 2")

    @app.get("/", middleware=[noting("route", log)])
    def handler():
        log.append("handler")
        return "x"

    assert serve(app).get("/").text == "x"
    assert log == [
        "app in",
        "before 1",
        "before 2",
        "route in",
        "handler",
        "route out",
        "after 1",
        "after 2",
        "app out",
    ]


def test_a_hook_that_returns_something_answers_in_the_place_of_the_handler(serve):
    app = CovetPy()
    called = []

    @app.before_request
    async def before(request):
        if request.path == "/closed":
            return {"closed": True}, 503
        return None

    @app.after_request
    def after(request, response):
        response.headers["x-status"] = str(response.status_code)

    @app.get("/{name}")
    def handler(name: str):
        called.append(name)
        return name

    instance = serve(app)
    closed = instance.get("/closed")
    assert (closed.status, closed.json(), closed.header("x-status")) == (503, {"closed": True}, "503")
    assert instance.get("/open").header("x-status") == "200"
    assert called == ["open"]


def test_a_hook_may_put_another_response_in_the_place_of_the_handlers(serve):
    app = CovetPy()

    @app.after_request
    def after(request, response):
        if request.query_params.get("as") == "dict":
            return {"was": response.body}
        if request.query_params.get("as") == "response":
            return Response("new", 202)
        return None

    @app.get("/", status_code=201)
    def handler():
        return "old"

    instance = serve(app)
    assert [instance.get(target).text for target in ("/", "/?as=dict", "/?as=response")] == ["old", '{"was":"old"}', "new"]
    assert [instance.get(target).status for target in ("/", "/?as=dict", "/?as=response")] == [201, 201, 202]


def test_hooks_see_the_responses_of_exceptions_that_are_handled_and_not_the_others(serve, caplog):
    app = CovetPy()
    seen = []

    @app.after_request
    def after(request, response):
        seen.append(response.status_code)

    @app.get("/{kind}")
    def handler(kind: int):
        raise HTTPException(409) if kind == 1 else ValueError(kind)

    instance = serve(app)
    assert [instance.get(path).status for path in ("/1", "/x", "/2")] == [409, 422, 500]
    assert seen == [409, 422]
    assert [record.exc_info[0] for record in caplog.records] == [ValueError]


@pytest.mark.parametrize("where", ["application", "router", "route"])
def test_a_plain_function_may_be_a_middleware(serve, where):
    def plain(request, call_next):
        if request.query_params:
            return PlainTextResponse("no queries", 400)
        # It cannot await, so it gives back what is to be awaited.
        return call_next(request)

    here = {one: [plain] if one == where else [] for one in ("application", "router", "route")}
    router = Router(middleware=here["router"])

    @router.get("/", middleware=here["route"])
    def handler():
        return "x"

    app = CovetPy(middleware=here["application"])
    app.include_router(router)
    instance = serve(app)
    assert instance.get("/").text == "x"
    assert (instance.get("/?a=1").status, instance.get("/?a=1").text) == (400, "no queries")


def test_an_object_and_a_class_with_call_may_be_a_middleware(serve):
    class Plain:
        def __call__(self, request, call_next):
            return call_next(request)

    class Adds:
        def __init__(self, value="class"):
            self.value = value

        async def __call__(self, request, call_next):
            response = await call_next(request)
            response.headers.append("x-by", self.value)
            return response

    app = CovetPy()
    app.add_middleware(Plain)
    app.add_middleware(Adds)
    app.add_middleware(Adds, value="options")
    app.add_middleware(Adds("object"))

    @app.get("/", middleware=[Adds, Plain()])
    def handler():
        return "x"

    found = [value for name, value in serve(app).get("/").headers if name == "x-by"]
    assert found == ["class", "object", "options", "class"]


def test_what_is_registered_once_is_one_object_for_all_routes(serve):
    class Counts:
        made = 0

        def __init__(self):
            type(self).made += 1
            self.number = type(self).made
            self.requests = 0

        async def __call__(self, request, call_next):
            self.requests += 1
            response = await call_next(request)
            response.headers.append("x-count", f"{self.number}:{self.requests}")
            return response

    first, second = Router(prefix="/first", middleware=[Counts]), Router(prefix="/second", middleware=[(Counts, {})])
    for router in (first, second):
        for path in ("/a", "/b"):
            router.add_route(path, lambda: "x")
    app = CovetPy()
    app.include_router(first)
    app.include_router(second)
    instance = serve(app)

    counts = [instance.get(path).header("x-count") for path in ("/first/a", "/first/b", "/second/a", "/first/a")]
    assert counts == ["1:1", "1:2", "2:1", "1:3"]
    # What is compiled again keeps them.
    app.dependency_overrides[len] = len
    assert serve(app).get("/second/b").header("x-count") == "2:2"


@pytest.mark.parametrize(
    ("registered", "options", "message"),
    [
        (5, {}, "no middleware"),
        (Noting, {"unknown": 1}, "Noting cannot be made"),
        (Noting, {}, "Noting cannot be made"),
        (lambda request, call_next: None, {"a": 1}, "options are for a class"),
    ],
)
def test_what_cannot_be_a_middleware_is_refused_before_the_first_request(registered, options, message):
    app = CovetPy()
    app.get("/")(lambda: "x")

    def build():
        app.add_middleware(registered, **options)
        app._finish()

    with pytest.raises(TypeError, match=message):
        build()


def test_there_is_no_other_kind_of_middleware():
    with pytest.raises(ValueError, match="websocket"):
        CovetPy().middleware("websocket")


def test_requests_that_no_route_takes_go_through_the_middleware_too(serve):
    log = []
    app = CovetPy(middleware=[noting("app", log)])
    app.get("/a")(lambda: "a")
    app.add_route("/a", lambda: "d", ["DELETE"])
    instance = serve(app)

    missing = instance.get("/nothing")
    assert (missing.status, missing.json()) == (404, {"detail": "Not Found"})
    assert log == ["app in", "app out"]
    wrong = instance.post("/a", "x")
    assert (wrong.status, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert sorted(wrong.header("allow").split(", ")) == ["DELETE", "GET", "HEAD"]


def test_without_anything_around_the_host_answers_what_no_route_takes(serve):
    app = CovetPy()
    app.get("/a")(lambda: "a")
    instance = serve(app)
    with pytest.raises(LookupError):
        instance.get("/nothing")


@pytest.mark.parametrize("key", [404, HTTPException])
def test_a_handler_of_what_no_route_takes_is_asked(serve, key):
    app = CovetPy()
    app.get("/a")(lambda: "a")

    @app.exception_handler(key)
    def handled(request, error):
        return PlainTextResponse(f"there is no {request.path}", error.status_code)

    answer = serve(app).get("/nothing")
    assert (answer.status, answer.text) == (404, "there is no /nothing")


def test_a_route_of_ones_own_for_everything_is_asked_before(serve):
    app = CovetPy(middleware=[noting("app", [])])

    @app.route("/{rest:path}", ["*"])
    def everything(rest: str):
        return f"mine {rest}"

    assert serve(app).get("/nothing/at/all").text == "mine nothing/at/all"


def test_state_and_context_go_from_middleware_to_handler_and_back(serve):
    user = contextvars.ContextVar("user", default="nobody")

    async def outer(request, call_next):
        request.state.seen = ["outer"]
        token = user.set("outer")
        response = await call_next(request)
        assert user.get() == "handler"
        user.reset(token)
        response.headers["x-seen"] = " ".join(request.state.seen)
        return response

    async def inner(request, call_next):
        request.state.seen.append(user.get())
        return await call_next(request)

    app = CovetPy(middleware=[outer, inner])

    @app.get("/")
    async def handler(request: Request):
        request.state.seen.append("handler")
        user.set("handler")
        return {"user": user.get()}

    instance = serve(app)
    assert instance.get("/").header("x-seen") == "outer outer handler"
    assert user.get() == "nobody"


def test_requests_that_overlap_have_contexts_and_states_of_their_own(serve):
    number = contextvars.ContextVar("number")

    async def outer(request, call_next):
        number.set(request.query_params["n"])
        request.state.number = request.query_params["n"]
        await asyncio.sleep(0.01)
        response = await call_next(request)
        response.headers["x-number"] = number.get()
        return response

    app = CovetPy(middleware=[outer])

    def dependency(request: Request):
        yield number.get()
        request.state.left = number.get()

    @app.get("/")
    async def handler(request: Request, before: str = Depends(dependency)):
        await asyncio.sleep(0.01 * int(number.get()))
        return [before, number.get(), request.state.number]

    instance = serve(app)
    tasks = [instance.begin("GET", f"/?n={n}") for n in (3, 1, 2)]
    instance.host.run()
    answers = [instance.answer(task) for task in tasks]
    assert [answer.json() for answer in answers] == [["3"] * 3, ["1"] * 3, ["2"] * 3]
    assert [answer.header("x-number") for answer in answers] == ["3", "1", "2"]


def test_a_middleware_gets_the_response_that_the_handler_has_made(serve):
    made = []

    async def around(request, call_next):
        response = await call_next(request)
        made.append((type(response), response))
        return response

    app = CovetPy(middleware=[around])
    mine = PlainTextResponse("mine")
    results = {"dict": {"a": 1}, "text": "t", "bytes": b"b", "tuple": ({"a": 1}, 201), "mine": mine}

    @app.get("/{kind}")
    def handler(kind: str):
        return iter_pieces() if kind == "stream" else results[kind]

    def iter_pieces():
        yield "a"
        yield b"b"

    instance = serve(app)
    contents = [instance.get(f"/{kind}").content for kind in (*results, "stream")]
    assert contents == [b'{"a":1}', b"t", b"b", b'{"a":1}', b"mine", b"ab"]
    types = [type_ for type_, _ in made]
    assert types == [JSONResponse, PlainTextResponse, Response, JSONResponse, PlainTextResponse, StreamingResponse]
    assert made[4][1] is mine
    assert [response.status_code for _, response in made] == [200, 200, 200, 201, 200, 200]


def test_a_middleware_may_change_status_headers_body_and_pieces(serve):
    async def shout(request, call_next):
        response = await call_next(request)
        response.status_code += 1
        response.headers["x-a"] = "b"
        del response.headers["content-type"]
        if isinstance(response, StreamingResponse):
            pieces = response.body_iterator

            async def louder():
                async for piece in pieces:
                    yield piece.upper()

            response.body_iterator = louder()
        else:
            response.body = response.body.upper()
        return response

    app = CovetPy(middleware=[shout])

    async def pieces():
        yield "a"
        await asyncio.sleep(0.01)
        yield "b"

    app.get("/whole")(lambda: "ab")
    app.get("/stream")(lambda: StreamingResponse(pieces(), media_type="text/plain"))
    instance = serve(app)
    for path in ("/whole", "/stream"):
        answer = instance.get(path)
        assert (answer.status, answer.headers, answer.content) == (201, [("x-a", "b")], b"AB")


def test_what_is_no_response_is_a_500_that_names_the_middleware(serve, caplog):
    async def forgetful(request, call_next):
        await call_next(request)

    app = CovetPy(middleware=[forgetful])
    app.get("/")(lambda: "x")
    assert serve(app).get("/").status == 500
    assert "the middleware forgetful returned NoneType, not a Response" in str(caplog.records[0].exc_info[1])


def test_exceptions_that_have_a_handler_are_responses_by_then_and_others_pass(serve, caplog):
    class Known(Exception):
        pass

    seen = []

    async def around(request, call_next):
        try:
            response = await call_next(request)
        except Exception as error:
            seen.append(repr(error))
            raise
        seen.append(response.status_code)
        return response

    app = CovetPy(middleware=[around])

    @app.exception_handler(Known)
    def known(request, error):
        return PlainTextResponse("known", 418)

    @app.exception_handler(Exception)
    def unknown(request, error):
        return PlainTextResponse(f"unknown {error}", 500)

    errors = {"known": Known(), "http": HTTPException(403), "unknown": ValueError("v")}

    @app.get("/{kind}")
    def handler(kind: str, n: int = 0):
        raise errors[kind]

    instance = serve(app)
    assert [instance.get(target).status for target in ("/known", "/http", "/known?n=x")] == [418, 403, 422]
    assert instance.get("/unknown").text == "unknown v"
    assert seen == [418, 403, 422, "ValueError('v')"]


def test_a_middleware_may_answer_an_exception_that_nobody_else_does(serve, caplog):
    async def around(request, call_next):
        try:
            return await call_next(request)
        except ZeroDivisionError:
            return PlainTextResponse("divided by zero", 400)

    app = CovetPy(middleware=[around])

    @app.get("/")
    def handler():
        return 1 / 0

    answer = serve(app).get("/")
    assert (answer.status, answer.text, caplog.records) == (400, "divided by zero", [])


def test_exceptions_of_a_middleware_have_handlers_too(serve, caplog):
    class Refused(Exception):
        pass

    async def refuses(request, call_next):
        if "before" in request.query_params:
            raise request.app.state.error
        await call_next(request)
        raise request.app.state.error

    app = CovetPy(middleware=[refuses])
    app.get("/")(lambda: "x")

    @app.exception_handler(Refused)
    async def refused(request, error):
        return {"refused": True}, 403

    instance = serve(app)
    for target in ("/?before=1", "/", "/nothing"):
        app.state.error = Refused()
        assert (instance.get(target).status, instance.get(target).json()) == (403, {"refused": True})
        app.state.error = HTTPException(429, "slowly", {"retry-after": "5"})
        answer = instance.get(target)
        assert (answer.status, answer.json(), answer.header("retry-after")) == (429, {"detail": "slowly"}, "5")
        app.state.error = ValueError()
        assert instance.get(target).status == 500


def test_a_request_may_be_tried_again(serve):
    async def retries(request, call_next):
        response = await call_next(request)
        return response if response.status_code != 503 else await call_next(request)

    log = []

    def dependency():
        log.append("in")
        yield len(log)
        log.append("out")

    app = CovetPy(middleware=[retries])

    @app.post("/")
    async def handler(request: Request, body: dict[str, int], count: int = Depends(dependency)):
        log.append(f"handler {body['a']} {count}")
        if count == 1:
            raise HTTPException(503)
        return "x"

    assert serve(app).post("/", '{"a":7}', headers=[("content-type", "application/json")]).text == "x"
    assert log == ["in", "handler 7 1", "in", "handler 7 3", "out"]


@pytest.mark.parametrize("arrival", [str, bytes, "stream"])
def test_a_body_that_a_middleware_has_read_is_there_for_the_handler(serve, arrival):
    seen = []

    async def reads(request, call_next):
        seen.append(await getattr(request, request.query_params["as"])())
        return await call_next(request)

    app = CovetPy(middleware=[reads])

    @app.post("/model")
    def model(body: dict[str, int]):
        return body

    @app.post("/request")
    async def request_(request: Request):
        return await request.json()

    instance = serve(app)
    for path in ("/model", "/request"):
        for how, expected in (("body", b'{"a":1}'), ("text", '{"a":1}'), ("json", {"a": 1})):
            body = {str: '{"a":1}', bytes: b'{"a":1}'}.get(arrival) or instance.host.body(b'{"a"', b":1}")[0]
            answer = instance.post(f"{path}?as={how}", body, headers=[("content-type", "application/json")])
            assert (answer.status, answer.json(), seen.pop()) == (200, {"a": 1}, expected)


def test_a_stream_that_a_middleware_has_read_away_ends_the_request_and_does_not_hang(serve, caplog):
    async def reads(request, call_next):
        async for _ in request.stream():
            pass
        return await call_next(request)

    app = CovetPy(middleware=[reads])

    @app.post("/")
    async def handler(request: Request):
        return await request.text()

    instance = serve(app)
    reader, _ = instance.host.body(b"abc")
    assert instance.post("/", reader).status == 500
    assert "read already" in str(caplog.records[0].exc_info[1])


def test_a_middleware_may_answer_without_reading_the_body(serve):
    async def refuses(request, call_next):
        return PlainTextResponse("too large", 413)

    app = CovetPy(middleware=[refuses])
    app.post("/")(lambda: "x")
    instance = serve(app)
    reader, _ = instance.host.body(b"abc", ended=False)
    assert instance.post("/", reader).status == 413


def test_the_answer_of_a_middleware_has_its_own_background(serve):
    log = []

    async def background():
        log.append("done")

    async def answers(request, call_next):
        await call_next(request)
        return Response("mine", background=background)

    app = CovetPy(middleware=[answers])
    app.get("/")(lambda: "x")
    assert serve(app).get("/").text == "mine"
    assert log == ["done"]


def test_dependencies_of_a_streamed_response_end_after_it_whatever_a_middleware_does(serve):
    log = []

    async def wraps(request, call_next):
        response = await call_next(request)
        log.append("out")
        return response

    def dependency():
        yield
        log.append("left")

    app = CovetPy(middleware=[wraps])

    @app.get("/", dependencies=[Depends(dependency)])
    def handler():
        def pieces():
            yield "a"
            log.append("streamed")

        return StreamingResponse(pieces())

    assert serve(app).get("/").text == "a"
    assert log == ["out", "streamed", "left"]


def test_dependencies_end_also_where_a_middleware_answers_something_else(serve):
    log = []

    async def replaces(request, call_next):
        await call_next(request)
        return PlainTextResponse("other")

    def dependency():
        yield
        log.append("left")

    app = CovetPy(middleware=[replaces])

    @app.get("/", dependencies=[Depends(dependency)])
    def handler():
        return StreamingResponse(iter(["a"]))

    assert serve(app).get("/").text == "other"
    assert log == ["left"]


def test_routes_that_are_mounted_have_their_applications_middleware_hooks_and_handlers(serve):
    log = []
    below = CovetPy(middleware=[noting("below", log)], default_response_class=PlainTextResponse)

    @below.before_request
    def before(request):
        log.append("before")

    @below.after_request
    def after(request, response):
        log.append("after")

    @below.exception_handler(LookupError)
    def missing(request, error):
        return PlainTextResponse("below", 410)

    @below.get("/x")
    def handler(fail: bool = False):
        log.append("handler")
        if fail:
            raise KeyError
        return "x"

    app = CovetPy(middleware=[noting("app", log)])
    app.mount("/below", below)

    @app.exception_handler(LookupError)
    def missing_here(request, error):
        return PlainTextResponse("above", 410)

    instance = serve(app)
    assert instance.get("/below/x").text == "x"
    assert log == ["app in", "below in", "before", "handler", "after", "below out", "app out"]
    assert instance.get("/below/x?fail=1").text == "below"
