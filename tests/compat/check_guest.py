"""Checks tests/guests/python/fastapi-tutorial through a running host: check_guest.py URL fresh|reuse|shared

guest-python/tests/test_fastapi_guest.py runs them with the other tests. Each function is one check; what it expects is what the
same application answers under uvicorn, but for the state that an isolation keeps or does not keep.
"""

import concurrent.futures
import hashlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable

import httpx

Check = Callable[[httpx.Client, str], None]
checks: list[Check] = []


def check(function: Check) -> Check:
    checks.append(function)
    return function


# --- Requests and responses


@check
def the_lifespan_has_run_and_its_state_is_there(client: httpx.Client, isolation: str) -> None:
    answer = client.get("/", headers={"x-name": "Ada"}).json()
    assert answer["phase"] == "started"
    assert answer["greeting"] == "hello"
    assert answer["client"] == "127.0.0.1"
    assert answer["name"] == "Ada", "a context variable of the middleware"
    assert answer["url"] == f"{client.base_url}/".replace("//", "/").replace(":/", "://")
    visits = [client.get("/").json()["visits"] for _ in range(3)]
    assert visits == ([1, 1, 1] if isolation == "fresh" else sorted(visits)), visits


@check
def the_scope_is_that_of_uvicorn(client: httpx.Client, isolation: str) -> None:
    scope = client.get("/scope?a=%20b&c", headers={"X-Two": "1"}).json()
    assert scope["type"] == "http"
    assert scope["http_version"] == "1.1"
    assert scope["scheme"] == "http"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/scope", "/scope", "a=%20b&c")
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"] == ["127.0.0.1", client.base_url.port]
    assert ["x-two", "1"] in scope["headers"]


@check
def parameters_are_validated(client: httpx.Client, isolation: str) -> None:
    answer = client.get("/items/", params={"skip": 1, "limit": 1, "q": ["ab", "cd"]})
    assert answer.json() == {"items": ["Bär"], "q": ["ab", "cd"], "limit": 1, "sessions": "open"}
    wrong = client.get("/items/?limit=1000&skip=x&q=a")
    assert wrong.status_code == 422
    assert {(error["loc"][-1], error["type"]) for error in wrong.json()["detail"]} == {
        ("limit", "less_than_equal"),
        ("skip", "int_parsing"),
        ("q", "string_too_short"),
    } or len(wrong.json()["detail"]) == 3
    search = client.get(
        "/items/search",
        params={"q": "x", "when": "2024-02-29T12:00:00Z", "within": "PT1H"},
        headers=[("user-agent", "me"), ("x-token", "a"), ("x-token", "b"), ("cookie", "session_id=s")],
    ).json()
    assert search == {
        "q": "x",
        "when": "2024-02-29T12:00:00Z",
        "within": "PT1H",
        "agent": "me",
        "tokens": ["a", "b"],
        "session": "s",
    }


