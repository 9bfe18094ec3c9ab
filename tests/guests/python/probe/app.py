"""One route for each behaviour that the end-to-end tests look at. The tests say what each must do."""

import asyncio
import hashlib
import json
import logging
import os
import random
import secrets
import sys
import time
import uuid
import warnings
from contextvars import ContextVar
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

from covet import CovetPy, HTMLResponse, HTTPException, JSONResponse, Path, PlainTextResponse, Query, RedirectResponse, Request, Response, StreamingResponse, host
from covet.metrics import Metrics

app = CovetPy(title="Probe")
log = logging.getLogger("probe")

# --- Bodies

@app.route("/echo", ["*"])
async def echo(request: Request):
    """The body as it came, with its type."""
    body = await request.body()
    return Response(body, headers={"content-type": request.headers.get("content-type", "application/octet-stream")})


@app.post("/echo-text")
async def echo_text(request: Request):
    return PlainTextResponse(await request.text())


@app.post("/echo-json")
async def echo_json(request: Request):
    return JSONResponse(await request.json())


@app.post("/echo-stream")
async def echo_stream(request: Request):
    """Each piece is sent back as it arrives."""

    async def pieces():
        async for piece in request.stream():
            yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.post("/forward")
async def forward(request: Request):
    """The body is handed back unread: the host connects its two ends."""
    return StreamingResponse(request.stream(), media_type="application/octet-stream")


@app.post("/upload")
async def upload(request: Request):
    size, pieces, digest = 0, 0, hashlib.sha256()
    async for piece in request.stream():
        size += len(piece)
        pieces += 1
        digest.update(piece)
    return {"size": size, "pieces": pieces, "sha256": digest.hexdigest()}


@app.post("/upload/first")
async def upload_first(request: Request):
    """Reads one piece and leaves the rest."""
    async for piece in request.stream():
        return {"first": len(piece)}
    return {"first": 0}


@app.post("/upload/stall")
async def upload_stall(request: Request):
    """Reads one piece and then takes a minute."""
    async for _piece in request.stream():
        await asyncio.sleep(60)
        break
    return "late"


@app.post("/upload/ignored")
def upload_ignored():
    return {"read": 0}


@app.post("/upload/timeout/{ms}")
async def upload_timeout(ms: int, request: Request):
    """Waits so long for each piece."""
    size = 0
    pieces = aiter(request.stream())
    try:
        while True:
            size += len(await asyncio.wait_for(anext(pieces), ms / 1000))
    except StopAsyncIteration:
        return {"size": size}
    except TimeoutError:
        return {"timeout": True, "size": size}, 408


@app.post("/twice")
async def twice(request: Request):
    """A body can be read again."""
    return {"same": await request.body() == await request.body() == (await request.text()).encode()}


@app.post("/twice/stream")
async def twice_as_stream(request: Request):
    """A body that was read as a stream is gone."""
    async for _ in request.stream():
        pass
    try:
        return {"body": await request.text()}
    except RuntimeError as error:
        return {"error": str(error)}


@app.get("/endless")
async def endless(size: int = 1000):
    async def pieces():
        try:
            while True:
                yield b"x" * size
        finally:
            log.info("endless closed")

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.get("/slow")
async def slow(count: int = 5, ms: int = 50):
    async def pieces():
        for number in range(count):
            yield f"{number}\n"
            await asyncio.sleep(ms / 1000)

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/stream/sync")
def stream_sync(count: int = 3):
    return StreamingResponse((f"{number}\n" for number in range(count)), media_type="text/plain")


@app.get("/stream/failing")
async def stream_failing():
    async def pieces():
        yield "before\n"
        raise ValueError("in the middle of a body")

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/stream/empty")
async def stream_empty():
    return StreamingResponse(iter(()), media_type="text/plain")


@app.get("/big/text/{size}")
def big_text(size: int):
    return PlainTextResponse("x" * size)


