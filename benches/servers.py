"""What the benches that send load to servers have in common: starting one, loading it, and reading its processor time.

CPU is what the kernel charged to the threads of the server's process (/proc/PID/task/*/schedstat).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Sample", "Server", "covet", "describe_machine", "free_port", "load", "started"]


@dataclass
class Server:
    """A server to measure: its name in the table, how it is started, and which processors it may use."""

    name: str
    command: list[str]
    port: int
    #: What it answers as soon as it is there.
    target: str
    cpus: frozenset[int]
    process: subprocess.Popen[bytes] | None = None

    def url(self, target: str) -> str:
        return f"http://127.0.0.1:{self.port}{target}"


@dataclass
class Sample:
    """One round: CPU microseconds per request and requests per second."""

    cpu_us: float
    rate: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def covet(name: str, host: str, component: str, isolation: str, target: str, cpus: frozenset[int]) -> Server:
    port = free_port()
    command = [host, "run", component, "--listen", f"127.0.0.1:{port}", "--threads", str(len(cpus))]
    command += ["--isolation", isolation, "--access-log", "false", "--log", "warn"]
    return Server(name, command, port, target, cpus)


@contextlib.contextmanager
def started(server: Server) -> Iterator[None]:
    def pin() -> None:
        os.sched_setaffinity(0, server.cpus)

    # `wasmtime serve` complains of each connection that ends.
    errors = None if server.name.startswith("covet") else subprocess.DEVNULL
    server.process = subprocess.Popen(server.command, preexec_fn=pin, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(server.url(server.target), timeout=5).read()
                break
            except OSError:
                if server.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{server.name} did not start: {' '.join(server.command)}") from None
                time.sleep(0.1)
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.process.send_signal(signal.SIGTERM)
        try:
            server.process.wait(10)
        except subprocess.TimeoutExpired:
            server.process.kill()


def load(
    server: Server, target: str, seconds: int, connections: int, cpus: frozenset[int], script: str | None = None
) -> Sample:
    """Sends requests from these processors, with a thread on each. The server is stopped before and after.

    `script` is one of wrk's, for requests that are no plain GET.
    """
    assert server.process is not None
    # The others are stopped meanwhile: an idle server still has timers, which would interrupt the one that is measured.
    server.process.send_signal(signal.SIGCONT)
    before = cpu_seconds(server.process.pid)
    wrk = ["taskset", "-c", ",".join(map(str, sorted(cpus))), "wrk", f"-t{len(cpus)}"]
    wrk += [f"-c{connections}", f"-d{seconds}s", *(["-s", script] if script else []), server.url(target)]
    output = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(server.process.pid) - before
    server.process.send_signal(signal.SIGSTOP)
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{server.name} {target}: not every request was answered with 200\n{output}")
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])  # type: ignore[index]
    return Sample(spent / requests * 1e6, rate)


def cpu_seconds(process: int) -> float:
    total = 0
    for stat in pathlib.Path(f"/proc/{process}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(stat.read_text().split()[0])
    return total / 1e9


def describe_machine() -> str:
    model = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    return f"{datetime.date.today()}, {name}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"
