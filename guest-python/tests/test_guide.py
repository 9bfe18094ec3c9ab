"""The user guide: its examples are run, and have to show what they say.

A chapter is a Markdown file. Its `python` blocks become `main.py` in a folder of the chapter, one after the other, and its
`console` blocks are commands with what they print. A comment before a block says what else it is:

    <!-- continued -->          the block is added to the one before
    <!-- file: users.py -->     the block is another file of the folder
    <!-- needs: jinja2 -->      the block, and what follows up to the next application, is left out without that module

`curl` asks the application in `main.py` through `covet.testing.TestClient`. For each command it is imported and started
anew, as a request begins in the isolation `fresh`; unless a route, or `covet run --isolation` further up, says otherwise.
`covet` and `pytest` are run if they end by themselves. In what is printed `...` stands for anything.

With `COVET_GUIDE=host` and `COVET_HOST` in the environment each application is built and served by covet-host instead,
which takes ten seconds for each.
"""

import http.cookies
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from covet import CovetPy
from covet.asgi import router_of
from covet.pytest_plugin import HostFactory
from covet.testing import TestClient

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
CHAPTERS = [*sorted(GUIDE.glob("*.md")), ROOT / "guest-python" / "README.md"]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem if path.parent == GUIDE else "package")
def test_the_examples_show_what_they_say(
    chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    covet_host = request.getfixturevalue("covet_host") if os.environ.get("COVET_GUIDE") == "host" else None
    examples = Chapter(chapter.read_text(encoding="utf-8"), tmp_path, monkeypatch, covet_host)
    failures = examples.run()
    shown = "\n\n".join(f"{chapter.relative_to(ROOT)}:{line}: {message}" for line, message in failures)
    assert not failures, f"\n{shown}"
    if examples.left_out:
        pytest.skip(f"all examples passed but those that need {', '.join(sorted(examples.left_out))}")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem if path.parent == GUIDE else "package")
def test_links_lead_somewhere(chapter: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^()\s]+)\)", without_blocks(chapter.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (chapter.parent / name).resolve() if name else chapter
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            wrong.append(target)
    assert not wrong


