"""Files in a component, which files get there, and the responses that are made of files."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_build import write

from covet import _files
from covet._build import bundle, component
from covet._build.project import BuildError, find_target

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
    zone = Path("/usr/share/zoneinfo/UTC")
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
    (root / "packages/tzdata/zoneinfo/Test/Zone").write_bytes(zone.read_bytes() if zone.is_file() else UTC)

    def run(*flags):
        command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", SCRIPT, str(root), *flags]
        output = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert output.returncode == 0, output.stderr
        return json.loads(output.stdout)

    real, sealed = run(), run("sealed")
    for number, (expected, found) in enumerate(zip(real, sealed, strict=True)):
        assert found == expected, number


#: A file of time zones for UTC, where the system has none.
UTC = b"TZif2" + bytes(15) + b"\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4" + bytes(6) + b"UTC\0"
UTC = UTC + UTC[:44] + UTC[44:] + b"\nUTC0\n"


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
