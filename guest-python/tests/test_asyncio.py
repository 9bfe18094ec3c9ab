"""The guest's event loop: what `asyncio` promises, within one request and across several of one instance."""

import asyncio
import gc
import time
from contextvars import ContextVar

import pytest

from covet import CovetPy, Response, StreamingResponse
from covet._guest import loop as _loop


def served(handler, path="/"):
    app = CovetPy()
    app.get(path)(handler)
    return app


def test_sleeps_of_one_request_overlap(serve):
    async def handler():
        return await asyncio.gather(*(asyncio.sleep(0.1, number) for number in range(50)))

    instance = serve(served(handler))
    began = instance.host.now
    assert instance.get("/").json() == list(range(50))
    assert 0.1 <= instance.host.now - began < 0.15


def test_sleeps_of_many_requests_of_one_instance_overlap(serve):
    async def handler():
        await asyncio.sleep(0.1)
        return "slept"

    instance = serve(served(handler))
    began = instance.host.now
    tasks = [instance.begin("GET", "/") for _ in range(100)]
    instance.host.run()
    assert {instance.answer(task).text for task in tasks} == {"slept"}
    assert instance.host.now - began < 0.2


def test_a_long_sleep_costs_few_wake_ups(serve):
    async def handler():
        await asyncio.sleep(3600)
        return "slept"

    instance = serve(served(handler))
    assert instance.get("/").text == "slept"
    assert instance.host.sleep_calls < 40


def test_an_unused_timeout_keeps_a_call_open_for_half_of_its_time_at_most(serve):
    async def handler():
        async with asyncio.timeout(3600):
            await asyncio.sleep(2)
        return "done"

    instance = serve(served(handler))
    began = instance.host.now
    assert instance.get("/").text == "done"
    assert instance.host.now - began <= 3.1


def test_a_timeout_around_work_that_does_not_wait_costs_no_sleep(serve):
    async def handler():
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return "done"

    instance = serve(served(handler))
    assert instance.get("/").text == "done"
    assert instance.host.sleep_calls == 0


def test_timeouts_end_what_takes_too_long(serve):
    async def handler():
        seen = []
        try:
            async with asyncio.timeout(0.05):
                await asyncio.sleep(60)
        except TimeoutError:
            seen.append("timeout")
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.05)
        except TimeoutError:
            seen.append("wait_for")
        seen.append(await asyncio.wait_for(asyncio.sleep(0.001, "in time"), 60))
        done, pending = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(s)) for s in (0.01, 9)], timeout=0.1)
        for task in pending:
            task.cancel()
        seen.append([len(done), len(pending)])
        return seen

    instance = serve(served(handler))
    began = instance.host.now
    assert instance.get("/").json() == ["timeout", "wait_for", "in time", [1, 1]]
    assert instance.host.now - began < 1


def test_a_cancelled_task_stops(serve):
    async def handler():
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0.01)
        task.cancel("why")
        try:
            await task
        except asyncio.CancelledError as error:
            return [task.cancelled(), *error.args]

    assert serve(served(handler)).get("/").json() == [True, "why"]


def test_a_task_group_waits_for_all_and_cancels_the_rest_on_an_error(serve):
    async def handler():
        async with asyncio.TaskGroup() as group:
            first = group.create_task(asyncio.sleep(0.01, 1))
            second = group.create_task(asyncio.sleep(0.02, 2))
        seen = [first.result(), second.result()]

        async def fail():
            raise ValueError("x")

        try:
            async with asyncio.TaskGroup() as group:
                rest = group.create_task(asyncio.sleep(60))
                group.create_task(fail())
        except* ValueError:
            seen.append(rest.cancelled())
        return seen

    assert serve(served(handler)).get("/").json() == [1, 2, True]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_task_that_nobody_awaits_runs_to_its_end_after_the_response(serve, asynchronous):
    seen = []

    async def later():
        await asyncio.sleep(0.05)
        seen.append("later")

    async def handler():
        asyncio.create_task(later())
        return list(seen)

    def plain():
        asyncio.get_running_loop().create_task(later())
        return list(seen)

    instance = serve(served(handler if asynchronous else plain))
    task = instance.begin("GET", "/")
    instance.host.run(lambda: task.returned)
    assert (instance.answer(task).json(), seen, task.ended) == ([], [], False)
    instance.host.run()
    assert (seen, task.ended) == (["later"], True)


def test_an_error_in_a_task_that_nobody_awaits_is_logged(serve, caplog):
    async def handler():
        async def later():
            raise ValueError("unseen")

        asyncio.create_task(later())
        return "done"

    instance = serve(served(handler))
    assert instance.get("/").text == "done"
    gc.collect()
    assert "Task exception was never retrieved" in caplog.text
    assert "unseen" in caplog.text


