"""All benchmarks of speed as one table for the machine that this runs on.

    .venv/bin/python benchmarks/all.py --quick                   (at most 30 minutes on two idle cores)
    .venv/bin/python benchmarks/all.py --quick --only lora-step embedding --out rows.json
    .venv/bin/python benchmarks/all.py --list

Every part is a process of its own, one after the other: one that fails is a row that says so, and the rest goes on.
Peers come with the extra ``bench``; a row without its peer says "not installed". ``--quick`` does less of the same
work, and such rows are marked "scaled". Rows are compared with the last recorded ones of the same processor
(benchmarks/recorded.json, see benchmarks/recorded.py for what counts as noise); exit code 1 where the percent of the
measured peak fell by more than that noise. ``--record`` makes this run the recorded one.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from machine import busy_cores, idleness, this_machine
from recorded import RECORDED, Comparison, compare, record, recorded_rows
from rows import Row, last_line, read_rows, table

FOLDER = Path(__file__).parent
PATIENCE = 4
"""A part that takes so many times its minutes is ended."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A benchmark as it runs here."""

    title: str
    script: str
    quick: tuple[str, ...] = ()
    """Arguments of the shortened one."""
    full: tuple[str, ...] = ()
    minutes: float
    """Of the shortened one, on two idle cores of a Zen 4 (without a GPU); for --list and for the limit of time."""
    full_minutes: float


PARTS: Mapping[str, Part] = {
    "peak": Part(title="Measured peak of one core", script="peak.py", minutes=0.3, full_minutes=0.3),
    "lora-step": Part(
        title="One LoRA training step of a ViT-B/16",
        script="lora_step.py",
        quick=("--batch", "16", "--memory"),
        full=("--memory",),
        minutes=6.5,
        full_minutes=13,
    ),
    "embedding": Part(
        title="Embedding with a ViT-B/16",
        script="embedding.py",
        quick=("--memory",),
        full=("--memory", "--rounds", "5"),
        minutes=5,
        full_minutes=7,
    ),
    "heads": Part(
        title="18 linear heads on frozen features",
        script="heads.py",
        quick=("--both", "--heads", "3", "--epochs", "1"),
        full=("--both",),
        minutes=1,
        full_minutes=12,
    ),
    "head-speed": Part(
        title="Every head on frozen features",
        script="head_speed.py",
        quick=("--quick",),
        minutes=0.8,
        full_minutes=15,
    ),
    "end-to-end": Part(
        title="A few-shot run from files to accuracies",
        script="end_to_end.py",
        quick=("--rates", "1", "--steps", "10", "--threads", "1", "--images", "300"),
        full=("--with-workers", "--bound"),
        minutes=6,
        full_minutes=65,
    ),
    "model-share": Part(
        title="The encoder's share of commands",
        script="model_share.py",
        quick=("--models", "nano", "--images", "1000"),
        minutes=1.5,
        full_minutes=25,
    ),
    "start-up": Part(
        title="Start-up of commands", script="startup.py", full=("--rounds", "5"), minutes=1, full_minutes=2
    ),
    "data-scale": Part(
        title="Commands on a dataset like HiCervix",
        script="small_data_scale.py",
        full=("--images", "38140"),
        minutes=1.2,
        full_minutes=25,
    ),
    "two-workers": Part(
        title="Two workers against one",
        script="two_workers.py",
        quick=("--rounds", "1"),
        minutes=4,
        full_minutes=8,
    ),
    "shards": Part(
        title="Prediction in shards",
        script="shards.py",
        quick=("--images", "500", "--rounds", "1", "--ways", "table", "shards"),
        minutes=0.4,
        full_minutes=20,
    ),
    "augmentation": Part(title="Views of a training batch", script="augmentation.py", minutes=0.3, full_minutes=0.3),
    "embed-memory": Part(
        title="`embed` with the number of images",
        script="embed_memory.py",
        quick=("--images", "2000"),
        minutes=0.4,
        full_minutes=1.5,
    ),
    "load-encoder": Part(
        title="Loading a large encoder",
        script="load_tower.py",
        quick=("--architecture", "vit_base_patch16_224", "--rounds", "1"),
        minutes=0.8,
        full_minutes=4,
    ),
    "plan": Part(title="`plan exp2`", script="plan.py", quick=("--rounds", "2"), minutes=0.4, full_minutes=0.6),
    "report": Part(
        title="A report of stored runs", script="report.py", quick=("--models", "1"), minutes=0.8, full_minutes=3
    ),
    "gpu": Part(
        title="A GPU",
        script="gpu.py",
        quick=("--models", "vit_base_patch16_224", "--batches", "32", "--ways", "eager", "graph"),
        minutes=0.1,
        full_minutes=10,
    ),
}

