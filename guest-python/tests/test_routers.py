"""Routers and routes: inclusion, prefixes, mounts, converters, options, and URLs that are made of names."""

import uuid
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import Instance
from twins import twins

from covet import (
    APIRouter,
    CovetPy,
    Depends,
    HTMLResponse,
    HTTPException,
    JSONResponse,
    Path,
    PlainTextResponse,
    RedirectResponse,
    Request,
    Response,
    Router,
    StreamingResponse,
)
from covet._native.matching import Found, RouteKey
from covet._native.matching import Router as Matcher


def paths(app):
    """What the host is told, without what every application has."""
    own = ("/openapi.json", "/docs", "/redoc")
    instance = Instance(app, startup=False)
    return [(route.method, route.pattern, route.name) for route in instance.routes if not route.pattern.startswith(own)]


# --- Inclusion


def test_every_method_has_a_decorator_and_several_have_one(serve):
    app = CovetPy()
    for method in ("get", "post", "put", "patch", "delete", "head", "options", "trace"):
        getattr(app, method)("/one")(lambda request: request.method)
    app.route("/two", ["GET", "put"])(lambda request: request.method)
    app.api_route("/three", methods=["DELETE"])(lambda request: request.method)
    app.route("/any", ["*"])(lambda request: request.method)
    app.add_route("/four", lambda request: request.method)
    app.add_api_route("/five", lambda request: request.method, methods=["POST"], name="five")
    instance = serve(app)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"):
        assert instance.request(method, "/one").text == method
        assert instance.request(method, "/any").text == method
    assert instance.request("PROPFIND", "/any").text == "PROPFIND"
    assert [instance.request("PUT", "/two").text, instance.get("/two").text] == ["PUT", "GET"]
    assert instance.request("DELETE", "/three").text == "DELETE"
    assert [instance.get("/four").text, instance.post("/five").text] == ["GET", "POST"]
    with pytest.raises(LookupError):
        instance.request("DELETE", "/two")


def test_a_decorator_gives_the_function_back_and_may_be_repeated(serve):
    app = CovetPy()

    @app.get("/a")
    @app.post("/b", status_code=201)
    def handler():
        return "x"

    assert handler() == "x"
    instance = serve(app)
    assert (instance.get("/a").status, instance.post("/b").status) == (200, 201)


def test_routers_are_included_as_in_fastapi(serve):
    def build(kit):
        items = kit.APIRouter(prefix="/items", tags=["items"])

        @items.get("")
        def every():
            return ["every"]

        @items.get("/")
        def slash():
            return ["slash"]

        @items.get("/{item_id}")
        def one(item_id: int):
            return {"item": item_id}

        nested = kit.APIRouter()

        @nested.get("/{name}/deep")
        def deep(tenant: str, name: str, q: int = 1):
            return [tenant, name, q]

        @nested.api_route("/methods", methods=["PUT", "PATCH"])
        def methods(request: kit.Request):
            return {"method": request.method}

        tenants = kit.APIRouter(prefix="/{tenant}")
        tenants.include_router(nested, prefix="/nested")

        @tenants.get("/checked")
        def checked(tenant: Annotated[str, kit.Path(min_length=2)]):
            return {"tenant": tenant}

        kit.app.include_router(items)
        kit.app.include_router(items, prefix="/v2")
        kit.app.include_router(tenants, prefix="/tenants")

        # What comes later is there too.
        @items.get("/later/on")
        def later():
            return ["later"]

        @nested.get("/later")
        def nested_later(tenant: str):
            return [tenant]

    with twins(serve, build) as both:
        for prefix in ("", "/v2"):
            for path in ("/items", "/items/", "/items/7", "/items/x", "/items/later/on"):
                both.agree("GET", prefix + path)
        for path in ("/tenants/me/nested/you/deep?q=2", "/tenants/me/nested/you/deep?q=x", "/tenants/me/nested/later"):
            both.agree("GET", path)
        for path, status in (("/tenants/me/checked", 200), ("/tenants/m/checked", 422)):
            both.agree("GET", path, status=status)
        for method in ("PUT", "PATCH"):
            both.agree(method, "/tenants/me/nested/methods")


