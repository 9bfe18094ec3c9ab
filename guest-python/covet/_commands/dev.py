"""`covet dev`: serves an application natively with uvicorn, and again whenever its source changes.

A supervisor holds the listening socket and looks at the files; a worker process has the application and takes connections
from that socket. When a file changes, a new worker takes the place of the old one. The socket stays open in between, so no
connection is refused. So that this is quick, the next worker is there before it is needed: it has imported everything but
the application. An application that cannot be imported or started is answered for with its traceback, until the next change.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from math import inf
from pathlib import Path
from typing import IO, Any

from covet.applications import CovetPy
from covet.asgi import ASGIAdapter

from .build.project import BuildError, Target, _is_junk_folder, find_target
from .loading import load
from .tracebacks import DevelopmentFormatter, format_error

__all__ = ["Settings", "Watcher", "serve"]


@dataclass(frozen=True)
class Settings:
    """What the command was told."""

    #: The application as it was named, and its project if it was given.
    app: str
    project: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    reload: bool = True
    #: Folders to look at; without any, that of the project and that from which its modules are imported.
    reload_dirs: list[str] = field(default_factory=list)
    log_level: str = "info"


def serve(target: Target, settings: Settings) -> int:
    """Serves until it is interrupted. Returns the exit code of the command. Raises BuildError if it cannot begin."""
    if os.name != "posix":
        raise BuildError("covet dev needs Linux or macOS: its processes share a socket")
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise BuildError("covet dev needs uvicorn; run: pip install 'covet[dev]'") from None
    listener = _listen(settings)
    if not settings.reload:
        return _Worker(settings, listener, _say_to_nobody).run()
    with listener:
        return Supervisor(target, settings, listener).run()


class Supervisor:
    """Looks at the files, and has one worker that serves and one that is to be the next."""

    def __init__(self, target: Target, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        folders = [Path(folder).resolve() for folder in settings.reload_dirs] or [target.project, target.import_root]
        self._watcher = Watcher(folders)
        self._selector = selectors.DefaultSelector()
        self._serving: _Process | None = None
        self._next: _Process | None = None
        #: Those that were told to end.
        self._leaving: list[_Process] = []
        #: Modules of libraries that the application needs.
        self._modules: list[str] = []
        self._began = 0.0
        self._stopped = False

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        self._watcher.changes()
        host, port = self._listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _say(f"{self._settings.app} on {url}, natively, where requests are not isolated; stop with Ctrl-C")
        try:
            self._replace()
            while not self._stopped:
                self._turn()
        finally:
            self._end()
        return 0

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._watcher.interval):
            process: _Process = key.data
            for event in process.events():
                self._take(process, event)
            if process.is_closed:
                self._selector.unregister(process.status)
        for process in list(self._leaving):
            if process.has_ended():
                self._leaving.remove(process)
                self._forget(process)
            elif time.monotonic() > process.deadline:
                # It has something that does not end, or that keeps its event loop from running.
                process.kill()
        if self._serving is not None and self._serving.has_ended() and not self._stopped:
            _say(f"the application ended its process with {self._serving.code}; waiting for a change")
            self._forget(self._serving)
            self._serving = None
        if changes := self._watcher.changes():
            # Editors write a file in several steps.
            time.sleep(SETTLING)
            changes |= self._watcher.changes()
            shown = ", ".join(sorted(os.path.relpath(path) for path in changes)[:3])
            _say(f"{shown}{' and more' if len(changes) > 3 else ''} changed")
            self._replace()

    def _take(self, process: "_Process", event: dict[str, Any]) -> None:
        if process is not self._serving:
            return
        if event["event"] == "serving":
            self._modules = event["modules"]
            _say(f"{'waiting for a change' if event['failed'] else 'ready'} after {time.monotonic() - self._began:.2f} s")
            if self._next is None:
                self._next = self._start()

    def _replace(self) -> None:
        """Has the next worker serve in the place of the present one."""
        self._began = time.monotonic()
        old, new = self._serving, self._next or self._start()
        self._next = None
        # It imports the application while the old one ends, and waits for that, so that not both of them have what an
        # application has to itself; but not for long.
        new.tell("load")
        if old is not None:
            old.end()
            old.wait(PATIENCE)
            self._leaving.append(old)
        new.tell("serve")
        self._serving = new

    def _start(self) -> "_Process":
        process = _Process(self._settings, self._listener, self._modules)
        self._selector.register(process.status, selectors.EVENT_READ, process)
        return process

    def _forget(self, process: "_Process") -> None:
        if not process.is_closed:
            self._selector.unregister(process.status)
        process.close()

    def _stop(self, number: int, frame: object) -> None:
        if self._stopped:
            # The second time: at once.
            for process in (*self._leaving, self._serving):
                if process is not None:
                    process.kill()
        self._stopped = True

    def _end(self) -> None:
        processes = [process for process in (self._serving, self._next, *self._leaving) if process is not None]
        for process in processes:
            process.end()
        for process in processes:
            if not process.wait(max(0.0, process.deadline - time.monotonic())):
                process.kill()
                process.wait(GRACE)
            process.close()
        self._selector.close()


class _Process:
    """A worker, as its supervisor sees it."""

    def __init__(self, settings: Settings, listener: socket.socket, modules: Sequence[str]) -> None:
        reading, status = os.pipe()
        control, writing = os.pipe()
        order = {"settings": asdict(settings), "listener": listener.fileno(), "status": status, "control": control}
        self._process = subprocess.Popen(
            # Its standard input is that of the command, for debuggers.
            [sys.executable, "-m", "covet._commands.dev", json.dumps({**order, "modules": list(modules)})],
            pass_fds=[listener.fileno(), status, control],
        )
        os.close(status)
        os.close(control)
        os.set_blocking(reading, False)
        self.status: IO[bytes] = open(reading, "rb", buffering=0)  # noqa: SIM115
        self._control: IO[bytes] = open(writing, "wb", buffering=0)  # noqa: SIM115
        self._partial = b""
        self.is_closed = False
        #: When its time to end is over.
        self.deadline = inf

    def tell(self, line: str) -> None:
        """Gives it an order, unless it has ended."""
        with contextlib.suppress(OSError):
            self._control.write(f"{line}\n".encode())

    def events(self) -> list[dict[str, Any]]:
        """What it has said since the last time."""
        data = self.status.read() or b""
        self.is_closed = not data
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        self.deadline = time.monotonic() + GRACE + PATIENCE
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def wait(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        self.status.close()
        self._control.close()

    @property
    def code(self) -> str:
        code = self._process.returncode
        return f"signal {-code}" if code < 0 else f"code {code}"


class Watcher:
    """Notices changes of the source files below some folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        folders = set(folders)
        self._folders = [folder for folder in folders if not folders & set(folder.parents)]
        self._known: dict[str, tuple[int, int]] | None = None
        #: Seconds until it is worth to look again.
        self.interval = INTERVAL

    def changes(self) -> set[str]:
        """The files that are new, gone or changed since the last call; none at the first one."""
        began = time.monotonic()
        found: dict[str, tuple[int, int]] = {}
        for folder in self._folders:
            _scan(str(folder), found)
        known, self._known = self._known, found
        # A tenth of a processor at most.
        self.interval = max(INTERVAL, 10 * (time.monotonic() - began))
        if known is None:
            return set()
        return {path for path in known.keys() | found.keys() if known.get(path) != found.get(path)}


