"""Two and four processes on one target, some killed at random moments: nothing doubled, torn, mixed, lost or left over.

Every process is forked after the imports, so that a kill falls into work and not into loading torch. `run` is compared
with one undisturbed process, every other command with what each of the two writes alone: the target must hold one of
them whole, at any moment. Then one more command runs to its end, and must sweep what the killed ones left.

    python benchmarks/concurrent_runs.py --pairs 200
    python benchmarks/concurrent_runs.py --quick
"""

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import torch
from contention import Work, at_once, command, contents, leftovers, random_kills

from cells import run_all, tiny_grid
from cytolora.classifier.inference.classifier import Classifier
from cytolora.core.folders import current_folder
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.experiments.store import Store

_RUN_FILES = ("spec.json", "metrics.json", "predictions.parquet", "weights.safetensors")
_AXES = ("--shots", "2", "--seeds", "1", "2", "--learning-rates", "0.001", "0.01", "--steps", "3", "--threads", "1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What two commands write to the same place."""

    name: str
    file: str
    """Relative to the folder that the commands are given."""
    works: Callable[[Path], Sequence[Work]]
    """Two commands that write ``file`` in a folder, differently where the command can."""
    but: frozenset[str] = frozenset()
    """Files of it that hold times."""
    read: Callable[[Path], object] | None = None
    """Opens it as a user would, while it is being replaced."""

    def state(self, folder: Path) -> dict[str, bytes] | None:
        """What is there now; None for nothing."""
        path = current_folder(folder / self.file)
        if not path.exists():
            return None
        return {name: content for name, content in contents(path).items() if name not in self.but}


@dataclass(kw_only=True)
class Row:
    """A line of the table."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"{self.name:<34} {'broken' if self.problems else 'kept':<7} {told}"


def quietly(work: Work) -> None:
    """Runs a command in this process, which loads what it needs."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), suppress(SystemExit):
        work()


def stored(runs: Path) -> dict[str, bytes]:
    """Files of all runs that the same work makes equal, byte for byte."""
    found = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in runs.glob("[!.]*/*")}
    equal = {name: content for name, content in found.items() if name.rpartition("/")[2] in _RUN_FILES}
    for name, content in found.items():
        if name.endswith("/provenance.json"):
            equal[name] = json.dumps({**json.loads(content), "seconds": 0, "spending": None}, sort_keys=True).encode()
    return equal


def doubled_rows(runs: Path) -> int:
    """Rows of predictions that stand twice in a run."""
    num_doubled = 0
    for run in Store(runs).runs():
        rows = [(row["path"], row["subset"]) for row in run.predictions().select(["path", "subset"]).to_pylist()]
        num_doubled += len(rows) - len(set(rows))
    return num_doubled


def run_rows(root: Path, cells: Path, pairs: int, moment: random.Random) -> list[Row]:
    """`run` beside `run`, of one method or as the whole command."""
    works: dict[str, Callable[[Path], Work]] = {
        "linear": lambda out: lambda: run_all(tiny_grid(methods=["linear"]), cells, out),
        "lora": lambda out: lambda: run_all(tiny_grid(methods=["lora"]), cells, out),
        "command": lambda out: command(
            "run", "smoke", "--method", "linear", *_AXES, "--quiet", "--data", f"synthetic={cells}", "--out", out
        ),
    }
    alone, seconds = {}, {}
    for name, work in works.items():
        quietly(work(root / f"alone-{name}"))
        shutil.copytree(root / f"alone-{name}" / ".cache", root / f"timed-{name}" / ".cache")
        started = time.monotonic()
        assert at_once([work(root / f"timed-{name}")], root)[0].code == 0
        alone[name], seconds[name] = stored(root / f"alone-{name}"), time.monotonic() - started
    rows = {number: Row(name=f"run x {number}") for number in (2, 4)}
    for pair in range(pairs):
        number = 4 if pair % 4 == 3 else 2
        name = "lora" if pair % 10 == 4 else "command" if pair % 10 == 9 else "linear"
        out = root / "pair" / "runs"
        shutil.copytree(root / f"alone-{name}" / ".cache", out / ".cache")
        kills = random_kills(moment, number, seconds[name] * number / 1.5) if pair % 2 else []
        work = works[name](out)
        _settle(rows[number], f"pair {pair}", [work] * number, kills, work, root)
        row = rows[number]
        row.counts["pairs"] += 1
        row.counts["doubled rows"] += doubled_rows(out)
        row.counts["leftovers"] += len(leftovers(root / "pair"))
        row.counts["other bytes"] += (differ := stored(out) != alone[name])
        if differ or doubled_rows(out) or leftovers(root / "pair"):
            row.problems.append(f"pair {pair} ({name}, kills {kills}): {leftovers(root / 'pair')}")
        if pair % 10 == 9:
            report = command("report", out, "--out", root / "pair" / "report")
            damaged = at_once([report], root)[0].code
            row.counts["damaged reports"] += damaged != 0
            if damaged:
                row.problems.append(f"pair {pair}: its report fails")
        shutil.rmtree(root / "pair")
    return list(rows.values())


