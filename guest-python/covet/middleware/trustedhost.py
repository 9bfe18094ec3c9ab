"""Refuses requests for hosts that the application does not serve."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from covet.responses import PlainTextResponse, RedirectResponse, Response

from ._shared import authority_of, host_name, texts
from .base import BaseMiddleware

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["TrustedHostMiddleware"]


class TrustedHostMiddleware(BaseMiddleware):
    """Answers requests with a 400 unless their host is one of `allowed_hosts`.

    A host is written without a port; `*.example.org` stands for all names below `example.org`, and `*` for every host.
    With `www_redirect`, a request for `example.org` is sent to `www.example.org` where only that one is allowed. What a
    proxy says in `x-forwarded-host` is not considered. Checked are the `host` field and, where it differs, the host of
    the URL, so that neither can be made up.
    """

    def __init__(self, allowed_hosts: Collection[str], *, www_redirect: bool = True) -> None:
        hosts = texts("allowed_hosts", allowed_hosts)
        if not hosts:
            raise ValueError("allowed_hosts is empty; ['*'] allows every host")
        for host in hosts:
            if host != "*" and ("*" in host.removeprefix("*.") or not _is_host(host.removeprefix("*."))):
                raise ValueError(f"allowed_hosts: {host!r} is neither a host without a port nor '*' nor like '*.example.org'")
        self._any = "*" in hosts
        self._hosts = frozenset(host.lower() for host in hosts if not host.startswith("*"))
        self._suffixes = tuple(host[1:].lower() for host in hosts if host.startswith("*."))
        self._www_redirect = www_redirect

    def process_request(self, request: "Request") -> Response | None:
        if self._any:
            return None
        authority = request.headers.get("host")
        host = None if authority is None else host_name(authority)
        if host is None:
            return PlainTextResponse("Invalid host header", 400)
        if self._is_allowed(host):
            # With an absolute target the two may differ, and links are made from the second.
            other = authority_of(request)
            if other == authority or self._is_allowed(host_name(other)):
                return None
        if self._www_redirect and f"www.{host}" in self._hosts:
            target = request.target if request.target.startswith("/") else "/"
            return RedirectResponse(f"{request.url.scheme}://www.{authority}{target}")
        return PlainTextResponse("Invalid host header", 400)

    def _is_allowed(self, host: str | None) -> bool:
        return host is not None and (host in self._hosts or host.endswith(self._suffixes))


def _is_host(host: str) -> bool:
    return host_name(host) == host.lower()
