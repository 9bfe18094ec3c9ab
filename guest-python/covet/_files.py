"""Files in a component: a read-only tree in memory, in the place of the file system that a component does not have.

The build puts files into a `Tree`. `install` makes the functions of `os` and `io` that take a path look there too, and after
`seal`, which ends the build, nowhere else; what is built on them (`pathlib`, `os.path`, `glob`, `importlib.resources`,
`zoneinfo`) follows. Which files there are is decided by the build tool. Natively none of this is used.
"""

import _io
import builtins
import errno
import importlib
import io
import os
import re
import stat
import sys
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, wraps
from typing import IO, Any, Self

__all__ = [
    "BundleError",
    "Tree",
    "at_the_end",
    "bundled",
    "finish",
    "install",
    "is_sealed",
    "load",
    "load_package_data",
    "seal",
]
__all__ += ["statuses"]


class BundleError(Exception):
    """The files are too large together; the message says which."""


class Entry:
    """A file, or a folder."""

    __slots__ = ("data", "names", "status")

    def __init__(self, data: bytes | None, names: list[str] | None, status: os.stat_result) -> None:
        #: The content of a file, None for a folder.
        self.data = data
        #: What is in a folder, sorted; None for a file.
        self.names = names
        self.status = status


class Tree:
    """Files by their absolute paths, with the functions of `os` and `io` that read them.

    They behave as those do on a file system that is mounted read-only, without links. `cwd` is the working directory.
    """

    def __init__(self, cwd: str = "/") -> None:
        self.cwd = cwd
        #: The number of files and of their bytes; a file that has two paths counts once.
        self.files = 0
        self.size = 0
        self._last_number = 1
        self._entries = {"/": Entry(None, [], _status(_FOLDER_MODE, 1, 0, 0))}
        self._add_folder(cwd)

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def add(self, paths: Sequence[str], data: bytes, mtime_ns: int) -> None:
        """Adds a file under one or more absolute paths; one that is taken already is left as it is."""
        entry = Entry(data, None, _status(_FILE_MODE, self._next_number(), len(data), mtime_ns))
        added = False
        for path in paths:
            folder, _, name = path.rpartition("/")
            if path not in self._entries and self._add_folder(folder or "/"):
                self._entries[path] = entry
                insort(self._names(folder or "/"), name)
                added = True
        self.files += added
        self.size += len(data) if added else 0

    def find(self, path: Any) -> Entry:
        """The file or folder that a path names. Raises OSError as the system would, and says what could be done."""
        text = os.fspath(path)
        if isinstance(text, bytes):
            text = os.fsdecode(text)
        entry = self._entries.get(text)
        return entry if entry is not None else self._entries[self._absolute(text, path)]

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> IO[Any]:
        """`open` for reading. Raises PermissionError for the other modes."""
        _check_mode(mode, buffering, encoding, errors, newline)
        if not closefd:
            raise ValueError("Cannot use closefd=False with file name")
        if opener is not None:
            raise _error(errno.ENOTSUP, file, "a component has no file descriptors; open() without an opener reads files")
        file = os.fspath(file)
        binary: io.BytesIO
        if os.fsdecode(file) == os.devnull:
            binary = _Null(os.devnull, mode)
        elif not _WRITING.isdisjoint(mode):
            raise _read_only(file)
        else:
            data = self.find(file).data
            if data is None:
                raise _error(errno.EISDIR, file)
            binary = _Reader(data, file)
        if "b" in mode:
            return binary
        text = io.TextIOWrapper(binary, encoding, errors, newline)
        text.mode = mode  # type: ignore[misc]
        return text

    def open_code(self, path: str) -> IO[bytes]:
        """`io.open_code`, by which `importlib` reads files."""
        return self.open(path, "rb")

    def open_descriptor(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: None = None) -> int:
        """`os.open`: there are no file descriptors, so it always raises OSError."""
        access = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
        if access != os.O_RDONLY or flags & (os.O_CREAT | os.O_TRUNC):
            raise _read_only(path)
        self.find(path)
        raise _error(errno.ENOTSUP, path, "a component has no file descriptors; open() reads this file")

    def stat(self, path: Any, *, dir_fd: None = None, follow_symlinks: bool = True) -> os.stat_result:
        """`os.stat`. The permissions are those of reading, owner and group are 0."""
        return self.find(path).status

    def lstat(self, path: Any, *, dir_fd: None = None) -> os.stat_result:
        """`os.lstat`: the same, since there are no links."""
        return self.find(path).status

    def access(
        self, path: Any, mode: int, *, dir_fd: None = None, effective_ids: bool = False, follow_symlinks: bool = True
    ) -> bool:
        """`os.access`."""
        try:
            entry = self.find(path)
        except OSError:
            return False
        return not mode & os.W_OK and not (mode & os.X_OK and entry.names is None)

    def listdir(self, path: Any = None) -> list[Any]:
        """`os.listdir`, sorted."""
        path = "." if path is None else path
        names = self._listed(path)
        return [os.fsencode(name) for name in names] if isinstance(os.fspath(path), bytes) else list(names)

    def scandir(self, path: Any = None) -> "_Scan":
        """`os.scandir`, sorted."""
        path = "." if path is None else path
        here = self._absolute(_text_of(path), path).rstrip("/")
        names = self._listed(path)
        base = os.fspath(path)
        items = []
        for name in names:
            shown = os.fsencode(name) if isinstance(base, bytes) else name
            items.append(Item(shown, os.path.join(base, shown), self._entries[f"{here}/{name}"]))
        return _Scan(items)

    def readlink(self, path: Any, *, dir_fd: None = None) -> str:
        """`os.readlink`, which always raises OSError: there are no links."""
        self.find(path)
        raise _error(errno.EINVAL, path)

    def chdir(self, path: Any) -> None:
        """`os.chdir`, for all requests of the instance."""
        if self.find(path).names is None:
            raise _error(errno.ENOTDIR, path)
        self.cwd = self._absolute(_text_of(path), path)

    def getcwd(self) -> str:
        """`os.getcwd`."""
        return self.cwd

    def getcwdb(self) -> bytes:
        """`os.getcwdb`."""
        return os.fsencode(self.cwd)

    def _absolute(self, text: str, path: Any) -> str:
        """The one path of what a path names."""
        if "\0" in text:
            raise ValueError("embedded null byte")
        if not text:
            raise _missing(path)
        here: list[str] = []
        entry = self._entries["/"]
        absolute = "/"
        for part in (text if text[0] == "/" else f"{self.cwd}/{text}").split("/"):
            if entry.names is None:
                raise _error(errno.ENOTDIR, path)
            if part in ("", "."):
                continue
            if part == "..":
                # The root is its own parent.
                del here[-1:]
            else:
                here.append(part)
            absolute = "/" + "/".join(here)
            found = self._entries.get(absolute)
            if found is None:
                raise _missing(path)
            entry = found
        return absolute

    def _listed(self, path: Any) -> list[str]:
        names = self.find(path).names
        if names is None:
            raise _error(errno.ENOTDIR, path)
        return names

    def _names(self, folder: str) -> list[str]:
        names = self._entries[folder].names
        assert names is not None
        return names

    def _next_number(self) -> int:
        """For `st_ino`, by which files are told apart."""
        self._last_number += 1
        return self._last_number

    def _add_folder(self, path: str) -> bool:
        """Adds a folder and those above it. False if one of them is a file."""
        entry = self._entries.get(path)
        if entry is not None:
            return entry.names is not None
        above, _, name = path.rpartition("/")
        if not self._add_folder(above or "/"):
            return False
        self._entries[path] = Entry(None, [], _status(_FOLDER_MODE, self._next_number(), 0, 0))
        insort(self._names(above or "/"), name)
        return True


