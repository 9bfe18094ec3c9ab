"""`Depends` and `Security`: parameters of a handler that another function makes."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Depends", "Security", "SecurityScopes"]


class Dependency:
    """A function whose result becomes an argument."""

    __slots__ = ("dependency", "scopes", "use_cache")

    def __init__(self, dependency: Callable[..., Any] | None, use_cache: bool, scopes: Sequence[str]) -> None:
        self.dependency = dependency
        self.use_cache = use_cache
        self.scopes = tuple(scopes)

    def __repr__(self) -> str:
        name = getattr(self.dependency, "__name__", repr(self.dependency))
        return f"Depends({name})" if not self.scopes else f"Security({name}, scopes={list(self.scopes)})"


def Depends(dependency: Callable[..., Any] | None = None, *, use_cache: bool = True) -> Any:
    """An argument that `dependency` makes: `user: User = Depends(current_user)`, also in `Annotated`.

    The function's own parameters are read from the request like a handler's, and may depend on others. It is called once
    per request, however many need it, unless `use_cache` is false. Without a function, the type of the parameter is called.
    A generator function yields the value; what follows its `yield` runs when the response has been made, or, with a
    streamed body or background tasks, when those have ended. An exception of the handler is raised at the `yield`.
    """
    _check(dependency)
    return Dependency(dependency, use_cache, ())


def Security(dependency: Callable[..., Any] | None = None, *, scopes: Sequence[str] = (), use_cache: bool = True) -> Any:
    """As `Depends`, with scopes: they are in the OpenAPI document, and what depends below it can ask for them.

    A parameter of type `SecurityScopes` has the scopes of all `Security` on the way to its function.
    """
    _check(dependency)
    if isinstance(scopes, str):
        raise TypeError(f"scopes is a list: scopes=[{scopes!r}]")
    return Dependency(dependency, use_cache, scopes)


class SecurityScopes:
    """The scopes that were asked for with `Security`."""

    def __init__(self, scopes: Sequence[str] = ()) -> None:
        self.scopes = list(scopes)

    @property
    def scope_str(self) -> str:
        """The scopes with spaces between them."""
        return " ".join(self.scopes)


def _check(dependency: object) -> None:
    if dependency is not None and not callable(dependency):
        raise TypeError(f"a dependency is a function, not {dependency!r}")
