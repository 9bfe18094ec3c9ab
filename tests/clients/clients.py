"""Talks to a host that serves the probe application, as httpx and requests do: clients.py URL."""

import asyncio
import hashlib
import sys
import time

import httpx
import requests

URL = sys.argv[1].rstrip("/")


def with_requests() -> None:
    with requests.Session() as session:
        assert session.get(f"{URL}/params/42/x", timeout=20).json() == {"a": 42, "b": "x"}
        body = bytes(range(256)) * 4096
        answer = session.post(f"{URL}/upload", data=body, timeout=20).json()
        assert answer["size"] == len(body) and answer["sha256"] == hashlib.sha256(body).hexdigest()
        chunked = session.post(f"{URL}/upload", data=(body for _ in range(3)), timeout=20).json()
        assert chunked["size"] == 3 * len(body)
        assert session.post(f"{URL}/echo-json", json={"a": [1, None]}, timeout=20).json() == {"a": [1, None]}
        with session.get(f"{URL}/slow?count=4&ms=100", stream=True, timeout=20) as response:
            began = time.monotonic()
            first = next(response.iter_lines())
            assert first == b"0" and time.monotonic() - began < 0.25
        cookies = session.get(f"{URL}/cookies", timeout=20)
        assert cookies.cookies.get_dict() == {"a": "1", "b": "2"}
        assert session.get(f"{URL}/cookies", timeout=20).json() == {"a": "1", "b": "2"}


def with_httpx() -> None:
    with httpx.Client(base_url=URL, timeout=20) as client:
        response = client.get("/query", params={"q": "ä", "limit": 5, "tags": ["a", "b"]})
        assert response.json()["q"] == "ä" and response.json()["tags"] == ["a", "b"]
        assert client.get("/params/x/y").status_code == 422
        assert client.get("/nope").json() == {"detail": "Not Found"}
        assert client.delete("/upload").status_code == 405
        assert client.head("/big/text/77").headers["content-length"] == "77"


async def many_at_once() -> None:
    async with httpx.AsyncClient(base_url=URL, timeout=20) as client:
        began = time.monotonic()
        answers = await asyncio.gather(*(client.get("/sleep/300") for _ in range(20)))
        assert [answer.status_code for answer in answers] == [200] * 20
        assert time.monotonic() - began < 5

        async def pieces():
            for number in range(50):
                yield f"{number},".encode() * 1000
                await asyncio.sleep(0)

        echoed = await client.post("/echo-stream", content=pieces())
        assert echoed.content == b"".join(f"{number},".encode() * 1000 for number in range(50))


with_requests()
with_httpx()
asyncio.run(many_at_once())
