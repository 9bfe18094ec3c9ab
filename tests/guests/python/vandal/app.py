"""An application that does to its own instance whatever it can, and tells what it sees.

`/do/{deed}` does one nasty thing, `/state` reports everything that a deed could have changed. In a host that keeps its
promise `/state` always answers the same. `raw` is the sharpest tool: it reads and writes all of linear memory.
"""

import _random
import array
import asyncio
import builtins
import contextvars
import copy
import decimal
import enum
import functools
import gc
import hashlib
import io
import itertools
import json
import locale
import logging
import opcode
import os
import pickle
import random
import re
import secrets
import signal
import socket
import string
import struct
import sys
import tempfile
import threading
import time
import types
import uuid
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import covet
from covet import CovetPy, HTTPException, JSONResponse, PlainTextResponse, Request, StreamingResponse, host

app = CovetPy(title="Vandal")
log = logging.getLogger("vandal")

# --- What can be changed


class Account:
    """A class of the application, whose attributes everybody shares."""

    owner = "nobody"
    history: list[str] = []
    __slots__ = ("__dict__", "__weakref__")


class Level(enum.Enum):
    low = 1


counter = 0
memory_bytes = 0
journal: list[Any] = []
cache: dict[str, Any] = {}
registry: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
local = threading.local()
numbers = itertools.count()
chosen = random.Random(42)
drawn = random.Random()
restored = random.Random()
before = restored.getstate()
restored.seed(0)
restored.setstate(before)
copied = copy.deepcopy(random.Random())
pickled = pickle.loads(pickle.dumps(random.Random()))
at_startup: list[random.Random] = []
constant = (1, 2, 3)
account = Account()
local.value = "start"


@functools.lru_cache(maxsize=None)
def remembered(key: str) -> str:
    return key.upper()


def endless():
    number = 0
    while True:
        number = (yield number) or number + 1


running = endless()
next(running)


@app.on_event("startup")
async def startup() -> None:
    global memory_bytes
    app.state.started_at = time.time()
    # Of all instances together, and this is the first.
    memory_bytes = host.metrics().memory
    at_startup.append(copy.copy(random.Random()))
    remembered("start")
    remembered.cache_clear()


# --- What is seen


@app.get("/state")
def state(request: Request):
    """Everything that a deed could have changed, as it is at the beginning of this request."""
    seen: dict[str, Any] = {}
    seen["raw context"] = repr(_runtime.context_get()) if _runtime else None
    seen["globals"] = [counter, list(journal), dict(cache), dict(registry), constant, repr(numbers)]
    seen["class"] = [Account.owner, Account.history, sorted(vars(Account)), repr(Account.__bases__), vars(account)]
    seen["names"] = [_digest(name, vars(module)) for name, module in _modules()]
    seen["classes"] = _together(_digest(kind.__name__, vars(kind)) for kind in _CLASSES)
    seen["derived"] = len(type.__subclasses__(object))
    seen["modules"] = hashlib.sha256(repr([(n, id(m)) for n, m in sys.modules.items()]).encode()).hexdigest()
    seen["functions"] = [json.dumps([1]), len("abc"), str(7), repr(2**70), math_of_small_numbers(), str(Level(1))]
    seen["code"] = [_code_digest(function) for function in (math_of_small_numbers, remembered.__wrapped__, json.dumps)]
    seen["cache"] = list(remembered.cache_info())
    seen["generator"] = next(running)
    seen["context"] = [tenant.get(), len(contextvars.copy_context())]
    seen["local"] = sorted(vars(local).items())
    seen["environ"] = sorted(os.environ.items())
    seen["cwd"] = _result(os.getcwd)
    seen["locale"] = [locale.setlocale(locale.LC_ALL), locale.localeconv()["decimal_point"]]
    seen["timezone"] = [time.timezone, time.tzname, time.localtime(0)[:6]]
    seen["signals"] = _result(lambda: str(signal.getsignal(signal.SIGINT)))
    seen["warnings"] = [repr(item) for item in warnings.filters]
    seen["logging"] = [logging.root.level, repr(logging.root.handlers), sorted(logging.root.manager.loggerDict)]
    seen["loggers"] = [(log.level, log.disabled, log.filters, logging.raiseExceptions, logging.getLevelName(30))]
    seen["decimal"] = [repr(decimal.getcontext()), str(decimal.Decimal(1) / 7)]
    seen["gc"] = [gc.isenabled(), gc.get_threshold(), len(gc.callbacks), len(gc.garbage), gc.get_freeze_count()]
    seen["sys"] = [sys.getrecursionlimit(), repr(sys.gettrace()), repr(sys.getprofile()), sys.getswitchinterval()]
    seen["hooks"] = [repr(sys.excepthook), repr(sys.unraisablehook), repr(sys.displayhook), sys.get_int_max_str_digits()]
    seen["streams"] = [repr(type(sys.stdout)), id(sys.stdout), sys.stdout._pending, sys.stderr._pending]
    seen["meta path"] = [repr(type(finder)) for finder in sys.meta_path] + sys.path + [len(sys.path_hooks)]
    seen["interned"] = id(sys.intern("an interned string"))
    seen["strings"] = [id(string.ascii_letters), hash("seed"), string.digits]
    seen["loop"] = [repr(type(asyncio.get_event_loop())), sorted(vars(asyncio.get_event_loop())), len(asyncio.all_tasks())]
    seen["routes"] = [route.path for route in app.routes]
    seen["app"] = [sorted(vars(app)), sorted(str(kind) for kind in app.exception_handlers), sorted(vars(app.state))]
    seen["request"] = [request.path, sorted(vars(request)), sorted(vars(request.state))]
    seen["random"] = [chosen.random(), random._inst.gauss_next, tempfile.tempdir]
    seen["files"] = [_result(lambda path=path: os.listdir(path)) for path in ("/", ".", "/tmp")]
    return seen


