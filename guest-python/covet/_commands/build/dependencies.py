"""Finds what an application depends on and puts it into a folder: pure Python for Python 3.14 in a component, and the
native extensions that `extensions` can compile.

The work is pip's. It is told which platform is meant; the environment markers, which pip takes from the interpreter that
runs it, are set by a few lines that run before pip does.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import extensions
from .project import BuildError

__all__ = ["Dependencies", "cache_folder", "find_requirements", "install"]


@dataclass(frozen=True)
class Dependencies:
    """Installed dependencies."""

    #: None where there are none.
    folder: Path | None
    #: "name version", sorted.
    packages: list[str]


def cache_folder() -> Path:
    """Where the build tool keeps what it can use again."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "covet"


def find_requirements(project: Path) -> tuple[str, list[str]]:
    """The name of the file that says what the application depends on, and its lines, without covet itself."""
    pyproject = project / "pyproject.toml"
    if pyproject.is_file():
        try:
            table = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BuildError(f"{pyproject} cannot be read: {error}") from None
        if "dependencies" in table:
            lines = table["dependencies"]
            if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
                raise BuildError(f"{pyproject}: [project].dependencies is not a list of strings")
            return pyproject.name, [line for line in lines if not _is_covet(line)]
    requirements = project / "requirements.txt"
    if requirements.is_file():
        return requirements.name, _read_requirements(requirements)
    return "", []


def install(project: Path, refresh: bool = False, say: Callable[[str], None] = print) -> Dependencies:
    """Installs the dependencies of a project, or finds them in the cache. `say` gets a line before anything long."""
    source, lines = find_requirements(project)
    if not lines:
        return Dependencies(None, [])
    key = hashlib.sha256(json.dumps([FORMAT, extensions.FORMAT, PYTHON, sorted(lines)]).encode()).hexdigest()[:32]
    folder = cache_folder() / "dependencies" / key
    if refresh or not folder.is_dir():
        _install_into(folder, source, lines, say)
    return Dependencies(folder, _installed(folder))


def _install_into(folder: Path, source: str, lines: list[str], say: Callable[[str], None]) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise BuildError(
            f"{source} names dependencies, and pip, which installs them, is missing; run: {sys.executable} -m ensurepip"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary)
        (work / "wheels").mkdir()
        requirements = work / "requirements.txt"
        requirements.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        built: set[str] = set()
        while True:
            for package in [found for found in _native_packages(requirements, work / "wheels") if found not in built]:
                if wheel := extensions.provide(package, cache_folder(), _download_source, say):
                    shutil.copy(wheel, work / "wheels")
                elif not _has_pure_wheel(package):
                    _build_wheel(package, work / "wheels", source)
                built.add(package)
            target = work / "target"
            shutil.rmtree(target, ignore_errors=True)
            result = _pip(
                [
                    *("install", "--target", str(target), *_PURE_ONLY, "--no-compile"),
                    *("--find-links", str(work / "wheels"), "--requirement", str(requirements)),
                ],
                as_guest=True,
            )
            if result.returncode == 0:
                break
            # Some package has no pure wheel. If it has only its source, that is built; then all is tried again.
            requirement = _without_wheel(result.stderr)
            if requirement is None or requirement in built:
                if (native := _first_native(requirements, work / "wheels")) is not None:
                    raise BuildError(_native_message(native[0], source, f"it comes compiled for one machine ({native[1]})"))
                raise BuildError(f"the dependencies in {source} cannot be installed:\n{_last_lines(result.stderr)}")
            built.add(requirement)
            _build_wheel(requirement, work / "wheels", source)
        for junk in ("bin", "__pycache__"):
            shutil.rmtree(target / junk, ignore_errors=True)
        _refuse_native_files(target, source)
        shutil.rmtree(folder, ignore_errors=True)
        target.rename(folder)


def _native_packages(requirements: Path, wheels: Path) -> list[str]:
    """The packages with native code, of those that can be built, that the requirements would lead to on an ordinary machine.

    Each with its version. Without this pip would look for older and older versions of whatever needs them, down to one
    that does not.
    """
    packages = [package["metadata"] for package in _on_ordinary_machine(requirements, wheels)]
    known = [found for found in packages if extensions.known(found["name"]) or _normal(found["name"]) in SPEEDUPS]
    return [f"{found['name']}=={found['version']}" for found in known]


