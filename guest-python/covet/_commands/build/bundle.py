"""Which files of a project go into the component, to be read by requests. Those of packages are found in the component."""

import glob
import os
import posixpath
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .project import BuildError, Target

__all__ = ["File", "Settings", "copy_files", "expression_of", "find_files", "read_settings"]


@dataclass(frozen=True)
class Settings:
    """What `[tool.covet]` of pyproject.toml says about files."""

    #: Patterns of files to take beside the usual folders, relative to the project.
    include: tuple[str, ...] = ()
    #: Patterns of files to leave out, relative to the project or to the folder in which packages are installed.
    exclude: tuple[str, ...] = ()
    #: Bytes of all files together, those of packages too.
    bytes_max: int = 64 << 20


@dataclass(frozen=True)
class File:
    """A file for the component."""

    #: Where it is.
    path: Path
    #: Its paths in the component, relative to the import root.
    names: tuple[str, ...]


def read_settings(project: Path, include: Sequence[str] = ()) -> Settings:
    """Reads the settings of a project, and adds patterns from the command line."""
    path = project / "pyproject.toml"
    table: dict[str, Any] = {}
    if path.is_file():
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("covet", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BuildError(f"{path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise BuildError(f"{path}: [tool.covet] is not a table")
    if unknown := sorted(table.keys() - KEYS):
        raise BuildError(f"{path}: [tool.covet] has no {unknown[0]!r}; it has {', '.join(sorted(KEYS))}")
    patterns = {}
    for key in ("include", "exclude"):
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(pattern, str) for pattern in value):
            raise BuildError(f"{path}: {key} in [tool.covet] is not a list of strings")
        patterns[key] = value
    mebibytes = table.get("bundle-max-mib", Settings.bytes_max >> 20)
    if not isinstance(mebibytes, int) or isinstance(mebibytes, bool) or not 0 <= mebibytes <= MEBIBYTES_MAX:
        raise BuildError(f"{path}: bundle-max-mib in [tool.covet] is not a number from 0 to {MEBIBYTES_MAX}")
    for pattern in (*patterns["include"], *patterns["exclude"], *include):
        if not pattern.strip("/") or pattern.startswith("/") or ".." in pattern.split("/"):
            raise BuildError(f"{pattern!r} is no pattern for files of the project: it begins in {project}, and stays there")
    return Settings((*patterns["include"], *include), tuple(patterns["exclude"]), mebibytes << 20)


def find_files(target: Target, sources: Iterable[Path], settings: Settings) -> list[File]:
    """The files of the project, by their paths. `sources` are those of the application, relative to the import root.

    They are what is in folders called FOLDERS, in the project, beside its modules and at the import root, and what the
    settings name. Raises BuildError for a pattern that finds nothing, and when they are too large.
    """
    places = {target.project, target.import_root}
    places |= {target.import_root / path.parent for path in sources if path.suffix == ".py"}
    found: set[Path] = set()
    for place in places:
        for name in FOLDERS:
            found.update(path for path in _walk(place / name) if path.suffix != ".py")
    for pattern in settings.include:
        named = set(_named(target.project, pattern))
        if not named:
            raise BuildError(f"{pattern!r}, which is to be included, finds no file in {target.project}")
        found |= named
    left_out = re.compile("|".join(map(expression_of, settings.exclude)) or "(?!)")
    files = [_file(path, target) for path in sorted(found) if not left_out.fullmatch(_relative(path, target.project))]
    _check_size(files, target, settings)
    return files


def copy_files(files: Sequence[File], into: Path, mounted: str, root: str) -> list[list[str]]:
    """Copies files to where the component is built from. `mounted` is how that folder is called there, `root` the import
    root. Returns where each of them is there, and all its paths, as `_files.load` wants it."""
    copied = []
    for number, file in enumerate(files):
        # Its content and its time; owner and permissions play no part.
        shutil.copyfile(file.path, into / str(number))
        status = file.path.stat()
        os.utime(into / str(number), ns=(status.st_mtime_ns, status.st_mtime_ns))
        copied.append([f"{mounted}/{number}", *(posixpath.normpath(f"{root}/{name}") for name in file.names)])
    return copied


def expression_of(pattern: str) -> str:
    """The regular expression for the paths that a pattern matches, and for all below them.

    `*` and `?` stand for parts of a name, `**` for any number of folders. A pattern without a `/` is one for names, in
    whichever folder they are.
    """
    parts = pattern.strip("/").split("/")
    if len(parts) == 1:
        parts.insert(0, "**")
    expression = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            expression += ".+" if last else "(?:[^/]+/)*"
        else:
            expression += _expression_of_name(part) + ("" if last else "/")
    return f"(?s:{expression}(?:/.*)?)"


def _expression_of_name(pattern: str) -> str:
    def replace(match: re.Match[str]) -> str:
        text = match[0]
        if text in ("*", "?"):
            return "[^/]*" if text == "*" else "[^/]"
        if len(text) > 1:
            return f"[{'^' if text[1] == '!' else ''}{re.escape(text[1:-1].removeprefix('!')).replace(chr(92) + '-', '-')}]"
        return re.escape(text)

    return re.sub(r"\[!?[^\]]+\]|.", replace, pattern, flags=re.DOTALL)


def _named(project: Path, pattern: str) -> Iterator[Path]:
    for name in glob.glob(pattern, root_dir=project, recursive=True):
        path = project / name
        if path.is_file():
            yield path
        else:
            yield from _walk(path)


def _walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones and what only tools need."""
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in JUNK_FOLDERS]
        for name in names:
            path = Path(directory, name)
            if not name.startswith(".") and path.suffix not in JUNK_SUFFIXES and path.is_file():
                yield path


def _file(path: Path, target: Target) -> File:
    names = [_relative(path, target.import_root)]
    if target.project != target.import_root and target.import_root not in path.parents:
        # The working directory of the component is the import root; where `covet dev` runs it is the project.
        names.append(_relative(path, target.project))
    return File(path, tuple(names))


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _check_size(files: list[File], target: Target, settings: Settings) -> None:
    sizes = {file: file.path.stat().st_size for file in files}
    if sum(sizes.values()) > settings.bytes_max:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:3]
        shown = ", ".join(f"{_relative(file.path, target.project)} {size / 1e6:.1f} MB" for file, size in largest)
        raise BuildError(
            f"the files for the component are larger than {settings.bytes_max >> 20} MiB ({shown}). Leave out what is not "
            "needed with `exclude` in [tool.covet] of pyproject.toml, or raise `bundle-max-mib` there"
        )


#: What `[tool.covet]` may hold.
KEYS = frozenset({"include", "exclude", "bundle-max-mib"})
#: A component can address 4 GiB.
MEBIBYTES_MAX = 2048
#: Folders whose files requests may read without being named.
FOLDERS = ("assets", "public", "static", "templates")
JUNK_FOLDERS = frozenset({"__pycache__", "node_modules"})
JUNK_SUFFIXES = frozenset({".pyc", ".pyo"})