def _scan(folder: str, found: dict[str, tuple[int, int]]) -> None:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        # It has gone in the meantime.
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            if entry.is_dir():
                if not _is_junk_folder(Path(entry.path)):
                    _scan(entry.path, found)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                found[entry.path] = (status.st_mtime_ns, status.st_size)


class _Worker:
    """The process that has the application."""

    def __init__(self, settings: Settings, listener: socket.socket, say: Callable[[dict[str, Any]], None]) -> None:
        self._settings = settings
        self._listener = listener
        self._say = say

    def prepare(self, modules: Sequence[str]) -> None:
        """Imports what does not change."""
        _uvicorn()
        for name in modules:
            # What fails here fails again where the application imports it, and is shown there.
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def load(self) -> "_Application":
        """Imports the application, or what stands for one that cannot be imported."""
        project = self._settings.project
        target = find_target(self._settings.app, Path(project) if project is not None else None)
        os.chdir(target.project)
        _configure_logging(self._settings.log_level, target.import_root)
        _compile_always(str(target.import_root))
        try:
            return _Application(load(target), target.import_root)
        except BuildError as error:
            cause = error.__cause__
            text = str(error) if cause is None else f"{target} cannot be imported:\n\n{format_error(cause, target.import_root)}"
            print(f"\n{text}\n", file=sys.stderr)
            return _Application(None, target.import_root, text)

    def run(self) -> int:
        """Loads and serves in this process, for a server that does not look at files."""
        application = self.load()
        return 1 if application.failure is not None else self.serve(application)

    def serve(self, application: "_Application") -> int:
        """Serves until a signal comes."""
        say, uvicorn = self._say, _uvicorn()

        class Server(uvicorn.Server):  # type: ignore[misc, name-defined, unused-ignore]
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                say({"event": "serving", "modules": _library_modules(), "failed": application.failure is not None})

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # Connections that this process has accepted, and whose requests it is about to read, would be closed.
                for one in self.servers:
                    one.close()
                await asyncio.sleep(LINGER)
                await super().shutdown(sockets)

        config = uvicorn.Config(
            application,
            log_config=None,
            log_level=None,
            lifespan="on",
            timeout_graceful_shutdown=int(GRACE),
            server_header=False,
            # A connection that is kept would end with its worker, perhaps while a client sends its next request.
            headers=[("connection", "close")],
        )
        server = Server(config)
        server.run(sockets=[self._listener])
        return 0


