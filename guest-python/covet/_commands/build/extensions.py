"""Compiles native extensions, written in Rust with PyO3, for the interpreter inside a component.

An extension becomes a wheel that looks pure to pip and carries a WebAssembly library, which componentize-py links to the
interpreter. It is built once for each version and compiler and kept in the cache.

What makes it work: the library is position-independent, so the standard library of Rust is compiled anew with it; PyO3 is
told about the interpreter instead of asking one; libc is not linked in, since the interpreter's own is there at run time;
and what Rust's standard library wants from WASI's first preview is taken from that libc. Otherwise the component would need
an adapter between the two, whose state is not in linear memory, and the host could not put instances back to a snapshot.
"""

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .project import BuildError
from .wasm import rename_imports

__all__ = ["KNOWN", "Extension", "built", "find_rust_source", "known", "provide"]


@dataclass(frozen=True)
class Extension:
    """A package that is known to build and to work."""

    name: str
    #: For people.
    summary: str
    #: Whether a part of it is C, which takes clang and the header files of WASI's C library.
    has_c: bool = False


KNOWN = (
    Extension("pydantic-core", "validation for pydantic 2, about 3 minutes to build"),
    Extension("orjson", "JSON five times as fast, about a minute to build", has_c=True),
)


def known(name: str) -> Extension | None:
    """The extension that a package is, by its name in whatever spelling."""
    return next((extension for extension in KNOWN if extension.name == _normal(name)), None)


def built(cache: Path) -> list[str]:
    """The wheels in the cache, as "name version", for whatever compiler."""
    found = {tuple(wheel.name.split("-")[:2]) for wheel in _folder(cache).glob("*/*.whl")}
    return sorted(f"{name.replace('_', '-')} {version}" for name, version in found)


def provide(requirement: str, cache: Path, download: "Download", say: Callable[[str], None]) -> Path | None:
    """The wheel for a requirement such as `pydantic-core==2.50.4`, built if need be; None if it is no known extension.

    `download` puts the source of a requirement into a folder. Raises BuildError with what to do.
    """
    extension = known(re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0])
    if extension is None:
        return None
    compiler = _compiler(extension)
    with tempfile.TemporaryDirectory(prefix="covet-extension-") as temporary, _locked(cache):
        work = Path(temporary)
        exact = re.fullmatch(r"[A-Za-z0-9._-]+\s*==\s*([A-Za-z0-9.]+)", requirement.strip())
        if exact is not None and (wheel := _find(cache, extension, exact[1], compiler)) is not None:
            return wheel
        archive = download(requirement, work)
        version = archive.name.removesuffix(".tar.gz").rpartition("-")[2]
        wheel = _find(cache, extension, version, compiler)
        if wheel is None:
            source = _unpack(archive, work)
            library = find_rust_source(extension, source)
            environment = _c_environment(extension) if extension.has_c else {}
            say(f"{extension.name} {version} is compiled for components; this takes minutes, once")
            code = _compile(extension, source, library, work, environment)
            wheel = _pack(_folder(cache) / _key(extension, version, compiler), source, code)
    return wheel


#: Puts the source archive of a requirement into a folder and returns where it is.
Download = Callable[[str, Path], Path]


def find_rust_source(extension: Extension, source: Path) -> Path:
    """The source of Rust's standard library, for the compiler that builds what is in the folder `source`."""
    named = os.environ.get("COVET_RUST_SRC")
    if named:
        library = Path(named)
        if not (library / "std" / "Cargo.toml").is_file():
            raise BuildError(f"COVET_RUST_SRC is {named!r}, which is not the `library` folder of Rust's source")
        return library
    library = Path(_asked(extension, source, "--print", "sysroot").strip()) / "lib" / "rustlib" / "src" / "rust" / "library"
    if not (library / "std" / "Cargo.toml").is_file():
        raise BuildError(
            f"{extension.name} has to be compiled, and the source of Rust's standard library is missing; run: rustup "
            "component add rust-src (or name its `library` folder in COVET_RUST_SRC)"
        )
    return library


