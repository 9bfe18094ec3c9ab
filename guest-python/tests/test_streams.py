"""Bodies in pieces, in both directions: order, back-pressure, clients that go away, errors, and what is left behind."""

import asyncio
import gc
import json

import pytest

from covet import CovetPy, HTTPException, Request, StreamingResponse


def streaming(make, **options):
    app = CovetPy()

    @app.get("/")
    async def index():
        return StreamingResponse(make(), **options)

    return app


async def ticks(count=3, seconds=0.01):
    for number in range(count):
        yield f"{number};"
        await asyncio.sleep(seconds)


@pytest.mark.parametrize(
    "make",
    [
        ticks,
        lambda: (f"{number};" for number in range(3)),
        lambda: ["0;", b"1;", bytearray(b"2;")],
        lambda: iter(["0;", "", "1;2;"]),
    ],
)
def test_every_kind_of_iterator_is_sent(serve, make):
    answer = serve(streaming(make, status_code=203, media_type="text/event-stream", headers={"x": "y"})).get("/")
    assert answer.content == b"0;1;2;"
    assert answer.status == 203
    assert answer.headers == [("content-type", "text/event-stream; charset=utf-8"), ("x", "y")]


def test_a_plain_function_can_return_a_stream(serve):
    app = CovetPy()

    @app.get("/")
    def index():
        return StreamingResponse(ticks())

    assert serve(app).get("/").content == b"0;1;2;"


def test_the_first_piece_is_sent_before_the_second_is_made(serve):
    instance = serve(streaming(lambda: ticks(3, 10)))
    task = instance.begin("GET", "/")
    instance.host.run(seconds=1)
    assert (task.returned, task.ended, task.streamed.taken) == (True, False, [b"0;"])
    instance.host.run()
    assert task.streamed.taken == [b"0;", b"1;", b"2;"]


def test_nothing_is_made_that_the_client_has_no_room_for(serve):
    made = []

    def pieces():
        for number in range(100):
            made.append(number)
            yield b"x" * 1000

    app = CovetPy()

    @app.get("/")
    async def index():
        await asyncio.sleep(0.001)
        return StreamingResponse(pieces())

    instance = serve(app)
    task = instance.begin("GET", "/")
    instance.host.run(lambda: task.returned)
    stream = task.streamed
    stream.room = 2500 - sum(map(len, stream.taken))
    with pytest.raises(Exception, match="GET /"):
        instance.host.run()
    assert len(made) == 3
    instance.host.make_room(stream, 1000)
    with pytest.raises(Exception, match="GET /"):
        instance.host.run()
    assert len(made) == 4
    instance.host.make_room(stream, float("inf"))
    instance.host.run()
    assert sum(map(len, stream.taken)) == 100_000


@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_iterator_is_closed_when_the_client_has_gone(serve, asynchronous):
    closed = []

    async def endless():
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.01)
        finally:
            await asyncio.sleep(0.01)
            closed.append("closed")

    def plain():
        try:
            while True:
                yield "x"
        finally:
            closed.append("closed")

    app = CovetPy()

    @app.get("/")
    async def index():
        return StreamingResponse(endless() if asynchronous else plain())

    instance = serve(app)
    task = instance.begin("GET", "/")
    stream_known = lambda: task.streamed is not None  # noqa: E731
    instance.host.run(stream_known)
    instance.host.hang_up(task.streamed)
    instance.host.run()
    assert (closed, task.ended) == (["closed"], True)


def test_an_error_in_the_iterator_ends_the_body_and_is_logged(serve, caplog):
    async def failing():
        yield "before"
        raise ValueError("in the middle")

    answer = serve(streaming(failing)).get("/")
    assert (answer.status, answer.content) == (200, b"before")
    assert "in the middle" in caplog.text


def test_a_piece_of_a_wrong_type_ends_the_body(serve, caplog):
    answer = serve(streaming(lambda: iter(["a", object(), "b"]))).get("/")
    assert answer.content == b"a"
    assert "TypeError" in caplog.text


def test_what_is_no_iterator_is_refused():
    for content in (7, "text", b"octets", None):
        with pytest.raises(TypeError, match="iterator"):
            StreamingResponse(content)


# --- Bodies of requests


def reading():
    app = CovetPy()

    @app.post("/body")
    async def body(request: Request):
        return await request.body()

    @app.post("/text")
    async def text(request: Request):
        return await request.text()

    @app.post("/json")
    async def as_json(request: Request):
        first = await request.json()
        return {"json": first, "same": await request.json() is first}

    @app.post("/stream")
    async def stream(request: Request):
        return [piece.decode() async for piece in request.stream()]

    @app.post("/echo")
    async def echo(request: Request):
        async def pieces():
            async for piece in request.stream():
                yield piece

        return StreamingResponse(pieces())

    @app.post("/forward")
    async def forward(request: Request):
        return StreamingResponse(request.stream())

    @app.post("/first")
    async def first(request: Request):
        return await anext(request.stream(), b"")

    @app.post("/ignore")
    def ignore():
        return "ignored"

    @app.post("/again/{one}/{two}")
    async def again(one: str, two: str, request: Request):
        async def read(kind):
            if kind == "stream":
                return b"".join([piece async for piece in request.stream()])
            return await getattr(request, kind)()

        await read(one)
        try:
            await read(two)
        except RuntimeError as error:
            return f"RuntimeError: {error}"
        return "read again"

    return app