@check
def bodies_are_validated_and_filtered_by_their_models(client: httpx.Client, isolation: str) -> None:
    item = {"name": "Ünï", "price": "3.50", "tags": ["a", "a"], "images": [{"url": "http://e.com/a.png", "name": "A"}]}
    created = client.post("/items/", json=item | {"owner": "me@example.com"})
    assert created.status_code == 201, created.text
    assert re.fullmatch(r"/items/\d+", created.headers["location"])
    assert created.json()["name"] == "Ünï"
    assert created.json()["price"] == "3.50"
    assert "owner" not in created.json()
    assert "HttpOnly" in created.headers["set-cookie"]
    later = client.get(created.headers["location"]).status_code
    assert later == 404 if isolation == "fresh" else later in (200, 404)
    wrong = client.post("/items/", json={"name": "", "price": -1, "owner": "nobody", "images": [{"url": "x"}]})
    assert wrong.status_code == 422
    found = {".".join(map(str, error["loc"])) for error in wrong.json()["detail"]}
    assert found == {"body.name", "body.price", "body.owner", "body.images.0.url", "body.images.0.name"}, found
    put = client.put("/items/5", json={"item": {"name": "A", "price": 1}, "importance": 3, "user": "me"}).json()
    assert put["item"]["tax"] == 10.5
    broken = client.post("/items/", content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 422
    assert broken.json()["detail"][0]["type"] == "json_invalid"


@check
def errors_have_their_responses(client: httpx.Client, isolation: str) -> None:
    missing = client.get("/items/999")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Item not found"})
    assert missing.headers["x-error"] == "There goes my error"
    unicorn = client.get("/unicorns/yolo")
    assert (unicorn.status_code, unicorn.json()) == (418, {"message": "Oops! yolo did something."})
    for path in ("/broken", "/broken-plain"):
        broken = client.get(path)
        assert (broken.status_code, broken.text) == (500, "Internal Server Error"), path
    assert client.get("/").status_code == 200, "the instance goes on"


@check
def the_applications_own_router_decides(client: httpx.Client, isolation: str) -> None:
    assert client.get("/nowhere").json() == {"detail": "Not Found"}
    refused = client.post("/scope")
    assert (refused.status_code, refused.json(), refused.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, "GET")
    head = client.head("/scope")
    assert (head.status_code, head.content) == (405, b""), "FastAPI has no HEAD for GET"
    redirected = client.get("/items")
    assert redirected.status_code == 307
    assert redirected.headers["location"].endswith("/items/")
    for method in ("GET", "PUT", "DELETE", "PATCH", "QUERY"):
        assert client.request(method, "/methods").text == method
    assert client.get("/items/range/3-17").json() == {"first": 3, "last": 17}
    assert client.get("/items/range/3-x").status_code == 422
    assert client.get("/items/files/a/b%20c/%C3%A4.txt").json() == {"file_path": "a/b c/ä.txt"}
    assert client.get("/items/files/").json() == {"file_path": ""}
    key = "c892496f-b1fd-4b91-bdb8-b46f92df1716"
    assert client.get(f"/items/by-uuid/{key}?size=large").json() == {"key": key, "version": 4, "size": "large"}
    assert client.get("/admin/status").json()["root_path"] == "/admin"
    assert client.get("/admin/nowhere").json() == {"detail": "Not Found"}
    assert client.delete("/items/1").status_code == 204


@check
def middleware_sees_every_response(client: httpx.Client, isolation: str) -> None:
    for path in ("/", "/nowhere", "/unicorns/yolo"):
        answer = client.get(path)
        assert answer.headers["x-middleware"] == "function", path
        assert float(answer.headers["x-process-time"]) >= 0, path
    preflight = client.options(
        "/items/", headers={"origin": "https://example.com", "access-control-request-method": "PUT"}
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://example.com"
    assert client.get("/", headers={"origin": "https://example.com"}).headers["access-control-allow-origin"]
    zipped = client.get("/openapi.json")
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.json()["info"]["title"] == "Tutorial"
    plain = client.get("/openapi.json", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == zipped.json()


@check
def the_documentation_is_served(client: httpx.Client, isolation: str) -> None:
    document = client.get("/openapi.json").json()
    assert document["info"]["description"] == "Ein Beispiel – mit Umlauten: äöü"
    assert {"/items/{item_id}", "/token", "/streams/ticks"} <= set(document["paths"])
    assert "swagger-ui" in client.get("/docs").text
    assert "redoc" in client.get("/redoc").text


@check
def passwords_and_tokens_work(client: httpx.Client, isolation: str) -> None:
    refused = client.get("/users/me")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.post("/token", data={"username": "ada", "password": "wrong"}).status_code == 400
    token = client.post("/token", data={"username": "ada", "password": "secret", "scope": "a b"}).json()["access_token"]
    me = client.get("/users/me", headers={"authorization": f"Bearer {token}"})
    assert me.json() == {"username": "ada", "scopes": ["a", "b"]}
    assert client.get("/users/me", headers={"authorization": f"Bearer {token}x"}).status_code == 401
    assert client.get("/basic", auth=("ada", "x")).json() == {"username": "ada"}
    assert client.get("/basic").headers["www-authenticate"] == "Basic"


@check
def dependencies_are_closed_in_order(client: httpx.Client, isolation: str) -> None:
    client.get("/items/")
    sessions = client.get("/items/sessions").json()
    assert sessions == [] if isolation == "fresh" else sessions.count("open") == sessions.count("close")
    failed = client.get("/items/failing-session")
    assert failed.status_code == 500
    assert client.get("/items/failing-session?fail=false").json() == "fine"
    if isolation == "shared":
        assert "rolled back" in client.get("/items/sessions").json()


@check
def templates_and_static_files_are_served(client: httpx.Client, isolation: str) -> None:
    page = client.get("/page?name=<Ada>")
    assert "<title>&lt;Ada&gt;</title>" in page.text
    assert "<p>2</p>" in page.text
    file = client.get("/static/hello.txt")
    assert file.text == "hello from a file\n"
    assert client.get("/static/hello.txt", headers={"if-none-match": file.headers["etag"]}).status_code == 304
    part = client.get("/static/hello.txt", headers={"range": "bytes=6-9"})
    assert (part.status_code, part.text) == (206, "from")
    head = client.head("/static/hello.txt")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "18", b"")
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404
    assert client.get("/static/nothing").status_code == 404
    assert "gr%C3%BC%C3%9Fe.txt" in client.get("/streams/file").headers["content-disposition"]


# --- Bodies in pieces


@check
def forms_and_files_are_read(client: httpx.Client, isolation: str) -> None:
    assert client.post("/form", data={"username": "ä", "age": "7"}).json() == {"username": "ä", "age": 7}
    assert client.post("/form", data={"age": "x"}).status_code == 422
    assert client.post("/files", files={"file": b"x" * 1000}, data={"note": "n"}).json() == {"size": 1000, "note": "n"}
    large = os.urandom(5 << 20)
    files = [("files", ("a.bin", large, "application/x-a")), ("files", ("ä.txt", b"text", "text/plain"))]
    assert client.post("/uploadfiles", files=files).json() == [
        {"name": "a.bin", "type": "application/x-a", "size": len(large), "sha256": hashlib.sha256(large).hexdigest()},
        {"name": "ä.txt", "type": "text/plain", "size": 4, "sha256": hashlib.sha256(b"text").hexdigest()},
    ]
    broken = client.post("/uploadfiles", content=b"no boundary", headers={"content-type": "multipart/form-data; boundary=x"})
    assert broken.status_code in (400, 422), broken.text


@check
def bodies_are_streamed_both_ways(client: httpx.Client, isolation: str) -> None:
    data = os.urandom(3 << 20)
    digest = client.post("/digest", content=data).json()
    assert digest["size"] == len(data)
    assert digest["sha256"] == hashlib.sha256(data).hexdigest()
    assert digest["pieces"] > 1
    chunked = client.post("/digest", content=iter([b"a" * 10, b"b" * 10])).json()
    assert chunked["size"] == 20
    assert client.post("/body", json={"a": 1}).json() == {"size": 7, "again": 7, "is_json": True}
    assert client.post("/streams/echo", content=data).content == data
    large = client.get("/streams/large?mebibytes=20")
    assert len(large.content) == 20 << 20
    assert client.get("/streams/binary?size=100000").content == bytes(range(256)) * 391


@check
def the_first_piece_comes_before_the_last_is_made(client: httpx.Client, isolation: str) -> None:
    for path in ("/streams/ticks", "/streams/plain"):
        with client.stream("GET", path, params={"count": 4, "seconds": 0.2}) as response:
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            times = [time.monotonic() for _ in response.iter_raw()]
        assert times[-1] - times[0] > 0.35, (path, times)
    events = client.get("/streams/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.count("data: {}") == 3
    assert client.get("/streams/redirect", follow_redirects=True).text == "0\n1\n2\n"


@check
def a_body_that_fails_does_not_look_whole(client: httpx.Client, isolation: str) -> None:
    try:
        # Compressed it has no length, and then nothing tells its end from another one.
        client.get("/streams/failing", headers={"accept-encoding": "identity"})
    except httpx.RemoteProtocolError:
        pass
    else:
        raise AssertionError("the body was taken for a whole one")
    assert client.get("/").status_code == 200


@check
def a_client_that_goes_away_ends_the_stream(client: httpx.Client, isolation: str) -> None:
    with client.stream("GET", "/streams/ticks", params={"count": 10_000, "seconds": 0.01}) as response:
        next(response.iter_raw())
    if isolation == "shared":
        deadline = time.monotonic() + 5
        while "ticks" not in client.get("/streams/ended").json():
            assert time.monotonic() < deadline, "the generator is still there"
            time.sleep(0.1)


# --- Tasks


@check
def background_tasks_run_after_the_response(client: httpx.Client, isolation: str) -> None:
    for parameters in ({}, {"coroutine": "true"}):
        began = time.monotonic()
        with client.stream("POST", "/background/busy", params={"seconds": "1.0"} | parameters) as response:
            body = response.read()
        assert body == b'{"started":"busy"}'
        assert time.monotonic() - began < 0.9, "the client waited for the task"
        if isolation == "shared":
            # It goes on computing.
            time.sleep(1.5)
    assert client.post("/background/slow/one").json() == {"started": "one"}
    assert client.post("/background/failing").json() == "started"
    if isolation == "shared":
        time.sleep(0.5)
        done = client.get("/background/done").json()
        # Tasks that compute for long may be those of another instance.
        assert "one" in done, done


@check
def asyncio_and_anyio_work(client: httpx.Client, isolation: str) -> None:
    assert client.get("/concurrency/gather").json() == [0, 1, 2, 0, 1, 2]
    expected = {"found": [0, 1, 2], "cancelled": True, "name": "Ada"}
    assert client.get("/concurrency/anyio", headers={"x-name": "Ada"}).json() == expected
    assert client.get("/concurrency/thread").json() == {"has_loop": False, "sum": 6, "name": "nobody"}
    assert client.get("/concurrency/timeout").json() == "timed out"
    assert client.get("/concurrency/disconnected").json() is False


@check
def requests_overlap(client: httpx.Client, isolation: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda _: client.get("/streams/ticks", params={"count": 2, "seconds": 0.3}), range(8)))
        assert time.monotonic() - began < 3.5
        assert {answer.text for answer in answers} == {"0\n1\n"}
        if isolation == "shared":
            waiting = pool.submit(client.get, "/concurrency/wait")
            time.sleep(0.2)
            assert not waiting.done()
            client.post("/concurrency/wake")
            assert waiting.result(5).json() == "woken"
            began = time.monotonic()
            assert all(answer.json() == "had the lock" for answer in pool.map(lambda _: client.get("/concurrency/lock"), range(4)))
            assert time.monotonic() - began > 0.19, "the lock was held by several at once"


def main() -> int:
    url, isolation = sys.argv[1:3]
    wanted = sys.argv[3:]
    failed = 0
    with httpx.Client(base_url=url, timeout=30) as client:
        for function in checks:
            if wanted and function.__name__ not in wanted:
                continue
            try:
                function(client, isolation)
            except Exception:
                failed += 1
                print(f"FAILED  {function.__name__}\n{traceback.format_exc()}")
            else:
                print(f"ok      {function.__name__}")
    print(f"{isolation}: {len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
