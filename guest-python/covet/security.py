"""Security schemes as dependencies, with FastAPI's names: `Depends(OAuth2PasswordBearer(tokenUrl="token"))`.

A scheme reads the credentials of a request and describes itself in the OpenAPI document; whether they are valid is for the
application to find out, with `constant_time_equals` where it compares secrets. With `auto_error` a request without
credentials is a 401, else the dependency is None.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from .authentication import constant_time_equals
from .dependencies import SecurityScopes
from .exceptions import HTTPException
from .params import Form
from .requests import Request

__all__ = [
    "APIKeyCookie",
    "APIKeyHeader",
    "APIKeyQuery",
    "HTTPAuthorizationCredentials",
    "HTTPBase",
    "HTTPBasic",
    "HTTPBasicCredentials",
    "HTTPBearer",
    "HTTPDigest",
    "OAuth2",
    "OAuth2AuthorizationCodeBearer",
    "OAuth2PasswordBearer",
    "OAuth2PasswordRequestForm",
    "OAuth2PasswordRequestFormStrict",
    "OpenIdConnect",
    "SecurityBase",
    "SecurityScopes",
    "constant_time_equals",
]


class SecurityBase:
    """The base of the schemes."""

    #: The name of the scheme in the OpenAPI document, by default that of the class.
    scheme_name: str
    #: The scheme as the OpenAPI document describes it.
    model: dict[str, Any]
    #: Whether a request without credentials is refused.
    auto_error: bool

    def __init__(self, model: dict[str, Any], scheme_name: str | None, description: str | None, auto_error: bool) -> None:
        self.model = model if description is None else {**model, "description": description}
        self.scheme_name = scheme_name or type(self).__name__
        self.auto_error = auto_error

    def make_not_authenticated_error(self) -> HTTPException:
        """The 401 for a request without credentials."""
        return HTTPException(401, "Not authenticated", {"WWW-Authenticate": self.make_challenge()})

    def make_challenge(self) -> str:
        """The value of the `www-authenticate` field of a 401."""
        return "Bearer"

    def _refuse(self) -> None:
        """Ends a request without credentials, unless the dependency is None for it."""
        if self.auto_error:
            raise self.make_not_authenticated_error()


@dataclass
class HTTPBasicCredentials:
    """Name and password of HTTP Basic."""

    username: str
    password: str = field(repr=False)


@dataclass
class HTTPAuthorizationCredentials:
    """The `authorization` field: what is before the first space, and what is after it."""

    scheme: str
    credentials: str = field(repr=False)


class HTTPBase(SecurityBase):
    """A scheme of the `authorization` field; `scheme` is the name that is expected of a client in the document."""

    def __init__(
        self,
        *,
        scheme: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__({"type": "http", "scheme": scheme}, scheme_name, description, auto_error)

    def make_challenge(self) -> str:
        challenge: str = self.model["scheme"]
        return challenge.title()

    def __call__(self, request: Request) -> Any:
        scheme, credentials = _authorization(request)
        if not (scheme and credentials):
            self._refuse()
            return None
        return HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials)


class HTTPBasic(HTTPBase):
    """HTTP Basic (RFC 7617). The dependency is `HTTPBasicCredentials`. `realm` is what browsers show when they ask."""

    def __init__(
        self,
        *,
        scheme_name: str | None = None,
        realm: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__(scheme="basic", scheme_name=scheme_name, description=description, auto_error=auto_error)
        self.realm = realm

    def make_challenge(self) -> str:
        return f'Basic realm="{self.realm}"' if self.realm else "Basic"

    def __call__(self, request: Request) -> HTTPBasicCredentials | None:
        """The credentials. What is not valid is a 401 also without `auto_error`; as in FastAPI, text is ASCII."""
        scheme, credentials = _authorization(request)
        if scheme.lower() != "basic":
            self._refuse()
            return None
        try:
            text = b64decode(credentials).decode("ascii")
        except ValueError:
            raise self.make_not_authenticated_error() from None
        username, colon, password = text.partition(":")
        if not colon:
            raise self.make_not_authenticated_error()
        return HTTPBasicCredentials(username=username, password=password)


class _HTTPCredentials(HTTPBase):
    """A scheme of which the dependency is `HTTPAuthorizationCredentials`."""

    def __call__(self, request: Request) -> HTTPAuthorizationCredentials | None:
        scheme, credentials = _authorization(request)
        if not credentials or scheme.lower() != self.model["scheme"]:
            self._refuse()
            return None
        return HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials)


class HTTPBearer(_HTTPCredentials):
    """Bearer tokens (RFC 6750). The dependency is `HTTPAuthorizationCredentials`. `bearerFormat` is for the document."""

    def __init__(
        self,
        *,
        bearerFormat: str | None = None,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__(scheme="bearer", scheme_name=scheme_name, description=description, auto_error=auto_error)
        if bearerFormat is not None:
            self.model["bearerFormat"] = bearerFormat


class HTTPDigest(_HTTPCredentials):
    """HTTP Digest (RFC 7616), of which only the field is read. The dependency is `HTTPAuthorizationCredentials`."""

    def __init__(self, *, scheme_name: str | None = None, description: str | None = None, auto_error: bool = True) -> None:
        super().__init__(scheme="digest", scheme_name=scheme_name, description=description, auto_error=auto_error)


class _APIKey(SecurityBase):
    def __init__(
        self,
        where: Literal["query", "header", "cookie"],
        name: str,
        scheme_name: str | None,
        description: str | None,
        auto_error: bool,
    ) -> None:
        super().__init__({"type": "apiKey", "in": where, "name": name}, scheme_name, description, auto_error)
        self._name = name

    def make_challenge(self) -> str:
        return "APIKey"

    def _key(self, key: str | None) -> str | None:
        if not key:
            self._refuse()
            return None
        return key


class APIKeyQuery(_APIKey):
    """A key in a parameter of the query string. The dependency is the key."""

    def __init__(
        self, *, name: str, scheme_name: str | None = None, description: str | None = None, auto_error: bool = True
    ) -> None:
        super().__init__("query", name, scheme_name, description, auto_error)

    def __call__(self, request: Request) -> str | None:
        return self._key(request.query_params.get(self._name))


class APIKeyHeader(_APIKey):
    """A key in a header field. The dependency is the key."""

    def __init__(
        self, *, name: str, scheme_name: str | None = None, description: str | None = None, auto_error: bool = True
    ) -> None:
        super().__init__("header", name, scheme_name, description, auto_error)

    def __call__(self, request: Request) -> str | None:
        return self._key(request.headers.get(self._name))


class APIKeyCookie(_APIKey):
    """A key in a cookie. The dependency is the key."""

    def __init__(
        self, *, name: str, scheme_name: str | None = None, description: str | None = None, auto_error: bool = True
    ) -> None:
        super().__init__("cookie", name, scheme_name, description, auto_error)

    def __call__(self, request: Request) -> str | None:
        return self._key(request.cookies.get(self._name))


class OAuth2(SecurityBase):
    """OAuth 2.0 with the flows of the OpenAPI document. The dependency is the `authorization` field as it is."""

    def __init__(
        self,
        *,
        flows: Mapping[str, Mapping[str, Any]] | None = None,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        described = {name: {"scopes": {}, **_without_none(flow)} for name, flow in (flows or {}).items()}
        super().__init__({"type": "oauth2", "flows": described}, scheme_name, description, auto_error)

    def __call__(self, request: Request) -> str | None:
        authorization = request.headers.get("authorization")
        if not authorization:
            self._refuse()
            return None
        return authorization


class _OAuth2Bearer(OAuth2):
    """A flow whose tokens are bearer tokens."""

    def __call__(self, request: Request) -> str | None:
        scheme, token = _authorization(request)
        if scheme.lower() != "bearer":
            self._refuse()
            return None
        return token


class OAuth2PasswordBearer(_OAuth2Bearer):
    """Bearer tokens that a client gets at `tokenUrl` for a name and a password. The dependency is the token."""

    def __init__(
        self,
        tokenUrl: str,
        scheme_name: str | None = None,
        scopes: Mapping[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
        refreshUrl: str | None = None,
    ) -> None:
        flow = {"tokenUrl": tokenUrl, "refreshUrl": refreshUrl, "scopes": dict(scopes or {})}
        super().__init__(flows={"password": flow}, scheme_name=scheme_name, description=description, auto_error=auto_error)


class OAuth2AuthorizationCodeBearer(_OAuth2Bearer):
    """Bearer tokens that a client gets at `tokenUrl` for a code from `authorizationUrl`. The dependency is the token."""

    def __init__(
        self,
        authorizationUrl: str,
        tokenUrl: str,
        refreshUrl: str | None = None,
        scheme_name: str | None = None,
        scopes: Mapping[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        flow = {
            "authorizationUrl": authorizationUrl,
            "tokenUrl": tokenUrl,
            "refreshUrl": refreshUrl,
            "scopes": dict(scopes or {}),
        }
        super().__init__(
            flows={"authorizationCode": flow}, scheme_name=scheme_name, description=description, auto_error=auto_error
        )


class OpenIdConnect(SecurityBase):
    """OpenID Connect, for the document. The dependency is the `authorization` field as it is."""

    def __init__(
        self,
        *,
        openIdConnectUrl: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        model = {"type": "openIdConnect", "openIdConnectUrl": openIdConnectUrl}
        super().__init__(model, scheme_name, description, auto_error)

    def __call__(self, request: Request) -> str | None:
        authorization = request.headers.get("authorization")
        if not authorization:
            self._refuse()
            return None
        return authorization


class OAuth2PasswordRequestForm:
    """The form of a request for a token by name and password (RFC 6749 section 4.3.2), as a dependency.

    `scope` is split at spaces into `scopes`. The RFC wants `grant_type` to be there, as OAuth2PasswordRequestFormStrict
    does.
    """

    def __init__(
        self,
        *,
        grant_type: Annotated[str | None, Form(pattern="^password$")] = None,
        username: Annotated[str, Form()],
        password: Annotated[str, Form()],
        scope: Annotated[str, Form()] = "",
        client_id: Annotated[str | None, Form()] = None,
        client_secret: Annotated[str | None, Form()] = None,
    ) -> None:
        self.grant_type = grant_type
        self.username = username
        self.password = password
        self.scopes = scope.split()
        self.client_id = client_id
        self.client_secret = client_secret


class OAuth2PasswordRequestFormStrict(OAuth2PasswordRequestForm):
    """The same with a `grant_type` that must be there and be `password`."""

    def __init__(
        self,
        grant_type: Annotated[str, Form(pattern="^password$")],
        username: Annotated[str, Form()],
        password: Annotated[str, Form()],
        scope: Annotated[str, Form()] = "",
        client_id: Annotated[str | None, Form()] = None,
        client_secret: Annotated[str | None, Form()] = None,
    ) -> None:
        super().__init__(
            grant_type=grant_type,
            username=username,
            password=password,
            scope=scope,
            client_id=client_id,
            client_secret=client_secret,
        )


def _authorization(request: Request) -> tuple[str, str]:
    """Scheme and credentials of the `authorization` field; both empty if there is none."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return scheme, credentials.strip()


def _without_none(flow: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flow.items() if value is not None}
