"""The middleware that is shipped: what each does, and what attacks on it get."""

import asyncio
import gc
import gzip
import json
import logging
import re
import subprocess
import sys
import weakref
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import copy_context
from typing import Any

import pytest
import simulator
from hypothesis import given
from hypothesis import strategies as st

from covet import CovetPy, HTTPException, JSONResponse, PlainTextResponse, Request, Response, StreamingResponse
from covet._guest.bridge import BodyEmpty, RequestRecord
from covet.middleware import (
    BaseMiddleware,
    CORSMiddleware,
    GZipMiddleware,
    HTTPSRedirectMiddleware,
    RateLimitMiddleware,
    RequestIDMiddleware,
    SecurityHeadersMiddleware,
    SessionMiddleware,
    TimingMiddleware,
    TrustedHostMiddleware,
)
from covet.middleware._shared import Paths, add_vary, host_name
from covet.middleware.gzip import accepts_gzip
from covet.middleware.gzip import compress as gzip_compress
from covet.middleware.ratelimit import Allowance, MemoryStorage, client_address, parse_limit
from covet.middleware.requestid import RequestIDFilter, get_request_id, request_id
from covet.middleware.sessions import COOKIE_SIZE_MAX, Session

Headers = dict[str, str] | list[tuple[str, str]]