def _compiler(extension: Extension) -> str:
    """What tells one Rust compiler from another."""
    for tool in ("cargo", "rustc"):
        if shutil.which(tool) is None:
            raise BuildError(
                f"{extension.name} has native code, which has to be compiled for components, and there is no {tool}; install "
                "Rust (https://rustup.rs), then run: rustup component add rust-src"
            )
    return _asked(extension, Path(tempfile.gettempdir()), "-vV")


def _asked(extension: Extension, folder: Path, *question: str) -> str:
    """What the compiler answers. With rustup it may be another one in another folder, so it is asked where it works."""
    result = subprocess.run(["rustc", *question], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = "\n".join(f"  {line}" for line in result.stderr.splitlines()[-5:])
        raise BuildError(f"{extension.name} has to be compiled, and rustc does not work:\n{lines}")
    return result.stdout


def _key(extension: Extension, version: str, compiler: str) -> str:
    return hashlib.sha256(f"{FORMAT}\0{extension.name}\0{version}\0{compiler}".encode()).hexdigest()[:32]


def _find(cache: Path, extension: Extension, version: str, compiler: str) -> Path | None:
    return next((_folder(cache) / _key(extension, version, compiler)).glob("*.whl"), None)


def _folder(cache: Path) -> Path:
    return cache / "extensions"


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One build at a time: two would do the same twice."""
    _folder(cache).mkdir(parents=True, exist_ok=True)
    with (_folder(cache) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(archive: Path, work: Path) -> Path:
    try:
        with tarfile.open(archive) as source:
            source.extractall(work / "source", filter="data")
        [folder] = (work / "source").iterdir()
    except (tarfile.TarError, ValueError, TypeError) as error:
        # A TypeError where Python 3.11 is older than 3.11.4, which is not to unpack what it has downloaded.
        raise BuildError(f"{archive.name} cannot be unpacked: {error}") from None
    return folder


def _c_environment(extension: Extension) -> dict[str, str]:
    """What tells the crate `cc` how to compile C for the interpreter."""
    sdk = os.environ.get("WASI_SDK_PATH")
    compiler = str(Path(sdk) / "bin" / "clang") if sdk else shutil.which("clang")
    folders = [Path(sdk) / "share/wasi-sysroot/include/wasm32-wasip1"] if sdk else [Path("/usr/include/wasm32-wasi")]
    headers = next((folder for folder in folders if (folder / "stdlib.h").is_file()), None)
    if compiler is None or headers is None or not os.access(compiler, os.X_OK):
        raise BuildError(
            f"a part of {extension.name} is C, which has to be compiled for components; install clang and wasi-libc (packages "
            "of Debian and Ubuntu), or name a wasi-sdk in WASI_SDK_PATH"
        )
    flags = [
        # Before version 17, clang makes position-independent code for this target only; the code is the same.
        "--target=wasm32-unknown-emscripten",
        "-fPIC",
        "-U__EMSCRIPTEN__",
        "-D__wasi__",
        "-nostdlibinc",
        f"-isystem{headers}",
    ]
    target = _TARGET.replace("-", "_")
    return {f"CC_{target}": compiler, f"CFLAGS_{target}": " ".join(flags)}


def _compile(extension: Extension, source: Path, library: Path, work: Path, c_environment: dict[str, str]) -> bytes:
    """Builds the library of a crate."""
    empty = work / "libraries"
    empty.mkdir()
    # The standard library asks for one; the real one is the interpreter's.
    (empty / "libc.a").write_bytes(b"!<arch>\n")
    settings = work / "pyo3.txt"
    settings.write_text(_INTERPRETER, encoding="utf-8")
    flags = [
        "-Crelocation-model=pic",
        "-Clink-self-contained=no",
        "-Clink-arg=--experimental-pic",
        "-Clink-arg=--shared",
        f"-L{empty}",
        # Panic messages name source files; they are not to tell where this was built.
        f"--remap-path-prefix={source}=/{extension.name}",
        f"--remap-path-prefix={library}=/rust",
        f"--remap-path-prefix={os.environ.get('CARGO_HOME', str(Path.home() / '.cargo'))}/registry/src=/cargo",
    ]
    environment = {name: value for name, value in os.environ.items() if name not in ("RUSTFLAGS", "CARGO_BUILD_TARGET")}
    environment |= {
        # A stable compiler lets its own standard library be built only when it is told so.
        "RUSTC_BOOTSTRAP": "1",
        "__CARGO_TESTS_ONLY_SRC_ROOT": str(library),
        "PYO3_CROSS": "1",
        "PYO3_CONFIG_FILE": str(settings),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CARGO_TARGET_DIR": str(work / "target"),
        **c_environment,
    }
    # Some archives bring the crates that they need, but not those of the standard library.
    shutil.rmtree(source / ".cargo", ignore_errors=True)
    locked = ["--locked"] if (source / "Cargo.lock").is_file() else []
    command = ["cargo", "rustc", "--quiet", *locked, "--release", "--lib", "--crate-type", "cdylib", "--target", _TARGET]
    command += ["-Zbuild-std=std,panic_abort"]
    result = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = "\n".join(f"  {line}" for line in result.stderr.splitlines()[-15:])
        raise BuildError(f"{extension.name} does not compile:\n{lines}")
    [module] = (work / "target" / _TARGET / "release").glob("*.wasm")
    return rename_imports(module.read_bytes(), _FROM_LIBC)


def _pack(folder: Path, source: Path, code: bytes) -> Path:
    """Makes the wheel of a package that is laid out as maturin wants it."""
    maturin = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["maturin"]
    root = source / maturin.get("python-source", ".")
    # Without a name for it, the module is in a package of the same name.
    crate = tomllib.loads((source / "Cargo.toml").read_text(encoding="utf-8"))["package"]["name"].replace("-", "_")
    package, _, module = maturin.get("module-name", f"{crate}.{crate}").rpartition(".")
    metadata = (source / "PKG-INFO").read_bytes()
    name, version = (_field(metadata, field) for field in ("Name", "Version"))
    stem = f"{_normal(name).replace('-', '_')}-{version}"
    parts = package.split(".")
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / parts[0]).rglob("*"))
        if path.is_file() and path.suffix in (".py", ".pyi", ".typed")
    }
    files["/".join([*parts, f"{module}.{_SUFFIX}"])] = code
    files[f"{stem}.dist-info/METADATA"] = metadata
    files[f"{stem}.dist-info/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: covet\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{path},{_digest(content)},{len(content)}\n" for path, content in files.items()).encode()
    files[record] += f"{record},,\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{stem}-py3-none-any.whl"
    unfinished = wheel.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    unfinished.replace(wheel)
    return wheel


def _field(metadata: bytes, name: str) -> str:
    match = re.search(rf"^{name}: (\S+)", metadata.decode(), re.MULTILINE)
    if match is None:
        raise BuildError(f"the package's PKG-INFO has no {name}")
    return match[1]


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


_TARGET = "wasm32-wasip1"

#: How the interpreter that componentize-py 0.25 brings calls its libraries.
_SUFFIX = "cpython-314-wasm32-wasi.so"

#: What PyO3 would ask the interpreter.
_INTERPRETER = """\
implementation=CPython
version=3.14
shared=true
abi3=false
lib_name=python3.14
pointer_width=32
build_flags=
suppress_build_script_link_lines=true
"""

#: Both fill a buffer with random bytes and return 0 if they did.
_FROM_LIBC = {("wasi_snapshot_preview1", "random_get"): ("env", "getentropy")}

#: Part of the cache's key: to be raised when what is built changes.
FORMAT = 1
