from collections.abc import Iterator

import pytest
from covet.testing import TestClient

from main import app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_home(client: TestClient) -> None:
    assert client.get("/").json() == {"message": "Hello from PROJECT_NAME"}


def test_a_book_is_found_by_its_number(client: TestClient) -> None:
    assert client.get("/books/2").json() == {"id": 2, "title": "Middlemarch"}
    assert client.get("/books/99").status_code == 404
    assert client.get("/books/two").status_code == 422


def test_search_is_limited(client: TestClient) -> None:
    assert client.get("/search", params={"q": "m"}).json() == ["The Moonstone", "Middlemarch"]
    assert client.get("/search", params={"q": "m", "limit": 1}).json() == ["The Moonstone"]
    assert client.get("/search", params={"q": "m", "limit": 0}).status_code == 422
