"""Runs a command, and writes what it took as JSON: LOG and COST are files, the rest is the command.

A small process on purpose: a process that is started by another begins with that one's peak of memory (getrusage(2)).
"""

import json
import os
import subprocess
import sys
import time


def main(log: str, cost: str, *command: str) -> None:
    started = time.perf_counter()
    with open(log, "wb") as output:  # noqa: PTH123  (pathlib is left out: this process is to stay small)
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = {
        "code": process.returncode,
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }
    with open(cost, "w") as file:  # noqa: PTH123
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
