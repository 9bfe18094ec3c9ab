"""An application whose routes ask for different isolations. Each tells how many requests its instance has served."""

import asyncio

from covet import CovetPy

app = CovetPy()
served = 0
meeting: list[asyncio.Event] = []


def count() -> int:
    global served
    served += 1
    return served


@app.get("/default")
def default():
    return count()


@app.get("/fresh", isolation="fresh")
def fresh():
    return count()


@app.get("/reuse", isolation="reuse")
def reuse():
    return count()


@app.get("/shared", isolation="shared")
def shared():
    return count()


@app.get("/meet", isolation="shared")
async def meet():
    """Answers when two requests are here at the same time."""
    if meeting:
        meeting.pop().set()
        return "second"
    event = asyncio.Event()
    meeting.append(event)
    await event.wait()
    return "first"


@app.on_event("shutdown")
def shutdown() -> None:
    print(f"served {served} at the end")
