"""The request as handlers see it: URL, headers, cookies, client, state, negotiation, and its body, once and again."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import twins

from covet import CovetPy, Headers, HTTPException, QueryParams, Request, Router, StreamingResponse, UploadFile
from covet._guest.bridge import BodyBytes, BodyEmpty, BodyText, RequestRecord
from covet.datastructures import URL, Address, State

JSON = [("content-type", "application/json")]


def request_of(
    target: str = "/", headers: Any = (), body: Any = None, method: str = "GET", peer: str = "127.0.0.1:5000"
) -> Request:
    wire = BodyEmpty() if body is None else BodyText(body) if isinstance(body, str) else BodyBytes(body)
    return Request(RequestRecord(0, method, "http://testhost:8000", target, [], list(headers), peer, wire), CovetPy())


# --- What is before the body


def test_a_request_tells_what_starlettes_tells(serve):
    def build(kit):
        @kit.app.api_route("/a/{x}", methods=["GET", "PUT"])
        async def handler(request: kit.Request, x: str):
            return {
                "method": request.method,
                "url": str(request.url),
                "scheme": request.url.scheme,
                "netloc": request.url.netloc,
                "hostname": request.url.hostname,
                "port": request.url.port,
                "path": request.url.path,
                "query": request.url.query,
                "query_params": dict(request.query_params),
                "multi": request.query_params.multi_items(),
                "list": request.query_params.getlist("a"),
                "get": [request.query_params.get("a"), request.query_params.get("no"), request.query_params.get("no", "d")],
                "path_params": dict(request.path_params),
                "header": [request.headers["X-A"], request.headers.get("x-none"), request.headers.getlist("X-A")],
                "in": ["X-A" in request.headers, "x-none" in request.headers, "a" in request.query_params],
                "cookies": request.cookies,
                "client": [request.client.host, request.client.port],
                "body": (await request.body()).decode(),
            }

    headers = [("x-a", "1"), ("x-a", "2"), ("cookie", 'a=b; c="d e"')]
    with twins(serve, build) as both:
        for target in ("/a/7?a=1&a=2&b=%C3%A9+x&c=", "/a/7", "/a/x?&&=&a", "/a/x?a=%zz%ff"):
            for method in ("GET", "PUT"):
                both.agree(method, target, "body", headers, status=200)
                both.agree(method, target, None, headers, status=200)


def test_path_target_and_url():
    request = request_of("/a%2Fb%20c/\u20ac?x=%20y#z")
    assert request.path == "/a/b c/\u20ac"
    assert request.target == "/a%2Fb%20c/\u20ac?x=%20y#z"
    assert str(request.url) == "http://testhost:8000/a%2Fb%20c/\u20ac?x=%20y#z"
    assert (request.url == "http://testhost:8000/a%2Fb%20c/\u20ac?x=%20y#z", request.url == request.url) == (True, True)
    assert len({request.url, URL(str(request.url))}) == 1
    assert repr(request) == "<Request GET /a%2Fb%20c/\u20ac?x=%20y#z>"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 0)),
        ("unix", ("unix", 0)),
        ("", ("", 0)),
        ("host:port", ("host:port", 0)),
    ],
)
def test_the_client_is_an_address(peer, expected):
    assert request_of(peer=peer).client == Address(*expected)


def test_the_version_and_the_certificate_are_what_the_host_says():
    request = request_of(headers=[("host", "a"), ("covet-http-version", "2"), ("covet-client-subject", "CN=me")])
    assert (request.http_version, request.client_subject) == ("2", "CN=me")
    assert (request_of().http_version, request_of().client_subject) == ("1.1", None)


def test_headers_are_a_mapping_whose_names_have_no_case():
    headers = Headers({"A": "1", "b": "2"})
    assert (headers["a"], headers["A"], dict(headers), len(headers)) == ("1", "1", {"a": "1", "b": "2"}, 2)
    many = Headers([("a", "1"), ("A", "2"), ("b", "3")])
    assert (many["a"], many.getlist("A"), many.multi_items(), list(many)) == (
        *("1", ["1", "2"]),
        *([("a", "1"), ("a", "2"), ("b", "3")], ["a", "b"]),
    )
    assert (many.get("c"), many.get("c", "d"), "C" in many, 5 in many) == (None, "d", False, False)
    with pytest.raises(KeyError):
        many["c"]


def test_query_parameters_are_a_mapping_whose_last_values_count():
    params = QueryParams("a=1&a=2&b=")
    assert (params["a"], params.getlist("a"), dict(params), len(params), params.get("c")) == (
        *("2", ["1", "2"]),
        *({"a": "2", "b": ""}, 2, None),
    )
    assert QueryParams([("a", "1")]).multi_items() == [("a", "1")]


def test_a_state_is_a_place_for_attributes():
    state = State()
    state.a = 1
    assert (state.a, "a" in state, "b" in state, getattr(state, "b", 2)) == (1, True, False, 2)
    del state.a
    with pytest.raises(AttributeError, match="no attribute 'a'"):
        state.a  # noqa: B018


def test_a_state_is_that_of_one_request(serve):
    app = CovetPy()

    @app.get("/")
    def handler(request: Request):
        seen = "n" in request.state
        request.state.n = 1
        return {"seen": seen, "same": request.state is request.state, "app": request.app is app}

    instance = serve(app)
    for _ in range(2):
        assert instance.get("/").json() == {"seen": False, "same": True, "app": True}


@pytest.mark.parametrize("name", ["user", "auth", "session"])
def test_what_a_middleware_has_not_set_is_no_attribute(name):
    with pytest.raises(AttributeError, match=name):
        getattr(request_of(), name)
    request = request_of()
    setattr(request.state, name, 5)
    assert getattr(request, name) == 5


def test_urls_of_routes_are_on_the_host_of_the_request(serve):
    app = CovetPy()
    router = Router(prefix="/r")

    @router.get("/{n}", name="one")
    def handler(n: int, request: Request):
        return str(request.url_for("one", n=n + 1))

    app.include_router(router)
    assert serve(app).get("/r/1").text == "http://testhost:8000/r/2"


# --- Negotiation


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "text/html"),
        ("", "text/html"),
        ("*/*", "text/html"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/*;q=0.9, application/json;q=0.8", "text/html"),
        ("text/*, text/html;q=0", None),
        ("text/html;q=0, */*;q=0.1", "application/json"),
        ("image/png", None),
        ("TEXT/HTML;Q=0.1, application/JSON;q=0.05", "text/html"),
        ("application/json;q=x, text/html;q=0.1", "text/html"),
        ("application/json;q=2, text/html;q=0.1", "text/html"),
        (",, ;q=1, application/json", "application/json"),
        ("application/json;charset=utf-8;q=0.5, text/html;q=0.4", "application/json"),
    ],
)
def test_the_media_type_that_the_client_likes_best(accept, expected):
    headers = [] if accept is None else [("accept", accept)]
    assert request_of(headers=headers).accepts("text/html", "application/json") == expected


def test_several_fields_are_one_list():
    request = request_of(headers=[("accept", "text/html;q=0.1"), ("accept", "application/json;q=0.2")])
    assert request.accepts("text/html", "application/json") == "application/json"
    assert request.accepts() is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "en"),
        ("de", "de"),
        ("de-AT, en;q=0.5", "de"),
        ("fr, *;q=0.1", "en"),
        ("fr", None),
        ("EN-gb;q=0.2, DE;q=0.1", "en"),
    ],
)
def test_the_language_that_the_client_likes_best(accept, expected):
    headers = [] if accept is None else [("accept-language", accept)]
    assert request_of(headers=headers).accepts_language("en", "de") == expected


@given(st.text())
def test_whatever_a_client_says_it_accepts_is_no_error(text):
    request = request_of(headers=[("accept", text), ("accept-language", text), ("cookie", text), ("content-type", text)])
    assert request.accepts("a/b", "c/d") in ("a/b", "c/d", None)
    assert request.accepts_language("en") in ("en", None)
    assert isinstance(request.cookies, dict)
    assert isinstance(request.is_json, bool)
    assert request.content_type == text.partition(";")[0].strip().lower()


# --- The body


@pytest.fixture
def bodies(serve):
    app = CovetPy()

    @app.post("/{steps}")
    async def handler(steps: str, request: Request):
        results: list[Any] = []
        for step in steps.split("-"):
            try:
                if step == "stream":
                    results.append(b"".join([piece async for piece in request.stream()]).decode())
                elif step == "form":
                    form = await request.form()
                    results.append({name: value if isinstance(value, str) else value.filename for name, value in form.items()})
                else:
                    result = await getattr(request, step)()
                    results.append(result.decode() if isinstance(result, bytes) else result)
            except RuntimeError as error:
                results.append(str(error))
        return results

    return serve(app)


def arrivals(instance, body: str):
    """A body as text, as octets and in pieces."""
    octets = body.encode()
    yield body
    yield octets
    yield instance.host.body(*(octets[at : at + 3] for at in range(0, len(octets), 3)))[0]


def test_a_body_may_be_read_again_and_in_every_way(bodies):
    text = '{"a":"\u20ac"}'
    for steps, expected in {
        "body-body": [text, text],
        "text-json-body": [text, {"a": "\u20ac"}, text],
        "json-json": [{"a": "\u20ac"}] * 2,
        "json-text-stream": [{"a": "\u20ac"}, text, text],
        "body-stream-stream": [text, text, text],
        "body-form-json": [text, {}, {"a": "\u20ac"}],
    }.items():
        for body in arrivals(bodies, text):
            assert bodies.post(f"/{steps}", body, headers=JSON).json() == expected, (steps, type(body))


def test_a_form_may_be_read_again_and_beside_the_body(bodies):
    urlencoded = [("content-type", "application/x-www-form-urlencoded")]
    for body in arrivals(bodies, "a=1&b=%E2%82%AC"):
        assert bodies.post("/form-form", body, headers=urlencoded).json() == [{"a": "1", "b": "\u20ac"}] * 2
    for body in arrivals(bodies, "a=1&b=%E2%82%AC"):
        answer = bodies.post("/body-form-text", body, headers=urlencoded)
        assert answer.json() == ["a=1&b=%E2%82%AC", {"a": "1", "b": "\u20ac"}, "a=1&b=%E2%82%AC"]
    multipart = '--x\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\nabc\r\n--x--\r\n'
    for body in arrivals(bodies, multipart):
        headers = [("content-type", "multipart/form-data; boundary=x")]
        assert bodies.post("/form-form", body, headers=headers).json() == [{"f": "n"}] * 2


def test_a_stream_that_has_been_read_is_gone(bodies):
    gone = "the body of the request has been read already, as a stream"
    for second in ("body", "text", "json", "stream", "form"):
        reader = bodies.host.body(b'{"a"', b":1}")[0]
        assert bodies.post(f"/stream-{second}", reader, headers=JSON).json() == ['{"a":1}', gone]
    # What was there from the beginning is no exception.
    assert bodies.post("/stream-json", '{"a":1}', headers=JSON).json() == ['{"a":1}', gone]


def test_an_empty_body_is_empty(bodies):
    for body in (None, "", b"", bodies.host.body()[0]):
        assert bodies.post("/body-text-stream-form", body).json() == ["", "", "", {}]
        assert bodies.post("/json", body if isinstance(body, str) else None).status == 400


@pytest.mark.parametrize("body", ["", "{", "nul", "{'a':1}", "[" * 100_000, "\ufeff{", b"\xff", b'{"a":"\xff"}', "1" * 5000])
def test_a_body_that_is_no_json_is_a_400_unless_that_is_caught(serve, body):
    app = CovetPy()

    @app.post("/")
    async def handler(request: Request):
        return await request.json()

    @app.post("/caught")
    async def caught(request: Request):
        try:
            return await request.json()
        except HTTPException as error:
            return {"caught": error.status_code}

    instance = serve(app)
    octets = body.encode() if isinstance(body, str) else body
    for one in (body, octets, instance.host.body(octets[:3], octets[3:])[0] if octets else None):
        answer = instance.post("/", one)
        assert answer.status == 400
        assert answer.json()["detail"].startswith("The body is")
    assert instance.post("/caught", body).json() == {"caught": 400}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])), st.lists))
def test_json_is_read_as_it_was_written(value):
    text = json.dumps(value)

    async def both() -> list[Any]:
        return [await request_of(body=text).json(), await request_of(body=text.encode()).json()]

    coroutine = both()
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value == [value, value]


def test_a_text_that_is_no_utf_8_is_replaced(bodies):
    assert bodies.post("/text", b"a\xffb").json() == ["a\ufffdb"]


def test_pieces_come_as_they_arrive(serve):
    app, log = CovetPy(), []

    @app.post("/")
    async def handler(request: Request):
        async for piece in request.stream():
            log.append(piece)
        return len(log)

    instance = serve(app)
    reader, stream = instance.host.body(b"one", ended=False)
    task = instance.begin("POST", "/", reader)
    instance.host.run(lambda: bool(log))
    assert (log, task.returned) == ([b"one"], False)
    instance.host.send(stream, b"two")
    instance.host.run(lambda: len(log) > 1)
    instance.host.finish(stream)
    instance.host.run()
    assert (log, instance.answer(task).json()) == ([b"one", b"two"], 2)


def test_a_body_is_sent_back_as_it_comes(serve):
    app = CovetPy()

    @app.post("/")
    def echo(request: Request):
        return StreamingResponse(request.stream(), media_type="application/octet-stream")

    instance = serve(app)
    for body in ("text", b"\x00\xff", instance.host.body(b"a" * 1000, b"b" * 1000)[0], None):
        expected = {str: b"text", bytes: b"\x00\xff", type(None): b""}.get(type(body), b"a" * 1000 + b"b" * 1000)
        assert instance.post("/", body).content == expected


def test_an_upload_that_has_begun_is_a_parameter_only_when_it_is_there(serve):
    app = CovetPy()

    @app.post("/")
    async def handler(file: UploadFile):
        return [file.filename, (await file.read()).decode()]

    instance = serve(app)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nab'
    reader, stream = instance.host.body(head, ended=False)
    task = instance.begin("POST", "/", reader, [("content-type", "multipart/form-data; boundary=x")])
    with pytest.raises(Exception, match="POST /"):
        instance.host.run()
    assert not task.returned
    instance.host.send(stream, b"c\r\n--x--\r\n")
    instance.host.finish(stream)
    instance.host.run()
    assert instance.answer(task).json() == ["f", "abc"]


def test_what_is_not_read_of_a_body_is_left(serve):
    app = CovetPy()

    @app.post("/some")
    async def some(request: Request):
        async for piece in request.stream():
            return piece
        return None

    @app.post("/none")
    async def none():
        await asyncio.sleep(0)
        return "x"

    @app.post("/sync")
    def sync():
        return "x"

    instance = serve(app)
    for path, expected in (("/some", b"one"), ("/none", b"x"), ("/sync", b"x")):
        reader, _ = instance.host.body(b"one", b"two", ended=False)
        assert instance.post(path, reader).content == expected


@pytest.mark.parametrize(
    ("content_type", "media_type", "is_json"),
    [
        ("application/json", "application/json", True),
        ("Application/JSON; charset=utf-8", "application/json", True),
        ("application/vnd.api+json", "application/vnd.api+json", True),
        ("text/json", "text/json", False),
        ("image/svg+json", "image/svg+json", False),
        ("", "", False),
        (None, None, False),
    ],
)
def test_the_type_of_a_body(content_type, media_type, is_json):
    request = request_of(headers=[] if content_type is None else [("content-type", content_type)])
    assert (request.content_type, request.is_json) == (media_type, is_json)


def test_parameters_may_be_parts_of_the_request(serve):
    app = CovetPy()

    @app.get("/{n}")
    def handler(n: int, query: QueryParams, headers: Headers, state: State, url: URL, client: Address, application: CovetPy):
        return [n, dict(query), headers["x-a"], type(state).__name__, url.path, client.host, application is app]

    answer = serve(app).get("/7?a=1", headers=[("x-a", "b")])
    assert answer.json() == [7, {"a": "1"}, "b", "State", "/7", "127.0.0.1", True]


def test_the_error_of_json_is_a_value_error_too(serve):
    app = CovetPy()

    @app.post("/")
    async def index(request: Request):
        try:
            return await request.json()
        except ValueError as error:
            return {"caught": type(error).__name__, "base": str(request.base_url)}

    assert serve(app).post("/", "{").json() == {"caught": "InvalidBody", "base": "http://testhost:8000/"}
