"""The commands that run an application natively: new, dev, check, routes, openapi; and the fixtures for pytest."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import covet
from covet import cli
from covet._commands.build.project import BuildError, find_target
from covet._commands.check import Finding, check, check_source
from covet._commands.dev import Watcher
from covet._commands.loading import load, own_modules
from covet._commands.new import TEMPLATES, create
from covet._commands.tracebacks import DevelopmentFormatter, format_error

PACKAGE = Path(covet.__file__).parent
APP = """from covet import CovetPy

app = CovetPy()


@app.get('/users/{user_id}')
def read_user(user_id: int):
    return user_id
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Makes files, goes to their folder, and forgets the modules that were imported from there."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)

    def make(**files: str) -> Path:
        for name, text in files.items():
            file = tmp_path / (name if "." in name else f"{name}.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path

    yield make
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def environment(**more: str) -> dict[str, str]:
    """For other processes: covet as it is here."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1", **more}


# --- covet new


def need(template: str) -> None:
    if template == "fastapi":
        pytest.importorskip("fastapi")
        pytest.importorskip("python_multipart")


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_project_passes_its_tests(template: str, tmp_path: Path) -> None:
    need(template)
    folder, files = create(str(tmp_path / "shop-1"), template)
    assert {str(file) for file in files} == {".gitignore", "README.md", "main.py", "pyproject.toml", "tests/test_main.py"}
    for file in files:
        assert "PROJECT_NAME" not in (folder / file).read_text(encoding="utf-8")
    assert "shop-1" in (folder / "pyproject.toml").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "covet.pytest_plugin", "-k", "not component", "-W", "error"]
    # The plugin may be installed, and is not to be loaded twice.
    done = run(command, folder, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("template", TEMPLATES)
def test_covet_check_finds_nothing_in_a_new_project(template: str, tmp_path: Path) -> None:
    need(template)
    folder, _ = create(str(tmp_path / "shop"), template)
    done = run([sys.executable, "-m", "covet.cli", "check", "main:app", "--strict"], folder)
    assert done.returncode == 0, done.stdout
    assert "nothing found" in done.stdout


def test_a_folder_that_has_files_is_left_alone(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = project(**{"full/main": "", "note.txt": ""})
    assert cli.main(["new", "full"]) == 1
    assert capsys.readouterr().err == "error: full is not empty: it has main.py\n"
    assert cli.main(["new", "note.txt"]) == 1
    assert "is a file" in capsys.readouterr().err
    (folder / "empty" / ".git").mkdir(parents=True)
    assert cli.main(["new", "empty"]) == 0
    shown = capsys.readouterr().out
    assert "  empty/main.py\n" in shown
    assert "cd empty\n" in shown


@pytest.mark.parametrize("name", ["bad name", "a/b c", "ä", ".", "_x", "x-"])
def test_a_name_that_no_project_can_have_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not a name").mkdir()
    monkeypatch.chdir(tmp_path / "not a name")
    with pytest.raises(BuildError, match="is no name for a project"):
        create(name, "minimal")
    assert list(Path().iterdir()) == []


# --- covet routes, covet openapi


def test_routes_are_listed(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    project(main=APP + "\n@app.route('/any', ['*'], isolation='shared')\ndef anything():\n    return 1\n")
    assert cli.main(["routes", "main:app"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["GET", "/users/{user_id}", "read_user"]
    assert lines[1].split() == ["*", "/any", "anything", "[shared]"]
    assert len(lines) == 2
    assert cli.main(["routes", "main:app", "--all"]) == 0
    assert "/openapi.json" in capsys.readouterr().out
    assert cli.main(["routes", "main", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {"method": "GET", "path": "/users/{user_id}", "name": "read_user", "isolation": None}
    assert rows[1]["isolation"] == "shared"


def test_routes_of_another_framework_are_listed(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fastapi")
    project(main="from fastapi import FastAPI\napp = FastAPI()\n@app.get('/a/{b}')\ndef read(b: int): return b\n")
    assert cli.main(["routes", "main:app"]) == 0
    assert "GET     /a/{b}" in capsys.readouterr().out
    assert cli.main(["openapi", "main:app"]) == 0
    assert "/a/{b}" in json.loads(capsys.readouterr().out)["paths"]


def test_the_openapi_document_is_written(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = project(main=APP)
    assert cli.main(["openapi", "main:app"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["openapi"].startswith("3.1")
    assert "/users/{user_id}" in document["paths"]
    assert cli.main(["openapi", "main:app", "-o", "api.json", "--indent", "0"]) == 0
    text = (folder / "api.json").read_text(encoding="utf-8")
    assert json.loads(text) == document
    assert text.count("\n") == 1
    assert cli.main(["openapi", "main:app", "-o", "missing/api.json"]) == 1
    assert "missing/api.json cannot be written" in capsys.readouterr().err


def test_an_application_without_a_document_says_so(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    project(main="async def app(scope, receive, send): ...\n")
    assert cli.main(["openapi", "main:app"]) == 1
    assert "main:app has no OpenAPI document" in capsys.readouterr().err


# --- What is imported


def test_an_import_that_fails_is_shown_from_where_the_application_begins(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project(main="import inner\n", inner="def make():\n    raise LookupError('no')\n\nmake()\n")
    assert cli.main(["routes", "main:app"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: main:app cannot be imported:\n\nTraceback (most recent call last):\n  File")
    assert 'inner.py", line 2, in make' in shown
    assert "importlib" not in shown
    assert "loading.py" not in shown


def test_a_package_that_is_missing_is_named_with_what_to_do(project: Callable[..., Path]) -> None:
    project(main="import no_such_package\n")
    with pytest.raises(BuildError, match="install it here, with `pip install`, and name it in"):
        load(find_target("main:app"))


def test_an_application_that_ends_the_process_does_not_end_the_command(project: Callable[..., Path]) -> None:
    project(main="raise SystemExit('stop')\n")
    with pytest.raises(BuildError, match="SystemExit: stop"):
        load(find_target("main:app"))


def test_the_modules_of_the_application_are_those_of_its_folder(project: Callable[..., Path]) -> None:
    package = {"package/__init__": "", "package/one": "import json\n"}
    folder = project(main=APP + "import package.one\n", unused="", **package)
    target = find_target("main:app")
    load(target)
    assert {name: str(path.relative_to(folder)) for name, path in own_modules(target).items()} == {
        "main": "main.py",
        "package": "package/__init__.py",
        "package.one": "package/one.py",
    }


# --- covet check


def found_in(source: str, **options: Any) -> list[tuple[int, str]]:
    return [(finding.line, finding.message) for finding in check_source(Path("m.py"), source, **options)]


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("import threading\n", 1, "threading: a component has no threads"),
        ("from threading import Thread\n", 1, "no threads"),
        ("import os, socket\n", 1, "socket: a component has no sockets"),
        ("import subprocess as s\n", 1, "cannot start processes"),
        ("from multiprocessing import Pool\n", 1, "cannot start processes"),
        ("from concurrent.futures import ThreadPoolExecutor\n", 1, "no threads"),
        ("import urllib.request\n", 1, "urllib.request: it needs sockets"),
        ("from urllib import request\n", 1, "urllib.request: it needs sockets"),
        ("import requests\n", 1, "requests: it needs sockets"),
        ("def f():\n    import no_such_module\n", 2, "there is no module 'no_such_module'"),
        ("import importlib\ndef f(x):\n    return importlib.import_module(x)\n", 3, "nothing can be imported"),
        ("import time\nasync def f():\n    time.sleep(1)\n", 3, "time.sleep in a coroutine"),
        ("from time import sleep as s\nasync def f():\n    s(1)\n", 3, "time.sleep in a coroutine"),
        ("import asyncio\ndef f():\n    asyncio.run(g())\n", 3, "the event loop of a component is running"),
        ("import asyncio\nasync def f():\n    await asyncio.to_thread(g)\n", 3, "runs in line"),
        ("def f():\n    open('x', 'w')\n", 2, "no file system to write to"),
        ("def f():\n    open('x', mode='ab')\n", 2, "no file system to write to"),
        ("def f(path):\n    path.write_text('x')\n", 2, "no file system to write to"),
        ("def f(path):\n    path.open('w')\n", 2, "no file system to write to"),
        ("import tempfile\ndef f():\n    tempfile.mkdtemp()\n", 3, "no file system to write to"),
        ("import os\nX = os.environ['X']\n", 2, "os.environ is read in the build"),
        ("import os\nclass C:\n    X = os.getenv('X')\n", 3, "os.getenv is read in the build"),
        ("from os import environ\nX = environ.get('X')\n", 2, "os.environ.get is read in the build"),
        ("import os\ndef f(x=os.getenv('X')): ...\n", 2, "os.getenv is read in the build"),
        ("import secrets\nKEY = secrets.token_hex()\n", 2, "secrets.token_hex runs in the build"),
        ("from uuid import uuid4\nNODE = uuid4()\n", 2, "uuid.uuid4 runs in the build"),
        ("from datetime import datetime\nSTART = datetime.now()\n", 2, "the same in every request"),
    ],
)
def test_what_does_not_work_in_a_component_is_found(source: str, line: int, words: str) -> None:
    found = found_in(source)
    assert [number for number, _ in found] == [line], found
    assert words in found[0][1]


@pytest.mark.parametrize(
    "source",
    [
        "import os, time, json, asyncio\n",
        "import time\ndef f():\n    time.sleep(1)\n",
        "import time\nasync def f():\n    await asyncio.sleep(1)\n",
        "import os\ndef f():\n    return os.environ['X'], os.getenv('Y')\n",
        "import secrets\ndef f():\n    return secrets.token_hex()\n",
        "import os\nos.environ['X'] = 'y'\n",
        "TEXT = open('x').read()\n",
        "def f():\n    return open('x').read()\n",
        "class store:\n    def open(x): ...\ndef f(shop):\n    shop.open('Monday')\n",
        "def f():\n    try:\n        import no_such_module\n    except ImportError:\n        pass\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket\n",
        "if __name__ == '__main__':\n    import subprocess\n    subprocess.run(['x'])\n",
        "import socket  # covet: ignore\n",
        "from .threading import Thread\n",
        "def f():\n    import json\n    from os import path\n",
        "f = lambda: __import__\n",
    ],
)
def test_what_works_in_a_component_is_left_alone(source: str) -> None:
    assert found_in(source) == []


def test_a_module_that_no_component_has_is_an_error_where_it_is_sure_to_be_imported() -> None:
    def severity(source: str) -> list[str]:
        return [finding.severity for finding in check_source(Path("m.py"), source)]

    assert severity("import ctypes\n") == ["error"]
    assert severity("try:\n    import ctypes\nexcept ImportError:\n    ctypes = None\n") == ["warning"]
    assert severity("def f():\n    import ctypes\n") == ["warning"]


def test_files_that_are_read_must_be_bundled() -> None:
    bundled = frozenset({"templates/a.html", "data/b.json"})
    source = """
from pathlib import Path
def f(name):
    open("templates/a.html"), open("./data/b.json"), open(name), open(f"data/{name}")
    open("data/c.json")
    Path("d.txt").read_text()
    open("/etc/passwd")
"""
    assert found_in(source, bundled=bundled) == [
        (5, "'data/c.json' is not bundled; name it with `include` in [tool.covet] of pyproject.toml, or --include"),
        (6, "'d.txt' is not bundled; name it with `include` in [tool.covet] of pyproject.toml, or --include"),
        (7, "'/etc/passwd' is not there in a component, which has only the files of its project"),
    ]


def test_the_whole_application_is_checked(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    project(
        main=APP + "from package import slow\n",
        unused="import socket\n",
        **{
            "package/__init__": "",
            "package/slow": "import time\nimport httpx\n\n\nasync def f():\n    time.sleep(1)\n    open('data/a.txt')\n",
            "pyproject.toml": "[project]\ndependencies = ['pytest']\n[tool.covet]\ninclude = ['data/*']\n",
            "data/a.txt": "",
        },
    )
    report = check(find_target("main:app"))
    assert report.findings == [
        Finding(
            Path("package/slow.py").resolve(),
            2,
            "httpx is of the package httpx, which covet build bundles only if pyproject.toml names it",
        ),
        Finding(
            Path("package/slow.py").resolve(),
            6,
            "time.sleep in a coroutine keeps every other request of its instance waiting; use `await asyncio.sleep(...)`",
        ),
    ]
    assert cli.main(["check", "main:app"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("package/slow.py:6: warning: time.sleep")
    assert re.fullmatch(r"main:app: \d+ routes, 3 modules; 2 warnings", shown[2])
    assert cli.main(["check", "main:app", "--strict"]) == 1


def test_what_a_package_needs_itself_need_not_be_named(project: Callable[..., Path]) -> None:
    project(main=APP + "import anyio, httpx\n", **{"requirements.txt": "httpx==0.28.1 ; python_version > '3'\n"})
    assert check(find_target("main:app")).findings == []


def test_routes_that_the_host_would_refuse_are_an_error(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project(main=APP + "\n\n@app.get('/users/{name}')\ndef other(name): ...\n")
    for command in ("check", "routes"):
        assert cli.main([command, "main:app"]) == 1
        assert capsys.readouterr().err == (
            "error: route GET /users/{name} (other) conflicts with route GET /users/{user_id} (read_user): both match the same "
            "paths\n"
        )


def test_a_definite_error_is_the_exit_code(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    project(main=APP + "import ctypes\n")
    assert cli.main(["check", "main:app"]) == 1
    assert "main.py:9: error: ctypes is not there in a component: the build fails" in capsys.readouterr().out


# --- Tracebacks


def raised_in(root: Path, source: str) -> BaseException:
    path = root / "application.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        exec(compile(source, str(path), "exec"), {})
    return caught.value


def test_the_frames_of_the_application_come_first(tmp_path: Path) -> None:
    error = raised_in(tmp_path, "import json\n\ndef handle():\n    return json.loads('{')\n\nhandle()\n")
    lines = format_error(error, tmp_path).splitlines()
    assert lines[0] == "In the application (most recent call last):"
    assert lines[1].endswith('application.py", line 6, in <module>')
    assert "    return json.loads('{')" in lines
    library = lines.index("and from there in libraries:")
    assert all("application.py" not in line for line in lines[library:])
    assert "decoder.py" in lines[library + 1] or "json" in lines[library + 1]
    assert lines[-1].startswith("json.decoder.JSONDecodeError: Expecting property name")


def test_libraries_that_only_called_the_application_are_left_out(tmp_path: Path) -> None:
    source = "import re\n\ndef fail(match):\n    raise ValueError('here')\n\nre.sub('a', fail, 'a')\n"
    text = format_error(raised_in(tmp_path, source), tmp_path)
    assert "and from there in libraries" not in text
    assert text.endswith("ValueError: here")


def test_causes_come_before_what_they_caused(tmp_path: Path) -> None:
    source = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('outer') from error\n"
    text = format_error(raised_in(tmp_path, source), tmp_path)
    cause, _, effect = text.partition("\n\nThe above exception was the direct cause of the following exception:\n\n")
    assert cause.endswith("ZeroDivisionError: division by zero")
    assert effect.endswith("ValueError: outer")
    source = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError('outer')\n"
    assert "During handling of the above exception" in format_error(raised_in(tmp_path, source), tmp_path)


def test_the_members_of_a_group_are_shown(tmp_path: Path) -> None:
    source = "try:\n    int('x')\nexcept ValueError as e:\n    raise ExceptionGroup('both', [e, KeyError('x')]) from None\n"
    text = format_error(raised_in(tmp_path, source), tmp_path)
    assert "ExceptionGroup: both (2 sub-exceptions)" in text
    assert "  ValueError: invalid literal" in text
    assert "  KeyError: 'x'" in text


def test_an_error_of_syntax_has_its_line(tmp_path: Path) -> None:
    error = raised_in(tmp_path, f"compile('def f(:', {str(tmp_path / 'other.py')!r}, 'exec')\n")
    text = format_error(error, tmp_path)
    assert 'other.py", line 1' in text
    assert text.endswith("SyntaxError: invalid syntax")


def test_log_records_have_such_tracebacks(tmp_path: Path) -> None:
    error = raised_in(tmp_path, "raise LookupError('x')\n")
    record = logging.LogRecord("n", logging.ERROR, "p", 1, "failed", None, (type(error), error, error.__traceback__))
    text = DevelopmentFormatter(tmp_path).format(record)
    assert text.startswith("ERROR    failed\nIn the application (most recent call last):\n")


# --- covet dev


def test_a_watcher_sees_what_is_changed_made_and_removed(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / ".venv").mkdir()
    one, two = tmp_path / "one.py", tmp_path / "package" / "two.py"
    one.write_text("1")
    watcher = Watcher([tmp_path, tmp_path / "package"])
    assert watcher.changes() == set()
    assert watcher.changes() == set()
    one.write_text("22")
    two.write_text("1")
    (tmp_path / "data.txt").write_text("1")
    (tmp_path / ".venv" / "three.py").write_text("1")
    assert watcher.changes() == {str(one), str(two)}
    two.unlink()
    os.utime(one, ns=(1, 1))
    assert watcher.changes() == {str(one), str(two)}
    shutil.rmtree(tmp_path / "package")
    assert watcher.changes() == set()


class Development:
    """A running `covet dev`."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.lines: list[str] = []
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not done():
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.01)

    def answers(self, path: str, text: str) -> Callable[[], bool]:
        return lambda: text in self.client.get(path).text

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        self._thread.join(20)
        self.client.close()
        return code