def test_a_task_cannot_end_the_instance(serve, caplog):
    async def handler():
        async def leave():
            raise SystemExit(1)

        task = asyncio.create_task(leave())
        await asyncio.sleep(0.01)
        return str(type(task.exception()).__name__)

    instance = serve(served(handler))
    assert instance.get("/").text == "SystemExit"
    assert "a task tried to end the process" in caplog.text
    assert instance.get("/").status == 200


def test_queue_event_lock_semaphore_and_condition_within_a_request(serve):
    async def handler():
        queue, event, lock, semaphore = asyncio.Queue(2), asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
        condition, order = asyncio.Condition(), []

        async def produce():
            for number in range(5):
                await queue.put(number)
            await queue.put(None)
            event.set()

        async def inside(number):
            async with semaphore, lock:
                await asyncio.sleep(0.001)
                order.append(number)
            async with condition:
                condition.notify_all()

        async def watch():
            async with condition:
                await condition.wait_for(lambda: len(order) == 4)

        tasks = [asyncio.create_task(task) for task in (produce(), watch(), *map(inside, range(4)))]
        got = []
        while (item := await queue.get()) is not None:
            got.append(item)
        await event.wait()
        await asyncio.gather(*tasks)
        return [got, sorted(order)]

    assert serve(served(handler)).get("/").json() == [[0, 1, 2, 3, 4], [0, 1, 2, 3]]


def test_threads_are_calls_in_line(serve):
    name = ContextVar("name", default="none")

    async def handler():
        loop = asyncio.get_running_loop()
        name.set("request")
        seen = [await asyncio.to_thread(sum, [1, 2]), await asyncio.to_thread(name.get)]
        seen.append(await loop.run_in_executor(None, len, "four"))
        for error in (ValueError, StopIteration):

            def fail(error=error):
                raise error("x")

            try:
                await asyncio.to_thread(fail)
            except Exception as caught:
                seen.append(type(caught).__name__)
        return seen

    assert serve(served(handler)).get("/").json() == [3, "request", 4, "ValueError", "RuntimeError"]


def test_callbacks_run_in_order_of_their_time_and_not_when_cancelled(serve):
    async def handler():
        loop, order = asyncio.get_running_loop(), []
        done = loop.create_future()
        loop.call_later(0.02, order.append, "later")
        loop.call_later(0.03, done.set_result, None)
        loop.call_at(loop.time() + 0.01, order.append, "at")
        loop.call_soon(order.append, "soon")
        loop.call_soon_threadsafe(order.append, "thread")
        loop.call_later(0.005, order.append, "never").cancel()
        loop.call_soon(order.append, "never").cancel()
        loop.call_later(-1, order.append, "past")
        await done
        return order

    assert serve(served(handler)).get("/").json() == ["soon", "thread", "past", "at", "later"]


def test_a_callback_that_fails_is_logged_and_the_rest_runs(serve, caplog):
    async def handler():
        loop, order = asyncio.get_running_loop(), []
        loop.call_soon(lambda: 1 / 0)
        loop.call_soon(order.append, "after")
        await asyncio.sleep(0.01)
        return order

    assert serve(served(handler)).get("/").json() == ["after"]
    assert "ZeroDivisionError" in caplog.text


def test_the_exception_handler_of_the_loop_is_used(serve):
    async def handler():
        loop, seen = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda loop, context: seen.append(type(context["exception"]).__name__))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)
        loop.set_exception_handler(None)
        return seen

    assert serve(served(handler)).get("/").json() == ["ZeroDivisionError"]


def test_a_request_that_only_yields_lets_timers_and_other_requests_go_on(serve):
    flag = []

    async def busy():
        done = []
        asyncio.get_running_loop().call_later(0.01, done.append, 1)
        while not (done and flag):  # noqa: ASYNC110
            await asyncio.sleep(0)
        return "done"

    async def other():
        flag.append(1)
        return "set"

    app = served(busy, "/busy")
    app.get("/other")(other)
    instance = serve(app)
    first = instance.begin("GET", "/busy")
    assert first.code == 1
    second = instance.begin("GET", "/other")
    instance.host.run()
    assert [instance.answer(task).text for task in (first, second)] == ["done", "set"]


def test_a_generator_that_is_left_half_way_is_closed(serve):
    closed = []

    async def handler():
        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                closed.append(True)

        async for _ in numbers():
            break
        await asyncio.sleep(0.01)
        return closed

    assert serve(served(handler)).get("/").json() == [True]


def test_the_running_loop_is_that_of_the_instance(serve):
    async def handler():
        return [asyncio.get_running_loop() is _loop.loop, asyncio.get_event_loop() is _loop.loop]

    assert serve(served(handler)).get("/").json() == [True, True]


