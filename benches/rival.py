"""The three routes of the comparison, written for FastAPI; `app/main.py` has the same ones for covet.

`async def`, because FastAPI runs plain functions in a thread, which costs it more.
"""

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import PlainTextResponse

app = FastAPI()
ROWS = [{"id": n, "name": f"item {n}", "price": n * 1.5} for n in range(1000)]


@app.get("/plaintext")
async def plaintext():
    return PlainTextResponse("Hello, World!")


@app.get("/users/{user_id}")
async def read_user(user_id: int):
    return {"user_id": user_id, "name": f"user {user_id}"}


@app.get("/search")
async def search(q: str, limit: Annotated[int, Query(ge=1, le=100)] = 10, offset: int = 0):
    return {"q": q, "limit": limit, "offset": offset, "items": ROWS[offset : offset + limit]}
