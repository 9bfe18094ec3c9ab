"""Cross-origin requests: which pages of other origins may read the responses (CORS, part of the Fetch standard)."""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from covet.datastructures import Headers
from covet.responses import PlainTextResponse, Response

from ._shared import TOKEN, add_vary, put, texts, whole_number
from .base import BaseMiddleware

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["CORSMiddleware"]


class CORSMiddleware(BaseMiddleware):
    """Answers preflight requests and puts the `access-control-*` fields on responses, also on those of errors.

    `allow_origins` has origins as browsers send them (`https://example.org`, `http://localhost:5173`), or `"*"` for all;
    `allow_origin_regex` is matched against the whole origin. `allow_methods` and `allow_headers` may be `["*"]`; the
    headers that need no permission are always allowed. With `allow_credentials` cookies are sent along, and a response
    names the origin that asked, never `*`. `expose_headers` are those that scripts may read. `max_age` is how many seconds
    a browser keeps the answer to a preflight request; `allow_private_network` lets public pages reach a private network.

    A preflight request that is refused gets a 400 which says why. Add this middleware before those that refuse requests: a
    preflight request has no credentials, and a browser hides a refusal that has no `access-control-*` fields. The 500 for an
    exception that nothing handles has none, because it is answered outside of all middleware.
    """

    answers_methods = ("OPTIONS",)

    def __init__(
        self,
        *,
        allow_origins: Collection[str] = (),
        allow_origin_regex: str | None = None,
        allow_methods: Collection[str] = ("GET",),
        allow_headers: Collection[str] = (),
        allow_credentials: bool = False,
        expose_headers: Collection[str] = (),
        max_age: int = 600,
        allow_private_network: bool = False,
    ) -> None:
        origins = texts("allow_origins", allow_origins)
        for origin in origins:
            if origin not in ("*", "null") and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"allow_origins: {origin!r} is no origin as browsers send it, such as 'https://example.org': "
                    "scheme, host and port in lower case, without a path or a '/' at the end; for patterns there is "
                    "allow_origin_regex"
                )
        try:
            self._regex = None if allow_origin_regex is None else re.compile(allow_origin_regex)
        except (re.error, TypeError) as error:
            raise ValueError(f"allow_origin_regex: {allow_origin_regex!r} is no regular expression: {error}") from None
        methods = _tokens("allow_methods", allow_methods)
        headers = _tokens("allow_headers", allow_headers)
        exposed = _tokens("expose_headers", expose_headers)
        self._origins = frozenset(origins)
        self._all_origins = "*" in origins
        self._all_headers = "*" in headers
        self._methods = ALL_METHODS if "*" in methods else tuple(methods)
        names = sorted(SAFELISTED_HEADERS | set(headers))
        self._headers = frozenset(name.lower() for name in names)
        self._private_network = allow_private_network
        #: Whether a response names the origin that asked, and not `*`.
        self._names_origin = not self._all_origins or allow_credentials

        self._simple: list[tuple[str, str]] = []
        if not self._names_origin:
            self._simple.append(("access-control-allow-origin", "*"))
        if allow_credentials:
            self._simple.append(("access-control-allow-credentials", "true"))
        if exposed:
            self._simple.append(("access-control-expose-headers", ", ".join(exposed)))

        self._preflight = [
            ("vary", PREFLIGHT_VARY),
            ("access-control-allow-methods", ", ".join(self._methods)),
            ("access-control-max-age", str(whole_number("max_age", max_age))),
        ]
        if not self._names_origin:
            self._preflight.append(("access-control-allow-origin", "*"))
        if not self._all_headers:
            self._preflight.append(("access-control-allow-headers", ", ".join(names)))
        if allow_credentials:
            self._preflight.append(("access-control-allow-credentials", "true"))

    def process_request(self, request: "Request") -> Response | None:
        if request.method == "OPTIONS":
            headers = request.headers
            if "origin" in headers and "access-control-request-method" in headers:
                return self._answer(headers)
        return None

    def process_response(self, request: "Request", response: Response) -> None:
        headers = response.headers
        origin = request.headers.get("origin")
        if origin is not None:
            fields = self._simple
            if self._names_origin and self._is_allowed(origin):
                fields = [*fields, ("access-control-allow-origin", origin)]
            put(headers, fields)
        # Also without an origin: a cache may have this response for a page of another one later.
        add_vary(headers, "Origin")

    def _answer(self, asked: Headers) -> Response:
        """The answer to a preflight request."""
        headers = list(self._preflight)
        refused = []
        origin = asked["origin"]
        if not self._is_allowed(origin):
            refused.append("origin")
        elif self._names_origin:
            headers.append(("access-control-allow-origin", origin))
        if asked["access-control-request-method"] not in self._methods:
            refused.append("method")
        names = asked.get("access-control-request-headers")
        if names is not None:
            if self._all_headers:
                headers.append(("access-control-allow-headers", names))
            elif any(name.strip().lower() not in self._headers for name in names.split(",")):
                refused.append("headers")
        if "access-control-request-private-network" in asked:
            if self._private_network:
                headers.append(("access-control-allow-private-network", "true"))
            else:
                refused.append("private-network")
        # A browser would refuse it without a 400, too; the words are for its user.
        if refused:
            return PlainTextResponse("Disallowed CORS " + ", ".join(refused), 400, headers)
        return PlainTextResponse("OK", 200, headers)

    def _is_allowed(self, origin: str) -> bool:
        if self._all_origins or origin in self._origins:
            return True
        return self._regex is not None and self._regex.fullmatch(origin) is not None


def _tokens(option: str, values: Collection[str]) -> list[str]:
    found = texts(option, values)
    for value in found:
        if TOKEN.fullmatch(value) is None:
            raise ValueError(f"{option}: {value!r} cannot be the name of a method or of a header field")
    return found


#: What `allow_methods=["*"]` stands for.
ALL_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY")
#: Headers that need no permission, though browsers ask for it where their values are unusual.
SAFELISTED_HEADERS = {"Accept", "Accept-Language", "Content-Language", "Content-Type"}
#: What the answer to a preflight request depends on.
PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?")