def test_one_router_may_be_in_several_and_each_has_its_own_surroundings(serve):
    log = []

    def says(name):
        return Depends(lambda: log.append(name))

    shared = Router()
    shared.add_route("/x", lambda: "x", dependencies=[says("route")])
    one, two = Router(prefix="/one", dependencies=[says("one")]), Router(prefix="/two")
    one.include_router(shared, dependencies=[says("inclusion")])
    two.include_router(shared, prefix="/deep")
    app = CovetPy()
    app.include_router(one)
    app.include_router(two, prefix="/under")
    app.include_router(shared)
    instance = serve(app)
    for path in ("/one/x", "/under/two/deep/x", "/x"):
        assert instance.get(path).text == "x"
        log.append("|")
    assert log == ["one", "inclusion", "route", "|", "route", "|", "route", "|"]


def test_a_router_may_not_include_itself():
    outer, inner, innermost = Router(), Router(), Router()
    outer.include_router(inner)
    inner.include_router(innermost)
    for router, other in ((outer, outer), (inner, outer), (innermost, outer)):
        with pytest.raises(ValueError, match="cannot include itself"):
            router.include_router(other)


@pytest.mark.parametrize("prefix", ["x", "/x/", "/"])
def test_a_prefix_begins_with_a_slash_and_does_not_end_with_one(prefix):
    with pytest.raises(ValueError, match="must begin with '/' and not end with it"):
        Router(prefix=prefix)
    with pytest.raises(ValueError, match="must begin with '/' and not end with it"):
        CovetPy().include_router(Router(), prefix=prefix)


def test_a_path_that_is_empty_in_the_end_is_refused():
    router = Router()
    router.get("")(lambda: "x")
    with pytest.raises(ValueError, match="must begin with '/'"):
        CovetPy().include_router(router)
    with pytest.raises(ValueError, match="must begin with '/'"):
        CovetPy().get("")(lambda: "x")
    app = CovetPy()
    app.include_router(router, prefix="/y")
    assert paths(app) == [("GET", "/y", "<lambda>")]


def test_a_path_parameter_that_is_in_no_prefix_is_refused_where_the_router_is_included():
    router = Router(prefix="/a")

    @router.get("/x")
    def handler(tenant: str = Path()):
        return tenant

    with pytest.raises(TypeError, match=r"handler \(/a/x\): 'tenant' is a Path parameter, but the path has no \{tenant\}"):
        CovetPy().include_router(router)
    with pytest.raises(TypeError, match="the path has no"):
        CovetPy().get("/x")(handler)


def test_options_of_routers_are_those_of_their_routes_unless_these_say_otherwise(serve):
    inner = Router(
        prefix="/inner",
        tags=["inner"],
        responses={404: {"description": "inner"}},
        deprecated=True,
        isolation="shared",
        default_response_class=PlainTextResponse,
    )
    inner.add_route("/x", lambda: "x", tags=["route"], responses={404: {"description": "route"}})
    inner.add_route("/y", lambda: ["y"], deprecated=False, isolation="fresh", response_class=JSONResponse)
    hidden = Router(include_in_schema=False)
    hidden.add_route("/hidden", lambda: "hidden")
    app = CovetPy(default_response_class=HTMLResponse)
    app.include_router(inner, tags=["inclusion"], responses={500: {"description": "inclusion"}})
    app.include_router(hidden)
    app.add_route("/plain", lambda: "plain")
    instance = serve(app)

    document = app.openapi()
    assert list(document["paths"]) == ["/inner/x", "/inner/y", "/plain"]
    x, y = document["paths"]["/inner/x"]["get"], document["paths"]["/inner/y"]["get"]
    assert (x["tags"], y["tags"]) == (["inclusion", "inner", "route"], ["inclusion", "inner"])
    assert (x["deprecated"], "deprecated" in y) == (True, False)
    assert x["responses"]["404"]["description"] == "route"
    assert y["responses"]["404"]["description"] == "inner"
    assert x["responses"]["500"]["description"] == "inclusion"
    assert instance.get("/inner/x").header("content-type") == "text/plain; charset=utf-8"
    assert instance.get("/inner/y").json() == ["y"]
    assert instance.get("/plain").header("content-type") == "text/html; charset=utf-8"
    isolations = {route.pattern: route.isolation and route.isolation.name for route in instance.routes}
    assert (isolations["/inner/x"], isolations["/inner/y"], isolations["/plain"]) == ("SHARED", "FRESH", None)


