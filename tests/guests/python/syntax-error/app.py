"""Does not compile."""

from covet import CovetPy

app = CovetPy()


@app.get("/")
def index(:
    return "never"