def _first_native(requirements: Path, wheels: Path) -> tuple[str, str] | None:
    """A package with native code, and its wheel, that the requirements would lead to on an ordinary machine.

    Where pip has tried one version after the other of what needs it, it does not say so.
    """
    for package in _on_ordinary_machine(requirements, wheels):
        found, wheel = package["metadata"], package["download_info"]["url"].rpartition("/")[2]
        if not wheel.endswith("-none-any.whl") and not _has_pure_wheel(f"{found['name']}=={found['version']}"):
            return found["name"], wheel
    return None


def _on_ordinary_machine(requirements: Path, wheels: Path) -> list[dict[str, Any]]:
    """What pip would install on an ordinary machine, as in its report."""
    platforms = [f"--platform={name}" for name in ("any", "manylinux2014_x86_64", "manylinux_2_28_x86_64")]
    abis = [f"--abi={name}" for name in ("none", "abi3", f"cp{PYTHON.replace('.', '')}")]
    with tempfile.TemporaryDirectory() as target:
        result = _pip(
            [
                *("install", "--dry-run", "--quiet", "--report", "-", "--target", target, "--only-binary=:all:"),
                *(*platforms, *abis, "--implementation=cp", f"--python-version={PYTHON}", "--requirement", str(requirements)),
                *("--find-links", str(wheels)),
            ],
            as_guest=True,
        )
    if result.returncode != 0:
        # Perhaps a package without any wheel, which is built then, and this asked again; else it is explained there.
        return []
    packages: list[dict[str, Any]] = json.loads(result.stdout)["install"]
    return packages


def _has_pure_wheel(requirement: str) -> bool:
    with tempfile.TemporaryDirectory() as temporary:
        return _pip(["download", "--no-deps", "--dest", temporary, *_PURE_ONLY, requirement], as_guest=True).returncode == 0


def _build_wheel(requirement: str, wheels: Path, source: str) -> None:
    """Builds a package that has no pure wheel, if that gives one. Raises BuildError that names it if not."""
    name = _name_of(requirement)
    settings = SPEEDUPS.get(_normal(name))
    if settings is None:
        with tempfile.TemporaryDirectory() as temporary:
            native = _pip(["download", "--no-deps", "--only-binary=:all:", "--dest", temporary, requirement])
            found = [path.name for path in Path(temporary).glob("*.whl")]
        if native.returncode == 0 and found and not found[0].endswith("-none-any.whl"):
            raise BuildError(_native_message(requirement, source, f"it comes compiled for one machine ({found[0]})"))
    with tempfile.TemporaryDirectory() as temporary:
        command = ["wheel", "--no-deps", "--wheel-dir", temporary, requirement]
        if settings is None:
            result = _pip(command)
        else:
            result = _pip([*command, f"--no-binary={name}"], settings=WITHOUT_COMPILER | settings)
        if result.returncode != 0:
            if "No matching distribution" in result.stderr:
                raise BuildError(f"{source} names {requirement!r}, which the package index does not have")
            raise BuildError(
                f"{source} needs {requirement!r}, which has no wheel, and cannot be built:\n{_last_lines(result.stderr)}"
            )
        for wheel in Path(temporary).glob("*.whl"):
            if not wheel.name.endswith("-none-any.whl"):
                raise BuildError(_native_message(requirement, source, f"building it gives machine code ({wheel.name})"))
            shutil.move(str(wheel), wheels / wheel.name)


def _download_source(requirement: str, folder: Path) -> Path:
    result = _pip(["download", "--no-deps", f"--no-binary={_name_of(requirement)}", "--dest", str(folder), requirement])
    archives = list(folder.glob("*.tar.gz"))
    if result.returncode != 0 or not archives:
        raise BuildError(f"the source of {requirement!r} cannot be downloaded:\n{_last_lines(result.stderr)}")
    return archives[0]


def _native_message(requirement: str, source: str, reason: str) -> str:
    name = _name_of(requirement)
    message = (
        f"{source} needs {name!r}, which has native code: {reason}. A component runs pure Python, and the extensions that "
        "`covet extensions` lists.\n"
        f"Take {name!r} out of the dependencies, or use a version or another package that is pure Python"
    )
    if (alternative := ALTERNATIVES.get(_normal(name))) is not None:
        message += f" ({alternative})"
    return message + "."


def _refuse_native_files(folder: Path, source: str) -> None:
    """A wheel may call itself pure and not be."""
    for path in folder.rglob("*.so"):
        if "wasm32-wasi" not in path.name:
            package = path.relative_to(folder).parts[0]
            raise BuildError(_native_message(package, source, f"it brings {path.name}"))


