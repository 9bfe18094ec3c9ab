"""Has two applications, so that one must be named."""

from covet import CovetPy

public = CovetPy()
admin = CovetPy()


@admin.get("/")
def index():
    return "admin"
