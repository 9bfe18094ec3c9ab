"""What several middlewares use: the checks of their options, sets of paths, `Vary`, the host and scheme of a request."""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Any

from covet.datastructures import MutableHeaders

if TYPE_CHECKING:
    from covet.requests import Request


class Paths:
    """A set of paths: exact ones, and with `/*` at the end all that are below.

    It is meant for exceptions from a rule, so a path that the host could have read in another way is in no set: one with
    an escaped slash or backslash, with an empty segment, or with `.` or `..` as a segment.
    """

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, option: str, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        prefixes = []
        for pattern in texts(option, patterns):
            if not pattern.startswith("/"):
                raise ValueError(f"{option}: {pattern!r} is no path, which begins with '/'")
            path = pattern.removesuffix("*")
            if "*" in path or (path != pattern and not path.endswith("/")):
                raise ValueError(f"{option}: {pattern!r} has a '*' that is not alone at the end, as in '/static/*'")
            if path == pattern:
                self._exact.add(path)
            else:
                prefixes.append(path)
        self._prefixes = tuple(prefixes)

    def covers(self, request: "Request") -> bool:
        """Whether the path of a request is in the set."""
        if not self._exact and not self._prefixes:
            return False
        path = request.path
        if path not in self._exact and not path.startswith(self._prefixes):
            return False
        return _AMBIGUOUS.search(request.target.partition("?")[0]) is None and _AMBIGUOUS.search(path) is None


def texts(option: str, values: Iterable[str]) -> list[str]:
    """The value of an option that is several strings. Raises ValueError for one string, and for other things."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{option} is a list of strings, not {values!r}")
    found = list(values)
    for value in found:
        if not isinstance(value, str):
            raise ValueError(f"{option} is a list of strings; {value!r} is none")
    return found


def whole_number(option: str, value: Any, minimum: int = 0, maximum: int | None = None) -> int:
    """The value of an option that is an integer within bounds."""
    if type(value) is not int or value < minimum or (maximum is not None and value > maximum):
        bounds = f"{minimum} or more" if maximum is None else f"between {minimum} and {maximum}"
        raise ValueError(f"{option} is an integer, {bounds}, not {value!r}")
    return value


def header_name(option: str, value: Any) -> str:
    """The value of an option that is the name of a header field, in lower case."""
    if not isinstance(value, str) or TOKEN.fullmatch(value) is None:
        raise ValueError(f"{option}: {value!r} is no name of a header field")
    return value.lower()


def header_value(option: str, value: Any) -> str:
    """The value of an option that is sent as a header field."""
    if not isinstance(value, str) or _FIELD_VALUE.fullmatch(value) is None:
        raise ValueError(f"{option}: {value!r} cannot be sent as a header field: it is printable ASCII, not empty")
    return value


def put(headers: MutableHeaders, fields: list[tuple[str, str]]) -> None:
    """Sets several fields, whose names are in lower case, in one go: each on its own would copy the list."""
    names = {name for name, _ in fields}
    headers._items[:] = [item for item in headers._items if item[0] not in names] + fields


def put_missing(headers: MutableHeaders, fields: list[tuple[str, str]]) -> None:
    """Sets those of several fields, whose names are in lower case, that are not there."""
    items = headers._items
    present = {name for name, _ in items}
    items += [field for field in fields if field[0] not in present]


def add_vary(headers: MutableHeaders, name: str) -> None:
    """Adds a name to `Vary`, unless it is there."""
    present = [value for key, value in headers._items if key == "vary"]
    if not present:
        headers._items.append(("vary", name))
        return
    known = {token.strip().lower() for value in present for token in value.split(",")}
    if name.lower() not in known and "*" not in known:
        headers["vary"] = ", ".join([*present, name])


def host_name(authority: str) -> str | None:
    """The host of `host` or `host:port` in lower case, an IPv6 address in its brackets; None if it is not valid."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    if match["ipv6"] is not None:
        try:
            IPv6Address(match["ipv6"])
        except AddressValueError:
            return None
    return match["host"].lower()


def authority_of(request: "Request") -> str:
    """Host and port of the URL of a request. Not by `url`, which takes time to make, and has none for `OPTIONS *`."""
    return request._record.origin.partition("://")[2]


def is_secure(request: "Request", proto_header: str | None) -> bool:
    """Whether the client uses HTTPS, as a proxy says in `proto_header`, else as the URL of the request does."""
    if proto_header is not None:
        value = request.headers.get(proto_header)
        if value is not None:
            return value.partition(",")[0].strip().lower() == "https"
    return request._record.origin.startswith("https:")


#: `token` of RFC 9110 section 5.6.2: names of fields, methods and cookies.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_AMBIGUOUS = re.compile(r"//|\\|/\.\.?(?:/|$)|%2f|%5c|\x00", re.IGNORECASE)
#: `uri-host [":" port]` of RFC 3986, with the names that DNS has.
_AUTHORITY = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::[0-9]{0,5})?")