def math_of_small_numbers() -> list[int]:
    return [number + 1 for number in range(-5, 20)] + [sum((3, 4)), 256 - 1]


@app.get("/pristine")
def pristine():
    """The quick part of `/state`, for many clients at once."""
    return {
        "counter": counter,
        "journal": len(journal),
        "owner": Account.owner,
        "length": len("abc"),
        "dumped": json.dumps({"a": 1}),
        "cache": remembered.cache_info().currsize,
        "environ": "VANDAL" in os.environ,
        "tenant": tenant.get(),
        "limit": sys.getrecursionlimit(),
        "routes": len(app.routes) > 10,
        "chosen": chosen.random(),
    }


@app.post("/mine")
async def mine(request: Request):
    """Keeps the body in every place that is at hand, gives way, and tells what is in these places then."""
    global counter
    body = await request.text()
    counter += 1
    journal.append(body)
    Account.owner = body
    tenant.set(body)
    cache[body] = remembered(body)
    await asyncio.sleep(0.002)
    return {"counter": counter, "journal": journal, "owner": Account.owner, "tenant": tenant.get(), "cache": cache}


@app.get("/random")
def randomness():
    """None of these may come twice, in whatever instance."""
    return {
        "random": random.random(),
        "getrandbits": random.getrandbits(60),
        "gauss": random.gauss(),
        "shuffled": random.sample(range(10**6), 5),
        "import": drawn.random(),
        "late": random.Random().random(),
        "system": random.SystemRandom().random(),
        "secrets": secrets.token_hex(8),
        "urandom": os.urandom(8).hex(),
        "uuid1": uuid.uuid1(),
        "uuid4": uuid.uuid4(),
        "tempfile": next(tempfile._get_candidate_names()),
        "seed": host.random_seed().hex(),
        "time": time.time_ns(),
        "monotonic": time.monotonic_ns(),
    }


@app.get("/random/copies")
def random_copies():
    """What began as generators that nobody seeded, and took another way than most to where it is."""
    return {
        "restored": restored.random(),
        "copied": copied.random(),
        "pickled": pickled.random(),
        "at startup": at_startup[0].random(),
    }


@app.get("/chosen")
def chosen_numbers():
    """Always the same: their authors have chosen the seeds."""
    return [chosen.random(), random.Random(7).random(), chosen.getrandbits(30), random.Random("text").random()]


# --- Deeds that leave nothing but memory behind

deeds: list[str] = []


