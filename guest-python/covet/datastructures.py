"""Headers, query parameters, URLs and other small containers, with the names that Starlette gave them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

__all__ = ["URL", "Address", "Headers", "MutableHeaders", "PathParams", "QueryParams", "State", "parse_cookies", "parse_query"]


class Address(NamedTuple):
    """The other end of a connection. The port is 0 where it is not known."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads `address:port` and `[address]:port`."""
        host, _, port = text.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()):
            return cls(text.strip("[]"), 0)
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


class Headers(Mapping[str, str]):
    """Header fields. Names are matched without regard to case; a name may occur several times."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        if isinstance(items, Mapping):
            items = items.items()
        self._items = [(name.lower(), value) for name, value in items]

    @classmethod
    def wrap(cls, items: list[tuple[str, str]]) -> "Headers":
        """Takes a list whose names are in lower case already, without a copy."""
        headers = cls.__new__(cls)
        headers._items = items
        return headers

    def __getitem__(self, name: str) -> str:
        """The first value of that name."""
        name = name.lower()
        for key, value in self._items:
            if key == name:
                return value
        raise KeyError(name)

    def getlist(self, name: str) -> list[str]:
        """Every value of that name, in the order of the message."""
        name = name.lower()
        return [value for key, value in self._items if key == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """Every field, in the order of the message, names in lower case."""
        return list(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(key == name.lower() for key, _ in self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for key, _ in self._items))

    def __len__(self) -> int:
        return len({key for key, _ in self._items})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"


class MutableHeaders(Headers):
    """The header fields of a response."""

    __slots__ = ()

    def __setitem__(self, name: str, value: str) -> None:
        """Sets a field, in the place of all that have its name."""
        name = name.lower()
        kept = [item for item in self._items if item[0] != name]
        kept.append((_text(name), _text(value)))
        self._items[:] = kept

    def __delitem__(self, name: str) -> None:
        name = name.lower()
        if name not in self:
            raise KeyError(name)
        self._items[:] = [item for item in self._items if item[0] != name]

    def append(self, name: str, value: str) -> None:
        """Adds a field beside those that have its name."""
        self._items.append((_text(name).lower(), _text(value)))

    def setdefault(self, name: str, value: str) -> str:
        """Sets a field where there is none of its name; returns its value."""
        if name not in self:
            self[name] = value
        return self[name]

    def update(self, fields: Mapping[str, str]) -> None:
        """Sets several fields."""
        for name, value in fields.items():
            self[name] = value


class QueryParams(Mapping[str, str]):
    """The parameters of a query string, percent-decoded. Where a name occurs several times its last value counts."""

    __slots__ = ("_dict", "_items")

    def __init__(self, query: str | Iterable[tuple[str, str]] = "") -> None:
        self._items = parse_query(query) if isinstance(query, str) else list(query)
        self._dict = dict(self._items)

    def __getitem__(self, name: str) -> str:
        return self._dict[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def getlist(self, name: str) -> list[str]:
        """Every value of that name."""
        return [value for key, value in self._items if key == name]

    def multi_items(self) -> list[tuple[str, str]]:
        """Every parameter, in the order of the query string."""
        return list(self._items)

    def __repr__(self) -> str:
        return f"QueryParams({self._items!r})"


class PathParams(dict[str, str]):
    """The values of the placeholders of the route's path, percent-decoded, by their names."""


class URL:
    """The URL of a request, still percent-encoded."""

    __slots__ = ("_parts", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = urlsplit(text)

    @property
    def scheme(self) -> str:
        return self._parts.scheme

    @property
    def netloc(self) -> str:
        return self._parts.netloc

    @property
    def hostname(self) -> str | None:
        return self._parts.hostname

    @property
    def port(self) -> int | None:
        return self._parts.port

    @property
    def path(self) -> str:
        return self._parts.path

    @property
    def query(self) -> str:
        return self._parts.query

    def __str__(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"URL({self._text!r})"


class State:
    """A place for attributes of one's own, as in `app.state.database = ...`."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the state has no attribute {name!r}; was it set at startup?")

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__


def parse_query(query: str) -> list[tuple[str, str]]:
    """The names and values of a query string, as `urllib.parse.parse_qsl` reads them with blank values kept."""
    if "%" in query or "+" in query:
        return parse_qsl(query, keep_blank_values=True)
    # Most query strings have nothing to decode, and this takes a third of the time.
    parts = [part.partition("=") for part in query.split("&")]
    return [(name, value) for name, equals, value in parts if name or equals]


def parse_cookies(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The cookies in header fields, whose names are in lower case. Of several with one name the first counts."""
    cookies: dict[str, str] = {}
    for header, values in headers:
        if header == "cookie":
            for part in values.split(";"):
                name, equals, value = part.partition("=")
                if equals:
                    cookies.setdefault(name.strip(), _unquoted(value.strip()))
    return cookies


def _unquoted(value: str) -> str:
    """The value without its quotes and what is escaped in them, as `Response.set_cookie` and `http.cookies` write it."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    value = value[1:-1]
    return value if "\\" not in value else _ESCAPED.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value)


_ESCAPED = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"header names and values are str, not {type(value).__name__}: {value!r}")
    return value