@contextmanager
def developing(folder: Path, *arguments: str) -> Iterator[Development]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "covet.cli", "dev", "main:app", "--port", str(port), *arguments],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    development = Development(process, port)
    try:

        def is_listening() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        development.wait_for(is_listening)
        yield development
    finally:
        if process.poll() is None:
            development.stop()
        assert process.stderr is not None
        process.stderr.close()


VERSIONED = "from covet import CovetPy\napp = CovetPy()\n@app.get('/')\nasync def read():\n    return 'version 1'\n"


def test_a_change_is_served_and_no_connection_is_refused_in_between(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "main.py").write_text(VERSIONED)
    with developing(tmp_path) as development:
        development.wait_for(development.answers("/", "version 1"))
        failures: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    # A connection each time: one that is kept is closed when its worker ends.
                    response = httpx.get(development.client.base_url, timeout=30, trust_env=False)
                    if response.status_code != 200:
                        failures.append(response.text)
                except httpx.HTTPError as error:
                    failures.append(repr(error))

        asking = threading.Thread(target=ask)
        asking.start()
        for number in range(2, 5):
            # Of the same length, and within a second: what Python has cached must not count.
            (tmp_path / "main.py").write_text(VERSIONED.replace("version 1", f"version {number}"))
            development.wait_for(development.answers("/", f"version {number}"))
        stop.set()
        asking.join()
        assert failures == []
        assert development.stop() == 0
    assert development.log.count("covet dev: main.py changed") == 3, development.log
    assert development.log.count("covet dev: ready after") == 4, development.log


