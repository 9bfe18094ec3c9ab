"""Does a request cost more processor time when all cores serve in one process than when one does?

The load generator needs processors too, so it shares them; what is compared is only what the kernel charged to the threads
of the server, divided by the requests that it answered. Both servers are up all the time and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics

from servers import Server, covet, describe_machine, load, started

TARGET = "/users/42"
CONNECTIONS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", required=True, help="the covet-host binary")
    parser.add_argument("--component", required=True, help="benches/app, built")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load per round and server")
    arguments = parser.parse_args()
    cores = frozenset(os.sched_getaffinity(0))
    print(f"{describe_machine()}; {arguments.rounds} rounds of {arguments.seconds} s in turn; medians.\n")
    print("| isolation | CPU us/request, one core | all cores | ratio |")
    print("|---|---|---|---|")
    for isolation in ("fresh", "shared", "reuse"):
        one, several = compare(isolation, [frozenset({min(cores)}), cores], arguments)
        print(f"| {isolation} | {one:.0f} | {several:.0f} | {several / one:.2f} |", flush=True)


def compare(isolation: str, cpus: list[frozenset[int]], arguments: argparse.Namespace) -> list[float]:
    """The median cost of a request of a server on each set of processors."""

    def make(cpus: frozenset[int]) -> Server:
        name = f"covet-host, {isolation}, {len(cpus)} cores"
        return covet(name, arguments.host, arguments.component, isolation, TARGET, cpus)

    servers = [make(cpus) for cpus in cpus]
    costs: list[list[float]] = [[] for _ in servers]
    with contextlib.ExitStack() as running:
        for server in servers:
            running.enter_context(started(server))
        for server in servers:
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
        for number in range(arguments.rounds + 1):
            for server, own in zip(servers, costs, strict=True):
                sample = load(server, TARGET, arguments.seconds, CONNECTIONS, server.cpus)
                if number:  # the first round warms everything up
                    own.append(sample.cpu_us)
    return [statistics.median(own) for own in costs]


if __name__ == "__main__":
    main()
