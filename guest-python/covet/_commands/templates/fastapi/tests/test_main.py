from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from covet.testing import TestClient

from main import app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def token(client: httpx.Client, name: str, password: str) -> dict[str, str]:
    response = client.post("/token", data={"username": name, "password": password})
    assert response.status_code == 200, response.text
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def test_items_are_listed_in_pages(client: TestClient) -> None:
    assert [item["name"] for item in client.get("/items").json()] == ["Lamp", "Kettle", "Bicycle"]
    assert [item["id"] for item in client.get("/items", params={"skip": 1, "limit": 1}).json()] == [2]
    assert client.get("/items", params={"limit": 101}).status_code == 422


def test_an_item_is_created_read_replaced_and_deleted(client: TestClient) -> None:
    created = client.post("/items", json={"name": "Chair", "price": 60, "tags": ["home"]})
    assert created.status_code == 201
    path = f"/items/{created.json()['id']}"
    assert client.get(path).json() == {"name": "Chair", "price": 60.0, "tags": ["home"], "description": None}
    assert client.put(path, json={"name": "Stool", "price": 30}).json()["name"] == "Stool"
    assert client.delete(path).status_code == 204
    assert client.get(path).json() == {"detail": "No such item", "item_id": created.json()["id"]}


def test_every_field_that_does_not_fit_is_named(client: TestClient) -> None:
    response = client.post("/items", json={"name": "", "price": -1, "tags": [1]})
    assert response.status_code == 422
    assert [error["loc"] for error in response.json()["detail"]] == [["body", "name"], ["body", "price"], ["body", "tags", 0]]


def test_search(client: TestClient) -> None:
    found = client.get("/search", params={"q": "l", "tag": ["home"], "order": "price"}, headers={"User-Agent": "tests"}).json()
    assert [item["name"] for item in found["items"]] == ["Kettle", "Lamp"]
    assert (found["count"], found["user_agent"]) == (2, "tests")
    assert client.get("/search", params={"q": "l", "price_max": 30}).json()["count"] == 1
    assert client.get("/search", params={"q": "l", "order": "size"}).status_code == 422


def test_who_signs_in_is_known_and_the_password_is_never_shown(client: TestClient) -> None:
    assert client.get("/users/me").status_code == 401
    assert client.get("/users/me", headers={"Authorization": "Bearer bob.1.x"}).status_code == 401
    assert client.post("/token", data={"username": "bob", "password": "wrong"}).status_code == 401
    me = client.get("/users/me", headers=token(client, "bob", "builder")).json()
    assert me == {"id": 2, "name": "bob", "email": "bob@example.com", "is_admin": False}
    assert client.get("/users/1").json()["name"] == "alice"


def test_only_administrators_see_their_part(client: TestClient) -> None:
    assert client.get("/admin/users").status_code == 401
    assert client.get("/admin/users", headers=token(client, "bob", "builder")).status_code == 403
    alice = token(client, "alice", "wonderland")
    assert [user["name"] for user in client.get("/admin/users", headers=alice).json()] == ["alice", "bob"]


def test_uploads(client: TestClient) -> None:
    answer = client.post("/upload", files={"file": ("a.txt", b"hello", "text/plain")}, data={"note": "a note"}).json()
    assert (answer["name"], answer["type"], answer["size"], answer["note"]) == ("a.txt", "text/plain", 5, "a note")
    assert client.post("/digest", content=b"x" * 1_000_000).json()["size"] == 1_000_000


def test_streams(client: TestClient) -> None:
    assert client.get("/stream", params={"lines": 2}).text == "line 1\nline 2\n"
    with client.stream("GET", "/events", params={"count": 2}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert [line for line in response.iter_lines() if line.startswith("data")] == [
            'data: {"number":1}',
            'data: {"number":2}',
        ]


def test_errors(client: TestClient) -> None:
    response = client.get("/errors/418")
    assert (response.status_code, response.headers["x-error"]) == (418, "on purpose")
    with pytest.raises(RuntimeError, match="on purpose"):
        client.get("/crash")


def test_other_origins(client: TestClient) -> None:
    origin = {"Origin": "http://localhost:3000"}
    assert client.get("/items", headers=origin).headers["access-control-allow-origin"] == "http://localhost:3000"
    preflight = client.options("/items", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 200


def test_the_component_answers_the_same(covet_host: Callable[..., AbstractContextManager[Any]]) -> None:
    with covet_host("main:app") as client:
        assert client.get("/items/1").json()["name"] == "Lamp"
        assert client.get("/users/me", headers=token(client, "bob", "builder")).json()["name"] == "bob"
        created = client.post("/items", json={"name": "Chair", "price": 60}).json()
        # Every request has a sandbox of its own: nothing is left of the last one.
        assert client.get(f"/items/{created['id']}").status_code == 404
