"""What the fuzz targets share: how libFuzzer is started, and inputs that are put together of tokens."""

import random
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import atheris

# What of covet the targets need is instrumented as it is imported here.
with atheris.instrument_imports(include=["covet"]):
    from covet import HTTPException
    from covet import datastructures as datastructures
    from covet import forms as forms
    from covet import requests as requests

Result = TypeVar("Result")


def fuzz(check: Callable[[bytes], None], tokens: Sequence[bytes]) -> None:
    """Calls `check` with inputs until libFuzzer's time is over. Any exception is a finding."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        # Bytes alone hardly ever become a boundary that is complete.
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return atheris.Mutate(data, max_size)
        start = chance.randint(0, len(data))
        end = chance.choice((start, min(len(data), start + chance.randint(0, 40))))
        return (data[:start] + chance.choice(tokens) * chance.choice((1, 1, 1, 2, 50)) + data[end:])[:max_size]

    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()


def outcome(read: Callable[[], Result]) -> Result | tuple[int, str]:
    """What was read, or the status and the words of the refusal, which must be the client's fault."""
    try:
        return read()
    except HTTPException as error:
        if error.status_code not in (400, 413):
            raise
        return error.status_code, error.detail