_SIMULATION = "measures a statistical property in simulation"
_FAULTS = "breaks something on purpose, and counts promises kept"
NOT_ABOUT_SPEED: Mapping[str, str] = {
    "empty_runs": "overhead of the engines, with a SLURM of its own: a promise that holds or not",
    "divided_run": "wall seconds of two processes, which idle cores alone tell; two-workers stands for it here",
    "shared_store": "contention of commands on one store: a promise that holds or not",
    "bit_flips": _FAULTS,
    "concurrent_runs": _FAULTS,
    "fuzz": _FAULTS,
    "faults": _FAULTS,
    "kill_fit": _FAULTS,
    "ray_deaths": _FAULTS,
    "paused_service": _FAULTS,
    "serve_load": "counts errors and memory under load; its latencies are those of the machine as busy as it is",
    "shared_encoder": "compares memory of one model and of several: a promise that holds or not",
    "slow_clients": f"{_FAULTS}; its limits of time are pass or fail",
    "write_faults": _FAULTS,
    "reliability": "counts promises kept; its figures are not seconds",
    "coverage": _SIMULATION,
    "divisions": _SIMULATION,
    "lab_coverage": _SIMULATION,
    "hierarchy": "compares heads; its figures are accuracies",
    "lab_divisions": _SIMULATION,
    "labelling": _SIMULATION,
    "label_scale": "holds each figure of `cytolora label` to a goal; wall time of the machine as busy as it is",
    "leakage": _SIMULATION,
    "name_groups": _SIMULATION,
    "int8": "compares cosines too, on real cells, and needs a processor with VNNI",
    "duplicates": "counts altered copies found, on real cells",
    "transduction": "measures gains and coverage on pseudo-slides; --scale takes one slide of 100,000 cells",
    "odd_images": "counts images referred, on real cells",
    "precision": "compares accuracies in bf16 and fp32, on stored runs of real cells",
    "wrong_attention": "compares features with those of the public code",
    "mutants": "counts faults that the tests see",
    "scale": "computes durations at a speed that the caller names, and measures none",
    "data_scale": "needs HiCervix' label files; its rows at a small scale are the part data-scale",
    "all": "runs the others",
    "empty_worker": "the worker of empty_runs",
    "fuzz_files": "a module of fuzz",
    "launch": "a module of measuring",
    "machine": "describes the machine above the table",
    "measuring": "a module of the parts",
    "mutation": "a module of mutants",
    "recorded": "a module of this program",
    "rows": "a module of the parts",
    "service_process": "a module of reliability and slow_clients",
}
"""Every other program in this folder, with the reason why it is no part."""


def run_part(name: str, arguments: Sequence[str], limit_seconds: float) -> list[Row]:
    """Runs one part to its end, or to its limit of time; shows its lines as they come, and reads its rows."""
    part = PARTS[name]
    with tempfile.TemporaryDirectory() as folder:
        rows_file, log_file = Path(folder) / "rows.jsonl", Path(folder) / "log.txt"
        command = [sys.executable, str(FOLDER / part.script), *arguments, "--rows", str(rows_file)]
        with log_file.open("wb") as log, log_file.open(encoding="utf-8", errors="replace") as lines:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                ended = _follow(process, lines, limit_seconds)
            finally:
                _end(process)
        rows = list(read_rows(rows_file))
        if ended and process.returncode and not any(row.problem.startswith("failed") for row in rows):
            text = log_file.read_text(encoding="utf-8", errors="replace")
            rows.append(Row(part=name, name=part.title, problem=f"failed: {last_line(text)}"))
        if not ended:
            problem = f"failed: not done after {limit_seconds / 60:.0f} minutes"
            rows.append(Row(part=name, name=part.title, problem=problem))
    return rows