def make_request(
    method: str = "GET",
    target: str = "/",
    headers: Headers = (),  # type: ignore[assignment]
    *,
    origin: str = "http://testhost",
    peer: str = "192.0.2.1:5000",
) -> Request:
    fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if not any(name == "host" for name, _ in fields):
        fields.insert(0, ("host", origin.partition("://")[2]))
    app: Any = None
    return Request(RequestRecord(0, method, origin, target, [], fields, peer, BodyEmpty()), app)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that waits for nothing but turns of a loop, in a context of its own as requests do."""
    context = copy_context()
    while True:
        try:
            context.run(coroutine.send, None)
        except StopIteration as stop:
            return stop.value


def through(
    middleware: Callable[[Request, Any], Coroutine[Any, Any, Response]],
    request: Request,
    handler: Callable[[Request], Any] = lambda request: PlainTextResponse("hello"),
) -> Response:
    """The response to a request of a middleware around a handler."""

    async def call_next(request: Request) -> Response:
        await asyncio.sleep(0)
        result = handler(request)
        return await result if isinstance(result, Awaitable) else result  # type: ignore[no-any-return]

    response = run(middleware(request, call_next))
    assert isinstance(response, Response)
    return response


def never(request: Request) -> Response:
    raise AssertionError("the handler was called")


def body_of(response: Response) -> bytes:
    return response.body.encode() if isinstance(response.body, str) else response.body


# The package.


def test_only_what_is_asked_for_is_imported() -> None:
    code = (
        "import sys; from covet.middleware import BaseMiddleware, TimingMiddleware\n"
        "import covet.middleware.base\n"
        "print(sorted(m for m in sys.modules if m.startswith('covet.middleware.')), 'zlib' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=_bare_environment()
    )
    assert output.stdout.strip() == ("['covet.middleware._shared', 'covet.middleware.base', 'covet.middleware.timing'] False")


def test_every_name_of_the_package_is_there_and_no_other() -> None:
    import covet.middleware

    for name in covet.middleware.__all__:
        assert getattr(covet.middleware, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        covet.middleware.Nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        exec("from covet.middleware import Nothing")


def _bare_environment() -> dict[str, str]:
    from pathlib import Path

    import covet

    return {"PYTHONPATH": str(Path(covet.__file__).parent.parent)}


# BaseMiddleware.


class Noting(BaseMiddleware):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def process_request(self, request: Request) -> None:
        self.notes.append(f"{self.name} in")

    def process_response(self, request: Request, response: Response) -> None:
        self.notes.append(f"{self.name} out")


class NotingLater(Noting):
    async def process_request(self, request: Request) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.notes.append(f"{self.name} in")

    async def process_response(self, request: Request, response: Response) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.notes.append(f"{self.name} out")


@pytest.mark.parametrize("kind", [Noting, NotingLater])
def test_the_two_methods_are_called_around_the_handler(kind: type[Noting]) -> None:
    notes: list[str] = []
    middleware = kind("a", notes)

    def handler(request: Request) -> Response:
        notes.append("handler")
        return PlainTextResponse("x")

    through(middleware, make_request(), handler)
    assert notes == ["a in", "handler", "a out"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_response_on_the_way_in_ends_it(is_async: bool) -> None:
    answer = PlainTextResponse("stop", 418)

    class Stopping(BaseMiddleware):
        def process_request(self, request: Request) -> Any:
            async def later() -> Response:
                return answer

            return later() if is_async else answer

        def process_response(self, request: Request, response: Response) -> None:
            raise AssertionError("called for a response that did not come from further in")

    assert through(Stopping(), make_request(), never) is answer


@pytest.mark.parametrize("is_async", [False, True])
def test_a_response_may_be_replaced_on_the_way_out(is_async: bool) -> None:
    class Replacing(BaseMiddleware):
        def process_response(self, request: Request, response: Response) -> Any:
            async def later() -> Response:
                return PlainTextResponse("other")

            return later() if is_async else PlainTextResponse("other")

    assert through(Replacing(), make_request()).body == "other"


def test_exceptions_pass_a_middleware() -> None:
    class Failing(BaseMiddleware):
        def process_response(self, request: Request, response: Response) -> None:
            raise AssertionError("there is no response")

    def handler(request: Request) -> Response:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        through(Failing(), make_request(), handler)


def test_what_is_no_response_is_a_type_error_that_names_the_method() -> None:
    class Wrong(BaseMiddleware):
        def process_request(self, request: Request) -> Any:
            return {"detail": "no"}

    with pytest.raises(TypeError, match=re.escape("Wrong.process_request returns a Response or None, not dict")):
        through(Wrong(), make_request())


def test_options_are_kept_where_a_class_has_no_init() -> None:
    class Plain(BaseMiddleware):
        pass

    assert Plain(level=3).options == {"level": 3}
    assert Plain().options == {}
    with pytest.raises(TypeError):
        Plain().options["level"] = 3  # type: ignore[index]


# What several share.


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], ["Origin"]),
        (["Accept"], ["Accept, Origin"]),
        (["Accept", "Cookie"], ["Accept, Cookie, Origin"]),
        (["accept, ORIGIN"], ["accept, ORIGIN"]),
        (["*"], ["*"]),
    ],
)
def test_vary_gets_a_name_once(present: list[str], expected: list[str]) -> None:
    response = Response(headers=[("vary", value) for value in present])
    add_vary(response.headers, "Origin")
    assert response.headers.getlist("vary") == expected


@pytest.mark.parametrize(
    ("target", "is_covered"),
    [
        ("/health", True),
        ("/health?x=/../", True),
        ("/healthy", False),
        ("/health/", False),
        ("/HEALTH", False),
        ("/static/a.css", True),
        ("/static/a/b.css", True),
        ("/static/", True),
        ("/static", False),
        ("/staticx", False),
        ("/stat%69c/a", True),
        # What another reader of the path could take for /admin.
        ("/static/../admin", False),
        ("/static/..", False),
        ("/static/%2e%2e/admin", False),
        ("/static/%2E./admin", False),
        ("/static/./a", False),
        ("/static/..%2fadmin", False),
        ("/static%2Fadmin", False),
        ("/static/a%2fb", False),
        ("/static/..%5cadmin", False),
        ("/static/..\\admin", False),
        ("/static//admin", False),
        ("//static/admin", False),
        ("/static/%252e%252e%252fadmin", False),
        ("/static/a%00", False),
        # Dots that are part of a name.
        ("/static/..a", True),
        ("/static/a..", True),
        ("/static/...", True),
    ],
)
def test_exempt_paths_are_exact_or_all_below(target: str, is_covered: bool) -> None:
    assert Paths("exempt", ["/health", "/static/*"]).covers(make_request(target=target)) is is_covered


@pytest.mark.parametrize("pattern", ["health", "", "*", "/a*", "/a/*/b", "/*/b", "/**"])
def test_other_patterns_of_paths_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"^exempt: "):
        Paths("exempt", [pattern])


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("Example.ORG", "example.org"),
        ("example.org:8000", "example.org"),
        ("example.org:", "example.org"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("[::1]", "[::1]"),
        ("", None),
        (":80", None),
        ("a b", None),
        ("example.org:80:80", None),
        ("example.org:port", None),
        ("example.org/evil", None),
        ("example.org@evil", None),
        ("example.org:80@evil", None),
        ("example.org?", None),
        ("example.org#", None),
        ("example.org\\evil", None),
        ("example.org\r\nx: y", None),
        ("example.org\n", None),
        ("[::1", None),
        ("[:::1]", None),
        ("[1.2.3.4]", None),
        ("::1", None),
        ("[::1]evil.org", None),
        ("exämple.org", None),
        ("example.org:٣", None),
    ],
)
def test_hosts_are_read_strictly(authority: str, host: str | None) -> None:
    assert host_name(authority) == host


# CORSMiddleware.

PREFLIGHT = {"origin": "https://example.org", "access-control-request-method": "GET"}


def test_cors_answers_a_preflight_request() -> None:
    cors = CORSMiddleware(
        allow_origins=["https://example.org"],
        allow_methods=["GET", "PUT"],
        allow_headers=["X-Token"],
        allow_credentials=True,
        max_age=60,
    )
    asked = {**PREFLIGHT, "access-control-request-method": "PUT", "access-control-request-headers": "x-token, Content-Type"}
    response = through(cors, make_request("OPTIONS", headers=asked), never)
    assert (response.status_code, response.body) == (200, "OK")
    assert dict(response.headers) == {
        "content-type": "text/plain; charset=utf-8",
        "vary": (
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
        ),
        "access-control-allow-origin": "https://example.org",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "Accept, Accept-Language, Content-Language, Content-Type, X-Token",
        "access-control-allow-credentials": "true",
        "access-control-max-age": "60",
    }


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"origin": "https://evil.org"}, "origin"),
        ({"access-control-request-method": "DELETE"}, "method"),
        ({"access-control-request-method": "get"}, "method"),
        ({"access-control-request-headers": "x-other"}, "headers"),
        ({"access-control-request-headers": "x-token,,x-token"}, "headers"),
        ({"access-control-request-private-network": "true"}, "private-network"),
        ({"origin": "null", "access-control-request-method": "PUT"}, "origin, method"),
    ],
)
def test_cors_refuses_a_preflight_request_and_says_why(asked: dict[str, str], refused: str) -> None:
    cors = CORSMiddleware(allow_origins=["https://example.org"], allow_headers=["X-Token"])
    response = through(cors, make_request("OPTIONS", headers={**PREFLIGHT, **asked}), never)
    assert (response.status_code, response.body) == (400, f"Disallowed CORS {refused}")
    if "origin" in asked:
        assert "access-control-allow-origin" not in response.headers


def test_cors_lets_other_options_requests_pass() -> None:
    cors = CORSMiddleware(allow_origins=["*"])
    for headers in ({"origin": "https://example.org"}, {"access-control-request-method": "GET"}):
        assert through(cors, make_request("OPTIONS", headers=headers)).body == "hello"


def test_cors_puts_its_fields_on_every_response() -> None:
    cors = CORSMiddleware(allow_origins=["https://example.org"], allow_credentials=True, expose_headers=["X-A", "X-B"])
    response = through(
        cors,
        make_request(headers={"origin": "https://example.org"}),
        lambda request: JSONResponse({"detail": "no"}, 404, {"vary": "Accept"}),
    )
    assert response.status_code == 404
    assert response.headers["access-control-allow-origin"] == "https://example.org"
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["access-control-expose-headers"] == "X-A, X-B"
    assert response.headers["vary"] == "Accept, Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.org",
        "https://example.org.evil.org",
        "https://evilexample.org",
        "https://example.org:8443",
        "http://example.org",
        "https://sub.example.org.evil.org",
        "https://example.org\n",
        "https://a.example.org\nhttps://evil.org",
        "https://axexample.org",
        "HTTPS://EXAMPLE.ORG",
        "https://example.org/",
        "null",
        "",
    ],
)
def test_cors_gives_nothing_to_other_origins(origin: str) -> None:
    cors = CORSMiddleware(
        allow_origins=["https://example.org"], allow_origin_regex=r"https://[a-z]+\.example\.org", allow_credentials=True
    )
    response = through(cors, make_request(headers={"origin": origin}))
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin"


def test_cors_matches_the_whole_origin_with_the_expression() -> None:
    cors = CORSMiddleware(allow_origin_regex=r"https://[a-z]+\.example\.org")
    response = through(cors, make_request(headers={"origin": "https://a.example.org"}))
    assert response.headers["access-control-allow-origin"] == "https://a.example.org"


def test_cors_never_combines_credentials_with_every_origin() -> None:
    cors = CORSMiddleware(allow_origins=["*"], allow_credentials=True)
    response = through(cors, make_request(headers={"origin": "https://any.org"}))
    assert response.headers["access-control-allow-origin"] == "https://any.org"
    assert "Origin" in response.headers["vary"]
    response = through(cors, make_request("OPTIONS", headers={**PREFLIGHT, "origin": "https://any.org"}), never)
    assert response.headers["access-control-allow-origin"] == "https://any.org"


def test_cors_leaves_requests_without_an_origin_but_says_what_they_depend_on() -> None:
    response = through(CORSMiddleware(allow_origins=["https://example.org"]), make_request())
    assert [name for name in response.headers if name.startswith("access-control")] == []
    assert response.headers["vary"] == "Origin"


def test_cors_takes_every_kind_of_origin_that_browsers_send() -> None:
    origins = ["http://localhost:5173", "https://[::1]:8000", "chrome-extension://abc", "capacitor://localhost", "null"]
    cors = CORSMiddleware(allow_origins=origins)
    for origin in origins:
        assert through(cors, make_request(headers={"origin": origin})).headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "options",
    [
        {"allow_origins": "*"},
        {"allow_origins": ["https://example.org/"]},
        {"allow_origins": ["https://example.org/path"]},
        {"allow_origins": ["example.org"]},
        {"allow_origins": ["https://Example.org"]},
        {"allow_origins": ["https://*.example.org"]},
        {"allow_origins": ["https://example.org\n"]},
        {"allow_origins": ["https://exämple.org"]},
        {"allow_origins": [b"https://example.org"]},
        {"allow_origins": None},
        {"allow_origin_regex": "("},
        {"allow_methods": "GET"},
        {"allow_methods": ["GET\r\nx: y"]},
        {"allow_headers": ["x token"]},
        {"expose_headers": ["x,y"]},
        {"max_age": -1},
        {"max_age": "600"},
        {"max_age": True},
    ],
)
def test_cors_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))}"):
        CORSMiddleware(**options)


_ORIGINS = st.sampled_from(["https://a.org", "https://b.org", "http://a.org:8000", "null"])
_CORS_OPTIONS = st.fixed_dictionaries(
    {
        "allow_origins": st.lists(_ORIGINS | st.just("*"), max_size=2),
        "allow_origin_regex": st.sampled_from([None, r"https://.*\.org", "null"]),
        "allow_methods": st.lists(st.sampled_from(["GET", "PUT", "*"]), max_size=2, unique=True),
        "allow_headers": st.lists(st.sampled_from(["X-A", "x-b", "*", "Accept"]), max_size=2),
        "allow_credentials": st.booleans(),
        "expose_headers": st.lists(st.sampled_from(["X-A", "X-B"]), max_size=2, unique=True),
        "allow_private_network": st.booleans(),
    }
)
_CORS_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "origin": _ORIGINS,
        "access-control-request-method": st.sampled_from(["GET", "PUT", "DELETE", "x"]),
        "access-control-request-headers": st.sampled_from(["x-a", "X-B , x-a", "accept", "x-c", "", ",", "x-a,"]),
        "access-control-request-private-network": st.just("true"),
    },
)


@given(_CORS_OPTIONS, st.sampled_from(["GET", "OPTIONS"]), _CORS_HEADERS, st.sampled_from([None, "Accept"]))
def test_cors_answers_as_starlette_does(options: dict[str, Any], method: str, asked: dict[str, str], vary: str | None) -> None:
    cors = pytest.importorskip("starlette.middleware.cors")
    fields = {} if vary is None else {"vary": vary}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raw = [(b"content-type", b"text/plain; charset=utf-8"), *((k.encode(), v.encode()) for k, v in fields.items())]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": b"hello"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "headers": [(k.encode(), v.encode()) for k, v in asked.items()]}
    run(cors.CORSMiddleware(application, **options)(scope, None, send))
    theirs = {k.decode(): v.decode() for k, v in sent[0]["headers"] if k != b"content-length"}

    response = through(
        CORSMiddleware(**options), make_request(method, headers=asked), lambda _: PlainTextResponse("hello", 200, fields)
    )
    ours = dict(response.headers)
    assert (response.status_code, body_of(response)) == (sent[0]["status"], sent[1]["body"])
    # Starlette repeats a name of the origin that is there.
    assert {**ours, "vary": _set(ours["vary"])} == {**theirs, "vary": _set(theirs["vary"])}


def _set(value: str) -> set[str]:
    return {item.strip() for item in value.split(",")}


# GZipMiddleware.

LONG = "covet " * 200


@pytest.mark.parametrize("content", [LONG, LONG.encode(), "ü" * 300])
def test_gzip_compresses_a_whole_body(content: str | bytes) -> None:
    response = through(
        GZipMiddleware(),
        make_request(headers={"accept-encoding": "gzip, deflate, br"}),
        lambda request: Response(content, headers={"etag": '"abc"', "content-length": "1200", "vary": "Accept"}),
    )
    assert gzip.decompress(body_of(response)) == (content.encode() if isinstance(content, str) else content)
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-length"] == str(len(response.body))
    assert response.headers["etag"] == 'W/"abc"'
    assert response.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    ("field", "is_accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip", True),
        ("gzip;q=1.0", True),
        ("gzip;q=0.001", True),
        ("x-gzip", True),
        ("*", True),
        ("*;q=0.5", True),
        ("gzip ; q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;Q=0, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("br", False),
        ("gzipped", False),
        ("notgzip", False),
        ("", False),
        ("gzip;q=", False),
        ("gzip;q=x", False),
        ("gzip;q=nan", False),
        ("gzip;q=-1", False),
        ("gzip;q=2", False),
        (",,;;,gzip", True),
    ],
)
def test_gzip_is_used_where_the_client_accepts_it(field: str, is_accepted: bool) -> None:
    assert accepts_gzip([field]) is is_accepted
    response = through(
        GZipMiddleware(), make_request(headers={"accept-encoding": field}), lambda request: PlainTextResponse(LONG)
    )
    assert ("content-encoding" in response.headers) is is_accepted
    # A cache must know that other clients get another body.
    assert response.headers["vary"] == "Accept-Encoding"


def test_gzip_reads_all_fields_and_takes_a_hostile_one() -> None:
    assert accepts_gzip(["br", "gzip"])
    assert not accepts_gzip([])
    assert accepts_gzip(["a;q=0.1," * 100_000 + "gzip"])


@pytest.mark.parametrize(
    "response",
    [
        Response("x" * 499),
        Response(b"x" * 499),
        Response("ü" * 249),
        Response(LONG, headers={"content-encoding": "br"}),
        Response(LONG, headers={"content-type": "text/event-stream"}),
        Response(LONG, headers={"content-type": "Image/PNG"}),
        Response(LONG, headers={"content-type": "video/mp4; codecs=x"}),
        Response(LONG, headers={"content-type": "application/grpc+proto"}),
        Response(LONG, headers={"cache-control": "public, No-Transform"}),
        Response(LONG, 206, headers={"content-range": "bytes 0-1199/2000"}),
        Response(LONG, 206),
        Response(None, 204),
        Response(None, 304, headers={"etag": '"abc"'}),
        Response(None),
    ],
)
def test_gzip_leaves_a_response_alone(response: Response) -> None:
    body, headers = response.body, dict(response.headers)
    through(GZipMiddleware(), make_request(headers={"accept-encoding": "gzip"}), lambda request: response)
    assert response.body == body
    assert dict(response.headers) == headers


def test_gzip_leaves_what_would_become_longer() -> None:
    noise = bytes((i * 7919 + i * i * 31) % 251 for i in range(600)) + gzip.compress(b"x" * 10)
    noise = b"".join(zlib.crc32(noise + bytes([i])).to_bytes(4) for i in range(200))
    response = through(GZipMiddleware(), make_request(headers={"accept-encoding": "gzip"}), lambda request: Response(noise))
    assert response.body == noise
    assert "content-encoding" not in response.headers
    assert response.headers["vary"] == "Accept-Encoding"


@given(st.binary(max_size=70_000), st.integers(1, 9))
def test_gzip_of_any_body_is_read_back(body: bytes, level: int) -> None:
    assert gzip.decompress(gzip_compress(body, level)) == body


class Source:
    """A body of pieces that is closed, synchronous or not."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = list(pieces)
        self.closed = 0
        self.taken = 0

    def _next(self) -> Any:
        self.taken += 1
        piece = self.pieces[self.taken - 1]
        if isinstance(piece, Exception):
            raise piece
        return piece


