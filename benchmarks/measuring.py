"""Measuring: CPU seconds, contenders in interleaved rounds, share of the peak, and processes of their own."""

import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

from rows import PEAK_SHARE, Figures, Row, last_line, ratios

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the same work."""

    name: str
    make: Callable[[], Work]
    """Makes the work ready and does it once; what it returns is measured."""
    precision: str
    gflop: float
    """Of one image, multiplication and addition apart."""
    needs: Sequence[str] = ()
    """Modules that may not be installed."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one process and those that it started and waited for."""

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    output: str


def cpu_seconds(work: Work) -> float:
    """CPU seconds of this process and of those that it started and waited for."""
    started = _used()
    work()
    return _used() - started


def _used() -> float:
    both = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in both)


def not_installed(modules: Sequence[str]) -> str:
    """Names the modules that are missing; empty where none is."""
    missing = [name for name in modules if find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def race(
    part: str,
    contenders: Sequence[Contender],
    *,
    num_images: int,
    rounds: int,
    peaks: Mapping[str, Callable[[], float]],
    conditions: str,
    is_scaled: bool,
    extra: Callable[[Contender], Figures] = lambda contender: {},
) -> Iterator[Row]:
    """Measures contenders in interleaved rounds, and each round's peaks after them; the first one is the baseline.

    Args:
        num_images: How many images a contender's work is.
        peaks: What measures GFLOP/s, by precision.
        extra: Further figures of a contender that was measured.
    """
    works, problems = dict[str, Work](), dict[str, str]()
    for contender in contenders:
        if problem := not_installed(contender.needs):
            problems[contender.name] = problem
            continue
        try:
            works[contender.name] = contender.make()
        except Exception:  # a peer of another version must not end the others
            traceback.print_exc()
            problems[contender.name] = f"failed: {last_line(traceback.format_exc())}"
    rates: dict[str, list[float]] = {name: [] for name in (*works, *peaks)}
    for number in range(rounds):
        print(f"{part}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, work in works.items():
            rates[name].append(num_images / cpu_seconds(work))
        for name, peak in peaks.items():
            rates[name].append(peak())
    baseline = rates.get(contenders[0].name)
    for contender in contenders:
        common = {"part": part, "name": contender.name, "conditions": conditions, "is_scaled": is_scaled}
        if contender.name in problems:
            yield Row(**common, problem=problems[contender.name])
            continue
        found: dict[str, Sequence[float]] = {"images per CPU s": (rate := rates[contender.name])}
        if baseline:
            found["ratio"] = ratios(rate, baseline)
        shares = ratios(rate, rates[contender.precision])
        found[PEAK_SHARE] = tuple(100 * contender.gflop * share for share in shares)
        yield Row(**common, figures={**found, **extra(contender)})
    for name in peaks:
        yield Row(part=part, name=f"peak, {name}", figures={"GFLOP/s": rates[name]})


def process(command: Sequence[str | Path], *, cwd: Path | None = None, codes: Sequence[int] = (0,)) -> Cost:
    """Runs a process to its end and returns what it took.

    Raises:
        RuntimeError: If it ended with another exit code; with its last line.
    """
    with tempfile.TemporaryDirectory() as name:
        log, cost = Path(name) / "log.txt", Path(name) / "cost.json"
        launch = [sys.executable, "-S", Path(__file__).with_name("launch.py"), log, cost]
        subprocess.run(list(map(str, [*launch, *command])), check=True, cwd=cwd)
        output, found = log.read_text(encoding="utf-8", errors="replace"), json.loads(cost.read_text())
    if (code := found.pop("code")) not in codes:
        raise RuntimeError(f"ended with {code}: {last_line(output)}")
    return Cost(**found, output=output)


def cytolora(*arguments: str | Path) -> list[str | Path]:
    """Returns the command line of a command of cytolora."""
    return [sys.executable, "-c", "from cytolora.cli.app import main; main()", *arguments]
