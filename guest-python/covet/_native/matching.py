"""From a method and a path to a route, natively, as the host's router does it: one tree per method.

In a component nothing of this runs: the host has found the route before the guest is called. It holds the percent-decoding
of paths, and the rules for methods; the tree itself is `_native.matchit`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .matchit import Conflict, InsertError, Tree

__all__ = ["BadPath", "Found", "MethodNotAllowed", "RouteError", "RouteKey", "Router"]


class RouteKey(NamedTuple):
    """What the host is told of a route."""

    #: In upper case; an empty one stands for every method.
    method: str
    #: The path with `{name}` and `{*rest}`.
    pattern: str
    #: For messages.
    name: str

    def __str__(self) -> str:
        return f"{self.method or '*'} {self.pattern} ({self.name})"


@dataclass(frozen=True, slots=True)
class Found:
    """A route, with the decoded values of its placeholders in the order of the pattern."""

    #: Its index.
    route: int
    params: list[str]


@dataclass(frozen=True, slots=True)
class MethodNotAllowed:
    """The path exists for other methods."""

    #: For the `Allow` field, comma-separated.
    allow: str


class BadPath(ValueError):
    """The path is not valid: a broken escape, an escaped NUL, or not UTF-8 after decoding."""

    def __init__(self) -> None:
        super().__init__("the path is not validly percent-encoded UTF-8")


class RouteError(ValueError):
    """Why a set of routes cannot be served. The message names the routes, in the words of the host."""


class _Leaf(NamedTuple):
    route: int
    #: The route is for every method.
    any_method: bool
    #: The path ended where a `{*rest}` begins, which therefore is empty.
    empty_rest: bool


class Router:
    """The routes of one application. Raises RouteError if they cannot be served."""

    def __init__(self, routes: Sequence[RouteKey]) -> None:
        #: Each tree has the routes of its method and those for every method.
        self._methods: dict[str, Tree] = {}
        #: The routes for every method, for methods that no route names.
        self._other = Tree()
        for route in routes:
            _check(route)
            if route.method:
                self._methods.setdefault(route.method, Tree())
        for index, route in enumerate(routes):
            _insert(self._methods[route.method] if route.method else self._other, index, route, routes)
        for index, route in enumerate(routes):
            if not route.method:
                for tree in self._methods.values():
                    # Where a method has a route of its own at the same place, that one is meant.
                    _try_insert(tree, route.pattern, _Leaf(index, True, False))
        for tree in (*self._methods.values(), self._other):
            _add_empty_rests(tree, routes)

    def find(self, method: str, path: str) -> Found | MethodNotAllowed | None:
        """The route for a method and a path that is still encoded. Raises BadPath if it cannot be decoded."""
        octets = _decode(path)
        match = self._head(octets) if method == "HEAD" else self._tree(method).at(octets)
        if match is not None:
            return _found(match)
        allow = self._allowed(octets)
        return MethodNotAllowed(allow) if allow else None

    def _tree(self, method: str) -> Tree:
        return self._methods.get(method, self._other)

    def _head(self, octets: str) -> tuple[_Leaf, list[str]] | None:
        """A route for `HEAD`; else one for `GET`, if it is at least as close to the path as those for every method; else
        one of these."""
        own = self._tree("HEAD").at(octets)
        if own is not None and not own[0].any_method:
            return own
        # The tree of GET has the routes for every method too, so it knows which of both is closer.
        return (self._methods["GET"].at(octets) if "GET" in self._methods else None) or own

    def _allowed(self, octets: str) -> str:
        allow = [method for method, tree in sorted(self._methods.items()) if tree.at(octets) is not None]
        if "GET" in allow and "HEAD" not in allow:
            allow.append("HEAD")
        return ", ".join(allow)


def _found(match: tuple[_Leaf, list[str]]) -> Found:
    leaf, values = match
    params = [_text(value).replace(SLASH, "/") for value in values]
    if leaf.empty_rest:
        params.append("")
    return Found(leaf.route, params)


def _check(route: RouteKey) -> None:
    if not route.pattern.startswith("/"):
        raise RouteError(f"route {route} has an invalid pattern: it must begin with /")
    if route.method and _METHOD.fullmatch(route.method) is None:
        raise RouteError(f"route {route} has an invalid method")


def _insert(tree: Tree, index: int, route: RouteKey, routes: Sequence[RouteKey]) -> None:
    try:
        tree.insert(_octets(route.pattern), _Leaf(index, not route.method, False))
    except Conflict as error:
        pattern = _text(error.pattern)
        others = (other for other in routes if other.pattern == pattern and other.method == route.method)
        old = next(map(str, others), pattern)
        raise RouteError(f"route {route} conflicts with route {old}: both match the same paths") from None
    except InsertError as error:
        raise RouteError(f"route {route} has an invalid pattern: {error}") from None


def _try_insert(tree: Tree, pattern: str, leaf: _Leaf) -> None:
    try:
        tree.insert(_octets(pattern), leaf)
    except InsertError:
        return


def _add_empty_rests(tree: Tree, routes: Sequence[RouteKey]) -> None:
    """`/files/{*rest}` is to match `/files/` too, as Starlette's `:path` does, unless another route does already."""
    for index, route in enumerate(routes):
        start = route.pattern.rfind("{*")
        if start < 0:
            continue
        # The pattern must be in this very tree.
        found = tree.at(_octets(f"{route.pattern[:start]}x"))
        if found is not None and found[0].route == index:
            _try_insert(tree, route.pattern[:start], _Leaf(index, not route.method, True))


def _decode(path: str) -> str:
    """Decodes a path once. The result has one character for each octet, and SLASH for an escaped slash."""
    if "\0" in path:
        raise BadPath
    if "%" in path:
        if _BROKEN_ESCAPE.search(path):
            raise BadPath
        path = _ESCAPE.sub(_unescape, _octets(path))
        try:
            _text(path)
        except UnicodeDecodeError:
            raise BadPath from None
        return path
    return _octets(path)


def _unescape(escape: re.Match[str]) -> str:
    octet = int(escape[1], 16)
    if not octet:
        raise BadPath
    return SLASH if octet == ord("/") else chr(octet)


def _octets(text: str) -> str:
    """The text with one character for each octet of its UTF-8, which is what the tree is made of."""
    if text.isascii():
        return text
    try:
        return text.encode().decode("latin-1")
    except UnicodeEncodeError:
        raise BadPath from None


def _text(octets: str) -> str:
    return octets if octets.isascii() else octets.encode("latin-1").decode()


#: Stands for an escaped slash while the path is matched, so that `%2F` stays inside its segment and yet nothing is decoded
#: twice. A real NUL is refused.
SLASH = "\0"
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
#: A token (RFC 9110 section 5.6.2) without small letters.
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