def test_what_the_host_is_told_of_the_routes():
    app = CovetPy()
    router = Router(prefix="/r")
    router.add_route("/{a}/{b:int}.txt", lambda a, b: "x", ["GET", "POST"], name="two")
    router.add_route("/rest/{rest:path}", lambda rest: "x", ["*"], name="rest")
    app.include_router(router)
    assert paths(app) == [
        ("GET", "/r/{a}/{b}.txt", "two"),
        ("POST", "/r/{a}/{b}.txt", "two"),
        ("", "/r/rest/{*rest}", "rest"),
    ]


# --- Mounts


def test_applications_routers_and_handlers_are_mounted(serve):
    below = CovetPy()

    @below.get("/")
    def root():
        return "root"

    @below.get("/x/{n}")
    def x(n: int, request: Request):
        return [n, request.path, request.url_for("x", n=3).path]

    router = Router(prefix="/prefix")
    router.add_route("/y", lambda: "y")

    class Rest:
        async def __call__(self, request):
            return PlainTextResponse(f"{request.method} {request.path_params['path']}")

    app = CovetPy()
    app.mount("/below", below)
    app.mount("/router", router)
    app.mount("/files", Rest(), name="files")
    app.mount("/function/", lambda request: {"rest": request.path_params["path"]})
    instance = serve(app)
    assert instance.get("/below/").text == "root"
    assert instance.get("/below/x/7").json() == [7, "/below/x/7", "/below/x/3"]
    assert instance.get("/router/prefix/y").text == "y"
    assert instance.get("/files/a/b.txt").text == "GET a/b.txt"
    assert instance.request("HEAD", "/files/").text == "HEAD "
    assert instance.get("/function/a%20b").json() == {"rest": "a b"}
    assert app.url_path_for("files", path="a/b") == "/files/a/b"
    with pytest.raises(TypeError, match="cannot be mounted"):
        app.mount("/nothing", 5)


# --- Paths


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [
        ("/{x:int}", "/7", "int 7"),
        ("/{x:float}", "/7.5", "float 7.5"),
        ("/{x:str}", "/7", "str 7"),
        ("/{x:uuid}", "/12345678-1234-5678-1234-567812345678", "UUID 12345678-1234-5678-1234-567812345678"),
        ("/a/{x:path}", "/a/b/c%2Fd/", "str b/c/d/"),
        ("/a/{x:path}", "/a/", "str "),
        ("/{x}.json", "/a.b.json", "str a.b"),
        ("/pre-{x:int}", "/pre-5", "int 5"),
        ("/{x}", "/%E2%82%AC%20+", "str \u20ac +"),
        ("/{{{x}-}}", "/{7-}", "str 7"),
    ],
)
def test_placeholders_and_their_converters(serve, path, target, expected):
    app = CovetPy()

    @app.get(path)
    def handler(x):
        return f"{type(x).__name__} {x}"

    assert serve(app).get(target).text == expected


def test_a_value_that_does_not_fit_its_converter_is_a_422(serve):
    app = CovetPy()
    app.get("/int/{x:int}")(lambda x: {"x": x})
    app.get("/uuid/{x:uuid}")(lambda x: {"x": x})
    app.get("/said/{x:int}")(lambda x: {"x": x})
    instance = serve(app)
    for path in ("/int/x", "/int/1.5", "/uuid/1"):
        answer = instance.get(path)
        assert (answer.status, answer.json()["detail"][0]["loc"]) == (422, ["path", "x"])


def test_what_the_annotation_says_is_more_than_the_converter(serve):
    app = CovetPy()

    @app.get("/{x:int}")
    def handler(x: str):
        return {"x": x}

    assert serve(app).get("/7").json() == {"x": "7"}


