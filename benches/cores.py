"""Does a request cost more processor time when all cores serve in one process than when one does?

The load generator needs processors too, so it shares them; what is compared is only what the kernel charged to the threads
of the server, divided by the requests that it answered. Both servers are up all the time and take turns.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import signal
import statistics
import subprocess
import time
import urllib.request

TARGET = "/users/42"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--component", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{len(cores)} cores, {arguments.rounds} rounds of {arguments.seconds} s in turn; medians.\n")
    print("| isolation | CPU us/request, one core | all cores | ratio |")
    print("|---|---|---|---|")
    for isolation in ("fresh", "shared", "reuse"):
        servers = [Server(arguments, isolation, [cores[0]]), Server(arguments, isolation, cores)]
        for number in range(arguments.rounds + 1):
            for server in servers:
                cost = server.measure(arguments.seconds)
                if number:  # the first round is to warm up
                    server.costs.append(cost)
        one, several = (statistics.median(server.costs) for server in servers)
        print(f"| {isolation} | {one:.0f} | {several:.0f} | {several / one:.2f} |", flush=True)
        for server in servers:
            server.stop()


class Server:
    def __init__(self, arguments: argparse.Namespace, isolation: str, cores: list[int]) -> None:
        self.cores = cores
        self.costs: list[float] = []
        command = [arguments.host, "run", arguments.component, "--listen", "127.0.0.1:0", "--threads", str(len(cores))]
        command += ["--isolation", isolation, "--access-log", "false", "--log", "warn"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
        )
        found = re.search(r"http://[\d.:]+", self.process.stdout.readline())
        if found is None:
            raise SystemExit("the server did not start")
        self.url = found[0] + TARGET
        urllib.request.urlopen(self.url, timeout=10).read()
        self.process.send_signal(signal.SIGSTOP)

    def measure(self, seconds: int) -> float:
        """Processor time per request in microseconds."""
        self.process.send_signal(signal.SIGCONT)
        before = self.cpu()
        load = subprocess.run(
            ["wrk", f"-t{len(self.cores)}", "-c32", f"-d{seconds}s", self.url], capture_output=True, text=True, check=True
        )
        time.sleep(0.05)
        used = self.cpu() - before
        self.process.send_signal(signal.SIGSTOP)
        if "Non-2xx" in load.stdout:
            raise SystemExit(load.stdout)
        return used / int(re.search(r"(\d+) requests in", load.stdout)[1]) * 1e6

    def cpu(self) -> float:
        """Seconds of all its threads."""
        files = glob.glob(f"/proc/{self.process.pid}/task/*/schedstat")
        return sum(int(open(file).read().split()[0]) for file in files) / 1e9

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(20)


if __name__ == "__main__":
    main()
