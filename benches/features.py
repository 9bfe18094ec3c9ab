"""What the framework costs in a warm instance: CPU time per request by feature, beside a guest without a framework, FastAPI
in a guest, and FastAPI with uvicorn natively.

All servers are up at the same time, and take turns, route by route. The isolation is `reuse`, so that what is measured is
the warm call; the server has one processor and the load another. `raw` is a guest whose handler returns a record that was
made before: host, call and event loop, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import pathlib
import signal
import statistics
import sys

from servers import Server, covet, describe_machine, free_port, load, started

HERE = pathlib.Path(__file__).parent
SERVER_CPU, LOAD_CPU = frozenset({0}), frozenset({1})
FIRST = "/users/42"
POST = str(HERE / "framework" / "post.lua")

#: What is measured: a name, a target, and the script of wrk that sends a body, if there is one.
FEATURES: dict[str, tuple[str, str | None]] = {
    "typed path parameter": ("/users/42", None),
    "`async def`": ("/async/42", None),
    "`Request`": ("/request/42", None),
    "a dependency that reads a header": ("/dependency/42", None),
    "a dependency with `yield`": ("/yield/42", None),
    "one middleware": ("/middleware1/42", None),
    "three middleware": ("/middleware3/42", None),
    "model as body": ("/items", POST),
    "model as body and as result": ("/items/model", POST),
}
#: Which of them each kind of server has.
BODIES = ["typed path parameter", "model as body", "model as body and as result"]
LIKE_FASTAPI = ["typed path parameter", "`Request`", "a dependency that reads a header", "a dependency with `yield`", *BODIES[1:]]


def main() -> None:
    arguments = parse_arguments()
    guest = lambda name, component: covet(name, arguments.host, component, "reuse", FIRST, SERVER_CPU)  # noqa: E731
    servers = {
        "raw": (guest("raw", arguments.raw), ["typed path parameter"]),
        "covet": (guest("covet", arguments.covet), list(FEATURES)),
        "covet, pydantic": (guest("covet, pydantic", arguments.pydantic), BODIES),
        "FastAPI in the guest": (guest("FastAPI in the guest", arguments.fastapi), LIKE_FASTAPI),
        "FastAPI + uvicorn": (native(arguments.rival), LIKE_FASTAPI),
    }
    samples: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as running:
        for server, _ in servers.values():
            running.enter_context(started(server))
        for server, _ in servers.values():
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
        for number in range(arguments.rounds + 1):
            for feature, (target, script) in FEATURES.items():
                for name, (server, features) in servers.items():
                    if feature in features:
                        seconds = arguments.seconds if number else 1
                        sample = load(server, target, seconds, arguments.connections, LOAD_CPU, script)
                        if number:  # the first round warms everything up
                            samples.setdefault((feature, name), []).append(sample.cpu_us)
            print(f"round {number} of {arguments.rounds} done", file=sys.stderr)
    table = render(list(servers), samples, arguments)
    print(table)
    if arguments.record:
        path = HERE / "results" / f"{datetime.date.today()}-features.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(table + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="the covet-host binary")
    parser.add_argument("--raw", required=True, help="benches/framework/raw.py, built")
    parser.add_argument("--covet", required=True, help="benches/framework/main.py, built")
    parser.add_argument("--pydantic", required=True, help="benches/framework/covet_pydantic.py, built")
    parser.add_argument("--fastapi", required=True, help="benches/framework/fastapi_app.py, built")
    parser.add_argument("--rival", required=True, help="a Python that has FastAPI and uvicorn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of load per round, feature and server")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--record", action="store_true", help="keep the table in benches/results/")
    return parser.parse_args()


def native(python: str) -> Server:
    port = free_port()
    command = [python, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--app-dir", str(HERE / "framework")]
    command += ["--no-access-log", "--log-level", "warning"]
    return Server("FastAPI + uvicorn", command, port, FIRST, SERVER_CPU)


def render(names: list[str], samples: dict[tuple[str, str], list[float]], arguments: argparse.Namespace) -> str:
    lines = [
        f"{describe_machine()}; CPU us per request, {arguments.rounds} rounds of {arguments.seconds} s in turn, medians.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    for feature in FEATURES:
        found = [samples.get((feature, name)) for name in names]
        lines.append(f"| {feature} | {' | '.join(f'{statistics.median(one):.0f}' if one else '' for one in found)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
