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
import pathlib
import signal
import statistics
import sys
import urllib.request

from servers import Sample, Server, covet, describe_machine, free_port, load, started

HERE = pathlib.Path(__file__).parent
ROUTES = {
    "/plaintext": "/plaintext",
    "/users/{user_id}": "/users/42",
    "/search": "/search?q=hello&limit=10&offset=20",
}
SERVER_CPU, LOAD_CPU = frozenset({0}), frozenset({1})
#: This one only says hello.
WASMTIME = "wasmtime serve"
#: What every server answers.
FIRST = "/plaintext"


def main() -> None:
    arguments = parse_arguments()
    servers = [
        covet("covet-host, fresh", arguments.host, arguments.component, "fresh", FIRST, SERVER_CPU),
        covet("covet-host, shared", arguments.host, arguments.component, "shared", FIRST, SERVER_CPU),
        covet("covet-host, reuse", arguments.host, arguments.component, "reuse", FIRST, SERVER_CPU),
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


def fastapi(arguments: argparse.Namespace) -> Server:
    port = free_port()
    command = [arguments.rival, "-m", "uvicorn", "rival:app", "--port", str(port), "--app-dir", str(HERE)]
    command += ["--no-access-log", "--log-level", "warning"]
    return Server("FastAPI + uvicorn", command, port, FIRST, SERVER_CPU)


def wasmtime(arguments: argparse.Namespace, kind: str, flags: list[str]) -> Server:
    port = free_port()
    command = [arguments.wasmtime, "serve", "-Scli", "--addr", f"127.0.0.1:{port}", *flags, arguments.wasi_http]
    return Server(f"{WASMTIME}, {kind} (untyped hello)", command, port, FIRST, SERVER_CPU)


def routes_of(server: Server) -> list[str]:
    return [FIRST] if server.name.startswith(WASMTIME) else list(ROUTES)


def check_same_answers(servers: list[Server]) -> None:
    """A comparison of servers that answer differently would mean nothing."""
    for name, target in ROUTES.items():
        answers = {}
        for server in servers:
            if len(routes_of(server)) == len(ROUTES):
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
                if name not in routes_of(server):
                    continue
                seconds = arguments.seconds if round_number else 1
                sample = load(server, target, seconds, arguments.connections, LOAD_CPU)
                if round_number:  # the first round warms everything up
                    samples.setdefault((name, server.name), []).append(sample)
        print(f"round {round_number} of {arguments.rounds} done", file=sys.stderr)
    return samples


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


def record(table: str) -> None:
    path = HERE / "results" / f"{datetime.date.today()}-apps.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# make bench BENCH_FLAGS=--record\n\n{table}\n")
    print(f"recorded in {path.relative_to(HERE.parent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
