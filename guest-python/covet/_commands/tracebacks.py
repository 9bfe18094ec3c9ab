"""Tracebacks for the author of an application, while he develops it: what is his comes first."""

import importlib
import logging
import os
import sysconfig
import traceback
from pathlib import Path

__all__ = ["DevelopmentFormatter", "format_error"]


def format_error(error: BaseException, root: Path) -> str:
    """The exception, with the frames of the application's own files before those of libraries.

    `root` is the folder of the application. Each part has the most recent call last, and frames of the framework that only
    lead to the application are left out. Causes come before what they caused, as in Python.
    """
    return "\n".join(_parts(traceback.TracebackException.from_exception(error, compact=True), root, set())).rstrip("\n")


class DevelopmentFormatter(logging.Formatter):
    """Formats log records for a terminal; exceptions as `format_error` does."""

    def __init__(self, root: Path) -> None:
        super().__init__("%(levelname)-8s %(message)s")
        self._root = root

    def formatException(self, ei: object) -> str:
        error = ei[1] if isinstance(ei, tuple) else None
        return format_error(error, self._root) if isinstance(error, BaseException) else ""


def _parts(shown: traceback.TracebackException, root: Path, seen: set[int]) -> list[str]:
    parts: list[str] = []
    seen.add(id(shown))
    before, words = shown.__cause__, CAUSE
    if before is None and not shown.__suppress_context__:
        before, words = shown.__context__, CONTEXT
    if before is not None and id(before) not in seen:
        parts += [*_parts(before, root, seen), "", words, ""]
    own = [frame for frame in shown.stack if _is_own(frame.filename, root)]
    others = [frame for frame in shown.stack if not (_is_own(frame.filename, root) or _is_machinery(frame.filename))]
    # Libraries that only called the application say nothing about it; those that it called may have raised.
    last = shown.stack[-1] if shown.stack else None
    raised_elsewhere = bool(own) and last is not None and not _is_own(last.filename, root)
    if raised_elsewhere:
        begin = max(number for number, frame in enumerate(shown.stack) if _is_own(frame.filename, root))
        others = [frame for frame in shown.stack[begin + 1 :] if not _is_machinery(frame.filename)]
    elif own:
        others = []
    if own:
        parts.append("In the application (most recent call last):")
        parts += _lines(own, root)
    if others:
        parts.append("and from there in libraries:" if own else "In libraries (most recent call last):")
        parts += _lines(others, root)
    parts.append("".join(shown.format_exception_only()).rstrip("\n"))
    for number, one in enumerate(shown.exceptions or (), 1):
        # The members of an exception group.
        parts.append(f"  {number}.")
        parts += [f"  {line}" for part in _parts(one, root, seen) for line in part.splitlines()]
    return parts


def _lines(frames: list[traceback.FrameSummary], root: Path) -> list[str]:
    summary = traceback.StackSummary.from_list(frames)
    for frame in summary:
        frame.filename = _shown(frame.filename)
    return ["".join(summary.format()).rstrip("\n")]


def _shown(filename: str) -> str:
    relative = os.path.relpath(filename) if os.path.isabs(filename) else filename
    return filename if relative.startswith("..") else relative


def _is_own(filename: str, root: Path) -> bool:
    if filename.startswith(("<", *_LIBRARIES)):
        return False
    path = Path(os.path.abspath(filename))
    return root in path.parents and not {"site-packages", "dist-packages"} & set(path.parts)


def _is_machinery(filename: str) -> bool:
    return filename.startswith(("<frozen ", "<route ", _FRAMEWORK)) or filename == importlib.__file__


CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"
_FRAMEWORK = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LIBRARIES = (*(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")), _FRAMEWORK)
