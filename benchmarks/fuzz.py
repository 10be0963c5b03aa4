"""Mutates files of every kind that is read and reads them by the package's own functions, in children with a ceiling.

    python benchmarks/fuzz.py --files 10000
    python benchmarks/fuzz.py --files 1000 --kind images --kind zips --seed 7

Seeds are made on the spot. A mutation flips bits, cuts, splices two seeds, writes huge numbers where sizes stand,
nests, repeats, or changes fields of PNG (with right checksums), TIFF and zip files. A file ends well where it is read
or refused by a CytoloraError of one line. Exit 1 where one crashed, took more than 2 s of processor time, or its
process went over the ceiling.
"""

import argparse
import mmap
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_files import KINDS, mutate

from cytolora.errors import CytoloraError

MAX_SECONDS = 2.0
"""Processor time of one file."""
MAX_MEGABYTES = 512
"""Memory of a child above what it had when it began."""
_WAIT_SECONDS = 60.0
"""Of the clock, without a file being finished: then the child is ended."""
_NUM_SHOWN = 5
_COUNTERS = ("next", "read", "refused")


@dataclass
class Outcome:
    """What became of the files of one kind."""

    kind: str
    read: int = 0
    refused: int = 0
    crashed: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        return not self.crashed and not self.hung and self.peak_bytes <= MAX_MEGABYTES * 2**20

    def line(self, files: int) -> str:
        counts = f"{files:>9,} {self.read:>7,} {self.refused:>9,} {len(self.crashed):>8,} {len(self.hung):>5,}"
        return f"{self.kind:<12}{counts} {self.peak_bytes / 1e6:>8.0f} {self.seconds:>6.0f}"


HEADER = f"{'kind':<12}{'files':>9} {'read':>7} {'refused':>9} {'crashed':>8} {'hung':>5} {'peak MB':>8} {'CPU s':>6}"


def fuzz(kind: str, files: int, seed: int, keep: Path | None = None) -> Outcome:
    """Reads mutated files of one kind.

    Args:
        keep: Folder for files that end badly.
    """
    outcome, prepared = Outcome(kind), KINDS[kind]()
    counters = mmap.mmap(-1, 8 * len(_COUNTERS))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        while _counter(counters, 0) < files:
            _run_child(outcome, prepared, (files, seed), counters, folder, keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.read, outcome.refused = _counter(counters, 1), _counter(counters, 2)
    return outcome


def _run_child(
    outcome: Outcome, prepared: Any, files_and_seed: tuple[int, int], counters: mmap.mmap, folder: Path, keep: Any
) -> None:
    """Lets a forked child read until all is read or it dies; a file with which it dies has crashed."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    arguments = (outcome.kind, prepared, *files_and_seed, counters, folder, keep, sending)
    child = context.Process(target=_read_all, args=arguments)
    child.start()
    sending.close()
    last, since = -1, time.monotonic()
    while True:
        with suppress(EOFError):
            while receiving.poll(0.2):
                what, value = receiving.recv()
                if what in ("crashed", "hung"):
                    getattr(outcome, what).append(value)
                else:
                    setattr(outcome, what, max(value, getattr(outcome, what)) if what == "peak_bytes" else value)
        if not child.is_alive():
            break
        if _counter(counters, 0) != last:
            last, since = _counter(counters, 0), time.monotonic()
        elif time.monotonic() - since > _WAIT_SECONDS:
            child.kill()
            outcome.hung.append(f"file {last} did not end")
            break
    child.join()
    if child.exitcode and _counter(counters, 0) < files_and_seed[0]:
        if not outcome.hung or "did not end" not in outcome.hung[-1]:
            outcome.crashed.append(f"file {_counter(counters, 0)}: the process ended with {child.exitcode}")
        _set(counters, 0, _counter(counters, 0) + 1)


def _read_all(
    kind: str, prepared: Any, files: int, seed: int, counters: mmap.mmap, folder: Path, keep: Path | None, sending: Any
) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and libjpeg tell everybody
    seeds, read = prepared
    before = _memory("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    for number in range(_counter(counters, 0), files):
        content, name = mutate(kind, seeds, random.Random(f"{kind} {seed} {number}"))
        started = time.process_time()
        problem = _outcome(read, content, name, folder, counters)
        seconds = time.process_time() - started
        if keep is not None and (problem or seconds > MAX_SECONDS):
            (keep / f"{kind}-{seed}-{number}-{name}").write_bytes(content)
        if problem:
            sending.send(("crashed", f"file {number} ({name}): {problem}"))
        if seconds > MAX_SECONDS:
            sending.send(("hung", f"file {number} ({name}): {seconds:.1f} s"))
        _set(counters, 0, number + 1)
    sending.send(("peak_bytes", _memory("VmHWM") - before))
    sending.send(("seconds", time.process_time()))


def _outcome(read: Callable[[Path, bytes], object], content: bytes, name: str, folder: Path, counters: Any) -> str:
    try:
        read(folder / name, content)
    except CytoloraError as error:
        _set(counters, 2, _counter(counters, 2) + 1)
        return f"an error of several lines: {str(error)[:200]!r}" if "\n" in str(error) else ""
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:150]!r} in {Path(where.filename).name}:{where.lineno}"
    _set(counters, 1, _counter(counters, 1) + 1)
    return ""


def _counter(counters: mmap.mmap, place: int) -> int:
    return int.from_bytes(counters[8 * place : 8 * place + 8], "little")


def _set(counters: mmap.mmap, place: int, value: int) -> None:
    counters[8 * place : 8 * place + 8] = value.to_bytes(8, "little")


def _memory(name: str) -> int:
    """Returns a figure of /proc/self/status in bytes; 0 where there is none."""
    status = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="of each kind")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="may be given several times; all if not")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that end badly")
    parser.add_argument("--quick", action="store_true", help="100 files of each kind")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    files, bad = 100 if options.quick else options.files, 0
    print(HEADER, flush=True)
    for kind in options.kind or KINDS:
        outcome = fuzz(kind, files, options.seed, options.keep)
        print(outcome.line(files), flush=True)
        for text in [*outcome.crashed, *outcome.hung][:_NUM_SHOWN]:
            print(f"    {text}", flush=True)
        bad += not outcome.is_well
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