@app.get("/big/bytes/{size}")
def big_bytes(size: int):
    return Response(b"\xff" * size, media_type="application/octet-stream")


@app.get("/surrogate")
def surrogate():
    """Text that UTF-8 cannot have, in the body and in a header."""
    return {"text": json.loads('"\\ud800"')}, 200, {"x-surrogate": "\ud800"}

# --- Time and resources

@app.get("/sleep/{ms}")
async def sleep(ms: int):
    await asyncio.sleep(ms / 1000)
    return {"slept": ms}


@app.get("/block/{ms}")
def block(ms: int):
    """Sleeps without giving way to anything."""
    time.sleep(ms / 1000)
    return {"blocked": ms}


@app.get("/spin")
def spin():
    while True:
        pass


@app.get("/spin/{ms}")
def spin_for(ms: int):
    end = time.monotonic() + ms / 1000
    count = 0
    while time.monotonic() < end:
        count += 1
    return {"count": count}


@app.get("/trap")
def trap():
    os._exit(3)


@app.get("/abort")
def abort():
    os.abort()


@app.get("/grow/{mb}")
def grow(mb: int):
    """Allocates so many MiB, touches them, and lets go of them."""
    held = bytearray(mb << 20)
    held[::4096] = b"x" * len(held[::4096])
    return {"mb": len(held) >> 20}


kept = []


@app.get("/leak/{mb}")
def leak(mb: int):
    """Allocates so many MiB and keeps them."""
    kept.append(bytearray(b"x") * (mb << 20))
    return {"kept": sum(map(len, kept)) >> 20}


@app.get("/recurse")
def recurse():
    def down(depth):
        return down(depth + 1)

    down(0)


@app.get("/deep-json/{depth}")
def deep_json(depth: int):
    """Reads JSON that deep in the guest; the same by POST is /echo-json."""
    try:
        json.loads("[" * depth + "]" * depth)
    except RecursionError:
        return {"error": "RecursionError"}
    return {"depth": depth}


@app.get("/deep-response")
def deep_response():
    value = []
    for _ in range(100_000):
        value = [value]
    return value

# --- Errors

@app.get("/exception")
def exception():
    raise ValueError("secret of the handler")


@app.get("/exception/async")
async def exception_async():
    await asyncio.sleep(0.001)
    raise ValueError("secret of the handler")


@app.get("/exit")
def exit_process():
    sys.exit(3)


@app.get("/exception/{name}")
def exception_named(name: str):
    """Every kind that must not leave the guest."""
    raise {
        "SystemExit": SystemExit,
        "KeyboardInterrupt": KeyboardInterrupt,
        "GeneratorExit": GeneratorExit,
        "CancelledError": asyncio.CancelledError,
        "MemoryError": MemoryError,
        "RecursionError": RecursionError,
        "StopIteration": StopIteration,
        "BaseException": BaseException,
    }[name]("raised on purpose")


@app.get("/http-exception/{status}")
def http_exception(status: int):
    raise HTTPException(status, detail={"status": status}, headers={"x-error": "yes"})


class Teapot(Exception):
    pass


@app.exception_handler(Teapot)
async def teapot(request: Request, error: Teapot):
    return JSONResponse({"handled": str(error), "path": request.path}, status_code=418)


@app.get("/handled")
def handled():
    raise Teapot("short and stout")


@app.get("/not-json")
def not_json():
    return {"value": object()}


@app.get("/nan")
def nan():
    return {"value": float("nan")}

# --- Responses

@app.get("/status/{status}")
def status(status: int):
    return Response("", status_code=status)


@app.get("/bad-header/name")
def bad_header_name():
    return Response("x", headers={"not valid": "x"})


@app.get("/bad-header/value")
def bad_header_value():
    return Response("x", headers={"x-split": "a\r\nset-cookie: b=c"})


@app.get("/headers/many/{count}")
def many_headers(count: int):
    return Response("x", headers=[(f"x-{number}", "v") for number in range(count)])


