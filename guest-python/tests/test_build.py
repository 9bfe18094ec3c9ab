"""The build tool: which application is meant, what is bundled, and what is said when something is wrong."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from covet import cli
from covet._commands.build import component, dependencies
from covet._commands.build.progress import Progress
from covet._commands.build.project import BuildError, copy_sources, find_target, late_imports

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "tests" / "guests" / "python"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# --- Which application


def test_a_module_is_found_in_the_project_and_in_its_folder_src(tmp_path, monkeypatch):
    write(tmp_path, {"main.py": "", "package/__init__.py": "", "package/web.py": "", "src/inner/app.py": ""})
    monkeypatch.chdir(tmp_path)
    for text, module, attribute, root in [
        ("main", "main", None, tmp_path),
        ("main:app", "main", "app", tmp_path),
        ("package.web:make.app", "package.web", "make.app", tmp_path),
        ("package", "package", None, tmp_path),
        ("inner.app", "inner.app", None, tmp_path / "src"),
    ]:
        target = find_target(text)
        assert (target.module, target.attribute, target.import_root, target.project) == (module, attribute, root, tmp_path)
    assert find_target("web:app", tmp_path / "package").import_root == tmp_path / "package"


def test_a_file_is_imported_as_the_module_of_its_package(tmp_path, monkeypatch):
    write(tmp_path, {"requirements.txt": "", "apps/shop/__init__.py": "", "apps/shop/web.py": "", "apps/lone.py": ""})
    monkeypatch.chdir(tmp_path)
    target = find_target("apps/shop/web.py:app")
    assert (target.module, target.attribute) == ("shop.web", "app")
    assert (target.import_root, target.project) == (tmp_path / "apps", tmp_path)
    assert find_target("apps/lone.py").module == "lone"
    assert find_target(str(tmp_path / "apps" / "shop" / "__init__.py")).module == "shop"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "there is no module 'nothing'.*perhaps you mean web"),
        ("nothing.py", "there is no file nothing.py"),
        ("web:no name", "is not a name"),
        ("", "neither a module"),
        ("a b", "neither a module"),
        ("folder/", "is a folder"),
        ("my-app.py", "cannot be imported"),
    ],
)
def test_what_is_no_application_is_said_to_be_none(tmp_path, monkeypatch, text, message):
    write(tmp_path, {"web.py": "app = CovetPy()", "my-app.py": "", "folder/x.txt": ""})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError, match=message):
        find_target(text)


# --- Which files


def test_junk_is_not_copied_and_the_sources_are_not_written_to(tmp_path):
    kept = {"main.py": "x = 1", "data/words.txt": "a", "pkg/__init__.py": "", "templates/page.html": "<p>"}
    junk = {
        ".git/config": "",
        ".env": "SECRET=1",
        ".venv/lib/a.py": "",
        "env3/pyvenv.cfg": "",
        "env3/lib/b.py": "",
        "__pycache__/main.cpython-314.pyc": "",
        "node_modules/a/index.js": "",
        "target/debug/x": "",
        "old.wasm": "",
        "native.so": "",
        "x.egg-info/PKG-INFO": "",
    }
    project = write(tmp_path / "project", kept | junk)
    before = contents(project)
    copied = copy_sources(find_target("main", project), tmp_path / "copy")
    assert {str(path) for path in copied} == set(kept)
    assert set(contents(tmp_path / "copy")) == set(kept)
    assert contents(project) == before


def test_imports_inside_of_functions_are_seen(tmp_path):
    write(
        tmp_path,
        {
            "a.py": "import top\ndef f():\n    import json, os.path as p\n    from decimal import Decimal as D\n",
            "pkg/__init__.py": "",
            "pkg/b.py": "class C:\n    async def g(self):\n        from . import c\n        from .c import d\n"
            "        from ..x import *\n",
            "broken.py": "def f(:",
        },
    )
    found = late_imports(tmp_path, [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*.py"))])
    assert found == ["json", "os.path", "decimal", "decimal.Decimal", "pkg", "pkg.c", "pkg.c.d", "x"]


def test_the_fingerprint_changes_with_sources_and_requirements_and_with_nothing_else(tmp_path):
    project = write(tmp_path, {"main.py": "x = 1", "requirements.txt": "a==1\n"})

    def fingerprint():
        return component.fingerprint(find_target("main", project))

    first = fingerprint()
    write(project, {".git/HEAD": "x", "__pycache__/main.pyc": "x", "out.wasm": "x"})
    assert fingerprint() == first
    write(project, {"requirements.txt": "a==2\n"})
    second = fingerprint()
    write(project, {"main.py": "x = 2"})
    third = fingerprint()
    assert len({first, second, third, component.fingerprint(find_target("main:app", project))}) == 4


# --- Dependencies, from a folder of packages made here


def make_wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any", requires: str = "", **files: str) -> None:
    info = f"{name}-{version}.dist-info"
    required = f"Requires-Dist: {requires}\n" if requires else ""
    members = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},sha256={digest(text)},{len(text.encode())}\n" for path, text in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def make_sdist(folder: Path, name: str, version: str, tag: str, before: str = "") -> None:
    """A package of sources alone, with a build that needs nothing: after some Python it unpacks a wheel."""
    wheels = folder / "built"
    wheels.mkdir(exist_ok=True)
    make_wheel(wheels, name, version, tag, **{f"{name}.py": "BUILT = True"})
    (wheel,) = wheels.glob(f"{name}-*.whl")
    backend = f"""
