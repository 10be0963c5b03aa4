"""Flips random bits of stored runs, bundles and caches, reads them again, and tells what became of each flip.

    python benchmarks/bit_flips.py --flips 1000

Draws cells and makes of them, once: a store of linear and LoRA runs with its caches, bundles (folder, zip file, ONNX
export), an adapter kept by `fit`, an embedding, a split file, unpacked images, carried weights. Then, again and again,
it turns one bit of one file, calls what reads the file, and puts everything back. Kinds of files are taken in turn, so
that small JSON files get their share. A flip is

    harmless  the same values, and nothing is said
    remade    the same values, and a line says that something was damaged
    told      other values, with a finding in the result
    named     one line of error that names the file or its folder
    unnamed   one line of error that does not
    SILENT    other values without a word
    CRASH     another exception

Exit code 1 if one was SILENT, CRASH or unnamed. All in one process; images of the user are not flipped: nothing can
tell a changed image from another one.
"""

import argparse
import io
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from kept_files import Kind, files_of, make

from cytolora.core.cache_damage import one_notice
from cytolora.core.files import canonical_json
from cytolora.errors import CytoloraError

BAD = ("SILENT", "CRASH", "unnamed")
OUTCOMES = ("harmless", "remade", "told", "named", *BAD)


def put_back(kind: Kind) -> None:
    """Makes the files of a kind those that they were."""
    now = files_of(kind)
    for path in now.keys() - kind.before.keys():
        path.unlink()
    for path, content in kind.before.items():
        if now.get(path) != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Gathers what this package logs as a warning."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("cytolora")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def judge(kind: Kind, path: Path) -> tuple[str, str]:
    """Reads a kind with a flipped bit in one of its files; returns the outcome, and what was said."""
    with heard() as lines, redirect_stderr(io.StringIO()):
        try:
            with one_notice():
                found = kind.read()
        except CytoloraError as error:
            text = str(error)
            is_named = path.name in text or path.parent.name in text or path.parents[1].name in text
            return ("named" if is_named and "\n" not in text else "unnamed"), text
        except Exception as error:
            return "CRASH", f"{type(error).__name__}: {error}"
    said = " | ".join(lines)
    if canonical_json(found) == kind.expected:
        return ("remade" if lines else "harmless"), said
    if isinstance(found, dict) and canonical_json(found.get("values")) in kind.expected and found.get("findings"):
        return "told", str(found["findings"])
    if "--verbose" in sys.argv:
        print(canonical_json(found), kind.expected, sep="\n")
    return "SILENT", said


def flip(kind: Kind, moment: random.Random) -> tuple[str, str]:
    """Turns one bit of one file of a kind, judges, and puts everything back."""
    path = moment.choice(kind.flipped)
    content = bytearray(kind.before[path])
    bit = moment.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        outcome, said = judge(kind, path)
    finally:
        put_back(kind)
    return outcome, f"{path.name}, bit {bit} of {8 * len(content)}: {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="100 flips")
    parser.add_argument("--only", help="kinds whose name has this text in it")
    parser.add_argument("--verbose", action="store_true", help="prints the values of a SILENT flip")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="bit-flips-"))
    try:
        started = time.monotonic()
        kinds = [kind for kind in make(folder) if not options.only or options.only in kind.name]
        print(f"made in {time.monotonic() - started:.0f} s: {len(kinds)} kinds of files", flush=True)
        sys.exit(report(kinds, 100 if options.quick else options.flips, options.seed))
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def report(kinds: Sequence[Kind], num_flips: int, seed: int) -> int:
    """Flips, prints a row for each kind and what went wrong, and returns the exit code."""
    moment, started = random.Random(seed), time.monotonic()
    counts, wrong = {kind.name: Counter[str]() for kind in kinds}, list[str]()
    seconds = dict.fromkeys(counts, 0.0)
    for number in range(num_flips):
        kind, before = kinds[number % len(kinds)], time.monotonic()
        outcome, text = flip(kind, moment)
        counts[kind.name][outcome] += 1
        seconds[kind.name] += time.monotonic() - before
        if outcome in BAD:
            wrong.append(f"{outcome}: {kind.name}: {text}")
            print(wrong[-1], flush=True)
    print(f"| files | flips | {' | '.join(OUTCOMES)} | seconds |")
    print(f"| --- | ---: |{' ---: |' * (len(OUTCOMES) + 1)}")
    for name, count in counts.items():
        print(f"| {name} | {count.total()} | {' | '.join(str(count[one]) for one in OUTCOMES)} | {seconds[name]:.0f} |")
    total = sum(counts.values(), Counter[str]())
    print(
        f"| all | {total.total()} | {' | '.join(str(total[one]) for one in OUTCOMES)} | {sum(seconds.values()):.0f} |"
    )
    print(f"{num_flips} flips in {time.monotonic() - started:.0f} s; {len(wrong)} silent, crashed or unnamed")
    return 1 if wrong else 0


if __name__ == "__main__":
    main()