class SyncSource(Source):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.taken == len(self.pieces):
            raise StopIteration
        return self._next()

    def close(self) -> None:
        self.closed += 1


class AsyncSource(Source):
    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self.taken == len(self.pieces):
            raise StopAsyncIteration
        await asyncio.sleep(0)
        return self._next()

    async def aclose(self) -> None:
        self.closed += 1


def _take(response: Any) -> Any:
    """The next piece of a body, None at the end."""
    pieces = response.body_iterator
    try:
        return run(anext(pieces)) if hasattr(pieces, "__anext__") else next(pieces)
    except (StopAsyncIteration, StopIteration):
        return None


def _compressed_stream(source: Source, **headers: str) -> Any:
    return through(
        GZipMiddleware(),
        make_request(headers={"accept-encoding": "gzip"}),
        lambda request: StreamingResponse(source, headers={name.replace("_", "-"): value for name, value in headers.items()}),
    )


@pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
def test_gzip_sends_each_piece_of_a_stream_when_it_is_there(kind: type[Source]) -> None:
    source = kind(["one ", b"", b"two ", "", memoryview(b"three"), bytearray(b" four")])
    response = _compressed_stream(source, content_length="2000", etag='W/"x"')
    assert source.taken == 0
    assert response.headers["content-encoding"] == "gzip"
    assert "content-length" not in response.headers
    assert response.headers["etag"] == 'W/"x"'
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    # All of a piece can be read before the next one is made.
    for taken, expected in [(1, b"one "), (3, b"two "), (5, b"three"), (6, b" four")]:
        assert decompressor.decompress(_take(response)) == expected
        assert source.taken == taken
    assert decompressor.decompress(_take(response)) == b""
    assert decompressor.eof
    assert _take(response) is None
    assert _take(response) is None
    close = getattr(response.body_iterator, "aclose", None)
    run(close()) if close is not None else response.body_iterator.close()
    assert source.closed == 1


@pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
def test_gzip_of_an_empty_stream_is_valid(kind: type[Source]) -> None:
    response = _compressed_stream(kind([]))
    assert gzip.decompress(_take(response)) == b""
    assert _take(response) is None


@pytest.mark.parametrize("kind", [SyncSource, AsyncSource])
def test_a_stream_that_fails_does_not_look_complete(kind: type[Source]) -> None:
    response = _compressed_stream(kind(["one", OSError("gone")]))
    data = _take(response)
    with pytest.raises(OSError, match="gone"):
        _take(response)
    with pytest.raises(EOFError):
        gzip.decompress(data)


def test_gzip_closes_a_stream_that_nobody_has_read() -> None:
    for source in (SyncSource(["x"]), AsyncSource(["x"])):
        response = _compressed_stream(source)
        close = getattr(response.body_iterator, "aclose", None)
        run(close()) if close is not None else response.body_iterator.close()
        assert (source.taken, source.closed) == (0, 1)


def test_gzip_takes_generators_and_lists() -> None:
    async def numbers() -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)

    for pieces in (numbers(), ["0", "1", "2"], (str(number) for number in range(3))):
        response = _compressed_stream(pieces)  # type: ignore[arg-type]
        data = b""
        while (piece := _take(response)) is not None:
            data += piece
        assert gzip.decompress(data) == b"012"


def test_gzip_leaves_streams_that_are_short_or_of_events() -> None:
    for headers in ({"content_length": "10"}, {"content_type": "text/event-stream"}, {"content_encoding": "zstd"}):
        source = SyncSource(["x"])
        assert _compressed_stream(source, **headers).body_iterator is source


