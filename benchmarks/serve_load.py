"""Load test of the service: latencies, requests a second, errors, slope of the memory, and a check of its metrics.

    python benchmarks/serve_load.py                              # 10,000 requests from 50 clients
    python benchmarks/serve_load.py --requests 500 --clients 10
    python benchmarks/serve_load.py --model model1-onnx

Each client keeps its connection and sends one drawn cell after the other. The clients are one process beside the
service's, so that their own work is in the latencies on a machine with few cores. Exit code 1 where a request failed or
/metrics, read by Prometheus' own parser, counts other requests or images than were sent.
"""

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from pathlib import Path
from time import perf_counter

import httpx
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import t
from service_process import Service, drawn_cells, running_service, small_bundle

_BLOCKS = 10
"""Parts of the run whose growth of memory is compared."""
_BOUNDARY = "cytolora-load"


@dataclass
class Load:
    """What the clients met."""

    service: Service
    requests_each: int
    """Of a block."""
    seconds: list[float] = field(default_factory=list)
    """Of every request that was answered with 200."""
    problems: Counter[str] = field(default_factory=Counter)
    memory_mib: list[float] = field(default_factory=list)
    """Of the service, at the start and at the end of every block."""

    def note(self, seconds: float, problem: str = "") -> None:
        """Notes a request that was answered, or was not."""
        if problem:
            self.problems[problem] += 1
        else:
            self.seconds.append(seconds)
        if (len(self.seconds) + self.problems.total()) % self.requests_each == 0:
            self.memory_mib.append(self.service.rss_mb())
            done = len(self.seconds) + self.problems.total()
            print(f"{done:,} requests, {self.memory_mib[-1]:,.0f} MiB", file=sys.stderr, flush=True)


