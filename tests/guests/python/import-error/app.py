"""Raises while it is imported, in a module of its own."""

from covet import CovetPy
from settings import load

app = CovetPy()
load()
