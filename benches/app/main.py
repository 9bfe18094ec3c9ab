"""The three routes of the comparison, written for covet. `rival.py` has the same ones for FastAPI."""

from typing import Annotated

from covet import CovetPy, PlainTextResponse, Query

app = CovetPy()
ROWS = [{"id": n, "name": f"item {n}", "price": n * 1.5} for n in range(1000)]


@app.get("/plaintext")
def plaintext():
    return PlainTextResponse("Hello, World!")


@app.get("/users/{user_id}")
def read_user(user_id: int):
    return {"user_id": user_id, "name": f"user {user_id}"}


@app.get("/search")
def search(q: str, limit: Annotated[int, Query(ge=1, le=100)] = 10, offset: int = 0):
    return {"q": q, "limit": limit, "offset": offset, "items": ROWS[offset : offset + limit]}
