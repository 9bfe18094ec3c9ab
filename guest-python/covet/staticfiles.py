"""Folders of files: `StaticFiles`, for `app.mount("/static", StaticFiles("static"))`."""

import errno
import importlib.util
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import _files
from .exceptions import HTTPException
from .files import FileResponse
from .responses import RedirectResponse, Response

if TYPE_CHECKING:
    from .requests import Request

__all__ = ["StaticFiles"]


class StaticFiles:
    """Serves the files below a folder, and nothing else: no hidden files, and nothing that links lead to outside.

    `packages` are more folders: names of packages, whose folder `statics` is meant, or pairs of a package and a folder in
    it. With `html` a folder is answered with its `index.html`, and what is missing with `404.html` if there is one. A folder
    that does not exist raises RuntimeError, unless `check_dir` is False. `follow_symlink` allows links to files elsewhere.

    In a component it serves what was bundled; folders called `static` and `public`, among others, are without being named.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        packages: Sequence[str | tuple[str, str]] = (),
        html: bool = False,
        check_dir: bool = True,
        follow_symlink: bool = False,
    ) -> None:
        self.directory = directory
        self.html = html
        self.follow_symlink = follow_symlink
        self.directories = [os.fspath(directory)] if directory is not None else []
        self.directories += [_folder_of(package) for package in packages]
        if not self.directories:
            raise TypeError("StaticFiles needs a directory, or packages")
        if check_dir and directory is not None and not os.path.isdir(directory):
            raise RuntimeError(f"there is no folder {os.fspath(directory)!r} for StaticFiles in {os.getcwd()}")

    def __call__(self, request: "Request") -> Response:
        """Answers a request for the file whose path is the parameter `path`. Raises HTTPException 404 if there is none."""
        if request.method not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        path = request.path_params.get("path", "")
        parts = _parts(path)
        if parts is not None:
            found = self._find(parts)
            if found is not None and stat.S_ISREG(found[1].st_mode) and not path.endswith("/"):
                return FileResponse(found[0], stat_result=found[1])
            if found is not None and stat.S_ISDIR(found[1].st_mode) and self.html:
                index = self._file([*parts, "index.html"])
                if index is not None:
                    return _redirect_to_folder(request) or index
        if self.html:
            missing = self._file(["404.html"])
            if missing is not None:
                missing.status_code = 404
                return missing
        raise HTTPException(404)

    def _file(self, parts: list[str]) -> FileResponse | None:
        found = self._find(parts)
        if found is None or not stat.S_ISREG(found[1].st_mode):
            return None
        return FileResponse(found[0], stat_result=found[1])

    def _find(self, parts: list[str]) -> tuple[str, os.stat_result] | None:
        for directory in self.directories:
            path = os.path.join(directory, *parts)
            try:
                entry = _files.bundled(path)
                if entry is not None:
                    # The tree of a component has no links.
                    return path, entry.status
                status = os.stat(path)
            except OSError as error:
                if error.errno in _NOTHING_THERE:
                    continue
                raise
            if self.follow_symlink or _is_below(path, directory):
                return path, status
        return None


def _parts(path: str) -> list[str] | None:
    """The names of a path; None if it is one that no file below a folder can have, or must not be found by."""
    if path.startswith("/") or "\\" in path or "\0" in path:
        return None
    parts = [part for part in path.split("/") if part]
    if any(part.startswith(".") for part in parts):
        return None
    if os.name == "nt" and ":" in path:
        return None
    return parts


def _is_below(path: str, directory: str) -> bool:
    real, root = os.path.realpath(path), os.path.realpath(directory)
    return real == root or real.startswith(os.path.join(root, ""))


def _redirect_to_folder(request: "Request") -> Response | None:
    """The URL of a folder ends with a slash, or links in its pages would lead beside it."""
    path, mark, query = request.target.partition("?")
    return None if path.endswith("/") else RedirectResponse(f"{path}/{mark}{query}")


def _folder_of(package: str | tuple[str, str]) -> str:
    name, folder = (package, "statics") if isinstance(package, str) else package
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"there is no package {name!r} for StaticFiles")
    path = os.path.join(os.path.dirname(spec.origin), folder)
    if not os.path.isdir(path):
        raise RuntimeError(f"the package {name!r} has no folder {folder!r}")
    return path


#: What tells that there is no such file, or that nobody may see it.
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)
