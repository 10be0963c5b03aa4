"""Answers of the service to clients that keep their connections, while its process is stopped again and again.

    python benchmarks/paused_service.py --minutes 10
    python benchmarks/paused_service.py --minutes 0.5 --clients 10

As a laptop that is closed or a virtual machine that is moved does it: the process is stopped (SIGSTOP) for 5.3 s,
longer than a web server keeps an idle connection, goes on for 3 s, and so on. Promised: no connection is closed on a
client for that, and every request is answered with 200. Exit code 1 where that is not kept. Needs SIGSTOP (no Windows).
"""

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from service_process import picture, running_service, small_model

_RUNS_SECONDS = 3.0
_THINKS_SECONDS = 0.2
"""Between the requests of a client: its connection lies idle as the process is stopped."""


@dataclass
class Answers:
    """What the clients met."""

    statuses: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """Errors of requests without an answer."""
    longest_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float, status: int | None, error: str = "") -> None:
        with self.lock:
            self.longest_seconds = max(self.longest_seconds, seconds)
            if status is None:
                self.lost.append(error)
            else:
                self.statuses[status] += 1


def ask(url: str, number: int, ends: threading.Event, answers: Answers) -> None:
    """Sends one request after the other on one connection."""
    content = picture(number)
    with httpx.Client(base_url=url, timeout=120) as session:
        while not ends.wait(_THINKS_SECONDS):
            start = time.monotonic()
            try:
                answer = session.post("/v1/predict", files=[("images", ("cell.png", content, "image/png"))])
                answers.add(time.monotonic() - start, answer.status_code)
            except httpx.HTTPError as error:
                answers.add(time.monotonic() - start, None, f"{type(error).__name__}: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="bundle or ONNX export; fitted to drawn cells if left out")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--stopped-seconds", type=float, default=5.3)
    parser.add_argument("--quick", action="store_true", help="half a minute")
    options = parser.parse_args()
    answers, ends, num_pauses = Answers(), threading.Event(), 0
    with tempfile.TemporaryDirectory(prefix="paused-service-") as name:
        model = options.model or small_model(Path(name))
        with running_service(model) as service:
            clients = [
                threading.Thread(target=ask, args=(service.url, number, ends, answers), daemon=True)
                for number in range(options.clients)
            ]
            for client in clients:
                client.start()
            until = time.monotonic() + (30 if options.quick else 60 * options.minutes)
            while time.monotonic() < until:
                time.sleep(_RUNS_SECONDS)
                service.process.send_signal(signal.SIGSTOP)
                time.sleep(options.stopped_seconds)
                service.process.send_signal(signal.SIGCONT)
                num_pauses += 1
            ends.set()
            for client in clients:
                client.join()
    refused = {status: number for status, number in answers.statuses.items() if status != 200}
    print("| clients | pauses | answers | refused | lost | longest, s | kept |")
    print("| --- " * 7 + "|")
    is_kept = answers.statuses[200] > 0 and not refused and not answers.lost
    print(
        f"| {options.clients} | {num_pauses} of {options.stopped_seconds:g} s | {answers.statuses[200]:,} | "
        f"{refused or 0} | {len(answers.lost)} | {answers.longest_seconds:.1f} | {'yes' if is_kept else 'NO'} |"
    )
    for error, number in Counter(answers.lost).items():
        print(f"  lost {number}: {error}")
    sys.exit(not is_kept)


if __name__ == "__main__":
    main()
