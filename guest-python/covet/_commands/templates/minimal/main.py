"""The application of PROJECT_NAME."""

from typing import Any

from covet import CovetPy, HTTPException, Query

app = CovetPy(title="PROJECT_NAME")

BOOKS = {1: "The Moonstone", 2: "Middlemarch", 3: "Cranford"}


@app.get("/")
def home() -> dict[str, str]:
    return {"message": "Hello from PROJECT_NAME"}


@app.get("/books/{book_id}")
def read_book(book_id: int) -> dict[str, Any]:
    if book_id not in BOOKS:
        raise HTTPException(404, "No such book")
    return {"id": book_id, "title": BOOKS[book_id]}


@app.get("/search")
def search(q: str, limit: int = Query(10, ge=1, le=100)) -> list[str]:
    return [title for title in BOOKS.values() if q.lower() in title.lower()][:limit]
