"""Mutation test: the share of small faults in metrics, splits, the store and readers of tables that no fast test sees.

Each mutant is one change of one source file (``mutation.py``), made in a copy of the project, which may be edited
meanwhile; the fast tests of that file then run in a forked child until the first one fails. What survives is printed,
and compared with ``mutants.txt``, where each known survivor stands with the reason why it may stay. Exits 1 where more
than 10 % survive.

    python benchmarks/mutants.py                                     # 400 mutants, drawn with a seed over all files
    python benchmarks/mutants.py --all --only 'metrics/*'            # every mutant of some files
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from mutation import Mutant, mutants, mutated

ROOT = Path(__file__).resolve().parents[1]
KNOWN = Path(__file__).with_suffix(".txt")
LIMIT = 0.1
"""Share of survivors at which the command fails."""
_COPIED = ("src", "tests", "docs", "scripts", "benchmarks")
"""Folders that the tests look into."""
_AT_LEAST = 4
"""Mutants of a file in a sample."""
_MEMORY = 16 * 2**30
"""Address space of a child in bytes: a mutant may ask for more than there is."""
_PRELOADED = ("numpy", "scipy.stats", "scipy.special", "scipy.sparse", "torch", "pyarrow.parquet", "PIL.Image")
_PRELOADED += ("yaml", "pytest", "hypothesis", "beartype", "jaxtyping", "sklearn.metrics", "matplotlib.figure")

TESTS: dict[str, Sequence[str]] = {
    "metrics/agreement.py": ["metrics/test_metrics_agreement.py", "metrics/test_metrics.py"],
    "metrics/beta_binomial.py": ["metrics/test_beta_binomial.py", "metrics/test_intervals.py"],
    "metrics/bootstrap.py": ["metrics/test_bootstrap.py", "metrics/test_paired.py", "metrics/test_coverage.py"],
    "metrics/calibration.py": ["metrics/test_metrics_agreement.py", "display/test_reliability.py"],
    "metrics/confounding.py": ["metrics/test_confounding.py", "classifier/leakage/test_confounded_classes.py"],
    "metrics/counts.py": ["metrics/test_intervals.py", "metrics/test_paired.py", "metrics/test_bootstrap.py"],
    "metrics/divisions.py": ["metrics/test_divisions.py"],
    "metrics/hierarchy.py": ["metrics/test_metrics_hierarchy.py"],
    "metrics/intervals.py": ["metrics/test_intervals.py", "metrics/test_bootstrap.py", "metrics/test_paired.py"],
    "metrics/korn_graubard.py": ["metrics/test_korn_graubard.py", "metrics/test_intervals.py"],
    "metrics/paired.py": ["metrics/test_paired.py"],
    "metrics/scores.py": ["metrics/test_metrics.py"],
    "metrics/units.py": ["metrics/test_units.py", "metrics/test_intervals.py"],
    "data/splitting/canonical.py": ["data/splitting/test_canonical.py"],
    "data/splitting/findings.py": ["data/splitting/test_division_findings.py", "data/splitting/test_copies.py"],
    "data/splitting/leave_out.py": ["data/splitting/test_leave_out.py", "data/test_similar_names.py"],
    "data/splitting/partition.py": ["data/splitting/test_splits.py", "data/splitting/test_copies.py"],
    "data/splitting/split_files.py": ["data/splitting/test_split_files.py", "data/splitting/test_canonical.py"],
    "data/splitting/splits.py": ["data/splitting/test_splits.py", "data/splitting/test_leave_out.py"],
    "experiments/select.py": ["experiments/test_select.py"],
    "experiments/store.py": ["experiments/test_store.py"],
    "experiments/run_folder.py": ["experiments/test_run_folder.py", "experiments/test_store.py"],
    "classifier/decision/conformal.py": ["classifier/decision/test_conformal.py"],
    "core/delimited.py": ["core/test_delimited.py", "core/test_encodings.py"],
    "core/tables.py": ["core/test_tables.py"],
    "data/readers/tables.py": ["data/readers/test_tables.py", "data/readers/test_csv.py"],
    "data/readers/csv.py": ["data/readers/test_csv.py", "data/readers/test_tables.py"],
}
"""The files that are mutated, and the test files of each, below ``src/cytolora`` and ``tests``; the quickest first."""


class Run:
    """A copy of the project in which one file at a time is mutated and its tests are run."""

    def __init__(self, folder: Path) -> None:
        self._src = folder / "src"
        for name in _COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        self._folder = folder
        sys.dont_write_bytecode = True
        sys.path[:0] = [str(self._src), str(folder / "tests" / "support")]
        os.environ["PYTHONPATH"] = str(self._src)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # some are slow to load
        os.environ["CYTOLORA_TEST_DATA"] = str(folder / "none")  # the same tests on every machine
        for name in _PRELOADED:
            importlib.import_module(name)

    def source(self, name: str) -> str:
        """Reads a file without any mutant."""
        return (self._src / "cytolora" / name).read_text(encoding="utf-8")

    def outcome(self, name: str, source: str | None, seconds: float) -> str:
        """Runs the tests of a file on a mutant, or with None on the file as it is: killed, survived or timed out."""
        path = self._src / "cytolora" / name
        original = path.read_bytes()
        if source is not None:
            path.write_text(source, encoding="utf-8")
        try:
            return _wait(self._fork(name), seconds)
        finally:
            path.write_bytes(original)

    def _fork(self, name: str) -> int:
        child = os.fork()
        if child:
            return child
        code = 2
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            silence = os.open(self._folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            os.chdir(self._folder)
            files = [f"tests/{test}" for test in TESTS[name] if (self._folder / "tests" / test).exists()]
            options = [
                "-x",
                "-q",
                "-m",
                "not slow",
                "-p",
                "no:cacheprovider",
                "-p",
                "pytest_timeout",
                "-p",
                "_hypothesis_pytestplugin",
                "--tb=line",
            ]
            code = int(importlib.import_module("pytest").main([*options, f"--basetemp={self._folder}/t", *files]))
        finally:
            os._exit(code)


def _wait(child: int, seconds: float) -> str:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timed out"


def chosen(sources: Mapping[str, str], number: int | None, seed: int) -> list[tuple[str, Mutant]]:
    """Draws mutants over the files, as many of each as it has its share of them; None: all."""
    of_file = {name: mutants(source) for name, source in sources.items()}
    total, draw = sum(map(len, of_file.values())), random.Random(seed)
    picked = []
    for name, entries in of_file.items():
        count = len(entries) if number is None else max(round(number * len(entries) / total), _AT_LEAST)
        drawn = sorted(draw.sample(range(len(entries)), min(count, len(entries))))
        picked += [(name, entries[index]) for index in drawn]
    return picked


def known_survivors() -> dict[str, str]:
    """Reads ``mutants.txt``: a line ``FILE | KEY``, and below it the reason, indented."""
    reasons: dict[str, str] = {}
    key = ""
    for line in KNOWN.read_text(encoding="utf-8").splitlines() if KNOWN.exists() else []:
        if line.startswith(" "):
            reasons[key] = f"{reasons[key]} {line.strip()}".strip()
        elif line and not line.startswith("#"):
            key = line
            reasons[key] = ""
    return reasons


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=400, help="of mutants, over all files")
    parser.add_argument("--all", action="store_true", help="every mutant")
    parser.add_argument("--quick", action="store_true", help="60 mutants")
    parser.add_argument("--only", nargs="+", default=["*"], help="files below src/cytolora, as patterns")
    parser.add_argument("--key", nargs="+", help="of mutants, parts of them: `FILE | CODE`, as they are printed")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    names = [name for name in TESTS if any(fnmatch(name, pattern) for pattern in arguments.only)]
    number = None if arguments.all or arguments.key else 60 if arguments.quick else arguments.number
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        picked = chosen({name: run.source(name) for name in names}, number, arguments.seed)
        if arguments.key:
            picked = [entry for entry in picked if any(key in f"{entry[0]} | {entry[1].key}" for key in arguments.key)]
        outcomes = _run(run, picked)
    return _report(names, picked, outcomes)


def _run(run: Run, picked: Sequence[tuple[str, Mutant]]) -> list[str]:
    limits: dict[str, float] = {}
    outcomes = []
    for name, mutant in picked:
        if name not in limits:
            started = time.monotonic()
            if run.outcome(name, None, 600) != "survived":
                raise SystemExit(f"The tests of {name} fail without any mutant.")
            limits[name] = 15 + 4 * (time.monotonic() - started)
            print(f"{name}: {time.monotonic() - started:.1f} s without a mutant", flush=True)
        outcomes.append(run.outcome(name, mutated(run.source(name), mutant), limits[name]))
        if outcomes[-1] != "killed":
            print(f"  {outcomes[-1]}: {name}:{mutant.line} {mutant.key}", flush=True)
    return outcomes


def _report(names: Sequence[str], picked: Sequence[tuple[str, Mutant]], outcomes: Sequence[str]) -> int:
    by_file = {name: Counter[str]() for name in names}
    for (name, _), outcome in zip(picked, outcomes, strict=True):
        by_file[name][outcome] += 1
    for name, counts in by_file.items():
        print(json.dumps({"file": name, "mutants": counts.total(), **counts}))
    reasons = known_survivors()
    lived = [entry for entry, outcome in zip(picked, outcomes, strict=True) if outcome == "survived"]
    new = [(name, mutant) for name, mutant in lived if not reasons.get(f"{name} | {mutant.key}")]
    for name, mutant in new:
        print(f"new survivor: {name}:{mutant.line}\n{name} | {mutant.key}")
    share = len(lived) / max(len(picked), 1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"mutants": len(picked), "survived": len(lived), "of_these_new": len(new), "share": round(share, 3)}
    print(json.dumps({**found, "cpu_seconds": round(used.ru_utime + used.ru_stime)}))
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
