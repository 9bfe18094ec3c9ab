"""Header fields that make browsers careful."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from covet.responses import Response

from ._shared import header_name, header_value, is_secure, put_missing, whole_number
from .base import BaseMiddleware

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["SecurityHeadersMiddleware"]

YEAR = 365 * 24 * 60 * 60


class SecurityHeadersMiddleware(BaseMiddleware):
    """Puts these fields on responses that do not have them; None leaves one out. What a handler sets is kept.

    `strict-transport-security`: `hsts_max_age` in seconds (a year), with `hsts_include_subdomains` and `hsts_preload`. It is
    sent where the client uses HTTPS; behind a proxy that ends TLS, `proto_header` names the field in which the proxy says
    so, for example `"x-forwarded-proto"`. `content-security-policy`: a text, or a mapping from directives to sources;
    with `csp_report_only` violations are only reported. `x-frame-options`: `frame_options`. `x-content-type-options`:
    `content_type_options`. `referrer-policy`, `permissions-policy` (a text, or a mapping from features to allowlists),
    `cross-origin-opener-policy`, `-resource-policy` and `-embedder-policy`: the options of these names.
    """

    def __init__(
        self,
        *,
        hsts_max_age: int | None = YEAR,
        hsts_include_subdomains: bool = True,
        hsts_preload: bool = False,
        proto_header: str | None = None,
        content_security_policy: str | Mapping[str, str | Sequence[str]] | None = None,
        csp_report_only: bool = False,
        frame_options: Literal["DENY", "SAMEORIGIN"] | None = "DENY",
        content_type_options: bool = True,
        referrer_policy: str | None = "strict-origin-when-cross-origin",
        permissions_policy: str | Mapping[str, str] | None = None,
        cross_origin_opener_policy: str | None = "same-origin",
        cross_origin_resource_policy: str | None = None,
        cross_origin_embedder_policy: str | None = None,
    ) -> None:
        self._proto_header = None if proto_header is None else header_name("proto_header", proto_header)
        self._hsts: str | None = None
        if hsts_max_age is not None:
            self._hsts = f"max-age={whole_number('hsts_max_age', hsts_max_age)}"
            if hsts_include_subdomains:
                self._hsts += "; includeSubDomains"
            if hsts_preload:
                if not hsts_include_subdomains or hsts_max_age < YEAR:
                    raise ValueError("hsts_preload needs hsts_include_subdomains and an hsts_max_age of a year or more")
                self._hsts += "; preload"
        elif hsts_preload:
            raise ValueError("hsts_preload needs hsts_max_age")

        self._fields: list[tuple[str, str]] = []
        if content_type_options:
            self._fields.append(("x-content-type-options", "nosniff"))
        if frame_options is not None:
            self._choose("x-frame-options", "frame_options", frame_options.upper(), ("DENY", "SAMEORIGIN"))
        if content_security_policy is not None:
            name = "content-security-policy-report-only" if csp_report_only else "content-security-policy"
            self._fields.append((name, _content_security_policy(content_security_policy)))
        elif csp_report_only:
            raise ValueError("csp_report_only needs content_security_policy")
        if referrer_policy is not None:
            # A list: browsers take the last one that they know.
            for word in referrer_policy.split(","):
                if word.strip() not in REFERRER_POLICIES:
                    raise ValueError(f"referrer_policy: {word.strip()!r} is none of {', '.join(REFERRER_POLICIES)}")
            self._fields.append(("referrer-policy", referrer_policy))
        if permissions_policy is not None:
            self._fields.append(("permissions-policy", _permissions_policy(permissions_policy)))
        for option, value, choices in (
            ("cross_origin_opener_policy", cross_origin_opener_policy, OPENER_POLICIES),
            ("cross_origin_resource_policy", cross_origin_resource_policy, RESOURCE_POLICIES),
            ("cross_origin_embedder_policy", cross_origin_embedder_policy, EMBEDDER_POLICIES),
        ):
            if value is not None:
                self._choose(option.replace("_", "-"), option, value, choices)

    def process_response(self, request: "Request", response: Response) -> None:
        put_missing(response.headers, self._fields)
        # Over HTTP the field must not be sent (RFC 6797 section 7.2).
        if self._hsts is not None and is_secure(request, self._proto_header):
            response.headers.setdefault("strict-transport-security", self._hsts)

    def _choose(self, name: str, option: str, value: str, choices: Sequence[str]) -> None:
        if value not in choices:
            raise ValueError(f"{option}: {value!r} is none of {', '.join(choices)}")
        self._fields.append((name, value))


def _content_security_policy(policy: str | Mapping[str, str | Sequence[str]]) -> str:
    if isinstance(policy, str):
        return header_value("content_security_policy", policy)
    directives = []
    for directive, sources in policy.items():
        words = [sources] if isinstance(sources, str) else list(sources)
        if any(";" in word or "," in word for word in (directive, *words)):
            raise ValueError(f"content_security_policy: {directive!r} has a ';' or ',', which separate directives and policies")
        directives.append(" ".join([directive, *filter(None, words)]))
    return header_value("content_security_policy", "; ".join(directives))


def _permissions_policy(policy: str | Mapping[str, str]) -> str:
    if isinstance(policy, str):
        return header_value("permissions_policy", policy)
    return header_value("permissions_policy", ", ".join(f"{feature}={allowed}" for feature, allowed in policy.items()))


REFERRER_POLICIES = (
    "no-referrer",
    "no-referrer-when-downgrade",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
)
OPENER_POLICIES = ("same-origin", "same-origin-allow-popups", "noopener-allow-popups", "unsafe-none")
RESOURCE_POLICIES = ("same-origin", "same-site", "cross-origin")
EMBEDDER_POLICIES = ("require-corp", "credentialless", "unsafe-none")