def _settle(row: Row, name: str, works: Sequence[Work], kills: Sequence[float | None], last: Work, logs: Path) -> None:
    """Runs all at once, with kills; then one more to its end, if any was killed."""
    ended = at_once(works, logs, kills=kills)
    row.counts["kills"] += (num_killed := sum(one.was_killed for one in ended))
    if num_killed:
        ended += at_once([last], logs)
    for one in ended:
        if one.code and not one.was_killed:
            row.problems.append(f"{name}: exit {one.code}: {one.said}")


def targets(cells: tuple[Path, Path], made: Path) -> list[Target]:
    """Every command that writes one file or folder, twice."""
    runs, bundles, cache = made / "runs", (made / "a", made / "b"), made / "cache"
    synthetic = f"synthetic={cells[0]}"
    return [
        Target(
            name="report",
            file="report",
            works=lambda to: [
                command("report", runs, "--out", to / "report", *more) for more in ((), ("--data", synthetic))
            ],
        ),
        Target(
            name="fit",
            file="model",
            works=lambda to: [
                command(
                    *("fit", cells[0], "--out", to / "model", "--model", "nano", "--cache", cache, "--quiet"),
                    *("--learning-rates", rate),
                )
                for rate in (0.001, 0.01)
            ],
            but=frozenset({"card.md"}),
            read=lambda path: Classifier.load(path),
        ),
        Target(
            name="split",
            file="split.csv",
            works=lambda to: [
                command("split", cells[0], "--out", to / "split.csv", "--seed", seed, "--quiet") for seed in (0, 1)
            ],
        ),
        Target(
            name="embed",
            file="features.parquet",
            works=lambda to: [
                command(
                    *("embed", folder, "--out", to / "features.parquet"),
                    *("--model", "nano", "--cache", cache, "--quiet"),
                )
                for folder in cells
            ],
        ),
        Target(
            name="predict",
            file="table.csv",
            works=lambda to: [
                command("predict", bundle, cells[1], "--out", to / "table.csv", "--quiet") for bundle in bundles
            ],
        ),
        Target(
            name="learning-curve",
            file="labels",
            works=lambda to: [
                command(
                    *("learning-curve", cells[0], "--out", to / "labels", "--model", "nano", "--cache", cache),
                    *("--shots", 1, 2, 3, 4, "--seeds", seeds, "--quiet"),
                )
                for seeds in (2, 3)
            ],
        ),
        Target(
            name="export",
            file="exported",
            works=lambda to: [
                command("export", bundle, "--to", "timm", "--out", to / "exported", "--quiet") for bundle in bundles
            ],
        ),
        Target(
            name="compare",
            file="compared",
            works=lambda to: [
                command("compare", runs, "--by", "method", "--metric", metric, "--out", to / "compared")
                for metric in ("accuracy", "balanced_accuracy")
            ],
        ),
    ]


def target_rows(root: Path, made: Path, cells: tuple[Path, Path], rounds: int, moment: random.Random) -> list[Row]:
    """Every other command beside itself, and those that read what it writes."""
    return [
        target_row(target, root / target.name, rounds, number, moment)
        for target in targets(cells, made)
        for number in (2, 4)
    ]


def target_row(target: Target, root: Path, rounds: int, number: int, moment: random.Random) -> Row:
    row = Row(name=f"{target.name} x {number}")
    alone, seconds = [], 0.0
    for name, index in (("alone0", 0), ("alone1", 1)):
        quietly(target.works(root / name)[index])
        started = time.monotonic()
        ended = at_once([target.works(root / f"{name}-again")[index]], root)[0]
        seconds = max(seconds, time.monotonic() - started)
        if ended.code or target.state(root / name) != target.state(root / f"{name}-again"):
            row.problems.append(f"{name}: exit {ended.code}, not the same when run again: {ended.said}")
        alone.append(target.state(root / name))
    out = root / "race"
    for turn in range(rounds):
        works = [target.works(out)[index % 2] for index in range(number)]
        kills = random_kills(moment, number, seconds * number / 1.5) if turn % 2 else []
        _settle(row, f"round {turn}", works, kills, works[0], root)
        row.counts["rounds"] += 1
        mixed = target.state(out) not in alone
        row.counts["mixed or lost"] += mixed
        row.counts["leftovers"] += len(left := leftovers(out))
        if mixed or left:
            row.problems.append(f"round {turn} (kills {kills}): left {left}, mixed {mixed}")
        if target.read is not None:
            with suppress(FileNotFoundError):
                target.read(out / target.file)
    shutil.rmtree(root)
    return row


