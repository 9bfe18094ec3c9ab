"""Keeps a handle of the host open from start-up on, which no snapshot can hold."""

import sys

from covet import CovetPy

app = CovetPy()
kept = []
count = 0


@app.on_event("startup")
def start():
    kept.append(sys.modules["componentize_py_runtime"].waitable_set_new())


@app.get("/counter")
def counter():
    global count
    count += 1
    return {"counter": count, "kept": len(kept)}