def deed(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__.replace("_", "-")
    deeds.append(name)
    return app.get(f"/do/{name}")(function)


@deed
def set_globals():
    global counter, constant
    counter += 1
    constant = "changed"
    journal.append("a trace")
    cache["trace"] = object.__name__
    registry["trace"] = account
    next(numbers)
    running.send(1000)
    globals()["planted"] = "a trace"
    return "done"


@deed
def set_class_attributes():
    Account.owner = "vandal"
    Account.history.append("a trace")
    Account.planted = lambda self: "a trace"
    Account.__repr__ = lambda self: "vandal"
    account.balance = 10**6
    Level.low._name_ = "vandal"
    return "done"


@deed
def patch_modules():
    json.dumps = lambda *_, **__: '"vandal"'
    json.loads = lambda *_, **__: "vandal"
    random.random = lambda: 0.5
    time.time = lambda: 0.0
    hashlib.sha256 = hashlib.md5
    logging.Logger.info = lambda *_, **__: None
    string.Template.planted = "a trace"
    uuid.UUID.hex = "vandal"
    sys.modules["json"] = types.ModuleType("json")
    sys.modules["vandal_was_here"] = sys
    del sys.modules["secrets"]
    return PlainTextResponse("done")


@deed
def patch_builtins():
    builtins.sorted, builtins.print, builtins.open = list, None, None
    builtins.planted = "a trace"
    return PlainTextResponse("done")


@deed
def leak_lists():
    """As much as fits into memory that is there already, and is not given back."""
    journal.extend([index, str(index)] for index in range(1000))
    return "done"


@deed
def fill_caches():
    for index in range(500):
        remembered(f"key {index}")
        cache[str(index)] = index
        re.compile(f"vandal {index % 50}")
    return "done"


@deed
async def sync_and_async_tasks():
    """Tasks that end after the response and write then."""

    async def later():
        await asyncio.sleep(0.005)
        journal.append("after the response")
        os.environ["VANDAL_LATER"] = "yes"

    journal.extend(asyncio.create_task(later()) for _ in range(10))
    asyncio.get_running_loop().call_later(0.002, journal.append, "from a timer")
    return "done"


@deed
async def open_generators():
    """Asynchronous generators that are left half-way, some of them reachable."""

    async def numbers():
        try:
            for number in range(10):
                yield number
        finally:
            journal.append("closed")

    for _ in range(5):
        generator = numbers()
        await anext(generator)
        journal.append(generator)
    await anext(numbers())
    return "done"


@deed
async def pending_futures():
    """Tasks that wait for something that never comes."""
    loop = asyncio.get_running_loop()
    forever = loop.create_future()

    async def wait():
        await forever

    journal.append([asyncio.create_task(wait()) for _ in range(5)])
    lock = asyncio.Lock()
    await lock.acquire()
    journal.append(lock)
    return "done"


@deed
async def stream_a_little():
    async def pieces():
        for number in range(3):
            journal.append(number)
            yield b"x" * 1000
            await asyncio.sleep(0)

    return StreamingResponse(pieces())


@deed
async def stream_without_end():
    async def pieces():
        while True:
            journal.append(1)
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    return StreamingResponse(pieces())


@deed
async def stream_that_fails():
    async def pieces():
        yield b"before"
        Account.owner = "vandal"
        raise ValueError("on purpose")

    return StreamingResponse(pieces())


@deed
def raise_exception():
    journal.append("raised")
    raise ValueError("on purpose")


@deed
def raise_base_exception():
    Account.owner = "vandal"
    raise BaseException("on purpose")


@deed
def raise_system_exit():
    cache["exit"] = 1
    sys.exit(3)


@deed
def raise_keyboard_interrupt():
    cache["interrupt"] = 1
    raise KeyboardInterrupt


@deed
async def raise_in_task():
    async def fail():
        journal.append("failing")
        raise SystemExit("on purpose")

    asyncio.create_task(fail())
    await asyncio.sleep(0)
    raise asyncio.CancelledError


@deed
def raise_http_exception():
    cache["http"] = 1
    raise HTTPException(418, detail={"a": "teapot"})


@deed
def recurse():
    journal.append("recursed")

    def down(depth):
        return down(depth + 1)

    down(0)


@deed
def write_files():
    """Every one of them has to fail."""
    errors = []
    for attempt in (
        lambda: open("trace", "w"),
        lambda: open("/tmp/trace", "wb"),
        lambda: os.mkdir("/trace"),
        lambda: tempfile.NamedTemporaryFile(),
        lambda: os.symlink("a", "b"),
        lambda: os.open("/dev/null", os.O_WRONLY),
        lambda: os.remove("/app.py"),
    ):
        try:
            journal.append(attempt())
        except OSError as error:
            errors.append(type(error).__name__)
    return {"errors": len(errors)}


@deed
def keep_temporary_file():
    """A file without a name is in memory, so that it is put back with it."""
    file = tempfile.TemporaryFile()
    file.write(b"a trace" * 10_000)
    journal.append("a file")
    Account.file = file


@deed
def change_environment():
    os.environ["VANDAL"] = "yes"
    os.environ["TZ"] = "UTC-5"
    _result(lambda: os.putenv("LANG", "de_DE"))
    _result(lambda: os.unsetenv("GREETING"))
    _result(lambda: time.tzset())
    os.environ.pop("GREETING", None)
    _result(lambda: os.chdir("/"))
    _result(lambda: os.umask(0))
    return "done"


@deed
def change_locale():
    for name in ("C.UTF-8", "de_DE.UTF-8", "C", "POSIX"):
        _result(lambda name=name: locale.setlocale(locale.LC_ALL, name))
    locale._override_localeconv = {"decimal_point": "!"}
    return "done"


@deed
def change_signals():
    _result(lambda: signal.signal(signal.SIGINT, lambda *_: None))
    _result(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    return "done"


@deed
def change_warnings():
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="trace")
    warnings.showwarning = lambda *_: None
    return "done"


@deed
def change_logging():
    logging.basicConfig(level=logging.DEBUG, force=True)
    logging.disable(logging.CRITICAL)
    logging.addLevelName(30, "VANDAL")
    logging.getLogger("planted").addHandler(logging.NullHandler())
    logging.raiseExceptions = False
    log.addFilter(lambda _: False)
    logging.root.handlers.clear()
    return "done"


@deed
def change_decimal():
    decimal.getcontext().prec = 3
    decimal.setcontext(decimal.Context(prec=2))
    decimal.DefaultContext.prec = 1
    return "done"


@deed
def change_context():
    tenant.set("vandal")
    local.value = "vandal"
    local.planted = 1
    return "done"


@deed
def seed_random():
    random.seed(1)
    chosen.seed(1)
    drawn.setstate(chosen.getstate())
    random.gauss()
    return [random.random()]


@deed
def change_gc():
    gc.disable()
    gc.set_threshold(1)
    gc.unfreeze()
    gc.callbacks.append(lambda *_: None)
    gc.garbage.append(journal)
    journal.append(journal)
    return "done"


@deed
def change_interpreter():
    sys.setrecursionlimit(200)
    sys.setswitchinterval(1.0)
    sys.set_int_max_str_digits(1000)
    sys.excepthook = sys.unraisablehook = sys.displayhook = lambda *_: None
    sys.meta_path.clear()
    sys.path[:] = ["/vandal"]
    sys.path_hooks.clear()
    sys.flags = None
    return "done"


@deed
def set_trace():
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)
    threading.settrace(lambda *_: None)
    return "done"


