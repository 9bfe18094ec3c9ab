"""Authentication: security schemes as dependencies, backends, `requires`."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextvars import copy_context
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covet import CovetPy, Depends, HTTPException, PlainTextResponse, Request, Response, Security, security
from covet._guest.bridge import BodyEmpty, RequestRecord
from covet.authentication import (
    APIKeyBackend,
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    BasicBackend,
    BearerBackend,
    SimpleUser,
    UnauthenticatedUser,
    constant_time_equals,
    requires,
)
from covet.middleware import AuthenticationMiddleware, CORSMiddleware

Headers = dict[str, str] | list[tuple[str, str]]


def make_request(target: str = "/", headers: Headers = ()) -> Request:  # type: ignore[assignment]
    fields = [("host", "testhost"), *(headers.items() if isinstance(headers, dict) else headers)]
    app: Any = None
    return Request(RequestRecord(0, "GET", "http://testhost", target, [], fields, "192.0.2.1:5000", BodyEmpty()), app)


def run(coroutine: Any) -> Any:
    """Runs a coroutine that waits for nothing but turns of a loop."""
    context = copy_context()
    while True:
        try:
            context.run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value


def through(middleware: Any, request: Request) -> Response:
    """The response to a request of a middleware around a handler, which tells who asked."""

    async def call_next(request: Request) -> Response:
        user, auth = request.user, request.auth
        return PlainTextResponse(f"{user.is_authenticated}:{user.display_name}:{','.join(auth.scopes)}")

    response: Response = run(middleware(request, call_next))
    return response


def basic(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    return "Basic " + base64.b64encode(data).decode()


# Security schemes, beside those of FastAPI.

SCHEMES: list[tuple[str, dict[str, Any]]] = [
    ("HTTPBearer", {}),
    ("HTTPBearer", {"bearerFormat": "JWT", "scheme_name": "jwt", "description": "A token"}),
    ("HTTPBasic", {}),
    ("HTTPBasic", {"realm": "here"}),
    ("HTTPDigest", {"description": "x"}),
    ("APIKeyHeader", {"name": "X-Key"}),
    ("APIKeyQuery", {"name": "key"}),
    ("APIKeyCookie", {"name": "key", "scheme_name": "cookie"}),
    ("OAuth2", {}),
    ("OAuth2", {"flows": {"implicit": {"authorizationUrl": "/a", "scopes": {"x": "y"}}}}),
    ("OAuth2PasswordBearer", {"tokenUrl": "token"}),
    ("OAuth2PasswordBearer", {"tokenUrl": "token", "scopes": {"a": "b"}, "refreshUrl": "refresh"}),
    ("OAuth2AuthorizationCodeBearer", {"authorizationUrl": "/a", "tokenUrl": "/t", "refreshUrl": "/r", "scopes": {"a": "b"}}),
    ("OpenIdConnect", {"openIdConnectUrl": "/.well-known/openid-configuration"}),
]
REQUESTS: list[tuple[str, dict[str, str]]] = [
    ("/", {}),
    ("/?key=", {"x-key": "", "cookie": "key="}),
    ("/?key=one", {"x-key": "two", "cookie": "key=three"}),
    *(
        ("/", {"authorization": value})
        for value in (
            "",
            " ",
            "Bearer",
            "Bearer ",
            "Bearer  token ",
            "bearer token",
            "BEARER a b",
            "Bearer\ttoken",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Basic x",
            "Basic " + base64.b64encode(b"nocolon").decode(),
            "basic " + base64.b64encode(b"user:pass:word").decode(),
            "Basic " + base64.b64encode(b":").decode(),
            "Basic " + base64.b64encode("ü:ü".encode()).decode(),
            "Basic " + base64.b64encode(b"\xff\xfe:").decode(),
            "Basic dXNlcjpwYXNz\u00fc",
            "Digest username=x",
            "digest ",
            "Other thing",
            "token",
        )
    ),
]


@pytest.mark.parametrize("auto_error", [True, False])
@pytest.mark.parametrize(("name", "options"), SCHEMES)
def test_a_scheme_is_as_in_fastapi(name: str, options: dict[str, Any], auto_error: bool) -> None:
    theirs_module = pytest.importorskip("fastapi.security")
    from fastapi.encoders import jsonable_encoder

    ours = getattr(security, name)(**options, auto_error=auto_error)
    theirs = getattr(theirs_module, name)(**options, auto_error=auto_error)
    assert ours.scheme_name == theirs.scheme_name
    assert ours.model == jsonable_encoder(theirs.model, by_alias=True, exclude_none=True)
    for target, headers in REQUESTS:
        assert _outcome(ours, make_request(target, headers)) == _outcome(theirs, _their_request(target, headers)), headers


def _their_request(target: str, headers: dict[str, str]) -> Any:
    from starlette.requests import Request

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "query_string": target.partition("?")[2].encode(), "path": "/"})


def _outcome(scheme: Callable[[Any], Any], request: Any) -> Any:
    """What a scheme makes of a request."""
    from starlette.exceptions import HTTPException as TheirException

    try:
        result = scheme(request)
        if asyncio.iscoroutine(result):
            result = run(result)
    except (HTTPException, TheirException) as error:
        return error.status_code, error.detail, error.headers
    if result is None or isinstance(result, str):
        return result
    names = ("username", "password") if hasattr(result, "username") else ("scheme", "credentials")
    return type(result).__name__, *(getattr(result, name) for name in names)


@given(st.text(max_size=40), st.sampled_from(["", "Bearer ", "Basic ", "Digest "]))
def test_no_authorization_field_is_an_error(text: str, scheme: str) -> None:
    for name, options in SCHEMES:
        request = make_request(f"/?{text}", {"authorization": scheme + text, "x-key": text, "cookie": text})
        outcome = _outcome(getattr(security, name)(**options), request)
        assert isinstance(outcome, str) or outcome[0] in ("HTTPBasicCredentials", "HTTPAuthorizationCredentials", 401)


def test_secrets_are_not_in_the_text_of_credentials() -> None:
    assert "hidden" not in repr(security.HTTPBasicCredentials(username="a", password="hidden"))
    assert "hidden" not in repr(security.HTTPAuthorizationCredentials(scheme="Bearer", credentials="hidden"))


def test_schemes_are_dependencies(serve: Any) -> None:
    app = CovetPy()
    oauth2 = security.OAuth2PasswordBearer(tokenUrl="token", scopes={"items": "Read items"})
    key = security.APIKeyHeader(name="X-Key", auto_error=False)

    def current_user(scopes: security.SecurityScopes, token: Annotated[str, Depends(oauth2)]) -> str:
        return f"{token} {scopes.scope_str}"

    @app.get("/me")
    def me(user: Annotated[str, Security(current_user, scopes=["items"])], key: Annotated[str | None, Depends(key)]) -> Any:
        return [user, key]

    instance = serve(app)
    assert instance.get("/me", headers=[("authorization", "Bearer abc")]).json() == ["abc items", None]
    assert instance.get("/me", headers=[("authorization", "Bearer abc"), ("x-key", "k")]).json() == ["abc items", "k"]
    answer = instance.get("/me")
    assert (answer.status, answer.json()) == (401, {"detail": "Not authenticated"})
    assert {name.lower(): value for name, value in answer.headers}["www-authenticate"] == "Bearer"
    document = app.openapi()
    assert document["components"]["securitySchemes"]["OAuth2PasswordBearer"] == oauth2.model
    assert {"OAuth2PasswordBearer": ["items"]} in document["paths"]["/me"]["get"]["security"]


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("name", ["OAuth2PasswordRequestForm", "OAuth2PasswordRequestFormStrict"])
@pytest.mark.parametrize(
    "body",
    [
        "username=a&password=b",
        "grant_type=password&username=a&password=b",
        "grant_type=password&username=a&password=b&scope=x+y%20z&client_id=c&client_secret=d",
        "grant_type=other&username=a&password=b",
        "grant_type=passwordx&username=a&password=b",
        "grant_type=password&username=a",
        "grant_type=&username=a&password=b",
        "",
    ],
)
def test_the_form_for_a_token_is_as_in_fastapi(serve: Any, name: str, body: str) -> None:
    pytest.importorskip("fastapi.security")
    app = CovetPy()

    @app.post("/token")
    def token(form: Annotated[Any, Depends(getattr(security, name))]) -> Any:
        return vars(form)

    answer = serve(app).post("/token", body, headers=[("content-type", FORM)])
    theirs = _their_form(name, body)
    assert answer.status == (422 if "detail" in theirs else 200)
    if answer.status == 200:
        assert answer.json() == theirs
    else:
        assert _places(answer.json()) == _places(theirs)


def _their_form(name: str, body: str) -> Any:
    """What FastAPI's form makes of a body. Its parameters are checked with pydantic, because the form parser of FastAPI
    needs a package that is not here."""
    import inspect
    from urllib.parse import parse_qsl

    from fastapi import security as theirs
    from pydantic import TypeAdapter, ValidationError

    given_fields = {key: value for key, value in parse_qsl(body) if value}
    arguments, errors = {}, []
    form = getattr(theirs, name)
    for parameter in inspect.signature(form).parameters.values():
        if parameter.name not in given_fields:
            if parameter.default is inspect.Parameter.empty:
                errors.append({"loc": ["body", parameter.name], "type": "missing"})
            continue
        try:
            arguments[parameter.name] = TypeAdapter(parameter.annotation).validate_python(given_fields[parameter.name])
        except ValidationError as error:
            errors += [{"loc": ["body", parameter.name], "type": one["type"]} for one in error.errors()]
    return {"detail": errors} if errors else vars(form(**arguments))


def _places(answer: Any) -> list[tuple[list[str], str]]:
    return [(error["loc"], error["type"]) for error in answer["detail"]]


# Backends.


def find_token(token: str) -> Any:
    return {
        "name": "alice",
        "credentials": (AuthCredentials(["read", "write"]), SimpleUser("bob")),
        "true": True,
        "false": False,
        "a+b/c~d._-==": "odd",
    }.get(token)


async def find_token_later(token: str) -> Any:
    await asyncio.sleep(0)
    return find_token(token)


@pytest.mark.parametrize("verify", [find_token, find_token_later])
def test_a_bearer_token_tells_who_it_is(verify: Any) -> None:
    middleware = AuthenticationMiddleware(backend=BearerBackend(verify))
    for field, expected in (
        ("Bearer name", "True:alice:authenticated"),
        ("bearer  name", "True:alice:authenticated"),
        ("Bearer credentials", "True:bob:read,write"),
        ("Bearer true", "True::authenticated"),
        ("Bearer a+b/c~d._-==", "True:odd:authenticated"),
        ("Basic name", "False::"),
        ("name", "False::"),
    ):
        assert through(middleware, make_request(headers={"authorization": field})).body == expected
    assert through(middleware, make_request()).body == "False::"


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer nobody")],
        [("authorization", "Bearer false")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer name name")],
        [("authorization", "Bearer name,")],
        [("authorization", "Bearer n\tame")],
        [("authorization", "Bearer name\n")],
        [("authorization", "Bearer nämé")],
        [("authorization", "Bearer =")],
        # Which of the two has a proxy looked at?
        [("authorization", "Bearer name"), ("authorization", "Bearer nobody")],
        [("authorization", "Bearer name"), ("authorization", "Basic x")],
    ],
)
def test_a_bearer_token_that_is_not_valid_is_refused(headers: Headers) -> None:
    response = through(AuthenticationMiddleware(backend=BearerBackend(find_token)), make_request(headers=headers))
    assert (response.status_code, json.loads(response.body)) == (401, {"detail": "Invalid bearer token"})
    assert response.headers.getlist("www-authenticate") == ['Bearer error="invalid_token"']


def check_password(username: str, password: str) -> Any:
    return constant_time_equals(password, "päss:word") and (username != "root" or "admin")


def test_name_and_password_tell_who_it_is() -> None:
    middleware = AuthenticationMiddleware(backend=BasicBackend(check_password))
    for text, expected in (
        ("zoë:päss:word", "True:zoë:authenticated"),
        ("root:päss:word", "True:admin:authenticated"),
        (":päss:word", "True::authenticated"),
    ):
        assert through(middleware, make_request(headers={"authorization": basic(text)})).body == expected


@pytest.mark.parametrize(
    "field",
    [
        basic("a:wrong"),
        basic("nocolon"),
        basic(""),
        basic(b"\xff:\xff"),
        basic("a\0:päss:word"),
        basic("a\n:päss:word"),
        basic("a:päss:word") + "!",
        basic("a:päss:word") + "\n",
        "Basic",
        "Basic ü",
        "Basic " + "A" * 5,
        "Basic :",
    ],
)
def test_name_and_password_that_are_not_valid_are_refused(field: str) -> None:
    backend = BasicBackend(check_password, realm='The "inner" \\ place')
    response = through(AuthenticationMiddleware(backend=backend), make_request(headers={"authorization": field}))
    assert (response.status_code, json.loads(response.body)) == (401, {"detail": "Invalid authentication credentials"})
    assert response.headers["www-authenticate"] == 'Basic realm="The \\"inner\\" \\\\ place", charset="UTF-8"'


def test_an_api_key_tells_who_it_is() -> None:
    verify = {"one": "alice"}.get
    for backend, target, headers in (
        (APIKeyBackend(verify), "/", {"x-api-key": "one"}),
        (APIKeyBackend(verify, header="X-Other"), "/", {"x-other": "one"}),
        (APIKeyBackend(verify, query="key"), "/?key=one", {}),
        (APIKeyBackend(verify, cookie="key"), "/", {"cookie": "key=one"}),
        (APIKeyBackend(verify, header="x-key", query="key"), "/?key=one", {"x-key": ""}),
        (APIKeyBackend(verify, header="x-key", query="key"), "/?key=two", {"x-key": "one"}),
    ):
        middleware = AuthenticationMiddleware(backend=backend)
        assert through(middleware, make_request(target, headers)).body == "True:alice:authenticated"
        assert through(middleware, make_request()).body == "False::"
    middleware = AuthenticationMiddleware(backend=APIKeyBackend(verify))
    for pairs in ([("x-api-key", "two")], [("x-api-key", "one"), ("x-api-key", "one")]):
        response = through(middleware, make_request(headers=pairs))
        assert (response.status_code, json.loads(response.body)) == (401, {"detail": "Invalid API key"})
        assert response.headers["www-authenticate"] == "APIKey"
    # A key in a place where it is not looked for is none.
    assert through(middleware, make_request("/?x-api-key=one", {"cookie": "x-api-key=one"})).body == "False::"


def test_a_verify_that_returns_something_else_is_an_error_and_lets_nobody_in() -> None:
    for wrong in ((), ("a",), ("a", "b"), (AuthCredentials(), SimpleUser("a"), 1)):
        backend = BearerBackend(lambda token, wrong=wrong: wrong)  # type: ignore[misc]
        with pytest.raises(TypeError, match="verify may return"):
            through(AuthenticationMiddleware(backend=backend), make_request(headers={"authorization": "Bearer x"}))

    def failing(token: str) -> Any:
        raise LookupError("no database")

    with pytest.raises(LookupError):
        through(AuthenticationMiddleware(backend=BearerBackend(failing)), make_request(headers={"authorization": "Bearer x"}))


def test_a_user_may_be_any_object() -> None:
    class User(BaseUser):
        is_authenticated = True
        display_name = "Carol"
        identity = "3"

    middleware = AuthenticationMiddleware(backend=BearerBackend(lambda token: User()))
    assert through(middleware, make_request(headers={"authorization": "Bearer x"})).body == "True:Carol:authenticated"


@given(st.text(max_size=30), st.sampled_from(["", "Bearer ", "Basic "]))
def test_no_credentials_are_an_error_of_a_backend(text: str, scheme: str) -> None:
    backends = [BearerBackend(lambda token: None), BasicBackend(lambda name, password: None), APIKeyBackend(lambda key: None)]
    request = make_request(headers={"authorization": scheme + text, "x-api-key": text})
    assert through(AuthenticationMiddleware(backend=backends), request).status_code in (200, 401)


# AuthenticationMiddleware.


class Own(AuthenticationBackend):
    challenge = "Own"

    async def authenticate(self, request: Request) -> tuple[AuthCredentials, Any] | None:
        value = request.headers.get("x-own")
        if value == "bad":
            raise AuthenticationError("Own is bad")
        if value == "worse":
            raise AuthenticationError("Own is worse", challenge='Own error="worse"')
        return None if value is None else (AuthCredentials(["own"]), SimpleUser(value))


def test_a_backend_of_the_application() -> None:
    middleware = AuthenticationMiddleware(backend=Own())
    assert through(middleware, make_request(headers={"x-own": "me"})).body == "True:me:own"
    for value, challenge in (("bad", "Own"), ("worse", 'Own error="worse"')):
        response = through(middleware, make_request(headers={"x-own": value}))
        assert (response.status_code, json.loads(response.body)) == (401, {"detail": f"Own is {value}"})
        assert response.headers["www-authenticate"] == challenge


def test_of_several_backends_the_first_that_finds_credentials_decides() -> None:
    middleware = AuthenticationMiddleware([BearerBackend(find_token), Own()], required=True)
    assert through(middleware, make_request(headers={"x-own": "me"})).body == "True:me:own"
    both = {"authorization": "Bearer name", "x-own": "me"}
    assert through(middleware, make_request(headers=both)).body == "True:alice:authenticated"
    # Bad credentials of one are not forgiven for good ones of another.
    assert through(middleware, make_request(headers={**both, "authorization": "Bearer bad"})).status_code == 401
    response = through(middleware, make_request())
    assert (response.status_code, json.loads(response.body)) == (401, {"detail": "Not authenticated"})
    assert response.headers.getlist("www-authenticate") == ["Bearer", "Own"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/login", 200),
        ("/public/x", 200),
        ("/private", 401),
        ("/public/../private", 401),
        ("/public/%2e%2e/private", 401),
        ("/public%2fx", 401),
        ("/LOGIN", 401),
        ("/login/", 401),
        ("/login%00", 401),
        ("//login", 401),
    ],
)
def test_paths_are_exempt_only_where_there_is_no_doubt(target: str, status: int) -> None:
    middleware = AuthenticationMiddleware(Own(), required=True, exempt=["/login", "/public/*"])
    assert through(middleware, make_request(target)).status_code == status


def test_an_exempt_path_has_no_user_even_with_credentials() -> None:
    middleware = AuthenticationMiddleware(Own(), exempt=["/login"])
    assert through(middleware, make_request("/login", {"x-own": "me"})).body == "False::"
    assert through(middleware, make_request("/login", {"x-own": "bad"})).body == "False::"


@pytest.mark.parametrize("is_async", [False, True])
def test_refusals_may_be_answered_by_the_application(is_async: bool) -> None:
    def on_error(request: Request, error: AuthenticationError) -> Any:
        response = PlainTextResponse(f"{request.path}: {error}", 400)

        async def later() -> Response:
            return response

        return later() if is_async else response

    response = through(AuthenticationMiddleware(Own(), on_error=on_error), make_request("/a", {"x-own": "bad"}))
    assert (response.status_code, response.body) == (400, "/a: Own is bad")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: AuthenticationMiddleware([]), "backend"),
        (lambda: AuthenticationMiddleware(Own), "backend"),  # type: ignore[arg-type]
        (lambda: AuthenticationMiddleware(None), "backend"),  # type: ignore[arg-type]
        (lambda: AuthenticationMiddleware(lambda request: None), "backend"),  # type: ignore[arg-type, return-value]
        (lambda: AuthenticationMiddleware(Own(), on_error="x"), "on_error"),  # type: ignore[arg-type]
        (lambda: AuthenticationMiddleware(Own(), exempt=["login"]), "exempt"),
        (lambda: BearerBackend("token"), "verify"),  # type: ignore[arg-type]
        (lambda: BasicBackend(check_password, realm="a\r\nb"), "realm"),
        (lambda: BasicBackend(check_password, realm=""), "realm"),
        (lambda: APIKeyBackend(find_token, header=""), "header"),
        (lambda: APIKeyBackend(find_token, query=""), "query"),
    ],
)
def test_options_are_checked(make: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}"):
        make()


# requires.


def make_application(**options: Any) -> CovetPy:
    app = CovetPy()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(AuthenticationMiddleware, backend=BearerBackend(find_token), **options)

    @app.get("/open")
    def read_open(request: Request) -> str:
        return f"hello {request.user.display_name}"

    @app.get("/read")
    @requires("read")
    def read(request: Request, q: int = 1) -> str:
        return f"{request.user.display_name} {q}"

    @app.get("/write")
    @requires(["read", "write"])
    async def write(q: int, wanted: Request) -> str:
        return f"{wanted.user.display_name} {q}"

    @app.get("/admin")
    @requires("admin", status_code=404)
    def admin(request):  # type: ignore[no-untyped-def]
        return "admin"

    @app.get("/login-first")
    @requires("authenticated", status_code=401)
    def login_first(request: Request) -> str:
        return "in"

    @app.get("/page")
    @requires("authenticated", redirect="read_open")
    async def page(request: Request) -> str:
        return "page"

    return app


def test_handlers_require_scopes(serve: Any) -> None:
    instance = serve(make_application())
    bob, alice = [("authorization", "Bearer credentials")], [("authorization", "Bearer name")]
    assert instance.get("/read?q=3", headers=bob).text == "bob 3"
    assert instance.get("/write?q=3", headers=bob).text == "bob 3"
    assert instance.get("/login-first", headers=alice).text == "in"
    assert instance.get("/page", headers=alice).text == "page"
    assert instance.get("/open", headers=alice).text == "hello alice"
    assert instance.get("/open").text == "hello "
    for path, headers, status in (
        ("/read", [], 403),
        ("/read", alice, 403),
        ("/write?q=3", alice, 403),
        ("/admin", bob, 404),
        ("/open", [("authorization", "Bearer nobody")], 401),
        # The parameters are read first: what is wrong with them says nothing about anyone.
        ("/write?q=x", alice, 422),
    ):
        assert instance.get(path, headers=headers).status == status
    answer = instance.get("/login-first")
    assert answer.status == 401
    assert {name.lower(): value for name, value in answer.headers}["www-authenticate"] == "Bearer"


def test_whoever_lacks_a_scope_may_be_sent_elsewhere(serve: Any) -> None:
    instance = serve(make_application())
    answer = instance.get("/page?a=1&b=%2F", headers=[("host", "testhost")])
    assert answer.status == 303
    location = answer.header("location")
    assert location == "http://testhost:8000/open?next=http%3A%2F%2Ftesthost%3A8000%2Fpage%3Fa%3D1%26b%3D%252F"


def test_a_preflight_request_needs_no_credentials(serve: Any) -> None:
    instance = serve(make_application(required=True))
    headers = [("origin", "https://example.org"), ("access-control-request-method", "GET")]
    assert instance.request("OPTIONS", "/read", headers=headers).status == 200
    answer = instance.get("/read", headers=[("origin", "https://example.org")])
    assert answer.status == 401
    # So that a page can see why.
    assert answer.header("access-control-allow-origin") == "*"


def test_requires_without_the_middleware_is_an_error(serve: Any) -> None:
    app = CovetPy()

    @app.get("/read")
    @requires("read")
    def read(request: Request) -> str:
        raise AssertionError("the handler was called")

    assert serve(app).get("/read").status == 500


def test_requires_needs_a_parameter_for_the_request() -> None:
    with pytest.raises(TypeError, match="add request: Request"):

        @requires("read")
        def read(q: int) -> str:
            return ""

    with pytest.raises(TypeError, match="add request: Request"):

        @requires("read")
        def send(request: dict[str, int]) -> str:
            return ""


def later(q: "DefinedLater", request: "Request") -> None:  # noqa: F821
    """A handler whose annotations have no meaning here."""


def test_requires_finds_the_request_by_its_type_or_its_name(serve: Any) -> None:
    app = CovetPy()
    app.add_middleware(AuthenticationMiddleware, backend=BearerBackend(find_token))

    # An annotation that cannot be read yet.
    requires("read")(later)

    def by_text(q: int, wanted: "Request") -> int:
        return q

    def positional(q: int, request: Request, /) -> int:
        return q

    for handler in (by_text, positional):
        app.get(f"/{handler.__name__}")(requires("read")(handler))
    instance = serve(app)
    for route in ("by_text", "positional"):
        assert instance.get(f"/{route}?q=3").status == 403
        assert instance.get(f"/{route}?q=3", headers=[("authorization", "Bearer credentials")]).json() == 3


# The rest.


@given(st.text(max_size=20) | st.binary(max_size=20), st.text(max_size=20) | st.binary(max_size=20))
def test_secrets_are_compared(one: str | bytes, other: str | bytes) -> None:
    def octets(value: str | bytes) -> bytes:
        return value.encode(errors="surrogatepass") if isinstance(value, str) else value

    assert constant_time_equals(one, other) is (octets(one) == octets(other))
    assert constant_time_equals(one, one)


def test_secrets_that_are_no_ascii_are_compared() -> None:
    assert constant_time_equals("zoë\udcff", "zoë\udcff")
    assert not constant_time_equals("zoë", "zoe")


def test_users() -> None:
    assert (SimpleUser("a").identity, SimpleUser("a").is_authenticated) == ("a", True)
    assert (UnauthenticatedUser().identity, UnauthenticatedUser().is_authenticated) == ("", False)
    assert AuthCredentials().scopes == []
    with pytest.raises(TypeError, match="list of strings"):
        AuthCredentials("read")
    for name in ("is_authenticated", "display_name", "identity"):
        with pytest.raises(NotImplementedError):
            getattr(BaseUser(), name)
    with pytest.raises(NotImplementedError):
        AuthenticationBackend().authenticate(make_request())
