"""How long does a Python application take from its process to its first response, and what does an idle instance cost?

Each start is a process of its own whose compiled artifact is in the cache. Memory is what belongs to the process alone
(`Private_Dirty` and `Private_Clean` of smaps_rollup are not enough: the images of instances are shared), read as `RssAnon`
of /proc/PID/status: once with few instances and once with many, divided by the difference.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import re
import statistics
import subprocess
import time
import urllib.request

from servers import describe_machine

TARGET = "/params/1/b"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--component", required=True)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 10, 100])
    arguments = parser.parse_args()
    print(describe_machine(), end="\n\n")
    cold_start(arguments)
    density(arguments)
    processes(arguments)


def cold_start(arguments: argparse.Namespace) -> None:
    stop(start(arguments)[0])  # fills the cache
    listening, answered = [], []
    for _ in range(arguments.starts):
        began = time.monotonic()
        process, url = start(arguments)
        listening.append(time.monotonic() - began)
        urllib.request.urlopen(url + TARGET, timeout=10).read()
        answered.append(time.monotonic() - began)
        stop(process)
    print("| from the start of the process to | median ms | min-max |")
    print("|---|---|---|")
    for name, times in (("its ready line", listening), ("the first response", answered)):
        print(f"| {name} | {statistics.median(times) * 1e3:.0f} | {min(times) * 1e3:.0f}-{max(times) * 1e3:.0f} |")
    print()


def density(arguments: argparse.Namespace) -> None:
    few, many = 1, 65
    measured = {count: memory_with(arguments, count) for count in (few, many)}
    print("| private memory of an idle instance | MiB |")
    print("|---|---|")
    for index, name in enumerate(("just used", "trimmed, 25 s later")):
        cost = (measured[many][index] - measured[few][index]) / (many - few)
        print(f"| {name} | {cost / 2**20:.2f} |")
    print()


def memory_with(arguments: argparse.Namespace, instances: int) -> tuple[int, int]:
    """Private memory after that many requests at once, and after the pool has shrunk."""
    process, url = start(arguments, "--instances", str(instances), "--stock", str(instances))
    with concurrent.futures.ThreadPoolExecutor(instances) as clients:
        # A slow request occupies an instance while the others come.
        list(clients.map(lambda _: urllib.request.urlopen(url + "/sleep/300", timeout=30).read(), range(instances)))
    time.sleep(0.5)
    used = private_bytes(process)
    time.sleep(25)
    trimmed = private_bytes(process)
    stop(process)
    return used, trimmed


def processes(arguments: argparse.Namespace) -> None:
    print("| applications, a process each | seconds until all have answered | MiB of private memory, all |")
    print("|---|---|---|")
    for count in arguments.processes:
        began = time.monotonic()
        started = [launch(arguments) for _ in range(count)]
        for process in started:
            urllib.request.urlopen(ready(process) + TARGET, timeout=60).read()
        seconds = time.monotonic() - began
        memory = sum(private_bytes(process) for process in started)
        for process in started:
            stop(process)
        print(f"| {count} | {seconds:.2f} | {memory / 2**20:.0f} |")


def start(arguments: argparse.Namespace, *flags: str) -> tuple[subprocess.Popen[str], str]:
    process = launch(arguments, *flags)
    return process, ready(process)


def launch(arguments: argparse.Namespace, *flags: str) -> subprocess.Popen[str]:
    common = ["--listen", "127.0.0.1:0", "--threads", "1", "--access-log", "false", "--log", "warn"]
    command = [arguments.host, "run", arguments.component, *common, *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().removeprefix("listening on ").strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(30)


def private_bytes(process: subprocess.Popen[str]) -> int:
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


if __name__ == "__main__":
    main()
