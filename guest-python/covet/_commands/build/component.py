"""Makes the component: lays out copies of the sources, runs componentize-py on them, and reads what it has to say."""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import covet

from . import bundle as _bundle
from . import dependencies as _dependencies
from .progress import Progress
from .project import BuildError, Target, copy_sources, late_imports

__all__ = ["Built", "build", "fingerprint"]


@dataclass(frozen=True)
class Built:
    """A finished component."""

    path: Path
    #: Bytes.
    size: int
    #: Method, path and name of each.
    routes: list[tuple[str, str, str]]


def build(
    target: Target,
    output: Path,
    progress: Progress,
    *,
    python_path: Sequence[Path] = (),
    with_dependencies: bool = True,
    refresh: bool = False,
    include: Sequence[str] = (),
) -> Built:
    """Builds an application. Raises BuildError for everything that its author can mend.

    `include` are patterns of files that requests read, beside those of pyproject.toml; see `bundle`.
    """
    if not output.parent.is_dir():
        raise BuildError(f"there is no folder {output.parent} for {output.name}")
    settings = _bundle.read_settings(target.project, include)
    with tempfile.TemporaryDirectory(prefix="covet-build-") as temporary:
        # componentize-py lets the application write into these folders, so they are copies.
        work = Path(temporary)
        layout = Layout(work)
        with progress.step("Sources") as step:
            files = copy_sources(target, layout.app)
            _copy_framework(layout.framework)
            for number, folder in enumerate(python_path):
                if not folder.is_dir():
                    raise BuildError(f"--python-path {folder}: there is no such folder")
                shutil.copytree(folder, layout.extra(number), ignore=shutil.ignore_patterns("__pycache__", ".*", "*.pyc"))
            step.result = f"{_count(len(files), 'file')} of {target.import_root.name}"
        if with_dependencies:
            with progress.step("Dependencies") as step:
                installed = _dependencies.install(target.project, refresh, progress.line)
                if installed.folder is not None:
                    shutil.copytree(installed.folder, layout.dependencies, dirs_exist_ok=True)
                step.result = ", ".join(installed.packages) or "none"
        with progress.step("Component") as step:
            report = _componentize(
                target, layout, late_imports(layout.app, files), _bundle_files(target, layout, files, settings)
            )
            size = layout.component.stat().st_size
            step.result = _bundled(report)
        temporary_output = output.with_name(f".{output.name}.{os.getpid()}")
        shutil.copyfile(layout.component, temporary_output)
        temporary_output.replace(output)
    return Built(output, size, [(method, path, name) for method, path, name in report["routes"]])


def fingerprint(target: Target, python_path: Sequence[Path] = (), include: Sequence[str] = ()) -> str:
    """Changes when anything changes that goes into the component."""
    digest = hashlib.sha256()
    _, requirements = _dependencies.find_requirements(target.project)
    settings = _bundle.read_settings(target.project, include)
    versions = [covet.__version__, _componentize_version(), str(target), str(settings), *requirements]
    digest.update(json.dumps(versions).encode())
    with tempfile.TemporaryDirectory() as temporary:
        sources = copy_sources(target, Path(temporary))
    roots = [(target.import_root, sources)]
    roots += [(target.import_root, [Path(file.names[0])]) for file in _bundle.find_files(target, sources, settings)]
    framework = Path(covet.__file__).parent
    roots.append((framework, _files_below(framework)))
    roots += [(folder, _files_below(folder)) for folder in python_path]
    for root, files in roots:
        for file in files:
            digest.update(f"{file}\0".encode())
            digest.update(hashlib.sha256((root / file).read_bytes()).digest())
    return digest.hexdigest()[:32]


class Layout:
    """The folders that componentize-py gets. In the component they are /0, /1 and so on, in the order of `folders`."""

    def __init__(self, work: Path) -> None:
        self.entry = work / "entry"
        self.framework = work / "framework"
        self.app = work / "app"
        self.dependencies = work / "dependencies"
        self.component = work / "app.wasm"
        #: For the files that requests read.
        self.files = self.entry / "files"
        self.folders = [self.entry, self.framework, self.app, self.dependencies]
        for folder in (*self.folders, self.files):
            folder.mkdir()

    def extra(self, number: int) -> Path:
        """The copy of a folder of --python-path."""
        folder = self.entry.parent / f"extra{number}"
        self.folders.append(folder)
        return folder

    def mounted(self, folder: Path) -> str:
        """Where a folder is in the component."""
        return f"/{self.folders.index(folder)}"


def _bundle_files(target: Target, layout: Layout, sources: list[Path], settings: _bundle.Settings) -> dict[str, object]:
    """Puts the files that requests read beside the sources. Returns what `_guest.entry` has to know about them."""
    files = _bundle.find_files(target, sources, settings)
    mounted = f"{layout.mounted(layout.entry)}/{layout.files.name}"
    return {
        "files": _bundle.copy_files(files, layout.files, mounted, layout.mounted(layout.app)),
        "packages": [layout.mounted(folder) for folder in layout.folders[3:]],
        "exclude": [_bundle.expression_of(pattern) for pattern in settings.exclude],
        "bytes_max": settings.bytes_max,
    }


