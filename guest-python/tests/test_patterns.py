"""What requests of one instance share: pools of connections, and batches."""

import asyncio
import os
import random
import subprocess
from contextvars import ContextVar

import httpx
import pytest
from test_build import write

from covet import CovetPy, cli
from covet._commands.build import component
from covet._commands.build.progress import Progress
from covet._commands.build.project import find_target
from covet.patterns import BatchProcessor, ConnectionPool


class Connection:
    """Something that must not be used by two at a time."""

    def __init__(self, server):
        self.server = server
        self.number = server.made
        self.is_open = True
        self.is_healthy = True
        self.is_used = False
        server.made += 1
        server.open += 1
        server.most = max(server.most, server.open)

    async def use(self, seconds=0.0):
        assert self.is_open
        assert not self.is_used
        self.is_used = True
        try:
            await asyncio.sleep(seconds)
        finally:
            self.is_used = False

    async def aclose(self):
        await asyncio.sleep(0.001)
        assert self.is_open
        self.is_open = False
        self.server.open -= 1


class Server:
    def __init__(self, delay=0.0):
        self.delay = delay
        self.made = self.open = self.most = 0
        self.fails = False

    async def connect(self):
        await asyncio.sleep(self.delay)
        if self.fails:
            raise ConnectionRefusedError("nobody listens")
        return Connection(self)


def app_of(*handlers):
    """An application with a route for each handler, under its name."""
    app = CovetPy(docs_url=None, redoc_url=None)
    for handler in handlers:
        app.get(f"/{handler.__name__}")(handler)
    return app


# --- ConnectionPool


def test_a_connection_is_made_when_it_is_wanted_and_used_again():
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=3)

    async def run():
        assert (server.made, pool.idle, pool.in_use) == (0, 0, 0)
        for _ in range(3):
            async with pool.acquire() as connection:
                assert (connection.number, pool.idle, pool.in_use) == (0, 0, 1)
        async with pool.acquire() as one, pool.acquire() as other:
            assert {one.number, other.number} == {0, 1}
        # The one that was used last.
        async with pool.acquire() as connection:
            assert connection is one

    asyncio.run(run())
    assert (server.made, server.open) == (2, 2)


def test_a_factory_may_be_an_ordinary_function_and_connections_anything():
    closed = []
    pool = ConnectionPool(iter("abc").__next__, close=closed.append)

    async def run():
        async with pool.acquire() as connection:
            assert connection == "a"
            pool.discard(connection)
        async with pool.acquire() as connection:
            assert connection == "b"
        await pool.close()

    asyncio.run(run())
    assert closed == ["a", "b"]


def test_requests_of_one_instance_share_a_pool_and_wait_in_turn(serve):
    server = Server(delay=0.01)
    pool = ConnectionPool(server.connect, max_connections=3)
    order = []

    async def use(number: int):
        async with pool.acquire() as connection:
            order.append(number)
            await connection.use(0.1)
        return connection.number

    instance = serve(app_of(use))
    began = instance.host.now
    tasks = [instance.begin("GET", f"/use?number={number}") for number in range(12)]
    instance.host.run()
    assert {instance.answer(task).json() for task in tasks} == {0, 1, 2}
    assert order == list(range(12))
    assert server.most == 3
    assert 0.4 <= instance.host.now - began < 0.5


def test_nobody_comes_before_those_who_wait():
    pool = ConnectionPool(Server().connect, max_connections=1)
    order = []

    async def use(name):
        async with pool.acquire():
            order.append(name)
            await asyncio.sleep(0)

    async def greedy():
        for _ in range(5):
            await use("greedy")

    async def run():
        async with asyncio.TaskGroup() as group:
            group.create_task(greedy())
            await asyncio.sleep(0)
            for name in "abc":
                group.create_task(use(name))

    asyncio.run(run())
    assert order == ["greedy", "a", "b", "c", "greedy", "greedy", "greedy", "greedy"]


