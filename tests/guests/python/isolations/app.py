"""An application whose routes ask for different isolations. Each tells how many requests its instance has served."""

import asyncio
import sys
import weakref

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


# --- What happens to objects that were made before the first request

ended: list[str] = []


class Closing:
    def __del__(self) -> None:
        ended.append("closed")


class Seen:
    pass


closing = Closing()
seen = Seen()
watch = weakref.ref(seen, lambda _: ended.append("seen no more"))
table = {"rows": [{"name": f"row {number}"} for number in range(100)]}


@app.get("/end")
def end():
    """Drops objects whose end somebody waits for, and tells whether the others are counted at all."""
    global closing, seen
    closing = seen = None
    return {"ended": sorted(ended), "immortal": [sys._is_immortal(value) for value in (table, table["rows"][7], end, Seen)]}
