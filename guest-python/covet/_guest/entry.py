"""What runs inside the component while it is built: imports the application and leaves everything ready to serve.

`covet build` makes a small module that calls `load`, which componentize-py imports. What it finds, good or bad, goes into
a report file for the build tool, because componentize-py shows little of what a guest prints.
"""

import importlib
import importlib.util
import json
import linecache
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from types import CodeType, ModuleType
from typing import Any

from covet import _files
from covet._asgi import application, warmup
from covet.applications import CovetPy
from covet.exceptions import HostUnavailable

from . import absent, bridge, output, settle
from . import logging as _logging
from . import random as _random
from . import warmup as _warmup

__all__ = ["load"]


def load(config_file: str) -> tuple[type, type]:
    """Imports the application that the build tool describes. Returns the classes that the bindings look for."""
    from covet._asgi import anyio

    from . import late_imports

    with open(config_file, encoding="utf-8") as file:
        config: dict[str, Any] = json.load(file)
    sys.dont_write_bytecode = True
    bridge.connect()
    _random.install()
    output.install()
    _logging.install()
    _files.install()
    report: dict[str, Any] = {}
    try:
        with output.collected_in(config["output"]), _without_host():
            _use_sources(config["app_root"], config["roots"])
            _use_files(config["app_root"], config["bundle"])
            absent.install()
            app = _find_app(importlib.import_module(config["module"]), config["attribute"])
            _import_late(config["late_imports"])
            late_imports.import_all(config["roots"]["dependencies"])
            anyio.install()
            # Its author's: the ones of the document and its pages are not told.
            routes = list(app.routes)
            app._finish()
            _warmup.run()
            if isinstance(app, application.ASGIApplication):
                warmup.prepare(app.app)
                warmup.run()
            handler, exported = bridge.exports(app)
            report["files"] = _keep_files(config["bundle"])
        report["routes"] = [(method or "*", route.path, route.name) for route in routes for method in route.methods]
        report["modules"] = _modules_by_root(config["roots"])
    except BaseException as error:
        report["error"] = _describe(error)
        raise SystemExit(1) from None
    finally:
        with open(config["report"], "w", encoding="utf-8") as file:
            json.dump(report, file)
    bridge.run_from_now_on()
    _files.seal()
    linecache.checkcache = _keep_lines
    # In front of the one that looks for files, which takes its time to find that there are none.
    sys.meta_path.insert(sys.meta_path.index(PathFinder), _NothingLater())
    # What the application drew while it was imported is known to everyone who has the component.
    _random.restart()
    settle.settle()
    return handler, exported


class AppError(Exception):
    """The application cannot be served; the message is for its author."""


def _find_app(module: ModuleType, attribute: str | None) -> Any:
    """The application in a module: what was named, or the only one there is. A CovetPy, or an ASGIApplication."""
    name = module.__name__
    if attribute is not None:
        app: Any = module
        for part in attribute.split("."):
            if not hasattr(app, part):
                raise AppError(f"the module {name!r} has no {attribute!r}{_candidates(module)}")
            app = getattr(app, part)
        if isinstance(app, CovetPy):
            return app
        if not isinstance(app, type) and application.is_asgi(app):
            return application.ASGIApplication(app)
        kind = type(app).__name__
        raise AppError(f"'{name}:{attribute}' is a {kind}, neither a CovetPy nor an ASGI application{_candidates(module)}")
    found = _applications(module)
    if not found:
        raise AppError(
            f"the module {name!r} has no application: it needs a line like `app = CovetPy()`, or `app = FastAPI()`; "
            f"one of another name is built with {name}:NAME"
        )
    if len(found) > 1:
        names = ", ".join(f"{name}:{key}" for key in found)
        raise AppError(f"the module {name!r} has several applications; name one of {names}")
    ((_, only),) = found.items()
    return only if isinstance(only, CovetPy) else application.ASGIApplication(only)


def _applications(module: ModuleType) -> dict[str, Any]:
    """The applications of a module, by name, each once: the CovetPys, and only where there is none those of ASGI."""
    found = {id(value): (key, value) for key, value in vars(module).items() if isinstance(value, CovetPy)}
    if not found:
        # By name, because an application may have others in it, and any asynchronous function could be one.
        for key in _ASGI_NAMES:
            value = getattr(module, key, None)
            if value is not None and not isinstance(value, type) and application.is_asgi(value):
                return {key: value}
    return dict(found.values())


