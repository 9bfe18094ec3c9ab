# ruff: noqa: B008, because parameters are described by calls in defaults.
"""The OpenAPI document: that of FastAPI for the same application, and valid by the standard's own schema."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import sys
import uuid
import warnings
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
import typing_extensions
from pydantic import BaseModel, ConfigDict, Field
from twins import Kit, covet_kit, fastapi_kit

import covet
from covet import CovetPy, Depends, EventSourceResponse, File, Form, HTMLResponse, Query, Response, Router, UploadFile


class Kind(str, enum.Enum):  # noqa: UP042
    a = "a"
    b = "b"


class Number(enum.IntEnum):
    one = 1
    two = 2


class Inner(BaseModel):
    x: int = Field(gt=0, description="the x", examples=[3])
    when: dt.datetime | None = None


class Item(BaseModel):
    """An item."""

    name: str = Field(min_length=1, max_length=5, pattern="^a")
    inner: Inner
    inners: list[Inner] = []
    kind: Kind = Kind.a
    opt: float | None = Field(None, title="Opt!")
    anything: Any = None
    members: dict[str, Inner] = {}
    union: int | str = 3
    literal: Literal["p", 1] = "p"
    much: decimal.Decimal = decimal.Decimal(1)
    pair: tuple[int, str] = (1, "a")


class Both(BaseModel):
    """What is read is not what is written."""

    n: int = 3
    inner: Inner | None = None
    much: decimal.Decimal = decimal.Decimal(1)


class Outer(BaseModel):
    """The same in both, but for what it refers to."""

    both: Both


class Recursive(BaseModel):
    value: int
    children: list["Recursive"] = []


class Filter(BaseModel):
    limit: int = Field(10, gt=0, le=100, description="Limit")
    tags: list[str] = []
    kind: Kind | None = None
    required: str


class Fields(BaseModel):
    x_token: str
    y_list: list[int] = []


class Problem(BaseModel):
    code: int


class FormModel(BaseModel):
    a: int
    b: list[str] = []
    c: str | None = None


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


@dataclasses.dataclass
class Data:
    a: int
    b: str = "x"
    c: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Nested:
    data: Data
    again: "Data | None" = None


class Typed(typing_extensions.TypedDict):
    a: int
    b: typing_extensions.NotRequired[str]


def add_parameters(kit: Kit) -> None:
    get, query, header, cookie = kit.app.get, kit.Query, kit.Header, kit.Cookie

    @get("/scalars/{p}/{rest:path}", tags=["one", Kind.b], summary="Sum", description="Words", deprecated=True)
    def scalars(
        p: Annotated[int, kit.Path(ge=1, title="The P", description="p's words")],
        rest: str,
        a: int,
        b: str = "x",
        c: bool | None = None,
        d: list[int] = query([1], description="numbers", min_length=1),
        e: Kind = Kind.a,
        f: float = query(1.5, alias="F-f", gt=0, le=9.5, deprecated=True),
        g: str = query("a", pattern="^a", max_length=3, min_length=0),
        h: dt.datetime = None,  # noqa: RUF013
        i: uuid.UUID | None = None,
        j: set[Kind] = query(set()),
        k: Literal["x", "y"] = "x",
        l: Number = Number.one,  # noqa: E741
        n: dt.date = dt.date(2020, 1, 1),
        o: int = query(3, include_in_schema=False),
        q: str = query("z", examples=["e1", "e2"]),
        r: str = query("z", openapi_examples={"one": {"summary": "s", "value": "v"}}),
        s: int | str = 5,
        t: dt.timedelta | None = None,
        u: dt.time | None = None,
        v: bytes = b"",
        w: list[str] | None = query(None),
        x: int = query(4, multiple_of=2),
    ):
        """Not these."""

    @get("/headers")
    def headers(
        plain: str = header("h", description="words"),
        x_list: list[str] = header([]),
        upper: str = header(alias="X-Upper"),
        as_is: str = header("d", convert_underscores=False),
        c: str | None = cookie(None),
    ):
        pass

    @get("/models")
    def models(f: Annotated[Filter, query()]):
        pass

    @get("/header-model")
    def header_model(f: Annotated[Fields, header()]):
        pass

    def one(da: int, db: str = header("x")):
        pass

    def two(value=kit.Depends(one), dc: str = "q"):
        pass

    def needs(q: int):
        pass

    @get("/dependencies", dependencies=[kit.Depends(one)])
    def dependencies(value=kit.Depends(two), da: str = "q"):
        pass

    @get("/stricter")
    def stricter(q: int | None = None, value=kit.Depends(needs)):
        pass


def add_bodies(kit: Kit) -> None:
    post, body = kit.app.post, kit.Body

    @post("/item", status_code=201, response_model=Item)
    def item(item: Item):
        pass

    @post("/both")
    def both(both: Both) -> Both:
        pass

    @post("/lists", response_model=list[Outer])
    def lists(both: list[Outer]):
        pass

    @post("/two")
    def two(item: Item, data: Data, n: int = body(gt=3, description="n's"), o: str | None = body(None, title="The O")):
        pass

    @post("/embedded")
    def embedded(data: Annotated[Data, body(embed=True)]) -> Data:
        pass

    @post("/optional")
    def optional(data: Data | None = None):
        pass

    @post("/nested")
    def nested(data: Nested) -> list[Nested]:
        pass

    @post("/typed")
    def typed(x: Typed) -> Typed:
        pass

    @post("/scalar")
    def scalar(n: int = body(5, ge=1, examples=[4])):
        pass

    @post("/numbers")
    def numbers(n: list[int]):
        pass

    @post("/members")
    def members(n: dict[str, Item]):
        pass

    @post("/union")
    def union(n: Item | Inner):
        pass

    @post("/text")
    def text(n: str = body(media_type="text/plain")):
        pass

    @post("/named-examples")
    def named_examples(item: Annotated[Inner, body(openapi_examples={"n": {"value": {"x": 1}}})]):
        pass

    @post("/words")
    def words(item: Annotated[Inner, body(examples=[{"x": 1}], description="words", title="Title")]):
        pass

    # Two bodies with one path and names that are alike.
    @kit.app.put("/same")
    def put_same(x: Inner, y: Inner):
        pass

    @kit.app.patch("/same", name="put_same")
    def patch_same(x: Inner, y: int = body()):
        pass

    @kit.app.delete("/same")
    def delete_same(x: Inner):
        pass


def add_responses(kit: Kit) -> None:
    get = kit.app.get

    @get(
        "/documented",
        response_model=Item,
        response_description="The item",
        responses={
            404: {"description": "no such item", "model": Problem},
            "4XX": {"model": Problem},
            "default": {"description": "else"},
            200: {"content": {"application/json": {"example": {"a": 1}}}},
            418: {},
            304: {"description": "not changed"},
        },
    )
    def documented(q: int):
        """A title.

        And *more*.
        \f
        This is for readers of the source.
        """

    @get("/ranges", responses={"5XX": {"model": Problem}, "2xx": {}, "3XX": {}, 599: {}})
    def ranges(q: int):
        pass

    @get("/own-422", responses={422: {"description": "mine"}})
    def own(q: int):
        pass

    @get("/html", response_class=kit.HTMLResponse)
    def html():
        pass

    @get("/plain", response_class=kit.PlainTextResponse)
    def plain():
        pass

    @get("/redirect", response_class=kit.RedirectResponse)
    def redirect():
        pass

    @get("/stream", response_class=kit.StreamingResponse)
    def stream():
        pass

    @get("/response")
    def response() -> kit.JSONResponse:
        pass

    @kit.app.delete("/nothing", status_code=204)
    def nothing() -> None:
        pass

    @get("/int")
    def integer() -> int:
        pass

    @get("/list")
    def list_() -> list[str]:
        pass

    @get("/dict")
    def dict_() -> dict[str, int]:
        pass

    @get("/maybe")
    def maybe() -> Inner | None:
        pass

    @get("/any")
    def any_() -> Any:
        pass

    @get("/none", response_model=None)
    def none() -> Inner:
        pass

    @get("/hidden", include_in_schema=False)
    def hidden():
        pass

    @get(
        "/extra",
        openapi_extra={"x-a": 1, "parameters": [{"name": "z", "in": "query", "schema": {}}], "responses": {"200": {"x-b": 1}}},
    )
    def extra(q: int = 1):
        pass

    @get("/named", operation_id="my_operation", name="other")
    def named():
        pass

    router = kit.APIRouter(prefix="/r", tags=["router"], responses={404: {"description": "router"}}, deprecated=True)

    @router.get("/x", tags=["own"], responses={404: {"description": "own"}})
    def in_router():
        pass

    kit.app.include_router(router, prefix="/included", tags=["inclusion"], responses={500: {"model": Problem}})


def add_security(kit: Kit) -> None:
    oauth = kit.OAuth2PasswordBearer(tokenUrl="token", scopes={"r": "read", "w": "write"})
    key = kit.APIKeyHeader(name="X-Key", description="the key")
    code = kit.OAuth2AuthorizationCodeBearer(authorizationUrl="/a", tokenUrl="/t")

    def user(token=kit.Depends(oauth), key=kit.Depends(key)):
        pass

    @kit.app.get("/all")
    def every(
        u=kit.Security(user, scopes=["r"]),
        v=kit.Security(user, scopes=["w"]),
        b=kit.Depends(kit.HTTPBasic()),
        o=kit.Depends(kit.OpenIdConnect(openIdConnectUrl="https://x/y")),
        c=kit.Depends(kit.APIKeyCookie(name="c")),
        q=kit.Depends(kit.APIKeyQuery(name="q", scheme_name="Query")),
        t=kit.Depends(kit.HTTPBearer(bearerFormat="JWT", scheme_name="Own")),
        d=kit.Depends(code),
    ):
        pass

    router = kit.APIRouter(dependencies=[kit.Security(oauth, scopes=["router"])])

    @router.get("/router")
    def in_router():
        pass

    kit.app.include_router(router)

    @kit.app.get("/open")
    def open_():
        pass


def add_forms(kit: Kit) -> None:
    import fastapi

    package: Any = fastapi if kit.name == "fastapi" else covet
    post, form, file, upload = kit.app.post, package.Form, package.File, package.UploadFile

    @post("/fields")
    def fields(
        a: Annotated[str, form()],
        b: int = form(3, ge=1),
        c: list[int] = form([]),
        d: bool | None = form(None),
        e: str = form(alias="E-e", description="words"),
    ):
        pass

    @post("/optional")
    def optional(a: str = form("x")):
        pass

    @post("/model")
    def model(a: Annotated[FormModel, form()]):
        pass

    @post("/forbidding")
    def forbidding(a: Annotated[Forbidding, form()]):
        pass

    @post("/upload")
    def one(f: upload):
        pass

    @post("/uploads")
    def several(f: upload | None = None, g: list[upload] = file([]), n: str = form("q")):
        pass

    @post("/contents")
    def contents(f: bytes = file(description="words"), g: list[bytes] = file(), h: Annotated[bytes | None, file()] = None):
        pass

    @post("/list")
    def list_(fs: list[upload]):
        pass

    def dependency(x: str = form()):
        return x

    @post("/dependency")
    def with_dependency(value=kit.Depends(dependency), y: int = form()):
        pass


def normalised(document: Any, path: str = "") -> Any:
    """Without what differs and tells nothing."""
    if isinstance(document, dict):
        result = {}
        for key, value in document.items():
            if key == "title" and isinstance(value, str) and value.startswith("Response "):
                continue
            if key == "default" and value is None:
                # FastAPI leaves out whatever is None.
                continue
            result[key] = normalised(value, f"{path}/{key}")
        return result
    if isinstance(document, list):
        items = [normalised(item, path) for item in document]
        return sorted(items) if path.endswith("/required") else items
    return float(document) if type(document) is int else document


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            line
            for key in sorted({*ours, *theirs})
            for line in differences(ours.get(key, "nothing"), theirs.get(key, "nothing"), f"{path}/{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            line for index, pair in enumerate(zip(ours, theirs, strict=True)) for line in differences(*pair, f"{path}/{index}")
        ]
    return [] if ours == theirs and type(ours) is type(theirs) else [f"{path}\n  covet:   {ours}\n  FastAPI: {theirs}"]


def documents(build: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    ours, theirs = covet_kit(title="T", version="1"), fastapi_kit(title="T", version="1")
    build(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build(theirs)
        reference = theirs.app.openapi()
    ours.app._finish()
    return json.loads(ours.app.openapi_json()), json.loads(json.dumps(reference))


@pytest.fixture
def multipart_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI wants to see a parser of forms before it describes one."""
    try:
        import python_multipart  # noqa: F401
    except ImportError:
        module = ModuleType("python_multipart")
        module.__version__ = "0.0.20"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "python_multipart", module)