@deed
def replace_streams():
    sys.stdout.write("half a line")
    sys.stderr.write("half another")
    sys.stdout = sys.stderr = io.StringIO()
    sys.__stdout__ = None
    return "done"


@deed
async def patch_loop():
    loop = asyncio.get_running_loop()
    loop.call_soon = lambda *_, **__: None
    loop.planted = "a trace"
    type(loop).time = lambda _: 0.0
    asyncio.sleep = None
    asyncio.set_event_loop(None)
    return "done"


@deed
def patch_framework():
    app.routes.clear()
    app.exception_handlers[Exception] = lambda *_: "vandal"
    app.state.planted = "a trace"
    Request.path = "vandal"
    Request.planted = "a trace"
    covet.JSONResponse.__init__ = None
    covet._guest.bridge.INTERNAL_ERROR = "vandal"
    covet.host.metrics = lambda: None
    covet._guest.bridge.Host.live = True
    return PlainTextResponse("done")


@deed
def intern_strings():
    journal.append(sys.intern("an interned " + "string"))
    journal.append([sys.intern(f"trace {index}") for index in range(500)])
    return "done"


@deed
def change_code():
    math_of_small_numbers.__code__ = (lambda: [0]).__code__
    math_of_small_numbers.__defaults__ = (1,)
    remembered.__wrapped__.__code__ = (lambda key: "vandal").__code__
    return "done"


