"""Middleware, a module for each. `from covet.middleware import CORSMiddleware` imports that one and no other.

Import at the top of a module: in a component nothing can be imported later.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .base import BaseMiddleware, CallNext

if TYPE_CHECKING:
    from typing import Any

    from .authentication import AuthenticationMiddleware
    from .cors import CORSMiddleware
    from .gzip import GZipMiddleware
    from .httpsredirect import HTTPSRedirectMiddleware
    from .ratelimit import RateLimitMiddleware
    from .requestid import RequestIDMiddleware
    from .securityheaders import SecurityHeadersMiddleware
    from .sessions import SessionMiddleware
    from .timing import TimingMiddleware
    from .trustedhost import TrustedHostMiddleware

__all__ = [
    "AuthenticationMiddleware",
    "BaseMiddleware",
    "CORSMiddleware",
    "CallNext",
    "GZipMiddleware",
    "HTTPSRedirectMiddleware",
    "RateLimitMiddleware",
    "RequestIDMiddleware",
    "SecurityHeadersMiddleware",
    "SessionMiddleware",
    "TimingMiddleware",
    "TrustedHostMiddleware",
]

_MODULES = {
    "AuthenticationMiddleware": "authentication",
    "CORSMiddleware": "cors",
    "GZipMiddleware": "gzip",
    "HTTPSRedirectMiddleware": "httpsredirect",
    "RateLimitMiddleware": "ratelimit",
    "RequestIDMiddleware": "requestid",
    "SecurityHeadersMiddleware": "securityheaders",
    "SessionMiddleware": "sessions",
    "TimingMiddleware": "timing",
    "TrustedHostMiddleware": "trustedhost",
}

if not TYPE_CHECKING:
    # Hidden from type checkers, which otherwise take any name for one that exists.
    def __getattr__(name: str) -> "Any":
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value