@app.get("/headers/large/{size}")
def large_header(size: int):
    return Response("x", headers={"x-large": "v" * size})


@app.get("/headers/framing")
def framing_headers():
    """Fields that belong to the host."""
    return Response("body", headers={"content-length": "9999", "transfer-encoding": "chunked", "connection": "close"})


@app.get("/cookies")
def cookies(request: Request):
    response = JSONResponse(request.cookies)
    response.set_cookie("a", "1", max_age=60, httponly=True)
    response.set_cookie("b", "2")
    return response


@app.get("/return/{kind}")
def return_kind(kind: str):
    return {
        "dict": {"a": 1},
        "list": [1, 2],
        "str": "text \u20ac",
        "bytes": b"\x00\xff",
        "none": None,
        "int": 7,
        "bool": True,
        "tuple": ({"a": 1}, 202),
        "tuple-headers": ("made", 201, {"x-made": "yes"}),
        "html": HTMLResponse("<p>"),
        "redirect": RedirectResponse("/echo"),
        "empty": Response(None, 204),
    }[kind]


@app.get("/no-content", status_code=204)
def no_content():
    return None

# --- Requests

@app.route("/headers", ["*"])
def headers(request: Request):
    return {
        "method": request.method,
        "target": request.target,
        "path": request.path,
        "url": str(request.url),
        "peer": list(request.client),
        "headers": request.headers.multi_items(),
        "query": request.query_params.multi_items(),
    }


class Color(Enum):
    red = "red"
    green = "green"


@app.get("/params/{a}/{b}")
def params(a: int, b: str):
    return {"a": a, "b": b}


@app.get("/typed/int/{value:int}")
def typed_int(value):
    return {"value": value, "type": type(value).__name__}


@app.get("/typed/float/{value}")
def typed_float(value: float):
    return {"value": value}


@app.get("/typed/bool/{value}")
def typed_bool(value: bool):
    return {"value": value}


@app.get("/typed/uuid/{value}")
def typed_uuid(value: UUID):
    return {"value": value}


@app.get("/typed/enum/{value}")
def typed_enum(value: Color):
    return {"value": value, "name": value.name}


@app.get("/typed/bounded/{value}")
def typed_bounded(value: Annotated[int, Path(ge=1, le=10)]):
    return {"value": value}


@app.get("/files/{path:path}")
def files(path: str):
    return {"path": path}


@app.get("/image/{name}.png")
def image(name: str):
    return {"name": name}


@app.get("/query")
def query(
    q: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    ratio: float = 0.5,
    flag: bool = False,
    tags: list[str] = Query([]),
    ids: Annotated[list[int], Query(alias="id", max_length=3)] = [],  # noqa: B006: copied for every request
    color: Color | None = None,
    order: Literal["asc", "desc"] = "asc",
    since: date | None = None,
    at: datetime | None = None,
    code: str | None = Query(None, min_length=2, max_length=4, pattern="^[a-z]+$"),
):
    return {
        "q": q,
        "limit": limit,
        "ratio": ratio,
        "flag": flag,
        "tags": tags,
        "ids": ids,
        "color": color,
        "order": order,
        "since": since,
        "at": at,
        "code": code,
    }

# --- State

counter = 0


@app.get("/counter")
def count():
    """1, 2, 3 in one instance; always 1 where each request sees the state after startup."""
    global counter
    counter += 1
    return {"counter": counter}


started = 0
events = []


@app.on_event("startup")
async def startup():
    global started
    await asyncio.sleep(0.001)
    started += 1
    app.state.started_at = time.time()
    log.info("probe started")


@app.on_event("shutdown")
def shutdown():
    log.info("probe shut down")


@app.get("/startup")
def startup_state():
    return {"started": started, "state": hasattr(app.state, "started_at")}


tenant: ContextVar[str] = ContextVar("tenant", default="none")


@app.get("/context/{name}")
def context(name: str):
    """What one request sets is not there in the next."""
    before = tenant.get()
    tenant.set(name)
    return {"before": before, "after": tenant.get()}


