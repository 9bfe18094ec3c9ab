"""`covet check`: whether an application can be served, and what in its source will not work in a component.

The application is imported natively, its routes are compiled and put into the host's router. Then the source of its modules
is read: what is found there is a guess, so it is a warning unless the build is sure to fail.
"""

import ast
import importlib.metadata
import importlib.util
import posixpath
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from covet._native.matching import RouteError, RouteKey, Router
from covet.applications import CovetPy

from .build.bundle import find_files, read_settings
from .build.dependencies import find_requirements
from .build.project import BuildError, Target
from .loading import load, own_modules

__all__ = ["Finding", "Report", "check", "check_source"]


@dataclass(frozen=True, order=True)
class Finding:
    """Something at a line of a file."""

    path: Path
    line: int
    message: str
    severity: Literal["error", "warning"] = "warning"


@dataclass(frozen=True)
class Report:
    """What was found. `routes` is their number, with those of the framework."""

    routes: int
    modules: int
    findings: list[Finding]


def check(target: Target) -> Report:
    """Checks an application. Raises BuildError if it cannot be imported, or has routes that the host would refuse."""
    app = load(target)
    check_routes(app)
    modules = own_modules(target)
    findings: list[Finding] = []
    bundled = _bundled(target, list(modules.values()))
    declared = _declared(target)
    for path in sorted(set(modules.values())):
        if path.suffix == ".py":
            findings += check_source(path, path.read_text(encoding="utf-8"), bundled, declared, set(modules))
    return Report(sum(len(route.methods) for route in app.routes), len(modules), findings)


def check_routes(app: Any) -> None:
    """Compiles the routes and puts them into the host's router. Raises BuildError, naming the routes."""
    try:
        if isinstance(app, CovetPy):
            app._finish()
        Router([RouteKey(method, route.pattern, route.name) for route in app.routes for method in route.methods])
    except (RouteError, TypeError, ValueError) as error:
        raise BuildError(str(error)) from None


def check_source(
    path: Path,
    source: str,
    bundled: frozenset[str] | None = None,
    declared: "Declared | None" = None,
    own: set[str] | None = None,
) -> list[Finding]:
    """What in one module will not work. Lines that end with `# covet: ignore` are left out.

    `bundled` are the files that requests can read, `declared` the packages that `covet build` bundles, `own` the modules of
    the application; without them nothing is said about these.
    """
    visitor = _Visitor(path, bundled, declared, own or set())
    visitor.visit(ast.parse(source))
    lines = source.splitlines()
    return sorted({finding for finding in visitor.findings if not _IGNORED.search(lines[finding.line - 1])})


@dataclass(frozen=True)
class Declared:
    """The packages that the project names, and those that these need."""

    #: The file that names them; empty if there is none.
    source: str
    packages: frozenset[str]
    #: The packages by the names that are imported.
    by_module: dict[str, list[str]]


