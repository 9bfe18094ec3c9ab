"""Retries, logs, caches, passwords, command lines, and a client of a server."""

from typing import Any

import click
import redis
import redis.asyncio
import structlog
import tenacity
from cachetools import TTLCache, cached
from click.testing import CliRunner
from passlib.context import CryptContext
from passlib.handlers import pbkdf2, sha2_crypt  # noqa: F401  # found by the names of schemes
from redis.backoff import NoBackoff
from redis.retry import Retry

from covet import APIRouter

from .errors import error_of

router = APIRouter()


@router.get("/tenacity")
async def use_tenacity() -> Any:
    calls: list[str] = []

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(0.01))
    async def flaky() -> int:
        calls.append("async")
        if len(calls) < 3:
            raise ValueError
        return len(calls)

    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(0.01))
    def broken() -> None:
        calls.append("plain")
        raise ValueError

    return {"done": await flaky(), "error": (await error_of(broken)).partition(":")[0], "calls": calls}


structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()])


@router.get("/structlog")
def use_structlog() -> Any:
    logger = structlog.get_logger().bind(request=1)
    logger.info("for the log of the host")
    with structlog.testing.capture_logs() as entries:
        logger.warning("captured")
    return entries


@router.get("/cachetools")
def use_cachetools() -> Any:
    calls = []

    @cached(TTLCache(10, ttl=60))
    def square(number: int) -> int:
        calls.append(number)
        return number * number

    return [square(2), square(2), square(3), calls]


@router.get("/passlib")
async def use_passlib() -> Any:
    context = CryptContext(schemes=["pbkdf2_sha256", "sha512_crypt"], pbkdf2_sha256__rounds=10, sha512_crypt__rounds=1000)
    hashed = context.hash("secret")
    old = context.hash("secret", scheme="sha512_crypt")
    return {
        "pbkdf2": [context.verify("secret", hashed), context.verify("wrong", hashed)],
        "sha512": [context.verify("secret", old), context.needs_update(old)],
    }


@click.command()
@click.option("--count", default=1, type=click.IntRange(1, 3))
@click.argument("name")
def greet(count: int, name: str) -> None:
    click.echo(f"Hello {name}! " * count)


@router.get("/click")
def use_click() -> Any:
    context = greet.make_context("greet", ["--count", "2", "Ada"])
    run = CliRunner().invoke(greet, ["--count", "2", "Ada"])
    return {"parameters": context.params, "run": [run.exit_code, run.output]}


@router.get("/redis")
async def use_redis() -> Any:
    once = Retry(NoBackoff(), 0)
    return {
        "Redis": await error_of(lambda: redis.Redis("127.0.0.1", retry=once).get("a")),
        "asyncio.Redis": await error_of(lambda: redis.asyncio.Redis(host="127.0.0.1", retry=once).get("a")),
    }
