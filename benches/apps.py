"""What does a request cost in CPU: covet-host against FastAPI + uvicorn, the same three routes, in one run?

One processor serves, the other sends the load (wrk, keep-alive). The servers take turns, round after round, so that a
machine whose speed drifts slows all of them; figures are medians over the rounds. CPU is what the kernel charged to the
threads of the server process (/proc/PID/task/*/schedstat).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).parent
ROUTES = {
    "/plaintext": "/plaintext",
    "/users/{user_id}": "/users/42",
    "/search": "/search?q=hello&limit=10&offset=20",
}
SERVER_CPU, LOAD_CPU = 0, 1


@dataclass
class Server:
    """A server to measure: its name in the table, how it is started, and what it needs per route."""

    name: str
    command: list[str]
    port: int
    routes: list[str] = field(default_factory=lambda: list(ROUTES))
    process: subprocess.Popen[bytes] | None = None

    def url(self, target: str) -> str:
        return f"http://127.0.0.1:{self.port}{target}"


@dataclass
class Sample:
    """One round: CPU microseconds per request and requests per second."""

    cpu_us: float
    rate: float


def main() -> None:
    arguments = parse_arguments()
    servers = [
        covet("covet-host, fresh", arguments, "fresh"),
        covet("covet-host, shared", arguments, "shared"),
        covet("covet-host, reuse", arguments, "reuse"),
        fastapi(arguments),
    ]
    if arguments.wasmtime:
        servers += [wasmtime(arguments, "reused", []), wasmtime(arguments, "fresh", ["--max-instance-reuse-count=1"])]
    with contextlib.ExitStack() as running:
        for server in servers:
            running.enter_context(started(server))
        check_same_answers(servers)
        for server in servers:
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
        samples = measure(servers, arguments)
    table = render(servers, samples, arguments)
    print(table)
    if arguments.record:
        record(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="the covet-host binary")
    parser.add_argument("--component", required=True, help="benches/app, built")
    parser.add_argument("--rival", required=True, help="a Python that has FastAPI and uvicorn")
    parser.add_argument("--wasmtime", help="a wasmtime 48 command, to measure `wasmtime serve` too (needs --wasi-http)")
    parser.add_argument("--wasi-http", help="a component for wasi:http that answers /plaintext")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load per round, route and server")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--record", action="store_true", help="keep the table in benches/results/")
    return parser.parse_args()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def covet(name: str, arguments: argparse.Namespace, isolation: str) -> Server:
    port = free_port()
    command = [arguments.host, "run", arguments.component, "--listen", f"127.0.0.1:{port}", "--threads", "1"]
    return Server(name, [*command, "--isolation", isolation, "--access-log", "false", "--log", "warn"], port)


def fastapi(arguments: argparse.Namespace) -> Server:
    port = free_port()
    command = [arguments.rival, "-m", "uvicorn", "rival:app", "--port", str(port), "--app-dir", str(HERE)]
    return Server("FastAPI + uvicorn", [*command, "--no-access-log", "--log-level", "warning"], port)


def wasmtime(arguments: argparse.Namespace, kind: str, flags: list[str]) -> Server:
    port = free_port()
    command = [arguments.wasmtime, "serve", "-Scli", "--addr", f"127.0.0.1:{port}", *flags, arguments.wasi_http]
    return Server(f"wasmtime serve, {kind} (untyped hello)", command, port, ["/plaintext"])


@contextlib.contextmanager
def started(server: Server) -> Iterator[None]:
    def pin() -> None:
        os.sched_setaffinity(0, {SERVER_CPU})

    # `wasmtime serve` complains of each connection that ends.
    errors = None if server.name.startswith("covet") else subprocess.DEVNULL
    server.process = subprocess.Popen(server.command, preexec_fn=pin, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(server.url(ROUTES[server.routes[0]]), timeout=5).read()
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


def check_same_answers(servers: list[Server]) -> None:
    """A comparison of servers that answer differently would mean nothing."""
    for name, target in ROUTES.items():
        answers = {}
        for server in servers:
            if name in server.routes and len(server.routes) == len(ROUTES):
                body = urllib.request.urlopen(server.url(target), timeout=10).read()
                answers[server.name] = body if name == "/plaintext" else json.loads(body)
        first = next(iter(answers.values()))
        if any(answer != first for answer in answers.values()):
            raise SystemExit(f"{name}: the servers answer differently: {answers}")


def measure(servers: list[Server], arguments: argparse.Namespace) -> dict[tuple[str, str], list[Sample]]:
    samples: dict[tuple[str, str], list[Sample]] = {}
    for round_number in range(arguments.rounds + 1):
        for name, target in ROUTES.items():
            for server in servers:
                if name not in server.routes:
                    continue
                seconds = arguments.seconds if round_number else 1
                sample = load(server, target, seconds, arguments.connections)
                if round_number:  # the first round warms everything up
                    samples.setdefault((name, server.name), []).append(sample)
        print(f"round {round_number} of {arguments.rounds} done", file=sys.stderr)
    return samples


def load(server: Server, target: str, seconds: int, connections: int) -> Sample:
    assert server.process is not None
    # The others are stopped meanwhile: an idle server still has timers, which would interrupt the one that is measured.
    server.process.send_signal(signal.SIGCONT)
    before = cpu_seconds(server.process.pid)
    wrk = ["taskset", "-c", str(LOAD_CPU), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", server.url(target)]
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


def render(
    servers: list[Server], samples: dict[tuple[str, str], list[Sample]], arguments: argparse.Namespace
) -> str:
    lines = [
        f"{describe_machine()}; {arguments.rounds} rounds of {arguments.seconds} s in turn, "
        f"{arguments.connections} connections, one server core; medians.",
        "",
        "| route | server | CPU us/request | min-max | requests/s | CPU ratio to FastAPI + uvicorn |",
        "|---|---|---|---|---|---|",
    ]
    for name in ROUTES:
        base = statistics.median(sample.cpu_us for sample in samples[name, "FastAPI + uvicorn"])
        for server in servers:
            if (name, server.name) not in samples:
                continue
            cpu = [sample.cpu_us for sample in samples[name, server.name]]
            rate = statistics.median(sample.rate for sample in samples[name, server.name])
            median = statistics.median(cpu)
            lines.append(
                f"| `{name}` | {server.name} | {median:.0f} | {min(cpu):.0f}-{max(cpu):.0f} "
                f"| {rate:,.0f} | {median / base:.2f} |"
            )
    return "\n".join(lines)


def describe_machine() -> str:
    model = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    name = model[1] if model else platform.machine()
    return f"{datetime.date.today()}, {name}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"


def record(table: str) -> None:
    path = HERE / "results" / f"{datetime.date.today()}-apps.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# make bench BENCH_FLAGS=--record\n\n{table}\n")
    print(f"recorded in {path.relative_to(HERE.parent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