def test_who_waits_too_long_is_told_so(serve):
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=2, timeout=0.5)

    async def hold(seconds: float):
        try:
            async with pool.acquire() as connection:
                await connection.use(seconds)
        except TimeoutError as error:
            return str(error)
        return "used"

    instance = serve(app_of(hold))
    began = instance.host.now
    tasks = [instance.begin("GET", f"/hold?seconds={seconds}") for seconds in (0.4, 2, 2, 2)]
    instance.host.run(lambda: tasks[3].returned)
    assert instance.host.now - began < 0.8
    assert instance.answer(tasks[3]).text == "no connection within 0.5 s: 2 of at most 2 are in use"
    instance.host.run()
    assert [instance.answer(task).text for task in tasks[:3]] == ["used"] * 3
    assert (pool.idle, pool.in_use, server.open) == (2, 0, 2)


def test_a_timeout_of_the_factory_is_its_own():
    async def slow():
        async with asyncio.timeout(0.001):
            await asyncio.sleep(1)

    async def run(pool):
        with pytest.raises(TimeoutError) as caught:
            async with pool.acquire():
                pass
        return str(caught.value)

    assert asyncio.run(run(ConnectionPool(slow))) == ""
    assert "no connection within 0.01 s" in asyncio.run(run(ConnectionPool(lambda: asyncio.sleep(1), timeout=0.01)))


def test_what_the_factory_raises_is_raised_and_the_place_is_free_again():
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=1)

    async def run():
        server.fails = True
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError, match="nobody listens"):
                async with pool.acquire():
                    pass
        server.fails = False
        async with pool.acquire() as connection:
            assert connection.number == 0

    asyncio.run(run())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_connection_that_is_not_healthy_is_replaced(asynchronous):
    server = Server()
    checked = []

    def check(connection):
        checked.append(connection.number)
        if connection.is_healthy is None:
            raise ConnectionResetError
        return connection.is_healthy

    async def check_later(connection):
        await asyncio.sleep(0)
        return check(connection)

    pool = ConnectionPool(server.connect, max_connections=2, health_check=check_later if asynchronous else check)

    async def run():
        async with pool.acquire() as one, pool.acquire() as other:
            # Of its own will, while it is in use.
            one.is_healthy, other.is_healthy = False, None
        assert checked == []
        async with pool.acquire() as connection:
            assert connection.number == 2
        assert sorted(checked) == [0, 1]
        async with pool.acquire() as again:
            assert again is connection

    asyncio.run(run())
    assert (server.open, server.most) == (1, 2)


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (ValueError, True),
        (KeyError, True),
        (ConnectionResetError, False),
        (TimeoutError, False),
        (asyncio.IncompleteReadError(b"", 1), False),
        (asyncio.CancelledError, False),
    ],
)
def test_a_connection_with_something_under_way_is_not_used_again(error, is_kept):
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=1)

    async def fail():
        async with pool.acquire():
            raise error

    async def run():
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            await fail()
        assert caught.type is (error if isinstance(error, type) else type(error))
        async with pool.acquire() as connection:
            assert connection.number == (0 if is_kept else 1)

    asyncio.run(run())
    assert server.open == 1


def test_connections_can_be_discarded_while_they_are_in_use():
    server = Server()
    pool = ConnectionPool(server.connect)

    async def run():
        async with pool.acquire() as connection:
            pool.discard(connection)
            assert connection.is_open
        assert not connection.is_open
        with pytest.raises(ValueError, match="is not in use"):
            pool.discard(connection)

    asyncio.run(run())
    assert (pool.idle, server.open) == (0, 0)


