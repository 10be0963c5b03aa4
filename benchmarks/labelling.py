"""Simulated labelling with an oracle: labels needed against chance, coverage of the running estimate, bias without it.

A project is made of cells whose classes are known, features come from its backbone, and an oracle labels. Groups are
slides of drawn cells, and of Herlev the 538 that file names suggest (docs/data.md).

    python benchmarks/labelling.py                                              (drawn cells, nano; 20 repeats)
    python benchmarks/labelling.py --herlev smear2005 --backbone-file vit_tiny6/backbone.yaml
    python benchmarks/labelling.py --quick                                      (5 repeats)
    python benchmarks/labelling.py --planted                                    (no encoder: hits drawn by group)

*Labels needed*: training labels until the balanced accuracy on all cells of the test groups is 90 % of that of a
classifier of all training cells, by the queue of `cytolora label` without its test cells, and by chance; paired over
repeats (another division into shares each), 95 % t intervals. *Coverage*: half of the groups are never trained on and
stand for all groups there are; test shares are drawn from them with replacement, and test cells from these without.
The hint is taken to say stop at the first look whose interval is narrow enough; predictions always hold still.
*Planted*: each group has its own chance of being read rightly (beta), and the truth is the mean of that distribution.
*Naive*: cross-validated accuracy on the labels that the queue chose, less the accuracy on all cells never trained on.

Exit code 1 where a cell of a test group was trained on.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cytolora.data.datasets import load_manifest
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.labelling.board import Board
from cytolora.labelling.estimate import MAX_WIDTH, Triple, look_at, share_of
from cytolora.labelling.features import compute_features
from cytolora.labelling.project import Project, read_project
from cytolora.labelling.queues import Queues
from cytolora.labelling.refit import Refit, naive_accuracy, refit
from cytolora.labelling.session import create_project
from cytolora.labelling.shares import assign_shares

STEP = 10
"""Labels between two refits."""
MIXTURE = {"doubt": 0.5, "diversity": 0.5, "mistakes": 0.0, "rare": 0.15, "test": 0.0}
REACHED = 0.9
SIZES = (50, 100, 200)
NUM_LOOKS = 4
"""After 50, 100, 200 and 400 test labels, where there are so many cells."""


@dataclass(kw_only=True)
class Oracle:
    """Stands for the board of a project: labels that are always right."""

    truth: NDArray[np.int64]
    is_test: NDArray[np.bool_]
    labelled: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.codes, self.is_held = np.full(len(self.truth), -1), np.zeros(len(self.truth), dtype=bool)
        self.is_usable = np.ones(len(self.truth), dtype=bool)
        self.votes = SimpleNamespace(is_confirmed=lambda cell: True)

    def label(self, cells: Sequence[int]) -> None:
        self.labelled += cells
        self.codes[cells], self.is_held[cells] = self.truth[cells], True

    def training(self) -> dict[int, int]:
        return {cell: int(self.codes[cell]) for cell in sorted(self.labelled)}


def divided(project: Project, seed: int, share: float) -> Project:
    """Draws the shares of a project anew."""
    shares = assign_shares(project.units, project.names, share=share, seed=seed)
    about = SimpleNamespace(seed=seed, classes=project.about.classes, mixture=MIXTURE)
    return Project(
        folder=project.folder,
        about=cast("Any", about),
        root=project.root,
        names=project.names,
        is_there=project.is_there,
        groups=project.groups,
        is_test=shares.is_test,
        order=shares.order,
        cells_sha256="",  # no journal is opened
    )


def fitted_to(project: Project, features: NDArray[np.float32], training: dict[int, int]) -> Refit | None:
    """Refits as the session does."""
    units = [project.units[cell] for cell in training]
    usable = np.ones(len(features), dtype=bool)
    return refit(
        features, usable, list(training), list(training.values()), units, num_classes=len(project.about.classes)
    )


def balanced(predictions: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur."""
    return float(np.mean([(predictions[truth == one] == one).mean() for one in np.unique(truth)]))


def labels_needed(
    project: Project, features: NDArray[np.float32], truth: NDArray[np.int64], choose: str, most: int, goal: float
) -> tuple[int, Refit | None, Oracle]:
    """Labels by a strategy until the goal is reached, at most ``most``; returns the number, and where it stood then."""
    oracle, test = Oracle(truth=truth, is_test=project.is_test), project.is_test
    by_chance = np.random.default_rng(project.about.seed).permutation(np.flatnonzero(~test)).tolist()
    fitted: Refit | None = None
    while len(oracle.labelled) < most:
        if choose == "queue":
            queues = Queues(project=project, board=cast("Board", oracle), features=features, fitted=fitted)
            oracle.label([one.cell for one in queues.draw("oracle", STEP, "next")])
        else:
            oracle.label(by_chance[len(oracle.labelled) : len(oracle.labelled) + STEP])
        if test[oracle.labelled].any():
            sys.exit("A cell of a test group was trained on.")
        fitted = fitted_to(project, features, oracle.training())
        if fitted is not None and balanced(fitted.predictions[test], truth[test]) >= goal:
            break
    return len(oracle.labelled), fitted, oracle