def test_gzip_of_a_stream_ends_with_its_pieces() -> None:
    source = SyncSource(["x"])
    response = _compressed_stream(source)
    reference = weakref.ref(source)
    del source, response
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    "options",
    [
        {"minimum_size": -1},
        {"minimum_size": "500"},
        {"compresslevel": 0},
        {"compresslevel": 10},
        {"exclude_content_types": "text/plain"},
    ],
)
def test_gzip_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))}"):
        GZipMiddleware(**options)


# TrustedHostMiddleware.


@pytest.mark.parametrize(
    "host", ["example.org", "EXAMPLE.org:8000", "api.example.com", "a.b.example.com", "127.0.0.1:1", "[::1]:80"]
)
def test_trusted_hosts_pass(host: str) -> None:
    trusted = TrustedHostMiddleware(["Example.org", "*.example.com", "127.0.0.1", "[::1]"])
    assert through(trusted, make_request(headers={"host": host}, origin=f"http://{host}")).body == "hello"


@pytest.mark.parametrize(
    "host",
    [
        "evil.org",
        "example.org.evil.org",
        "evilexample.com",
        "example.com",
        "example.org.",
        "example.org@evil.org",
        "evil.org#example.org",
        "evil.org/.example.com",
        "evil.org?.example.com",
        "evil.org\\.example.com",
        "evil.org:80.example.com",
        "example.org, evil.org",
        "",
        " example.org",
        "[::2]",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    trusted = TrustedHostMiddleware(["example.org", "*.example.com", "[::1]"])
    response = through(trusted, make_request(headers={"host": host}), never)
    assert (response.status_code, response.body) == (400, "Invalid host header")


def test_a_host_of_the_url_that_differs_is_checked_too() -> None:
    trusted = TrustedHostMiddleware(["example.org", "example.com"])
    for header, url, status in (
        ("example.org", "evil.org", 400),
        ("evil.org", "example.org", 400),
        ("example.com", "example.org", 200),
    ):
        response = through(trusted, make_request(headers={"host": header}, origin=f"http://{url}"))
        assert response.status_code == status


def test_what_a_proxy_says_is_no_host() -> None:
    headers = {"host": "evil.org", "x-forwarded-host": "example.org", "forwarded": "host=example.org"}
    assert through(TrustedHostMiddleware(["example.org"]), make_request(headers=headers), never).status_code == 400


def test_a_request_without_a_host_is_refused() -> None:
    app: Any = None
    record = RequestRecord(0, "GET", "http://127.0.0.1:80", "/", [], [], "192.0.2.1:1", BodyEmpty())
    assert through(TrustedHostMiddleware(["127.0.0.1"]), Request(record, app), never).status_code == 400


def test_the_www_host_is_redirected_to() -> None:
    request = make_request(target="/a%20b?q=1", headers={"host": "example.org:8000"}, origin="http://example.org:8000")
    response = through(TrustedHostMiddleware(["www.example.org"]), request, never)
    assert (response.status_code, response.headers["location"]) == (307, "http://www.example.org:8000/a%20b?q=1")
    assert through(TrustedHostMiddleware(["www.example.org"], www_redirect=False), request, never).status_code == 400
    odd = make_request("OPTIONS", "*", headers={"host": "example.org"}, origin="http://example.org")
    assert through(TrustedHostMiddleware(["www.example.org"]), odd, never).headers["location"] == "http://www.example.org/"


def test_every_host_may_be_allowed() -> None:
    assert through(TrustedHostMiddleware(["*"]), make_request(headers={"host": "?"})).body == "hello"


@pytest.mark.parametrize("hosts", ["example.org", [], ["*example.org"], ["a.*.org"], ["example.org:80"], ["a/b"], [""], [1]])
def test_trusted_host_options_are_checked(hosts: Any) -> None:
    with pytest.raises(ValueError, match=r"^allowed_hosts"):
        TrustedHostMiddleware(hosts)


# HTTPSRedirectMiddleware.


@pytest.mark.parametrize(
    ("origin", "target", "location"),
    [
        ("http://example.org", "/a?b=c%20d", "https://example.org/a?b=c%20d"),
        ("http://example.org:80", "/", "https://example.org/"),
        ("http://example.org:443", "/", "https://example.org/"),
        ("http://example.org:8000", "/", "https://example.org:8000/"),
        ("http://[::1]:80", "/", "https://[::1]/"),
        ("http://example.org", "//evil.org/", "https://example.org//evil.org/"),
        ("http://example.org", "*", "https://example.org/"),
    ],
)
def test_http_is_redirected_to_https(origin: str, target: str, location: str) -> None:
    response = through(HTTPSRedirectMiddleware(), make_request(target=target, origin=origin), never)
    assert (response.status_code, response.headers["location"]) == (307, location)


def test_https_is_not_redirected() -> None:
    assert through(HTTPSRedirectMiddleware(), make_request(origin="https://example.org")).body == "hello"


def test_a_host_that_is_not_valid_is_not_redirected_to() -> None:
    response = through(HTTPSRedirectMiddleware(), make_request(origin="http://example.org@evil.org"), never)
    assert response.status_code == 400


def test_what_a_proxy_says_of_the_scheme_counts_where_it_is_asked_for() -> None:
    for value, is_secure in (("https", True), ("HTTPS", True), ("https, http", True), ("http", False), ("", False)):
        request = make_request(headers={"x-forwarded-proto": value})
        behind = through(HTTPSRedirectMiddleware(proto_header="X-Forwarded-Proto"), request)
        assert behind.status_code == (200 if is_secure else 307)
        assert through(HTTPSRedirectMiddleware(), request).status_code == 307
    with pytest.raises(ValueError, match=r"^proto_header"):
        HTTPSRedirectMiddleware(proto_header="x forwarded")


# RequestIDMiddleware.


def test_a_request_gets_an_id() -> None:
    seen = []

    def handler(request: Request) -> Response:
        seen.append((request.state.request_id, get_request_id(), request_id.get()))
        return PlainTextResponse("x")

    ids = {through(RequestIDMiddleware(), make_request(), handler).headers["x-request-id"] for _ in range(10)}
    assert len(ids) == 10
    assert all(re.fullmatch("[0-9a-f]{32}", value) for value in ids)
    assert {value for row in seen for value in row} == ids


@pytest.mark.parametrize(
    ("incoming", "is_kept"),
    [
        (["abc-123"], True),
        (["Root=1-67891233-abcdef012345678912345678"], True),
        (["a" * 128], True),
        (["a" * 129], False),
        ([""], False),
        (["a b"], False),
        (["a\nb"], False),
        (["abc\n"], False),
        (["abc\x1b[2J"], False),
        (["ü"], False),
        (["<script>"], False),
        (["one", "two"], False),
        ([], False),
    ],
)
def test_an_id_that_comes_in_is_kept_where_it_is_trusted_and_harmless(incoming: list[str], is_kept: bool) -> None:
    request = make_request(headers=[("x-request-id", value) for value in incoming])
    kept = through(RequestIDMiddleware(trust_incoming=True), request).headers["x-request-id"]
    assert (incoming == [kept]) is is_kept
    assert is_kept or re.fullmatch("[0-9a-f]{32}", kept)
    assert through(RequestIDMiddleware(), request).headers["x-request-id"] not in incoming


def test_ids_may_be_made_and_named_by_the_application() -> None:
    response = through(RequestIDMiddleware(header_name="X-Trace", generator=lambda: "mine"), make_request())
    assert response.headers["x-trace"] == "mine"


def test_log_records_get_the_id() -> None:
    record = logging.LogRecord("x", logging.INFO, "x", 1, "x", None, None)
    token = request_id.set(None)
    try:
        assert RequestIDFilter().filter(record)
        assert record.request_id == "-"  # type: ignore[attr-defined]
        request_id.set("abc")
        RequestIDFilter().filter(record)
        assert record.request_id == "abc"  # type: ignore[attr-defined]
    finally:
        request_id.reset(token)


def test_request_id_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^header_name"):
        RequestIDMiddleware(header_name="x request")
    with pytest.raises(ValueError, match=r"^generator"):
        RequestIDMiddleware(generator="abc")  # type: ignore[arg-type]


# TimingMiddleware.


def test_the_time_is_in_milliseconds_beside_that_of_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.0125])
    monkeypatch.setattr("covet.middleware.timing.perf_counter", lambda: next(times))
    response = through(TimingMiddleware(), make_request(), lambda request: Response("x", headers={"server-timing": "db;dur=3"}))
    assert response.headers.getlist("server-timing") == ["db;dur=3", "app;dur=12.500"]