def test_connections_that_nobody_uses_are_closed_but_for_those_to_keep(serve):
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=5, min_connections=2, max_idle=10)

    async def many():
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(one())
        return pool.idle

    async def one():
        async with pool.acquire() as connection:
            await connection.use(0.1)
        return pool.idle

    async def later():
        await asyncio.sleep(20)
        return pool.idle

    instance = serve(app_of(many, one, later))
    assert instance.get("/many").json() == 5
    assert instance.get("/later").json() == 5
    # The newest is too old as well, and is replaced; of the others two are kept.
    assert instance.get("/one").json() == 2
    assert server.open == 2
    assert server.most == 5
    for _ in range(3):
        assert instance.get("/later").json() == 2
        made = server.made
        assert instance.get("/one").json() == 2
        assert server.made == made


def test_a_closed_pool_gives_nothing_and_closes_what_comes_back():
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=2)

    async def run():
        async with pool.acquire() as connection:
            async with pool.acquire():
                pass
            await pool.close()
            await pool.close()
            assert connection.is_open
            with pytest.raises(RuntimeError, match="the pool is closed"):
                async with pool.acquire():
                    pass
        assert server.open == 0

    asyncio.run(run())


def test_a_connection_that_cannot_be_closed_is_only_logged(caplog, monkeypatch):
    monkeypatch.setattr("covet.patterns.CLOSE_TIMEOUT", 0.001)
    endings = [lambda _: 1 / 0, lambda _: asyncio.sleep(100)]
    pool = ConnectionPool(object, max_connections=1, close=lambda connection: endings.pop()(connection))

    async def run():
        for _ in range(2):
            async with pool.acquire() as connection:
                pool.discard(connection)
        async with pool.acquire():
            pass

    asyncio.run(run())
    assert [record.message for record in caplog.records] == ["a connection of a pool could not be closed"] * 2


@pytest.mark.parametrize("seed", range(20))
def test_no_place_and_no_connection_is_lost_whoever_is_cancelled_and_when(seed, serve):
    draw = random.Random(seed)
    server = Server(delay=0.01)

    async def check(connection):
        await asyncio.sleep(draw.random() * 0.02)
        return draw.random() < 0.8

    pool = ConnectionPool(server.connect, max_connections=3, timeout=0.2, health_check=check, max_idle=0.05)

    async def use():
        try:
            async with asyncio.timeout(draw.random() * 0.3):
                async with pool.acquire() as connection:
                    await connection.use(draw.random() * 0.1)
                    if draw.random() < 0.1:
                        raise ValueError
        except (TimeoutError, ValueError):
            return "gave up"
        return "used"

    async def all_at_once():
        async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
            return len({id(one), id(two), id(three)})

    instance = serve(app_of(use, all_at_once))
    tasks = []
    for _ in range(60):
        tasks.append(instance.begin("GET", "/use"))
        if draw.random() < 0.3:
            instance.host.run(seconds=draw.random() * 0.05)
    instance.host.run()
    assert {instance.answer(task).text for task in tasks} == {"used", "gave up"}
    assert pool.in_use == 0
    assert server.open == pool.idle
    assert server.most == 3
    assert instance.get("/all_at_once").json() == 3


@pytest.mark.parametrize(
    "options", [{"max_connections": 0}, {"min_connections": -1}, {"max_connections": 1, "min_connections": 2}]
)
def test_bounds_of_a_pool_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="connections is"):
        ConnectionPool(object, **options)


# --- BatchProcessor


def doubling(batches):
    async def handler(items):
        batches.append(items)
        await asyncio.sleep(0.05)
        return [item * 2 for item in items]

    return handler


