"""The command `covet`: build, run, routes, extensions, doctor."""

import argparse
import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import covet

from ._build import extensions
from ._build.component import build, fingerprint
from ._build.dependencies import cache_folder
from ._build.progress import Progress
from ._build.project import BuildError, Target, find_target

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code: 0, 1 if the application is at fault, 2 for wrong arguments."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options, rest = parser.parse_known_args(words)
    if rest and options.command is not _run:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = [word for word in rest if word != "--"]
    try:
        code: int = options.command(options)
        return code
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _build(options: argparse.Namespace) -> int:
    target = _target(options)
    output = Path(options.output or f"{target.module.rpartition('.')[2]}.wasm")
    progress = Progress(options.quiet)
    built = build(
        target,
        output,
        progress,
        python_path=options.python_path,
        with_dependencies=not options.no_deps,
        refresh=options.refresh,
    )
    progress.line(f"{'Written':<14}{built.path}, {built.size / 1e6:.1f} MB; serve it with: covet-host run {built.path}")
    return 0


def _run(options: argparse.Namespace) -> int:
    target = _target(options)
    host = _find_host()
    if host is None:
        raise BuildError(
            "covet-host is not found: put it on the PATH, or set COVET_HOST to where it is. `covet build` needs no host"
        )
    component = cache_folder() / "components" / f"{fingerprint(target, options.python_path)}.wasm"
    if options.refresh or not component.is_file():
        component.parent.mkdir(parents=True, exist_ok=True)
        build(
            target,
            component,
            Progress(options.quiet),
            python_path=options.python_path,
            with_dependencies=not options.no_deps,
            refresh=options.refresh,
        )
    command = [str(host), "run", str(component), *options.rest]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _routes(options: argparse.Namespace) -> int:
    """Imports the application natively and lists its routes."""
    target = _target(options)
    sys.path.insert(0, str(target.import_root))
    try:
        module = importlib.import_module(target.module)
    except ModuleNotFoundError as error:
        raise BuildError(f"{target} cannot be imported here: {error}") from None
    from ._entry import AppError, _find_app

    try:
        app = _find_app(module, target.attribute)
    except AppError as error:
        raise BuildError(str(error)) from None
    width = max((len(route.path) for route in app.routes), default=0)
    for route in app.routes:
        for method in route.methods:
            isolation = f"  [{route.isolation}]" if route.isolation else ""
            print(f"{method or '*':<8}{route.path:<{width}}  {route.name}{isolation}")
    return 0


def _extensions(options: argparse.Namespace) -> int:
    """Lists the native extensions that applications may use."""
    del options
    compiled = extensions.built(cache_folder())
    for extension in extensions.KNOWN:
        versions = [entry.partition(" ")[2] for entry in compiled if entry.partition(" ")[0] == extension.name]
        state = f"compiled: {', '.join(versions)}" if versions else "compiled when an application first needs it"
        print(f"{extension.name:<17}{extension.summary}; {state}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    """Says what is there and what is missing."""
    del options
    host = _find_host()
    checks = [
        ("covet", covet.__version__),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("componentize-py", _version("componentize-py", "0.25.1")),
        ("pip", _version("pip", None)),
        ("covet-host", f"{_host_version(host)} ({host})" if host else "missing: put it on the PATH or set COVET_HOST"),
        ("wit", "ok" if (Path(covet.__file__).parent / "wit" / "worlds.wit").is_file() else "missing"),
        ("extensions", ", ".join(extensions.built(cache_folder())) or "none compiled yet"),
        ("cache", str(cache_folder())),
    ]
    for name, state in checks:
        print(f"{name:<17}{state}")
    return 1 if any(state.startswith("missing") for _, state in checks) else 0


def _version(package: str, wanted: str | None) -> str:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"missing; run: pip install {package}{f'=={wanted}' if wanted else ''}"
    return version if wanted in (None, version) else f"{version}, but {wanted} is what covet is made for"


def _host_version(host: Path) -> str:
    try:
        answer = subprocess.run([host, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    return answer.stdout.strip() or "unknown version"


def _find_host() -> Path | None:
    """covet-host: where COVET_HOST says, on the PATH, or built beside a checkout of the project."""
    named = os.environ.get("COVET_HOST")
    if named:
        if not os.access(named, os.X_OK):
            raise BuildError(f"COVET_HOST is {named!r}, which is no program")
        return Path(named).resolve()
    found = shutil.which("covet-host")
    if found:
        return Path(found)
    checkout = Path(covet.__file__).resolve().parents[2]
    for profile in ("release", "debug"):
        candidate = checkout / "target" / profile / "covet-host"
        if (checkout / "Cargo.toml").is_file() and os.access(candidate, os.X_OK):
            return candidate
    return None


def _target(options: argparse.Namespace) -> Target:
    return find_target(options.app, options.project)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="covet",
        description="Builds Python web applications into WebAssembly components and runs them.",
        epilog="A first application: covet build main:app, then covet-host run main.wasm.",
    )
    parser.add_argument("--version", action="version", version=f"covet {covet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    building = commands.add_parser(
        "build", help="make an application into a component", description="Makes an application into one .wasm file."
    )
    _add_target(building)
    building.add_argument("-o", "--output", metavar="FILE", help="where it goes (default: the module's name with .wasm)")
    building.set_defaults(command=_build)

    running = commands.add_parser(
        "run",
        help="build if needed, and serve with covet-host",
        description="Builds an application unless nothing has changed, and serves it. Other flags go to covet-host.",
    )
    _add_target(running)
    running.set_defaults(command=_run)

    listing = commands.add_parser("routes", help="list the routes of an application")
    _add_app(listing)
    listing.set_defaults(command=_routes)

    extending = commands.add_parser("extensions", help="list the native extensions that applications may use")
    extending.set_defaults(command=_extensions)

    checking = commands.add_parser("doctor", help="say what is installed and what is missing")
    checking.set_defaults(command=_doctor)
    return parser


def _add_app(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="main:app, package.module:app, or a file: path/to/app.py[:name]")
    parser.add_argument("--project", type=Path, metavar="DIR", help="the folder of the application (default: this one)")


def _add_target(parser: argparse.ArgumentParser) -> None:
    _add_app(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing unless it fails")
    parser.add_argument("--no-deps", action="store_true", help="do not bundle the dependencies of the project")
    parser.add_argument("--refresh", action="store_true", help="install the dependencies anew")
    parser.add_argument(
        "--python-path",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="another folder to import from (may be given several times)",
    )


if __name__ == "__main__":
    sys.exit(main())
