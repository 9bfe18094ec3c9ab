"""Files in a component, which files get there, and the responses that are made of files."""

import base64
import email.policy
import gzip
import hashlib
import http.client
import io
import itertools
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlsplit

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_build import write

from covet import CovetPy, FileResponse, Request, Response, _files, cli, docs, files, staticfiles
from covet._commands.build import bundle, component
from covet._commands.build.progress import Progress
from covet._commands.build.project import BuildError, find_target
from covet._native.matching import BadPath
from covet.background import BackgroundTask
from covet.staticfiles import StaticFiles

FILES = {
    "a.txt": "line 1\r\nline 2\nétude",
    "empty": "",
    "folder/b.bin": "0123456789" * 2000,
    "folder/deep/c.json": '{"a": 1}',
    "other/.hidden": "h",
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same files in a folder and in a tree, under the same paths; the folder is the working directory."""
    root = write(tmp_path_factory.mktemp("files"), FILES)
    tree = _files.Tree(str(root))
    for path in sorted(root.rglob("*")):
        if path.is_file():
            tree.add([str(path)], path.read_bytes(), path.stat().st_mtime_ns)
    before = os.getcwd()
    os.chdir(root)
    yield root, tree
    os.chdir(before)


def outcome(function, *arguments, **options):
    """What a call gives, in a form that can be compared: errors by class and number."""
    try:
        return function(*arguments, **options)
    except OSError as error:
        return type(error), error.errno, error.filename
    except (TypeError, ValueError) as error:
        return type(error)


# --- The tree does what the system's functions do


def status(found):
    return (found.st_mode & 0o170444, found.st_size) if os.path.stat.S_ISREG(found.st_mode) else found.st_mode & 0o170000


def entries(scan):
    with scan as found:
        return sorted(
            (item.name, item.path, os.fspath(item), item.is_dir(), item.is_file(), item.is_symlink(), status(item.stat()))
            for item in found
        )


def content(opened):
    with opened as file:
        return file.read(), file.name, file.mode, file.readable(), file.writable(), file.seekable()


SAME = {
    "stat": (os.stat, lambda tree: tree.stat, status),
    "lstat": (os.lstat, lambda tree: tree.lstat, status),
    "listdir": (os.listdir, lambda tree: tree.listdir, sorted),
    "scandir": (os.scandir, lambda tree: tree.scandir, entries),
    "open": (open, lambda tree: tree.open, content),
    "open bytes": (lambda path: open(path, "rb"), lambda tree: lambda path: tree.open(path, "rb"), content),  # noqa: SIM115
    "access": (lambda path: os.access(path, os.R_OK), lambda tree: lambda path: tree.access(path, os.R_OK), bool),
    "readlink": (os.readlink, lambda tree: tree.readlink, str),
}


def check_same(tree, path):
    for name, (real, ours, show) in SAME.items():
        expected = outcome(lambda real=real, show=show: show(real(path)))
        found = outcome(lambda ours=ours, show=show: show(ours(tree)(path)))
        assert found == expected, (name, path)


PATHS = [
    *(
        ".",
        "",
        "/",
        "a.txt",
        "./a.txt",
        "a.txt/",
        "a.txt/.",
        "a.txt/..",
        "a.txt/x",
        "empty",
        "folder",
        "folder/",
        "folder//b.bin",
    ),
    *("folder/../a.txt", "folder/../../a.txt", "nothing", "nothing/..", "folder/nothing", "folder/deep/../b.bin", "x\0y", "é"),
    *(b"a.txt", b"folder", Path("folder/deep"), Path("other/.hidden"), None, 1.5, "other/", "folder/deep/c.json", "//"),
]


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_paths_lead_where_they_do_on_a_file_system(both, path):
    root, tree = both
    if path == "folder/../../a.txt":
        path = f"folder/../../{root.name}/a.txt"
    if path in ("/", "//"):
        # The system has more there than the tree.
        assert status(tree.stat(path)) == status(os.stat(path))
        return
    if path is None:
        assert sorted(tree.listdir(path)) == sorted(os.listdir(path))
        assert entries(tree.scandir()) == entries(os.scandir())
        assert outcome(tree.stat, path) is outcome(os.stat, path) is TypeError
        return
    check_same(tree, path)
    if isinstance(path, str) and path:
        check_same(tree, f"{root}/{path}")


@given(st.lists(st.sampled_from(["..", ".", "", "a.txt", "folder", "deep", "b.bin", "other", ".hidden", "x"]), max_size=6))
def test_any_path_leads_where_it_does_on_a_file_system(both, parts):
    root, tree = both
    # Above the root the system has more than the tree.
    assume(parts.count("..") <= 2)
    check_same(tree, "/".join([str(root), "folder", "deep", *parts]))


MODES = ["r", "rb", "rt", "br", "w", "wb", "a", "x", "r+", "rb+", "w+", "", "rr", "rw", "b", "rbt", "q", "U", "+", 1]


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_checked_as_open_does(both, tmp_path, mode):
    _, tree = both
    found = outcome(tree.open, "a.txt", mode)
    if isinstance(mode, str) and re.fullmatch(r"[rwxab+t]+", mode) and set(mode) & set("wax+") and set(mode) & set("rwxa"):
        if found not in (ValueError, TypeError):
            assert found[0] is PermissionError
            assert os.strerror(found[1]) == "Read-only file system"
            assert (Path("a.txt").read_bytes()) == FILES["a.txt"].encode()
        else:
            assert outcome(open, tmp_path / "new", mode) == found
        return
    expected = outcome(open, "a.txt", mode)
    if isinstance(expected, type):
        assert found == expected
    else:
        assert content(found)[:3] == content(expected)[:3]


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "latin-1"},
        {"encoding": "utf-8", "newline": ""},
        {"newline": "\n"},
        {"newline": "\r\n"},
        {"encoding": "ascii", "errors": "replace"},
        {"encoding": "ascii"},
        {"encoding": "none-of-that"},
        {"mode": "rb", "encoding": "utf-8"},
        {"mode": "rb", "errors": "strict"},
        {"mode": "rb", "newline": ""},
        {"mode": "rb", "buffering": 0},
        {"buffering": 0},
        {"buffering": 1},
        {"closefd": False},
        {"newline": "x"},
    ],
    ids=str,
)
def test_options_of_open_mean_the_same(both, options):
    _, tree = both

    def read(function):
        try:
            with function("a.txt", **options) as file:
                return file.read()
        except (ValueError, LookupError) as error:
            return type(error)

    assert read(tree.open) == read(open)


def test_an_open_file_is_read_as_any_other(both):
    _, tree = both
    for function in (open, tree.open):
        with function("folder/b.bin", "rb") as file:
            assert file.peek(3)[:3] == b"012"
            assert file.read(4) == b"0123"
            buffer = bytearray(3)
            assert file.readinto(buffer) == 3
            assert (bytes(buffer), file.tell(), file.seek(-1, 2), file.read(), file.read1()) == (b"456", 7, 19999, b"9", b"")
            for refused in (lambda file=file: file.write(b"x"), lambda file=file: file.writelines([b"x"]), file.truncate):
                with pytest.raises((OSError, ValueError)):
                    refused()
        assert file.closed
        with function("a.txt", newline="") as file:
            assert [file.readline(), next(file), list(file)] == ["line 1\r\n", "line 2\n", ["étude"]]
            with pytest.raises((OSError, ValueError)):
                file.write("x")
    data = tree.find("folder/b.bin").data
    assert tree.open("folder/b.bin", "rb").read() is data


def test_times_and_numbers_tell_files_apart(both):
    root, tree = both
    real, ours = os.stat("a.txt"), tree.stat("a.txt")
    assert (ours.st_mtime_ns, ours.st_mtime, ours[8]) == (real.st_mtime_ns, real.st_mtime, real[8])
    numbers = [tree.stat(path).st_ino for path in ("/", root, "a.txt", "folder", "folder/b.bin", "empty")]
    assert len(set(numbers)) == len(numbers)
    assert tree.stat("folder/../a.txt").st_ino == ours.st_ino


def test_the_null_device_takes_everything(both):
    _, tree = both
    for function in (open, tree.open):
        with function(os.devnull, "w") as file:
            assert file.write("text") == 4
        with function(os.devnull, "wb") as file:
            assert file.write(b"octets") == 6
        with function(os.devnull) as file:
            assert file.read() == ""


def test_what_is_missing_or_cannot_be_written_is_explained(both):
    _, tree = both
    with pytest.raises(FileNotFoundError, match=r"only the files that were bundled.*include.*: 'nothing'"):
        tree.open("nothing")
    with pytest.raises(PermissionError, match=r"a component cannot write files: 'new'"):
        tree.open("new", "w")
    with pytest.raises(PermissionError, match="cannot write"):
        tree.open_descriptor("a.txt", os.O_RDWR)
    with pytest.raises(PermissionError, match="cannot write"):
        tree.open_descriptor("new", os.O_CREAT)
    with pytest.raises(OSError, match=r"open\(\) reads this file"):
        tree.open_descriptor("a.txt", os.O_RDONLY)
    with pytest.raises(OSError, match="opener"):
        tree.open("a.txt", opener=os.open)
    assert not tree.access("a.txt", os.W_OK)
    assert not tree.access("a.txt", os.X_OK)
    assert tree.access("folder", os.R_OK | os.X_OK)


def test_a_file_may_have_several_paths_and_the_first_to_come_keeps_a_path():
    tree = _files.Tree("/2")
    tree.add(["/2/a", "/x/a"], b"one", 0)
    tree.add(["/2/a"], b"two", 0)
    tree.add(["/2/a/b", "/y"], b"three", 0)
    assert [tree.open(path, "rb").read() for path in ("a", "/x/a", "/y")] == [b"one", b"one", b"three"]
    assert (tree.files, tree.size) == (2, 8)
    assert tree.listdir("/") == ["2", "x", "y"]
    assert tree.listdir() == ["a"]
    tree.chdir("../x")
    assert (tree.getcwd(), tree.getcwdb(), tree.listdir()) == ("/x", b"/x", ["a"])
    with pytest.raises(NotADirectoryError):
        tree.chdir("a")


# --- What is built on them, in a process of its own since it replaces functions for good


SCRIPT = """
import sys
from covet import _files
root, *flags = sys.argv[1:]
sealed = "sealed" in flags
import os
os.chdir(root)
if sealed:
    _files.install()
import glob, importlib, importlib.metadata, importlib.resources, inspect, json, pathlib, pkgutil, shutil, tempfile, tomllib
import configparser, datetime, zoneinfo
from os import listdir as kept
from pathlib import Path
sys.path.insert(0, root + "/packages")
import pack
if sealed:
    application = ["a.txt", "data/one.json", "data/two.toml", "data/deep/three.ini"]
    _files.load(root, [[f"{root}/{name}", f"{root}/{name}"] for name in application])
    _files.load_package_data([root + "/packages"], [], 1 << 20)
    _files.seal()

def attempt(function):
    try:
        return repr(function())
    except OSError as error:
        return f"{type(error).__name__} {error.filename!r}"
    except Exception as error:
        return f"{type(error).__name__} {error}"

def read(path, **options):
    with open(path, **options) as file:
        return file.read()

HERE = Path(root)
config = configparser.ConfigParser()
results = [attempt(function) for function in [
    lambda: read("a.txt"),
    lambda: read(HERE / "a.txt", mode="rb"),
    lambda: Path("a.txt").read_text(),
    lambda: (HERE / "data" / ".." / "a.txt").read_bytes(),
    lambda: [(path.exists(), path.is_file(), path.is_dir(), path.is_symlink()) for path in map(Path, ["a.txt", "data", "no"])],
    lambda: (Path("a.txt").stat().st_size, Path("data").resolve(), Path("data").absolute(), Path.cwd()),
    lambda: sorted(Path("data").iterdir()),
    lambda: sorted(Path("data").rglob("*")) + sorted(HERE.glob("data/*.json")),
    lambda: sorted(glob.glob("data/**", recursive=True)) + sorted(glob.glob("*.json", root_dir="data")),
    lambda: sorted((a, sorted(b), sorted(c)) for a, b, c in os.walk("data")),
    lambda: sorted(kept("data")),
    lambda: (os.path.isfile("a.txt"), os.path.getsize("a.txt"), os.path.exists("data/no"), os.path.realpath("data/../a.txt")),
    lambda: os.path.samefile("a.txt", "data/../a.txt"),
    lambda: os.path.samefile("a.txt", "data/one.json"),
    lambda: json.load(open("data/one.json")),
    lambda: tomllib.load(open("data/two.toml", "rb")),
    lambda: (config.read(["data/deep/three.ini", "no.ini"]), dict(config["s"])),
    lambda: pkgutil.get_data("pack", "data/text.txt"),
    lambda: importlib.resources.files("pack").joinpath("data", "text.txt").read_text(),
    lambda: importlib.resources.files("pack").joinpath("no.txt").read_text(),
    lambda: sorted(item.name for item in importlib.resources.files("pack").joinpath("data").iterdir()),
    lambda: [importlib.resources.as_file(importlib.resources.files("pack") / "data/text.txt").__enter__()],
    lambda: importlib.metadata.version("pack"),
    lambda: importlib.metadata.metadata("pack")["Summary"],
    lambda: importlib.metadata.version("never"),
    lambda: read(Path(pack.__file__).parent / "data" / "text.txt"),
    lambda: read("no"),
    lambda: read("data"),
    lambda: os.fspath(Path("a.txt")),
    lambda: os.stat("a.txt", follow_symlinks=False).st_size,
    lambda: os.stat(path="a.txt").st_size,
    lambda: sorted(os.listdir(path="data")),
    lambda: open(file="a.txt").readline(),
    lambda: (os.stat in os.supports_follow_symlinks, os.open in os.supports_dir_fd),
    lambda: os.fstat(os.stat(0) and 0).st_mode == os.stat(0).st_mode,
    lambda: open(os.dup(0)).close(),
]]
if sealed:
    writes = [
        lambda: open("a.txt", "w"),
        lambda: open("new", "x"),
        lambda: Path("new").write_text("x"),
        lambda: Path("new").touch(),
        lambda: os.makedirs("new/folder"),
        lambda: os.remove("a.txt"),
        lambda: os.rename("a.txt", "b.txt"),
        lambda: os.utime("a.txt"),
        lambda: os.chmod("a.txt", 0),
        lambda: os.truncate("a.txt", 0),
        lambda: os.symlink("a.txt", "b"),
        lambda: shutil.copyfile("a.txt", "b"),
        lambda: shutil.move("a.txt", "b"),
        lambda: tempfile.mkdtemp(dir="data"),
    ]
    found = [attempt(write).split()[0] for write in writes]
    assert found == ["PermissionError"] * len(writes), found
    # Neither the modules nor what was not bundled.
    assert attempt(lambda: read(pack.__file__)).startswith("FileNotFoundError")
    assert not os.path.exists("secret") and not os.path.exists("/etc/passwd") and not os.path.exists("packages/never/data.txt")
    # Zones come from tzdata and not from the system.
    assert zoneinfo.TZPATH == (root + "/packages/tzdata/zoneinfo",)
    assert attempt(lambda: zoneinfo.ZoneInfo("Test/Zone")) == "zoneinfo.ZoneInfo(key='Test/Zone')"
    assert attempt(lambda: zoneinfo.ZoneInfo("Europe/Berlin")).startswith("ZoneInfoNotFoundError")
print(json.dumps(results))
"""


def test_pathlib_and_all_else_that_reads_files_works_on_the_tree(tmp_path):
    root = write(
        tmp_path / "root",
        {
            "a.txt": "text\n",
            "secret": "s",
            "data/one.json": "[1]",
            "data/two.toml": "a = 1",
            "data/deep/three.ini": "[s]\nx = y",
            "packages/pack/__init__.py": "",
            "packages/pack/data/text.txt": "of a package",
            "packages/pack-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: pack\nVersion: 1.5\nSummary: packed\n",
            "packages/pack-1.5.dist-info/RECORD": "pack/__init__.py,,\n",
            "packages/never/__init__.py": "",
            "packages/never/data.txt": "never imported",
            "packages/tzdata/__init__.py": "",
        },
    )
    (root / "packages/tzdata/zoneinfo/Test").mkdir(parents=True)
    (root / "packages/tzdata/zoneinfo/Test/Zone").write_bytes(UTC)

    def run(*flags):
        command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", SCRIPT, str(root), *flags]
        output = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert output.returncode == 0, output.stderr
        return json.loads(output.stdout)

    real, sealed = run(), run("sealed")
    for number, (expected, found) in enumerate(zip(real, sealed, strict=True)):
        assert found == expected, number


#: A time zone that is UTC, as RFC 8536 writes it: a header and one kind of time, twice, and a rule.
UTC = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"
UTC = UTC + UTC + b"\nUTC0\n"


def test_files_are_found_by_real_paths_too_while_a_component_is_built(tmp_path):
    root = write(tmp_path, {"app/main.py": "", "app/real.txt": "real", "kept/0": "bundled"})
    script = f"""
import os
from covet import _files
_files.install()
os.chdir({str(root / "app")!r})
_files.load({str(root / "app")!r}, [[{str(root / "kept" / "0")!r}, "/templates/x", {str(root / "app" / "t" / "x")!r}]])
assert open("real.txt").read() == "real"
assert open("/templates/x").read() == open("t/x").read() == "bundled"
assert os.access("t/x", os.R_OK) and os.path.isdir("/templates") and not os.path.exists("t/y")
open("written", "w").write("x")
os.remove("written")
try:
    open("nothing")
except FileNotFoundError as error:
    assert "bundled" not in str(error), error
_files.seal()
assert not os.path.exists("real.txt") and open("t/x").read() == "bundled"
"""
    subprocess.run([sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", script], check=True)


# --- Which files are bundled


def bundled(project, module="main", sources=None, **pyproject):
    """The names in the component of the files that a build of a project takes, with their contents."""
    target = find_target(module, project)
    if sources is None:
        sources = [path.relative_to(target.import_root) for path in target.import_root.rglob("*.py")]
    found = bundle.find_files(target, sources, bundle.read_settings(project, **pyproject))
    return {name: file.path.read_text(encoding="utf-8") for file in found for name in file.names}


def tool_covet(text):
    return f'[project]\nname = "x"\ndependencies = []\n[tool.covet]\n{text}'


def test_the_usual_folders_are_taken_without_what_is_hidden_or_junk(tmp_path):
    write(
        tmp_path,
        {
            "main.py": "",
            "static/app.js": "js",
            "static/dist/build/x.wasm": "wasm",
            "templates/mail/body.txt": "mail",
            "public/index.html": "html",
            "assets/logo.svg": "svg",
            "shop/web.py": "",
            "shop/templates/page.html": "page",
            "docs/static/none.css": "no module is beside it",
            "data/words.txt": "not named",
            "static/.env": "SECRET",
            "static/.git/config": "hidden",
            "static/node_modules/a.js": "junk",
            "assets/__pycache__/a.pyc": "junk",
            "assets/old.pyc": "junk",
            "templates/tags.py": "code",
        },
    )
    expected = {
        *("static/app.js", "static/dist/build/x.wasm", "templates/mail/body.txt", "public/index.html", "assets/logo.svg"),
        "shop/templates/page.html",
    }
    assert set(bundled(tmp_path)) == expected
    write(tmp_path, {"pyproject.toml": tool_covet('exclude = ["*.svg", "static/dist", "templates/**/*.txt"]')})
    assert set(bundled(tmp_path)) == {"static/app.js", "public/index.html", "shop/templates/page.html"}


def test_files_that_are_named_are_taken_wherever_they_are(tmp_path):
    write(
        tmp_path,
        {
            "main.py": "",
            "data/a.json": "1",
            "data/b.csv": "2",
            "data/deep/c.json": "3",
            "data/.hidden.json": "4",
            ".well-known/security.txt": "5",
            "node_modules/lib/lib.js": "6",
            "README": "7",
        },
    )
    for patterns, expected in [
        (["data/*.json"], {"data/a.json"}),
        (["data/**/*.json"], {"data/a.json", "data/deep/c.json"}),
        (["data"], {"data/a.json", "data/b.csv", "data/deep/c.json"}),
        (["data/.hidden.json", ".well-known"], {"data/.hidden.json", ".well-known/security.txt"}),
        (["node_modules/lib/*", "main.py", "READM?"], {"node_modules/lib/lib.js", "main.py", "README"}),
    ]:
        write(tmp_path, {"pyproject.toml": tool_covet(f"include = {json.dumps(patterns)}")})
        assert set(bundled(tmp_path)) == expected, patterns
    write(tmp_path, {"pyproject.toml": tool_covet('include = ["data"]\nexclude = ["data/deep/**"]')})
    assert set(bundled(tmp_path, include=["README"])) == {"data/a.json", "data/b.csv", "README"}


def test_a_project_with_a_folder_src_has_its_files_in_both_places(tmp_path):
    write(
        tmp_path,
        {
            "pyproject.toml": tool_covet('include = ["data/x.json"]'),
            "src/shop/__init__.py": "",
            "src/shop/static/a.css": "of the package",
            "templates/page.html": "of the project",
            "data/x.json": "{}",
        },
    )
    assert bundled(tmp_path, "shop") == {
        "shop/static/a.css": "of the package",
        "../templates/page.html": "of the project",
        "templates/page.html": "of the project",
        "../data/x.json": "{}",
        "data/x.json": "{}",
    }
    target = find_target("shop", tmp_path)
    found = bundle.find_files(target, [Path("shop/__init__.py")], bundle.read_settings(tmp_path))
    (tmp_path / "into").mkdir()
    copied = bundle.copy_files(found, tmp_path / "into", "/0/files", "/2")
    # Above the application's folder in a component there is only the root.
    assert sorted(paths[1:] for paths in copied) == [
        ["/2/shop/static/a.css"],
        ["/data/x.json", "/2/data/x.json"],
        ["/templates/page.html", "/2/templates/page.html"],
    ]
    for (source, *_), file in zip(copied, found, strict=True):
        copy = tmp_path / "into" / Path(source).name
        assert (copy.read_bytes(), copy.stat().st_mtime_ns) == (file.path.read_bytes(), file.path.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('include = ["data/*.jsn"]', r"'data/\*\.jsn', which is to be included, finds no file in"),
        ('include = ["/etc/passwd"]', "'/etc/passwd' is no pattern for files of the project"),
        ('include = ["../secret"]', "stays there"),
        ('exclude = [""]', "'' is no pattern"),
        ('include = "data"', r"include in \[tool.covet\] is not a list of strings"),
        ("exclude = [1]", "exclude .* is not a list of strings"),
        ('includes = ["data"]', "has no 'includes'; it has bundle-max-mib, exclude, include"),
        ('bundle-max-mib = "1"', "is not a number from 0 to 2048"),
        ("bundle-max-mib = true", "is not a number"),
        ("bundle-max-mib = 5000", "is not a number"),
        ("bundle-max-mib = 0", r"larger than 0 MiB \(static/large 0\.\d MB, static/small 0\.\d MB\)\. Leave out what"),
        ("include = [", "cannot be read"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, text, message):
    write(tmp_path, {"main.py": "", "static/small": "x", "static/large": "x" * 400_000, "pyproject.toml": tool_covet(text)})
    with pytest.raises(BuildError, match=message):
        bundled(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*.map", ["a.map", "x/y/b.map", "a.map/below"], ["a.maps", "map"]),
        ("data", ["data", "data/x", "x/data/y"], ["database"]),
        ("/data", ["data", "x/data"], []),
        ("data/*", ["data/x", "data/x/y"], ["data", "x/data/y"]),
        ("data/**", ["data/x", "data/x/y"], ["data"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b", "a/b/c"], ["ab", "a/xb"]),
        ("**/b", ["b", "a/b"], ["ab"]),
        ("a/?.[ch]", ["a/x.c", "a/y.h"], ["a/xx.c", "a/x.d", "a//.c"]),
        ("a/[!a-c]", ["a/d"], ["a/b", "a/-x"]),
        ("a/[", ["a/["], ["a/"]),
        ("a/x+(y).z", ["a/x+(y).z"], ["a/xx(y).z", "a/x+(y)_z"]),
    ],
)
def test_patterns_match_paths(pattern, matches, others):
    expression = re.compile(bundle.expression_of(pattern))
    assert [path for path in matches if not expression.fullmatch(path)] == []
    assert [path for path in others if expression.fullmatch(path)] == []


def test_the_fingerprint_follows_bundled_files_and_settings(tmp_path):
    write(tmp_path, {"main.py": "", "static/x.wasm": "1", ".hidden": "1", "data/node_modules/x": "1"})

    def fingerprint(*include):
        return component.fingerprint(find_target("main", tmp_path), include=include)

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    for name in ("static/x.wasm", ".hidden"):
        write(tmp_path, {name: "2"})
        seen.append(fingerprint())
    assert seen[1] == seen[2] != seen[0]
    write(tmp_path, {"pyproject.toml": "[tool.covet]\ninclude = ['.hidden']"})
    seen[2] = fingerprint()
    write(tmp_path, {".hidden": "3"})
    seen += [fingerprint(), fingerprint("data/node_modules/x")]
    assert len(set(seen)) == 5


def test_package_data_has_bounds_and_can_be_left_out(tmp_path):
    """In a process of its own, because the packages have to be imported."""
    write(
        tmp_path,
        {
            "big/__init__.py": "",
            "big/data/one.dat": "x" * 3_000_000,
            "big/py.typed": "",
            "big/stub.pyi": "",
            "small/__init__.py": "",
            "small/words.txt": "x" * 100,
            "idle/__init__.py": "",
            "idle/words.txt": "x" * 100,
            "single.py": "",
        },
    )
    script = f"""
import sys
root = {str(tmp_path)!r}
sys.path.insert(0, root)
import big, small, single
from covet import _files
_files.load("/2", [])
try:
    _files.load_package_data([root], [], 2 << 20)
except _files.BundleError as error:
    assert "larger than 2 MiB (big 3.0 MB, small 0.0 MB, the application 0.0 MB)" in str(error), error
else:
    raise AssertionError
assert _files.load_package_data([root], [{bundle.expression_of("big/data/*")!r}], 2 << 20) == (1, 100)
assert _files.load_package_data([root], [], 4 << 20) == (2, 3_000_100)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


# --- FileResponse


SIZE = 1000
TEXT = "".join(f"{number:09}\n" for number in range(SIZE // 10))


@pytest.fixture
def site(tmp_path, serve):
    """An application that sends files, and their folder."""
    write(tmp_path, {"a.txt": TEXT, "empty.bin": "", "page.html": "<p>", 'ünï "q".txt': "u"})
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 4096)
    os.utime(tmp_path / "a.txt", (1_700_000_000, 1_700_000_000))
    app = CovetPy(docs_url=None, redoc_url=None)
    app.state.options = {}

    @app.route("/{name}", ["GET", "HEAD", "POST"])
    def file(name: str) -> FileResponse:
        return FileResponse(tmp_path / name, **app.state.options)

    instance = serve(app)
    instance.folder, instance.options = tmp_path, app.state.options
    return instance


def ask(site, target, method="GET", **fields):
    return site.request(method, target, headers=[(name.replace("_", "-"), value) for name, value in fields.items()])


def test_a_file_is_sent_whole_with_what_describes_it(site):
    answer = site.get("/a.txt")
    assert (answer.status, answer.text) == (200, TEXT)
    assert dict(answer.headers) == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "1000",
        "accept-ranges": "bytes",
        "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT",
        "etag": f'"{1_700_000_000 * 10**9:x}-3e8"',
    }
    empty = site.get("/empty.bin")
    assert (empty.status, empty.content, empty.header("content-length")) == (200, b"", "0")
    assert empty.header("content-type") == "application/octet-stream"


def test_a_large_file_is_streamed_in_pieces_and_closed(site):
    new = site.host.stream_new

    def stream_new(type_):
        # The client reads slowly.
        handles = new(type_)
        site.host.streams[handles >> 32].room = 300_000
        return handles

    site.host.stream_new = stream_new
    before = len(os.listdir("/dev/fd"))
    task = site.begin("GET", "/large.bin")
    assert list(map(len, task.streamed.taken)) == [256 * 1024, 300_000 - 256 * 1024]
    assert len(os.listdir("/dev/fd")) == before + 1
    site.host.make_room(task.streamed, float("inf"))
    site.host.run()
    answer = site.answer(task)
    assert answer.content == bytes(range(256)) * 4096
    assert answer.header("content-length") == str(1 << 20)
    assert len(os.listdir("/dev/fd")) == before
    # And when the client goes away.
    task = site.begin("GET", "/large.bin")
    assert len(os.listdir("/dev/fd")) == before + 1
    site.host.hang_up(task.streamed)
    site.host.run()
    assert task.ended
    assert len(os.listdir("/dev/fd")) == before


def test_head_has_the_fields_of_get_and_no_body(site):
    for name in ("a.txt", "large.bin", "empty.bin"):
        get, head = ask(site, f"/{name}"), ask(site, f"/{name}", "HEAD")
        assert (head.status, dict(head.headers), head.content) == (200, dict(get.headers), b"")
    site.options["method"] = "HEAD"
    assert ask(site, "/a.txt").content == b""


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"if_none_match": "{etag}"}, 304),
        ({"if_none_match": 'W/{etag}, "x"'}, 304),
        ({"if_none_match": '"a, b", {etag}'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"other"'}, 200),
        ({"if_none_match": "{etag}x"}, 304),
        ({"if_none_match": "no quotes"}, 200),
        ({"if_none_match": '"other"', "if_modified_since": "{date}"}, 200),
        ({"if_modified_since": "{date}"}, 304),
        ({"if_modified_since": "Tue, 14 Nov 2023 22:13:21 GMT"}, 304),
        ({"if_modified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
        ({"if_modified_since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),
        ({"if_modified_since": "Saturday, 14-Nov-98 22:13:20 GMT"}, 200),
        ({"if_modified_since": "Tue Nov 14 22:13:20 2023"}, 304),
        ({"if_modified_since": "Tue Nov  4 22:13:20 2023"}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": "Tue, 14 Nov 2023 22:13:20"}, 200),
        ({"if_match": "{etag}"}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": "W/{etag}"}, 412),
        ({"if_match": '"other"'}, 412),
        ({"if_match": "{etag}", "if_none_match": "{etag}"}, 304),
        ({"if_unmodified_since": "{date}"}, 200),
        ({"if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 412),
        ({"if_unmodified_since": "then"}, 200),
        ({"if_match": "{etag}", "if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
        ({"if_none_match": "{etag}", "range": "bytes=0-1"}, 304),
    ],
)
def test_conditions_are_those_of_rfc_9110(site, fields, status):
    whole = site.get("/a.txt")
    values = {"etag": whole.header("etag"), "date": whole.header("last-modified")}
    answer = ask(site, "/a.txt", **{name: value.format(**values) for name, value in fields.items()})
    assert answer.status == status
    assert answer.content == (TEXT.encode() if status == 200 else b"")
    assert answer.header("etag") == values["etag"]
    assert (answer.header("content-type") is not None) == (status == 200)
    # They are for requests that read.
    posted = ask(site, "/a.txt", "POST", **{name: value.format(**values) for name, value in fields.items()})
    assert (posted.status, posted.text) == (200, TEXT)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-9", [(0, 10)]),
        ("bytes=990-", [(990, 1000)]),
        ("bytes=-10", [(990, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("bytes=0-99999999999999999999", [(0, 1000)]),
        ("Bytes = 5-6", [(5, 7)]),
        ("bytes=0-4, 3-9", [(0, 10)]),
        ("bytes=0-4,5-9", [(0, 10)]),
        ("bytes=0-0, 2000-3000", [(0, 1)]),
        ("bytes=,,0-0 ,", [(0, 1)]),
        ("bytes=0-0,-1", [(0, 1), (999, 1000)]),
        ("bytes=500-509,0-9,100-", [(0, 10), (100, 1000)]),
    ],
)
def test_ranges_are_sent_as_they_are_asked_for(site, value, parts):
    for target, data in (("/a.txt", TEXT.encode()), ("/large.bin", bytes(range(256)) * 4096)):
        if target == "/large.bin" and not re.search(r"=\d+-\d+$|=0-0,", value):
            continue
        size = len(data)
        parts_here = [(start + size - 1000, size) if end == 1000 and start else (start, min(end, size)) for start, end in parts]
        if "9999" in value:
            parts_here = [(0, size)]
        answer = ask(site, target, range=value)
        assert answer.status == 206
        assert answer.header("content-length") == str(len(answer.content))
        if target == "/large.bin" and "2000" in value:
            continue
        assert received(answer) == [(f"bytes {start}-{end - 1}/{size}", data[start:end]) for start, end in parts_here]


def received(answer):
    """The ranges in a response and their contents, read by the standard library's parser of mail."""
    media_type = answer.header("content-type")
    if not media_type.startswith("multipart/byteranges"):
        return [(answer.header("content-range"), answer.content)]
    assert answer.header("content-range") is None
    message = email.message_from_bytes(
        f"Content-Type: {media_type}\r\n\r\n".encode() + answer.content, policy=email.policy.HTTP
    )
    assert not message.defects
    parts = list(message.iter_parts())
    assert {part["content-type"].split(";")[0] for part in parts} <= {"text/plain", "application/octet-stream"}
    # Its parser takes the line ends of text for its own, so the contents are cut out by their lengths.
    found, position = [], 0
    for part in parts:
        match = re.match(r"bytes (\d+)-(\d+)/", part["content-range"])
        position = answer.content.index(b"\r\n\r\n", position) + 4
        length = int(match[2]) - int(match[1]) + 1
        found.append((part["content-range"], answer.content[position : position + length]))
        position += length
        assert answer.content[position:].startswith(b"\r\n--" + media_type.partition("boundary=")[2].encode())
    return found


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("bytes=1000-", 416),
        ("bytes=1000-2000,3000-", 416),
        ("bytes=-0", 416),
        ("bytes=9-8", 400),
        ("bytes=", 400),
        ("bytes=,", 400),
        ("bytes=-", 400),
        ("bytes=a-b", 400),
        ("bytes=1-2-3", 400),
        ("bytes=+1-2", 400),
        ("bytes=1_0-20", 400),
        ("bytes=0-1,x", 400),
        ("bytes=\u0660-\u0661", 400),
        ("bytes=0-" + "9" * 5000, 400),
        ("bytes", 400),
        ("pages=1-2", 200),
        ("bytes=" + ",".join(f"{number * 2}-{number * 2}" for number in range(101)), 200),
    ],
)
def test_ranges_that_cannot_be_sent(site, value, status):
    site.options["filename"] = "a.txt"
    answer = ask(site, "/a.txt", range=value)
    assert answer.status == status
    if status == 200:
        assert answer.text == TEXT
        return
    names = set(dict(answer.headers))
    assert names == {"content-type", "content-range"} if status == 416 else {"content-type"}
    assert answer.header("content-range") == ("bytes */1000" if status == 416 else None)
    assert answer.content


def test_an_empty_file_has_no_ranges_to_refuse(site):
    for value in ("bytes=0-", "bytes=-1", "bytes=5-6"):
        assert ask(site, "/empty.bin", range=value).status == 200


@pytest.mark.parametrize(
    ("version", "status"),
    [("{etag}", 206), ("{date}", 206), ("W/{etag}", 200), ('"other"', 200), ("Tue, 14 Nov 2023 22:13:21 GMT", 200), ("", 200)],
)
def test_ranges_of_another_version_are_the_whole_file(site, version, status):
    whole = site.get("/a.txt")
    value = version.format(etag=whole.header("etag"), date=whole.header("last-modified"))
    assert ask(site, "/a.txt", range="bytes=0-0", if_range=value).status == status


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 1200), st.integers(0, 1200)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
            st.integers(0, 1200).map("{}-".format),
            st.integers(0, 1200).map("-{}".format),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_ranges_give_each_octet_that_was_asked_for_once(wanted):
    octets = set()
    for part in wanted:
        first, _, last = part.partition("-")
        indexes = range(SIZE)
        octets.update(indexes[int(first) : int(last or SIZE) + 1] if first else indexes[max(SIZE - int(last), 0) :])
    found = files._merged(files._ranges(",".join(wanted), SIZE))
    sent = [octet for start, end in found for octet in range(start, end)]
    assert sent == sorted(octets)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))


@given(st.text(alphabet='bytes=0123456789-, ;\u0660x"', max_size=30))
def test_no_range_is_more_than_a_client_error(value):
    assert files._ranges(value, SIZE) is None or all(0 <= start < end <= SIZE for start, end in files._ranges(value, SIZE))


@pytest.mark.parametrize(
    ("filename", "field"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("my report.pdf", 'attachment; filename="my report.pdf"'),
        ('a"b\\c.txt', 'attachment; filename="a\\"b\\\\c.txt"; filename*=utf-8\'\'a%22b%5Cc.txt'),
        ("naïve €.txt", "attachment; filename=\"na_ve _.txt\"; filename*=utf-8''na%C3%AFve%20%E2%82%AC.txt"),
        ("a%41.txt", "attachment; filename=\"a%41.txt\"; filename*=utf-8''a%2541.txt"),
        ("x\r\nset-cookie: a=b", "attachment; filename=\"x__set-cookie: a=b\"; filename*=utf-8''x%0D%0Aset-cookie%3A%20a%3Db"),
        ("../../etc/passwd", 'attachment; filename="../../etc/passwd"'),
    ],
)
def test_names_to_store_a_file_under(site, filename, field):
    site.options["filename"] = filename
    assert site.get("/a.txt").header("content-disposition") == field
    site.options["content_disposition_type"] = "inline"
    assert site.get("/a.txt").header("content-disposition") == field.replace("attachment", "inline")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.html", "text/html"),
        ("a.js", "text/javascript"),
        ("A.CSS", "text/css"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.tar.gz", "application/gzip"),
        ("a.unknown-thing", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("folder.html/file", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("a.tgz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
    ],
)
def test_media_types_are_those_of_the_names(name, media_type):
    assert files.media_type_of(name) == media_type
    assert files.media_type_of(Path(name)) == media_type


def test_what_is_given_comes_before_what_is_found_out(site):
    site.options.update(media_type="text/x-mine", status_code=203, headers={"etag": '"mine"', "x-a": "1"})
    answer = ask(site, "/a.txt", if_none_match='"mine"')
    # Conditions are for what would be a 200.
    assert (answer.status, answer.header("etag"), answer.header("x-a")) == (203, '"mine"', "1")
    assert answer.header("content-type") == "text/x-mine; charset=utf-8"
    del site.options["status_code"]
    assert ask(site, "/a.txt", if_none_match='"mine"').status == 304
    site.options["stat_result"] = os.stat(site.folder / "page.html")
    assert site.get("/a.txt").header("last-modified") == site.get("/page.html").header("last-modified")


def test_a_file_that_is_missing_is_an_error_of_the_application(site, caplog):
    for name, words in [("missing", "does not exist"), (".", "is not a file"), ("a.txt%2Fx", "does not exist")]:
        answer = site.get(f"/{name}")
        assert (answer.status, answer.json()) == (500, {"detail": "Internal Server Error"})
        error = caplog.records[-1].exc_info[1]
        assert type(error) is RuntimeError
        assert words in str(error)


def test_a_response_may_be_returned_more_than_once_and_changed_by_middleware(tmp_path, serve):
    write(tmp_path, {"a.txt": TEXT, "b.txt": "b" * 2000})
    app = CovetPy(docs_url=None, redoc_url=None)
    kept = FileResponse(tmp_path / "a.txt")
    done = []

    @app.get("/kept")
    def again() -> FileResponse:
        return kept

    @app.get("/replaced")
    def replaced() -> FileResponse:
        return FileResponse(tmp_path / "b.txt", background=BackgroundTask(done.append, "b"))

    @app.middleware("http")
    async def change(request, call_next):
        response = await call_next(request)
        response.headers["x-seen"] = "yes"
        if "body" in request.query_params:
            response.body = "something else"
        return response

    instance = serve(app)
    for _ in range(2):
        assert ask(instance, "/kept", range="bytes=0-0").content == b"0"
        whole = ask(instance, "/kept")
        assert (whole.status, whole.text, whole.header("x-seen"), whole.header("content-range")) == (200, TEXT, "yes", None)
        assert ask(instance, "/kept", if_none_match="*").header("x-seen") == "yes"
    answer = ask(instance, "/replaced?body=1", range="bytes=0-0", if_none_match="*")
    assert (answer.status, answer.text, answer.header("etag")) == (200, "something else", None)
    assert ask(instance, "/replaced", range="bytes=0-0").status == 206
    assert ask(instance, "/replaced", if_none_match="*").status == 304
    assert done == ["b"] * 3


# --- StaticFiles


@pytest.fixture
def static(tmp_path, serve):
    write(
        tmp_path,
        {
            "secret.txt": "secret",
            "static/a.css": "css",
            "static/.env": "hidden",
            "static/.git/config": "hidden",
            "static/deep/b c.txt": "deep",
            "static/docs/index.html": "index",
            "static/index.html": "home",
            "static-other/x.txt": "beside",
        },
    )
    (tmp_path / "static" / "out.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "static" / "outside").symlink_to(tmp_path / "static-other")
    (tmp_path / "static" / "in.css").symlink_to(tmp_path / "static" / "a.css")
    app = CovetPy(docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(tmp_path / "static"))
    app.mount("/html", StaticFiles(directory=tmp_path / "static", html=True))
    app.mount("/links", StaticFiles(directory=tmp_path / "static", follow_symlink=True))
    return serve(app)


def test_files_below_a_folder_are_served(static):
    answer = static.get("/static/a.css")
    assert (answer.status, answer.text, answer.header("content-type")) == (200, "css", "text/css; charset=utf-8")
    assert ask(static, "/static/a.css", if_none_match=answer.header("etag")).status == 304
    assert ask(static, "/static/a.css", range="bytes=1-").text == "ss"
    head = ask(static, "/static/a.css", "HEAD")
    assert (head.status, head.content, head.header("content-length")) == (200, b"", "3")
    assert static.get("/static/deep/b%20c.txt").text == "deep"
    assert static.get("/static/deep//b%20c.txt").text == "deep"
    assert static.get("/static/in.css").text == "css"


TRAVERSALS = [
    *("../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "%2e%2e%2fsecret.txt", "deep/../../secret.txt", "deep/../a.css"),
    *("..%5csecret.txt", "..\\secret.txt", "%2fetc%2fpasswd", "/etc/passwd", "%2Fa.css", "a.css%00", "%00", "a.css%00.txt"),
    *(".env", ".git/config", "deep/.x", ".", "./a.css", "%2e/a.css", "a.css/", "a.css/x", "deep", "deep/", "", "nothing"),
    *("out.txt", "outside/x.txt", "../static-other/x.txt", "x" * 5000, "%ff", "%ed%a0%80", "~root", "C:/x", "a.css;x"),
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_nothing_else_is_served(static, path):
    try:
        status = static.get(f"/static/{path}").status
    except BadPath:
        # The host does not ask the guest then.
        status = 404
    assert status == 404


@given(
    st.lists(st.sampled_from(["..", "%2e%2e", "%2f", "%5c", "/", ".", "static", "secret.txt", "static-other", "x.txt", "%00"]))
)
def test_no_path_leads_out_of_the_folder(path):
    parts = staticfiles._parts(unquote("".join(path)))
    if parts is not None:
        joined = os.path.normpath("/".join(["/root", *parts]))
        assert joined == "/root" or joined.startswith("/root/")
        assert "\0" not in joined


def test_links_are_followed_only_where_that_is_said(static):
    assert static.get("/links/out.txt").text == "secret"
    assert static.get("/links/outside/x.txt").text == "beside"
    assert static.get("/links/../secret.txt").status == 404


def test_pages_have_an_index_and_a_page_for_what_is_missing(static, tmp_path):
    assert static.get("/html/").text == "home"
    assert static.get("/html/docs/").text == "index"
    redirect = static.get("/html/docs?a=b%20c")
    assert (redirect.status, redirect.header("location")) == (307, "/html/docs/?a=b%20c")
    assert static.get("/html/deep/").status == 404
    assert static.get("/html//docs").status == 404
    write(tmp_path, {"static/404.html": "nowhere"})
    for path in ("nothing", "deep/", "../secret.txt", ".env"):
        answer = static.get(f"/html/{path}")
        assert (answer.status, answer.text, answer.header("content-type")) == (404, "nowhere", "text/html; charset=utf-8")
    assert ask(static, "/html/nothing", range="bytes=0-0", if_none_match="*").text == "nowhere"
    assert static.get("/static/nothing").json() == {"detail": "Not Found"}


def test_folders_are_looked_for_at_once(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="there is no folder 'nothing' for StaticFiles in /"):
        StaticFiles("nothing")
    StaticFiles("nothing", check_dir=False)
    with pytest.raises(TypeError, match="needs a directory"):
        StaticFiles()
    with pytest.raises(RuntimeError, match="no package 'nobody_has_this'"):
        StaticFiles(packages=["nobody_has_this"])
    write(tmp_path, {"packaged/__init__.py": "", "packaged/statics/p.txt": "p", "packaged/web/q.txt": "q"})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError, match="the package 'packaged' has no folder 'none'"):
        StaticFiles(packages=[("packaged", "none")])
    found = StaticFiles(packages=["packaged", ("packaged", "web")])
    assert [Path(folder).name for folder in found.directories] == ["statics", "web"]


# --- Templates


def test_templates_make_pages(tmp_path, serve):
    pytest.importorskip("jinja2")
    from covet.templating import Jinja2Templates

    write(
        tmp_path,
        {
            "page.html": "<p>{{ name }} {{ user }} {{ url_for('page', name='x') }} {{ request.path }}",
            "plain.txt": "{{ name }}",
        },
    )
    templates = Jinja2Templates(tmp_path, context_processors=[lambda request: {"user": request.headers.get("x-user")}])
    app = CovetPy(docs_url=None, redoc_url=None)

    @app.get("/page/{name}")
    def page(request: Request, name: str) -> Response:
        return templates.TemplateResponse(request, "page.html", {"name": name}, status_code=201, headers={"x-a": "b"})

    instance = serve(app)
    answer = ask(instance, "/page/%3Cb%3E", x_user="<i>")
    assert answer.text == "<p>&lt;b&gt; &lt;i&gt; http://testhost:8000/page/x /page/&lt;b&gt;"
    assert (answer.status, answer.header("x-a"), answer.header("content-type")) == (201, "b", "text/html; charset=utf-8")
    made = templates.TemplateResponse(SimpleNamespace(headers={}), "plain.txt", {"name": "<b>"})
    assert (made.body, made.template.name, made.context["user"]) == ("<b>", "plain.txt", None)
    with pytest.raises(TypeError, match="the request comes first"):
        templates.TemplateResponse("page.html", {"request": None})
    with pytest.raises(TypeError, match="either a directory or an env"):
        Jinja2Templates()
    assert Jinja2Templates(env=templates.env).env is templates.env


def test_templates_are_compiled_at_the_end_of_a_build(tmp_path, caplog):
    pytest.importorskip("jinja2")
    from covet.templating import Jinja2Templates

    write(tmp_path, {"good.html": "{{ 1 | shout }}", "bad.html": "{% if %}", "deep/x.txt": "x"})
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    templates = Jinja2Templates(tmp_path)
    # What the application adds after it has made this counts.
    templates.env.filters["shout"] = "{}!".format
    templates._compile()
    assert "bad.html cannot be compiled: Expected an expression" in caplog.text
    assert "picture.png" in caplog.text
    for path in tmp_path.rglob("*.html"):
        path.unlink()
    assert templates.get_template("good.html").render() == "1!"


# --- The pages of the OpenAPI document


def test_the_pages_load_only_what_the_application_serves(serve):
    app = CovetPy(
        title="A </title><script>",
        servers=[{"url": "/v1"}, {"url": "https://api.example.com/v1"}, {"url": "https://evil.example; script-src *"}],
    )
    app.swagger_ui_parameters = {"filter": "</script>"}
    app.swagger_ui_init_oauth = {"clientId": "c"}
    instance = serve(app)
    hosts = set()
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        page = instance.get(path)
        assert (page.status, page.header("content-type")) == (200, "text/html; charset=utf-8")
        assert "</title><script>" not in page.text
        loaded = re.findall(r'(?:src|href|spec-url)="([^"]*)"', page.text)
        if path == "/docs":
            loaded.append(re.search(r'"url": "([^"]*)"', page.text)[1])
        assert loaded
        for url in loaded:
            absolute = urljoin(f"http://testhost{path}", url)
            hosts.add(urlsplit(absolute).netloc)
            assert instance.get(urlsplit(absolute).path).status == 200, url
            # Behind a proxy that puts a prefix before all paths.
            assert urljoin(f"http://testhost/prefix{path}", url) == absolute.replace("testhost/", "testhost/prefix/")
        check_policy(page)
    assert hosts == {"testhost"}
    docs = instance.get("/docs")
    assert "connect-src 'self' https://api.example.com" in docs.header("content-security-policy").split("; ")
    assert 'ui.initOAuth({"clientId": "c"})' in docs.text


def check_policy(page):
    """Every script that stands in a page is allowed by its hash, and there are no others."""
    policy = dict(part.split(" ", 1) for part in page.header("content-security-policy").split("; "))
    assert policy["default-src"] == "'none'"
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    }
    assert set(policy["script-src"].split()) == {"'self'"} | hashes
    assert not re.search(r"\son\w+=|javascript:", page.text)


def test_the_files_of_the_pages_are_sent_as_they_are_stored_and_kept_for_ever(serve):
    instance = serve(CovetPy())
    text = instance.get("/docs").text
    for url in re.findall(r'(?:src|href)="([^"]*)"', text):
        plain = instance.get(f"/{url}")
        assert plain.header("content-encoding") is None
        for accepted in ("gzip", "br, gzip;q=0.5", "*"):
            packed = ask(instance, f"/{url}", accept_encoding=accepted)
            assert packed.header("content-encoding") == "gzip"
            assert gzip.decompress(packed.content) == plain.content
        for refused in ("br", "gzip;q=0", "identity"):
            assert ask(instance, f"/{url}", accept_encoding=refused).content == plain.content
        assert plain.header("cache-control") == "public, max-age=31536000, immutable"
        assert plain.header("vary") == "Accept-Encoding"
        assert plain.header("content-type").partition(";")[0] == files.media_type_of(url)
    folder = url.rpartition("/")[0]
    assert "Apache License" in instance.get(f"/{folder}/swagger-ui-bundle.js.LICENSE.txt").text
    for name in ("nothing", "..%2F__init__.py", "swagger-ui.css.gz"):
        assert instance.get(f"/{folder}/{name}").status == 404


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"docs_url": None, "redoc_url": None}, []),
        ({"openapi_url": None}, []),
        ({"docs_url": None}, ["/redoc", "/redoc/assets-*/{file}"]),
        ({"redoc_url": None, "docs_url": "/"}, ["/", "/oauth2-redirect", "/assets-*/{file}"]),
        (
            {"redoc_url": None, "docs_url": "/api/docs/"},
            ["/api/docs/", "/api/docs/oauth2-redirect", "/api/docs/assets-*/{file}"],
        ),
    ],
)
def test_only_the_pages_that_are_wanted_are_there(options, paths):
    found = docs.pages(CovetPy(**options))
    assert [re.sub(r"assets-[0-9a-f]{10}", "assets-*", path) for path, _ in found] == paths


def test_pages_can_be_made_without_the_application():
    page = docs.swagger_ui_html(title="T", openapi_url="/o.json", assets_url="/assets/", connect=["https://x.example"])
    assert '<script src="/assets/swagger-ui-bundle.js">' in page.body
    page = docs.redoc_html(title="T", openapi_url="/o.json", assets_url="/a", options={"hideDownloadButton": True, "theme": {}})
    assert '<redoc spec-url="/o.json" hide-download-button="true" theme="{}"></redoc>' in page.body
    with pytest.raises(ValueError, match="no option of ReDoc"):
        docs.redoc_html(title="T", openapi_url="/", assets_url="/", options={"x onload": 1})


def test_an_application_without_pages_does_not_carry_them():
    code = (
        "import sys, covet; covet.CovetPy(docs_url=None, redoc_url=None)._finish(); "
        "print([name for name in ('covet.docs', 'covet.files', 'covet._assets', 'mimetypes') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"


# --- In a component


APP = """
import importlib.resources, inspect, os, pkgutil, zoneinfo
from os import stat as kept_stat
from pathlib import Path

import pack
from covet import CovetPy, FileResponse, Request
from covet.staticfiles import StaticFiles

app = CovetPy()
HERE = Path(__file__).parent
app.mount("/static", StaticFiles("static", html=True))
app.mount("/beside", StaticFiles(HERE / "static"))
AT_BUILD = Path("data/named.txt").read_text(), os.path.isdir(HERE.parent / "templates")


@app.get("/file/{path:path}")
def file(path: str):
    return FileResponse(path, filename="name.bin")


def attempt(function):
    try:
        return function()
    except OSError as error:
        return f"{type(error).__name__}: {error}"


@app.get("/read")
def read():
    here = Path(inspect.currentframe().f_code.co_filename)
    return {
        "build": AT_BUILD,
        "relative": open("data/named.txt").read(),
        "beside": (HERE / "data" / "named.txt").read_text(),
        "code": here.resolve().with_name("data").joinpath("named.txt").read_text(),
        "project": [Path("templates/page.html").read_text(), (HERE.parent / "templates" / "page.html").read_text()],
        "stat": [kept_stat("data/named.txt").st_size, os.path.getmtime("data/named.txt")],
        "walk": sorted(str(path) for path in Path("static").rglob("*") if path.is_file()),
        "pkgutil": pkgutil.get_data("pack", "data.txt").decode(),
        "resources": importlib.resources.files("pack").joinpath("data.txt").read_text(),
        "zone": str(zoneinfo.ZoneInfo("Test/Zone").utcoffset(None)),
        "missing": attempt(lambda: open("data/other.txt")),
        "source": attempt(lambda: open(__file__)),
        "write": attempt(lambda: open("data/named.txt", "w")),
        "descriptor": attempt(lambda: os.open("data/named.txt", os.O_RDONLY)),
    }


@app.get("/pid")
def pid(request: Request):
    return len(request.headers)
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """An application with files under the real host, and its folder."""
    host = cli._find_host()
    if host is None:
        pytest.skip("covet-host is not there")
    root = tmp_path_factory.mktemp("guest")
    project = write(
        root / "project",
        {
            "pyproject.toml": tool_covet('include = ["src/data/*.txt"]\nexclude = ["*.map"]'),
            "src/main.py": APP,
            "src/data/named.txt": "named",
            "src/data/left.csv": "left",
            "src/static/a.css": "css " * 10_000,
            "src/static/a.css.map": "left out",
            "src/static/docs/index.html": "index",
            "src/static/.hidden": "hidden",
            "templates/page.html": "page",
        },
    )
    (project / "src/static/large.bin").write_bytes(LARGE)
    os.utime(project / "src/data/named.txt", (1_700_000_000, 1_700_000_000))
    packages = write(root / "packages", {"pack/__init__.py": "", "pack/data.txt": "of a package", "tzdata/__init__.py": ""})
    (packages / "tzdata/zoneinfo/Test").mkdir(parents=True)
    (packages / "tzdata/zoneinfo/Test/Zone").write_bytes(UTC)
    output = root / "app.wasm"
    said = io.StringIO()
    component.build(find_target("main", project), output, Progress(stream=said), python_path=[packages])
    assert re.search(r"Component .* 7 files of 20\.0 MB", said.getvalue()), said.getvalue()
    command = [str(host), "run", str(output), "--listen", "127.0.0.1:0", "--isolation", "fresh"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(root / "cache")}
    with (
        open(root / "log", "w", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://"), (root / "log").read_text()
            with httpx.Client(base_url=line.split()[-1], timeout=60, trust_env=False) as client:
                client.log = root / "log"
                yield client
        finally:
            process.terminate()


LARGE = b"0123456789abcdef" * (20_000_000 // 16)


@pytest.mark.host
@pytest.mark.build
def test_a_component_reads_the_files_that_were_bundled(guest):
    for _ in range(3):
        answer = guest.get("/read")
        assert answer.status_code == 200, guest.log.read_text()
        found = answer.json()
        assert found["build"] == ["named", True]
        assert found["relative"] == found["beside"] == found["code"] == "named"
        assert found["project"] == ["page", "page"]
        assert found["stat"] == [5, 1_700_000_000]
        assert found["walk"] == ["static/a.css", "static/docs/index.html", "static/large.bin"]
        assert found["pkgutil"] == found["resources"] == "of a package"
        assert found["zone"] == "0:00:00"
        assert "FileNotFoundError" in found["missing"]
        assert "[tool.covet]" in found["missing"]
        assert found["source"].startswith("FileNotFoundError")
        assert "PermissionError" in found["write"]
        assert "a component cannot write files" in found["write"]
        assert "no file descriptors" in found["descriptor"]


@pytest.mark.host
@pytest.mark.build
def test_a_component_sends_files(guest):
    css = guest.get("/static/a.css")
    assert (css.status_code, css.text, css.headers["content-type"]) == (200, "css " * 10_000, "text/css; charset=utf-8")
    assert guest.get("/beside/a.css").text == css.text
    assert guest.get("/static/a.css", headers={"if-none-match": css.headers["etag"]}).status_code == 304
    assert guest.get("/static/a.css", headers={"if-modified-since": css.headers["last-modified"]}).status_code == 304
    for name in ("a.css", "large.bin", "docs/index.html"):
        get, head = guest.get(f"/static/{name}"), guest.head(f"/static/{name}")
        changing = {"date"}
        assert {k: v for k, v in head.headers.items() if k not in changing} == {
            k: v for k, v in get.headers.items() if k not in changing
        }
        assert (head.status_code, head.content) == (200, b"")
    large = guest.get("/static/large.bin")
    assert large.content == LARGE
    assert large.headers["content-length"] == str(len(LARGE))
    part = guest.get("/static/large.bin", headers={"range": "bytes=10000000-19999999"})
    assert (part.status_code, part.content) == (206, LARGE[10_000_000:])
    parts = guest.get("/static/large.bin", headers={"range": "bytes=0-9,1000000-1999999"})
    assert parts.status_code == 206
    assert parts.headers["content-length"] == str(len(parts.content))
    assert LARGE[1_000_000:2_000_000] in parts.content
    assert guest.get("/static/large.bin", headers={"range": "bytes=99999999-"}).status_code == 416
    assert guest.get("/file/data/named.txt").headers["content-disposition"] == 'attachment; filename="name.bin"'
    assert guest.get("/file/nothing").status_code == 500
    assert guest.get("/static/docs").headers["location"] == "/static/docs/"
    # A client that goes away in the middle leaves nothing behind that would disturb the next.
    for _ in range(5):
        with guest.stream("GET", "/static/large.bin") as stream:
            next(stream.iter_bytes())
    assert guest.get("/pid").status_code == 200


@pytest.mark.host
@pytest.mark.build
def test_a_component_sends_no_other_files(guest):
    # Not with httpx, which takes the dots out of paths.
    connection = http.client.HTTPConnection(guest.base_url.host, guest.base_url.port, timeout=60)
    for path in TRAVERSALS:
        connection.request("GET", f"/beside/{path}")
        with connection.getresponse() as response:
            response.read()
            assert response.status in (400, 404), path
    connection.close()


@pytest.mark.host
@pytest.mark.build
def test_a_component_has_the_pages_of_its_document(guest):
    page = guest.get("/docs")
    assert "SwaggerUIBundle" in page.text
    script = re.search(r'src="([^"]*)"', page.text)[1]
    packed = guest.get(f"/{script}")
    assert packed.headers["content-encoding"] == "gzip"
    assert "SwaggerUIBundle" in packed.text
    assert len(guest.get(f"/{script}", headers={"accept-encoding": "identity"}).content) == len(packed.content)
    assert guest.get("/redoc").status_code == 200
