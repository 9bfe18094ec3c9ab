"""Responses that are made while they are sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse

router = APIRouter(prefix="/streams", tags=["streams"])

#: What became of the streams, in order.
ended: list[str] = []


async def ticks(count: int, seconds: float) -> AsyncIterator[str]:
    try:
        for number in range(count):
            yield f"{number}\n"
            await asyncio.sleep(seconds)
    finally:
        ended.append("ticks")


@router.get("/ticks")
async def stream_ticks(count: int = 3, seconds: float = 0.05) -> StreamingResponse:
    return StreamingResponse(ticks(count, seconds), media_type="text/plain")


@router.get("/plain")
def stream_plain(count: int = 3, seconds: float = 0.05) -> StreamingResponse:
    def numbers() -> Iterator[bytes]:
        for number in range(count):
            yield f"{number}\n".encode()
            time.sleep(seconds)

    return StreamingResponse(numbers(), media_type="text/plain")


@router.get("/large")
async def stream_large(mebibytes: int = 8) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(mebibytes * 16):
            yield b"\xff" * 65536

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@router.get("/events")
async def stream_events() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for number in range(3):
            yield f"id: {number}\ndata: {{}}\n\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(events(), media_type="text/event-stream")


@router.get("/failing")
async def stream_failing() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "first"
        await asyncio.sleep(0.02)
        raise RuntimeError("in the middle of a body")

    return StreamingResponse(pieces(), media_type="text/plain", headers={"content-length": "1000"})


@router.post("/echo")
async def echo(request: Request) -> StreamingResponse:
    return StreamingResponse(request.stream(), media_type="application/octet-stream")


@router.get("/binary")
async def binary(size: int = 1000) -> Response:
    return Response(bytes(range(256)) * (size // 256 + 1), media_type="image/png")


@router.get("/file")
async def file() -> FileResponse:
    return FileResponse("static/hello.txt", filename="grüße.txt")


@router.get("/redirect")
async def redirect() -> RedirectResponse:
    return RedirectResponse("/streams/ticks", status_code=303)


@router.get("/ended")
async def read_ended() -> list[str]:
    return ended
