"""Makes `random` differ from request to request, although requests start from copies of one memory.

The memory of an application is copied twice: the build writes it into the component, and a host may start each request
from what start-up left behind. The state of every generator that was made before is in these copies. What the operating
system gives needs nothing: `os.urandom`, `secrets`, `random.SystemRandom`, `uuid.uuid4` and the clocks ask the host each
time.

How it works. `restart` is called before each copy is taken. It marks the generators whose seed nobody chose, and a marked
one takes a new seed from the system when it is used for the first time. One that was seeded with a value goes on as its
author asked, and so does one that got its state from `setstate`, unless that is the state of one that nobody seeded. The
class of the standard library is changed in its place: what was imported or derived from it earlier stays right, and a
`SystemRandom` is still a `Random`.
"""

import random
import uuid
from _random import Random as _MersenneTwister
from collections.abc import Callable
from functools import partial, wraps
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["install", "restart"]


def install() -> None:
    """Prepares the standard library. Before the application is imported, which may take functions out of `random`."""
    random.Random._stale = False  # type: ignore[attr-defined]
    for method in (_random, _getrandbits, _seed, _getstate, _setstate):
        setattr(random.Random, method.__name__, method)
    shared = random._inst
    _unseeded[id(shared)] = shared
    _add_switches(shared)
    for name in random.__all__:
        # Those that were bound to it are of the class as it was.
        if getattr(getattr(random, name), "__self__", None) is shared:
            setattr(random, name, getattr(shared, name))
    # All of them ask programs or files, which a component does not have; without them `getnode` is random at once.
    uuid._GETTERS = []  # type: ignore[attr-defined]


def restart() -> None:
    """Makes everything random that was seeded by the system forget it. Called before a copy of the memory is taken."""
    for generator in list(_unseeded.values()):
        attributes = vars(generator)
        attributes["_stale"] = True
        # The second of the two values that `gauss` makes at a time.
        attributes["gauss_next"] = None
        _add_switches(generator)
    for name in _UUID_STATE:
        if hasattr(uuid, name):
            setattr(uuid, name, None)


def _add_switches(generator: random.Random) -> None:
    """Puts switches in the place of the two methods that all others draw from.

    A check in Python for each call costs twice as much as the call. A switch is a C function that calls another one: the
    check until the generator has a seed, the C method from then on; so also one that was taken out of its generator
    earlier is fast and right. Generators that are made later, while a request is handled, have none: it would keep them
    alive until the next garbage collection.
    """
    attributes = vars(generator)
    for name, (checked, _) in _SWITCHED.items():
        # A method of the application's own is left alone; what it gets from `super()` is checked.
        if getattr(type(generator), name) is checked and name not in attributes:
            switch = attributes[name] = partial(checked, generator)
            vars(switch).update(__self__=generator, __name__=name, __doc__=checked.__doc__)
    _turn_switches(generator)


def _turn_switches(generator: random.Random) -> None:
    attributes = vars(generator)
    for name, (checked, unchecked) in _SWITCHED.items():
        switch = attributes.get(name)
        # Anything else was put there by the application.
        if type(switch) is partial and getattr(switch, "__self__", None) is generator:
            target = checked if attributes.get("_stale") else unchecked
            switch.__setstate__((target.__get__(generator), (), {}, vars(switch)))  # type: ignore[attr-defined]


def _refresh(generator: random.Random) -> None:
    """Takes a new seed from the system."""
    # First, so that a class of the application that draws from itself while it is seeded gets something.
    vars(generator)["_stale"] = False
    # As `Random.__init__` calls it: a class of the application may do more.
    generator.seed(None)


# --- The methods of `random.Random`, under their own names


@wraps(_MersenneTwister.random)
def _random(self: Any) -> float:
    if self._stale:
        _refresh(self)
    return _MersenneTwister.random(self)


@wraps(_MersenneTwister.getrandbits)
def _getrandbits(self: Any, k: int, /) -> int:
    if self._stale:
        _refresh(self)
    return _MersenneTwister.getrandbits(self, k)


@wraps(random.Random.seed)
def _seed(self: Any, a: Any = None, version: int = 2) -> None:
    _original_seed(self, a, version)
    _settle(self)
    if a is None:
        _unseeded[id(self)] = self
    else:
        _unseeded.pop(id(self), None)


@wraps(random.Random.getstate)
def _getstate(self: Any) -> tuple[Any, ...]:
    if self._stale:
        _refresh(self)
    state = _original_getstate(self)
    return _Unchosen(state) if id(self) in _unseeded else state


@wraps(random.Random.setstate)
def _setstate(self: Any, state: tuple[Any, ...]) -> None:
    _original_setstate(self, state)
    _settle(self)
    if isinstance(state, _Unchosen):
        _unseeded[id(self)] = self
    else:
        _unseeded.pop(id(self), None)


class _Unchosen(tuple[Any, ...]):
    """The state of a generator that nobody seeded: who takes it over, by `setstate`, a copy or a pickle, did not either."""

    __slots__ = ()


def _settle(generator: random.Random) -> None:
    """The generator has a state of its own from now on."""
    vars(generator).pop("_stale", None)
    _turn_switches(generator)


#: As the standard library has them.
_original_seed: Callable[..., None] = random.Random.seed
_original_getstate: Callable[..., tuple[Any, ...]] = random.Random.getstate
_original_setstate: Callable[..., None] = random.Random.setstate

#: The method that checks, and the one that does not.
_SWITCHED: dict[str, tuple[Any, Any]] = {
    "random": (_random, _MersenneTwister.random),
    "getrandbits": (_getrandbits, _MersenneTwister.getrandbits),
}

#: The generators whose seed came from the system, by their ids: a class of the application may not be hashable.
_unseeded: "WeakValueDictionary[int, random.Random]" = WeakValueDictionary()

#: With these, what `uuid1`, `uuid6` and `uuid7` make would follow on what they made before, where the clock is not ahead.
_UUID_STATE = ("_node", "_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7")
