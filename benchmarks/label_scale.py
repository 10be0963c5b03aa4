"""`cytolora label` on 100,000 cells: start, memory, acknowledgement of labels, refit and map, beside their goals.

    python benchmarks/label_scale.py
    python benchmarks/label_scale.py --cells 10000 --labels 300          (a quick look)

The cells are empty files and made-up features (768 numbers, a centre for each class): nothing is encoded, and no
picture is asked for. The server is the command itself, in a process of its own. A label is acknowledged when its
answer is there: it is on disk then. *Beside a page* means that a second client asks for queues, cells with their
neighbours, and points all the time; refits run in both cases, for labels keep coming. Between two labels a request is
sent that the server answers without work: what it takes is the machine's share. The map needs Playwright and
Chromium, and is drawn by software there. Figures are wall time on the machine as busy as it is, which is printed,
with processor seconds where other jobs would count.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.data.manifest import Manifest, Sample
from cytolora.labelling.project import FEATURES, Description, read_project, write_project
from cytolora.labelling.session import Labelling

CLASSES = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
NUM_FEATURES, PER_GROUP, BATCH = 768, 50, 100
NOTHING = "/v1/nothing"
"""A path that is not there: guarded like the others, and answered without work."""
GOALS = {"start": 5.0, "memory": 1.5, "ack": 50.0, "refit": 1.0, "frames": 30.0}
"""Seconds, GB, milliseconds (p99), seconds, frames a second."""


def write_cells(folder: Path, number: int) -> tuple[Path, NDArray[np.int64]]:
    """Writes a project of that many cells with features; returns it, and the class of each cell."""
    draws = np.random.default_rng(0)
    names = [f"slide_{cell // PER_GROUP:05}/cell_{cell:06}.png" for cell in range(number)]
    samples = tuple(Sample(path=name, label="", group=name.partition("/")[0]) for name in names)
    manifest = Manifest(name="drawn", root=folder, classes=("",), samples=samples, group_rule="slide")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()  # empty: a project wants its cells to be there, and no picture is asked for
    about = Description(
        cells=str(folder),
        name="drawn",
        classes=CLASSES,
        model="nano",
        reader="reader 1",
        test_share=0.25,
        seed=0,
        group_probability=0.0,
        groups_known=True,
    )
    project = folder / "project"
    write_project(project, manifest, about)
    truth = draws.integers(0, len(CLASSES), number)
    features = draws.normal(size=(number, NUM_FEATURES)).astype(np.float32)
    features += 3 * draws.normal(size=(len(CLASSES), NUM_FEATURES)).astype(np.float32)[truth] / 4
    np.save(project / FEATURES, features / np.linalg.norm(features, axis=1, keepdims=True))
    return project, truth


class Client:
    """One kept connection to the server."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        self._connection.request(method, path, content, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != (404 if path == NOTHING else 200):
            sys.exit(f"{path}: {answer.status} {content.decode()[:300]}")
        return content


@contextmanager
def served(project: Path) -> Iterator[tuple[int, str, int, float]]:
    """The command in a process of its own: port, token, process id, and seconds until it has answered with cells."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cytolora", "label", str(project), "--no-browser"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        text = ""
        while (found := re.search(r"127\.0\.0\.1:(\d+)/\?token=([\w-]+)", text)) is None:
            line = process.stderr.readline()
            if not line:
                sys.exit(f"The server ended: {text}")
            text += line.rstrip("\n")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        port, token = int(found[1]), found[2]
        Client(port, token).ask("/v1/queue?reader=a")
        yield port, token, process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Processes that a process started: the one that fits the classifier."""
    stats = [path.read_text(encoding="utf-8") for path in Path("/proc").glob("[0-9]*/stat")]
    return [int(one.split()[0]) for one in stats if int(one.rpartition(")")[2].split()[1]) == pid]


def memory_gb(pid: int) -> tuple[float, float]:
    """Peak of the resident memory, and what of it now is no mapped file; of a process and its children together."""
    peak = own = 0.0
    for one in (pid, *children(pid)):
        status = Path(f"/proc/{one}/status").read_text(encoding="utf-8")
        values = {name: int(kib) * 1024 / 1e9 for name, kib in re.findall(r"(\w+):\s+(\d+) kB", status)}
        peak, own = peak + values["VmHWM"], own + values["RssAnon"]
    return peak, own


def acknowledge(client: Client, cells: Sequence[int], truth: NDArray[np.int64], name: str) -> bool:
    """Labels cells one by one, and prints how long that took."""
    taken: dict[str, list[float]] = {"labels": [], "nothing": []}

    def timed(what: str, *request: Any) -> None:
        started = time.perf_counter()
        client.ask(*request)
        taken[what].append(1000 * (time.perf_counter() - started))

    for number, cell in enumerate(cells):
        body = {"reader": "a", "client_id": f"{name} {number:06}", "cells": [cell], "value": CLASSES[truth[cell]]}
        timed("labels", "/v1/labels", body)
        timed("nothing", NOTHING)
        time.sleep(0.02)  # faster than any reader
    print(f"{f'{name}: no work':34} {of_times(taken['nothing'])}", flush=True)
    return say(name, of_times(taken["labels"]), float(np.percentile(taken["labels"], 99)), "ack")


def beside(port: int, token: str, is_over: threading.Event, number: int) -> None:
    """Asks what a page asks, without a pause between the answers."""
    client, draws = Client(port, token), np.random.default_rng(1)
    while not is_over.is_set():
        client.ask("/v1/overview?reader=b")
        client.ask("/v1/queue?reader=b&n=24")
        for cell in draws.integers(0, number, 3):
            client.ask(f"/v1/cells/{cell}?reader=b")
        client.ask("/v1/points?reader=b")