def test_path_parameters_are_those_of_fastapi(serve):
    def build(kit):
        get = kit.app.get

        @get("/bounded/{n}")
        def bounded(n: Annotated[int, kit.Path(ge=3, le=5)]):
            return {"n": n}

        @get("/text/{s}")
        def text(s: Annotated[str, kit.Path(min_length=2, pattern="^[a-z]+$")]):
            return {"s": s}

        @get("/several/{a}/{b}")
        def several(b: float, a: int, c: int):
            return [a, b, c]

        @get("/alias/{item_id}")
        def alias(x: int = kit.Path(alias="item_id")):
            return {"x": x}

        @get("/rest/{rest:path}")
        def rest(rest: str):
            return {"rest": rest}

        @get("/uuid/{u}")
        def uuid_(u: uuid.UUID):
            return {"u": u}

    with twins(serve, build) as both:
        for target in (
            *["/bounded/4", "/bounded/2", "/bounded/x", "/text/ab", "/text/a", "/text/A9", "/several/1/2?c=3", "/several/x/y"],
            *[
                "/several/x/1?c=z",
                "/alias/5",
                "/alias/x",
                "/rest/a/b",
                "/rest/",
                "/rest/a%20b/%C3%A9",
                "/uuid/x",
                f"/uuid/{uuid.UUID(int=5)}",
            ],
        ):
            both.agree("GET", target)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("x", "must begin with '/'"),
        ("/{", "neither"),
        ("/}", "neither"),
        ("/{}", "neither"),
        ("/{a b}", "neither"),
        ("/{1a}", "neither"),
        ("/{a:}", "neither"),
        ("/{a:b:c}", "neither"),
        ("/{*a}", "neither"),
        ("/{a:number}", "converter 'number'"),
        ("/{a}/{a}", "twice"),
        ("/{a:path}/b", "goes on after"),
        ("/{{{a}}}", "a brace after {a}"),
    ],
)
def test_a_path_that_is_not_well_formed_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        CovetPy().get(path)(lambda: "x")


def test_options_and_methods_are_checked():
    app = CovetPy()
    cases = [
        (TypeError, "no option 'statuscode'", {"statuscode": 201}),
        (ValueError, "no HTTP status", {"status_code": 42}),
        (ValueError, "no HTTP status", {"status_code": "200"}),
        (ValueError, "no isolation", {"isolation": "alone"}),
        (TypeError, "list of Depends", {"dependencies": [lambda: 1]}),
    ]
    for error, message, options in cases:
        with pytest.raises(error, match=message):
            app.get("/", **options)(lambda: "x")
    with pytest.raises(TypeError, match="methods is a list"):
        app.route("/", "GET")


def test_options_may_be_left_open(serve):
    def build(kit):
        @kit.app.get(
            "/",
            status_code=None,
            name=None,
            description=None,
            summary=None,
            tags=None,
            dependencies=None,
            responses=None,
            operation_id=None,
            openapi_extra=None,
            deprecated=None,
        )
        def handler():
            return {}

        router = kit.APIRouter(tags=None, dependencies=None, responses=None)
        router.get("/x")(handler)
        kit.app.include_router(router, prefix="/r", tags=None, dependencies=None, responses=None)

    with twins(serve, build) as both:
        both.agree("GET", "/", status=200)
        both.agree("GET", "/r/x", status=200)
        both.ours.app.openapi()


def test_routes_that_match_the_same_paths_are_refused_by_the_matcher():
    app = CovetPy()
    app.get("/{a}")(lambda: "x")
    app.get("/{b}")(lambda: "x")
    with pytest.raises(ValueError, match="both match the same paths"):
        Matcher([RouteKey(method, route.pattern, route.name) for route in app.routes for method in route.methods])


# --- URLs


def test_urls_are_made_of_names(serve):
    app = CovetPy()
    router = Router(prefix="/users")

    @router.get("/{user_id}/files/{rest:path}", name="file")
    def file(user_id: int, rest: str):
        return rest

    @router.get("/{user_id}")
    def user(user_id: int, request: Request):
        file = request.url_for("file", user_id=user_id, rest="a b/c?d")
        return {"file": str(file), "me": request.url_for("user", user_id=7).path, "host": file.netloc}

    app.include_router(router, prefix="/v1")
    app.get("/braces/{{x}}/{y:int}", name="braces")(lambda y: "x")
    assert app.url_path_for("user", user_id="\u20ac/&") == "/v1/users/%E2%82%AC%2F%26"
    assert app.url_path_for("braces", y=5) == "/braces/{x}/5"
    answer = serve(app).get("/v1/users/5", headers=[("host", "testhost:8000")])
    assert answer.json() == {
        "file": "http://testhost:8000/v1/users/5/files/a%20b/c%3Fd",
        "me": "/v1/users/7",
        "host": "testhost:8000",
    }
    for name, parameters in (("nobody", {}), ("user", {}), ("user", {"user_id": 1, "more": 2}), ("user", {"id": 1})):
        with pytest.raises(LookupError):
            app.url_path_for(name, **parameters)
    with pytest.raises(LookupError, match=r"placeholders \['user_id'\], not \['id'\]"):
        app.url_path_for("user", id=1)