class Item:
    """What `os.scandir` gives, as `os.DirEntry`."""

    __slots__ = ("_entry", "name", "path")

    def __init__(self, name: Any, path: Any, entry: Entry) -> None:
        #: str or bytes, as the path that was given to `os.scandir`; so is `path`.
        self.name = name
        self.path = path
        self._entry = entry

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._entry.names is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._entry.names is None

    def is_symlink(self) -> bool:
        return False

    def is_junction(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._entry.status

    def inode(self) -> int:
        return self._entry.status.st_ino

    def __fspath__(self) -> Any:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


class _Scan(Iterator[Item]):
    """An iterator that is also a context manager."""

    def __init__(self, items: list[Item]) -> None:
        self._items = iter(items)

    def __next__(self) -> Item:
        return next(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the iteration."""
        self._items = iter(())


class _Reader(io.BytesIO):
    """An open file. It shares the bytes of the tree, so opening and reading a whole file copies nothing."""

    def __init__(self, data: bytes, name: Any) -> None:
        super().__init__(data)
        self.name = name

    @property
    def mode(self) -> str:
        return "rb"

    def writable(self) -> bool:
        return False

    def write(self, data: Any, /) -> int:
        raise io.UnsupportedOperation("write")

    def writelines(self, lines: Iterable[Any], /) -> None:
        raise io.UnsupportedOperation("write")

    def truncate(self, size: int | None = None, /) -> int:
        raise io.UnsupportedOperation("truncate")

    def peek(self, size: int = 0, /) -> bytes:
        """The next bytes, without moving on, as `io.BufferedReader` has it."""
        position = self.tell()
        data = self.read(max(size, io.DEFAULT_BUFFER_SIZE))
        self.seek(position)
        return data


class _Null(io.BytesIO):
    """`os.devnull`, which many open to be rid of what is written to it."""

    def __init__(self, name: str, mode: str) -> None:
        super().__init__()
        self.name = name
        self._mode = mode

    @property
    def mode(self) -> str:
        return self._mode

    def write(self, data: Any, /) -> int:
        return memoryview(data).nbytes

    def writelines(self, lines: Iterable[Any], /) -> None:
        for line in lines:
            self.write(line)


def install() -> None:
    """Makes the functions of `os` and `io` look into the tree, if there is one. Before the application is imported, since
    modules may keep what they find: `from os import stat`."""
    global _installed
    _installed = True
    for name in ("stat", "lstat", "access", "listdir", "scandir", "readlink", "chdir"):
        _replace([os], name, name)
    _replace([os], "open", "open_descriptor")
    _replace([builtins, io, _io], "open", "open")
    _replace([io, _io], "open_code", "open_code")
    for name in ("getcwd", "getcwdb"):
        _replace_without_path(name)
    for name in _WRITERS:
        if hasattr(os, name):
            _replace_writer(name)


def load(cwd: str, files: Sequence[Sequence[str]]) -> None:
    """Makes the tree, while there are files. Each of `files` is where a file is now, and the paths it will have."""
    global _tree
    tree = Tree(cwd)
    for source, *paths in files:
        data, mtime_ns = _read(source)
        tree.add(paths, data, mtime_ns)
    _tree = tree


def load_package_data(roots: Sequence[str], excluded: Sequence[str], bytes_max: int) -> tuple[int, int]:
    """Adds what the packages that have been imported bring besides modules. `roots` are the folders that they are in,
    `excluded` regular expressions for paths relative to them.

    Returns the number of files in the tree, and of bytes. Raises BundleError if these are more than `bytes_max`.
    """
    tree = _tree
    assert tree is not None
    exclude = re.compile("|".join(excluded) or r"(?!)")
    sizes: dict[str, int] = {"the application": tree.size}
    paths = []
    for root in roots:
        for package in _imported_packages(root):
            found = [path for path in _data_files(root, package) if exclude.fullmatch(path[len(root) + 1 :]) is None]
            sizes[package] = sum(os.stat(path).st_size for path in found)
            paths += found
    if sum(sizes.values()) > bytes_max:
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:3]
        shown = ", ".join(f"{package} {size / 1e6:.1f} MB" for package, size in largest)
        raise BundleError(
            f"the files for the component are larger than {bytes_max / (1 << 20):g} MiB ({shown}). Leave out what is not "
            "needed with `exclude` in [tool.covet] of pyproject.toml, or raise `bundle-max-mib` there"
        )
    for path in paths:
        data, mtime_ns = _read(path)
        tree.add([path], data, mtime_ns)
    for module, late in _LATE_MODULES:
        if module in sys.modules:
            importlib.import_module(late)
    if "zoneinfo" in sys.modules:
        _use_time_zones(roots)
    return tree.files, tree.size


def bundled(path: Any) -> Entry | None:
    """What was bundled under a path, at once and without an open file; None while there are real files.

    Raises OSError as `os.stat` does.
    """
    return _tree.find(path) if _sealed and _tree is not None else None


def statuses() -> list[os.stat_result]:
    """What `os.stat` says of each file that has been bundled."""
    return [] if _tree is None else [entry.status for entry in _tree._entries.values() if entry.names is None]


def at_the_end(function: Callable[[], object]) -> None:
    """Has a function called when the application has been imported and there still are files; natively never.

    It is for what a request would else have to make for itself, compiled templates for example.
    """
    if _installed:
        _last_calls.append(function)


def finish() -> None:
    """Makes the calls that were asked for with `at_the_end`."""
    while _last_calls:
        _last_calls.pop(0)()


def seal() -> None:
    """Ends the build: from here on there are only the files of the tree."""
    global _sealed
    _sealed = True


def is_sealed() -> bool:
    """Whether this is a component that has been built."""
    return _sealed


def _replace(modules: Sequence[Any], name: str, method: str) -> None:
    """Puts a function that asks the tree in the place of one whose first argument is a path."""
    original = getattr(modules[0], name)
    keyword = "file" if method == "open" else "path"

    @wraps(original)
    def replacement(*arguments: Any, **options: Any) -> Any:
        tree = _tree
        path = arguments[0] if arguments else options.get(keyword)
        if tree is None or isinstance(path, int) or (options and options.get("dir_fd") is not None):
            return original(*arguments, **options)
        if _sealed:
            return getattr(tree, method)(*arguments, **options)
        return _first(partial(original, *arguments, **options), partial(getattr(tree, method), *arguments, **options))

    _put(modules, name, original, replacement)


def _replace_without_path(name: str) -> None:
    original = getattr(os, name)

    @wraps(original)
    def replacement() -> Any:
        return getattr(_tree, name)() if _sealed else original()

    _put([os], name, original, replacement)


def _replace_writer(name: str) -> None:
    original = getattr(os, name)

    @wraps(original)
    def replacement(*arguments: Any, **options: Any) -> Any:
        path = arguments[0] if arguments else None
        if not _sealed or isinstance(path, int):
            return original(*arguments, **options)
        raise _read_only(path)

    _put([os], name, original, replacement)


def _put(modules: Sequence[Any], name: str, original: Any, replacement: Any) -> None:
    for module in modules:
        setattr(module, name, replacement)
    for functions in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if original in functions:
            functions.add(replacement)


def _first(real: Callable[[], Any], bundled: Callable[[], Any]) -> Any:
    """While a component is built there are files, and beside them the tree, which has some of them in more places."""
    try:
        found = real()
    except (FileNotFoundError, NotADirectoryError) as error:
        try:
            return bundled()
        except OSError:
            raise error from None
    if found is False:
        # `os.access` does not raise.
        return bundled()
    return found


def _read(path: str) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        return file.read(), os.stat(path).st_mtime_ns


def _imported_packages(root: str) -> list[str]:
    """The folders below a root of which something has been imported, and those that only hold data for others."""
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(root + "/"):
            package, slash, _ = file[len(root) + 1 :].partition("/")
            if slash:
                found.add(package)
    if "zoneinfo" in sys.modules:
        found.add("tzdata")
    distributions = [name for name in os.listdir(root) if name.endswith(".dist-info")]
    return sorted(found) + sorted(name for name in distributions if _is_imported(f"{root}/{name}", found))


def _is_imported(metadata: str, packages: set[str]) -> bool:
    """Whether a distribution has one of the packages. It is for `importlib.metadata`, by which they ask for versions."""
    try:
        record, _ = _read(f"{metadata}/RECORD")
    except OSError:
        return False
    return any(line.partition("/")[0] in packages for line in record.decode(errors="replace").splitlines())


def _data_files(root: str, package: str) -> Iterator[str]:
    if package.endswith(".dist-info"):
        yield from (path for name in _METADATA if os.path.isfile(path := f"{root}/{package}/{name}"))
        return
    for folder, folders, names in os.walk(f"{root}/{package}"):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(_NO_DATA) and name != "py.typed":
                yield f"{folder}/{name}"


def _use_time_zones(roots: Sequence[str]) -> None:
    """Lets `zoneinfo` find the zones of tzdata as files: it would import a package for each."""
    import zoneinfo

    paths = [f"{root}/tzdata/zoneinfo" for root in roots if f"{root}/tzdata/zoneinfo" in (_tree or ())]
    if paths:
        zoneinfo.reset_tzpath(paths)


def _check_mode(mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None) -> None:
    """Refuses what `open` refuses."""
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    letters = set(mode)
    if letters - set("rwxabt+") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    if len(letters & set("rwxa")) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if "b" in letters:
        for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
            if value is not None:
                raise ValueError(f"binary mode doesn't take {'an' if name[0] == 'e' else 'a'} {name} argument")
    elif buffering == 0:
        raise ValueError("can't have unbuffered text I/O")


def _text_of(path: Any) -> str:
    text = os.fspath(path)
    return os.fsdecode(text) if isinstance(text, bytes) else text


def _missing(path: Any) -> OSError:
    return _error(
        errno.ENOENT,
        path,
        "No such file or directory in the component: it has only the files that were bundled by `covet build`; name others "
        "in [tool.covet] include of pyproject.toml",
    )


def _read_only(path: Any) -> PermissionError:
    shown = path if path is None else os.fspath(path)
    return PermissionError(errno.EROFS, "Read-only file system: a component cannot write files", shown)


def _error(number: int, path: Any, message: str = "") -> OSError:
    """The subclass of OSError for a number."""
    return OSError(number, message or os.strerror(number), os.fspath(path))


def _status(mode: int, inode: int, size: int, mtime_ns: int) -> os.stat_result:
    seconds = mtime_ns // 10**9
    times = {}
    for name in ("st_atime", "st_mtime", "st_ctime"):
        times[name], times[f"{name}_ns"] = mtime_ns / 10**9, mtime_ns
    return os.stat_result((mode, inode, 1, 1, 0, 0, size, seconds, seconds, seconds), times)


_tree: Tree | None = None
_last_calls: list[Callable[[], object]] = []
_installed = False
_sealed = False
_WRITING = frozenset("wxa+")
_FILE_MODE = stat.S_IFREG | 0o444
_FOLDER_MODE = stat.S_IFDIR | 0o555
_WRITERS = (
    *("chmod", "chown", "lchmod", "lchown", "link", "mkdir", "mkfifo", "mknod", "remove", "rename", "replace", "rmdir"),
    *("symlink", "truncate", "unlink", "utime"),
)

#: What modules that read files import late.
_LATE_MODULES = [
    ("importlib.resources", "importlib.readers"),
    ("importlib.resources", "importlib.resources._adapters"),
    ("importlib.metadata", "importlib.metadata._adapters"),
    ("importlib.metadata", "email.message"),
    ("importlib.metadata", "email.parser"),
]

#: What belongs to modules, and is of no use once they have been imported.
_NO_DATA = (".py", ".pyc", ".pyo", ".pyi", ".pyx", ".pxd", ".so", ".c", ".h")
#: What `importlib.metadata` reads.
_METADATA = ("METADATA", "entry_points.txt", "top_level.txt")
