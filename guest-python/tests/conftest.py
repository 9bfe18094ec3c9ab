"""The stand-ins of a component's surroundings come first: covet looks for them when it is imported."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import simulator
from hypothesis.configuration import set_hypothesis_home_dir

simulator.install()
# The same examples in every run; --hypothesis-seed looks for others.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "covet-hypothesis")


@pytest.fixture(autouse=True)
def applications_are_forgotten() -> Iterator[None]:
    """Every test may have a `main` of its own: what one has imported from a project is not there in the next."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("main", "app", "inner", "package"):
            del sys.modules[name]


@pytest.fixture
def serve() -> Iterator[Callable[..., simulator.Instance]]:
    """Puts an application behind its exports; at the end of the test no handle may be left."""
    instances: list[simulator.Instance] = []

    def serve(app: Any, startup: bool = True) -> simulator.Instance:
        instances.append(simulator.Instance(app, startup))
        return instances[-1]

    yield serve
    for instance in instances:
        if all(task.ended for task in instance.host.tasks):
            assert instance.host.leftovers() == []