def test_of_several_routes_with_one_name_the_one_with_these_placeholders_is_meant():
    app = CovetPy()
    app.get("/a/{x}", name="same")(lambda: "x")
    app.get("/b/{y}/{z}", name="same")(lambda: "x")
    app.get("/c/{x}", name="same")(lambda: "x")
    assert app.url_path_for("same", x=1) == "/a/1"
    assert app.url_path_for("same", y=1, z=2) == "/b/1/2"


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), st.integers())
def test_a_url_leads_back_to_its_route_with_the_same_values(text, number):
    app = CovetPy()
    app.get("/plain/{a}", name="plain")(lambda: "x")
    app.get("/number/{a:int}/of/{b}.x", name="several")(lambda: "x")
    app.get("/rest/{a:path}", name="rest")(lambda: "x")
    matcher = Matcher([RouteKey("GET", route.pattern, route.name) for route in app.routes])
    for path, expected in (
        (app.url_path_for("plain", a=text), [text]),
        (app.url_path_for("several", a=number, b=text), [str(number), text]),
        (app.url_path_for("rest", a=text), [text]),
    ):
        found = matcher.find("GET", path)
        assert isinstance(found, Found)
        assert list(found.params) == expected


# --- What an application is made with


def test_names_of_fastapi_stand_for_the_same_things():
    assert APIRouter is Router
    assert Router.api_route is Router.route
    assert Router.add_api_route is Router.add_route


def test_routes_may_be_added_when_the_application_has_been_finished(serve):
    app = CovetPy()
    app.get("/a")(lambda: "a")
    assert serve(app).get("/a").text == "a"
    app.get("/b")(lambda: "b")
    router = Router()
    app.include_router(router)
    router.get("/c")(lambda: "c")
    instance = serve(app)
    assert [instance.get(path).text for path in ("/a", "/b", "/c")] == ["a", "b", "c"]
    assert list(app.openapi()["paths"]) == ["/a", "/b", "/c"]


def test_an_application_may_leave_out_its_document_and_pages(serve):
    app = CovetPy(openapi_url=None)
    app.get("/a")(lambda: "a")
    assert [route.pattern for route in serve(app).routes] == ["/a"]
    own = CovetPy(docs_url=None, redoc_url=None)
    own.get("/openapi.json")(lambda: {"mine": True})
    assert serve(own).get("/openapi.json").json() == {"mine": True}


def test_what_a_handler_may_return_does_not_depend_on_the_router(serve):
    router = Router(prefix="/r")

    @router.get("/{kind}")
    def handler(kind: str):
        if kind == "error":
            raise HTTPException(404)
        return {
            "response": Response(b"x", 201),
            "stream": StreamingResponse(iter(["a"]), 202),
            "redirect": RedirectResponse("/elsewhere"),
            "tuple": ("t", 203),
        }[kind]

    app = CovetPy()
    app.include_router(router)
    instance = serve(app)
    kinds = {"response": 201, "stream": 202, "redirect": 307, "tuple": 203, "error": 404}
    assert {kind: instance.get(f"/r/{kind}").status for kind in kinds} == kinds


def test_the_root_of_a_mounted_handler_leads_to_its_folder(serve):
    app = CovetPy()
    app.mount("/files", lambda request: request.path_params["path"])
    instance = serve(app)
    answer = instance.get("/files?a=1")
    assert (answer.status, dict(answer.headers)["location"]) == (307, "/files/?a=1")
    assert instance.get("/files/").content == b""
    assert instance.get("/files/a/b").content == b"a/b"


def test_the_root_of_a_mounted_handler_leads_to_no_other_host(serve):
    app = CovetPy()
    app.mount("/{tenant}", lambda request: "found")
    instance = serve(app)
    assert dict(instance.get("/%2Fevil.example").headers)["location"] == "/%2Fevil.example/"
    assert dict(instance.get("/a%3Fb?c").headers)["location"] == "/a%3Fb/?c"
