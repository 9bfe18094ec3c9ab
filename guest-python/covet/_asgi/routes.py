"""The routes of a Starlette or FastAPI application, as far as the host can express them.

They are only there to be seen: in `covet routes`, in the host's log and in its figures. What the host matches decides
nothing, because the application's own router gets every request; so a route that the host cannot express, or that would
conflict with another one, is left to the route that takes everything.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from covet.types import Isolation

__all__ = ["ASGIRoute", "read_routes"]


@dataclass
class ASGIRoute:
    """A route as the host knows it."""

    #: As the application has it.
    path: str
    #: As the host reads it.
    pattern: str
    #: In upper case; an empty one stands for every method.
    methods: list[str]
    name: str
    run: Callable[[Any], Any]
    is_async: bool = True
    isolation: Isolation | None = None


def read_routes(app: Any, run: Callable[[Any], Any]) -> list[ASGIRoute]:
    """The routes of an application, and at the end the one for everything else."""
    routes = []
    trees: dict[str, _Tree] = {}
    for path, methods, name in _endpoints(app, ""):
        if (pattern := pattern_of(path)) is None:
            continue
        kept = [method for method in methods if trees.setdefault(method, _Tree()).insert(pattern)]
        if kept:
            routes.append(ASGIRoute(path, pattern, kept, name, run))
    routes.append(ASGIRoute("/{path:path}", CATCH_ALL, [""], type(app).__name__, run))
    return routes


def pattern_of(path: str) -> str | None:
    """A path of Starlette's as the host reads it. None if it cannot, or if the route for everything is in its place.

    `{name:int}` becomes `{name}`, which matches more, and a `path` at the end becomes `{*name}`.
    """
    if not path.startswith("/"):
        return None
    segments = []
    for segment in path[1:].split("/"):
        # As Starlette reads it: what does not look like a parameter is text.
        parameters = _PARAMETER.findall(segment)
        if not parameters:
            segments.append(segment.replace("{", "{{").replace("}", "}}"))
            continue
        [(name, converter), *others] = parameters
        if others or not _PARAMETER.fullmatch(segment):
            return None
        segments.append(f"{{*{name}}}" if converter == ":path" else f"{{{name}}}")
    if any(segment.startswith("{*") for segment in segments[:-1]) or _is_placeholder(segments[0]):
        # A placeholder right at the root is where the route for everything has its own.
        return None
    return "/" + "/".join(segments)


def _endpoints(app: Any, prefix: str) -> Iterator[tuple[str, list[str], str]]:
    """Path, methods and name of every HTTP endpoint, in the order in which they are tried."""
    for route in _routes_of(app):
        path = getattr(route, "path", None)
        if not isinstance(path, str):
            continue
        # What FastAPI says of a route is wrapped around it.
        original = getattr(route, "original_route", route)
        name = str(getattr(route, "name", None) or type(original).__name__)
        if hasattr(original, "methods"):
            yield prefix + path, sorted(route.methods or [""]), name
        elif hasattr(original, "routes"):
            # A mount: another application, whose routes are known or not.
            yield from _endpoints(original, prefix + path)
            yield f"{prefix}{path}/{{path:path}}", [""], name


def _routes_of(app: Any) -> Sequence[Any]:
    routing = sys.modules.get("fastapi.routing")
    routes = getattr(app, "routes", None)
    if not isinstance(routes, Sequence):
        return ()
    # FastAPI keeps a router that was included as one route and works its routes out when it is asked.
    expand = getattr(routing, "iter_route_contexts", None)
    return list(expand(routes)) if expand is not None else routes


@dataclass
class _Tree:
    """What the host's router would hold for one method: enough to see conflicts before it does."""

    #: By segment; placeholders under `{}` and `{*}` whatever their names are.
    children: "dict[str, _Tree]" = field(default_factory=dict)
    is_taken: bool = False

    def insert(self, pattern: str) -> bool:
        """Adds a pattern. False, and nothing is added, if the router would not take it."""
        node = self
        missing: list[str] = []
        for segment in pattern.split("/"):
            key = ("{*}" if segment.startswith("{*") else "{}") if _is_placeholder(segment) else segment
            other = {"{}": "{*}", "{*}": "{}"}.get(key)
            if not missing and other in node.children:
                return False
            if not missing and key in node.children:
                node = node.children[key]
            else:
                missing.append(key)
        if not missing and node.is_taken:
            return False
        for key in missing:
            node = node.children.setdefault(key, _Tree())
        node.is_taken = True
        return True


def _is_placeholder(segment: str) -> bool:
    return segment.startswith("{") and not segment.startswith("{{")


_PARAMETER = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(:[a-zA-Z_][a-zA-Z0-9_]*)?}")

#: Matches every path.
CATCH_ALL = "/{*path}"
