"""Depends on a package with native code."""

import numpy
from covet import CovetPy

app = CovetPy()


@app.get("/")
def index():
    return numpy.arange(3).tolist()