def test_an_application_that_cannot_be_imported_or_started_is_shown_until_it_can(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "main.py").write_text(VERSIONED + "def broken(:\n")
    with developing(tmp_path, "--log-level", "warning") as development:
        development.wait_for(development.answers("/", "SyntaxError: invalid syntax"))
        page = development.client.get("/", headers={"accept": "text/html"})
        assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
        assert "def broken(:" in page.text
        failing = "@app.on_event('startup')\ndef start():\n    raise LookupError('<no database>')\n"
        (tmp_path / "main.py").write_text(VERSIONED + failing)
        development.wait_for(development.answers("/", "LookupError: <no database>"))
        assert "&lt;no database&gt;" in development.client.get("/", headers={"accept": "text/html"}).text
        (tmp_path / "main.py").write_text(VERSIONED)
        development.wait_for(development.answers("/", "version 1"))
        assert development.stop() == 0
    assert development.log.count("LookupError: <no database>") == 1, development.log
    assert "In the application (most recent call last):" in development.log


def test_an_exception_of_a_handler_is_shown_to_browsers_and_in_the_log(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "main.py").write_text(VERSIONED + "@app.get('/boom')\ndef boom():\n    raise ValueError('why not')\n")
    with developing(tmp_path, "--no-reload") as development:
        page = development.client.get("/boom", headers={"accept": "text/html"})
        assert page.status_code == 500
        assert "ValueError: why not" in page.text
        development.wait_for(lambda: "ValueError: why not" in development.log)
        assert 'File "main.py", line 8, in boom' in development.log