def test_in_another_field_the_time_is_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.0125])
    monkeypatch.setattr("covet.middleware.timing.perf_counter", lambda: next(times))
    response = through(TimingMiddleware(header_name="X-Process-Time"), make_request())
    assert response.headers["x-process-time"] == "0.012500"


def test_timing_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^header_name"):
        TimingMiddleware(header_name="a:b")
    with pytest.raises(ValueError, match=r"^metric"):
        TimingMiddleware(metric="a;b")


# RateLimitMiddleware.


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(MemoryStorage.__init__, "__kwdefaults__", {"max_keys": 10_000, "clock": clock})
    return clock


def _status(middleware: BaseMiddleware, **request: Any) -> int:
    return through(middleware, make_request(**request)).status_code


def test_requests_are_limited_and_come_back_evenly(clock: Clock) -> None:
    limited = RateLimitMiddleware("3/minute")
    assert [_status(limited) for _ in range(5)] == [200, 200, 200, 429, 429]
    clock.now += 19.9
    assert _status(limited) == 429
    clock.now += 0.1
    assert [_status(limited) for _ in range(2)] == [200, 429]
    clock.now += 3600
    assert [_status(limited) for _ in range(4)] == [200, 200, 200, 429]


def test_a_response_says_how_many_requests_are_left(clock: Clock) -> None:
    limited = RateLimitMiddleware(2, period=60, name="burst")
    headers = through(limited, make_request()).headers
    assert headers["x-ratelimit-limit"] == "2"
    assert headers["x-ratelimit-remaining"] == "1"
    assert headers["x-ratelimit-reset"] == "30"
    assert headers["ratelimit-policy"] == '"burst";q=2;w=60'
    assert headers["ratelimit"] == '"burst";r=1;t=30'
    assert "retry-after" not in headers
    through(limited, make_request())
    clock.now += 0.5
    refused = through(limited, make_request(), never)
    assert (refused.status_code, json.loads(refused.body)) == (429, {"detail": "Too Many Requests"})
    assert refused.headers["retry-after"] == "30"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.headers["ratelimit"] == '"burst";r=0;t=60'


def test_a_client_that_waits_as_long_as_it_is_told_is_let_in(clock: Clock) -> None:
    limited = RateLimitMiddleware(7, period=3)
    for _ in range(200):
        response = through(limited, make_request())
        if response.status_code == 429:
            clock.now += int(response.headers["retry-after"])
            assert _status(limited) == 200


def test_only_retry_after_may_be_sent(clock: Clock) -> None:
    limited = RateLimitMiddleware(1, period=60, headers=False)
    assert dict(through(limited, make_request()).headers) == {"content-type": "text/plain; charset=utf-8"}
    assert set(through(limited, make_request()).headers) == {"content-type", "retry-after"}


def test_clients_are_counted_by_address_and_not_by_port(clock: Clock) -> None:
    limited = RateLimitMiddleware("1/minute")
    assert _status(limited, peer="192.0.2.1:1000") == 200
    assert _status(limited, peer="192.0.2.1:1001") == 429
    assert _status(limited, peer="192.0.2.2:1000") == 200
    # What a client says of itself makes no difference.
    spoofed = {"x-forwarded-for": "203.0.113.9", "x-real-ip": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    assert _status(limited, peer="192.0.2.1:1002", headers=spoofed) == 429


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.1:5", "192.0.2.1"),
        ("[2001:db8:1:2:3:4:5:6]:5", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::ffff]:5", "2001:db8:1:2::/64"),
        ("[2001:db8:1:3::1]:5", "2001:db8:1:3::/64"),
        ("[::ffff:192.0.2.1]:5", "192.0.2.1"),
        ("[fe80::1%eth0]:5", "fe80::/64"),
        ("[::1]:5", "::/64"),
        ("unix", "unix"),
        ("[:::]:1", ":::"),
    ],
)
def test_ipv6_clients_are_counted_by_their_network(peer: str, key: str) -> None:
    assert client_address(make_request(peer=peer)) == key


def test_other_keys_and_exceptions(clock: Clock) -> None:
    limited = RateLimitMiddleware(
        "1/minute", key=lambda request: request.headers.get("x-user"), exempt=["/health", "/static/*"]
    )
    assert [_status(limited, headers={"x-user": "a"}) for _ in range(2)] == [200, 429]
    assert _status(limited, headers={"x-user": "b"}) == 200
    # No key is no limit.
    assert [_status(limited) for _ in range(3)] == [200, 200, 200]
    assert _status(limited, headers={"x-user": "a"}, target="/health") == 200
    assert _status(limited, headers={"x-user": "a"}, target="/static/x") == 200
    assert _status(limited, headers={"x-user": "a"}, target="/static/../x") == 429


def test_requests_that_are_refused_or_fail_are_counted_once(clock: Clock) -> None:
    limited = RateLimitMiddleware("2/minute")

    def failing(request: Request) -> Response:
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            through(limited, make_request(), failing)
    assert [_status(limited) for _ in range(3)] == [429] * 3
    clock.now += 30
    assert _status(limited) == 200


def test_memory_is_bounded_and_the_longest_unseen_goes_first() -> None:
    clock = Clock()
    storage = MemoryStorage(max_keys=3, clock=clock)
    for key in "abc":
        storage.take(key, 1, 60)
    assert not storage.take("a", 1, 60).allowed
    storage.take("d", 1, 60)
    assert len(storage) == 3
    assert not storage.take("a", 1, 60).allowed
    assert storage.take("b", 1, 60).allowed
    for number in range(10_000):
        storage.take(str(number), 1, 60)
    assert len(storage) == 3


def test_long_keys_take_no_more_memory(clock: Clock) -> None:
    keys: list[str] = []

    class Storage:
        def take(self, key: str, limit: int, period: float) -> Allowance:
            keys.append(key)
            return Allowance(True, 1, 0, 0)

    limited = RateLimitMiddleware("1/minute", storage=Storage(), key=lambda request: request.headers["x-key"])
    for value in ("k" * 8000, "k" * 8001, "\udcff" * 200, "short"):
        _status(limited, headers={"x-key": value})
    assert len(set(keys)) == 4
    assert max(map(len, keys)) < 100
    assert keys[-1] == "default:short"


def test_a_storage_may_be_asynchronous() -> None:
    class Storage:
        async def take(self, key: str, limit: int, period: float) -> Allowance:
            await asyncio.sleep(0)
            return Allowance(False, 0, 12.3, 45.6)

    response = through(RateLimitMiddleware("5/hour", storage=Storage()), make_request(), never)
    assert (response.status_code, response.headers["retry-after"]) == (429, "13")
    assert response.headers["x-ratelimit-reset"] == "46"


def test_a_clock_that_goes_back_takes_nothing_and_gives_nothing() -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    assert storage.take("a", 2, 60).remaining == 1
    clock.now -= 500
    assert storage.take("a", 2, 60).remaining == 0
    assert not storage.take("a", 2, 60).allowed


