"""Every feature of the framework, natively and in components under covet-host, with the same expectations."""

import concurrent.futures
import contextlib
import gzip
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

PROJECT = Path(__file__).parents[2] / "tests" / "guests" / "python" / "framework"
MODES = ["native", *(pytest.param(mode, marks=pytest.mark.host) for mode in ("fresh", "reuse", "shared"))]


@pytest.fixture(scope="module", params=MODES)
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with contextlib.ExitStack() as stack:
        if request.param == "native":
            yield stack.enter_context(natively())
        else:
            serve = request.getfixturevalue("covet_host")
            yield stack.enter_context(
                serve("app:app", project=PROJECT, isolation=request.param, config={"greeting": "hi"}, follow_redirects=False)
            )


@contextlib.contextmanager
def natively() -> Iterator[httpx.Client]:
    from covet.testing import TestClient

    sys.path.insert(0, str(PROJECT))
    before, folder = set(sys.modules), os.getcwd()
    os.chdir(PROJECT)
    try:
        module = __import__("app")
        config = {"greeting": "hi"}
        options: dict[str, Any] = {"raise_server_exceptions": False, "follow_redirects": False, "config": config}
        with TestClient(module.app, **options) as client:
            yield client
    finally:
        os.chdir(folder)
        sys.path.remove(str(PROJECT))
        for name in set(sys.modules) - before:
            if name == "app":
                del sys.modules[name]


def mode_of(client: httpx.Client, request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["client"])


# --- Parameters


def test_converters_of_paths(client):
    key = uuid.uuid4()
    answer = client.get(f"/path/7/1.5/{key}/a/b%20c")
    assert answer.json() == {
        "number": 7,
        "ratio": 1.5,
        "key": str(key),
        "rest": "a/b c",
        "names": ["key", "number", "ratio", "rest"],
    }
    errors = client.get("/path/x/y/z/").json()["detail"]
    assert [error["loc"] for error in errors] == [["path", "number"], ["path", "ratio"], ["path", "key"]]


def test_query_parameters(client):
    answer = client.get("/query?t=abc&count=3&color=blue&day=2026-11-23&at=2026-11-23T10:00:00Z&ids=1&ids=2")
    assert answer.json()[:6] == ["abc", 3, "blue", "2026-11-23", "2026-11-23T10:00:00+00:00", [1, 2]]
    assert client.get("/query?t=ab").json()[:6] == ["ab", 5, None, None, None, []]
    answer = client.get("/query?t=A&count=10&color=green&ids=x")
    assert answer.status_code == 422
    found = {error["loc"][1]: error["type"] for error in answer.json()["detail"]}
    assert found == {"t": "string_too_short", "count": "less_than", "color": "enum", "ids": "int_parsing"}
    missing = {"type": "missing", "loc": ["query", "needed"], "msg": "Field required", "input": None}
    assert client.get("/required").json() == {"detail": [missing]}


def test_headers_and_cookies(client):
    fields = [("user-agent", "test"), ("x-list", "1"), ("x-list", "2"), ("cookie", 'session="a b"')]
    assert client.get("/headers", headers=fields).json() == {"agent": "test", "list": [1, 2], "session": "a b"}
    assert client.get("/headers", headers={"x-list": "z"}).status_code == 422


def test_one_handler_for_several_methods(client):
    for method in ("PUT", "PATCH", "DELETE"):
        assert client.request(method, "/methods").text == method
    refused = client.get("/methods")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) >= {"PUT", "PATCH", "DELETE"}


# --- Bodies


ITEM = {"name": "hammer", "price": 12, "tags": ["tool"], "color": "blue", "address": {"street": "a", "number": 1}}


def test_a_model_as_body_and_as_result(client):
    answer = client.post("/items", json={**ITEM, "parent": {"name": "box", "price": "3.5"}, "unknown": 1})
    assert answer.status_code == 201
    assert answer.json() == {
        **ITEM,
        "price": 12.0,
        "parent": {"name": "box", "price": 3.5, "tags": [], "color": "red", "address": None, "parent": None},
    }
    assert client.post("/items/shown", json=ITEM).json() == {"name": "hammer", "price": 12.0}
    assert client.post("/items/wrong").status_code == 500


