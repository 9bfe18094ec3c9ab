"""The same application for covet and for FastAPI, and the same requests to both of them.

A test describes its application once, as a function of a `Kit`, which has the names of one framework or of the other.
"""

import asyncio
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import simulator

import covet
import covet.security

with warnings.catch_warnings():
    # Among what it imports are modules that others have not kept up with.
    warnings.simplefilter("ignore")
    import fastapi
    import fastapi.responses
    import fastapi.security

#: The names that both frameworks have.
_NAMES = [
    "APIRouter",
    "BackgroundTasks",
    "Body",
    "Cookie",
    "Depends",
    "Header",
    "HTTPException",
    "Path",
    "Query",
    "Request",
    "Response",
    "Security",
]
_RESPONSES = ["HTMLResponse", "JSONResponse", "PlainTextResponse", "RedirectResponse", "StreamingResponse"]
_SECURITY = [
    "APIKeyCookie",
    "APIKeyHeader",
    "APIKeyQuery",
    "HTTPBasic",
    "HTTPBearer",
    "OAuth2AuthorizationCodeBearer",
    "OAuth2PasswordBearer",
    "OpenIdConnect",
    "SecurityScopes",
]
Headers = list[tuple[str, str]]


class Kit(SimpleNamespace):
    """`app`, and what handlers are described with; `log` is a list for what they want to tell."""


def covet_kit(**options: Any) -> Kit:
    names = {name: getattr(covet, name) for name in _NAMES + _RESPONSES}
    names |= {name: getattr(covet.security, name) for name in _SECURITY}
    names["RequestValidationError"] = covet.RequestValidationError
    return Kit(name="covet", app=covet.CovetPy(**options), log=[], make_app=covet.CovetPy, **names)


def fastapi_kit(**options: Any) -> Kit:
    names = {name: getattr(fastapi, name) for name in _NAMES}
    names |= {name: getattr(fastapi.responses, name) for name in _RESPONSES}
    names |= {name: getattr(fastapi.security, name) for name in _SECURITY}
    names["RequestValidationError"] = fastapi.exceptions.RequestValidationError
    return Kit(name="fastapi", app=fastapi.FastAPI(**options), log=[], make_app=fastapi.FastAPI, **names)


class Twins:
    """An application in both forms."""

    def __init__(self, ours: Kit, theirs: Kit, instance: simulator.Instance, reference: "Reference") -> None:
        self.ours = ours
        self.theirs = theirs
        self._instance = instance
        self.reference = reference
        #: The targets and statuses of which it is known that they do not depend on how a body arrives.
        self._known: set[tuple[str, str, int]] = set()

    @property
    def instance(self) -> simulator.Instance:
        """Ours, behind its exports."""
        # Others may have been served since; and it looks at all of its tasks again and again.
        simulator._host = self._instance.host
        self._instance.host.tasks.clear()
        return self._instance

    @instance.setter
    def instance(self, instance: simulator.Instance) -> None:
        self._instance = instance

    def both(
        self, method: str, target: str, body: Any = None, headers: Headers | None = None
    ) -> "tuple[simulator.Answer, Reply]":
        """The two answers. A body that is neither str nor bytes is sent as JSON."""
        fields = [(name.lower(), value) for name, value in headers or []]
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
            if all(name != "content-type" for name, _ in fields):
                fields.append(("content-type", "application/json"))
        sent = body.encode() if isinstance(body, str) else body
        fields.insert(0, ("host", "testhost:8000"))
        reference = self.reference.request(method, target, sent, fields)
        answer = self.instance.request(method, target, sent, headers=list(fields))
        if sent is not None and (method, target, answer.status) not in self._known:
            # However a body arrives, the answer is the same.
            self._known.add((method, target, answer.status))
            text = _as_text(sent)
            middle = len(sent) // 2
            reader, _ = self.instance.host.body(*filter(None, (sent[:middle], sent[middle:])))
            for other in (text, reader):
                if other is not None:
                    again = self.instance.request(method, target, other, headers=list(fields))
                    if _parts(again) != _parts(answer):
                        name = type(other).__name__
                        raise AssertionError(f"{method} {target} {body!r}, as {name}: {_parts(again)}, not {_parts(answer)}")
        return answer, reference

    def agree(
        self, method: str, target: str, body: Any = None, headers: Headers | None = None, status: int | None = None
    ) -> Any:
        """Sends a request to both, checks that they answer the same, and returns the JSON."""
        answer, reference = self.both(method, target, body, headers)
        ours = (answer.status, answer.header("content-type"), content_of(answer.content))
        theirs = (reference.status, reference.header("content-type"), content_of(reference.content))
        if ours != theirs:
            raise AssertionError(f"{method} {target} {body!r} {headers}\n  covet:   {ours}\n  FastAPI: {theirs}")
        if status is not None and answer.status != status:
            raise AssertionError(f"{method} {target}: both answer {answer.status}, not {status}: {ours[2]}")
        return ours[2]

    def logs(self) -> list[Any]:
        """What the handlers have told, which must be the same; afterwards that is forgotten."""
        ours, theirs = list(self.ours.log), list(self.theirs.log)
        self.ours.log.clear()
        self.theirs.log.clear()
        assert ours == theirs
        return ours


@dataclass
class Reply:
    """A response of the other framework."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes
    #: What has come through the application, which servers write to their logs.
    error: BaseException | None = None

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class Reference:
    """An ASGI application on an event loop of its own. It is a fraction of what a test client costs."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._runner = asyncio.Runner()

    def request(self, method: str, target: str, content: bytes | None = None, headers: Headers | None = None) -> Reply:
        return self._runner.run(self._request(method, target, content or b"", headers or []))

    def close(self) -> None:
        self._runner.close()

    async def _request(self, method: str, target: str, content: bytes, headers: Headers) -> Reply:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "client": ("127.0.0.1", 5000),
            "server": ("testhost", 8000),
            "state": {},
        }
        reply = Reply(0, [], b"")
        messages = [{"type": "http.request", "body": content}]
        ended = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = [(name.decode().lower(), value.decode()) for name, value in message["headers"]]
            else:
                reply.content += message.get("body", b"")
                if not message.get("more_body"):
                    ended.set()

        try:
            await self._app(scope, receive, send)
        except Exception as error:
            reply.error = error
        return reply


@contextmanager
def twins(serve: Callable[..., Any], build: Callable[[Kit], None], **options: Any) -> Iterator[Twins]:
    """Builds the application twice and serves both. `options` are those of the two applications."""
    ours, theirs = covet_kit(**options), fastapi_kit(**options)
    with warnings.catch_warnings():
        # What FastAPI says of its own examples is not of interest here.
        warnings.simplefilter("ignore")
        build(ours)
        build(theirs)
    instance = serve(ours.app)
    reference = Reference(theirs.app)
    try:
        yield Twins(ours, theirs, instance, reference)
    finally:
        reference.close()


def content_of(content: bytes) -> Any:
    """The JSON, or the text of what is none."""
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _parts(answer: simulator.Answer) -> tuple[Any, ...]:
    return answer.status, answer.headers, answer.content


def _as_text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