@given(st.lists(st.floats(0, 20), max_size=60), st.integers(1, 10), st.floats(0.1, 100))
def test_no_more_requests_than_a_bucket_has_are_allowed(waits: list[float], limit: int, period: float) -> None:
    clock = Clock()
    storage = MemoryStorage(clock=clock)
    start = clock.now
    allowed = 0
    for wait in waits:
        clock.now += wait
        allowance = storage.take("a", limit, period)
        allowed += allowance.allowed
        assert 0 <= allowance.remaining <= limit
        assert allowance.retry_after >= 0
        assert 0 <= allowance.reset_after <= period * 1.001
    assert allowed <= limit + (clock.now - start) * limit / period + 0.001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100/minute", (100, 60)),
        ("100/minutes", (100, 60)),
        ("20/10 seconds", (20, 10)),
        ("20/10s", (20, 10)),
        ("5 / 15 min", (5, 900)),
        ("5/15m", (5, 900)),
        ("1000/Hour", (1000, 3600)),
        ("1/day", (1, 86400)),
        (" 7/s ", (7, 1)),
    ],
)
def test_limits_are_read(text: str, expected: tuple[int, float]) -> None:
    assert parse_limit(text, None) == expected


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"limit": "100"}, "limit"),
        ({"limit": "100/fortnight"}, "limit"),
        ({"limit": "/minute"}, "limit"),
        ({"limit": "-1/minute"}, "limit"),
        ({"limit": "0/minute"}, "limit"),
        ({"limit": "1.5/minute"}, "limit"),
        ({"limit": "5/0 minutes"}, "period"),
        ({"limit": "5/minute", "period": 60}, "period"),
        ({"limit": 5}, "period"),
        ({"limit": 0, "period": 60}, "limit"),
        ({"limit": 5.0, "period": 60}, "limit"),
        ({"limit": 5, "period": 0}, "period"),
        ({"limit": 5, "period": -1}, "period"),
        ({"limit": 5, "period": "60"}, "period"),
        ({"limit": 5, "period": float("nan")}, "period"),
        ({"limit": "5/minute", "key": "ip"}, "key"),
        ({"limit": "5/minute", "storage": object()}, "storage"),
        ({"limit": "5/minute", "max_keys": 0}, "max_keys"),
        ({"limit": "5/minute", "exempt": "/health"}, "exempt"),
        ({"limit": "5/minute", "name": 'a"b'}, "name"),
    ],
)
def test_rate_limit_options_are_checked(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}"):
        RateLimitMiddleware(**options)


# SessionMiddleware.

KEY = "sixteen characters"


def _set_cookies(response: Response) -> list[str]:
    return response.headers.getlist("set-cookie")


def _cookie(response: Response) -> str:
    (field,) = _set_cookies(response)
    return field.partition(";")[0]


def _with_session(middleware: BaseMiddleware, cookie: str | None, change: Callable[[Any], Any]) -> tuple[Response, Any]:
    """A request with a cookie whose handler does something with the session; gives the response and what that was."""
    results = []

    def handler(request: Request) -> Response:
        results.append(change(request.state.session))
        return PlainTextResponse("x")

    headers = {} if cookie is None else {"cookie": cookie}
    return through(middleware, make_request(headers=headers), handler), results[0]


def _started(middleware: BaseMiddleware, **items: Any) -> str:
    return _cookie(_with_session(middleware, None, lambda session: session.update(items))[0])


def _content(middleware: BaseMiddleware, cookie: str | None) -> dict[str, Any]:
    content: dict[str, Any] = _with_session(middleware, cookie, dict)[1]
    return content


def test_a_session_is_kept_in_a_cookie() -> None:
    sessions = SessionMiddleware(KEY)
    response, _ = _with_session(sessions, None, lambda session: session.update(user="Zoë", n=[1, {"a": None}]))
    (field,) = _set_cookies(response)
    assert re.fullmatch(r"session=[\w-]+\.[0-9]+\.[\w-]{43}; Max-Age=1209600; Path=/; HttpOnly; SameSite=Lax", field)
    assert response.headers["vary"] == "Cookie"
    assert _content(sessions, _cookie(response)) == {"user": "Zoë", "n": [1, {"a": None}]}


def test_a_session_is_sent_only_when_it_has_changed() -> None:
    sessions = SessionMiddleware(KEY)
    cookie = _started(sessions, user="a", items=[1])
    for look in (
        lambda session: session["user"],
        lambda session: session.get("user"),
        lambda session: "user" in session,
        lambda session: list(session),
        lambda session: list(reversed(session)),
        lambda session: len(session),
        lambda session: bool(session),
        lambda session: list(session.keys()),
        lambda session: list(session.values()),
        lambda session: list(session.items()),
        lambda session: session == {},
        lambda session: session.copy(),
        lambda session: session | {},
        lambda session: {} | session,
        lambda session: {**session},
        lambda session: session.pop("nothing", None),
        lambda session: session.setdefault("user", "b"),
    ):
        response, _ = _with_session(sessions, cookie, look)
        assert _set_cookies(response) == []
        assert response.headers["vary"] == "Cookie"
    response, _ = _with_session(sessions, cookie, lambda session: None)
    assert "vary" not in response.headers
    assert _set_cookies(response) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda session: session.__setitem__("a", 2), {"a": 2, "b": [1]}),
        (lambda session: session.__delitem__("a"), {"b": [1]}),
        (lambda session: session.pop("a"), {"b": [1]}),
        (lambda session: session.popitem(), {"a": 1}),
        (lambda session: session.setdefault("c", 3), {"a": 1, "b": [1], "c": 3}),
        (lambda session: session.update(a=2), {"a": 2, "b": [1]}),
        (lambda session: session.__ior__({"a": 2}), {"a": 2, "b": [1]}),
        (lambda session: (session.clear(), session.update(z=1)), {"z": 1}),
        # Inside of a value.
        (lambda session: session["b"].append(2), {"a": 1, "b": [1, 2]}),
        # Without any change, to send it with the present time.
        (lambda session: setattr(session, "modified", True), {"a": 1, "b": [1]}),
    ],
)
def test_every_change_of_a_session_is_sent(change: Callable[[Any], Any], expected: dict[str, Any]) -> None:
    sessions = SessionMiddleware(KEY)
    response, _ = _with_session(sessions, _started(sessions, a=1, b=[1]), change)
    assert _content(sessions, _cookie(response)) == expected


def test_a_session_that_is_emptied_is_deleted() -> None:
    sessions = SessionMiddleware(KEY, path="/app", domain="example.org", https_only=True)
    response, _ = _with_session(sessions, _started(sessions, a=1), lambda session: session.clear())
    assert _set_cookies(response) == [
        "session=; Max-Age=0; expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/app; HttpOnly; SameSite=Lax; Secure; "
        "Domain=example.org"
    ]
    # One that was empty before is not.
    response, _ = _with_session(sessions, None, lambda session: session.clear())
    assert _set_cookies(response) == []


def _forgeries(cookie: str) -> Iterator[str]:
    name, _, value = cookie.partition("=")
    payload, moment, signature = value.split(".")
    admin = urlsafe_b64encode(b'{"user":"admin"}').rstrip(b"=").decode()
    yield f"{name}={admin}.{moment}.{signature}"
    yield f"{name}={admin}.{moment}."
    yield f"{name}={admin}.{moment}"
    yield f"{name}={admin}"
    yield f"{name}="
    yield f"{name}=.."
    yield f"{name}=...."
    yield f"{name}=.{moment}.{signature}"
    yield f"{name}={payload}.{int(moment) + 1}.{signature}"
    yield f"{name}={payload}.0{moment}.{signature}"
    yield f"{name}={payload}.+{moment}.{signature}"
    yield f"{name}={payload}.{moment[:-1]}_{moment[-1]}.{signature}"
    yield f"{name}={payload}.{'9' * 5000}.{signature}"
    yield f"{name}={payload}.٣.{signature}"
    yield f"{name}={payload}.{moment}.{signature[:-1]}"
    yield f"{name}={payload}.{moment}.{signature}="
    yield f"{name}={payload}.{moment}.{signature}A"
    yield f"{name}={payload}.{moment}.{signature.swapcase()}"
    yield f"{name}={payload}=.{moment}.{signature}"
    yield f"{name}={payload}.{moment}.{signature}é"
    yield f"{name}={value}\udcff"
    yield f"{name}={'A' * 100_000}"
    yield f"{name}={payload}.{moment}.{'A' * 43}"
    # Another text for the same bytes of a signature, whose last digit has two bits that do not count.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    for low in range(1, 4):
        other = signature[:-1] + alphabet[last ^ low]
        assert urlsafe_b64decode(other + "=") == urlsafe_b64decode(signature + "=")
        yield f"{name}={payload}.{moment}.{other}"
    # The signature of another cookie, or of the same secret for another purpose.
    for other in (SessionMiddleware(KEY, session_cookie="other"), SessionMiddleware("another secret key")):
        yield f"{name}=" + _started(other, user="admin").partition("=")[2]


def test_a_cookie_that_was_tampered_with_is_an_empty_session() -> None:
    sessions = SessionMiddleware(KEY)
    cookie = _started(sessions, user="a")
    for forgery in _forgeries(cookie):
        assert _content(sessions, forgery) == {}, forgery
    assert _content(sessions, cookie) == {"user": "a"}


