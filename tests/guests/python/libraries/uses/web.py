"""HTTP without connections, forms, tokens, templates."""

import datetime
import io
from typing import Any

import httpx
import itsdangerous
import jinja2
import jwt
import multipart
import requests
from requests.adapters import BaseAdapter

from covet import APIRouter, Request

from .errors import error_of

router = APIRouter()
URL = "http://127.0.0.1:9/"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": scope["query_string"] + b" " + body})


@router.get("/httpx")
async def use_httpx() -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(echo), base_url="http://inner") as client:
        answer = await client.post("/echo", params={"q": "a b"}, json={"n": 1})
    mock = httpx.MockTransport(lambda request: httpx.Response(200, json={"path": request.url.path}))
    with httpx.Client(transport=mock, auth=("ada", "x")) as client:
        mocked = client.get("http://mock/x")
    request = httpx.Request("POST", "http://example.com/ä", files={"file": b"content"})
    with httpx.Client() as client:
        plain = await error_of(lambda: client.get(URL))
    async with httpx.AsyncClient() as client:
        asynchronous = await error_of(lambda: client.get(URL))
    return {
        "application": [answer.status_code, answer.text],
        "mock": [mocked.json(), mocked.request.headers["authorization"]],
        "request": [str(request.url), request.headers["content-type"].partition(";")[0], b"content" in request.read()],
        "Client": plain,
        "AsyncClient": asynchronous,
    }


class Canned(BaseAdapter):
    """Answers without a connection."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.raw = 200, request, io.BytesIO(b'{"a":1}')
        return response

    def close(self) -> None:
        pass


@router.get("/requests")
async def use_requests() -> Any:
    with requests.Session() as session:
        session.mount("mock://", Canned())
        return {
            "mock": session.get("mock://x").json(),
            "request": requests.Request("GET", "http://h/x", params={"q": "a b"}).prepare().url,
            "get": (await error_of(lambda: session.get(URL))).partition("(")[0],
        }


@router.post("/python-multipart")
async def use_python_multipart(request: Request) -> Any:
    fields, files = {}, {}
    multipart.parse_form(
        {"Content-Type": request.headers["content-type"].encode()},
        io.BytesIO(await request.body()),
        lambda field: fields.update({field.field_name.decode(): field.value.decode()}),
        lambda file: files.update({file.file_name.decode(): file.size}),
    )
    return {"fields": fields, "files": files}


@router.get("/pyjwt")
async def use_pyjwt() -> Any:
    key, now = "0123456789abcdef" * 4, datetime.datetime.now(datetime.UTC)

    def decoded(algorithm: str, **claims: Any) -> Any:
        return jwt.decode(jwt.encode(claims, key, algorithm=algorithm), key, algorithms=[algorithm])

    return {
        "HS256": decoded("HS256", sub="ada", exp=now + datetime.timedelta(minutes=1))["sub"],
        "HS512": decoded("HS512", sub="ada")["sub"],
        "expired": await error_of(lambda: decoded("HS256", exp=now - datetime.timedelta(minutes=1))),
        "RS256": await error_of(lambda: decoded("RS256")),
    }


@router.get("/itsdangerous")
async def use_itsdangerous() -> Any:
    serializer = itsdangerous.URLSafeTimedSerializer("secret", salt="reset")
    token = serializer.dumps({"user": 1})
    return {
        "loaded": serializer.loads(token, max_age=60),
        "changed": (await error_of(lambda: serializer.loads(token[:-2] + "xx"))).partition(":")[0],
    }


templates = jinja2.Environment(loader=jinja2.FileSystemLoader("templates"), autoescape=True)


@router.get("/jinja2")
def use_jinja2() -> str:
    return templates.get_template("page.html").render(name="<Ada>", numbers=[1, 2])
