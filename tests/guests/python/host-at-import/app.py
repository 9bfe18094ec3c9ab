"""Calls the host while there is none."""

from covet import CovetPy, host

app = CovetPy()
GREETING = host.config("greeting")
