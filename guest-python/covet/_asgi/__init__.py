"""ASGI applications (FastAPI, Starlette, any other) in a component."""
