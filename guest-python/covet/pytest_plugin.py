"""Fixtures for the tests of applications: `covet_client` runs one natively, `covet_host` as a component under covet-host.

    def test_natively(covet_client):
        client = covet_client("main:app", config={"key": "value"})
        assert client.get("/").status_code == 200

    def test_in_the_sandbox(covet_host):
        with covet_host("main:app", isolation="fresh") as client:
            assert client.get("/").status_code == 200

pytest finds this plugin when covet is installed. Nothing else of covet is imported before a test asks for a fixture.
"""

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pytest

if TYPE_CHECKING:
    import httpx

    from .testing import TestClient

__all__ = ["Host", "covet_client", "covet_host"]

#: What `covet_host` gives: a function that serves an application and has a client for it.
HostFactory = Callable[..., AbstractContextManager["httpx.Client"]]


@pytest.fixture
def covet_client() -> "Iterator[Callable[..., TestClient]]":
    """A function that makes a `covet.testing.TestClient` for an application, which is started, and stopped after the test.

    It takes an application, or `"main:app"` in pytest's root folder, and the options of TestClient.
    """
    from .testing import TestClient

    with contextlib.ExitStack() as stack:

        def make(app: Any, **options: Any) -> TestClient:
            return stack.enter_context(TestClient(_loaded(app), **options))

        yield make


@pytest.fixture(scope="session")
def covet_host(pytestconfig: pytest.Config) -> Iterator[HostFactory]:
    """A function that builds an application and serves it with covet-host, as a context manager with an `httpx.Client`.

    `covet_host(app, *, isolation=None, config=None, threads=1, arguments=(), project=None, **options)`: `app` is as for
    `covet build`, looked up in `project`, which is pytest's root folder unless it is given. `isolation` is `fresh`, `reuse`
    or `shared`, `config` has variables for the application, `arguments` are further ones for covet-host; `options` are those
    of httpx.Client. A component is kept in the cache and built again when its sources have changed.

    covet-host is looked for where COVET_HOST says, on the PATH, and in a checkout of the project; without it the test is
    skipped, unless the variable COVET_REQUIRE_HOST is set. What it logs is shown with a test that fails.
    """
    with contextlib.ExitStack() as stack:
        hosts: dict[Any, Host] = {}

        @contextlib.contextmanager
        def serve(
            app: str,
            *,
            isolation: Literal["fresh", "reuse", "shared"] | None = None,
            config: Mapping[str, str] | None = None,
            threads: int = 1,
            arguments: Sequence[str] = (),
            project: Path | str | None = None,
            **options: Any,
        ) -> Iterator["httpx.Client"]:
            import httpx

            component = _component(app, Path(project) if project is not None else pytestconfig.rootpath)
            command = ["--threads", str(threads), *arguments]
            command += ["--isolation", isolation] if isolation is not None else []
            for name, value in (config or {}).items():
                command += ["--env", f"{name}={value}"]
            key = (component, *command)
            if key not in hosts or not hosts[key].is_running():
                hosts[key] = stack.enter_context(Host(component, command))
            host = hosts[key]
            settings = {"base_url": host.url, "follow_redirects": True, "trust_env": False, **options}
            with host.noted_by(_current_test), httpx.Client(**settings) as client:
                yield client

        yield serve


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Adds what the servers of a test have logged to the report of its failure."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "teardown":
        _logs.clear()
    elif report.failed:
        for host, start in _logs.items():
            report.sections.append((f"Log of covet-host: {host.component.name}", host.log_since(start)))


class Host:
    """covet-host with one component, on a free port. As a context manager it is stopped at the end."""

    def __init__(self, component: Path, arguments: Sequence[str] = ()) -> None:
        self.component = component
        #: `http://127.0.0.1:PORT`
        self.url = ""
        self._arguments = list(arguments)
        self._lines: list[str] = []
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        program = _program()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVET_")}
        if "COVET_CACHE_DIR" in os.environ:
            environment["COVET_CACHE_DIR"] = os.environ["COVET_CACHE_DIR"]
        self._process = subprocess.Popen(
            [program, "run", self.component, "--listen", "127.0.0.1:0", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # A component that is new to the host is compiled first.
        self._ready.wait(START_SECONDS)
        if not self.url:
            self.__exit__()
            pytest.fail(f"covet-host did not start:\n{self.log_since(0)}", pytrace=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def log_since(self, line: int) -> str:
        """What it has logged from a line on."""
        # What it says of a request may come after the answer.
        time.sleep(LOG_SECONDS)
        return "".join(self._lines[line:])

    @contextlib.contextmanager
    def noted_by(self, note: "Callable[[Host, int], None]") -> Iterator[None]:
        note(self, len(self._lines))
        yield

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            if not self.url and (match := _LISTENING.search(line)):
                self.url = match[0]
                self._ready.set()
        self._ready.set()


def _current_test(host: Host, line: int) -> None:
    _logs.setdefault(host, line)


def _component(app: str, project: Path) -> Path:
    """The component of an application, from the cache or built now."""
    _program()
    from ._commands.build.component import build, fingerprint
    from ._commands.build.dependencies import cache_folder
    from ._commands.build.progress import Progress
    from ._commands.build.project import BuildError, find_target

    try:
        target = find_target(app, project)
        component = cache_folder() / "components" / f"{fingerprint(target)}.wasm"
        if not component.is_file():
            component.parent.mkdir(parents=True, exist_ok=True)
            build(target, component, Progress(quiet=True))
    except BuildError as error:
        pytest.fail(f"{app} cannot be built: {error}", pytrace=False)
    return component


def _program() -> Path:
    from ._commands.build.project import BuildError
    from .cli import _find_host

    try:
        found = _find_host()
    except BuildError as error:
        pytest.fail(str(error), pytrace=False)
    if found is not None:
        return found
    reason = "covet-host is not found: put it on the PATH, or set COVET_HOST to where it is"
    if os.environ.get("COVET_REQUIRE_HOST"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _loaded(app: Any) -> Any:
    if not isinstance(app, str):
        return app
    from ._asgi.application import ASGIApplication
    from ._commands.build.project import find_target
    from ._commands.loading import load

    found = load(find_target(app))
    return found.app if isinstance(found, ASGIApplication) else found


#: The hosts that the present test has used, and where their logs were then.
_logs: dict[Host, int] = {}
_LISTENING = re.compile(r"http://127\.0\.0\.1:\d+")
START_SECONDS = 120.0
STOP_SECONDS = 10.0
LOG_SECONDS = 0.1
