"""Builds, and is refused by the host: the two routes cannot be told apart."""

from covet import CovetPy

app = CovetPy()


@app.get("/a/{x}")
def first(x: str):
    return x


@app.get("/a/{y}")
def second(y: str):
    return y
