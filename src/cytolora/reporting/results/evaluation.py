"""Evaluation of a setting from its test predictions: computed once, then cached."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cytolora.core.files import canonical_json, sha256_text
from cytolora.data import grouping
from cytolora.data.grouping import Grouping
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.agreement import ClassScore, class_scores, confusion, kappa, macro, one_against_rest, ordered
from cytolora.metrics.calibration import Bin, brier, expected_calibration_error, reliability
from cytolora.metrics.confounding import purities
from cytolora.metrics.hierarchy import TreeScore, restricted_accuracy, restricted_hits, tree_score
from cytolora.metrics.intervals import Interval, intervals_of, share_interval
from cytolora.reporting.results import predictions as predictions_module
from cytolora.reporting.results.cache import code_hash, predictions_hash, read_cached, write_cached
from cytolora.reporting.results.facts import ClassFacts
from cytolora.reporting.results.predictions import TestPredictions, count_seeds, read_test

_MODULES = (grouping, predictions_module)
"""With this one and all metrics, whose text is part of the key: other code, other numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A setting on its test set. Lists hold a value per seed, in the order of the tested runs."""

    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    """Test images of each class."""
    num_groups: int | None
    """None where groups are not known."""
    grouping: Grouping
    """Of the test images, and of the validation images of all seeds."""
    num_val: int
    """Validation images of all seeds, each counted once."""
    num_named: Sequence[int]
    """Classes that are named for any test image."""
    confounded: tuple[str, ...]
    """Classes whose test groups hold no other class, while those of other classes do."""
    test_set: str
    """Equal for equal paths and labels."""
    has_metadata: bool
    intervals: Mapping[str, Interval]
    """95 %, of the mean over the seeds, by metric."""
    confusion: Sequence[Sequence[int]]
    """True class x predicted class, all seeds together."""
    kappa: Sequence[float | None]
    linear_kappa: Sequence[float | None]
    """Empty where classes are not ordered."""
    quadratic_kappa: Sequence[float | None]
    auroc: Sequence[float | None]
    """One class against the rest, mean over the classes."""
    class_auroc: Sequence[float | None]
    """By class, mean over the seeds."""
    ece: Sequence[float]
    brier: Sequence[float]
    bins: Sequence[Bin]
    """Reliability, all seeds together."""
    trees: Sequence[TreeScore]
    """Empty where classes have no tree."""
    restricted: Mapping[str, Sequence[float | None]]
    """Accuracy on the classes of another label set, by that set's name."""
    restricted_intervals: Mapping[str, Interval]
    """95 %, of its mean over the seeds; lacks sets that no test image is of."""

    @property
    def num_images(self) -> int:
        """Images of the test set."""
        return sum(self.class_counts)

    @property
    def scores(self) -> list[ClassScore]:
        """Sensitivity and specificity of each class, all seeds together."""
        return class_scores(np.asarray(self.confusion))


def evaluate(runs: Sequence[StoredRun], facts: ClassFacts) -> Evaluation:
    """Returns what is kept of these tested runs, or computes and keeps it in ``.cache/intervals`` of their store.

    A kept file that is damaged, or was made from other predictions or by other code, counts as absent.
    """
    file = runs[0].path.parent / ".cache" / "intervals" / f"{_key(runs, facts)}.json"
    if (kept := read_cached(file, _from_plain)) is not None:
        return kept
    found = compute([read_test(run) for run in runs], facts)
    write_cached(file, asdict(found))
    return found


