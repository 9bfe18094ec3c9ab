"""Imports in the build what functions would import later, when there are no files any more.

The imports are found in the code of the functions that are there, generated and nested ones included: those of the
application and of its dependencies, and where there are dependencies also those of the standard library. Dependencies that
make their attributes when they are asked for (PEP 562), such as pydantic and anyio, are asked for all of them. What an import
brings is looked at too, until nothing is new. The framework imports what it needs by itself.
"""

import dis
import gc
import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import resolve_name
from types import CodeType, FunctionType
from typing import Any

__all__ = ["import_all"]


def import_all(packages: str) -> None:
    """Imports the modules. `packages` is the folder of the dependencies."""
    seen: set[CodeType] = set()
    tried: set[str] = set()
    asked: set[str] = set()
    while True:
        found = [name for name in _wanted(seen, packages) if name not in tried]
        for name in found:
            if name not in tried:
                tried.add(name)
                if name not in sys.modules and name.partition(".")[0] not in UNWANTED:
                    _import(name)
        if not (_make_attributes(asked, packages) or found):
            return


def _make_attributes(asked: set[str], packages: str) -> bool:
    """Asks modules for the attributes that they say they have. Returns whether there was one that had not been asked."""
    lazy = [
        (name, module)
        for name, module in list(sys.modules.items())
        if "__getattr__" in vars(module) and name not in asked and _file_of(vars(module)).startswith(packages + "/")
    ]
    for name, module in lazy:
        asked.add(name)
        attributes: set[str] = set()
        with suppress(Exception):
            attributes = {*vars(module).get("__all__", ()), *dir(module)}.difference(vars(module))
        for attribute in attributes:
            with warnings.catch_warnings(), suppress(Exception):
                warnings.simplefilter("ignore")
                getattr(module, attribute)
    return bool(lazy)


def _wanted(seen: set[CodeType], packages: str) -> Iterator[str]:
    """The modules that functions import which have not been looked at yet."""
    has_packages = any(_file_of(vars(module)).startswith(packages + "/") for module in list(sys.modules.values()))
    for function in [value for value in gc.get_objects() if type(value) is FunctionType]:
        names = function.__globals__
        is_standard = _file_of(names).startswith(_STANDARD_LIBRARY)
        if function.__code__ in seen or (is_standard and not has_packages) or _is_ours(names):
            continue
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            seen.add(code)
            codes += [constant for constant in code.co_consts if type(constant) is CodeType]
            if _IMPORT in code.co_code[::2]:
                wanted = _imported(code, names.get("__package__"))
                yield from (name for name in wanted if not (is_standard and name in _TOOLS))


def _imported(code: CodeType, package: object) -> Iterator[str]:
    before: list[Any] = [0, None]
    for instruction in dis.get_instructions(code):
        if instruction.opcode == _IMPORT:
            # What is imported stands in the instruction, and before it the number of dots and the names after `import`.
            (level, members), name = before, instruction.argval
            if level:
                if not isinstance(package, str) or not package:
                    continue
                try:
                    name = resolve_name("." * level + name, package)
                except ImportError:
                    continue
            yield name
            yield from (f"{name}.{member}" for member in members or () if member != "*")
        before = [before[1], instruction.argval]


def _import(name: str) -> None:
    package, _, member = name.rpartition(".")
    if package:
        parent = sys.modules.get(package)
        if parent is None or not hasattr(parent, "__path__") or member in vars(parent):
            # What is imported from a module mostly is no module.
            return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    except Exception:
        # The function that imports it meets the error, as it would natively.
        return


def _file_of(names: dict[str, Any]) -> str:
    file = names.get("__file__")
    return file if isinstance(file, str) else ""


def _is_ours(names: Mapping[str, Any]) -> bool:
    return str(names.get("__package__")).partition(".")[0] == "covet"


_IMPORT = dis.opmap["IMPORT_NAME"]
_STANDARD_LIBRARY = warnings.__file__.rpartition("/")[0] + "/"

#: Packages that are of no use in a component, since they need a terminal, processes, threads or sockets, or test others.
UNWANTED = frozenset(
    {
        *("IPython", "_pyrepl", "_pytest", "bdb", "cmd", "code", "curses", "dns", "doctest", "ensurepip", "hypothesis"),
        *("idlelib", "multiprocessing", "pdb", "pip", "pydoc", "pytest", "readline", "rlcompleter", "setuptools", "test"),
        *("tkinter", "trio", "turtle", "unittest", "uvloop", "venv", "webbrowser", "winloop"),
    }
)
#: Modules that the standard library only imports for its command lines, for other systems, for processes or for sockets.
_TOOLS = frozenset(
    {
        *("__mp_main__", "_aix_support", "_android_support", "_ios_support", "_osx_support", "_sysconfig", "argparse"),
        *("concurrent.futures.process", "ftplib", "getopt", "gettext", "http.server", "netrc", "plistlib", "py_compile"),
        *("runpy", "site", "sitecustomize", "socketserver", "tarfile", "tracemalloc", "urllib.request", "usercustomize"),
    }
)
