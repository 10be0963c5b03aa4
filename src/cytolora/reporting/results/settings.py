"""Settings, the rows of the results table: stored runs gathered, evaluated and set beside published values."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf
from statistics import fmean, stdev
from typing import Literal, TypeVar

from cytolora.config.leave_out import column_and_value
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.errors import StoreError
from cytolora.experiments.names import read_names
from cytolora.experiments.select import by_setting as group_runs
from cytolora.experiments.select import choose_rate, is_diverged
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.intervals import Interval
from cytolora.reporting.results.division import group_warnings
from cytolora.reporting.results.evaluation import Evaluation, evaluate
from cytolora.reporting.results.facts import ClassFacts, class_facts
from cytolora.reporting.results.paper import has_adapter_of_paper
from cytolora.reporting.results.predictions import TestPredictions, read_test
from cytolora.reporting.results.published import Published, find_published
from cytolora.reporting.results.variants import Variant, name_variants

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
class SettingRuns:
    """The stored runs of one setting: equal in dataset, model, method and everything else but rate and seed."""

    setting_id: str
    spec: RunSpec
    """That of any of its runs."""
    name: str
    """What a grid calls it; empty for a method that has no named variants."""
    variant: Variant
    """What sets it apart from settings that are called the same."""
    runs: tuple[StoredRun, ...]
    """All rates and seeds, in that order."""
    rate: float | None
    """Chosen by validation; None while no rate has all seeds."""
    scored_on: Literal["test", "val"] = "test"
    """The images that ``tested`` runs are read on."""

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
        """The method, with what sets this variant and division apart in brackets."""
        return self._called(self.variant.text, self.variant.division)

    @property
    def label(self) -> str:
        """The method as ``method``, whatever the division; values left out are no random divisions, and named apart."""
        left_out = self.spec.split.leave_out
        kind = "" if left_out is None else f"one {column_and_value(left_out)[0]} left out"
        return self._called(self.variant.text, kind)

    def _called(self, *apart: str) -> str:
        texts = ", ".join(filter(None, apart))
        return (self.name or self.spec.method) + (f" ({texts})" if texts else "")

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
        return tuple(sorted({run.spec["learning_rate"] for run in self.runs if is_diverged(run)}))

    @property
    def is_cut(self) -> bool:
        """Whether its budget was cut: a dry run."""
        return self.spec.max_steps is not None

    @property
    def num_steps(self) -> int:
        """Steps of a run, those of the shortest where runs differ."""
        return min(run.metrics["train"]["num_steps"] for run in self.runs)

    @property
    def ends_in_warm_up(self) -> bool:
        """Whether training ends before its learning rate has warmed up, however its budget came about."""
        return self.spec.has_steps and 0 < self.num_steps <= self.num_warmup_steps

    @property
    def num_warmup_steps(self) -> int:
        """Steps of the warm-up of a run, those of the longest where runs differ."""
        train = self.spec.train
        if train.warmup_epochs is None:
            return train.warmup_steps
        return train.num_warmup_steps(max(run.metrics["train"]["num_images"] for run in self.runs))

    @property
    def is_result(self) -> bool:
        """Whether it says anything of its model: trained beyond warm-up, not cut, with the right attention."""
        is_wrong = self.spec.adapter is not None and self.spec.adapter.reference_attention_bug
        return not (self.is_cut or self.ends_in_warm_up or is_wrong)

    @property
    def published(self) -> Published | None:
        """What the literature prints for this setting, with this rank and these targets; never of sites left out."""
        if self.shots is not None or self.spec.split.leave_out is not None or not has_adapter_of_paper(self.spec):
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


AnySetting = TypeVar("AnySetting", bound=SettingRuns)


@dataclass(frozen=True, kw_only=True)
class Setting(SettingRuns):
    """A row of results: the runs of one setting with what was computed from their test predictions."""

    facts: ClassFacts
    """What is known of its classes beyond their names."""
    evaluation: Evaluation | None
    """Computed from the test predictions of ``tested``; None until tested."""
    group_warnings: Mapping[str, str]
    """By tag, why patients, slides or fields may be on both sides of the split; empty where none is."""

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """The 95 % sampling interval of each metric's mean over the seeds; empty until tested."""
        return self.evaluation.intervals if self.evaluation else {}


