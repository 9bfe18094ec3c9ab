"""Builds, and is refused by the host: two placeholders without anything between them."""

from covet import CovetPy

app = CovetPy()


@app.get("/a/{x}{y}")
def index(x: str, y: str):
    return x + y