def test_items_of_overlapping_requests_are_processed_together(serve):
    batches = []
    batch = BatchProcessor(doubling(batches), batch_size=4, timeout=1)

    async def item(number: int):
        return await batch.submit(number)

    instance = serve(app_of(item))
    tasks = [instance.begin("GET", f"/item?number={number}") for number in range(10)]
    began = instance.host.now
    instance.host.run(lambda: all(task.returned for task in tasks[:8]))
    # They do not wait for the time to be over, nor for one another's batch.
    assert 0.05 <= instance.host.now - began < 0.1
    instance.host.run(lambda: all(task.returned for task in tasks))
    assert 1.05 <= instance.host.now - began < 1.2
    instance.host.run()
    assert [instance.answer(task).json() for task in tasks] == [number * 2 for number in range(10)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_timer_that_is_not_needed_keeps_no_call_open(serve):
    batch = BatchProcessor(lambda items: items, batch_size=2, timeout=60)

    async def item(number: int):
        return await batch.submit(number)

    instance = serve(app_of(item))
    first = instance.begin("GET", "/item?number=1")
    instance.host.run(seconds=2)
    assert not first.returned
    began = instance.host.now
    second = instance.begin("GET", "/item?number=2")
    instance.host.run(lambda: first.returned and second.ended)
    assert instance.host.now - began < 0.01
    instance.host.run()
    # A sleep that has begun cannot be given up; it takes at most half of the time that had gone by.
    assert first.ended
    assert instance.host.now - began < 1.1


def test_the_one_who_came_first_may_leave_and_the_others_are_served_in_time(serve):
    batches = []
    batch = BatchProcessor(doubling(batches), batch_size=10, timeout=1)

    async def item(number: int, patience: float = 60):
        try:
            async with asyncio.timeout(patience):
                return await batch.submit(number)
        except TimeoutError:
            return "left"

    instance = serve(app_of(item))
    began = instance.host.now
    leaving = instance.begin("GET", "/item?number=1&patience=0.2")
    instance.host.run(seconds=0.1)
    staying = [instance.begin("GET", f"/item?number={number}") for number in (2, 3)]
    instance.host.run(lambda: leaving.ended)
    # It does not wait for the batch that it is not part of any more.
    assert instance.host.now - began < 0.5
    assert instance.answer(leaving).text == "left"
    instance.host.run(lambda: all(task.returned for task in staying))
    assert 1.05 <= instance.host.now - began < 1.2
    assert [instance.answer(task).json() for task in staying] == [4, 6]
    assert batches == [[2, 3]]
    instance.host.run()


def test_when_all_leave_nothing_is_processed_and_the_next_batch_begins_anew(serve):
    batches = []
    batch = BatchProcessor(doubling(batches), batch_size=10, timeout=1)

    async def item(number: int, patience: float = 60):
        try:
            async with asyncio.timeout(patience):
                return await batch.submit(number)
        except TimeoutError:
            return "left"

    instance = serve(app_of(item))
    assert instance.get("/item?number=1&patience=0.1").text == "left"
    assert instance.get("/item?number=2").json() == 4
    assert batches == [[2]]


def test_a_batch_goes_on_when_those_who_started_it_leave(serve):
    batches, done = [], []

    async def handler(items):
        batches.append(items)
        await asyncio.sleep(1)
        done.append(items)
        return items

    batch = BatchProcessor(handler, batch_size=2, timeout=1)

    async def item(number: int, patience: float = 60):
        try:
            async with asyncio.timeout(patience):
                return await batch.submit(number)
        except TimeoutError:
            return "left"

    instance = serve(app_of(item))
    tasks = [instance.begin("GET", "/item?number=1"), instance.begin("GET", "/item?number=2&patience=0.1")]
    instance.host.run()
    assert [instance.answer(task).text for task in tasks] == ["1", "left"]
    assert batches == done == [[1, 2]]


def test_exceptions_go_to_those_whom_they_are_about():
    class Broken(Exception):
        pass

    def handler(items):
        if "all" in items:
            raise Broken("everything")
        return [Broken(item) if item.startswith("bad") else StopIteration(item) if item == "stop" else item for item in items]

    async def run(*items):
        batch = BatchProcessor(handler, batch_size=len(items))
        return await asyncio.gather(*map(batch.submit, items), return_exceptions=True)

    found = asyncio.run(run("a", "bad 1", "b", "bad 2", "stop"))
    assert [found[0], found[2]] == ["a", "b"]
    assert [str(found[1]), str(found[3])] == ["bad 1", "bad 2"]
    assert isinstance(found[4], RuntimeError)
    assert isinstance(found[4].__cause__, StopIteration)
    found = asyncio.run(run("a", "all"))
    assert [(type(error), str(error)) for error in found] == [(Broken, "everything")] * 2


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        ([1], ValueError, "returned 1 results for 2 items"),
        ([1, 2, 3], ValueError, "returned 3 results for 2 items"),
        ([], ValueError, "returned 0 results"),
        (None, TypeError, "a list or a dict, not NoneType"),
        ("ab", TypeError, "not str"),
        (iter([1, 2]), TypeError, "not list_iterator"),
        ({1, 2}, TypeError, "not set"),
    ],
)
def test_results_that_fit_nobody_are_an_error_for_all(results, error, message):
    async def run():
        batch = BatchProcessor(lambda items: results, batch_size=2)
        return await asyncio.gather(batch.submit("a"), batch.submit("b"), return_exceptions=True)

    found = asyncio.run(run())
    assert [type(one) for one in found] == [error] * 2
    assert message in str(found[0])


