"""The request as handlers see it."""

from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import unquote

from . import _negotiation
from ._guest import bridge
from ._json import decode_body
from ._models.nesting import is_nested_too_deeply
from .datastructures import URL, Address, Headers, PathParams, QueryParams, State, parse_cookies
from .exceptions import InvalidBody
from .forms import FormData, FormLimits, read_form, read_form_sync

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from .applications import CovetPy

__all__ = ["Request"]

_UNREAD: Any = object()


class Request:
    """One request.

    `body`, `text`, `json` and `form` read the body and may be called again; `stream` gives it in pieces, once, and after
    one of the others what they have read.
    """

    _json: Any = _UNREAD
    _form: FormData | None = None
    #: Whether the whole body has been read, and is kept; and whether it has been read in another way, and is not.
    _kept = False
    _streamed = False
    #: Of the dependencies that have something to do afterwards.
    _exits: "AsyncExitStack | None" = None

    def __init__(self, record: "bridge.RequestRecord", app: "CovetPy", path_names: tuple[str, ...] = ()) -> None:
        self._record = record
        self._path_names = path_names
        #: The application that serves the request.
        self.app = app

    @property
    def method(self) -> str:
        """In upper case. `HEAD` where a route for `GET` answers a `HEAD` request."""
        return self._record.method

    @cached_property
    def url(self) -> URL:
        """The whole URL, still percent-encoded."""
        return URL(self._record.origin + self._record.target)

    @cached_property
    def base_url(self) -> URL:
        """The URL of the root: scheme, host and port."""
        return URL(self._record.origin + "/")

    @property
    def target(self) -> str:
        """Path and query string as received, still percent-encoded."""
        return self._record.target

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded, without the query string."""
        return unquote(self._record.target.partition("?")[0])

    @cached_property
    def query_params(self) -> QueryParams:
        return QueryParams(self._record.target.partition("?")[2])

    @cached_property
    def path_params(self) -> PathParams:
        """The placeholders of the route's path with their values, percent-decoded."""
        return PathParams(zip(self._path_names, self._record.params, strict=False))

    @cached_property
    def headers(self) -> Headers:
        return Headers.wrap(self._record.headers)

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies. Where a name occurs several times its first value counts."""
        return parse_cookies(self._record.headers)

    @cached_property
    def client(self) -> Address:
        """Address and port of the client."""
        return Address.parse(self._record.peer)

    @property
    def http_version(self) -> str:
        """`1.0`, `1.1`, `2` or `3`."""
        return self.headers.get("covet-http-version", "1.1")

    @property
    def client_subject(self) -> str | None:
        """Whose certificate the client has proved to own, `CN=name` for example; None where it sent none (mutual TLS)."""
        return self.headers.get("covet-client-subject")

    @cached_property
    def state(self) -> State:
        """A place for attributes that belong to this request."""
        return State()

    @property
    def user(self) -> Any:
        """Who asks, as `AuthenticationMiddleware` found out. Raises AttributeError without it."""
        return self.state.user

    @property
    def auth(self) -> Any:
        """What the user may do, as `AuthenticationMiddleware` found out. Raises AttributeError without it."""
        return self.state.auth

    @property
    def session(self) -> Any:
        """The session, which `SessionMiddleware` reads and writes. Raises AttributeError without it."""
        return self.state.session

    @property
    def content_type(self) -> str | None:
        """The media type of the body, in lower case and without its parameters."""
        value = self.headers.get("content-type")
        return value.partition(";")[0].strip().lower() if value is not None else None

    @property
    def is_json(self) -> bool:
        """Whether the body is said to be JSON: `application/json`, or a type that ends with `+json`."""
        return bridge.is_json(self._record.headers)

    def url_for(self, name: str, /, **path_params: Any) -> URL:
        """The URL of a route by its name, on the host of this request. Raises LookupError if there is no such route."""
        return URL(self._record.origin + self.app.url_path_for(name, **path_params))

    def accepts(self, *media_types: str) -> str | None:
        """The one of these media types that the client likes best, None if it takes none of them.

        Among equals the first counts, and so it does if the client does not say.
        """
        return _negotiation.best_media_type(self.headers.getlist("accept"), media_types)

    def accepts_language(self, *languages: str) -> str | None:
        """The one of these languages that the client likes best, None if it takes none of them; `en` stands for `en-GB`."""
        return _negotiation.best_language(self.headers.getlist("accept-language"), languages)

    async def body(self) -> bytes:
        """The whole body."""
        self._check_unread()
        self._kept = True
        return await bridge.read_bytes(self._record)

    async def text(self) -> str:
        """The whole body as UTF-8 text; octets that are not UTF-8 are replaced."""
        self._check_unread()
        self._kept = True
        body = self._record.body
        if type(body) is bridge.BodyText:
            return body.value
        return (await bridge.read_bytes(self._record)).decode(errors="replace")

    async def json(self) -> Any:
        """The body read as JSON; the same object each time.

        A body that is not JSON, or is nested too deeply, ends the request with a 400 unless InvalidBody is caught.
        """
        if self._json is not _UNREAD:
            return self._json
        self._check_unread()
        self._kept = True
        body = self._record.body
        data = body.value if type(body) is bridge.BodyText else await bridge.read_bytes(self._record)
        if is_nested_too_deeply(data):
            raise InvalidBody(400, "The body is JSON that is nested too deeply")
        try:
            self._json = decode_body(data)
        except RecursionError:
            raise InvalidBody(400, "The body is JSON that is nested too deeply") from None
        except ValueError as error:
            raise InvalidBody(400, f"The body is not valid JSON: {error}") from None
        return self._json

    def form(self, **limits: Unpack[FormLimits]) -> "_FormReading":
        """The fields and files of a form, urlencoded or multipart, to be awaited; the same object each time. With `async with`
        its files are closed in the end.

        It is empty if the body is of another type. What is not well formed, or has too many fields or files, ends the request
        with a 400, and what is too large with a 413; for the limits see `MultipartParser`.
        """
        return _FormReading(self._read_form(limits))

    async def _read_form(self, limits: FormLimits) -> FormData:
        if self._form is None:
            self._check_unread()
            if type(self._record.body) is bridge.BodyStream:
                self._streamed = True
                self._form = await read_form(self.headers.get("content-type", ""), bridge.BodyChunks(self._record), **limits)
            else:
                self._form = self._form_at_once(**limits)
        return self._form

    def _form_at_once(self, **limits: Unpack[FormLimits]) -> FormData:
        """The form of a body that is there."""
        if self._form is None:
            # As if it had arrived as a stream, which cannot be read twice.
            self._streamed = not self._kept
            self._form = read_form_sync(self.headers.get("content-type", ""), bridge.body_data(self._record), **limits)
        return self._form

    def stream(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it arrives, for `async for`. It can be read so once."""
        self._check_unread()
        self._streamed = not self._kept
        return bridge.BodyChunks(self._record)

    def _check_unread(self) -> None:
        if self._streamed:
            raise RuntimeError("the body of the request has been read already, as a stream")

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


class _FormReading(Awaitable[FormData]):
    """A form that is read when it is awaited or entered."""

    __slots__ = ("_form", "_reading")

    def __init__(self, reading: Coroutine[Any, Any, FormData]) -> None:
        self._reading = reading

    def __await__(self) -> Generator[Any, Any, FormData]:
        return self._reading.__await__()

    async def __aenter__(self) -> FormData:
        self._form = await self._reading
        return self._form

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()