def request(address: tuple[str, int], name: str, content: bytes) -> bytes:
    """Writes a whole request: one image in a form."""
    part = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
    body = part.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n\r\n"
    )
    return head.encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> str:
    """Sends a request and reads its answer whole; returns the status.

    Raises:
        asyncio.IncompleteReadError: If the connection ends before.
    """
    writer.write(content)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    (length,) = [line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-length:")]
    await reader.readexactly(int(length))
    return head.split(" ", 2)[1]


async def client(contents: Iterator[bytes], left: Iterator[int], load: Load) -> None:
    """Keeps one connection and sends requests until none are left; a lost connection is a problem, and opened anew."""
    while True:
        reader, writer = await asyncio.open_connection(*load.service.address)
        try:
            for _ in left:
                start = perf_counter()
                status = await ask(reader, writer, next(contents))
                load.note(perf_counter() - start, "" if status == "200" else f"status {status}")
            return
        except (OSError, asyncio.IncompleteReadError) as error:
            load.note(0, type(error).__name__)
        finally:
            writer.close()


async def send(contents: Sequence[bytes], number: int, num_clients: int, load: Load) -> None:
    """Sends a number of requests from all clients at once."""
    left, endless = iter(range(number)), cycle(contents)
    await asyncio.gather(*(client(endless, left, load) for _ in range(num_clients)))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Returns the smallest value that the share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope(memory_mib: Sequence[float], requests_each: int) -> tuple[float, float]:
    """Returns the growth, MiB per 1,000 requests: mean over the blocks, and half of its 95 % interval (Student's t)."""
    growth = [1000 * (after - before) / requests_each for before, after in pairwise(memory_mib)]
    half = float(t.ppf(0.975, len(growth) - 1)) * statistics.stdev(growth) / math.sqrt(len(growth))
    return statistics.mean(growth), half


def shown_slope(memory_mib: Sequence[float], requests_each: int) -> str:
    """Writes ``slope`` with its interval."""
    growth, half = slope(memory_mib, requests_each)
    return f"{growth:+.2f} [{growth - half:+.2f}, {growth + half:+.2f}]"


def miscounted(service: Service, num_sent: int) -> list[str]:
    """Names what /metrics counts otherwise than it was sent; every request held one image."""
    text = httpx.get(f"{service.url}/metrics", timeout=60).raise_for_status().text
    rows = [row for family in text_string_to_metric_families(text) for row in family.samples]

    def total(name: str, **labels: str) -> float:
        return sum(row.value for row in rows if row.name == name and labels.items() <= row.labels.items())

    found = {
        "requests": total("cytolora_requests_total", path="/v1/predict"),
        "durations": total("cytolora_request_seconds_count", path="/v1/predict"),
        "images": total("cytolora_images_total"),
    }
    waiting = total("cytolora_pending_images")
    wrong = [
        f"/metrics counts {value:,.0f} {name}, {num_sent:,} were sent"
        for name, value in found.items()
        if value != num_sent
    ]
    return [*wrong, *([f"{waiting:,.0f} images wait"] if waiting else [])]


def run(service: Service, contents: Sequence[bytes], options: argparse.Namespace) -> bool:
    """Loads a service and prints what was measured; returns whether all was answered and counted."""
    num_warm, each = max(options.clients, options.requests // 10), options.requests // _BLOCKS
    warming, load = Load(service, num_warm), Load(service, each)
    asyncio.run(send(contents, num_warm, options.clients, warming))
    load.memory_mib.append(service.rss_mb())
    start, cpu = perf_counter(), service.cpu_seconds()
    asyncio.run(send(contents, _BLOCKS * each, options.clients, load))
    wall, cpu = perf_counter() - start, service.cpu_seconds() - cpu
    problems = warming.problems + load.problems
    wrong = miscounted(service, num_warm + _BLOCKS * each)
    if load.seconds:
        show(load, wall, cpu, options.clients)
    print(f"errors: {problems.total()}")
    for name, number in problems.items():
        print(f"  {name}: {number}")
    print("/metrics, read by prometheus_client: " + ("; ".join(wrong) or "every request and image is counted"))
    return bool(load.seconds) and not problems and not wrong


def show(load: Load, wall: float, cpu: float, num_clients: int) -> None:
    """Prints the table."""
    ordered = sorted(load.seconds)
    latencies = [1000 * percentile(ordered, share) for share in (0.5, 0.9, 0.99, 1)]
    columns = {
        "clients": f"{num_clients}",
        "requests": f"{len(ordered):,}",
        **{f"{name}, ms": f"{value:,.0f}" for name, value in zip(("p50", "p90", "p99", "max"), latencies, strict=True)},
        "requests/s": f"{len(ordered) / wall:,.1f}",
        "CPU s per 1,000": f"{1000 * cpu / len(ordered):.2f}",
        "MiB before, after": f"{load.memory_mib[0]:,.0f}, {load.memory_mib[-1]:,.0f}",
        "MiB per 1,000 [95 %]": shown_slope(load.memory_mib, load.requests_each),
        "in the second half": shown_slope(load.memory_mib[_BLOCKS // 2 :], load.requests_each),
    }
    for cells in (columns, ["---:"] * len(columns), columns.values()):
        print(f"| {' | '.join(cells)} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, help="bundle or ONNX export; a linear one on nano, of drawn cells, if left out"
    )
    parser.add_argument("--requests", type=int, default=10_000, help="after a tenth as many that warm up")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="500 requests")
    options = parser.parse_args()
    options.requests = 500 if options.quick else options.requests
    if options.requests < 10 * _BLOCKS or options.clients < 1:
        sys.exit(f"At least {10 * _BLOCKS} requests and 1 client, got {options.requests} and {options.clients}.")
    with tempfile.TemporaryDirectory(prefix="serve-load-") as name:
        cells = drawn_cells(Path(name))
        with running_service(options.model or small_bundle(Path(name), cells)) as service:
            images = [(path.name, path.read_bytes()) for path in sorted(cells.rglob("*.png"))]
            contents = [request(service.address, *image) for image in images]
            return int(not run(service, contents, options))


if __name__ == "__main__":
    sys.exit(main())
