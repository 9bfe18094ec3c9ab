"""The command `covet`: new, dev, check, build, run, routes, openapi, extensions, doctor."""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import covet

from ._commands import new
from ._commands.build import extensions
from ._commands.build.component import build, fingerprint
from ._commands.build.dependencies import cache_folder
from ._commands.build.progress import Progress
from ._commands.build.project import BuildError, Target, find_target

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
        include=options.include,
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
    component = cache_folder() / "components" / f"{fingerprint(target, options.python_path, options.include)}.wasm"
    if options.refresh or not component.is_file():
        component.parent.mkdir(parents=True, exist_ok=True)
        build(
            target,
            component,
            Progress(options.quiet),
            python_path=options.python_path,
            with_dependencies=not options.no_deps,
            refresh=options.refresh,
            include=options.include,
        )
    command = [str(host), "run", str(component), *options.rest]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _create(options: argparse.Namespace) -> int:
    """Makes a new project."""
    folder, files = new.create(options.name, options.template)
    for file in files:
        print(f"  {folder / file}")
    print(f"\n{new.next_steps(folder, options.template)}")
    return 0


def _develop(options: argparse.Namespace) -> int:
    """Serves an application natively, and again when it changes."""
    from ._commands.dev import Settings, serve

    target = _target(options)
    settings = Settings(
        app=options.app,
        project=str(options.project) if options.project is not None else None,
        host=options.host,
        port=options.port,
        reload=not options.no_reload,
        reload_dirs=[str(folder) for folder in options.reload_dir],
        log_level=options.log_level,
    )
    for folder in options.reload_dir:
        if not folder.is_dir():
            raise BuildError(f"--reload-dir {folder}: there is no such folder")
    return serve(target, settings)


def _check(options: argparse.Namespace) -> int:
    """Says what is wrong with an application, or will not work in a component."""
    from ._commands.check import check

    target = _target(options)
    report = check(target)
    for finding in report.findings:
        print(f"{_shown(finding.path)}:{finding.line}: {finding.severity}: {finding.message}")
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    found = ", ".join(_count(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number)
    print(f"{target}: {_count(report.routes, 'route')}, {_count(report.modules, 'module')}; {found or 'nothing found'}")
    return 1 if errors or (warnings and options.strict) else 0


def _routes(options: argparse.Namespace) -> int:
    """Imports the application natively and lists its routes."""
    from ._commands.check import check_routes
    from ._commands.loading import load

    app = load(_target(options))
    own = list(app.routes)
    check_routes(app)
    rows = [
        {"method": method or "*", "path": route.path, "name": route.name, "isolation": route.isolation}
        for route in (app.routes if options.all else own)
        for method in route.methods
    ]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max((len(str(row["path"])) for row in rows), default=0)
    for row in rows:
        isolation = f"  [{row['isolation']}]" if row["isolation"] else ""
        print(f"{row['method']:<8}{row['path']:<{width}}  {row['name']}{isolation}")
    return 0


def _openapi(options: argparse.Namespace) -> int:
    """Writes the OpenAPI document of an application."""
    from ._commands.loading import load

    target = _target(options)
    app = load(target)
    document = getattr(app, "openapi", None) or getattr(getattr(app, "app", None), "openapi", None)
    if document is None:
        raise BuildError(f"{target} has no OpenAPI document: only CovetPy and FastAPI make one")
    text = json.dumps(document(), indent=options.indent or None, ensure_ascii=False, default=str) + "\n"
    if options.output is None or str(options.output) == "-":
        sys.stdout.write(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{options.output} cannot be written: {error.strerror}") from None
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
        ("uvicorn", _optional("uvicorn", "covet dev", "dev")),
        ("httpx", _optional("httpx", "covet.testing", "test")),
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


def _optional(package: str, user: str, extra: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed; {user} needs it: pip install 'covet[{extra}]'"


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


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0, for a free one, to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="covet",
        description="Python web applications that run as sandboxed WebAssembly components: from a new project to a server.",
        epilog="A first application: covet new hello, then, in the folder hello: covet dev main:app, covet run main:app.",
    )
    parser.add_argument("--version", action="version", version=f"covet {covet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    creating = commands.add_parser(
        "new",
        help="make a new project",
        description="Makes a folder with an application, its tests and its pyproject.toml.",
        epilog="\n".join(f"{name:<9} {summary}" for name, summary in new.TEMPLATES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    creating.add_argument("name", metavar="NAME", help="the folder, whose last part is the name of the project; `.` for this")
    creating.add_argument(
        "--template", choices=list(new.TEMPLATES), default="minimal", help="what is in it (default: %(default)s), see below"
    )
    creating.set_defaults(command=_create)

    developing = commands.add_parser(
        "dev",
        help="serve natively, and again when a file changes",
        description="Serves an application natively, without a component and without isolation, and again whenever a file "
        "changes. Exceptions are shown with their tracebacks, also to clients.",
    )
    _add_app(developing)
    developing.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    developing.add_argument("--port", type=_port, default=8000, help="0 takes a free one (default: %(default)s)")
    developing.add_argument(
        "--reload-dir",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="a folder to look at for changes, in the place of the project's (may be given several times)",
    )
    developing.add_argument("--no-reload", action="store_true", help="do not look for changes")
    developing.add_argument(
        "--log-level", choices=["debug", "info", "warning", "error"], default="info", help="(default: %(default)s)"
    )
    developing.set_defaults(command=_develop)

    proving = commands.add_parser(
        "check",
        help="say what is wrong with an application, or will not work in a component",
        description="Imports an application natively, compiles its routes, puts them into the host's router, and looks in "
        "its source for what does not work in a component. A line that ends with `# covet: ignore` is left out.",
        epilog="The exit code is 1 if the application cannot be served or built, or with --strict if there are warnings.",
    )
    _add_app(proving)
    proving.add_argument("--strict", action="store_true", help="warnings count as errors")
    proving.set_defaults(command=_check)

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

    listing = commands.add_parser(
        "routes",
        help="list the routes of an application",
        description="Imports an application natively and lists its routes: method, path, name, and isolation if it has one.",
    )
    _add_app(listing)
    listing.add_argument("--all", action="store_true", help="those of the framework too: documentation, preflight requests")
    listing.add_argument("--json", action="store_true", help="as JSON, for other programs")
    listing.set_defaults(command=_routes)

    documenting = commands.add_parser(
        "openapi",
        help="write the OpenAPI document of an application",
        description="Imports an application natively and writes its OpenAPI document as JSON.",
    )
    _add_app(documenting)
    documenting.add_argument("-o", "--output", type=Path, metavar="FILE", help="where it goes (default: standard output)")
    documenting.add_argument("--indent", type=int, default=2, help="spaces for each level, 0 for one line (default: 2)")
    documenting.set_defaults(command=_openapi)

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
        "--include",
        action="append",
        default=[],
        metavar="GLOB",
        help="files of the project for requests to read, beside those in static, templates, public and assets (may be given "
        "several times)",
    )
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
