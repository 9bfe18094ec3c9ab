"""Finds out who sends a request, with a backend of `covet.authentication`."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from covet.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, UnauthenticatedUser
from covet.responses import JSONResponse, Response

from ._shared import Paths
from .base import BaseMiddleware, CallNext

if TYPE_CHECKING:
    from covet.requests import Request

__all__ = ["AuthenticationMiddleware"]

OnError = Callable[["Request", AuthenticationError], "Response | Awaitable[Response]"]


class AuthenticationMiddleware(BaseMiddleware):
    """Sets `request.state.user` and `request.state.auth`, the user and what he may do, for each request.

    `backend` says who it is. Of several backends, the first that finds credentials of its kind decides. A request without
    credentials goes on with an `UnauthenticatedUser` who has no scopes; `covet.authentication.requires` keeps it from
    handlers, and with `required=True` it is refused here. Credentials that are not valid are refused in any case.

    A refusal is a 401 with `www-authenticate` and the message of the error as `detail`, or what `on_error`, a function or
    coroutine function of request and AuthenticationError, returns. `exempt` are paths for which no backend is asked, with
    `/*` at the end for all below; a path that could be read in two ways, such as `/public/../admin`, is not exempt.
    """

    def __init__(
        self,
        backend: AuthenticationBackend | Sequence[AuthenticationBackend],
        *,
        on_error: OnError | None = None,
        required: bool = False,
        exempt: Collection[str] = (),
    ) -> None:
        backends = list(backend) if isinstance(backend, Sequence) else [backend]
        if not backends:
            raise ValueError("backend has no backend in it")
        for one in backends:
            if isinstance(one, type) or not callable(getattr(one, "authenticate", None)):
                raise ValueError(f"backend: {one!r} is no AuthenticationBackend, whose method authenticate is called")
        if on_error is not None and not callable(on_error):
            raise ValueError(f"on_error is a function of request and error, not {on_error!r}")
        self._backends = backends
        self._on_error = on_error
        self._required = required
        self._exempt = Paths("exempt", exempt)
        self._challenges = tuple(dict.fromkeys(_challenge(one) for one in backends))

    async def __call__(self, request: "Request", call_next: CallNext) -> Response:
        state = request.state
        state.auth_challenges = self._challenges
        found = None
        if not self._exempt.covers(request):
            try:
                found = await self._authenticate(request)
            except AuthenticationError as error:
                return await self._refuse(request, error)
        state.auth, state.user = found or (AuthCredentials(), UnauthenticatedUser())
        return await call_next(request)

    async def _authenticate(self, request: "Request") -> tuple[AuthCredentials, Any] | None:
        for backend in self._backends:
            try:
                found = backend.authenticate(request)
                if isawaitable(found):
                    found = await found
            except AuthenticationError as error:
                if error.challenge is None:
                    error.challenge = _challenge(backend)
                raise
            if found is not None:
                return found
        if self._required:
            raise AuthenticationError("Not authenticated")
        return None

    async def _refuse(self, request: "Request", error: AuthenticationError) -> Response:
        if self._on_error is not None:
            response = self._on_error(request, error)
            return response if isinstance(response, Response) else await response
        response = JSONResponse({"detail": str(error)}, 401)
        for challenge in self._challenges if error.challenge is None else (error.challenge,):
            response.headers.append("www-authenticate", challenge)
        return response


def _challenge(backend: Any) -> str:
    challenge: str = getattr(backend, "challenge", AuthenticationBackend.challenge)
    return challenge
