"""Builds, and fails when the host starts it."""

from covet import CovetPy

app = CovetPy()


@app.on_event("startup")
async def connect():
    raise RuntimeError("no database today")


@app.get("/")
def index():
    return "never"