def test_the_index_names_every_chapter() -> None:
    index = (GUIDE / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\(([a-z-]+\.md)\)", index)
    assert sorted(named) == sorted(path.name for path in GUIDE.glob("*.md") if path.name != "README.md")


WORKING = """\
```python
from covet import CovetPy

app = CovetPy()


@app.get("/users/{user_id}")
def read_user(user_id: int):
    return {"user_id": user_id}
```

```console
$ curl -i localhost:8000/users/42
HTTP/1.1 200 OK
content-type: application/json
...

{"user_id":42}
$ covet routes main:app
...
GET     /users/{user_id} ... read_user
...
```
"""


def test_an_example_that_works_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Chapter(WORKING, tmp_path, monkeypatch).run() == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('{"user_id":42}', '{"user_id":43}', 13, "printed"),
        ("200 OK", "201 Created", 13, "printed"),
        ("application/json", "text/plain", 13, "printed"),
        ("content-type: application/json\n...\n", "content-type: application/json\n", 13, "printed"),
        ("users/42\n", "users/x\n", 13, "printed"),
        ("... read_user\n", "... write_user\n", 19, "printed"),
        ("user_id: int", "user_id: int = 1", 1, "cannot have a default"),
        ("return {", "return = {", 1, "SyntaxError"),
        ("app = CovetPy()", "application = CovetPy()", 1, "NameError"),
        ("curl -i", "curl --unknown", 13, "does not know"),
        ("$ covet routes", "$ rm -r", 19, "does not know"),
        ("{user_id}", "{user_id:}", 1, "ValueError"),
        ("$ covet routes main:app\n", "", 13, "printed"),
        ("$ covet routes main:app", "$ covet routes other:app", 19, "failed"),
        ("```console\n$ curl -i", "```console\ncurl -i", 12, "begins with"),
    ],
)
def test_an_example_that_is_wrong_is_found(
    old: str, new: str, line: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in WORKING
    found = Chapter(WORKING.replace(old, new), tmp_path, monkeypatch).run()
    assert found
    assert found[0][0] == line
    assert message in found[0][1]


class Wrong(Exception):
    """An example does not show what it says."""


@dataclass(frozen=True)
class Block:
    """A fenced block, and the line where it begins."""

    language: str
    text: str
    line: int
    #: What a comment before it says.
    note: str | None = None


class Chapter:
    """The examples of one chapter, in a folder of their own."""

    def __init__(self, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, covet_host: HostFactory | None = None) -> None:
        self._covet_host = covet_host
        self.blocks = list(blocks_of(text))
        self.folder = folder
        self.application: Application | None = None
        self.source = ""
        self.options = Options()
        self.jars: dict[str, dict[str, str]] = {}
        #: Modules that are missing.
        self.left_out: set[str] = set()
        self._leaves_out = False
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.chdir(folder)
        # Files change faster than the times of which Python makes out whether what it has compiled is theirs.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        self._environment = monkeypatch

    def run(self) -> list[tuple[int, str]]:
        """The lines of examples that are wrong, and what is wrong with them."""
        failures = []
        try:
            for block in self.blocks:
                try:
                    self._take(block)
                except Wrong as wrong:
                    failures.append((block.line, str(wrong)))
                    continue
                if block.language != "console" or self._leaves_out:
                    continue
                for line, command, printed in commands_of(block):
                    try:
                        self._run(command, printed)
                    except Wrong as wrong:
                        failures.append((line, f"$ {command}\n{wrong}"))
        finally:
            self._end()
            forget_modules(self.folder)
        return failures

    def _take(self, block: Block) -> None:
        """Writes a block to its file, and tries the application if that has changed."""
        kind, _, value = (block.note or "").partition(": ")
        if kind == "file":
            path = self.folder / value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            self._end()
        elif block.language == "python" and kind in ("", "continued", "needs"):
            if kind != "continued":
                self.source, self.options = "", Options()
                self._leaves_out = kind == "needs" and importlib.util.find_spec(value) is None
            if self._leaves_out:
                self.left_out.add(value)
                return
            self.source = f"{self.source}\n\n{block.text}".lstrip("\n")
            (self.folder / "main.py").write_text(self.source, encoding="utf-8")
            self._end()
            self._try()
        elif block.note is not None:
            raise Wrong(f"there is no note {block.note!r} for a block of {block.language!r}")
        elif block.language == "console" and not block.text.startswith("$ "):
            raise Wrong("a console block begins with a command after '$ '")

    def _try(self) -> None:
        with explained():
            app = import_main(self.folder).__dict__.get("app")
            if isinstance(app, CovetPy):
                router_of(app)

    def _run(self, command: str, printed: str) -> None:
        words = shlex.split(command, comments=True)
        variables = {}
        while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name.removeprefix("COVET_CONFIG_")] = value
        if words[0] == "curl":
            with explained():
                answer = self._ask(request_of(words[1:], self.folder))
            compare(answer, printed, has_head="-i" in words or "-I" in words)
        elif words[:2] in (["covet", "run"], ["covet", "dev"]) or words[:2] == ["covet-host", "run"]:
            self._end()
            self.options = Options.read(words[2:])
            self.options.config.update(variables)
        elif words[0] == "uvicorn":
            self._end()
            self.options = Options(is_native=True)
        elif words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve()
            self._environment.chdir(self.folder)
            self._environment.syspath_prepend(str(self.folder))
            self._end()
        elif tuple(words[:2]) in PROGRAMS:
            compare(output_of([*PROGRAMS[tuple(words[:2])], *words[2:]], self.folder), printed)
        elif words[0] == "pytest" and variables:
            # It needs the host.
            return
        elif words[0] in PROGRAMS_OF_ONE_WORD:
            compare(output_of([*PROGRAMS_OF_ONE_WORD[words[0]], *words[1:]], self.folder), printed)
        elif words[0] not in NOT_RUN and tuple(words[:2]) not in NOT_RUN:
            raise Wrong("the runner of the guide does not know this command")

    def _ask(self, ask: "Ask") -> str:
        if self.application is None:
            self.application = Application(self.folder, self.options, self._covet_host)
        for jar in ask.jars_read:
            ask.cookies.update(self.jars.get(jar, {}))
        response = self.application.send(ask)
        if ask.jar_written is not None:
            jar = self.jars.setdefault(ask.jar_written, dict(ask.cookies))
            for field_ in response.headers.get_list("set-cookie"):
                for name, morsel in http.cookies.SimpleCookie(field_).items():
                    if morsel["max-age"] == "0":
                        jar.pop(name, None)
                    else:
                        # As it stands in the field: a client does not look into the quotes.
                        jar[name] = morsel.coded_value
        return shown(response, ask)

    def _end(self) -> None:
        if self.application is not None:
            self.application.close()
            self.application = None