def compute(seeds: Sequence[TestPredictions], facts: ClassFacts) -> Evaluation:
    """Computes everything from the predictions of each seed."""
    first = seeds[0]
    classes, num_classes = first.classes, len(first.classes)
    confusions = [confusion(rows.labels, rows.predicted, num_classes) for rows in seeds]
    areas = [one_against_rest(rows.labels, rows.probabilities) for rows in seeds]
    labels = np.concatenate([rows.labels for rows in seeds])
    shares = np.concatenate([rows.probabilities for rows in seeds])
    in_order = [ordered(one, classes, facts.order) for one in confusions] if facts.order else []
    groups = set(first.groups) - {None}
    return Evaluation(
        classes=classes,
        class_counts=tuple(np.bincount(first.labels, minlength=num_classes).tolist()),
        num_groups=len(groups) or None,
        grouping=_grouping(seeds),
        num_val=len({path for rows in seeds for path in rows.val_groups}),
        num_named=[len(np.unique(rows.predicted)) for rows in seeds],
        confounded=tuple(one.label for one in purities(first.labels, first.groups, classes) if one.is_source),
        test_set=sha256_text(canonical_json(sorted(zip(first.paths, first.labels.tolist(), strict=True)))),
        has_metadata=any(rows.metadata for rows in seeds),
        intervals=intervals_of(count_seeds(seeds)),
        confusion=np.sum(confusions, axis=0).tolist(),
        kappa=[kappa(one) for one in confusions],
        linear_kappa=[kappa(one, "linear") for one in in_order],
        quadratic_kappa=[kappa(one, "quadratic") for one in in_order],
        auroc=[macro(one) for one in areas],
        class_auroc=[macro(of_class) for of_class in zip(*areas, strict=True)],
        ece=[expected_calibration_error(reliability(rows.labels, rows.probabilities)) for rows in seeds],
        brier=[brier(rows.labels, rows.probabilities) for rows in seeds],
        bins=reliability(labels, shares),
        trees=[tree_score(r.labels, r.probabilities, classes, facts.tree) for r in seeds] if facts.tree else [],
        restricted={
            name: [restricted_accuracy(rows.labels, rows.probabilities, kept) for rows in seeds]
            for name, kept in facts.restrictions.items()
        },
        restricted_intervals={
            name: found
            for name, kept in facts.restrictions.items()
            if (found := _restricted_interval(seeds, kept)) is not None
        },
    )


def _grouping(seeds: Sequence[TestPredictions]) -> Grouping:
    """Counts every image once: seeds share the test set, and may draw the same images for validation."""
    val = {path: ("val", group) for rows in seeds for path, group in rows.val_groups.items()}
    test = {path: ("test", group) for path, group in zip(seeds[0].paths, seeds[0].groups, strict=True)}
    return Grouping.of((val | test).values())


def _restricted_interval(seeds: Sequence[TestPredictions], kept: Sequence[int]) -> Interval | None:
    """Takes the images of the kept classes; right or wrong is all that accuracy asks of them."""
    images, groups, hits = [], [], []
    for rows in seeds:
        chosen, right = restricted_hits(rows.labels, rows.probabilities, kept)
        places = np.flatnonzero(chosen)
        images += [rows.paths[place] for place in places]
        groups += [rows.groups[place] for place in places]
        hits += right.tolist()
    if not images:
        return None
    return share_interval(hits, images=images, groups=groups)


def _key(runs: Sequence[StoredRun], facts: ClassFacts) -> str:
    code = code_hash(*(module.__file__ for module in _MODULES), __file__)
    hashes = [predictions_hash(run) for run in runs]
    scores = [[run.metrics["val"], run.metrics["test"]] for run in runs]  # what is kept was compared with these
    return sha256_text(canonical_json([code, hashes, scores, list(runs[0].provenance["classes"]), asdict(facts)]))


def _from_plain(plain: dict[str, Any]) -> Evaluation:
    return Evaluation(
        **plain
        | {
            "classes": tuple(plain["classes"]),
            "class_counts": tuple(plain["class_counts"]),
            "grouping": Grouping(**plain["grouping"]),
            "confounded": tuple(plain["confounded"]),
            "intervals": {name: Interval(**found) for name, found in plain["intervals"].items()},
            "restricted_intervals": {name: Interval(**one) for name, one in plain["restricted_intervals"].items()},
            "bins": [Bin(**found) for found in plain["bins"]],
            "trees": [TreeScore(**found | {"accuracies": tuple(found["accuracies"])}) for found in plain["trees"]],
        }
    )
