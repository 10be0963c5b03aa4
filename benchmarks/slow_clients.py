"""Answers of the service to normal requests while slow clients hold as many connections as they can.

    python benchmarks/slow_clients.py --sockets 2000
    python benchmarks/slow_clients.py --sockets 300 --seconds 8 --quick

Half of the sockets send half a header, half of them half a body, and one in forty asks for pages and does not read
them; those that are closed come again, 100 a second. They come from one address, from sixteen of 127.0.0.x, or from
one that may hold all connections (a proxy); with a token and without. Promised: every normal request is answered with
200 in under 2 s, and neither memory nor handles grow with the number of sockets that came. Exit code 1 where that is
not kept.
"""

import argparse
import multiprocessing
import os
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from service_process import Service, allow_open_files, picture, running_service, small_model

LIMIT_SECONDS = 2.0
TOKEN = "benchmark-0123456789abcdef"
_COME_PER_SECOND = 250
"""At the beginning; the service takes a third of a millisecond of a CPU for each, and more for those that get pages."""
_AGAIN_PER_SECOND = 100
_PAUSE_SECONDS = 0.05
_GROWTH_MB = 40.0
"""Of memory between the middle and the end of the siege."""
_HOST = b"Host: 127.0.0.1\r\n"
_HALF_HEADER = b"POST /v1/predict HTTP/1.1\r\n" + _HOST + b"X-a: "
_HALF_BODY = (
    b"POST /v1/predict HTTP/1.1\r\n"
    + _HOST
    + b"Authorization: Bearer "
    + TOKEN.encode()
    + b"\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
)
_UNREAD = 20 * (b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n")
"""More than the system's buffers take where the client has small ones: then the service holds the rest."""
WAYS = (*(_HALF_HEADER, _HALF_BODY) * 20, _UNREAD)
"""Few of the last: twenty requests on each of hundreds of connections are no slow clients but a flood."""


@dataclass(frozen=True, kw_only=True)
class Siege:
    """Answers of one setting."""

    name: str
    seconds: list[float]
    refusals: Counter[int]
    """Answers other than 200 by status; 0 is a connection that was closed."""
    num_came: int
    cpu_seconds: float
    """Of the service; to tell its work from a machine on which others work."""
    rss_mb: tuple[float, float, float]
    """Before, in the middle, at the end."""
    num_handles: tuple[int, int, int]

    @property
    def is_kept(self) -> bool:
        is_flat = self.rss_mb[2] - self.rss_mb[1] < _GROWTH_MB
        return bool(self.seconds) and not self.refusals and max(self.seconds) < LIMIT_SECONDS and is_flat


class _Besiegers:
    """Slow clients of one process."""

    def __init__(self, address: tuple[str, int], num_addresses: int) -> None:
        self._address, self._num_addresses = address, num_addresses
        self._poll = select.poll()
        self._open: dict[int, socket.socket] = {}
        self.num_came = 0

    def __len__(self) -> int:
        return len(self._open)

    def come(self) -> None:
        """Opens one more; nothing where the service's queue is full for the moment."""
        opened = socket.socket()
        way = self.num_came % len(WAYS)
        if WAYS[way] is _UNREAD:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(5)
        try:
            opened.bind((f"127.0.0.{2 + self.num_came % self._num_addresses}", 0))
            opened.connect(self._address)
            opened.send(WAYS[way])
        except OSError:
            opened.close()
            return
        self.num_came += 1
        self._open[opened.fileno()] = opened
        events = select.POLLRDHUP | select.POLLHUP | select.POLLERR
        self._poll.register(opened, events if WAYS[way] is _UNREAD else events | select.POLLIN)

    def let_go(self) -> None:
        """Closes those that the service has answered or closed."""
        for number, _ in self._poll.poll(0):
            self._poll.unregister(number)
            self._open.pop(number).close()


def besiege(address: tuple[str, int], num_sockets: int, num_addresses: int, ends: Event, came: Any) -> None:
    allow_open_files(num_sockets + 200)
    besiegers = _Besiegers(address, num_addresses)
    begin = time.monotonic()
    for number in range(num_sockets):
        besiegers.come()
        time.sleep(max(0.0, begin + number / _COME_PER_SECOND - time.monotonic()))
    came.value = besiegers.num_came
    while not ends.is_set():
        besiegers.let_go()
        for _ in range(min(num_sockets - len(besiegers), round(_AGAIN_PER_SECOND * _PAUSE_SECONDS))):
            besiegers.come()
        came.value = besiegers.num_came
        ends.wait(_PAUSE_SECONDS)


def hold(service: Service, name: str, num_sockets: int, num_addresses: int, seconds: float) -> Siege:
    """Asks one request after the other, each on a connection of its own, while slow clients come."""
    content, headers = picture(0), {"Authorization": f"Bearer {TOKEN}"}

    def ask() -> tuple[float, int]:
        start = time.perf_counter()
        try:
            files = [("images", ("cell.png", content, "image/png"))]
            status = httpx.post(f"{service.url}/v1/predict", files=files, headers=headers, timeout=30).status_code
        except httpx.HTTPError:
            status = 0
        return time.perf_counter() - start, status

    for _ in range(20):
        ask()
    states, cpu_before = [(service.rss_mb(), service.num_handles())], service.cpu_seconds()
    context = multiprocessing.get_context("fork")
    ends, came = context.Event(), context.Value("i", 0)
    besieging = context.Process(target=besiege, args=(service.address, num_sockets, num_addresses, ends, came))
    besieging.start()
    answers, begin = [], time.monotonic()
    while (passed := time.monotonic() - begin) < seconds or came.value < num_sockets:
        answers.append(ask())
        if len(states) == 1 and passed > seconds / 2:
            states.append((service.rss_mb(), service.num_handles()))
        if passed > 10 * seconds:
            sys.exit(f"Only {came.value:,} of {num_sockets:,} sockets could be opened.")
        time.sleep(0.02)
    states = [*states[:2], (service.rss_mb(), service.num_handles())]
    cpu_seconds = service.cpu_seconds() - cpu_before
    ends.set()
    besieging.join(30)
    return Siege(
        name=name,
        seconds=[one for one, _ in answers],
        refusals=Counter(status for _, status in answers if status != 200),
        num_came=came.value,
        cpu_seconds=cpu_seconds,
        rss_mb=(states[0][0], states[1][0], states[-1][0]),
        num_handles=(states[0][1], states[1][1], states[-1][1]),
    )


def line(siege: Siege) -> str:
    p50, p99 = np.percentile(siege.seconds, (50, 99))
    memory = " > ".join(f"{one:.0f}" for one in siege.rss_mb)
    handles = " > ".join(map(str, siege.num_handles))
    return (
        f"| {siege.name} | {siege.num_came:,} | {len(siege.seconds)} | {dict(siege.refusals) or 0} | {p50:.2f} | "
        f"{p99:.2f} | {max(siege.seconds):.2f} | {siege.cpu_seconds:.1f} | {memory} | {handles} | "
        f"{'yes' if siege.is_kept else 'NO'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="bundle or ONNX export; fitted to drawn cells if left out")
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30, help="of each siege")
    parser.add_argument("--quick", action="store_true", help="one siege: several addresses, no token")
    options = parser.parse_args()
    allow_open_files(options.sockets + 200)
    print("| slow clients | came | requests | refused | p50, s | p99, s | max, s | CPU, s | RSS, MB | handles | kept |")
    print("| --- " * 11 + "|")
    is_kept = True
    with tempfile.TemporaryDirectory(prefix="slow-clients-") as name:
        model = options.model or small_model(Path(name))
        token_file = Path(name) / "token"
        token_file.write_text(TOKEN)
        os.chmod(token_file, 0o600)
        proxy = ("--max-connections-per-client", "1000")
        settings = [("16 addresses", 16, ()), ("one address", 1, ()), ("a proxy", 1, proxy)]
        with_token = ("--token-file", str(token_file))
        sieges = [(kind, number, more, token) for kind, number, more in settings for token in ((), with_token)]
        for kind, num_addresses, more, token in sieges[: 1 if options.quick else None]:
            with running_service(model, *more, *token) as service:
                setting = f"{kind}, {'token' if token else 'no token'}"
                siege = hold(service, setting, options.sockets, num_addresses, options.seconds)
            is_kept &= siege.is_kept
            print(line(siege), flush=True)
    sys.exit(0 if is_kept else 1)


if __name__ == "__main__":
    main()