class _Application:
    """The application, or the traceback of one that cannot be imported or started."""

    def __init__(self, app: Any, root: Path, failure: str | None = None) -> None:
        #: What is shown in the place of answers.
        self.failure = failure
        self._root = root
        self._app: Any = None
        if isinstance(app, CovetPy):
            app.debug = True
            self._app = ASGIAdapter(app)
        elif app is not None:
            # Starlette and FastAPI show tracebacks too when they are asked.
            if getattr(app.app, "debug", None) is False:
                app.app.debug = True
            self._app = app._call

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self.failure is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _send_failure(self.failure, scope, send)
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes startup and shutdown on. What fails at startup is shown to clients instead of ending the server."""
        received: list[str] = []
        sent: list[str] = []

        async def receive_on() -> Any:
            message = await receive()
            received.append(message["type"])
            return message

        async def send_on(message: Any) -> None:
            sent.append(message["type"])
            if message["type"] == "lifespan.startup.failed":
                self.failure = self._why_startup_failed(message.get("message", ""))
                message = {"type": "lifespan.startup.complete"}
            await send(message)

        if self.failure is None:
            try:
                await self._app(scope, receive_on, send_on)
            except Exception:
                if sent and self.failure is None:
                    raise
                # Else it is why startup failed; or the application does not know the protocol, which is its right.
        if "lifespan.shutdown" in received and sent:
            return
        if not sent:
            await send({"type": "lifespan.startup.complete"})
        while "lifespan.shutdown" not in received:
            await receive_on()
        await send({"type": "lifespan.shutdown.complete"})

    def _why_startup_failed(self, message: str) -> str:
        error = getattr(self._app, "failure", None)
        if isinstance(error, BaseException):
            # A CovetPy, which has logged it.
            return format_error(error, self._root)
        _logger.error("startup failed\n%s", message.rstrip("\n"))
        return message or "startup failed"


async def _send_failure(failure: str, scope: Any, send: Any) -> None:
    accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    if b"text/html" in accept:
        body, media_type = _PAGE.format(text=escape(failure)), b"text/html; charset=utf-8"
    else:
        body, media_type = f"{failure}\n", b"text/plain; charset=utf-8"
    data = body.encode(errors="replace")
    headers = [(b"content-type", media_type), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data})


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise BuildError(f"there is no host {settings.host!r} to listen on: {error.strerror}") from None
    listener = socket.socket(family, kind, number)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        hint = "; choose another with --port" if isinstance(error.errno, int) else ""
        raise BuildError(f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}{hint}") from None
    listener.listen(BACKLOG)
    return listener


def _uvicorn() -> Any:
    """uvicorn, with the modules that it imports when it is started."""
    import uvicorn
    import uvicorn.lifespan.on
    import uvicorn.protocols.http.auto

    with contextlib.suppress(ImportError):
        import uvicorn.protocols.websockets.auto
    return uvicorn


def _configure_logging(level: str, root: Path) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(DevelopmentFormatter(root))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # The supervisor tells what the server would.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))


def _compile_always(root: str) -> None:
    """Has modules below a folder compiled from their source each time they are imported.

    A cached module counts as current if its source has the same size and was changed in the same second, which is a long
    time here.
    """
    from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader

    class Loader(SourceFileLoader):
        def path_stats(self, path: Any) -> Any:
            # What it raises keeps the import system from the cache.
            raise OSError("not cached")

    finder = FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (Loader, SOURCE_SUFFIXES))

    def hook(path: str) -> Any:
        inside = path == root or path.startswith(root + os.sep)
        if not inside or "site-packages" in path:
            raise ImportError
        return finder(path)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


def _library_modules() -> list[str]:
    """The modules that are imported and do not change, in the order of their imports."""
    libraries = {"site-packages", "dist-packages"}
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and libraries & set(Path(file).parts) and not name.startswith(("covet", "__")):
            found.append(name)
    return found


def _say(text: str) -> None:
    print(f"covet dev: {text}", file=sys.stderr, flush=True)


def _say_to_nobody(event: dict[str, Any]) -> None:
    """There is no supervisor."""


def _work(order: dict[str, Any]) -> int:
    """A worker process: prepares itself, loads when it is told to, and serves when it is told to."""
    # The supervisor gets the interrupt of the terminal too, and says what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (order["listener"], order["status"], order["control"]):
        os.set_inheritable(number, False)
    status = open(order["status"], "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    control = open(order["control"], encoding="ascii")  # noqa: SIM115

    def say(event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            status.write(json.dumps(event) + "\n")

    # What an application sees of its command line.
    sys.argv = ["covet"]
    worker = _Worker(Settings(**order["settings"]), socket.socket(fileno=order["listener"]), say)
    worker.prepare(order["modules"])
    # No order means that the supervisor has gone.
    if not control.readline():
        return 0
    application = worker.load()
    if not control.readline():
        return 0
    threading.Thread(target=_end_after, args=(control,), daemon=True).start()
    return worker.serve(application)


def _end_after(control: IO[str]) -> None:
    control.read()
    os.kill(os.getpid(), signal.SIGTERM)


#: Seconds between two looks at the files, and between the first and the last step of writing one.
INTERVAL = 0.2
SETTLING = 0.02
#: Seconds that the next worker waits for the old one, and that the old one has for its requests.
PATIENCE = 0.5
GRACE = 2.0
#: Seconds in which the requests of connections that were accepted are read.
LINGER = 0.05
#: Connections that wait for a worker.
BACKLOG = 1024

_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta http-equiv=refresh content=1><title>covet dev</title>
<style>body{{font:1rem/1.5 system-ui;margin:2rem}}pre{{background:#f4f4f4;padding:1rem;overflow:auto}}</style>
<h1>The application does not run</h1><pre>{text}</pre><p>This page looks again every second.</html>
"""
_logger = logging.getLogger("covet")

if __name__ == "__main__":
    sys.exit(_work(json.loads(sys.argv[1])))