def _candidates(module: ModuleType) -> str:
    names = _applications(module)
    return f"; it has {', '.join(f'{module.__name__}:{name}' for name in names)}" if names else ""


def _describe(error: BaseException) -> dict[str, Any]:
    """An error for the build tool: its kind, and the traceback from where the application's own code begins."""
    if isinstance(error, AppError):
        return {"kind": "app", "message": str(error)}
    formatted = traceback.TracebackException.from_exception(error)
    # What the author cannot change says nothing to him: the import system, and the framework.
    formatted.stack[:] = [frame for frame in formatted.stack if not _is_ours(frame.filename)]
    described: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": str(error),
        "traceback": "".join(formatted.format()),
    }
    if isinstance(error, ImportError):
        described["module"] = error.name
    return described


def _is_ours(filename: str) -> bool:
    framework = os.path.dirname(os.path.dirname(__file__))
    return filename.startswith((framework, "<frozen importlib")) or "/importlib/__init__.py" in filename


@contextmanager
def _without_host() -> Iterator[None]:
    """Makes a call of the host an exception with a place in the application, instead of a trap that has none."""
    import componentize_py_runtime as runtime

    def refuse(*arguments: object) -> Any:
        raise HostUnavailable(
            "the host was called while the application was imported; there is none while a component is built. "
            "Do it in a handler, or in a function for @app.on_event('startup')"
        )

    names = ("call_import", "stream_new", "future_new", "waitable_set_new")
    originals = {name: getattr(runtime, name) for name in names}
    for name in names:
        setattr(runtime, name, refuse)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(runtime, name, function)


class _AppLoader(SourceFileLoader):
    """Gives code the path that its author knows, and keeps its lines for tracebacks: there are no files later."""

    root = ""

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        name = os.path.relpath(path, self.root)
        text = importlib.util.decode_source(data)
        # Without a time, `linecache` does not look for the file.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        code: CodeType = compile(data, name, "exec", dont_inherit=True, optimize=_optimize)
        return code


def _use_sources(app_root: str, roots: dict[str, str]) -> None:
    """Puts the application before the standard library, as `python main.py` does, and its dependencies after it."""
    _AppLoader.root = app_root
    finder = FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (_AppLoader, SOURCE_SUFFIXES))

    def hook(path: str) -> Any:
        if path == app_root or path.startswith(app_root + "/"):
            return finder(path)
        raise ImportError

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
    sys.path.remove(app_root)
    sys.path.insert(0, app_root)


def _use_files(app_root: str, bundle: dict[str, Any]) -> None:
    """Gives the application its files under all their paths, and the working directory that it will have."""
    os.chdir(app_root)
    _files.load(app_root, bundle["files"])


def _keep_files(bundle: dict[str, Any]) -> tuple[int, int]:
    """Adds the files of the packages in the component. Returns the number of all files, and of their bytes."""
    _files.finish()
    try:
        return _files.load_package_data(bundle["packages"], bundle["exclude"], bundle["bytes_max"])
    except _files.BundleError as error:
        raise AppError(str(error)) from None


def _import_late(modules: Sequence[str]) -> None:
    """Imports what the application imports inside of functions, which would fail later."""
    for name in modules:
        # If it fails, the function that imports it meets the error, as it would natively.
        with suppress(Exception):
            importlib.import_module(name)


def _modules_by_root(roots: dict[str, str]) -> dict[str, list[str]]:
    """The files of the modules that are in the component, by where they came from."""
    found: dict[str, list[str]] = {name: [] for name in roots}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        for name, root in roots.items():
            if path.startswith(root + "/"):
                found[name].append(os.path.relpath(path, root))
    return {name: sorted(set(files)) for name, files in found.items()}


def _keep_lines(filename: str | None = None) -> None:
    """In the place of `linecache.checkcache`, which drops the lines of files that it does not find."""


class _NothingLater(MetaPathFinder):
    """Says why a module is not found after the build."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        asking = sys._getframe(1)
        if asking.f_back is not None and asking.f_back.f_globals.get("__name__") == "importlib.util":
            # Somebody asks whether there is such a module, and there is none.
            return None
        raise ModuleNotFoundError(
            f"No module named {fullname!r}: a component can only import what was imported when it was built. "
            "Import it at the top of a module",
            name=fullname,
        )


#: What an ASGI application is called where nobody says it, as in `uvicorn main:app`.
_ASGI_NAMES = ("app", "application", "asgi", "api")