@dataclass(kw_only=True)
class Coverage:
    """How often intervals held the truth."""

    at_size: dict[int, list[bool]] = field(default_factory=lambda: {size: [] for size in SIZES})
    at_stop: list[bool] = field(default_factory=list)
    """At the first look whose interval is narrow enough; none where no look's is."""
    labels_at_stop: list[int] = field(default_factory=list)
    at_end: list[bool] = field(default_factory=list)
    """There, or at the last look where none is: of every reader, not of those alone who were told to stop."""
    at_all_looks: list[bool] = field(default_factory=list)
    """At every one of them: what is left to a reader who stops at the worst."""

    def add(self, right: NDArray[np.bool_], groups: Sequence[str], truth: float) -> None:
        """Looks at the labels of test cells in the order in which they were drawn."""

        def interval(size: int) -> Triple:
            return share_of(right[:size].tolist(), list(map(str, range(size))), groups[:size])

        sizes = [look_at(number) for number in range(1, NUM_LOOKS + 1) if look_at(number) <= len(right)]
        intervals = {size: interval(size) for size in sizes}
        held = {size: low <= truth <= high for size, (_, low, high) in intervals.items()}
        stops = [size for size, (_, low, high) in intervals.items() if high - low <= MAX_WIDTH]
        for size in set(SIZES) & set(sizes):
            self.at_size[size].append(held[size])
        if stops:
            self.at_stop.append(held[stops[0]])
            self.labels_at_stop.append(stops[0])
        self.at_end.append(held[[*stops[:1], sizes[-1]][0]])
        self.at_all_looks.append(all(held.values()))


def measure_coverage(
    project: Project, right: NDArray[np.bool_], reserve: Sequence[str], draws: np.random.Generator, found: Coverage
) -> None:
    """Draws one test share from the reserve of groups, and looks at its intervals.

    Args:
        right: Of every cell, whether the classifier names its class.
    """
    cells_of: dict[str, list[int]] = {unit: [] for unit in reserve}
    for cell, unit in enumerate(project.units):
        if unit in cells_of:
            cells_of[unit].append(cell)
    everything = [cell for cells in cells_of.values() for cell in cells]
    drawn = draws.choice(np.array(reserve), size=len(reserve))
    pool = [(cell, f"{unit} {number}") for number, unit in enumerate(drawn) for cell in cells_of[str(unit)]]
    order = [pool[at] for at in draws.permutation(len(pool))]
    cells, groups = [cell for cell, _ in order], [group for _, group in order]
    found.add(right[cells], groups, float(right[everything].mean()))


def planted(accuracy: float, correlation: float, groups: int, num_draws: int) -> Coverage:
    """Looks at test shares of groups of geometric size, mean 20, each with its own chance of being read rightly.

    Args:
        correlation: Of two cells of one group in being read rightly; 0 to below 1.
    """
    draws, found = np.random.default_rng(0), Coverage()
    for _ in range(num_draws):
        sizes = draws.geometric(1 / 20, groups)
        chance = np.full(groups, accuracy)
        if correlation:
            known = 1 / correlation - 1
            chance = draws.beta(accuracy * known, (1 - accuracy) * known, groups)
        of = draws.permutation(np.repeat(np.arange(groups), sizes))
        found.add(draws.random(len(of)) < chance[of], list(map(str, of)), accuracy)
    return found


def simulate_planted(num_draws: int, say: Callable[[str], None]) -> None:
    """Prints the coverage of planted hits, a row for each accuracy, correlation and number of groups."""
    say("accuracy correlation groups | 50 100 200 labels | said stop, labels then, held | held at all looks")
    for accuracy in (0.6, 0.8, 0.95):
        for correlation in (0.0, 0.1, 0.3):
            for groups in (30, 100):
                one = planted(accuracy, correlation, groups, num_draws)
                at = " ".join(f"{100 * np.mean(held):.1f}" for held in one.at_size.values())
                stop = f"{100 * len(one.at_stop) / num_draws:.0f} %"
                if one.at_stop:
                    stop += f", {np.mean(one.labels_at_stop):.0f}, {100 * np.mean(one.at_stop):.1f}"
                looks = f"{100 * np.mean(one.at_all_looks):.1f}"
                say(f"{accuracy:8} {correlation:11} {groups:6} | {at} | {stop} | {looks}")


def t_interval(values: Sequence[float]) -> str:
    """Writes the mean with its 95 % t interval."""
    known = np.asarray(values, dtype=np.float64)
    half = float(stdtrit(len(known) - 1, 0.975)) * known.std(ddof=1) / sqrt(len(known))
    return f"{known.mean():.1f} ({known.mean() - half:.1f} to {known.mean() + half:.1f})"


def share(values: Sequence[bool]) -> str:
    """Writes a share in percent with its standard error."""
    if not values:
        return "never"
    value = float(np.mean(values))
    return f"{100 * value:.1f} % (standard error {100 * sqrt(value * (1 - value) / len(values)):.1f}, n {len(values)})"