@dataclass
class Options:
    """What a `covet run` further up says about the host."""

    isolation: str = "fresh"
    config: dict[str, str] = field(default_factory=dict)
    #: Served by something else.
    is_native: bool = False

    @classmethod
    def read(cls, words: Sequence[str]) -> "Options":
        parser = ArgumentParser(exit_on_error=False, add_help=False)
        parser.add_argument("--isolation", default="fresh")
        parser.add_argument("--env", action="append", default=[])
        options, _ = parser.parse_known_args(list(words))
        return cls(options.isolation, dict(variable.split("=", 1) for variable in options.env))


@dataclass
class Ask:
    """A curl command."""

    url: str
    method: str
    headers: list[tuple[str, str]]
    content: bytes | None
    files: list[tuple[str, Any]]
    cookies: dict[str, str]
    jars_read: list[str]
    jar_written: str | None
    with_head: bool
    without_body: bool
    follow: bool
    compressed: bool


class Application:
    """The application of a chapter while it stays the same."""

    def __init__(self, folder: Path, options: Options, covet_host: HostFactory | None) -> None:
        self._folder = folder
        self._options = options
        self._covet_host = None if options.is_native else covet_host
        self._kept: ExitStack | None = None
        self._client: httpx.Client | None = None

    def send(self, ask: Ask) -> httpx.Response:
        if self._client is not None:
            return self._send(self._client, ask)
        with ExitStack() as stack:
            client = stack.enter_context(self._started())
            response = self._send(client, ask)
            if self._covet_host is not None or self._keeps_state(client):
                self._client, self._kept = client, stack.pop_all()
        return response

    def close(self) -> None:
        if self._kept is not None:
            with explained():
                self._kept.close()
        self._client = self._kept = None

    @contextmanager
    def _started(self) -> Iterator[httpx.Client]:
        if self._covet_host is not None:
            options = self._options
            with self._covet_host(
                "main:app", project=self._folder, isolation=options.isolation, config=options.config, follow_redirects=False
            ) as client:
                yield client
            return
        app = import_main(self._folder).__dict__.get("app")
        if app is None:
            raise Wrong("there is no `app` to ask")
        config = self._options.config if isinstance(app, CovetPy) else None
        with TestClient(app, raise_server_exceptions=False, follow_redirects=False, config=config) as client:
            yield client

    def _keeps_state(self, client: Any) -> bool:
        isolations = {getattr(route, "isolation", None) for route in getattr(client.app, "routes", ())}
        return self._options.isolation != "fresh" or bool(isolations - {None, "fresh"})

    def _send(self, client: httpx.Client, ask: Ask) -> httpx.Response:
        url = re.sub(r"^(?!https?://)", "http://", ask.url)
        request = httpx.Request(ask.method, url, content=ask.content, files=ask.files or None)
        fields = [("host", httpx.URL(url).netloc.decode()), ("accept", "*/*"), ("user-agent", "curl/8.14.1")]
        fields += [("accept-encoding", "gzip")] if ask.compressed else []
        if ask.cookies:
            fields.append(("cookie", "; ".join(f"{name}={value}" for name, value in ask.cookies.items())))
        given = {name.lower() for name, _ in ask.headers}
        framing = [(name, value) for name, value in request.headers.items() if name in ("content-length", "content-type")]
        fields = [item for item in [*fields, *framing] if item[0] not in given] + ask.headers
        request.headers = httpx.Headers(fields)
        if self._covet_host is not None:
            request.url = request.url.copy_with(host=client.base_url.host, port=client.base_url.port, scheme="http")
        client.cookies.clear()
        return client.send(request, follow_redirects=ask.follow)


