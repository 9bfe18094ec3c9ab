"""A first application. Build and serve it with: covet run main:app"""

import asyncio

from covet import CovetPy, HTTPException, Query, Request, StreamingResponse

app = CovetPy(title="Hello")


@app.get("/")
def index():
    return {"message": "Hello, World!"}


@app.get("/plaintext")
def plaintext():
    return "Hello, World!"


@app.get("/users/{user_id}")
def read_user(user_id: int):
    return {"user_id": user_id, "name": f"User {user_id}"}


@app.get("/search")
def search(q: str, limit: int = Query(10, ge=1, le=100), offset: int = Query(0, ge=0)):
    return {
        "q": q,
        "results": [{"id": offset + row, "title": f"{q} {offset + row}"} for row in range(limit)],
    }


@app.post("/items", status_code=201)
async def create_item(request: Request):
    item = await request.json()
    if not isinstance(item, dict) or "name" not in item:
        raise HTTPException(400, detail="an item needs a name")
    return {"id": 1, **item}


@app.get("/events")
async def events(count: int = Query(5, ge=1, le=100)):
    async def ticks():
        for number in range(count):
            yield f"data: tick {number}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(ticks(), media_type="text/event-stream")