def kill_row(root: Path, cells: Path, kills: int, moment: random.Random) -> Row:
    """One `run` killed at moments spread over its whole life; nothing that was stored is lost."""
    row, grid = Row(name="run, killed"), tiny_grid(methods=["linear", "lora"])
    quietly(lambda: run_all(grid, cells, root / "whole"))
    started = time.monotonic()
    assert at_once([lambda: run_all(grid, cells, root / "timed" / "runs")], root)[0].code == 0
    seconds = time.monotonic() - started
    out = root / "killed" / "runs"
    for turn in range(kills):
        before = stored(out)
        (ended,) = at_once([lambda: run_all(grid, cells, out)], root, kills=[moment.uniform(0, seconds)])
        after = {run.run_id for run in Store(out).runs()}
        row.counts["kills"] += ended.was_killed
        row.counts["stored"] += len(after) - len({name.partition("/")[0] for name in before})
        row.counts["lost"] += len(lost := {name.partition("/")[0] for name in before} - after)
        if lost or (ended.code and not ended.was_killed):
            row.problems.append(f"kill {turn}: lost {sorted(lost)}, exit {ended.code}: {ended.said}")
        if not ended.code and turn + 1 < kills:  # done: the next one starts anew
            _count_end(row, out, root / "whole")
            shutil.rmtree(root / "killed")
    run_all(grid, cells, out)
    _count_end(row, out, root / "whole")
    shutil.rmtree(root)
    return row


def _count_end(row: Row, out: Path, whole: Path) -> None:
    row.counts["finished"] += 1
    row.counts["leftovers"] += len(left := leftovers(out.parent))
    row.counts["other bytes"] += (differ := stored(out) != stored(whole))
    if left or differ:
        row.problems.append(f"at the end: left {left}, other bytes {differ}")


def reader_row(root: Path, made: Path, cells: Path, rounds: int) -> Row:
    """`report` and `cytolora.load` again and again, while `run` and `fit` replace what they read."""
    row, out = Row(name="report and load beside writers"), root / "runs"
    grid, bundle = tiny_grid(methods=["linear"]), root / "model"
    shutil.copytree(made / "runs", out)
    shutil.copytree(made / "a", bundle)
    for turn in range(rounds):
        for run in sorted(out.glob("[!.]*_linear_*"))[turn % 3 :: 3]:
            shutil.rmtree(run)
        works = [
            lambda: run_all(grid, cells, out),
            command("report", out, "--out", root / "report"),
            lambda: [_replace(made, bundle) for _ in range(20)],
            lambda: [Classifier.load(bundle) for _ in range(5)],
        ]
        for work, one in zip(("run", "report", "fit", "load"), at_once(works, root), strict=True):
            row.counts[f"of {work}"] += 1
            if one.code:
                row.problems.append(f"round {turn}, {work}: exit {one.code}: {one.said}")
    row.counts["leftovers"] = len(left := leftovers(root))
    row.problems += [f"left {left}"] if left else []
    shutil.rmtree(root)
    return row


def _replace(made: Path, bundle: Path) -> None:
    from cytolora.core.folders import staged_folder

    for name in ("a", "b"):
        with staged_folder(bundle) as staging:
            shutil.copytree(made / name, staging, dirs_exist_ok=True)


def prepared(root: Path) -> tuple[tuple[Path, Path], Path]:
    """Cells, a store of runs and two bundles; everything that a command loads is loaded by then."""
    from small_bundle import write_small_bundle

    cells = (root / "cells", root / "others")
    for seed, folder in enumerate(cells):
        write_synthetic(folder, num_images=60, num_slides=12, seed=seed)
    made = root / "made"
    run_all(tiny_grid(methods=["linear", "lora"]), cells[0], made / "runs")
    write_small_bundle(made / "a")
    write_small_bundle(made / "b", temperature=2.5)
    return cells, made


def rows(arguments: Mapping[str, Any], root: Path) -> list[Row]:
    """All lines, printed as they come."""
    moment, found = random.Random(arguments["seed"]), list[Row]()
    cells, made = prepared(root)
    pairs, rounds, kills = arguments["pairs"], arguments["rounds"], arguments["kills"]
    for measure in (
        lambda: run_rows(root / "pairs", cells[0], pairs, moment),
        lambda: [kill_row(root / "kills", cells[0], kills, moment)],
        lambda: [reader_row(root / "reading", made, cells[0], rounds)],
        lambda: target_rows(root / "targets", made, cells, rounds, moment),
    ):
        for row in measure():
            print(row, flush=True)
            for problem in row.problems:
                print(f"    {problem}", flush=True)
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of `run`, a quarter of them four processes")
    parser.add_argument("--kills", type=int, default=50, help="of a single `run`")
    parser.add_argument("--rounds", type=int, default=10, help="of every other command, for two and four processes")
    parser.add_argument("--quick", action="store_true", help="20 pairs, 8 kills, 2 rounds")
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    if arguments["quick"]:
        arguments |= {"pairs": 20, "kills": 8, "rounds": 2}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        sys.exit(any(row.problems for row in rows(arguments, Path(name))))


if __name__ == "__main__":
    main()