def test_results_may_be_a_dict_by_item():
    async def run():
        batch = BatchProcessor(lambda items: {"a": 1, "c": ValueError("c")}, batch_size=4)
        return await asyncio.gather(*map(batch.submit, "aabc"), return_exceptions=True)

    found = asyncio.run(run())
    assert found[:2] == [1, 1]
    assert isinstance(found[2], LookupError)
    assert "no result for 'b'" in str(found[2])
    assert isinstance(found[3], ValueError)


def test_a_handler_that_is_cancelled_fails_and_does_not_cancel_those_who_wait():
    async def handler(items):
        raise asyncio.CancelledError

    async def run():
        batch = BatchProcessor(handler, batch_size=2)
        return await asyncio.gather(batch.submit(1), batch.submit(2), return_exceptions=True)

    assert [str(error) for error in asyncio.run(run())] == ["the handler of the batch was ended"] * 2


def test_context_variables_are_those_of_one_of_the_requests(serve):
    who = ContextVar("who")
    seen = []

    async def handler(items):
        seen.append(who.get())
        return items

    batch = BatchProcessor(handler, batch_size=3, timeout=0.1)

    async def item(number: int):
        who.set(number)
        await batch.submit(number)
        return who.get()

    instance = serve(app_of(item))
    tasks = [instance.begin("GET", f"/item?number={number}") for number in range(5)]
    instance.host.run()
    assert [instance.answer(task).json() for task in tasks] == list(range(5))
    assert len(seen) == 2
    assert seen[0] in (0, 1, 2)
    assert seen[1] in (3, 4)


def test_items_of_one_turn_are_together_without_any_time():
    batches = []

    async def run():
        batch = BatchProcessor(doubling(batches), batch_size=100, timeout=0)
        return await asyncio.gather(*map(batch.submit, range(10)))

    assert asyncio.run(run()) == [number * 2 for number in range(10)]
    assert batches == [list(range(10))]


def test_what_an_earlier_event_loop_left_is_forgotten():
    batches = []
    batch = BatchProcessor(doubling(batches), batch_size=2, timeout=60)
    server = Server()
    pool = ConnectionPool(server.connect, max_connections=1)

    async def leave():
        waiting = asyncio.get_running_loop().create_task(batch.submit(1))
        await asyncio.sleep(0)
        entries = list(batch._waiting)
        await pool.acquire().__aenter__()
        waiting.cancel()
        return entries

    async def use():
        async with pool.acquire():
            return await asyncio.gather(batch.submit(2), batch.submit(3))

    # As if that loop had been stopped without a chance to clean up.
    batch._waiting = asyncio.run(leave())
    assert asyncio.run(asyncio.wait_for(use(), 10)) == [4, 6]
    assert batches == [[2, 3]]


