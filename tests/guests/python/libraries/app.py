"""Libraries that applications use, each in a route of its name, which answers with what a typical use of it gives."""

from covet import CovetPy
from uses import data, texts, tools, web

app = CovetPy(docs_url=None, redoc_url=None)
for module in (web, data, texts, tools):
    app.include_router(module.router)