@given(st.binary(max_size=60) | st.text(max_size=60), st.data())
def test_no_cookie_is_an_error(junk: bytes | str, data: st.DataObject) -> None:
    text = junk.decode("latin-1") if isinstance(junk, bytes) else junk
    sessions = SessionMiddleware(KEY)
    assert _content(sessions, f"session={text}") == {}
    valid = _started(sessions, user="a")
    position = data.draw(st.integers(len("session="), len(valid) - 1))
    changed = valid[:position] + data.draw(st.characters(blacklist_characters=valid[position])) + valid[position + 1 :]
    # Spaces and semicolons at the ends belong to the syntax of cookies.
    assert _content(sessions, changed) == {}


def test_a_session_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("covet.middleware.sessions.time", lambda: now)
    sessions, unlimited = SessionMiddleware(KEY, max_age=60), SessionMiddleware(KEY, max_age=None)
    cookie, unlimited_cookie = _started(sessions, a=1), _started(unlimited, a=1)
    now += 60
    assert _content(sessions, cookie) == {"a": 1}
    # A cookie for longer is not valid for longer where less is allowed.
    assert _content(sessions, unlimited_cookie) == {"a": 1}
    now += 1
    assert _content(sessions, cookie) == {}
    assert _content(sessions, unlimited_cookie) == {}
    now += 1e9
    assert _content(unlimited, unlimited_cookie) == {"a": 1}
    assert "Max-Age" not in unlimited_cookie


def test_a_session_from_the_future_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr("covet.middleware.sessions.time", lambda: now)
    sessions = SessionMiddleware(KEY)
    cookie = _started(sessions, a=1)
    now -= 300
    assert _content(sessions, cookie) == {"a": 1}
    now -= 1
    assert _content(sessions, cookie) == {}


def test_keys_are_rotated() -> None:
    old, new = "the old secret key", b"the new secret key"
    before, both, after = SessionMiddleware(old), SessionMiddleware([new, old]), SessionMiddleware(new)
    cookie = _started(before, a=1)
    assert _content(both, cookie) == {"a": 1}
    assert _content(after, cookie) == {}
    renewed = _cookie(_with_session(both, cookie, lambda session: session.update(b=2))[0])
    assert _content(after, renewed) == {"a": 1, "b": 2}
    assert _content(before, renewed) == {}


def test_a_key_may_come_from_a_function_when_it_is_needed() -> None:
    calls = []

    def key() -> str:
        calls.append(1)
        return KEY

    sessions = SessionMiddleware(key)
    assert calls == []
    # A request without a cookie whose session is not touched needs no key.
    _with_session(sessions, None, lambda session: None)
    assert calls == []
    cookie = _started(sessions, a=1)
    assert _content(SessionMiddleware(KEY), cookie) == {"a": 1}
    assert _content(sessions, cookie) == {"a": 1}
    assert calls == [1]
    for wrong in ("short", None, [], [KEY, "short"]):
        with pytest.raises(ValueError, match=r"^secret_key"):
            _started(SessionMiddleware(lambda wrong=wrong: wrong), a=1)  # type: ignore[misc]


def test_a_session_that_is_too_large_is_an_error_that_says_so() -> None:
    sessions = SessionMiddleware(KEY)
    with pytest.raises(ValueError, match="browsers keep 4093"):
        _started(sessions, data="x" * 3100)
    response, _ = _with_session(sessions, None, lambda session: session.update(data="x" * 2900))
    (field,) = _set_cookies(response)
    assert 3900 < len(field) <= COOKIE_SIZE_MAX
    assert _content(sessions, _cookie(response)) == {"data": "x" * 2900}


def test_what_is_not_json_is_an_error_that_says_so() -> None:
    sessions = SessionMiddleware(KEY)
    with pytest.raises(TypeError, match="the session cannot be written as JSON"):
        _started(sessions, data={1, 2})
    with pytest.raises(ValueError, match="the session cannot be written as JSON"):
        _started(sessions, data=float("nan"))


def test_text_that_is_not_unicode_is_kept() -> None:
    sessions = SessionMiddleware(KEY)
    assert _content(sessions, _started(sessions, name="\ud800x")) == {"name": "\ud800x"}


def test_several_sessions_do_not_share_anything() -> None:
    sessions = SessionMiddleware(KEY)
    _started(sessions, a=1)
    assert _content(sessions, None) == {}
    assert Session() is not Session()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"secret_key": "fifteen letters"}, "secret_key"),
        ({"secret_key": ""}, "secret_key"),
        ({"secret_key": []}, "secret_key"),
        ({"secret_key": [KEY, "short"]}, "secret_key"),
        ({"secret_key": None}, "secret_key"),
        ({"secret_key": [None]}, "secret_key"),
        ({"session_cookie": "a b"}, "session_cookie"),
        ({"session_cookie": ""}, "session_cookie"),
        ({"session_cookie": "a=b"}, "session_cookie"),
        ({"session_cookie": "__Host-s"}, "session_cookie"),
        ({"session_cookie": "__Host-s", "https_only": True, "domain": "example.org"}, "session_cookie"),
        ({"session_cookie": "__Host-s", "https_only": True, "path": "/a"}, "session_cookie"),
        ({"session_cookie": "__Secure-s"}, "session_cookie"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": 1.5}, "max_age"),
        ({"path": "a"}, "path"),
        ({"path": "/a; Domain=evil.org"}, "path"),
        ({"same_site": "Lax"}, "same_site"),
        ({"same_site": "none"}, "same_site"),
        ({"domain": "a; Secure"}, "domain"),
        ({"domain": "a\r\nx: y"}, "domain"),
    ],
)
def test_session_options_are_checked(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}"):
        SessionMiddleware(**{"secret_key": KEY, **options})


def test_careful_names_of_cookies_are_accepted_where_browsers_do() -> None:
    sessions = SessionMiddleware(KEY, session_cookie="__Host-s", https_only=True, same_site="strict")
    assert _content(sessions, _started(sessions, a=1)) == {"a": 1}


# SecurityHeadersMiddleware.


def test_security_headers_are_put_on_responses() -> None:
    response = through(SecurityHeadersMiddleware(), make_request(origin="https://example.org"))
    assert dict(response.headers) == {
        "content-type": "text/plain; charset=utf-8",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "strict-origin-when-cross-origin",
        "cross-origin-opener-policy": "same-origin",
        "strict-transport-security": "max-age=31536000; includeSubDomains",
    }


def test_all_security_headers() -> None:
    middleware = SecurityHeadersMiddleware(
        hsts_max_age=63072000,
        hsts_preload=True,
        proto_header="x-forwarded-proto",
        content_security_policy={"default-src": ["'self'", "https://cdn.example.org"], "upgrade-insecure-requests": ""},
        frame_options="SAMEORIGIN",
        referrer_policy="no-referrer, strict-origin-when-cross-origin",
        permissions_policy={"camera": "()", "geolocation": "(self)"},
        cross_origin_opener_policy="same-origin-allow-popups",
        cross_origin_resource_policy="same-site",
        cross_origin_embedder_policy="require-corp",
    )
    headers = through(middleware, make_request(headers={"x-forwarded-proto": "https"})).headers
    assert headers["strict-transport-security"] == "max-age=63072000; includeSubDomains; preload"
    assert headers["content-security-policy"] == "default-src 'self' https://cdn.example.org; upgrade-insecure-requests"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "no-referrer, strict-origin-when-cross-origin"
    assert headers["permissions-policy"] == "camera=(), geolocation=(self)"
    assert headers["cross-origin-opener-policy"] == "same-origin-allow-popups"
    assert headers["cross-origin-resource-policy"] == "same-site"
    assert headers["cross-origin-embedder-policy"] == "require-corp"


def test_strict_transport_security_is_not_sent_over_http() -> None:
    assert "strict-transport-security" not in through(SecurityHeadersMiddleware(), make_request()).headers
    # Nobody may say of himself that he uses HTTPS, unless a proxy is known to say it.
    spoofed = make_request(headers={"x-forwarded-proto": "https"})
    assert "strict-transport-security" not in through(SecurityHeadersMiddleware(), spoofed).headers