@deed
def deep_json():
    """Fails, and is not answered by a trap."""
    value: Any = []
    for _ in range(3000):
        value = [value]
    try:
        json.loads("[" * 20_000)
    except (RecursionError, ValueError):
        journal.append("too deep")
    return value


@deed
def warm_everything():
    """Makes the interpreter specialise code that nobody has run before."""
    for _ in range(200):
        math_of_small_numbers()
        string.Template("$a").substitute(a=1)
        array.array("i", range(10)).tolist()
        struct.pack("<IIQ", 1, 2, 3)
    return "done"


@deed
def half_lines():
    """Output without its end, and not through Python's streams."""
    print("a line without its end", end="")
    log.warning("control \x1b[31m characters")
    return "done"


# --- Deeds with all of linear memory


@deed
def overwrite_objects():
    """Changes what Python takes for constant: a small number, a tuple, the bytes of a string, a type's name."""
    memory = raw()
    _write(memory, id(7) + INT_DIGITS, struct.pack("<I", 9))
    _write(memory, id(constant) + TUPLE_ITEMS, struct.pack("<I", id(None)))
    _write(memory, memory.find(b"0123456789", id(string.digits) - BEGIN) + BEGIN, b"VANDALVAND")
    return PlainTextResponse("done")


@deed
def touch_every_page():
    """Writes to each page what is there, so that every one has been written to."""
    memory = raw()
    for address in range(0, len(memory), 4096):
        memory[address] = memory[address]
    return "done"


@deed
def scribble_on_free_memory():
    """Fills the unused end of the C stack, whatever the allocator has not given to anybody, and the first page."""
    memory = raw()
    zeros, written = bytes(4096), 0
    for address in range(4096, len(memory) - 8192, 4096):
        if memory[address : address + 4096] == zeros and memory[address + 4096 : address + 8192] == zeros:
            memory[address + 2048 : address + 2112] = b"SCRIBBLE" * 8
            written += 1
    return {"written": written}


# --- Deeds after which an instance cannot be put back


@deed
def grow_by_8_mb():
    """And keeps it."""
    journal.append(bytearray(b"x") * (8 << 20))
    return "done"


@deed
def grow_by_64_mb():
    held = bytearray(b"x") * (64 << 20)
    return len(held)


@deed
def exhaust_memory():
    """Until there is no more; what answers then is up to what is left."""
    held: list[Any] = []
    try:
        while True:
            held.append(bytearray(b"x") * (4 << 20))
    except MemoryError:
        held.clear()
        journal.append("exhausted")
    return "done"


@deed
def exhaust_memory_and_keep_it():
    size = 8 << 20
    while size > 1 << 12:
        try:
            journal.append(bytearray(b"x") * size)
        except MemoryError:
            size //= 2
    return "done"


@deed
def abort():
    os.abort()


@deed
def exit_at_once():
    os._exit(0)


@deed
def raise_signal():
    signal.raise_signal(signal.SIGUSR1)


@deed
def patch_what_everything_needs():
    """So that not even the answer can be made."""
    builtins.len = lambda *_: 7
    builtins.str = bytes
    return PlainTextResponse("done")


@deed
def crash():
    """Reads where there is no memory."""
    raw(2**31 - 1 - BEGIN)[-1]


@deed
def corrupt_everything():
    """Writes over all of memory; whatever comes of it, it comes of it in this instance."""
    memory = raw()
    memory[1024:] = b"\xa5" * (len(memory) - 1024)
    return "done"


@deed
def spin():
    while True:
        pass


@deed
def block():
    time.sleep(60)