import base64, os
{before}

def build_wheel(directory, config=None, metadata=None):
    with open(os.path.join(directory, {wheel.name!r}), "wb") as file:
        file.write(base64.b64decode({base64.b64encode(wheel.read_bytes())!r}))
    return {wheel.name!r}
"""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in the place of the package index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_pure_packages_are_installed_with_what_they_need_and_found_again(tmp_path, index, monkeypatch):
    make_wheel(index, "outer", "1.0", requires="inner>=2", **{"outer.py": "import inner"})
    make_wheel(index, "inner", "2.1", **{"inner/__init__.py": ""})
    project = write(tmp_path / "project", {"requirements.txt": "outer==1.0\n"})
    found = dependencies.install(project)
    assert found.packages == ["inner 2.1", "outer 1.0"]
    assert (found.folder / "outer.py").is_file()
    assert (found.folder / "inner" / "__init__.py").is_file()
    monkeypatch.setattr(dependencies, "_pip", None)
    assert dependencies.install(project) == found


def test_dependencies_are_those_of_pyproject_and_else_of_requirements(tmp_path):
    project = write(
        tmp_path,
        {
            "requirements.txt": "a==1  # why\n\n# comment\ncovet>=0.1\n-r more/other.txt\nb \\\n  >=2\n-c limits.txt\n",
            "more/other.txt": "c\n",
        },
    )
    assert dependencies.find_requirements(project) == (
        "requirements.txt",
        ["a==1", "c", "b    >=2", f"-c {project / 'limits.txt'}"],
    )
    write(
        project,
        {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["covet[dev] >= 0.1", "d ; python_version > \'3\'"]\n'},
    )
    assert dependencies.find_requirements(project) == ("pyproject.toml", ["d ; python_version > '3'"])
    write(project, {"pyproject.toml": "[tool.x]\ny = 1\n"})
    assert dependencies.find_requirements(project)[0] == "requirements.txt"
    write(project, {"requirements.txt": "-e ."})
    with pytest.raises(BuildError, match="editable"):
        dependencies.find_requirements(project)
    write(project, {"pyproject.toml": "[project"})
    with pytest.raises(BuildError, match="cannot be read"):
        dependencies.find_requirements(project)
    assert dependencies.find_requirements(tmp_path / "more") == ("", [])


def test_markers_are_those_of_the_component_and_not_of_this_machine(tmp_path, index):
    make_wheel(index, "pure", "1.0", requires='native; sys_platform == "linux"', **{"pure.py": ""})
    make_wheel(index, "newer", "1.0", **{"newer.py": ""})
    lines = "pure\nnewer; python_version >= '3.14' and platform_machine == 'wasm32'\nolder; python_version < '3.14'\n"
    found = dependencies.install(write(tmp_path / "project", {"requirements.txt": lines}))
    assert found.packages == ["newer 1.0", "pure 1.0"]


def native_tag() -> str:
    output = subprocess.run([sys.executable, "-m", "pip", "debug", "--verbose"], capture_output=True, text=True, check=True)
    found = re.search(r"Compatible tags: .*\n\s+(\S+)", output.stdout)
    assert found is not None
    return found[1]


def test_a_package_whose_native_half_is_for_speed_is_built_without_it(tmp_path, index):
    make_wheel(index, "markupsafe", "1.0", native_tag(), **{"markupsafe.py": "import _speedups"})
    make_sdist(index, "markupsafe", "1.0", "py3-none-any", before='assert os.environ["CC"] == "false"')
    project = write(tmp_path / "project", {"requirements.txt": "MarkupSafe\n"})
    found = dependencies.install(project)
    assert found.packages == ["markupsafe 1.0"]
    assert (found.folder / "markupsafe.py").read_text() == "BUILT = True"


@pytest.mark.parametrize("through", ["", "outer"])
def test_a_package_with_native_code_is_named(tmp_path, index, through):
    make_wheel(index, "native", "1.0", native_tag(), **{"native.py": ""})
    make_wheel(index, "outer", "1.0", requires="native", **{"outer.py": ""})
    project = write(tmp_path / "project", {"requirements.txt": f"{through or 'native'}\n"})
    with pytest.raises(BuildError, match=r"needs 'native', which has native code: it comes compiled for one machine"):
        dependencies.install(project)


def test_a_package_with_native_code_is_named_where_every_version_of_another_one_needs_it(tmp_path, index):
    make_wheel(index, "native", "1.0", "cp314-cp314-manylinux2014_x86_64", **{"native.py": ""})
    for version in ("1.0", "2.0"):
        make_wheel(index, "outer", version, requires="native", **{"outer.py": ""})
    project = write(tmp_path / "project", {"requirements.txt": "outer\n"})
    with pytest.raises(BuildError, match=r"needs 'native', which has native code: it comes compiled .*manylinux2014_x86_64"):
        dependencies.install(project)


def test_a_wheel_that_only_says_that_it_is_pure_is_refused(tmp_path, index):
    make_wheel(index, "sly", "1.0", **{"sly/__init__.py": "", "sly/fast.cpython-314-x86_64-linux-gnu.so": "x"})
    make_wheel(index, "linked", "1.0", **{"linked/fast.cpython-314-wasm32-wasi.so": "x"})
    with pytest.raises(BuildError, match=r"'sly', which has native code: it brings fast\.cpython"):
        dependencies.install(write(tmp_path / "project", {"requirements.txt": "sly\n"}))
    found = dependencies.install(write(tmp_path / "project", {"requirements.txt": "linked\n"}))
    assert found.packages == ["linked 1.0"]


def test_a_package_of_sources_is_built_if_it_is_pure(tmp_path, index):
    make_sdist(index, "sources", "1.0", "py3-none-any")
    make_sdist(index, "machine", "1.0", native_tag())
    found = dependencies.install(write(tmp_path / "project", {"requirements.txt": "sources\n"}))
    assert found.packages == ["sources 1.0"]
    assert (found.folder / "sources.py").read_text(encoding="utf-8") == "BUILT = True"
    with pytest.raises(BuildError, match="'machine', which has native code: building it gives machine code"):
        dependencies.install(write(tmp_path / "project", {"requirements.txt": "machine\n"}))


def test_a_package_that_is_nowhere_is_named(tmp_path, index):
    with pytest.raises(BuildError, match=r"requirements\.txt names 'nobody-has-this==1', which the package index"):
        dependencies.install(write(tmp_path / "project", {"requirements.txt": "nobody-has-this==1\n"}))


# --- The command


def test_the_command_says_its_version_and_helps(capsys):
    for words, expected in [(["--version"], "covet 0.1.0"), (["--help"], "build"), (["build", "--help"], "--no-deps")]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["bake"], ["build"], ["build", "main", "--unknown"]])
def test_wrong_arguments_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: covet" in capsys.readouterr().err


def test_errors_are_one_message_and_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["build", "main:app"]) == 1
    assert capsys.readouterr().err == "error: there is no module 'main' in the current folder\n"
    write(tmp_path, {"main.py": ""})
    assert cli.main(["build", "main:app", "-o", "nowhere/app.wasm"]) == 1
    assert "there is no folder nowhere" in capsys.readouterr().err
    monkeypatch.setenv("COVET_HOST", "/nowhere/covet-host")
    assert cli.main(["run", "main:app"]) == 1
    assert "COVET_HOST is '/nowhere/covet-host'" in capsys.readouterr().err


def test_routes_are_listed(capsys):
    assert cli.main(["routes", str(ROOT / "examples" / "hello-python" / "main.py")]) == 0
    assert "GET     /users/{user_id}  read_user" in capsys.readouterr().out


def test_the_doctor_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.delenv("COVET_HOST", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(cli, "_find_host", lambda: None)
    assert cli.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "covet-host       missing" in output
    assert "componentize-py  0.25.1" in output


def test_progress_has_a_line_for_each_step_that_went_well():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    with progress.step("Sources") as step:
        step.result = "3 files"
    with pytest.raises(ValueError, match="x"), progress.step("Component"):
        raise ValueError("x")
    progress.line("end")
    assert re.fullmatch(r"Sources       3 files  \(\d\.\d s\)\nend\n", stream.getvalue())
    silent = Progress(quiet=True, stream=stream)
    silent.line("nothing")
    assert "nothing" not in stream.getvalue()


def test_what_componentize_py_says_of_too_much_memory_is_put_into_words(tmp_path):
    (tmp_path / "main.py").touch()
    said = "0: retrieving memory\n1: too much data is being copied: fuel allocated for hostcalls has been exhausted\n  2: start"
    message = component._message_of_failure(said, find_target("main:app", tmp_path))
    assert message.startswith("main:app and its dependencies take more than 128 MiB of memory")


def test_the_framework_can_be_imported_without_a_component():
    code = "import covet, covet.validation, covet.host, sys; print('wit_world' in sys.modules, covet.Query(1).default)"
    output = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["False", "1"]


# --- Real builds, about ten seconds each


FAILING = {
    "syntax-error": ["app.py, line 9", "SyntaxError"],
    "import-error": ["app.py, line 7", "settings.py, line 5", "ValueError: DATABASE_URL is not set"],
    "host-at-import": ["app.py, line 6", "needs a running covet-host"],
    "no-app": ["the module 'app' has no application", "app = CovetPy()"],
    "two-apps": ["name one of app:public, app:admin"],
    "missing-module": ["No module named 'requests_that_nobody_has'", "[project].dependencies"],
    "native-dependency": ["requirements.txt needs 'numpy', which has native code"],
}


def test_every_application_that_must_not_build_is_tried():
    assert {path.parent.name for path in GUESTS.glob("*/EXPECT_BUILD_FAILURE")} == set(FAILING)


@pytest.mark.build
@pytest.mark.parametrize("name", FAILING)
def test_an_application_that_cannot_be_built_gets_a_clear_message(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(GUESTS)
    output = tmp_path / "app.wasm"
    assert cli.main(["build", f"{name}/app.py", "-o", str(output)]) == 1
    message = capsys.readouterr().err
    for part in FAILING[name]:
        file, comma, line = part.partition(", line ")
        assert (f'File "{name}/{file}", line {line}' if comma else part) in message, message
    for noise in ("/0/", "/1/", "/2/", "covet_entry", "<frozen", "wasm backtrace", "componentize"):
        assert noise not in message, message
    assert not output.exists()


@pytest.mark.build
def test_a_build_makes_a_component_and_leaves_the_sources_alone(tmp_path, capsys):
    project = tmp_path / "project"
    write(
        project,
        {
            "main.py": "import os, sys, words\nfrom covet import CovetPy\nprint('importing', words.WORD * 5000)\n"
            "open(os.path.join(os.path.dirname(__file__), 'written.txt'), 'w').write('x')\n"
            "app = CovetPy()\napp.get('/')(lambda: 'x')\n",
            "words.py": "WORD = 'word'\n",
        },
    )
    before = contents(project)
    output = tmp_path / "out.wasm"
    assert cli.main(["build", "main", "--project", str(project), "-o", str(output)]) == 0
    assert output.read_bytes()[:8] == b"\0asm\r\0\1\0"
    assert contents(project) == before
    said = capsys.readouterr().err
    assert "importing wordword" in said
    assert "2 modules, 1 route" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.wasm", "project"]


@pytest.mark.build
def test_a_wheel_has_the_wit_package_and_the_type_marker(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT / "guest-python"),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"covet/wit/{path.name}" for path in (ROOT / "wit").glob("*.wit")} <= names
    assert {"covet/py.typed", "covet/_commands/build/component.py"} <= names


@pytest.mark.host
@pytest.mark.build
def test_run_builds_once_and_serves(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "covet.cli", "run", str(ROOT / "examples" / "hello-python" / "main.py")]
    for expected in ("Component", ""):
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--isolation", "reuse"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://"), process.stderr.read()
            answer = read_url(f"{line.split()[-1]}/users/7")
            assert json.loads(answer) == {"user_id": 7, "name": "User 7"}
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=60)
        assert ("Component" in errors) == bool(expected)


@pytest.mark.host
@pytest.mark.build
def test_requests_differ_in_what_is_random_and_what_they_print_is_in_the_log(tmp_path):
    project = write(
        tmp_path / "project",
        {
            "main.py": "import logging, random, sys\nfrom random import random as taken\nfrom covet import CovetPy\n"
            "logger = logging.getLogger('main')\nlogger.propagate = False\nlogger.addHandler(logging.StreamHandler())\n"
            "made, fixed, kept = random.Random(), random.Random(42), {}\napp = CovetPy()\n\n"
            "@app.on_event('startup')\ndef start():\n    kept['drawn'] = random.random()\n\n"
            "@app.get('/')\ndef index():\n    print('a line'), print('an error', file=sys.stderr)\n"
            "    logger.warning('a warning')\n    print('half a line', end='')\n"
            "    return [random.random(), taken(), made.random(), kept['drawn'], fixed.random()]\n"
        },
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "covet.cli", "run", str(project / "main.py"), "--listen", "127.0.0.1:0", "--isolation", "fresh"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://"), process.stderr.read()
        answers = [json.loads(read_url(f"{line.split()[-1]}/")) for _ in range(2)]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    (*one, first_fixed), (*other, second_fixed) = answers
    # Whether start-up ran once or for each of them is up to the host.
    assert len({*one[:3], *other[:3]}) == 6
    assert not {one[3], other[3]} & {*one[:3], *other[:3]}
    assert first_fixed == second_fixed == 0.6394267984578837
    for level, text, stream in [
        ("INFO", "a line", "stdout"),
        ("WARN", "an error", "stderr"),
        ("WARN", "a warning", "stderr"),
        ("INFO", "half a line", "stdout"),
    ]:
        found = re.findall(rf'^\S+ +{level} guest: {text} app="\w+" logger="{stream}"$', errors, re.MULTILINE)
        assert len(found) == 2, (text, errors)


def read_url(url: str) -> bytes:
    from urllib.request import ProxyHandler, build_opener

    with build_opener(ProxyHandler({})).open(url, timeout=60) as response:
        return response.read()