@app.get("/random")
def randomness():
    """None of these may be the same in two requests, of whatever instance."""
    return {
        "random": random.random(),
        "secrets": secrets.token_hex(8),
        "uuid": uuid.uuid4(),
        "urandom": os.urandom(8).hex(),
        "seed": host.random_seed().hex(),
        "time": time.time(),
    }


@app.get("/environ")
def environ():
    return dict(os.environ)


@app.get("/config/{key}")
def config(key: str):
    return {"value": host.config(key)}


@app.get("/metrics")
def metrics():
    return host.metrics()


@app.get("/app-metrics")
def app_metrics():
    return Metrics().as_dict()

# --- Output

@app.get("/print")
def print_line(text: str = "printed"):
    print(text)
    print(text, file=sys.stderr)
    return "printed"


@app.get("/log/{level}")
def log_line(level: str, text: str = "logged"):
    log.setLevel(logging.DEBUG)
    log.log(getattr(logging, level.upper()), text)
    return "logged"


@app.get("/log-many/{count}")
def log_many(count: int):
    for number in range(count):
        log.info("line %d %s", number, "x" * 100)
    return {"lines": count}


@app.get("/warn")
def warn():
    warnings.warn("a warning", stacklevel=1)
    return "warned"


@app.get("/late-import")
def late_import():
    """Imported while the component was built, because the build tool saw it; the other cannot be found any more."""
    import colorsys

    try:
        __import__("wave")
    except ModuleNotFoundError as error:
        return {"colorsys": colorsys.rgb_to_hls(0, 0, 0), "wave": str(error)}

# --- asyncio

@app.get("/async/sleep")
async def async_sleep():
    began = time.monotonic()
    await asyncio.sleep(0.02)
    await asyncio.sleep(0)
    return {"waited": time.monotonic() - began >= 0.02}


@app.get("/async/gather")
async def async_gather():
    began = time.monotonic()
    values = await asyncio.gather(*(asyncio.sleep(0.1, number) for number in range(20)))
    return {"values": values, "overlapped": time.monotonic() - began < 0.5}


@app.get("/async/task")
async def async_task():
    async def work(value):
        await asyncio.sleep(0.01)
        return value

    task = asyncio.create_task(work(1), name="work")
    async with asyncio.TaskGroup() as group:
        second = group.create_task(work(2))
        third = group.create_task(work(3))
    return {"values": [await task, second.result(), third.result()], "name": task.get_name()}


@app.get("/async/group-error")
async def async_group_error():
    async def fail():
        await asyncio.sleep(0.005)
        raise ValueError("in a group")

    seen = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            other = group.create_task(asyncio.sleep(10))
    except* ValueError as errors:
        seen = [str(error) for error in errors.exceptions]
    return {"errors": seen, "cancelled": other.cancelled()}


@app.get("/async/orphan")
async def async_orphan(ms: int = 50):
    """A task that nobody awaits runs to its end after the response."""

    async def later():
        await asyncio.sleep(ms / 1000)
        events.append("orphan")
        log.info("orphan done")

    asyncio.create_task(later())
    return "started"


@app.get("/async/orphan-sync")
def async_orphan_sync():
    """The same, from a plain function."""

    async def later():
        await asyncio.sleep(0.02)
        log.info("orphan of a plain function done")

    asyncio.get_running_loop().create_task(later())
    return "started"


@app.get("/async/orphan-error")
async def async_orphan_error():
    async def later():
        raise ValueError("in a task that nobody awaits")

    asyncio.create_task(later())
    return "started"


@app.get("/async/timeout")
async def async_timeout():
    began = time.monotonic()
    try:
        async with asyncio.timeout(0.03):
            await asyncio.sleep(60)
    except TimeoutError:
        return {"timed_out": True, "in_time": time.monotonic() - began < 1}