@pytest.mark.parametrize("seed", range(20))
def test_every_item_gets_its_own_result_whoever_leaves(seed, serve):
    draw = random.Random(seed)

    async def handler(items):
        await asyncio.sleep(draw.random() * 0.1)
        return [item + 1000 for item in items]

    batch = BatchProcessor(handler, batch_size=draw.randint(1, 6), timeout=draw.choice([0, 0.01, 0.1]))

    async def item(number: int, patience: float):
        try:
            async with asyncio.timeout(patience):
                return await batch.submit(number)
        except TimeoutError:
            return -1

    instance = serve(app_of(item))
    tasks = []
    for number in range(50):
        patience = draw.choice([0.02, 0.1, 60])
        tasks.append((number, patience, instance.begin("GET", f"/item?number={number}&patience={patience}")))
        if draw.random() < 0.4:
            instance.host.run(seconds=draw.random() * 0.05)
    instance.host.run()
    for number, patience, task in tasks:
        assert instance.answer(task).json() in ({number + 1000} if patience == 60 else {number + 1000, -1})
    assert not batch._waiting
    assert not batch._tasks


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"timeout": -1}])
def test_bounds_of_a_batch_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=r"batch_size|timeout"):
        BatchProcessor(list, **options)


# --- In a component


APP = """
import asyncio
from covet import CovetPy
from covet.patterns import BatchProcessor, ConnectionPool

app = CovetPy(docs_url=None, redoc_url=None)
sizes = []
made = []


async def double(items):
    sizes.append(len(items))
    await asyncio.sleep(0.01)
    return [item * 2 for item in items]


async def connect():
    await asyncio.sleep(0.01)
    made.append(object())
    return made[-1]


batch = BatchProcessor(double, batch_size=8, timeout=0.2)
pool = ConnectionPool(connect, max_connections=3)


@app.get("/double/{number}", isolation="shared")
async def doubled(number: int):
    return {"doubled": await batch.submit(number), "largest": max(sizes)}


@app.get("/pool", isolation="shared")
async def pooled():
    async with pool.acquire():
        await asyncio.sleep(0.05)
        return {"in_use": pool.in_use, "made": len(made)}


@app.get("/fresh/{number}", isolation="fresh")
async def alone(number: int):
    async with pool.acquire():
        return {"doubled": await batch.submit(number), "sizes": sizes, "made": len(made)}
"""


@pytest.mark.host
@pytest.mark.build
def test_requests_of_a_component_batch_and_share_connections(tmp_path):
    host = cli._find_host()
    if host is None:
        pytest.skip("covet-host is not there")
    project = write(tmp_path / "project", {"main.py": APP})
    component.build(find_target("main", project), tmp_path / "app.wasm", Progress(quiet=True))
    command = [str(host), "run", str(tmp_path / "app.wasm"), "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with (
        open(tmp_path / "log", "w", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://"), (tmp_path / "log").read_text()
            found = asyncio.run(ask_together(line.split()[-1]))
        finally:
            process.terminate()
    doubled, pooled, alone = found
    assert [answer["doubled"] for answer in doubled] == [number * 2 for number in range(40)]
    assert 1 < max(answer["largest"] for answer in doubled) <= 8
    assert max(answer["in_use"] for answer in pooled) > 1
    assert max(max(answer["in_use"], 0) for answer in pooled) <= 3
    # Nothing is shared there, so nobody else comes.
    assert alone == [{"doubled": number * 2, "sizes": [1], "made": 1} for number in range(3)]


async def ask_together(url):
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def ask(path):
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()

        return [
            await asyncio.gather(*(ask(f"/double/{number}") for number in range(40))),
            await asyncio.gather(*(ask("/pool") for _ in range(20))),
            await asyncio.gather(*(ask(f"/fresh/{number}") for number in range(3))),
        ]