def _pip(
    arguments: list[str], as_guest: bool = False, settings: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONWARNINGS": "ignore"}
    environment |= settings or {}
    # A folder that a user's configuration names would collide with --target.
    environment.pop("PIP_USER", None)
    command = [sys.executable, "-c", _AS_GUEST] if as_guest else [sys.executable, "-m", "pip"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)


def _without_wheel(output: str) -> str | None:
    """The requirement for which pip found no wheel."""
    match = re.search(r"Could not find a version that satisfies the requirement (\S[^(\n]*?)(?: \(from|\n)", output)
    return match[1].partition(";")[0].strip() if match else None


def _installed(folder: Path) -> list[str]:
    packages = []
    for metadata in folder.glob("*.dist-info"):
        name, _, version = metadata.name.removesuffix(".dist-info").partition("-")
        packages.append(f"{name} {version}")
    return sorted(packages, key=str.lower)


def _read_requirements(path: Path) -> list[str]:
    """The lines of a requirements file, with the paths in them made absolute."""
    lines = []
    text = re.sub(r"\\\r?\n", " ", path.read_text(encoding="utf-8"))
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not line or _is_covet(line):
            continue
        if match := re.match(r"(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)", line):
            other = path.parent / match[1]
            if line.startswith(("-c", "--constraint")):
                lines.append(f"-c {other}")
            elif other.is_file():
                lines += _read_requirements(other)
            else:
                raise BuildError(f"{path} includes {match[1]}, which is not there")
        elif re.match(r"(?:-e|--editable)\b", line):
            raise BuildError(f"{path} has {line!r}: an editable package cannot go into a component; use --python-path")
        else:
            lines.append(line)
    return lines


def _is_covet(line: str) -> bool:
    return _normal(_name_of(line)) in ("covet", "componentize-py")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _name_of(requirement: str) -> str:
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return match[1] if match else requirement


def _last_lines(output: str) -> str:
    noise = ("warning", "[notice]", "note:", "hint:", "\N{MULTIPLICATION SIGN}", "\N{BOX DRAWINGS LIGHT ARC UP AND RIGHT}")
    lines = [line for line in output.splitlines() if line.strip() and not line.strip().lower().startswith(noise)]
    return "\n".join(f"  {line}" for line in lines[-8:])


#: The Python that componentize-py 0.25 brings.
PYTHON = "3.14"
_PURE_ONLY = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none", f"--python-version={PYTHON}"]
#: Part of the cache's key: to be raised when what is in a folder changes.
FORMAT = 2

#: Packages whose native half only makes them faster, and how each is told to be built without it. Where there is nothing to
#: tell, that no compiler works is enough.
SPEEDUPS: dict[str, dict[str, str]] = {
    "aiohttp": {"AIOHTTP_NO_EXTENSIONS": "1"},
    "frozenlist": {"FROZENLIST_NO_EXTENSIONS": "1"},
    "markupsafe": {},
    "msgpack": {"MSGPACK_PUREPYTHON": "1"},
    "multidict": {"MULTIDICT_NO_EXTENSIONS": "1"},
    "propcache": {"PROPCACHE_NO_EXTENSIONS": "1"},
    "pyyaml": {"PYYAML_FORCE_CYTHON": "0", "PYYAML_FORCE_LIBYAML": "0"},
    "simplejson": {},
    "sqlalchemy": {"DISABLE_SQLALCHEMY_CEXT": "1"},
    "websockets": {"BUILD_EXTENSION": "no"},
    "wrapt": {"WRAPT_INSTALL_EXTENSIONS": "false"},
    "yarl": {"YARL_NO_EXTENSIONS": "1"},
}
WITHOUT_COMPILER = {"CC": "false", "CXX": "false", "LDSHARED": "false"}

#: Native packages that are asked for most, and what to take.
ALTERNATIVES = {
    "numpy": "there is no pure one",
    "orjson": "the standard library's json; covet writes JSON with its C encoder",
    "ujson": "the standard library's json",
    "uvloop": "covet brings its own event loop",
    "psycopg2": "pg8000 is pure Python",
    "cryptography": "the standard library's hashlib and hmac cover hashes and signatures with a shared key",
    "lxml": "the standard library's xml.etree",
    "pillow": "there is no pure one",
}

_AS_GUEST = """
import sys
try:
    from pip._vendor.packaging import markers
    native = markers.default_environment
    def guest(*arguments, **named):
        environment = native(*arguments, **named)
        environment.update(os_name="posix", sys_platform="wasi", platform_system="wasi", platform_machine="wasm32",
                           platform_release="", platform_version="", python_version="3.14",
                           python_full_version="3.14.0", implementation_version="3.14.0")
        return environment
    markers.default_environment = guest
except Exception:
    pass
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
