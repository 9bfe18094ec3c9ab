"""Imports an application natively, for the commands that look at it or run it without a component."""

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from covet._guest.entry import AppError, _find_app

from .build.project import BuildError, Target

__all__ = ["LoadError", "load", "own_modules", "shown_traceback"]


class LoadError(BuildError):
    """The application cannot be imported; the message has the traceback from where its own code begins."""


def load(target: Target) -> Any:
    """The application: a CovetPy, or an ASGIApplication that has another one as its `app`.

    Raises LoadError, and BuildError where there is no application in the module.
    """
    root = str(target.import_root)
    if root not in sys.path:
        sys.path.insert(0, root)
    try:
        module = importlib.import_module(target.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # SystemExit too: some scripts end themselves.
        raise LoadError(f"{target} cannot be imported:\n\n{shown_traceback(error)}{_hint(error)}") from error
    try:
        return _find_app(module, target.attribute)
    except AppError as error:
        raise BuildError(str(error)) from None


def own_modules(target: Target) -> dict[str, Path]:
    """The modules of the application that are imported, by name, with their files."""
    found = {}
    for name, module in list(sys.modules.items()):
        path = _file_of(module)
        if path is not None and target.import_root in path.parents and not _is_installed(path, target.import_root):
            found[name] = path
    return found


def shown_traceback(error: BaseException) -> str:
    """A traceback without the frames of the import system and of covet at its beginning."""
    shown = traceback.TracebackException.from_exception(error)
    for one in (shown, shown.__cause__, shown.__context__):
        if one is not None:
            while one.stack and _is_machinery(one.stack[0].filename):
                del one.stack[0]
            one.stack[:] = [frame for frame in one.stack if not frame.filename.startswith("<frozen importlib")]
    return "".join(shown.format()).rstrip("\n")


def _hint(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    top = error.name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return ""
    return (
        f"\n\nIf {top!r} is a package, install it here, with `pip install`, and name it in [project].dependencies of "
        "pyproject.toml or in requirements.txt, so that `covet build` finds it too."
    )


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


def _is_installed(path: Path, root: Path) -> bool:
    """Whether a file below the project is a package that was installed there, in a virtual environment for example."""
    return any(part in ("site-packages", "dist-packages") for part in path.relative_to(root).parts)


def _is_machinery(filename: str) -> bool:
    return filename.startswith(("<frozen ", _FRAMEWORK)) or filename == importlib.__file__


_FRAMEWORK = os.path.dirname(os.path.dirname(__file__)) + os.sep
