"""Uses pure Python packages from the package index, a package of its own, and a data file beside it."""

from pathlib import Path

import itsdangerous
from covet import CovetPy
from inner.greeting import greet

app = CovetPy()
TEXT = Path(__file__).with_name("greeting.txt").read_text(encoding="utf-8").strip()
signer = itsdangerous.Signer("a key")


@app.get("/sign/{text}")
def sign(text: str):
    return signer.sign(text).decode()


@app.get("/unsign/{text}")
def unsign(text: str):
    try:
        return signer.unsign(text).decode()
    except itsdangerous.BadSignature:
        return "bad", 400


@app.get("/greet/{name}")
def greeting(name: str):
    return greet(TEXT, name)
