"""A FastAPI application in components under covet-host: the checks of tests/compat/check_guest.py in every isolation."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

TESTS = Path(__file__).parents[2] / "tests"


def load_checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_guest", TESTS / "compat" / "check_guest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["fresh", "reuse", "shared"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client(covet_host, isolation) -> Iterator[httpx.Client]:
    project = TESTS / "guests" / "python" / "fastapi-tutorial"
    with covet_host("app:app", project=project, isolation=isolation, follow_redirects=False, timeout=30) as client:
        yield client


@pytest.mark.build
@pytest.mark.host
@pytest.mark.parametrize("check", load_checks().checks, ids=lambda check: check.__name__)
def test_fastapi_in_the_guest(client, isolation, check):
    check(client, isolation)
