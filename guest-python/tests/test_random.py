"""Randomness where requests start from copies of one memory.

A copy of a process is a copy of its memory, so the requests here are forks of one process whose application has started.
`fork` is the one of the C library: that of `os` tells `random`, and a snapshot does not.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

APP = """
import copy, pickle, random, secrets, tempfile, uuid
from email.utils import make_msgid
from random import Random, choice, gauss, getrandbits, randbytes, randint, sample, shuffle
from random import random as taken

class Doubled(Random):
    __hash__ = None

    def random(self):
        return super().random() * 2

class Wide(Random):
    def getrandbits(self, k):
        return super().getrandbits(k)

    def word(self):
        return super().getrandbits(64)

class Tossed(Random):
    def seed(self, a=None):
        super().seed(a)
        self.first = super().random()

made = Random()
made_taken, made_choice = made.random, made.choices
doubled, wide, tossed = Doubled(), Wide(), Tossed()
word = wide.word
system = random.SystemRandom()
seeded_again = Random(7)
seeded_again.seed()
kept = {}

# So that there is state to be copied.
taken(), made.random(), uuid.uuid1(), next(tempfile._get_candidate_names()), doubled.random()
for version in (6, 7):
    if hasattr(uuid, f"uuid{version}"):
        getattr(uuid, f"uuid{version}")()

fixed = Random(42)
of_state = Random()
of_state.setstate(Random("state").getstate())
of_pickle = pickle.loads(pickle.dumps(Random()))
doubled_fixed = Doubled(42)
tossed_fixed = Tossed(42)
fixed.gauss(0, 1)


def shuffled():
    items = list(range(100))
    shuffle(items)
    return items


DIFFERENT = {
    "random.random": lambda: random.random(),
    "taken": taken,
    "choice": lambda: [choice(range(1000)) for _ in range(10)],
    "gauss": lambda: gauss(0, 1),
    "getrandbits": lambda: getrandbits(64),
    "randbytes": lambda: randbytes(8).hex(),
    "randint": lambda: randint(0, 1 << 64),
    "sample": lambda: sample(range(10000), 10),
    "shuffle": shuffled,
    "state": lambda: hash(random.getstate()),
    "made": lambda: made.random(),
    "made_taken": made_taken,
    "made_choice": lambda: made_choice(range(1000), k=10),
    "made_gauss": lambda: made.gauss(0, 1),
    "made_state": lambda: hash(made.getstate()),
    "made_copied": lambda: copy.copy(made).random(),
    "made_pickled": lambda: pickle.loads(pickle.dumps(made)).random(),
    "seeded_again": lambda: seeded_again.random(),
    "at_startup": lambda: kept["rng"].random(),
    "at_startup_taken": lambda: kept["getrandbits"](64),
    "in_request": lambda: Random().random(),
    "class": lambda: Random.random(made),
    "doubled": lambda: doubled.random(),
    "doubled_randrange": lambda: doubled.randrange(1 << 50),
    "wide": lambda: wide.getrandbits(64),
    "word": word,
    "tossed_first": lambda: [tossed.random(), tossed.first][1],
    "system": lambda: system.random(),
    "of_pickle": lambda: of_pickle.random(),
    "secrets": lambda: secrets.token_hex(8),
    "tempfile": lambda: next(tempfile._get_candidate_names()),
    "msgid": lambda: make_msgid(domain="x"),
    "uuid1": lambda: str(uuid.uuid1()),
    "uuid1_clock_seq": lambda: [uuid.uuid1().clock_seq for _ in range(8)],
    "getnode": uuid.getnode,
    "uuid4": lambda: str(uuid.uuid4()),
    **{f"uuid{n}": lambda n=n: str(getattr(uuid, f"uuid{n}")()) for n in (6, 7, 8) if hasattr(uuid, f"uuid{n}")},
}
EQUAL = {
    "fixed": lambda: fixed.random(),
    "fixed_gauss": lambda: fixed.gauss(0, 1),
    "of_state": lambda: of_state.random(),
    "doubled_fixed": lambda: doubled_fixed.random(),
    "tossed_fixed": lambda: tossed_fixed.random(),
    "in_request": lambda: Random(1).random(),
    "seeded_in_request": lambda: [made.seed(1), made.random(), made_taken()],
    "state_in_request": lambda: [made.setstate(Random(1).getstate()), made.random(), made_taken()],
    "shared_in_request": lambda: [random.seed(1), random.random(), taken(), gauss(0, 1)],
}

from covet import CovetPy

app = CovetPy()


@app.on_event("startup")
def start():
    kept["rng"] = Random()
    kept["getrandbits"] = kept["rng"].getrandbits
    # Each leaves a second value behind.
    gauss(0, 1), made.gauss(0, 1)
    kept["drawn"] = [random.random(), kept["rng"].random(), made.random(), made_taken()]


@app.get("/different/{name}")
def different(name: str):
    return [DIFFERENT[name](), DIFFERENT[name]()]


