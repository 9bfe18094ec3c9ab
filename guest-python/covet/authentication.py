"""Who sends a request: backends for AuthenticationMiddleware, users, and `requires` for handlers."""

import binascii
import inspect
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from hmac import compare_digest
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from .exceptions import HTTPException
from .requests import Request
from .responses import RedirectResponse

__all__ = [
    "APIKeyBackend",
    "AuthCredentials",
    "AuthenticationBackend",
    "AuthenticationError",
    "BaseUser",
    "BasicBackend",
    "BearerBackend",
    "SimpleUser",
    "UnauthenticatedUser",
    "constant_time_equals",
    "requires",
]

F_ = TypeVar("F_", bound=Callable[..., Any])


class AuthenticationError(Exception):
    """A request has credentials that are not valid. The message is sent to the client.

    `challenge` is the value of the `www-authenticate` field; without it, it is that of the backend.
    """

    def __init__(self, message: str = "Not authenticated", *, challenge: str | None = None) -> None:
        super().__init__(message)
        self.challenge = challenge


class AuthCredentials:
    """What a request may do, as scopes."""

    def __init__(self, scopes: Sequence[str] | None = None) -> None:
        if isinstance(scopes, str):
            raise TypeError(f"scopes is a list of strings: [{scopes!r}]")
        self.scopes: list[str] = [] if scopes is None else list(scopes)

    def __repr__(self) -> str:
        return f"AuthCredentials({self.scopes!r})"