def read_settings(runs: Iterable[StoredRun]) -> list[Setting]:
    """Gathers runs into settings and evaluates each; sorted by dataset, model, method and amount."""
    return [evaluate_setting(gathered) for gathered in gather_settings(runs)]


def gather_settings(runs: Iterable[StoredRun]) -> list[SettingRuns]:
    """Gathers runs into settings, without reading a prediction; sorted by dataset, model, method and amount."""
    grouped = group_runs(runs)
    folders = {members[0].path.parent for members in grouped.values()}
    names = {name: called for folder in sorted(folders) for name, called in read_names(folder).items()}
    specs = {name: parse_spec(members[0].spec, RunSpec, str(members[0].path)) for name, members in grouped.items()}
    variants = name_variants(specs, names)
    settings = [
        SettingRuns(
            setting_id=name,
            spec=specs[name],
            name=names.get(name, ""),
            variant=variants[name],
            runs=tuple(members),
            rate=_rate(members),
        )
        for name, members in grouped.items()
    ]
    return sorted(settings, key=lambda setting: (setting.dataset, setting.model, setting.method, setting.amount_key))


def evaluate_setting(gathered: SettingRuns) -> Setting:
    """Evaluates the tested runs of a setting; reads their predictions, or what the store has cached of them.

    Raises:
        StoreError: If the predictions are damaged, or give other scores than the metrics stored beside them.
    """
    facts = class_facts(gathered.spec, gathered.runs[0].provenance["classes"])
    evaluation = evaluate(gathered.tested, facts) if gathered.tested else None
    return Setting(
        **{entry.name: getattr(gathered, entry.name) for entry in fields(SettingRuns)},
        facts=facts,
        evaluation=evaluation,
        group_warnings=group_warnings(gathered.spec, gathered.runs, evaluation and evaluation.grouping),
    )


def read_predictions(setting: SettingRuns) -> tuple[TestPredictions, ...]:
    """Reads the test predictions of ``tested``, one seed after the other."""
    return tuple(read_test(run, setting.scored_on) for run in setting.tested)


def by_dataset(settings: Iterable[AnySetting]) -> dict[str, list[AnySetting]]:
    """Sorts settings into datasets, keeping their order."""
    table: dict[str, list[AnySetting]] = defaultdict(list)
    for setting in settings:
        table[setting.dataset].append(setting)
    return dict(table)


def highest(settings: Iterable[Setting], metric: Metric = "accuracy") -> Setting | None:
    """The setting of the highest mean on test, the earliest of equals; None where none is tested.

    Chosen among many it flatters: to mark a table's maximum, never to name a winner (``best``). Dry runs, and the wrong
    attention of the public code, count only where there is nothing else.
    """
    scored = [(setting.is_result, spread.mean, setting) for setting in settings if (spread := setting.test(metric))]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None


def best(settings: Iterable[AnySetting], metric: Metric = "accuracy") -> AnySetting | None:
    """The tested setting of the highest mean on validation; None where none is tested. Test takes no part.

    Of equals the one with more validation images, then of lower validation loss, then the earliest. Dry runs, and the
    wrong attention of the public code, count only where there is nothing else.
    """
    return max((one for one in settings if one.tested), key=lambda one: _on_validation(one, metric), default=None)


def _on_validation(setting: SettingRuns, metric: Metric) -> tuple[bool, float, int, float]:
    scores = [run.metrics["val"] for run in setting.chosen]
    if None in scores:  # a setting without validation images, of which nothing is known but its test
        return setting.is_result, -inf, 0, -inf
    mean = {name: fmean(score[name] for score in scores) for name in (metric, "loss")}
    return setting.is_result, mean[metric], min(score["n"] for score in scores), -mean["loss"]


def _rate(runs: Sequence[StoredRun]) -> float | None:
    try:
        return choose_rate(runs)
    except StoreError:  # a grid on its way: the page says so
        return None
