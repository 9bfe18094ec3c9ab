"""`covet new`: makes a project from a template that is shipped with covet."""

import re
from pathlib import Path

from .build.project import BuildError

__all__ = ["TEMPLATES", "create", "next_steps"]

#: What there is, with what `--help` says of it.
TEMPLATES = {
    "minimal": "three routes, and a test for each",
    "api": "users, items, search, signing in, uploads, streams, errors, a part for administrators",
    "fastapi": "the same as api, written for FastAPI, which runs unmodified",
}


def create(name: str, template: str) -> tuple[Path, list[Path]]:
    """Makes the project. Returns its folder, and its files relative to that.

    `name` is a path, whose last part becomes the name of the project. Raises BuildError if the folder has files already.
    """
    folder = Path(name)
    project = folder.resolve().name
    if not _NAME.fullmatch(project):
        raise BuildError(
            f"{project!r} is no name for a project: letters, digits, `-`, `_` and `.`, and a letter or digit first"
        )
    if folder.exists() and not folder.is_dir():
        raise BuildError(f"{folder} is a file; give the name of a new folder")
    if folder.is_dir() and (kept := sorted(path.name for path in folder.iterdir() if path.name != ".git")):
        raise BuildError(f"{folder} is not empty: it has {', '.join(kept[:3])}{' and more' if len(kept) > 3 else ''}")
    source = Path(__file__).parent / "templates" / template
    files = []
    for path in sorted(source.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        relative = path.relative_to(source)
        # It would be in effect where the templates are.
        relative = relative.with_name(".gitignore") if relative.name == "gitignore" else relative
        _write(folder / relative, path.read_text(encoding="utf-8").replace(PLACEHOLDER, project))
        files.append(relative)
    if not files:
        raise BuildError(f"this installation of covet is not whole: {source} has no files")
    return folder, files


def next_steps(folder: Path, template: str) -> str:
    """What to do with a new project."""
    needed = " fastapi python-multipart" if template == "fastapi" else ""
    enter = "" if folder.resolve() == Path.cwd() else f"  cd {folder}\n"
    return (
        f"Next:\n{enter}"
        f"  pip install 'covet[dev]'{needed}\n"
        "  covet dev main:app      # serve it natively, and again after every change\n"
        "  pytest                  # run its tests\n"
        "  covet run main:app      # build the component and serve it with covet-host"
    )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{path} cannot be written: {error.strerror}") from None


PLACEHOLDER = "PROJECT_NAME"
#: As Python packages are called (PyPA, "Names and normalization").
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