class BaseUser:
    """The base of users."""

    @property
    def is_authenticated(self) -> bool:
        """Whether it is known who the user is."""
        raise NotImplementedError

    @property
    def display_name(self) -> str:
        """The name to show."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """What tells the user from others."""
        raise NotImplementedError


class SimpleUser(BaseUser):
    """A user who has a name and nothing else."""

    def __init__(self, username: str) -> None:
        self.username = username

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.username

    @property
    def identity(self) -> str:
        return self.username

    def __repr__(self) -> str:
        return f"SimpleUser({self.username!r})"


class UnauthenticatedUser(BaseUser):
    """The user of a request without credentials."""

    @property
    def is_authenticated(self) -> bool:
        return False

    @property
    def display_name(self) -> str:
        return ""

    @property
    def identity(self) -> str:
        return ""

    def __repr__(self) -> str:
        return "UnauthenticatedUser()"


class AuthenticationBackend:
    """The base of backends: override `authenticate`."""

    #: The value of the `www-authenticate` field of a refusal, which a 401 must have (RFC 9110 section 15.5.2).
    challenge: str = "Bearer"

    def authenticate(
        self, request: Request
    ) -> "tuple[AuthCredentials, Any] | Awaitable[tuple[AuthCredentials, Any] | None] | None":
        """Credentials and user of a request; it may be `async`.

        None if the request has no credentials of this kind. Raises AuthenticationError if they are not valid.
        """
        raise NotImplementedError


#: What a `verify` returns: None or False if the credentials are not valid; the user, or only his name; credentials and
#: user; or True, which stands for a user of whom no more is known than the request says.
Verified: TypeAlias = "tuple[AuthCredentials, Any] | str | bool | object | None"


class _VerifyingBackend(AuthenticationBackend):
    """What the backends here have in common: a function that knows which credentials are valid."""

    def __init__(self, verify: Callable[..., "Verified | Awaitable[Verified]"], message: str, challenge: str) -> None:
        if not callable(verify):
            raise ValueError(f"verify is a function, not {verify!r}")
        self._verify = verify
        self._message = message
        self._invalid_challenge = challenge

    async def _check(self, name: str, *credentials: str) -> tuple[AuthCredentials, Any]:
        """Credentials and user; `name` is that of a user of whom `verify` says only that he is valid."""
        result: Any = self._verify(*credentials)
        if inspect.isawaitable(result):
            result = await result
        if result is None or result is False:
            raise self._invalid()
        if isinstance(result, tuple):
            if len(result) != 2 or not isinstance(result[0], AuthCredentials):
                raise TypeError("verify may return (AuthCredentials, user); its tuple is another one")
            return result
        if result is True:
            result = SimpleUser(name)
        elif isinstance(result, str):
            result = SimpleUser(result)
        return AuthCredentials(["authenticated"]), result

    def _invalid(self) -> AuthenticationError:
        return AuthenticationError(self._message, challenge=self._invalid_challenge)


class BearerBackend(_VerifyingBackend):
    """Bearer tokens in the `authorization` field (RFC 6750). `verify` gets the token; for what it returns see `Verified`.

    A user for whom `verify` brings no credentials has the scope `authenticated`.
    """

    challenge = "Bearer"

    def __init__(self, verify: Callable[[str], "Verified | Awaitable[Verified]"]) -> None:
        super().__init__(verify, "Invalid bearer token", 'Bearer error="invalid_token"')

    async def authenticate(self, request: Request) -> tuple[AuthCredentials, Any] | None:
        token = _authorization(request, "bearer", self._invalid)
        if token is None:
            return None
        if _BEARER_TOKEN.fullmatch(token) is None:
            raise self._invalid()
        return await self._check("", token)


class BasicBackend(_VerifyingBackend):
    """Names and passwords by HTTP Basic (RFC 7617), in UTF-8. `verify` gets both; for what it returns see `Verified`.

    `realm` is what browsers show when they ask for them. A user for whom `verify` brings no credentials has the scope
    `authenticated`.
    """

    def __init__(self, verify: Callable[[str, str], "Verified | Awaitable[Verified]"], realm: str = "Restricted") -> None:
        if not isinstance(realm, str) or _QUOTABLE.fullmatch(realm) is None:
            raise ValueError(f"realm: {realm!r} is not printable ASCII")
        quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
        self.challenge = f'Basic realm="{quoted}", charset="UTF-8"'
        super().__init__(verify, "Invalid authentication credentials", self.challenge)

    async def authenticate(self, request: Request) -> tuple[AuthCredentials, Any] | None:
        encoded = _authorization(request, "basic", self._invalid)
        if encoded is None:
            return None
        try:
            text = b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            raise self._invalid() from None
        username, colon, password = text.partition(":")
        if not colon or _CONTROL.search(text) is not None:
            raise self._invalid()
        return await self._check(username, username, password)


class APIKeyBackend(_VerifyingBackend):
    """Keys in a header field, a parameter of the query string or a cookie, of those that are named in this order.

    Without a name it is the header `x-api-key`. `verify` gets the key; for what it returns see `Verified`. Prefer a
    header: URLs are in logs, and a cookie is sent by browsers for pages of others, too.
    """

    challenge = "APIKey"

    def __init__(
        self,
        verify: Callable[[str], "Verified | Awaitable[Verified]"],
        *,
        header: str | None = None,
        query: str | None = None,
        cookie: str | None = None,
    ) -> None:
        super().__init__(verify, "Invalid API key", self.challenge)
        for option, name in (("header", header), ("query", query), ("cookie", cookie)):
            if name is not None and (not isinstance(name, str) or not name):
                raise ValueError(f"{option} is the name under which the key is sent, not {name!r}")
        self._header = "x-api-key" if header is None and query is None and cookie is None else header
        self._query = query
        self._cookie = cookie

    async def authenticate(self, request: Request) -> tuple[AuthCredentials, Any] | None:
        key = None
        if self._header is not None:
            fields = request.headers.getlist(self._header)
            if len(fields) > 1:
                raise self._invalid()
            key = fields[0] if fields else None
        if not key and self._query is not None:
            key = request.query_params.get(self._query)
        if not key and self._cookie is not None:
            key = request.cookies.get(self._cookie)
        return await self._check("", key) if key else None


def requires(scopes: str | Sequence[str], status_code: int = 403, redirect: str | None = None) -> Callable[[F_], F_]:
    """Lets only requests with certain scopes reach a handler; others get `status_code`.

    The decorator is written below that of the route, and the handler has a parameter for the Request. With the status 401
    the response has the `www-authenticate` fields of the backends. With `redirect`, the name of a route, the client is
    sent there instead, with the URL that it wanted in the parameter `next`.
    """
    wanted = [scopes] if isinstance(scopes, str) else list(scopes)

    def decorate(handler: F_) -> F_:
        name, position = _request_parameter(handler)

        def refusal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> RedirectResponse | None:
            request: Any = kwargs[name] if name in kwargs else args[position]
            auth = getattr(request.state, "auth", None)
            if auth is None:
                raise RuntimeError("requires() needs AuthenticationMiddleware, which has not seen this request")
            if all(scope in auth.scopes for scope in wanted):
                return None
            if redirect is not None:
                url = request.url_for(redirect)
                return RedirectResponse(f"{url}?next={quote(str(request.url), safe='')}", 303)
            challenges = getattr(request.state, "auth_challenges", ("Bearer",)) if status_code == 401 else ()
            raise HTTPException(status_code, headers={"WWW-Authenticate": ", ".join(challenges)} if challenges else None)

        if inspect.iscoroutinefunction(handler):

            @wraps(handler)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                answer = refusal(args, kwargs)
                return await handler(*args, **kwargs) if answer is None else answer

            return call_async  # type: ignore[return-value]

        @wraps(handler)
        def call(*args: Any, **kwargs: Any) -> Any:
            answer = refusal(args, kwargs)
            return handler(*args, **kwargs) if answer is None else answer

        return call  # type: ignore[return-value]

    return decorate


def constant_time_equals(one: str | bytes, other: str | bytes) -> bool:
    """Whether two secrets are equal. How long it takes says nothing about where they differ, only about their length."""
    first = one.encode(errors="surrogatepass") if isinstance(one, str) else one
    second = other.encode(errors="surrogatepass") if isinstance(other, str) else other
    return compare_digest(first, second)


def _authorization(request: Request, scheme: str, invalid: Callable[[], AuthenticationError]) -> str | None:
    """The credentials of a scheme, None if the request has none or those of another scheme."""
    fields = request.headers.getlist("authorization")
    if not fields:
        return None
    found, _, credentials = fields[0].partition(" ")
    if found.lower() != scheme:
        return None
    credentials = credentials.strip(" ")
    # Of two fields a proxy may have read the other one.
    if len(fields) > 1 or not credentials:
        raise invalid()
    return credentials


def _request_parameter(handler: Callable[..., Any]) -> tuple[str, int]:
    """Name and position of the parameter that takes the Request."""
    try:
        parameters = inspect.signature(handler, eval_str=True).parameters.values()
    except NameError:
        # A name that is defined further down; the route reads it later.
        parameters = inspect.signature(handler).parameters.values()
    for position, parameter in enumerate(parameters):
        annotation = parameter.annotation
        if annotation == "Request" or (isinstance(annotation, type) and issubclass(annotation, Request)):
            return parameter.name, position
        if parameter.name == "request" and (annotation is inspect.Parameter.empty or isinstance(annotation, str)):
            return parameter.name, position
    raise TypeError(
        f"requires(): {getattr(handler, '__name__', handler)!r} has no parameter for the Request; add request: Request"
    )


#: `b64token` of RFC 6750 section 2.1.
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_QUOTABLE = re.compile(r"[ -~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