@app.get("/async/wait-for")
async def async_wait_for():
    values = [await asyncio.wait_for(asyncio.sleep(0.001, "done"), 60)]
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except TimeoutError:
        values.append("timeout")
    return {"values": values}


@app.get("/async/timeout-unused")
async def async_timeout_unused():
    """The timer is cancelled long before its time; the call must not last until then."""
    async with asyncio.timeout(3600):
        await asyncio.sleep(0.01)
    return "done"


@app.get("/async/cancel")
async def async_cancel():
    task = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return {"cancelled": True}


@app.get("/async/queue")
async def async_queue():
    queue = asyncio.Queue(maxsize=2)

    async def produce():
        for number in range(5):
            await queue.put(number)
        await queue.put(None)

    task = asyncio.create_task(produce())
    got = []
    while (item := await queue.get()) is not None:
        got.append(item)
    await task
    return {"got": got}


@app.get("/async/locks")
async def async_locks():
    lock, semaphore, event = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event()
    order = []

    async def work(number):
        async with semaphore, lock:
            await asyncio.sleep(0.002)
            order.append(number)
        if number == 4:
            event.set()
        await event.wait()

    await asyncio.gather(*map(work, range(5)))
    return {"order": sorted(order)}


@app.get("/async/thread")
async def async_thread():
    values = [await asyncio.to_thread(sum, [1, 2, 3])]
    values.append(await asyncio.get_running_loop().run_in_executor(None, len, "four"))
    try:
        await asyncio.to_thread(int, "x")
    except ValueError:
        values.append("ValueError")
    return {"values": values}


@app.get("/async/call-later")
async def async_call_later():
    loop = asyncio.get_running_loop()
    order = []
    done = loop.create_future()
    loop.call_later(0.02, order.append, "later")
    loop.call_later(0.03, done.set_result, None)
    loop.call_at(loop.time() + 0.01, order.append, "at")
    loop.call_soon(order.append, "soon")
    loop.call_later(0.005, order.append, "never").cancel()
    await done
    return {"order": order}


@app.get("/async/generator")
async def async_generator():
    """An asynchronous generator that is left half-way is closed."""
    closed = []

    async def numbers():
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async for number in numbers():
        if number == 2:
            break
    await asyncio.sleep(0.01)
    return {"closed": closed}


@app.get("/async/busy")
async def async_busy(ms: int = 30):
    """Never waits for the host, and still lets timers go on."""
    done = False

    def finish():
        nonlocal done
        done = True

    asyncio.get_running_loop().call_later(ms / 1000, finish)
    turns = 0
    while not done:
        turns += 1
        await asyncio.sleep(0)
    return {"turns": turns > 0}


@app.get("/async/wake")
async def async_wake():
    """The event by which one request of an instance wakes another, made and received by one."""
    from covet._guest import loop as _loop

    await asyncio.sleep(0.001)
    call = _loop.loop.current
    _loop._wake(call)
    pending = call.waking
    await asyncio.sleep(0.02)
    return {"woken": pending and not call.waking}


shared_lock = asyncio.Lock()
shared_event = asyncio.Event()
shared_queue: asyncio.Queue = asyncio.Queue()
inside = 0


@app.get("/shared/lock/{ms}")
async def shared_locked(ms: int):
    """One lock for all requests of an instance: never two of them inside."""
    global inside
    async with shared_lock:
        inside += 1
        most = inside
        await asyncio.sleep(ms / 1000)
        inside -= 1
    return {"inside": most}


@app.get("/shared/wait")
async def shared_wait():
    """Waits until another request of the instance sets the event."""
    await shared_event.wait()
    return "event"


@app.get("/shared/set")
async def shared_set():
    shared_event.set()
    return "set"


@app.get("/shared/put/{item}")
async def shared_put(item: str):
    await shared_queue.put(item)
    return "put"


@app.get("/shared/get")
async def shared_get():
    return await shared_queue.get()


@app.get("/events")
def seen_events():
    return events