def request_of(words: Sequence[str], folder: Path) -> Ask:
    """What a curl command sends."""
    parser = ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser.add_argument("url")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data", dest="data", action="append", default=[])
    for option in ("--data-binary", "--json", "-u", "-o"):
        parser.add_argument(option)
    for option in ("-b", "-F"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("-c")
    for option in ("-i", "-I", "-L", "-N", "-s", "--compressed"):
        parser.add_argument(option, action="store_true")
    # `-si` and the like.
    options, unknown = parser.parse_known_args(list(words))
    if unknown:
        raise Wrong(f"the runner of the guide does not know {unknown[0]} of curl")
    fields = [tuple(header.split(": ", 1)) for header in options.headers]
    given = {name.lower() for name, _ in fields}
    content, kind = _content_of(options, folder)
    if kind is not None and "content-type" not in given:
        fields.append(("content-type", kind))
    if options.json is not None and "accept" not in given:
        fields.append(("accept", "application/json"))
    if options.u is not None:
        fields.append(("authorization", httpx.BasicAuth(*options.u.split(":", 1))._auth_header))
    cookies = [one for one in options.b if "=" in one]
    return Ask(
        url=options.url,
        method=options.method or ("HEAD" if options.I else "POST" if content is not None or options.F else "GET"),
        headers=fields,
        content=content,
        files=[_part(text, folder) for text in options.F],
        cookies={
            name: value for text in cookies for name, _, value in [pair.strip().partition("=") for pair in text.split(";")]
        },
        jars_read=[one for one in options.b if "=" not in one],
        jar_written=options.c,
        with_head=options.i or options.I,
        without_body=options.o == "/dev/null" or options.I,
        follow=options.L,
        compressed=options.compressed,
    )


def _content_of(options: Namespace, folder: Path) -> tuple[bytes | None, str | None]:
    """The body, and its type."""

    def read(text: str) -> bytes:
        return (folder / text[1:]).read_bytes() if text.startswith("@") else text.encode()

    if options.json is not None:
        return read(options.json), "application/json"
    if options.data_binary is not None:
        return read(options.data_binary), "application/x-www-form-urlencoded"
    if options.data:
        return b"&".join(map(read, options.data)), "application/x-www-form-urlencoded"
    return None, None


def _part(text: str, folder: Path) -> tuple[str, Any]:
    """A field of a form, or a file: `file=@notes.txt;type=text/plain`."""
    name, _, value = text.partition("=")
    if not value.startswith("@"):
        return name, (None, value)
    place, _, kind = value[1:].partition(";type=")
    path = folder / place
    return name, (path.name, path.read_bytes(), kind or CURL_TYPES.get(path.suffix, "application/octet-stream"))


def shown(response: httpx.Response, ask: Ask) -> str:
    """What curl prints."""
    lines = []
    if ask.with_head:
        phrase = PHRASES.get(response.status_code) or HTTPStatus(response.status_code).phrase
        lines = [f"HTTP/1.1 {response.status_code} {phrase}"]
        lines += [f"{name}: {value}" for name, value in response.headers.multi_items()]
        lines.append("")
    body = "" if ask.without_body else response.text
    return "\n".join([*lines, body])


def compare(printed: str, expected: str, has_head: bool = False) -> None:
    """Whether a program has printed what the guide says."""
    if has_head:
        head, _, body = expected.partition("\n\n") if "\n\n" in expected else (expected, "", "...")
        found_head, _, found_body = printed.partition("\n\n")
        status, *fields = head.rstrip("\n").split("\n")
        found_status, *found_fields = found_head.split("\n")
        # There are always more, the date for example.
        right = matches(found_status, status) and "..." in fields
        right = right and all(any(matches(one, field_) for one in found_fields) for field_ in fields if field_ != "...")
        right = right and matches(found_body.strip("\n"), body.strip("\n"))
    else:
        right = matches(printed.strip("\n"), expected.strip("\n"))
    if not right:
        raise Wrong(f"the guide says:\n{indented(expected)}\nand this was printed:\n{indented(printed)}")


def matches(printed: str, expected: str) -> bool:
    """Whether a text is the expected one, in which `...` stands for anything in a line, and alone for any lines."""
    expression = ""
    for line in expected.split("\n"):
        expression += r"(?:[^\n]*\n)*" if line == "..." else r"[^\n]*".join(map(re.escape, line.split("..."))) + r"\n"
    return re.fullmatch(expression, f"{printed}\n") is not None


def output_of(command: Sequence[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100", "PYTHONPATH": str(folder), "NO_COLOR": "1"}
    # The plugins of other packages take seconds to import.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=60, check=False)
    if "Traceback (most recent call last)" in done.stderr or (done.returncode not in (0, 1) and not done.stdout):
        raise Wrong(f"it failed:\n{indented(done.stdout + done.stderr)}")
    if done.returncode == 1 and not done.stdout:
        raise Wrong(f"it failed:\n{indented(done.stderr)}")
    return done.stdout


def import_main(folder: Path) -> ModuleType:
    """The application's module, imported as if for the first time."""
    forget_modules(folder)
    importlib.invalidate_caches()
    return importlib.import_module("main")


def forget_modules(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if name == "main" or (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


@contextmanager
def explained() -> Iterator[None]:
    """Whatever goes wrong is the example's fault."""
    try:
        with redirect_stderr(StringIO()):
            yield
    except Wrong:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Wrong(f"{type(error).__name__}: {error}") from error


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks of a chapter."""
    lines = text.splitlines()
    note: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if (comment := re.fullmatch(r"<!-- (.+) -->", line)) is not None:
            note = comment[1]
        elif (fence := re.fullmatch(r"(`{3,})(\w*)", line)) is not None:
            start = number
            while number < len(lines) and lines[number] != fence[1]:
                number += 1
            yield Block(fence[2], "\n".join(lines[start:number]) + "\n", start, note)
            note = None
            number += 1
        elif line:
            note = None


def commands_of(block: Block) -> Iterator[tuple[int, str, str]]:
    """Line, command and output of each command of a console block. A command goes on after a backslash, or a quote that is
    not closed."""
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        start = number
        command = lines[number].removeprefix("$ ")
        number += 1
        while number < len(lines) and (command.endswith("\\") or is_open(command)):
            command = f"{command[:-1]}{lines[number].lstrip()}" if command.endswith("\\") else f"{command}\n{lines[number]}"
            number += 1
        output = []
        while number < len(lines) and not lines[number].startswith("$ "):
            output.append(lines[number])
            number += 1
        yield block.line + 1 + start, command, "\n".join(output)


def is_open(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def without_blocks(text: str) -> str:
    return re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(path: Path) -> set[str]:
    """The anchors of a chapter's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


#: As covet-host writes them; Python has had several.
PHRASES = {413: "Payload Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Entity"}
#: What curl says of files.
CURL_TYPES = {
    ".gif": "image/gif",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".xml": "application/xml",
}
COVET = [sys.executable, "-m", "covet.cli"]
#: What is run.
PROGRAMS = {
    ("covet", command): [*COVET, command]
    for command in ("new", "check", "routes", "openapi", "extensions", "--help", "--version")
}
PROGRAMS_OF_ONE_WORD: dict[str, list[str]] = {
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "covet.pytest_plugin"],
    "cat": ["cat"],
    "ls": ["ls"],
}
#: What takes too long, does not end, or belongs to another machine.
NOT_RUN: set[Any] = {"pip", "make", "git", "kill", "python", ("covet", "build"), ("covet", "doctor"), ("covet-host", "inspect")}