@app.get("/equal/{name}")
def equal(name: str):
    return [EQUAL[name](), EQUAL[name]()]


@app.get("/drawn")
def drawn():
    return kept["drawn"]


@app.get("/names")
def names():
    return [list(DIFFERENT), list(EQUAL)]
"""

#: What runs before the application, as `_entry.load` does it, and after it.
BEFORE = """
import ctypes, json, os, sys
sys.path.insert(0, {tests!r})
import simulator
simulator.install()
from covet._guest import random as _random
_random.install()
import uuid
uuid._generate_time_safe = None
# The process is told by this that it has been forked.
os.getpid = lambda: 42
fork = ctypes.PyDLL(None).fork

def in_a_copy(function):
    reader, writer = os.pipe()
    if fork() == 0:
        try:
            os.write(writer, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        return json.loads(file.read())
"""


def run(code: str, *arguments: Any) -> Any:
    """What `print(json.dumps(...))` says at the end of the code, in a process of its own."""
    before = BEFORE.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", before + code]
    output = subprocess.run([*command, *map(json.dumps, arguments)], capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stderr
    return json.loads(output.stdout)


@pytest.fixture(scope="module")
def answers() -> Any:
    """What two requests got that started from one memory, by name."""
    return run(
        APP
        + """
_random.restart()
instance = simulator.Instance(app)
get = lambda path: instance.get(path).json()
found = []
for kind, names in zip(("different", "equal"), get("/names")):
    found.append({name: [in_a_copy(lambda: get(f"/{kind}/{name}")) for _ in range(2)] for name in names})
print(json.dumps(found))
"""
    )


def test_nothing_random_is_the_same_in_two_requests_of_one_snapshot(answers):
    # Each draws twice: the first value may be one that was kept from before, and the second one from the new seed.
    repeated = [name for name, (one, other) in answers[0].items() if one[0] == other[0] or one[1] == other[1]]
    assert repeated == []


def test_a_generator_goes_on_after_it_has_got_its_seed(answers):
    constant = {"state", "made_state", "made_copied", "made_pickled", "tossed_first", "getnode"}
    for name, requests in answers[0].items():
        for first, second in requests:
            assert (first == second) == (name in constant), name


def test_what_was_seeded_with_a_value_is_the_same_in_every_request(answers):
    assert [name for name, (one, other) in answers[1].items() if one != other] == []


def test_what_startup_draws_differs_from_one_start_of_a_component_to_the_next():
    one, other = run(
        APP
        + """
_random.restart()
drawn = lambda: simulator.Instance(app).get("/drawn").json()
print(json.dumps([in_a_copy(drawn), in_a_copy(drawn)]))
"""
    )
    assert len({*one, *other}) == 8


def test_the_shared_generator_stays_deterministic_when_it_is_seeded_with_a_value():
    one, other, expected = run("""
import random
from random import gauss, random as taken
random.seed(42)
_random.restart()
draw = lambda: [random.random(), taken(), gauss(0, 1), random.choice(range(1000))]
copies = [in_a_copy(draw), in_a_copy(draw)]
random.seed(42)
print(json.dumps([*copies, draw()]))
""")
    assert one == other == expected


def test_a_generator_of_the_application_itself_keeps_working():
    assert run("""
import copy, functools, random

class Half(random.Random):
    def random(self):
        return 0.5

half = Half()
own = random.Random()
own.random = functools.partial(lambda: 0.25)
_random.restart()
own.seed(1)
print(json.dumps([
    half.random(), half.randrange(10), half.uniform(0, 4), "random" in vars(half), own.random(), own.uniform(0, 4),
    isinstance(random.SystemRandom(), random.Random), type(copy.copy(random._inst)) is random.Random,
]))
""") == [0.5, 6, 2.0, False, 0.25, 1.0, True, True]


def test_the_methods_are_those_of_c_again_once_a_generator_has_its_seed():
    assert run("""
import random
from random import random as taken, getrandbits
made = random.Random()
_random.restart()
names = lambda: [type(f.func).__name__ for f in (taken, getrandbits, random.random, made.random, made.getrandbits)]
before = names()
random.random(), made.choice([1])
between = names()
made.seed(1)
_random.restart()
print(json.dumps([before, between, names(), taken.__name__, taken.__self__ is random._inst]))
""") == [
        ["method"] * 5,
        ["builtin_function_or_method"] * 5,
        ["method"] * 3 + ["builtin_function_or_method"] * 2,
        "random",
        True,
    ]


def test_a_generator_that_a_request_makes_is_freed_when_nobody_has_it_any_more():
    assert run("""
import gc, random, weakref
_random.restart()
gc.disable()
made = random.Random()
made.random()
alive = weakref.ref(made)
del made
print(json.dumps([alive() is None, len(_random._unseeded)]))
""") == [True, 1]


def test_a_seed_that_is_refused_changes_nothing():
    assert run("""
import random
made = random.Random(42)
expected = random.Random(42).random()
try:
    made.seed(object())
except TypeError:
    _random.restart()
    print(json.dumps(made.random() == expected))
""")