@deed
async def task_without_end():
    async def forever():
        while True:
            await asyncio.sleep(0.01)
            journal.append("still here")

    journal.append(asyncio.create_task(forever()))
    return "done"


@deed
def leak_streams():
    """Pairs of stream ends that nobody closes."""
    journal.extend(_runtime.stream_new(covet._guest.loop._STREAM) for _ in range(10))
    return "done"


@deed
def leak_stream_objects():
    """The same through the framework's own classes, out of the reach of their finalizers."""
    from covet._guest import streams

    journal.extend(streams.stream(covet._guest.loop._STREAM))
    return "done"


@deed
def use_many_handles():
    """None of which is left, but the last ones are closed first."""
    type_ = covet._guest.loop._STREAM
    pairs = [_runtime.stream_new(type_) for _ in range(7)]
    for pair in pairs[::2] + pairs[1::2]:
        _runtime.stream_drop_readable(type_, pair & 0xFFFFFFFF)
        _runtime.stream_drop_writable(type_, pair >> 32)
    for _ in range(3):
        _runtime.waitable_set_drop(_runtime.waitable_set_new())
    return "done"


@deed
def exhaust_handles():
    while True:
        _runtime.stream_new(covet._guest.loop._STREAM)


@deed
def leak_half_a_stream():
    pair = _runtime.stream_new(covet._guest.loop._STREAM)
    _runtime.stream_drop_writable(covet._guest.loop._STREAM, pair >> 32)
    return "done"


@deed
def leak_waitable_set():
    _runtime.waitable_set_new()
    return "done"


@deed
def leak_sleep():
    """A sleep of the host's that nobody waits for, longer than the request."""
    journal.append(_runtime.call_import(covet._guest.loop._SLEEP, [60_000]))
    return "done"


@deed
def leak_short_sleep():
    """The same, and it ends before anybody looks."""
    journal.append(_runtime.call_import(covet._guest.loop._SLEEP, [1]))
    time.sleep(0.02)
    return "done"


@deed
def leak_wasi_output():
    """The handle of the standard stream stays in libc."""
    os.write(1, b"straight to the descriptor\n")
    return "done"


@deed
def leak_wasi_half_a_line():
    os.write(2, b"half a line of the descriptor")
    return "done"


@deed
def leak_wasi_input():
    return repr(_result(lambda: os.read(0, 10)))


@deed
def leak_socket():
    made = _result(lambda: socket.socket())
    journal.append(made)
    return repr(made)


@deed
def leak_descriptors():
    return [_result(lambda: os.dup(1)), _result(lambda: os.pipe()), _result(lambda: os.open(".", os.O_RDONLY))]


@deed
def set_raw_context():
    """The slot in which a task keeps a value for itself."""
    _runtime.context_set("a trace")
    return "done"


@deed
def return_twice():
    once = covet._guest.loop._return

    def twice(*answer):
        once(*answer)
        once(*answer)

    covet._guest.loop._return = twice
    return "done"


@deed
def patch_runtime():
    """Takes away what the end of a call does: sets are not dropped, what waits is forgotten."""
    covet._guest.loop._is_done = lambda _: True
    covet._guest.loop._end = lambda call, first=False: covet._guest.loop._EXIT
    journal.append(_runtime.call_import(covet._guest.loop._SLEEP, [50]))
    return "done"


@deed
def end_without_answer():
    covet._guest.loop._return = lambda *_: None
    return "done"


# --- Looking for other people's data