def _componentize(target: Target, layout: Layout, late: list[str], bundled: dict[str, object]) -> "dict[str, list[list[str]]]":
    mounted = layout.mounted
    config = {
        "module": target.module,
        "attribute": target.attribute,
        "late_imports": late,
        "bundle": bundled,
        "app_root": mounted(layout.app),
        "roots": {"app": mounted(layout.app), "dependencies": mounted(layout.dependencies)},
        "output": f"{mounted(layout.entry)}/output.txt",
        "report": f"{mounted(layout.entry)}/report.json",
    }
    (layout.entry / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (layout.entry / f"{_ENTRY}.py").write_text(
        f'from covet._guest.entry import load\n\nHandler, App = load("{mounted(layout.entry)}/config.json")\n', encoding="utf-8"
    )
    arguments = {
        "wit": str(_wit_folder()),
        "path": [str(folder) for folder in layout.folders],
        "entry": _ENTRY,
        "component": str(layout.component),
    }
    # In a process of its own: it can be interrupted, and its output does not mix with ours.
    process = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(arguments)], capture_output=True, text=True, check=False, cwd=layout.entry
    )
    printed = _text_of(layout.entry / "output.txt")
    if printed:
        sys.stderr.write(f"Printed while the application was imported:\n{_indented(printed)}\n")
    report_text = _text_of(layout.entry / "report.json")
    report = json.loads(report_text) if report_text else {}
    if "error" in report:
        raise BuildError(_message_of(report["error"], target))
    if process.returncode != 0:
        raise BuildError(_message_of_failure(process.stdout + process.stderr, target))
    found: dict[str, list[list[str]]] = report
    return found


def _message_of(error: dict[str, str], target: Target) -> str:
    """What the author sees of an error while the application was imported."""
    if error["kind"] == "app":
        return error["message"]
    message = f"{target} cannot be imported:\n\n{_with_real_paths(error['traceback'], target).rstrip()}"
    missing = error.get("module")
    if missing and error["kind"] == "ModuleNotFoundError":
        message += f"\n\n{_hint_for_module(missing)}"
    return message


def _hint_for_module(name: str) -> str:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"The standard library's {top!r} is not there in a component: it needs what a sandbox does not have."
    return (
        f"If {top!r} is a package of its own, add it to [project].dependencies in pyproject.toml or to requirements.txt. "
        "Only what is named there is bundled, not what happens to be installed here."
    )


def _with_real_paths(text: str, target: Target) -> str:
    """The traceback with the paths of the author's files instead of those in the component."""

    def replace(match: re.Match[str]) -> str:
        path = target.import_root / match[1]
        if not path.is_file():
            return match[0]
        relative = os.path.relpath(path)
        return f'File "{relative if not relative.startswith("..") else path}"'

    return re.sub(r'File "([^"<>]+)"', replace, text)


def _message_of_failure(output: str, target: Target) -> str:
    if match := re.search(r"called trapping stub: (\S+?)#(\S+)", output):
        return (
            f"{target} called the host ({match[2]}) while it was imported. There is no host while a component is built: "
            "do it in a handler, or in a function for @app.on_event('startup')."
        )
    if "fuel allocated for hostcalls has been exhausted" in output:
        return (
            f"{target} and its dependencies take more than 128 MiB of memory when they have been imported, and a component is "
            "made of what is in memory then. Leave out the largest packages, or make several applications."
        )
    kept = [line for line in output.strip().splitlines() if line.strip()][-20:]
    return f"componentize-py could not make the component of {target}:\n" + "\n".join(f"  {line}" for line in kept)


def _copy_framework(into: Path) -> None:
    source = Path(covet.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "_commands", "wit", "cli.py", "pytest_plugin.py", "*.pyc")
    shutil.copytree(source, into / "covet", ignore=ignored)


def _wit_folder() -> Path:
    folder = Path(covet.__file__).parent / "wit"
    if not (folder / "worlds.wit").is_file():
        raise BuildError(f"this installation of covet is not whole: {folder} has no WIT files")
    return folder


def _bundled(report: "dict[str, list[list[str]]]") -> str:
    modules: dict[str, list[str]] = report["modules"]  # type: ignore[assignment]
    parts = [_count(len(modules["app"]), "module")]
    if modules["dependencies"]:
        parts.append(f"{len(modules['dependencies'])} of dependencies")
    parts.append(_count(len(report["routes"]), "route"))
    files: list[int] = report.get("files", [0, 0])  # type: ignore[assignment]
    if files[0]:
        parts.append(f"{_count(files[0], 'file')} of {files[1] / 1e6:.1f} MB")
    return ", ".join(parts)


def _componentize_version() -> str:
    try:
        return importlib.metadata.version("componentize-py")
    except importlib.metadata.PackageNotFoundError:
        raise BuildError("componentize-py is missing; run: pip install componentize-py==0.25.1") from None


def _files_below(folder: Path) -> list[Path]:
    return sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip("\n").splitlines())


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


#: The module that componentize-py imports.
_ENTRY = "covet_entry"

# The function and not the command: the command adds the packages that happen to be installed here.
_RUN = """
import json, sys
import componentize_py
arguments = json.loads(sys.argv[1])
try:
    componentize_py.componentize(
        [arguments["wit"]], ["application"], [], False, None, arguments["path"], [], arguments["entry"],
        arguments["component"], False, [], [], False, None,
    )
except BaseException as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""
