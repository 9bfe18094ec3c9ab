"""A hello for wasi:http 0.3, which `wasmtime serve` can run: what `/plaintext` is in the comparison. It checks nothing."""

import json, componentize_py_async_support, wit_world
from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.wasi_http_types import Request, Response, Fields

class Handler(exports.Handler):
    async def handle(self, request: Request) -> Response:
        body = b"Hello, World!"
        tx, rx = wit_world.byte_stream()
        async def pump():
            with tx:
                await tx.write_all(body)
        componentize_py_async_support.spawn(pump())
        return Response.new(
            Fields.from_list([("content-type", b"text/plain"), ("content-length", str(len(body)).encode())]),
            rx,
            wit_world.result_option_wasi_http_types_fields_wasi_http_types_error_code_future(lambda: Ok(None))[1],
        )[0]