def _follow(process: "subprocess.Popen[bytes]", lines: TextIO, limit_seconds: float) -> bool:
    """Prints what a process writes until it ends; returns whether it did so in time."""
    until = time.monotonic() + limit_seconds
    while True:
        code = process.poll()
        for line in lines:
            print(f"    {line}", end="", flush=True)
        if code is not None or time.monotonic() > until:
            return code is not None
        time.sleep(0.2)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a part with everything that it started, if anything is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def report(rows: Sequence[Row], comparisons: Sequence[Comparison], idle: Mapping[str, str]) -> str:
    """Writes every part as a table in Markdown, each row beside what was recorded."""
    pieces = []
    for name in dict.fromkeys(row.part for row in rows):
        remarks = {found.row.name: str(found) for found in comparisons if found.row.part == name}
        own = [row for row in rows if row.part == name]
        own += [found.row for found in comparisons if found.row.part == name and found.row not in own]
        title = PARTS[name].title if name in PARTS else name
        pieces.append("\n\n".join(filter(None, (f"## {title}", idle.get(name, ""), table(own, remarks)))))
    return "\n\n".join(pieces)


def listing() -> str:
    """Lists parts with their minutes, and what is none."""
    lines = [f"{'part':14} quick   whole"]
    lines += [
        f"{name:14} {part.minutes:4.1f} m {part.full_minutes:5.0f} m  {part.title} (benchmarks/{part.script})"
        for name, part in PARTS.items()
    ]
    minutes = (sum(part.minutes for part in PARTS.values()), sum(part.full_minutes for part in PARTS.values()))
    lines += [f"{'all':14} {minutes[0]:4.0f} m {minutes[1]:5.0f} m", "", "Not about speed:"]
    return "\n".join([*lines, *(f"  {name}: {reason}" for name, reason in NOT_ABOUT_SPEED.items())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of the same work: at most 30 minutes")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help="these parts (--list)")
    parser.add_argument("--list", action="store_true", help="list parts with their minutes, and run none")
    parser.add_argument("--out", type=Path, help="JSON file to write: machine, rows and comparison")
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="file of recorded rows")
    parser.add_argument("--record", action="store_true", help="replace the recorded rows of this processor")
    options = parser.parse_args()
    if options.list:
        print(listing())
        return 0
    machine, started, rows, idle = this_machine(), time.monotonic(), list[Row](), dict[str, str]()
    print(machine, flush=True)
    names = options.only or list(PARTS)
    busy = busy_cores()
    for number, name in enumerate(names, start=1):
        part = PARTS[name]
        minutes = part.minutes if options.quick else part.full_minutes
        passed = (time.monotonic() - started) / 60
        print(f"[{number}/{len(names)}, {passed:.0f} min] {part.title}, about {minutes:.1f} min", flush=True)
        rows += run_part(name, part.quick if options.quick else part.full, 60 * (2 + PATIENCE * minutes))
        before, busy = busy, busy_cores()
        idle[name] = idleness(max(before, busy))
    comparisons = compare(rows, recorded_rows(machine.processor, options.recorded))
    print(f"\n{machine}\n\n{report(rows, comparisons, idle)}\n")
    date = datetime.now(UTC).date().isoformat()
    if options.out:
        found = {"machine": asdict(machine), "date": date, "rows": [asdict(row) for row in rows]}
        found["not_idle"] = {name: said for name, said in idle.items() if said}
        found["fell"] = [asdict(comparison) for comparison in comparisons if comparison.fell]
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.record:
        record(asdict(machine), date, rows, options.recorded)
    fell = [comparison for comparison in comparisons if comparison.fell]
    for comparison in fell:
        print(f"{comparison.row.part}, {comparison.row.name}: {comparison}")
    minutes, compared = (time.monotonic() - started) / 60, f"{len(comparisons)} compared with recorded ones"
    print(f"{len(rows)} rows in {minutes:.0f} minutes; {compared}, {len(fell)} fell.")
    return int(bool(fell))


if __name__ == "__main__":
    sys.exit(main())