BUILDS = [add_parameters, add_bodies, add_responses, add_security, add_forms]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_the_document_is_that_of_fastapi(multipart_package, build) -> None:
    ours, theirs = documents(build)
    assert "\n".join(differences(normalised(ours), normalised(theirs))) == ""


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_the_document_is_valid(multipart_package, build) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="openapi-spec-validator is not installed")
    ours, _ = documents(build)
    validator.OpenAPIV31SpecValidator(ours).validate()


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_every_reference_leads_to_a_schema_and_every_operation_has_its_own_id(multipart_package, build) -> None:
    ours, _ = documents(build)
    schemas = ours.get("components", {}).get("schemas", {})
    found = set(references(ours))
    assert found <= {f"#/components/schemas/{name}" for name in schemas}
    # And none is there that nobody refers to.
    assert {f"#/components/schemas/{name}" for name in schemas} <= found
    ids = [operation["operationId"] for path in ours["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in references(item)]
    return [found for item in value for found in references(item)] if isinstance(value, list) else []


# --- What FastAPI does otherwise, or does not have


def test_a_model_is_one_schema_where_what_is_read_is_what_is_written() -> None:
    app = CovetPy()

    @app.post("/")
    def handler(tree: Recursive) -> Recursive:
        pass

    document = app.openapi()
    assert sorted(document["components"]["schemas"]) == ["HTTPValidationError", "Recursive", "ValidationError"]
    operation = document["paths"]["/"]["post"]
    assert references(operation)[:2] == ["#/components/schemas/Recursive"] * 2


def test_what_refers_to_something_with_two_schemas_has_two_itself() -> None:
    app = CovetPy()

    @app.post("/a")
    def read(outer: Outer):
        pass

    @app.get("/b")
    def write() -> Outer:
        pass

    schemas = app.openapi()["components"]["schemas"]
    assert {"Outer-Input", "Outer-Output", "Both-Input", "Both-Output", "Inner"} <= schemas.keys()
    assert {"Outer", "Both"} & schemas.keys() == set()
    assert references(schemas["Outer-Input"]) == ["#/components/schemas/Both-Input"]
    assert references(schemas["Outer-Output"]) == ["#/components/schemas/Both-Output"]


def test_two_models_with_one_name_are_two_schemas() -> None:
    def model(**fields: Any) -> Any:
        return dataclasses.make_dataclass("Same", list(fields.items()))

    app = CovetPy()
    for number, annotation in enumerate([model(a=int), model(b=str), model(a=int)]):

        def handler(x: annotation):
            pass

        app.post(f"/{number}")(handler)
    document = app.openapi()
    schemas = document["components"]["schemas"]
    assert sorted(name for name in schemas if name.startswith("Same")) == ["Same", "Same2"]
    used = [references(document["paths"][f"/{number}"]["post"]["requestBody"]) for number in range(3)]
    assert used == [["#/components/schemas/Same"], ["#/components/schemas/Same2"], ["#/components/schemas/Same"]]
    assert sorted(schemas["Same2"]["properties"]) == ["b"]


def test_results_have_the_media_type_with_which_they_are_sent() -> None:
    app = CovetPy()

    @app.get("/text")
    def text() -> str:
        return "x"

    @app.get("/octets")
    def octets() -> bytes:
        return b"x"

    @app.get("/events", response_class=EventSourceResponse)
    def events():
        pass

    @app.get("/page", response_class=HTMLResponse)
    def page() -> str:
        return "x"

    @app.get("/nothing")
    def nothing():
        pass

    @app.get("/odd")
    def odd() -> "tuple[dict, int]":
        pass

    @app.get("/later")
    def later() -> Response:
        pass

    paths = app.openapi()["paths"]
    content = {path: paths[path]["get"]["responses"]["200"]["content"] for path in paths}
    assert content == {
        "/text": {"text/plain": {"schema": {"type": "string"}}},
        "/octets": {"application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}},
        "/events": {"text/event-stream": {"schema": {"type": "string"}}},
        "/page": {"text/html": {"schema": {"type": "string"}}},
        "/nothing": {"application/json": {"schema": {}}},
        "/odd": {"application/json": {"schema": {}}},
        "/later": {"application/json": {"schema": {}}},
    }


def test_a_route_for_every_method_is_described_for_those_that_openapi_knows() -> None:
    app = CovetPy()
    app.route("/any", ["*"])(lambda: "x")
    app.get("/any")(lambda: "x")
    app.route("/several", ["PUT", "POST"], operation_id="several")(lambda: "x")
    paths = app.openapi()["paths"]
    assert sorted(paths["/any"]) == ["delete", "get", "head", "options", "patch", "post", "put"]
    assert sorted(paths["/several"]) == ["post", "put"]


def test_what_is_said_of_the_application_is_in_the_document() -> None:
    app = CovetPy(
        title="Title",
        version="2",
        summary="Summary",
        description="Description",
        terms_of_service="https://example.com/terms",
        contact={"name": "Me"},
        license_info={"name": "MIT"},
        servers=[{"url": "https://example.com"}],
        openapi_tags=[{"name": "one", "description": "One"}],
    )
    app.get("/", tags=["one"])(lambda: "x")
    document = app.openapi()
    assert document["info"] == {
        "title": "Title",
        "version": "2",
        "summary": "Summary",
        "description": "Description",
        "termsOfService": "https://example.com/terms",
        "contact": {"name": "Me"},
        "license": {"name": "MIT"},
    }
    assert document["servers"] == [{"url": "https://example.com"}]
    assert document["tags"] == [{"name": "one", "description": "One"}]
    assert "components" not in document


def test_the_application_may_have_another_document(serve) -> None:
    class Mine(CovetPy):
        def openapi(self) -> dict[str, Any]:
            return {**super().openapi(), "x-mine": {"when": dt.date(2020, 1, 1)}}

    app = Mine()
    app.get("/")(lambda: "x")
    document = serve(app).get("/openapi.json").json()
    assert document["x-mine"] == {"when": "2020-01-01"}
    assert list(document["paths"]) == ["/"]
    replaced = CovetPy()
    replaced.openapi = lambda: {"mine": True}  # type: ignore[method-assign]
    assert serve(replaced).get("/openapi.json").json() == {"mine": True}


def test_the_document_is_that_of_the_host_and_of_the_route(serve) -> None:
    app = CovetPy()

    @app.get("/\u20ac")
    def handler(q: str = "\u20ac"):
        """\u20ac"""

    instance = serve(app)
    answer = instance.get("/openapi.json")
    assert answer.header("content-type") == "application/json"
    assert instance.app.openapi() == answer.text
    assert "\u20ac" in answer.text


def test_defaults_of_every_kind_are_told_as_a_request_would_have_them() -> None:
    app = CovetPy()

    @app.get("/")
    def handler(
        a: set[int] = Query({2, 1}),
        b: dt.date = dt.date(2020, 1, 2),
        c: Kind = Kind.b,
        d: uuid.UUID = uuid.UUID(int=5),
        e: decimal.Decimal = decimal.Decimal("1.5"),
        f: tuple[int, ...] = (1, 2),
        g: Any = Query(object()),
        h: str | None = None,
        i: list[int] = Query(default_factory=lambda: [7]),
    ):
        pass

    parameters = {one["name"]: one for one in app.openapi()["paths"]["/"]["get"]["parameters"]}
    defaults = {name: one["schema"].get("default", "nothing") for name, one in parameters.items()}
    assert defaults == {
        "a": [1, 2],
        "b": "2020-01-02",
        "c": "b",
        "d": str(uuid.UUID(int=5)),
        "e": 1.5,
        "f": [1, 2],
        "g": "nothing",
        "h": "nothing",
        "i": "nothing",
    }
    assert not any(one["required"] for one in parameters.values())
    json.loads(app.openapi_json())


def test_placeholders_that_no_parameter_takes_are_described_too() -> None:
    app = CovetPy()

    def of_prefix(tenant: int):
        return tenant

    router = Router(prefix="/{tenant}", dependencies=[Depends(of_prefix)])
    router.add_route("/{a}/{rest:path}", lambda request: "x")
    app.include_router(router)
    (operation,) = app.openapi()["paths"]["/{tenant}/{a}/{rest}"].values()
    assert [(one["name"], one["in"], one["schema"]["type"]) for one in operation["parameters"]] == [
        ("tenant", "path", "integer"),
        ("a", "path", "string"),
        ("rest", "path", "string"),
    ]


def test_uploads_make_a_form_multipart_wherever_they_are() -> None:
    app = CovetPy()

    def dependency(file: UploadFile):
        return file

    @app.post("/")
    def handler(name: str = Form(), value=Depends(dependency), more: list[UploadFile] = File([])):
        pass

    body = app.openapi()["paths"]["/"]["post"]["requestBody"]
    assert list(body["content"]) == ["multipart/form-data"]
    schema = app.openapi()["components"]["schemas"]["Body_handler__post"]
    assert sorted(schema["properties"]) == ["file", "more", "name"]
    assert sorted(schema["required"]) == ["file", "name"]
    assert schema["properties"]["file"] == {
        "type": "string",
        "contentMediaType": "application/octet-stream",
        "title": "File",
    }