def test_another_framework_is_served_too(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    (tmp_path / "main.py").write_text(
        "from contextlib import asynccontextmanager\n"
        "from starlette.applications import Starlette\n"
        "from starlette.responses import PlainTextResponse\n"
        "from starlette.routing import Route\n"
        "FAILS = False\n"
        "@asynccontextmanager\n"
        "async def lifespan(app):\n"
        "    if FAILS:\n"
        "        raise LookupError('no database')\n"
        "    yield {'word': 'started'}\n"
        "async def home(request):\n"
        "    return PlainTextResponse(request.state.word)\n"
        "app = Starlette(routes=[Route('/', home)], lifespan=lifespan)\n"
    )
    with developing(tmp_path) as development:
        development.wait_for(development.answers("/", "started"))
        source = (tmp_path / "main.py").read_text()
        (tmp_path / "main.py").write_text(source.replace("FAILS = False", "FAILS = True"))
        development.wait_for(development.answers("/", "LookupError: no database"))
        (tmp_path / "main.py").write_text(source)
        development.wait_for(development.answers("/", "started"))
        assert development.stop() == 0


def test_a_worker_that_hangs_does_not_keep_the_next_one_back(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    (tmp_path / "main.py").write_text(VERSIONED + "@app.get('/hang')\ndef hang():\n    import time\n    time.sleep(100)\n")
    with developing(tmp_path) as development:
        development.wait_for(development.answers("/", "version 1"))

        def hang() -> None:
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"{development.client.base_url}/hang", timeout=60, trust_env=False)

        hanging = threading.Thread(target=hang)
        hanging.start()
        time.sleep(0.2)
        (tmp_path / "main.py").write_text(VERSIONED.replace("version 1", "version 2"))
        development.wait_for(lambda: "changed" in development.log)
        development.wait_for(development.answers("/", "version 2"))
        hanging.join(20)
        assert not hanging.is_alive()


def test_a_port_that_is_taken_is_named(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("uvicorn")
    project(main=VERSIONED)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["dev", "main:app", "--port", str(port)]) == 1
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err
    assert cli.main(["dev", "main:app", "--reload-dir", "nowhere"]) == 1
    assert "--reload-dir nowhere: there is no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["dev", "main:app", "--port", "70000"])


def test_what_to_install_is_said_where_uvicorn_is_missing(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(main=VERSIONED)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["dev", "main:app"]) == 1
    assert capsys.readouterr().err == "error: covet dev needs uvicorn; run: pip install 'covet[dev]'\n"


# --- The fixtures


def run(command: list[str], folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )


def run_tests(folder: Path, source: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    (folder / "main.py").write_text(
        "import logging\nfrom covet import CovetPy, host\nfrom covet.middleware import TimingMiddleware\n"
        "app = CovetPy()\nseen = []\n"
        "@app.get('/')\ndef read():\n    return {'value': host.config('key')}\n"
        "@app.get('/count')\ndef count():\n    seen.append(1)\n    return len(seen)\n"
        "@app.get('/boom')\ndef boom():\n    logging.warning('before the end')\n    raise ValueError('boom')\n"
    )
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "covet.pytest_plugin", "-p", "no:cacheprovider"]
    return run(command, folder, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **variables)


def test_the_fixture_for_native_tests_starts_and_stops_applications(tmp_path: Path) -> None:
    done = run_tests(
        tmp_path,
        "from main import app\n"
        "def test_it(covet_client):\n"
        "    assert covet_client('main:app', config={'key': 'a'}).get('/').json() == {'value': 'a'}\n"
        "    assert covet_client(app).get('/').json() == {'value': None}\n"
        "    assert [covet_client(app).get('/count').json() for _ in range(2)] == [1, 2]\n",
    )
    assert "1 passed" in done.stdout, done.stdout


def test_without_a_host_the_fixture_skips_or_fails(tmp_path: Path) -> None:
    test = "def test_it(covet_host):\n    with covet_host('main:app'): pass\n"
    variables = {"COVET_HOST": str(tmp_path / "nothing")}
    assert "which is no program" in run_tests(tmp_path, test, **variables).stdout
    hide = "import covet.cli\ncovet.cli._find_host = lambda: None\n"
    assert "1 skipped" in run_tests(tmp_path, hide + test).stdout
    required = run_tests(tmp_path, hide + test, COVET_REQUIRE_HOST="1")
    assert "covet-host is not found" in required.stdout
    assert required.returncode == 1


@pytest.mark.build
@pytest.mark.host
def test_the_fixture_for_components_builds_and_serves_and_shows_the_log(tmp_path: Path) -> None:
    if cli._find_host() is None:
        pytest.skip("covet-host is not there")
    done = run_tests(
        tmp_path,
        "def test_fresh(covet_host):\n"
        "    with covet_host('main:app', isolation='fresh', config={'key': 'value'}) as client:\n"
        "        assert client.get('/').json() == {'value': 'value'}\n"
        "        assert [client.get('/count').json() for _ in range(3)] == [1, 1, 1]\n"
        "def test_shared(covet_host):\n"
        "    with covet_host('main:app', isolation='shared') as client:\n"
        "        assert [client.get('/count').json() for _ in range(3)] == [1, 2, 3]\n"
        "def test_log(covet_host):\n"
        "    with covet_host('main:app') as client:\n"
        "        assert client.get('/boom').status_code == 200\n"
        "def test_build(covet_host):\n"
        "    with covet_host('nothing:app') as client: ...\n",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert "Log of covet-host" in done.stdout
    assert "before the end" in done.stdout
    assert "ValueError: boom" in done.stdout
    assert "nothing:app cannot be built: there is no module 'nothing'" in done.stdout
