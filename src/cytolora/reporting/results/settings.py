"""The rows of the results table: stored runs gathered into settings, with spread, interval and published value."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import fmean, stdev
from typing import Literal

from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.errors import StoreError
from cytolora.experiments.select import by_setting as group_runs
from cytolora.experiments.select import choose_rate
from cytolora.experiments.store import StoredRun, damaged
from cytolora.metrics.bootstrap import Interval
from cytolora.reporting.results.division import group_warnings
from cytolora.reporting.results.evaluation import Evaluation, evaluate
from cytolora.reporting.results.facts import ClassFacts, class_facts
from cytolora.reporting.results.predictions import TestPredictions, read_test
from cytolora.reporting.results.published import Published, find_published
from cytolora.reporting.results.variants import name_variants

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1"]
METRICS: tuple[Metric, ...] = ("accuracy", "balanced_accuracy")
"""In every table; ``ALL_METRICS`` in the files."""
ALL_METRICS: tuple[Metric, ...] = (*METRICS, "macro_f1")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanStd:
    """Mean and standard deviation over training seeds."""

    mean: float
    std: float | None
    """Divided by n - 1, as the paper's own must be (98.72 +- 0.28 over three runs on 209 images leaves no other
    reading); None for a single seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "MeanStd":
        """Summarises one value per seed."""
        return cls(mean=fmean(values), std=stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A row of results: one dataset, model, method and amount of training images, with everything but rate and seed."""

    setting_id: str
    spec: RunSpec
    """That of any of its runs."""
    variant: str
    """What sets it apart from settings that are called the same; empty where none is."""
    runs: tuple[StoredRun, ...]
    """All rates and seeds, in that order."""
    rate: float | None
    """Chosen by validation; None while no rate has all seeds."""

    @property
    def dataset(self) -> str:
        """Its registered name, with the label set where it has several and the label map where one was used."""
        mapped = self.spec.label_map_sha256
        return f"{self.spec.dataset} (label map {mapped[:8]})" if mapped else self.spec.dataset

    @property
    def model(self) -> str:
        """The backbone's registered name."""
        return self.spec.backbone

    @property
    def method(self) -> str:
        """The method, with what sets this variant apart in brackets."""
        return f"{self.spec.method} ({self.variant})" if self.variant else self.spec.method

    @property
    def shots(self) -> int | None:
        """Training images per class; None for a fraction or all."""
        return self.spec.sampling.shots

    @property
    def fraction(self) -> float | None:
        """Share of the training images; None for shots or all."""
        return self.spec.sampling.fraction

    @property
    def amount_key(self) -> tuple[bool, float, float]:
        """Sorts shots, then fractions, then everything, each by size."""
        return (self.shots is None, self.shots or 0, 0 if self.shots else self.fraction or inf)

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """Every learning rate that was run, ascending."""
        return tuple(sorted({run.spec["learning_rate"] for run in self.runs}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that was run, ascending."""
        return tuple(sorted({run.spec["seed"] for run in self.runs}))

    @cached_property
    def chosen(self) -> tuple[StoredRun, ...]:
        """The runs of the chosen rate, by seed."""
        return tuple(run for run in self.runs if run.spec["learning_rate"] == self.rate)

    @cached_property
    def tested(self) -> tuple[StoredRun, ...]:
        """Those of them whose test set was scored."""
        return tuple(run for run in self.chosen if run.metrics["test"] is not None)

    @cached_property
    def predictions(self) -> tuple[TestPredictions, ...]:
        """The test predictions of ``tested``, read on first use."""
        return tuple(read_test(run) for run in self.tested)

    @cached_property
    def facts(self) -> ClassFacts:
        """What is known of its classes beyond their names."""
        return class_facts(self.spec, self.runs[0].provenance["classes"])

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """Everything computed from the test predictions of ``tested``; None until tested."""
        if not self.tested:
            return None
        found = evaluate(self.tested, self.facts)
        self._refuse_another_count(found)
        return found

    def _refuse_another_count(self, found: Evaluation) -> None:
        """Means are read from metrics.json, intervals from the predictions: both must tell of the same images."""
        scores = [run.metrics["test"] for run in self.tested]
        right, number = (sum(one["accuracy"] * one["n"] for one in scores), sum(one["n"] for one in scores))
        total, hits = sum(map(sum, found.confusion)), sum(row[index] for index, row in enumerate(found.confusion))
        if number != total or abs(right - hits) > 0.5:
            said = f"metrics.json counts {right:.0f} right of {number} test images, the predictions {hits} of {total}"
            raise damaged(self.tested[0].path, f"{said} (all seeds of the setting together)")

    @cached_property
    def group_warnings(self) -> Mapping[str, str]:
        """By tag, why patients, slides or fields may be on both sides of the split; empty where none is."""
        return group_warnings(self.spec, self.runs, self.evaluation and self.evaluation.grouping)

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """The 95 % sampling interval of each metric's mean over the seeds; empty until tested."""
        return self.evaluation.intervals if self.evaluation else {}

    def test(self, metric: Metric) -> MeanStd | None:
        """The metric on the test set over the seeds; None until it was scored."""
        return MeanStd.of([run.metrics["test"][metric] for run in self.tested]) if self.tested else None

    def val(self, metric: Metric, rate: float) -> MeanStd | None:
        """The metric on the validation set over the seeds, for one of the rates; None if training diverged there."""
        found = [run.metrics["val"] for run in self.runs if run.spec["learning_rate"] == rate]
        return None if None in found else MeanStd.of([metrics[metric] for metrics in found])

    @cached_property
    def diverged(self) -> tuple[float, ...]:
        """The rates at which training diverged for some seed."""
        return tuple(sorted({run.spec["learning_rate"] for run in self.runs if run.metrics["val"] is None}))

    @property
    def is_cut(self) -> bool:
        """Whether its budget was cut: a rehearsal."""
        return self.spec.train.budget.max_steps is not None

    @property
    def is_result(self) -> bool:
        """Whether it says anything of its model: neither cut nor computed with wrong attention on purpose."""
        adapter = self.spec.adapter
        return not self.is_cut and not (adapter is not None and adapter.reference_attention_bug)

    @property
    def published(self) -> Published | None:
        """What the literature prints for this setting, if anything."""
        if self.shots is not None:
            return None
        method = self.spec.method
        return find_published(dataset=self.dataset, model=self.model, method=method, fraction=self.fraction)

    @property
    def seconds(self) -> float | None:
        """Mean duration of its tested runs, or of all while none is."""
        known = [run.provenance["seconds"] for run in self.tested or self.runs if "seconds" in run.provenance]
        return fmean(known) if known else None

    @property
    def num_labels(self) -> int:
        """Distinct training images that a run saw, at most over its runs; validation images are not among them."""
        return max(
            run.metrics["train"]["num_images"] - int(run.provenance.get("num_repeated") or 0) for run in self.runs
        )

    def worst(self, key: str) -> int:
        """The largest value of a count in the provenance of its runs."""
        return max(int(run.provenance.get(key) or 0) for run in self.runs)


def read_settings(runs: Iterable[StoredRun]) -> list[Setting]:
    """Gathers runs into settings, sorted by dataset, model, method and amount."""
    grouped = group_runs(runs)
    specs = {name: parse_spec(members[0].spec, RunSpec, str(members[0].path)) for name, members in grouped.items()}
    variants = name_variants(specs)
    found = [
        Setting(
            setting_id=name,
            spec=specs[name],
            variant=variants[name],
            runs=tuple(members),
            rate=_rate(members),
        )
        for name, members in grouped.items()
    ]
    return sorted(found, key=lambda setting: (setting.dataset, setting.model, setting.method, setting.amount_key))


def by_dataset(settings: Iterable[Setting]) -> dict[str, list[Setting]]:
    """Sorts settings into datasets, keeping their order."""
    table: dict[str, list[Setting]] = defaultdict(list)
    for setting in settings:
        table[setting.dataset].append(setting)
    return dict(table)


def best(settings: Iterable[Setting], metric: Metric = "accuracy") -> Setting | None:
    """The setting of the highest mean on test, the earliest of equals; None where none is tested.

    Rehearsals with a cut budget, and the wrong attention of the public code, count only where there is nothing else.
    """
    scored = [(setting.is_result, spread.mean, setting) for setting in settings if (spread := setting.test(metric))]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None


def _rate(runs: Sequence[StoredRun]) -> float | None:
    try:
        return choose_rate(runs)
    except StoreError:  # a grid on its way: the page says so
        return None