def bodies(instance, content):
    """The same octets in every form in which the host may send them."""
    forms = [content, instance.host.body(content)[0], instance.host.body(*(bytes([octet]) for octet in content))[0]]
    try:
        return [*forms, content.decode()]
    except UnicodeDecodeError:
        return forms


@pytest.mark.parametrize("content", [b"", b'{"a": [1, 2.5, null]}', "\u20ac\U0001f600".encode(), b"\xff\x00\xfe"])
def test_a_body_is_the_same_in_whatever_form_it_comes(serve, content):
    instance = serve(reading())
    for body in bodies(instance, content):
        assert instance.post("/body", body).content == content
    for body in bodies(instance, content):
        assert instance.post("/text", body).text == content.decode(errors="replace")
    for body in bodies(instance, content):
        assert instance.post("/echo", body).content == content
    for body in bodies(instance, content):
        assert instance.post("/forward", body).content == content
    assert instance.post("/body").content == b""


def test_json_is_read_once_and_kept(serve):
    instance = serve(reading())
    for body in bodies(instance, b'{"a": 1}'):
        assert instance.post("/json", body).json() == {"json": {"a": 1}, "same": True}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1,]", b"nope", b'"\\ud8"', b"[" * 100_000 + b"]" * 100_000])
def test_a_body_that_is_not_json_is_a_400(serve, content):
    instance = serve(reading())
    for body in (content, instance.host.body(content)[0]):
        answer = instance.post("/json", body)
        assert answer.status == 400
        assert answer.json()["detail"].startswith("The body is ")


def test_the_error_of_json_can_be_caught(serve):
    app = CovetPy()

    @app.post("/")
    async def index(request: Request):
        try:
            return await request.json()
        except HTTPException as error:
            return f"caught {error.status_code}", 422

    assert serve(app).post("/", "{").text == "caught 400"


@pytest.mark.parametrize("one", ["body", "text", "json"])
@pytest.mark.parametrize("two", ["body", "text", "stream"])
def test_a_body_can_be_read_a_second_time(serve, one, two):
    instance = serve(reading())
    for body in bodies(instance, b"{}"):
        assert instance.post(f"/again/{one}/{two}", body).text == "read again"


@pytest.mark.parametrize("two", ["body", "text", "stream"])
def test_a_body_that_was_read_as_a_stream_cannot_be_read_again(serve, two):
    instance = serve(reading())
    for body in bodies(instance, b"{}"):
        answer = instance.post(f"/again/stream/{two}", body)
        assert answer.text == "RuntimeError: the body of the request has been read already, as a stream"


def test_pieces_arrive_as_they_are_sent(serve):
    instance = serve(reading())
    reader, stream = instance.host.body(b"a", ended=False)
    task = instance.begin("POST", "/stream", reader)
    for piece in (b"b", b"c"):
        instance.host.send(stream, piece)
        with pytest.raises(Exception, match="POST /stream"):
            instance.host.run()
    instance.host.finish(stream)
    instance.host.run()
    assert json.loads(instance.answer(task).content) == ["a", "b", "c"]


@pytest.mark.parametrize("path", ["/ignore", "/first"])
def test_a_body_that_is_not_read_to_its_end_is_closed(serve, path):
    instance = serve(reading())
    for ended in (True, False):
        reader, stream = instance.host.body(b"a", b"b", ended=ended)
        assert instance.post(path, reader).status == 200
        assert not stream.reader_open


def test_a_request_that_is_kept_keeps_no_handle(serve):
    kept = []
    app = CovetPy()

    @app.post("/")
    async def index(request: Request):
        kept.append(request)
        request.me = request
        try:
            raise ValueError
        except ValueError as error:
            request.error = error
        return "kept"

    instance = serve(app)
    for _ in range(3):
        assert instance.post("/", instance.host.body(b"a", ended=False)[0]).status == 200
    assert instance.host.leftovers() == []
    kept.clear()
    gc.collect()


def test_a_read_that_is_given_up_loses_nothing(serve):
    app = CovetPy()

    @app.post("/")
    async def index(request: Request):
        pieces, got = request.stream(), []
        while True:
            try:
                got.append((await asyncio.wait_for(anext(pieces), 0.01)).decode())
            except TimeoutError:
                got.append("timeout")
            except StopAsyncIteration:
                return got

    instance = serve(app)
    reader, stream = instance.host.body(ended=False)
    task = instance.begin("POST", "/", reader)
    instance.host.run(seconds=0.015)
    instance.host.send(stream, b"late")
    instance.host.run(seconds=0.015)
    instance.host.finish(stream)
    instance.host.run()
    got = json.loads(instance.answer(task).content)
    assert [item for item in got if item != "timeout"] == ["late"]
    assert got[0] == "timeout"


def test_a_read_that_is_still_under_way_at_the_end_ends_with_the_request(serve):
    app = CovetPy()

    @app.post("/")
    async def index(request: Request):
        try:
            await asyncio.wait_for(request.body(), 0.01)
        except TimeoutError:
            return "too slow", 408

    instance = serve(app)
    reader, stream = instance.host.body(ended=False)
    task = instance.begin("POST", "/", reader)
    instance.host.run(lambda: task.returned)
    assert instance.answer(task).status == 408
    instance.host.finish(stream)
    instance.host.run()
    assert instance.host.leftovers() == []
