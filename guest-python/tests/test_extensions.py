"""Native extensions: which are known, how they are found in the cache, and what is said when they cannot be compiled."""

import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from covet._commands.build import extensions
from covet._commands.build.project import BuildError
from covet._commands.build.wasm import rename_imports

HEADER = b"\0asm\1\0\0\0"


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind, len(content)]) + content


def imported(module: str, field: str, description: bytes) -> bytes:
    return b"".join(bytes([len(name)]) + name.encode() for name in (module, field)) + description


def module(*imports: bytes) -> bytes:
    types = section(1, bytes([1, 0x60, 0, 0]))
    return HEADER + types + section(2, bytes([len(imports)]) + b"".join(imports)) + section(0, b"\4test")


def test_imports_of_every_kind_are_kept_and_the_named_one_is_renamed():
    others = [
        imported("env", "table", b"\1\x70\0\x80\1"),
        imported("env", "memory", b"\2\1\1\xff\7"),
        imported("env", "stack", b"\3\x7f\1"),
        imported("env", "tag", b"\4\0\0"),
    ]
    old = imported("wasi", "random", b"\0\0")
    new = imported("a much longer name of a module than it was", "other", b"\0\0")
    renamed = rename_imports(module(*others, old, others[0]), {("wasi", "random"): (new[1 : 1 + new[0]].decode(), "other")})
    assert renamed == module(*others, new, others[0])
    assert rename_imports(module(old), {("wasi", "other"): ("x", "y")}) == module(old)


@pytest.mark.parametrize("wrong", [b"", b"\x7fELF\1\1\1\0", HEADER[:4] + struct.pack("<I", 2)])
def test_what_is_no_module_is_refused(wrong):
    with pytest.raises(ValueError, match="not a WebAssembly module"):
        rename_imports(wrong, {})


def test_extensions_are_known_by_every_spelling_of_their_name():
    for name in ("pydantic-core", "pydantic_core", "Pydantic.Core"):
        assert extensions.known(name) is extensions.KNOWN[0]
    assert extensions.known("orjson").has_c
    assert extensions.known("pydantic") is None


def never(*_):
    raise AssertionError("nothing has to be downloaded")


def test_other_packages_are_left_to_pip(tmp_path):
    assert extensions.provide("numpy==2.0", tmp_path, never, print) is None


needs_rust = pytest.mark.skipif(shutil.which("rustc") is None, reason="asks the compiler for its version")


@needs_rust
def test_what_is_in_the_cache_is_not_built_again(tmp_path):
    compiler = extensions._compiler(extensions.KNOWN[0])
    folder = tmp_path / "extensions" / extensions._key(extensions.KNOWN[0], "2.50.4", compiler)
    folder.mkdir(parents=True)
    wheel = folder / "pydantic_core-2.50.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x", "")
    assert extensions.provide("pydantic_core == 2.50.4", tmp_path, never, print) == wheel
    assert extensions.built(tmp_path) == ["pydantic-core 2.50.4"]


def test_without_a_compiler_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"pydantic-core has native code.*there is no cargo; install Rust"):
        extensions.provide("pydantic-core==2.50.4", tmp_path, never, print)


@needs_rust
def test_without_the_source_of_the_standard_library_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COVET_RUST_SRC", str(tmp_path))
    with pytest.raises(BuildError, match=r"COVET_RUST_SRC is .*which is not the `library` folder"):
        extensions.find_rust_source(extensions.KNOWN[0], tmp_path)


@needs_rust
def test_a_package_that_does_not_compile_is_told_with_the_last_lines(tmp_path, monkeypatch):
    source = tmp_path / "broken-1.0"
    source.mkdir()
    (source / "Cargo.toml").write_text("[package]\nname = 5\n")
    with pytest.raises(BuildError, match=r"(?s)pydantic-core does not compile:.*name"):
        extensions._compile(extensions.KNOWN[0], source, tmp_path / "library", tmp_path, {})


def test_without_a_c_compiler_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("WASI_SDK_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"a part of orjson is C.*install clang and wasi-libc.*WASI_SDK_PATH"):
        extensions._c_environment(extensions.known("orjson"))


@pytest.mark.build
@pytest.mark.host
def test_json_is_written_and_read_by_orjson_where_it_is_bundled(covet_host):
    project = Path(__file__).parents[2] / "tests" / "guests" / "python" / "fast-json"
    with covet_host("app:app", project=project, isolation="fresh", arguments=["--audit", "1"]) as client:
        assert client.get("/which").json() == {"orjson": "3.13.0", "used": True}
        text = '[{"name":"a","price":1.5},"2026-01-02T00:00:00+00:00",1.5,1180591620717411303424,{"1":"€"},[2],"?"]'
        for _ in range(20):
            assert client.get("/values").text == text
        for body in ('{"a":[1,2.5,null,"é"]}', "[123456789012345678901234567890]", '["\\u00e9"]'):
            assert client.post("/echo", content=body).json() == json.loads(body)
        assert client.post("/echo", content="{").status_code == 400
        assert client.post("/item", json={"name": "x", "price": 1}).json() == {"name": "x", "price": 1.0}
        deep = client.post("/item", content="[" * 100_000, headers={"content-type": "application/json"})
        assert deep.status_code == 422