@app.post("/secret/{kb}")
async def secret(kb: int, request: Request):
    """Fills so much memory with the body, in pieces of all sizes, and keeps half of them."""
    body = await request.body()
    size, left = 16, kb << 10
    while left > 0:
        piece = bytearray(body * (size // len(body) + 1))
        text = str(piece, "ascii")
        if left & 1024:
            journal.append((piece, text))
        left -= 2 * size
        size = size * 2 if size < 32768 else 16
    remembered(body.decode())
    cache[body] = hashlib.sha256(body)
    # What is overwritten in part may look like another one.
    return {"seen": body.decode() in _found()}


@app.get("/search/raw")
def search_raw():
    """Every text that looks like a secret, in all of memory, used or free."""
    return _found()


@app.get("/search/objects")
def search_objects():
    return _found_in_objects()


@app.get("/search/buffers")
def search_buffers():
    return _found_in_buffers()


def _found() -> list[str]:
    # The search itself writes to the memory that it searches: what is copied may already be something else.
    copies = (match.group() for match in _SECRET.finditer(raw()))
    return sorted({copy.decode() for copy in copies if _SECRET.fullmatch(copy)})


def _found_in_objects() -> list[str]:
    found = set()
    for thing in gc.get_objects():
        for held in gc.get_referents(thing):
            if isinstance(held, str) and len(held) < 1 << 20:
                held = held.encode(errors="replace")
            if isinstance(held, (bytes, bytearray)):
                found.update(match.group().decode() for match in _SECRET.finditer(held))
    return sorted(found)


def _found_in_buffers() -> list[str]:
    """In buffers that were just taken from the allocators, as far as Python gives them out as they are."""
    found = set()
    for size in [2**power for power in range(4, 19)] * 4:
        grown = array.array("B", b"\0")
        grown.extend(bytes(size))
        stream = io.BytesIO()
        stream.seek(size)
        stream.write(b"\0")
        for buffer in (grown, stream.getbuffer(), bytearray(size), bytes(size)):
            found.update(match.group().decode() for match in _SECRET.finditer(buffer))
    return sorted(found)


# --- All of linear memory


def raw(size: int = 0) -> bytearray:
    """Linear memory as a bytearray, by way of bytecode that loads a constant from beyond its constants.

    What it loads is an object made by hand, a bytearray that begins at the address BEGIN. How long memory was at start-up
    the host has told.
    """
    size = size or memory_bytes - BEGIN
    fake = struct.pack("<IIiiIIi", 1 << 20, id(bytearray), size, size, BEGIN, BEGIN, 0)
    fake_address = id(fake) + BYTES_CONTENT
    pointer = struct.pack("<I", fake_address)
    _kept.extend([fake, pointer])
    pointer_address = id(pointer) + BYTES_CONTENT
    code = _load.__code__
    index = ((pointer_address - id(code.co_consts) - TUPLE_ITEMS) % 2**32) // 4
    parts = index.to_bytes(4, "big")
    load = b"".join(bytes((_EXTENDED, part)) for part in parts[:3]) + bytes((_CONST, parts[3]))
    made = types.FunctionType(code.replace(co_code=code.co_code[:2] + load + bytes((_RETURN, 0))), {})
    _kept.append(made)
    return made()


def _load():
    return "a constant"


def _write(memory: bytearray, address: int, data: bytes) -> None:
    memory[address - BEGIN : address - BEGIN + len(data)] = data


# --- Helpers of the report


def _digest(name: str, names: Any) -> str:
    """What a namespace has, and which objects these are. The same in all instances, since their memories are copies."""
    entries = [(key, id(value)) for key, value in names.items()]
    return f"{name} {hash(tuple(entries)):x}"


def _together(digests: Any) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _code_digest(function: Any) -> str:
    return hashlib.sha256(function.__code__.co_code + repr(function.__code__.co_consts).encode()).hexdigest()


def _classes(kind: type):
    """A class and all that are derived from it, some of them more than once."""
    yield kind
    for derived in type.__subclasses__(kind):
        yield from _classes(derived)


def _modules():
    return [(name, module) for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)]


def _result(attempt: Callable[[], Any]) -> Any:
    try:
        return attempt()
    except Exception as error:
        return type(error).__name__


_runtime: Any = sys.modules.get("componentize_py_runtime")
_kept: list[Any] = []
_SECRET = re.compile(rb"SECRET-[0-9a-f]{16}")
_EXTENDED, _CONST, _RETURN = (opcode.opmap[name] for name in ("EXTENDED_ARG", "LOAD_CONST", "RETURN_VALUE"))
#: Not 0, which no buffer may begin at.
BEGIN = 16
#: Where an object's content stands in it.
BYTES_CONTENT, TUPLE_ITEMS, INT_DIGITS = bytes.__basicsize__ - 1, tuple.__basicsize__, int.__basicsize__
_CLASSES = list(_classes(object))