class _Visitor(ast.NodeVisitor):
    """Follows one module. What is at its top, in classes too, runs in the build; what is in functions, in requests."""

    def __init__(self, path: Path, bundled: frozenset[str] | None, declared: Declared | None, own: set[str]) -> None:
        self.findings: list[Finding] = []
        self._path = path
        self._bundled = bundled
        self._declared = declared
        self._own = own
        #: What the names of the module stand for: `sleep` for `time.sleep`.
        self._names: dict[str, str] = {}
        #: The functions around; True for those that are asynchronous.
        self._functions: list[bool] = []
        self._in_try = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._names[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
            self._check_import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return
        self._check_import(node, node.module, {f"{node.module}.{alias.name}" for alias in node.names})
        for alias in node.names:
            self._names[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_Try(self, node: ast.Try) -> None:
        self._in_try += 1
        for child in node.body:
            self.visit(child)
        self._in_try -= 1
        for later in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(later)

    def visit_If(self, node: ast.If) -> None:
        name = self._name_of(node.test) or ""
        if name.rpartition(".")[2] == "TYPE_CHECKING":
            for child in node.orelse:
                self.visit(child)
        elif isinstance(node.test, ast.Compare) and self._name_of(node.test.left) == "__name__":
            # Neither the build nor a request runs it.
            return
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node, False)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node, True)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._functions.append(False)
        self.visit(node.body)
        self._functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = self._name_of(node.func)
        if name is not None:
            if self._functions:
                self._check_call(node, name)
            else:
                self._check_call_at_import(node, name)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not self._functions and self._name_of(node.value) == "os.environ" and isinstance(node.ctx, ast.Load):
            self._warn(node, ENVIRONMENT.format(what="os.environ"))
        self.generic_visit(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, is_async: bool) -> None:
        # Decorators, defaults and annotations are evaluated where the function is defined.
        for outside in (*node.decorator_list, node.args):
            self.visit(outside)
        in_try, self._in_try = self._in_try, 0
        self._functions.append(is_async)
        for child in node.body:
            self.visit(child)
        self._functions.pop()
        self._in_try = in_try

    def _check_import(self, node: ast.stmt, module: str, members: frozenset[str] | set[str] = frozenset()) -> None:
        top = module.partition(".")[0]
        if top in ABSENT:
            sure = not (self._in_try or self._functions)
            self._add(node, f"{top} is not there in a component{': the build fails' if sure else ''}", sure)
            return
        for name in (module, *sorted(members), top):
            if name in IMPORTS:
                self._warn(node, f"{name}: {IMPORTS[name]}")
                break
        if top in sys.stdlib_module_names or top in self._own or module in self._own or top == "covet":
            return
        if self._functions and not self._in_try and _find_module(module) is None:
            self._warn(node, f"there is no module {module!r}: this import fails in every request")
        elif self._declared is not None:
            self._check_declared(node, top)

    def _check_declared(self, node: ast.stmt, top: str) -> None:
        assert self._declared is not None
        packages = self._declared.by_module.get(top, [])
        if packages and not any(_normal(package) in self._declared.packages for package in packages):
            where = self._declared.source or "a pyproject.toml or requirements.txt"
            self._warn(node, f"{top} is of the package {packages[0]}, which covet build bundles only if {where} names it")

    def _check_call(self, node: ast.Call, name: str) -> None:
        """What is called in a request."""
        if self._functions[-1] and (instead := BLOCKING.get(name)) is not None:
            self._warn(node, f"{name} in a coroutine keeps every other request of its instance waiting; {instead}")
        elif name in ("importlib.import_module", "__import__"):
            self._warn(node, f"{name}: nothing can be imported after the build; import it at the top of the module")
        elif name in CALLS:
            self._warn(node, f"{name}: {CALLS[name]}")
        elif name == "open" or name.endswith((".open", ".read_text", ".read_bytes", ".write_text", ".write_bytes")):
            self._check_file(node, name)

    def _check_file(self, node: ast.Call, name: str) -> None:
        method = name.rpartition(".")[2]
        if method.startswith("write_") or (method == "open" and "w" in _mode(node, name)):
            self._warn(node, f"{name}: a component has no file system to write to")
            return
        literal = self._path_literal(node, name)
        if literal is None or self._bundled is None:
            return
        if posixpath.isabs(literal):
            self._warn(node, f"{literal!r} is not there in a component, which has only the files of its project")
        elif posixpath.normpath(literal) not in self._bundled:
            self._warn(
                node, f"{literal!r} is not bundled; name it with `include` in [tool.covet] of pyproject.toml, or --include"
            )

    def _path_literal(self, node: ast.Call, name: str) -> str | None:
        """The path that is read, where the source says it: `open("x")`, `Path("x").read_text()`."""
        argument: ast.expr | None = None
        if name in ("open", "io.open"):
            argument = node.args[0] if node.args else None
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
            inner = node.func.value
            if self._name_of(inner.func) == "pathlib.Path" and len(inner.args) == 1:
                argument = inner.args[0]
        return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None

    def _check_call_at_import(self, node: ast.Call, name: str) -> None:
        """What is called in the build."""
        if name in ("os.getenv", "os.environ.get"):
            self._warn(node, ENVIRONMENT.format(what=name))
        elif name in ONCE or name.startswith("secrets."):
            self._warn(node, f"{name} runs in the build: what it gives is in the component, the same in every request")

    def _name_of(self, node: ast.expr) -> str | None:
        """The dotted name of what an expression stands for, as far as the module's imports tell."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self._name_of(node.value)
            return f"{base}.{node.attr}" if base is not None else None
        if isinstance(node, ast.Call):
            base = self._name_of(node.func)
            return f"{base}()" if base is not None else None
        return None

    def _warn(self, node: ast.AST, message: str) -> None:
        self._add(node, message, False)

    def _add(self, node: ast.AST, message: str, sure: bool) -> None:
        line: int = getattr(node, "lineno", 1)
        self.findings.append(Finding(self._path, line, message, "error" if sure else "warning"))


def _mode(node: ast.Call, name: str) -> str:
    """`w` if a file is opened for writing, as far as the source says."""
    position = 1 if name in ("open", "io.open") else 0
    mode: ast.expr | None = node.args[position] if len(node.args) > position else None
    for keyword in node.keywords:
        if keyword.arg == "mode":
            mode = keyword.value
    if isinstance(mode, ast.Constant) and isinstance(mode.value, str) and set(mode.value) <= set("rwxabt+"):
        return "w" if set(mode.value) & set("wxa+") else "r"
    return "r"


def _bundled(target: Target, modules: list[Path]) -> frozenset[str]:
    sources = [path.relative_to(target.import_root) for path in modules]
    files = find_files(target, sources, read_settings(target.project))
    return frozenset(name for file in files for name in file.names)


def _declared(target: Target) -> Declared:
    source, lines = find_requirements(target.project)
    found: set[str] = set()
    waiting = [name for line in lines if (name := _package_of(line)) is not None]
    while waiting:
        name = _normal(waiting.pop())
        if name not in found:
            found.add(name)
            waiting += _needed_by(name)
    by_module = {module: list(names) for module, names in importlib.metadata.packages_distributions().items()}
    return Declared(source, frozenset(found), by_module)


def _needed_by(package: str) -> Iterator[str]:
    try:
        requirements = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        if (name := _package_of(requirement)) is not None:
            yield name


def _package_of(requirement: str) -> str | None:
    match = _PACKAGE.match(requirement)
    return match[0] if match else None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _find_module(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


_THREADS = "a component has no threads: starting one fails"
_SOCKETS = "a component has no sockets"
_PROCESSES = "a component cannot start processes"
_NETWORK = "it needs sockets, which a component does not have"
_INLINE = "its function runs in line, in the thread of the event loop"
_FILES = "a component has no file system to write to"
_LOOP = "the event loop of a component is running already; await the coroutine"

#: Modules of the standard library that a component does not have.
ABSENT = frozenset({
    "bz2", "crypt", "ctypes", "curses", "dbm", "fcntl", "grp", "lzma", "mmap", "pty", "pwd", "readline", "resource",
    "syslog", "termios", "tkinter", "tty", "turtle",
})  # fmt: skip
IMPORTS = {
    "threading": f"{_THREADS}; locks and threading.local do work",
    "_thread": _THREADS,
    "concurrent.futures": f"{_THREADS}, and so does a process; asyncio.gather overlaps what waits",
    "multiprocessing": _PROCESSES,
    "subprocess": _PROCESSES,
    "signal": "a component gets no signals",
    "socket": _SOCKETS,
    "socketserver": _SOCKETS,
    "select": _SOCKETS,
    "selectors": _SOCKETS,
    "ssl": _SOCKETS,
    "ftplib": _NETWORK,
    "http.client": _NETWORK,
    "imaplib": _NETWORK,
    "poplib": _NETWORK,
    "smtplib": _NETWORK,
    "telnetlib": _NETWORK,
    "urllib.request": _NETWORK,
    "xmlrpc.client": _NETWORK,
    "aiohttp": _NETWORK,
    "asyncpg": _NETWORK,
    "psycopg": _NETWORK,
    "psycopg2": _NETWORK,
    "pymongo": _NETWORK,
    "pymysql": _NETWORK,
    "redis": _NETWORK,
    "requests": _NETWORK,
    "urllib3": _NETWORK,
}
BLOCKING = {
    "time.sleep": "use `await asyncio.sleep(...)`",
    "input": "there is nobody to answer",
    "requests.get": "and it needs sockets",
    "requests.post": "and it needs sockets",
    "requests.request": "and it needs sockets",
    "urllib.request.urlopen": "and it needs sockets",
}
CALLS = {
    "asyncio.run": _LOOP,
    "asyncio.new_event_loop": _LOOP,
    "asyncio.get_event_loop().run_until_complete": _LOOP,
    "asyncio.to_thread": _INLINE,
    "asyncio.get_event_loop().run_in_executor": _INLINE,
    "asyncio.get_running_loop().run_in_executor": _INLINE,
    "asyncio.create_subprocess_exec": _PROCESSES,
    "asyncio.create_subprocess_shell": _PROCESSES,
    "asyncio.open_connection": _SOCKETS,
    "asyncio.start_server": _SOCKETS,
    "os.fork": _PROCESSES,
    "os.popen": _PROCESSES,
    "os.system": _PROCESSES,
    "os.makedirs": _FILES,
    "os.mkdir": _FILES,
    "os.remove": _FILES,
    "os.rename": _FILES,
    "os.replace": _FILES,
    "os.unlink": _FILES,
    "shutil.copy": _FILES,
    "shutil.copyfile": _FILES,
    "shutil.move": _FILES,
    "shutil.rmtree": _FILES,
    "tempfile.NamedTemporaryFile": _FILES,
    "tempfile.TemporaryDirectory": _FILES,
    "tempfile.mkdtemp": _FILES,
    "tempfile.mkstemp": _FILES,
}
#: What gives something else at each call, and in a build only once.
ONCE = frozenset({
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "os.getpid", "os.urandom", "time.time",
    "time.time_ns", "uuid.uuid1", "uuid.uuid4",
})  # fmt: skip
ENVIRONMENT = (
    "{what} is read in the build, which knows nothing of the operator's variables; read it in a handler, or in a function for "
    "@app.on_event('startup')"
)
_IGNORED = re.compile(r"#\s*covet:\s*ignore\b")
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