# --- Several requests of one instance


def test_a_lock_that_two_requests_want_is_had_by_one_after_the_other(serve):
    lock, inside, most = asyncio.Lock(), [], []

    async def handler():
        async with lock:
            inside.append(1)
            most.append(len(inside))
            await asyncio.sleep(0.01)
            inside.pop()
        return "done"

    instance = serve(served(handler))
    tasks = [instance.begin("GET", "/") for _ in range(20)]
    instance.host.run()
    assert all(instance.answer(task).text == "done" for task in tasks)
    assert (max(most), len(most)) == (1, 20)


def test_a_request_waits_for_an_event_that_another_sets(serve):
    event = asyncio.Event()

    async def wait():
        await event.wait()
        return "event"

    def put():
        event.set()
        return "set"

    app = served(wait, "/wait")
    app.get("/set")(put)
    instance = serve(app)
    waiting = [instance.begin("GET", "/wait") for _ in range(3)]
    with pytest.raises(Exception, match="GET /wait"):
        instance.host.run()
    setting = instance.begin("GET", "/set")
    instance.host.run()
    assert [instance.answer(task).text for task in (*waiting, setting)] == ["event"] * 3 + ["set"]


def test_a_queue_connects_requests_and_what_they_return_is_their_own(serve):
    queue = None

    async def get():
        return await queue.get()

    async def put(item: str):
        await queue.put(item)
        await asyncio.sleep(0.01)
        return f"put {item}"

    app = served(get, "/get")
    app.get("/put/{item}")(put)
    instance = serve(app)
    queue = asyncio.Queue(1)
    getting = [instance.begin("GET", "/get") for _ in range(3)]
    putting = [instance.begin("GET", f"/put/{item}") for item in "abc"]
    instance.host.run()
    assert [instance.answer(task).text for task in getting] == ["a", "b", "c"]
    assert [instance.answer(task).text for task in putting] == ["put a", "put b", "put c"]


def test_a_request_can_cancel_the_task_of_another(serve):
    running = {}

    async def work():
        running["task"] = asyncio.current_task()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "cancelled"

    async def stop():
        running["task"].cancel()
        return "stopped"

    app = served(work, "/work")
    app.get("/stop")(stop)
    instance = serve(app)
    working = instance.begin("GET", "/work")
    stopping = instance.begin("GET", "/stop")
    instance.host.run(lambda: working.returned, seconds=1)
    assert [instance.answer(task).text for task in (working, stopping)] == ["cancelled", "stopped"]
    instance.host.run()


def test_a_worker_that_startup_began_goes_on_in_the_requests_that_feed_it(serve):
    queue, done = asyncio.Queue(), []
    app = CovetPy()

    async def worker():
        while True:
            item = await queue.get()
            await asyncio.sleep(0.01)
            done.append(item)

    @app.on_event("startup")
    async def start():
        app.state.worker = asyncio.create_task(worker())

    @app.get("/{item}")
    def feed(item: str):
        queue.put_nowait(item)
        return "queued"

    instance = serve(app)
    for item in "abc":
        assert instance.get(f"/{item}").text == "queued"
    assert done == ["a", "b", "c"]


def test_a_body_that_waits_for_another_request_stays_open(serve):
    queue = asyncio.Queue()
    app = CovetPy()

    @app.get("/events")
    async def events():
        async def pieces():
            while (item := await queue.get()) is not None:
                yield item

        return StreamingResponse(pieces())

    @app.get("/send/{item}")
    async def send(item: str):
        await queue.put(None if item == "end" else item)
        return "sent"

    instance = serve(app)
    listening = instance.begin("GET", "/events")
    for item in ("a", "b", "end"):
        sending = instance.begin("GET", f"/send/{item}")
        instance.host.run(lambda sending=sending: sending.ended)
    instance.host.run()
    assert instance.answer(listening).content == b"ab"


def test_many_requests_leave_nothing_behind(serve):
    async def handler(number: int):
        match number % 4:
            case 0:
                return {"number": number}
            case 1:
                await asyncio.sleep(0.001 * (number % 7))
                return Response(b"\xff" * 20_000)
            case 2:
                asyncio.create_task(asyncio.sleep(0.003))
                return "x"
            case _:
                return StreamingResponse(iter(["a", "b"]))

    instance = serve(served(handler, "/{number}"))
    tasks = [instance.begin("GET", f"/{number}") for number in range(400)]
    instance.host.run()
    assert all(task.ended and task.result.status == 200 for task in tasks)
    assert instance.host.leftovers() == []


def test_time_does_not_stand_still(serve):
    """The stand-in for the clock is only that of the loop."""

    async def handler():
        return time.monotonic() > 0

    assert serve(served(handler)).get("/").json() is True