def simulate(
    project: Project,
    features: NDArray[np.float32],
    truth: NDArray[np.int64],
    *,
    repeats: int,
    num_draws: int,
    most: int,
    say: Callable[[str], None],
) -> None:
    """Prints the three parts for one dataset."""
    needed: dict[str, list[int]] = {"queue": [], "chance": []}
    biases, full_values, coverage = list[float](), list[float](), Coverage()
    for seed in range(repeats):
        one = divided(project, seed, 0.5)
        test = one.is_test
        everything = {int(cell): int(truth[cell]) for cell in np.flatnonzero(~test)}
        full = fitted_to(one, features, everything)
        assert full is not None
        best = balanced(full.predictions[test], truth[test])
        full_values.append(100 * best)
        for choose, numbers in needed.items():
            number, fitted, oracle = labels_needed(one, features, truth, choose, most, REACHED * best)
            numbers.append(number)
            if choose == "queue" and fitted is not None:
                right = fitted.predictions == truth
                naive = naive_accuracy(fitted, oracle.training())
                if naive is not None:
                    biases.append(100 * (naive - right[test].mean()))
                draws = np.random.default_rng(seed)
                reserve = sorted({one.units[cell] for cell in np.flatnonzero(test)})
                for _ in range(num_draws):
                    measure_coverage(one, right, reserve, draws, coverage)
    differences = [queue - chance for queue, chance in zip(needed["queue"], needed["chance"], strict=True)]
    say(f"balanced accuracy with all training cells: {t_interval(full_values)} %")
    say(f"labels to 90 % of it: queue {t_interval(needed['queue'])}, chance {t_interval(needed['chance'])}")
    say(f"queue less chance, paired: {t_interval(differences)} labels; {repeats} repeats, in steps of {STEP}")
    censored = {choose: sum(number >= most for number in numbers) for choose, numbers in needed.items()}
    say(f"not reached within {most} labels: queue {censored['queue']}, chance {censored['chance']} (counted as {most})")
    for size, held in coverage.at_size.items():
        say(f"95 % interval at {size} test labels holds the truth: {share(held)}")
    after = f"; after {np.mean(coverage.labels_at_stop):.0f} labels on average" if coverage.at_stop else ""
    say(f"interval at the look that says stop: {share(coverage.at_stop)}{after}")
    say(f"interval at that look, or at the last where none says so: {share(coverage.at_end)}")
    say(f"all of up to {NUM_LOOKS} looks at once: {share(coverage.at_all_looks)}")
    say(f"naive accuracy less the truth: {t_interval(biases)} points" if len(biases) > 1 else "naive: not known")


def main() -> None:
    """Parses the options and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--herlev", type=Path, help="folder of Herlev instead of drawn cells")
    parser.add_argument("--backbone-file", type=Path, help="backbone for --herlev")
    parser.add_argument("--cells", type=int, default=1500, help="drawn cells, on slides of 20")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--draws", type=int, default=50, help="test shares of each repeat")
    parser.add_argument("--most", type=int, default=300, help="labels, at most")
    parser.add_argument("--quick", action="store_true", help="5 repeats of 10 test shares, 800 cells")
    parser.add_argument("--planted", action="store_true", help="coverage alone, of hits that are drawn by group")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.draws, options.cells = 5, 10, 800
    if options.planted:
        simulate_planted(options.draws * options.repeats, lambda line: print(line, flush=True))
        return
    model, weights = "nano", dict[str, Path]()
    if options.herlev is not None:
        if options.backbone_file is None:
            parser.error("--herlev needs --backbone-file")
        from cytolora.models.backbones.registry import BACKBONES, read_backbone_file

        spec = read_backbone_file(options.backbone_file)
        BACKBONES.add(spec)
        model = spec.name
    with tempfile.TemporaryDirectory() as folder:
        cells, dataset = options.herlev, "herlev"
        if cells is None:
            cells, dataset = Path(folder) / "cells", None
            write_synthetic(cells, num_images=options.cells, num_slides=options.cells // 20)
        known = load_manifest(cells, dataset)
        project = read_project(
            create_project(
                cells, Path(folder) / "project", classes=known.classes, model=model, dataset=dataset, weights=weights
            )
        )
        features, _ = compute_features(project, cache=Path(folder) / "cache", on_progress=lambda done, total: None)
        label_of = {sample.path: known.classes.index(sample.label) for sample in known.samples}
        truth = np.array([label_of[name] for name in project.names])
        title = "drawn cells" if options.herlev is None else "Herlev"
        print(f"{title}, {model}: {len(truth)} cells, {len(set(project.units))} groups or images", flush=True)
        simulate(
            project,
            np.array(features),
            truth,
            repeats=options.repeats,
            num_draws=options.draws,
            most=options.most,
            say=lambda line: print(f"  {line}", flush=True),
        )


if __name__ == "__main__":
    main()