def test_what_a_handler_sets_is_kept_and_none_leaves_a_field_out() -> None:
    response = through(
        SecurityHeadersMiddleware(content_security_policy="default-src 'none'", csp_report_only=True, referrer_policy=None),
        make_request(),
        lambda request: Response("x", headers={"X-Frame-Options": "SAMEORIGIN"}),
    )
    assert response.headers.getlist("x-frame-options") == ["SAMEORIGIN"]
    assert response.headers["content-security-policy-report-only"] == "default-src 'none'"
    assert "referrer-policy" not in response.headers
    off = SecurityHeadersMiddleware(
        hsts_max_age=None,
        frame_options=None,
        content_type_options=False,
        referrer_policy=None,
        cross_origin_opener_policy=None,
    )
    assert list(through(off, make_request(origin="https://a")).headers) == ["content-type"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"hsts_max_age": -1}, "hsts_max_age"),
        ({"hsts_max_age": 60, "hsts_preload": True}, "hsts_preload"),
        ({"hsts_preload": True, "hsts_include_subdomains": False}, "hsts_preload"),
        ({"hsts_max_age": None, "hsts_preload": True}, "hsts_preload"),
        ({"proto_header": ""}, "proto_header"),
        ({"content_security_policy": "a\r\nset-cookie: x"}, "content_security_policy"),
        ({"content_security_policy": ""}, "content_security_policy"),
        ({"content_security_policy": {"default-src": "'self'; script-src *"}}, "content_security_policy"),
        ({"content_security_policy": {"default-src": ["'self'\n"]}}, "content_security_policy"),
        ({"csp_report_only": True}, "csp_report_only"),
        ({"frame_options": "ALLOW-FROM https://a"}, "frame_options"),
        ({"referrer_policy": "none"}, "referrer_policy"),
        ({"permissions_policy": {"camera": "()\n"}}, "permissions_policy"),
        ({"cross_origin_opener_policy": "x"}, "cross_origin_opener_policy"),
        ({"cross_origin_resource_policy": "x"}, "cross_origin_resource_policy"),
        ({"cross_origin_embedder_policy": "x"}, "cross_origin_embedder_policy"),
    ],
)
def test_security_headers_options_are_checked(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}"):
        SecurityHeadersMiddleware(**options)


# In applications.


@pytest.fixture
def serve_app(serve: Callable[..., simulator.Instance]) -> Callable[..., simulator.Instance]:
    """Serves an application with some middleware and these routes."""

    def make(*middleware: tuple[type[BaseMiddleware], dict[str, Any]]) -> simulator.Instance:
        app = CovetPy()
        for class_, options in middleware:
            app.add_middleware(class_, **options)

        @app.get("/hello")
        def hello() -> str:
            return LONG

        @app.get("/count")
        def count(request: Request) -> int:
            request.session["count"] = request.session.get("count", 0) + 1
            number: int = request.session["count"]
            return number

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            async def pieces() -> AsyncIterator[str]:
                for word in ("one ", "two ", get_request_id() or "-"):
                    yield word
                    await asyncio.sleep(0.01)

            return StreamingResponse(pieces(), media_type="text/plain")

        @app.get("/refused")
        def refused() -> None:
            raise HTTPException(403, "no")

        @app.get("/broken")
        def broken() -> None:
            raise RuntimeError("broken")

        return serve(app)

    return make


def test_an_application_answers_preflight_requests_for_every_path(serve_app: Any) -> None:
    instance = serve_app((CORSMiddleware, {"allow_origins": ["https://example.org"]}))
    for path in ("/hello", "/nothing"):
        answer = instance.request("OPTIONS", path, headers=[("host", "a"), *PREFLIGHT.items()])
        assert (answer.status, answer.text) == (200, "OK")
        assert answer.header("access-control-allow-origin") == "https://example.org"


@pytest.mark.parametrize(("path", "status"), [("/hello", 200), ("/refused", 403), ("/nothing", 404), ("/broken", 500)])
def test_errors_of_an_application_have_the_fields_of_cors(serve_app: Any, path: str, status: int) -> None:
    instance = serve_app((CORSMiddleware, {"allow_origins": ["*"]}), (SecurityHeadersMiddleware, {}))
    answer = instance.get(path, headers=[("host", "a"), ("origin", "https://example.org")])
    assert answer.status == status
    # A 500 for an exception that nobody handles is made outside of middleware.
    assert answer.header("access-control-allow-origin") == ("*" if status != 500 else None)
    assert answer.header("x-frame-options") == ("DENY" if status != 500 else None)


def test_an_application_compresses_bodies_and_streams(serve_app: Any) -> None:
    instance = serve_app((GZipMiddleware, {}))
    headers = [("host", "a"), ("accept-encoding", "gzip")]
    answer = instance.get("/hello", headers=headers)
    assert gzip.decompress(answer.content).decode() == LONG
    answer = instance.get("/stream", headers=headers)
    assert gzip.decompress(answer.content) == b"one two -"
    assert instance.get("/hello").text == LONG


def test_an_application_keeps_a_session(serve_app: Any) -> None:
    instance = serve_app((SessionMiddleware, {"secret_key": KEY}))
    cookie = None
    for expected in (1, 2, 3):
        headers = [("host", "a")] if cookie is None else [("host", "a"), ("cookie", cookie)]
        answer = instance.get("/count", headers=headers)
        assert answer.json() == expected
        cookie = answer.header("set-cookie").partition(";")[0]


def test_a_streamed_body_still_knows_the_id_of_its_request(serve_app: Any) -> None:
    instance = serve_app((RequestIDMiddleware, {}))
    tasks = [instance.begin("GET", "/stream") for _ in range(3)]
    instance.host.run()
    answers = [instance.answer(task) for task in tasks]
    ids = [answer.header("x-request-id") for answer in answers]
    assert len(set(ids)) == 3
    assert [answer.text for answer in answers] == [f"one two {value}" for value in ids]


def test_an_application_limits_requests(serve_app: Any) -> None:
    instance = serve_app((RateLimitMiddleware, {"limit": "2/hour", "exempt": ["/refused"]}))
    assert [instance.get("/hello").status for _ in range(3)] == [200, 200, 429]
    assert instance.get("/refused").status == 403
    assert instance.get("/nothing").status == 429


def test_all_middleware_together(serve_app: Any) -> None:
    instance = serve_app(
        (RequestIDMiddleware, {}),
        (TimingMiddleware, {}),
        (TrustedHostMiddleware, {"allowed_hosts": ["testhost"]}),
        (CORSMiddleware, {"allow_origins": ["https://example.org"]}),
        (SecurityHeadersMiddleware, {}),
        (RateLimitMiddleware, {"limit": 5, "period": 60}),
        (SessionMiddleware, {"secret_key": KEY}),
        (GZipMiddleware, {"minimum_size": 0}),
    )
    headers = [("host", "testhost"), ("origin", "https://example.org"), ("accept-encoding", "gzip")]
    answer = instance.get("/count", headers=headers)
    assert answer.status == 200
    assert answer.content == b"1"  # A gzip of it would be longer.
    assert _set(answer.header("vary")) == {"Accept-Encoding", "Cookie", "Origin"}
    for name in ("x-request-id", "server-timing", "access-control-allow-origin", "x-frame-options", "set-cookie"):
        assert answer.header(name) is not None
    answer = instance.get("/count", headers=[("host", "evil.org")])
    assert answer.status == 400
    assert answer.header("x-request-id") is not None


def test_a_response_that_is_prepared_is_compressed_as_what_it_becomes() -> None:
    class Prepared(Response):
        def _prepare(self, request: Request) -> Response:  # type: ignore[override]
            assert self.body == "", "prepared a second time"
            self.body = LONG
            if "range" in request.headers:
                self.status_code = 206
            return self

    def respond(**headers: str) -> Response:
        return through(GZipMiddleware(), make_request(headers=headers), lambda request: Prepared(media_type="text/plain"))

    response = respond(**{"accept-encoding": "gzip"})
    assert gzip.decompress(body_of(response)).decode() == LONG
    assert response._prepare is None
    response = respond(**{"accept-encoding": "gzip", "range": "bytes=0-"})
    assert (response.status_code, response.body, response._prepare) == (206, LONG, None)
    # For others it is left to be prepared later.
    response = respond()
    assert (response.body, response.headers["vary"]) == ("", "Accept-Encoding")
    assert response._prepare is not None
