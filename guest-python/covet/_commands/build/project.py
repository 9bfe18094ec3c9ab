"""Which application is meant, and which files belong to it."""

import ast
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BuildError", "Target", "copy_sources", "find_target", "late_imports"]


class BuildError(Exception):
    """Something that the author of the application can mend; the message says what and how."""


@dataclass(frozen=True)
class Target:
    """An application to build."""

    #: The folder that has pyproject.toml or requirements.txt, and whose files belong to the application.
    project: Path
    #: The folder below it from which the modules are imported.
    import_root: Path
    #: The module's name with dots.
    module: str
    #: The name of the application in it; None if it is the only one.
    attribute: str | None

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}" if self.attribute else self.module


def find_target(text: str, project: Path | None = None) -> Target:
    """Reads `module`, `module:name`, `path/to/file.py` or `path/to/file.py:name`.

    A module is looked for in the project, which is the current folder unless it is given, and in its folder `src`. The
    project of a file is the nearest folder above it with a pyproject.toml or requirements.txt, else its own folder.
    """
    place, _, name = text.partition(":") if not _is_drive(text) else (text, "", "")
    attribute = name or None
    if attribute is not None and not all(part.isidentifier() for part in attribute.split(".")):
        raise BuildError(f"{attribute!r} in {text!r} is not a name; expected module:name or file.py:name")
    if place.endswith(".py") or os.sep in place:
        return _target_of_file(Path(place), attribute, project)
    if not place or not all(part.isidentifier() for part in place.split(".")):
        raise BuildError(f"{text!r} is neither a module (main:app) nor a file (app/main.py)")
    folder = (project or Path.cwd()).resolve()
    for root in (folder, folder / "src"):
        path = root.joinpath(*place.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return Target(folder, root, place, attribute)
    raise BuildError(f"there is no module {place!r} in {_shown(folder)}{_suggestion(folder)}")


def _target_of_file(path: Path, attribute: str | None, project: Path | None) -> Target:
    if path.is_dir():
        raise BuildError(f"{path} is a folder; name the file with the application in it")
    if not path.is_file():
        raise BuildError(f"there is no file {path}")
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    if parts[-1] == "__init__":
        parts.pop()
    if not parts or not all(part.isidentifier() for part in parts):
        raise BuildError(f"{path.name} cannot be imported: a module's name is made of letters, digits and underscores")
    folder = (project or _project_of(root)).resolve()
    if folder != root and folder not in root.parents:
        raise BuildError(f"{path} is not in the project {folder}")
    return Target(folder, root, ".".join(parts), attribute)


def _project_of(folder: Path) -> Path:
    for candidate in (folder, *folder.parents):
        if any((candidate / name).is_file() for name in ("pyproject.toml", "requirements.txt")):
            return candidate
        if (candidate / ".git").exists() or candidate == Path.home():
            break
    return folder


def copy_sources(target: Target, into: Path) -> list[Path]:
    """Copies the application's files, without what does not belong into it. Returns them relative to the import root."""
    copied = []
    for path in sorted(_walk(target.import_root)):
        relative = path.relative_to(target.import_root)
        destination = into / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)
        copied.append(relative)
    return copied


def late_imports(folder: Path, files: list[Path]) -> list[str]:
    """The modules that are imported inside of functions. They must be imported while there are files."""
    names: dict[str, None] = {}
    for file in files:
        if file.suffix != ".py":
            continue
        try:
            tree = ast.parse((folder / file).read_bytes())
        except (SyntaxError, ValueError):
            # The import of the file says it better.
            continue
        package = ".".join(file.parent.parts)
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                for node in ast.walk(function):
                    names.update(dict.fromkeys(_imported(node, package)))
    return list(names)


def _imported(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parts = package.split(".") if package else []
        parts = parts[: len(parts) - node.level + 1]
        base = ".".join([*parts, base] if base else parts)
    if not base:
        return []
    return [base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")]


def _walk(root: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(root):
        here = Path(directory)
        folders[:] = sorted(name for name in folders if not _is_junk_folder(here / name))
        for name in files:
            path = here / name
            if name.startswith(".") or path.suffix in JUNK_SUFFIXES or not path.is_file():
                continue
            if path.suffix == ".py" or path.stat().st_size <= DATA_FILE_MAX:
                yield path


def _is_junk_folder(path: Path) -> bool:
    name = path.name
    return name.startswith(".") or name in JUNK_FOLDERS or name.endswith(".egg-info") or (path / "pyvenv.cfg").exists()


def _is_drive(text: str) -> bool:
    return len(text) > 2 and text[1] == ":" and text[2] in "\\/"


def _suggestion(folder: Path) -> str:
    files = sorted(path for path in folder.glob("*.py") if _APPLICATIONS.search(path.read_text(errors="replace")))
    return f"; perhaps you mean {files[0].stem}" if files else ""


def _shown(path: Path) -> str:
    return "the current folder" if path == Path.cwd() else str(path)


#: What a file has that may have an application in it.
_APPLICATIONS = re.compile(r"\b(CovetPy|FastAPI|Starlette)\(")
#: Folders that hold no part of an application.
JUNK_FOLDERS = frozenset({"__pycache__", "__pypackages__", "build", "dist", "node_modules", "target", "venv", "env"})
JUNK_SUFFIXES = frozenset({".pyc", ".pyo", ".wasm", ".cwasm", ".so", ".dll", ".dylib"})
#: Bytes. Modules may read files beside them while they are imported; larger ones are no part of a program.
DATA_FILE_MAX = 16 * 1024 * 1024
