"""A guest without a framework: the handler is called with the host's record and returns a record that was made before.

What is measured with it is the host, the call into the guest and the event loop. Everything else costs that and its own.
"""

from covet import CovetPy
from covet._guest import bridge

ANSWER = bridge.response(200, [("content-type", "application/json")], '{"user_id":42,"name":"user 42"}')


class Raw(CovetPy):
    def _finish(self) -> None:
        super()._finish()
        for route in self.routes:
            route.run = lambda record: ANSWER


app = Raw(openapi_url=None)


@app.get("/users/{user_id}")
def read_user(user_id):
    """Never called, see above."""
