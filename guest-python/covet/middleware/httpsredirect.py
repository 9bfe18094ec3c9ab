"""Sends clients that use HTTP to HTTPS."""

from typing import TYPE_CHECKING

from covet.responses import PlainTextResponse, RedirectResponse, Response

from ._shared import authority_of, header_name, host_name, is_secure
from .base import BaseMiddleware

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["HTTPSRedirectMiddleware"]


class HTTPSRedirectMiddleware(BaseMiddleware):
    """Redirects requests by HTTP to the same URL with HTTPS, with a 307, which keeps method and body.

    Where a proxy ends TLS, the host sees HTTP only, and every request would be redirected for ever: name the field in
    which the proxy says what the client uses in `proto_header`, for example `"x-forwarded-proto"`. The proxy must set it
    itself and not let one of the client pass.
    """

    def __init__(self, *, proto_header: str | None = None) -> None:
        self._proto_header = None if proto_header is None else header_name("proto_header", proto_header)

    def process_request(self, request: "Request") -> Response | None:
        if is_secure(request, self._proto_header):
            return None
        authority = authority_of(request)
        host = host_name(authority)
        if host is None:
            return PlainTextResponse("Invalid host header", 400)
        port = authority[len(host) :]
        if port in (":", ":80", ":443"):
            authority = host
        target = request.target if request.target.startswith("/") else "/"
        return RedirectResponse(f"https://{authority}{target}")