def say(name: str, text: str, value: float, goal: str, *, at_least: bool = False) -> bool:
    """Prints a figure beside its goal; returns whether it is met."""
    limit = GOALS[goal]
    is_met = value >= limit if at_least else value < limit
    print(
        f"{name:34} {text:66} goal {'>=' if at_least else '<'} {limit:g}: {'met' if is_met else 'MISSED'}", flush=True
    )
    return is_met


def of_times(times: Sequence[float]) -> str:
    """Writes median, p99 and the longest of times in milliseconds."""
    median, high = np.percentile(times, [50, 99])
    return f"median {median:.1f} ms, p99 {high:.1f} ms, longest {max(times):.1f} ms, n {len(times)}"


def labels_of(cells: int, number: int, trained_on: int) -> tuple[int, int]:
    """Returns the labels to measure each way and those to train on, fewer where there are few cells.

    At most a fifth of the cells outside of the test share each way, and half of them for training: the rest is for a
    lasso.
    """
    return max(1, min(number, cells // 5)), min(trained_on, cells // 2)


def measure_labels(
    port: int, token: str, project: Path, truth: NDArray[np.int64], number: int, trained_on: int
) -> bool:
    """Labels ``trained_on`` cells in batches, then ``number`` one by one, alone and beside a page (``labels_of``)."""
    client = Client(port, token)
    train = np.random.default_rng(2).permutation(np.flatnonzero(~read_project(project).is_test))
    number, trained_on = labels_of(len(train), number, trained_on)
    batched, train = train[:trained_on], train[trained_on:]
    for code, value in enumerate(CLASSES):
        cells = batched[truth[batched] == code].tolist()
        body = {"reader": "a", "client_id": f"batch {value}", "cells": cells, "value": value, "how": "lasso"}
        client.ask("/v1/labels", body)
    is_met = acknowledge(client, train[:number].tolist(), truth, "label acknowledged")
    is_over = threading.Event()
    page = threading.Thread(target=beside, args=(port, token, is_over, len(truth)))
    page.start()
    is_met &= acknowledge(client, train[number : 2 * number].tolist(), truth, "beside a page")
    is_over.set()
    page.join()
    client, everything = Client(port, token), train[2 * number :].tolist()  # the server ends idle connections
    started = time.perf_counter()
    client.ask("/v1/labels", {"reader": "z", "client_id": "all of them", "cells": everything, "value": CLASSES[0]})
    print(f"{f'one lasso of {len(everything):,} cells':34} {time.perf_counter() - started:.2f} s", flush=True)
    client.ask("/v1/undo", {"reader": "z", "client_id": "not at all"})
    return is_met


def measure_map(port: int, token: str) -> bool:
    """Pans the map for some seconds in Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if sync_playwright is None or program is None:
        print("map: not measured, Playwright or Chromium is not installed")
        return True
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/?token={token}")
        page.locator("#map").wait_for(state="attached")
        time.sleep(2)
        page.keyboard.press("m")
        while not page.evaluate("Boolean(points?.hasPlaces) && numFrames > 0"):
            page.wait_for_timeout(50)
        rate = page.evaluate("""() => new Promise((done) => {
            const start = performance.now(), before = numFrames;
            const step = () => { panMap(1, 0); const spent = performance.now() - start;
              if (spent < 5000) requestAnimationFrame(step); else done(1000 * (numFrames - before) / spent); };
            step(); })""")
        drawn = page.evaluate("""() => { const taken = Array.from({ length: 100 }, () => {
            const start = performance.now(); drawNow(); return performance.now() - start; });
            return taken.sort((a, b) => a - b)[50]; }""")
        browser.close()
    return say(
        "map", f"{rate:.0f} frames a second, {drawn:.1f} ms a draw (median of 100)", rate, "frames", at_least=True
    )


def main() -> None:
    """Parses the options, and prints each figure beside its goal; exit code 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=500, help="acknowledgements measured, each way")
    parser.add_argument("--trained-on", type=int, default=2000, help="labels of the refit; at most half of the cells")
    options = parser.parse_args()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(
        f"{options.cells:,} cells, {NUM_FEATURES} features; {os.cpu_count()} cores, load {load} at the start",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        project, truth = write_cells(Path(folder), options.cells)
        with served(project) as (port, token, pid, seconds):
            spent = f"{seconds:.1f} s, {cpu_seconds(pid):.1f} s of processor time"
            is_met = say("start, to the first cells", spent, seconds, "start")
            is_met &= measure_labels(port, token, project, truth, options.labels, options.trained_on)
            peak, own = memory_gb(pid)
            is_met &= say("memory", f"{peak:.2f} GB at most; {own:.2f} GB without mapped files", peak, "memory")
            is_met &= measure_map(port, token)
        opened = Labelling(project, refits_apart=True)
        opened.refit()
        (child,) = children(os.getpid())
        spent = time.process_time() + cpu_seconds(child)
        taken = sorted(opened.refit()["seconds"] for _ in range(5))
        spent = (time.process_time() + cpu_seconds(child) - spent) / len(taken)
        labels = opened.overview("a")["classifier"]["labels"]
        opened.close()
        text = f"median {taken[2]:.2f} s, longest {taken[-1]:.2f} s, {spent:.2f} s of processor time, {labels} labels"
        is_met &= say("refit", text, taken[2], "refit")
    sys.exit(not is_met)


if __name__ == "__main__":
    main()