def test_everything_that_is_wrong_with_a_body_is_told(client):
    wrong = {"price": "much", "tags": ["a", 1], "color": "green", "address": {"number": "x"}, "parent": {}}
    answer = client.post("/items", json=wrong)
    assert answer.status_code == 422
    found = {tuple(error["loc"]): error["type"] for error in answer.json()["detail"]}
    assert found == {
        ("body", "name"): "missing",
        ("body", "price"): "float_parsing",
        ("body", "tags", 1): "string_type",
        ("body", "color"): "enum",
        ("body", "address", "street"): "missing",
        ("body", "address", "number"): "int_parsing",
        ("body", "parent", "name"): "missing",
        ("body", "parent", "price"): "missing",
    }


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        ("{", "json_invalid"),
        ("", "missing"),
        ("[]", None),
        ("null", None),
        ("[" * 50_000, "json_invalid"),
        ('{"a":', "json_invalid"),
    ],
)
def test_a_body_that_is_no_model_is_a_422(client, body, type_):
    answer = client.post("/items", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert type_ in (None, answer.json()["detail"][0]["type"])


def test_several_parameters_in_a_body(client):
    answer = client.put("/items/5", json={"item": {"name": "x", "price": 1}, "note": "short"})
    assert answer.json()["note"] == "short"
    assert answer.json()["id"] == 5
    answer = client.put("/items/0", json={"item": {"name": "x"}, "note": "too long"})
    assert [error["loc"] for error in answer.json()["detail"]] == [
        ["path", "item_id"],
        ["body", "item", "price"],
        ["body", "note"],
    ]


def test_unions_and_lists_in_a_body(client):
    assert client.post("/numbers", json=[1, "2"]).json() == [1, 2]
    assert client.post("/numbers", json={"a": 1}).json() == {"a": 1}
    assert client.post("/numbers", json="x").status_code == 422


def test_forms(client):
    answer = client.post("/form", data={"name": "Ada", "age": "36", "tags": ["a", "b c"]})
    assert answer.json() == {"name": "Ada", "age": 36, "tags": ["a", "b c"]}
    answer = client.post("/form", data={"name": "A", "age": "x"})
    assert [error["loc"] for error in answer.json()["detail"]] == [["body", "name"], ["body", "age"]]


def test_uploads(client):
    content = os.urandom(300_000)
    files = [("file", ("a b.bin", content, "application/x-test")), ("more", ("1", b"x")), ("more", ("2", b"y"))]
    answer = client.post("/upload", data={"note": "n"}, files=files)
    assert answer.json() == {"name": "a b.bin", "type": "application/x-test", "size": 300_000, "note": "n", "more": 2}
    assert client.post("/upload", data={"note": "n"}).status_code == 422
    broken = client.post("/upload", content=b"--x\r\nbad", headers={"content-type": "multipart/form-data; boundary=x"})
    assert broken.status_code == 400


def test_a_body_in_pieces(client):
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    assert client.post("/upload/stream", content=pieces()).json() == {"size": 200_000}


def test_a_body_is_read_more_than_once(client):
    answer = client.post("/read", json={"a": 1})
    assert answer.json() == {"body": answer.request.content.decode(), "json": {"a": 1}, "type": "application/json"}
    assert client.post("/read", content="plain", headers={"content-type": "text/plain"}).json()["json"] is None


# --- Dependencies


def test_dependencies_are_called_once_and_left_at_the_end(client, request):
    before = client.get("/log").json()
    answer = client.get("/dependencies?limit=7", headers={"x-token": "secret"})
    assert answer.json() == {"user": "ada", "db": "db", "limit": 7, "current": "ada", "opened": before.count("open") + 1}
    after = client.get("/log").json()
    # In `fresh` no request sees what another has done.
    expected = before if mode_of(client, request) == "fresh" else [*before, "open", "close"]
    assert [entry for entry in after if entry in ("open", "close")] == [entry for entry in expected if "task" not in entry]


def test_a_dependency_refuses(client):
    assert client.get("/dependencies", headers={"x-token": "wrong"}).json() == {"detail": "Who are you?"}
    errors = client.get("/dependencies?limit=1000").json()["detail"]
    assert {tuple(error["loc"]) for error in errors} == {("header", "x-token"), ("query", "limit")}


def test_security(client):
    assert client.get("/scoped", headers={"authorization": "Bearer x"}).json() == {"token": "x", "scopes": ["read"]}
    refused = client.get("/scoped")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/bearer", headers={"authorization": "Bearer y"}).text == "y"
    answer = client.post("/token", data={"username": "ada", "password": "x", "scope": "read write"})
    assert answer.json() == {"access_token": "ada", "scopes": ["read", "write"]}


# --- Requests and responses


def test_what_a_request_tells(client):
    answer = client.get("/request/x", headers={"accept": "application/json;q=0.9, text/*;q=0.5", "accept-language": "en-GB"})
    assert answer.json() == {
        "url": "/request/x",
        "for": "/request/a%20b",
        "accepts": "application/json",
        "language": "en",
        "client": True,
        "state": True,
        "app": True,
    }


@pytest.mark.parametrize(
    ("kind", "status", "type_", "body"),
    [
        ("json", 202, "application/json", b'{"a":1}'),
        ("text", 200, "text/plain; charset=utf-8", b"text"),
        ("html", 200, "text/html; charset=utf-8", b"<p>"),
        ("xml", 200, "application/xml", b"<a/>"),
        ("redirect", 303, None, b""),
        ("tuple", 418, "application/json", b'{"a":1}'),
        ("none", 204, None, b""),
        ("bytes", 200, "application/octet-stream", b"\xff\x00"),
        ("str", 200, "text/plain; charset=utf-8", b"plain"),
    ],
)
def test_responses(client, kind, status, type_, body):
    answer = client.get(f"/responses/{kind}")
    assert (answer.status_code, answer.headers.get("content-type"), answer.content) == (status, type_, body)
    if kind == "tuple":
        assert answer.headers["x-tea"] == "pot"
    if kind == "redirect":
        assert answer.headers["location"] == "/responses/json"


def test_cookies_and_status_through_a_parameter(client):
    answer = client.get("/cookies")
    assert answer.status_code == 203
    assert answer.headers["x-extra"] == "1"
    assert answer.headers["set-cookie"] == "a=b; Max-Age=60; Path=/; HttpOnly; SameSite=strict"


def test_streams_and_events(client):
    assert client.get("/stream").text == "0\n1\n2\n"
    assert client.get("/generator").text == "ab"
    answer = client.get("/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == 'data: {"number":1}\n\nevent: done\nid: 2\nretry: 500\ndata: two\ndata: lines\n\n'


def test_files(client):
    answer = client.get("/file")
    assert answer.text == "name,price\nhammer,12\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="prices.csv"'
    assert client.get("/file", headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert client.get("/read-file").text == "name,price\nhammer,12\n"
    part = client.get("/static/large.txt", headers={"range": "bytes=12-23", "accept-encoding": "identity"})
    assert (part.status_code, part.text) == (206, "line 000001\n")
    whole = client.get("/static/large.txt")
    assert whole.text == "".join(f"line {number:06}\n" for number in range(30_000))
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%00", "/static//etc/passwd"):
        with contextlib.suppress(httpx.InvalidURL):
            assert client.get(path).status_code in (400, 404)


def test_background_tasks_run_after_the_response(client, request):
    start = time.monotonic()
    assert client.get("/background").status_code == 200
    took = time.monotonic() - start
    mode = mode_of(client, request)
    if mode == "native":
        # The test client returns when everything is done.
        assert client.get("/log").json()[-2:] == ["busy task", "async task"]
    else:
        assert took < 0.25
    if mode in ("reuse", "shared"):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and client.get("/log").json()[-2:] != ["busy task", "async task"]:
            time.sleep(0.05)
            # Another instance may have answered.
        assert time.monotonic() < deadline


# --- Errors


def test_exceptions(client):
    answer = client.get("/errors/http")
    assert (answer.status_code, answer.json(), answer.headers["x-reason"]) == (403, {"detail": {"reason": "no"}}, "no")
    assert (client.get("/errors/stock").status_code, client.get("/errors/stock").json()) == (409, {"shop": "OutOfStock"})
    for kind in ("broken", "unexpected"):
        answer = client.get(f"/errors/{kind}")
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
    assert client.get("/errors/missing").json() == {"missing": "/errors/missing"}
    assert client.get("/errors-of-route").json() == {"route": "'nothing'"}
    assert client.get("/v1/shop/inner/0").json() == {"router": "OutOfStock"}
    assert client.get("/no/such/path").json() == {"missing": "/no/such/path"}


# --- Middleware


def test_the_order_of_middleware(client):
    answer = client.get("/v1/shop/inner/5")
    assert answer.json() == {"number": 5, "order": ["first", "router", "function"]}
    assert answer.headers.get_list("x-order") == ["function", "router", "last", "first"]
    assert answer.headers["x-after"] == "1"
    stopped = client.get("/state", headers={"x-stop": "1"})
    assert (stopped.status_code, stopped.text) == (503, "stopped")


def test_middleware_sees_what_no_route_takes(client):
    for answer in (client.get("/no/such/path"), client.post("/state")):
        assert answer.status_code in (404, 405)
        assert answer.headers.get_list("x-order") == ["last", "first"]
        assert answer.headers["x-request-id"]


def test_cors(client):
    ask = {"origin": "https://example.org", "access-control-request-method": "DELETE"}
    answer = client.options("/methods", headers=ask)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert client.options("/methods", headers={**ask, "origin": "https://evil.test"}).status_code == 400
    answer = client.get("/state", headers={"origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert "access-control-allow-origin" not in client.get("/state", headers={"origin": "https://evil.test"}).headers


def test_gzip(client):
    with client.stream("GET", "/large", headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(answer.iter_raw())) == b"x" * 5000
    assert "content-encoding" not in client.get("/large", headers={"accept-encoding": "identity"}).headers
    assert "content-encoding" not in client.get("/state", headers={"accept-encoding": "gzip"}).headers
    assert "content-encoding" not in client.get("/events", headers={"accept-encoding": "gzip"}).headers


def test_fields_of_the_shipped_middleware(client):
    one, two = client.get("/state"), client.get("/state")
    assert one.headers["x-request-id"] != two.headers["x-request-id"]
    assert "server-timing" in one.headers
    assert one.headers["x-content-type-options"] == "nosniff"
    assert client.get("/state", headers={"host": "evil.test"}).status_code == 400


def test_sessions(client):
    client.cookies.clear()
    assert [client.get("/visits").json() for _ in range(3)] == [1, 2, 3]
    cookie = client.cookies["session"]
    client.cookies.clear()
    client.cookies["session"] = cookie[:-1] + ("a" if cookie[-1] != "a" else "b")
    assert client.get("/visits").json() == 1
    client.cookies.clear()


def test_authentication(client):
    assert client.get("/private/who").json() == {"user": "", "known": False}
    for fields in ({"authorization": "Bearer t"}, {"x-api-key": "k"}):
        assert client.get("/private/who", headers=fields).json()["known"] is True
    assert client.get("/private/who", auth=("ada", "pw")).json() == {"user": "ada", "known": True}
    assert client.get("/private/who", auth=("ada", "no")).status_code == 401
    assert client.get("/private/only").status_code == 401
    assert client.get("/private/only", headers={"x-api-key": "k"}).text == "in"


def test_a_rate_limit_counts_in_a_shared_instance(client):
    answers = [client.get("/limited") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) > 0


# --- State, asyncio, patterns, the host


def test_state_of_the_start(client):
    assert client.get("/state").json() == {"greeting": "hello", "started": True}


def test_context_variables_belong_to_their_request(client):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        names = [f"n{number}" for number in range(40)]
        answers = list(threads.map(lambda name: client.get(f"/context/{name}").json(), names))
    assert answers == [[name] * 3 for name in names]


def test_requests_of_a_shared_instance_batch(client):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: client.get(f"/batch/{number}").json(), range(1, 9)))
    assert [answer[0] for answer in answers] == [number * number for number in range(1, 9)]
    assert max(answer[1] for answer in answers) > 1
    assert client.get("/batch/-1").json() == {"detail": "negative"}


def test_a_pool_of_connections_is_shared(client):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.get("/pool").json(), range(16)))
    assert {answer["connection"] for answer in answers} <= {1, 2}
    assert {answer["together"] for answer in answers} == {1}


def test_metrics(client):
    before = client.get("/metrics").json()
    for _ in range(3):
        client.get("/state")
    client.get("/no/such/path")
    client.get("/errors/unexpected")
    after = client.get("/metrics").json()
    assert after["total_requests"] - before["total_requests"] == 6
    assert after["client_errors"] - before["client_errors"] == 1
    assert after["server_errors"] - before["server_errors"] == 1
    assert after["active_requests"] >= 1
    assert 0 < after["p50_latency_ms"] <= after["p99_latency_ms"]


def test_configuration(client):
    assert client.get("/config").text == "hi"


def test_what_is_random_is_never_the_same(client):
    assert len({client.get("/random").text for _ in range(20)}) == 20


# --- OpenAPI


def test_the_document_and_its_pages(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Features", "version": "1.2.3"}
    operation = document["paths"]["/items"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Item"}
    assert document["components"]["securitySchemes"]["OAuth2PasswordBearer"]["type"] == "oauth2"
    for path in ("/docs", "/redoc"):
        page = client.get(path)
        assert page.status_code == 200
        for asset in {part.split('"')[0] for part in page.text.split('"') if "assets-" in part and not part.startswith("{")}:
            assert client.get(str(httpx.URL(str(page.url)).join(asset))).status_code == 200, asset
