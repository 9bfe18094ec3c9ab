"""What is done after the response."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, BackgroundTasks

router = APIRouter(prefix="/background", tags=["background"])

#: What the tasks did, in order.
done: list[str] = []


async def slow(message: str) -> None:
    await asyncio.sleep(0.2)
    done.append(message)


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    done.append("busy")


async def busy_coroutine(seconds: float) -> None:
    busy(seconds)


async def failing() -> None:
    raise ValueError("in a background task")


@router.post("/slow/{message}")
async def start_slow(message: str, tasks: BackgroundTasks) -> dict[str, Any]:
    tasks.add_task(slow, message)
    return {"started": message}


@router.post("/busy")
def start_busy(tasks: BackgroundTasks, seconds: float = 0.2, coroutine: bool = False) -> dict[str, Any]:
    tasks.add_task(busy_coroutine if coroutine else busy, seconds)
    return {"started": "busy"}


@router.post("/failing")
async def start_failing(tasks: BackgroundTasks) -> str:
    tasks.add_task(failing)
    return "started"


@router.get("/done")
async def read_done() -> list[str]:
    return done
