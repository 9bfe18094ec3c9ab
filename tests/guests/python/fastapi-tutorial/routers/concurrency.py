"""Tasks, cancellation and waiting, with asyncio and with anyio."""

import asyncio
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from context import request_name

router = APIRouter(prefix="/concurrency", tags=["concurrency"])

waiting = asyncio.Event()
lock = anyio.Lock()


@router.get("/gather")
async def gather() -> list[int]:
    async def one(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(3)]
    return [*await asyncio.gather(*map(one, range(3))), *(task.result() for task in tasks)]


@router.get("/anyio")
async def with_anyio() -> dict[str, Any]:
    sent, received = anyio.create_memory_object_stream[int](1)
    found = []

    async def produce() -> None:
        async with sent:
            for number in range(3):
                await sent.send(number)
                await anyio.sleep(0.005)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        async with received:
            async for number in received:
                found.append(number)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep_forever()
    event = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(event.wait)
        event.set()
    limiter = anyio.CapacityLimiter(1)
    name = await anyio.to_thread.run_sync(request_name.get, limiter=limiter)
    return {"found": found, "cancelled": scope.cancelled_caught, "name": name}


@router.get("/thread")
async def thread() -> dict[str, Any]:
    def in_thread() -> bool:
        request_name.set("changed in the thread")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    has_loop = await run_in_threadpool(in_thread)
    return {"has_loop": has_loop, "sum": await asyncio.to_thread(sum, [1, 2, 3]), "name": request_name.get()}


@router.get("/timeout")
async def timeout() -> str:
    try:
        async with asyncio.timeout(0.02):
            await asyncio.sleep(10)
    except TimeoutError:
        return "timed out"
    return "did not time out"


@router.get("/wait")
async def wait() -> str:
    """Waits for another request of the same instance."""
    await waiting.wait()
    return "woken"


@router.post("/wake")
async def wake() -> str:
    waiting.set()
    return "waking"


@router.get("/lock")
async def with_lock() -> str:
    async with lock:
        await anyio.sleep(0.05)
    return "had the lock"


@router.get("/disconnected")
async def disconnected(request: Request) -> bool:
    return await request.is_disconnected()
