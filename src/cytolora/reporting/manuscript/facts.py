"""Facts of stored runs for reporting checklists and methods paragraphs, each with the file that holds it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cytolora.data.datasets import find_dataset
from cytolora.display import format as words
from cytolora.errors import ConfigError
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.intervals import LEGEND
from cytolora.reporting.pages.page import Section
from cytolora.reporting.pages.protocol import (
    describe_methods,
    describe_models,
    describe_rates,
    describe_software,
)
from cytolora.reporting.results.flags import notices
from cytolora.reporting.results.settings import Setting

OF_WEIGHTS_OR_NUMBERS = ("W", "N")
"""First letters of the codes of findings that are not about data."""


_OF_RUNS = "RUNS/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What is known, and where."""

    text: str
    where: str
    """Files of the report that are there, or ``RUNS/…`` for one of each stored run."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What facts are gathered from."""

    sections: Sequence[Section]
    runs: Sequence[StoredRun]
    files: Collection[str]
    """Names of files and folders of the report that is written; facts point to no other."""

    @property
    def settings(self) -> list[Setting]:
        """Those of all datasets."""
        return [setting for section in self.sections for setting in section.settings]


def _per_dataset(known: Known, say: Callable[[Section], str]) -> str:
    said = {section.facts.name: say(section) for section in known.sections}
    return "; ".join(f"{name}: {text}" for name, text in said.items() if text)


def _registered(name: str, say: Callable[..., str]) -> str:
    try:
        return say(find_dataset(name.partition(" (")[0]))
    except ConfigError:
        return ""


def _data_source(known: Known) -> str:
    return _per_dataset(
        known, lambda one: _registered(one.facts.name, lambda spec: f"{spec.description} Source: {spec.page}".strip())
    )


def _licence(known: Known) -> str:
    return _per_dataset(known, lambda one: _registered(one.facts.name, lambda spec: f"licence of data: {spec.licence}"))


def _classes(known: Known) -> str:
    return _per_dataset(known, lambda one: ", ".join(name for name, _ in one.facts.classes))


def _class_counts(known: Known) -> str:
    def say(one: Section) -> str:
        counted = [f"{name} {number}" for name, number in one.facts.classes if number is not None]
        return f"test images of each class: {', '.join(counted)}" if counted else ""

    return _per_dataset(known, say)


def _sizes(known: Known) -> str:
    def say(one: Section) -> str:
        train = sorted({run.metrics["train"]["num_images"] for setting in one.settings for run in setting.runs})
        between = f"{train[0]:,} to {train[-1]:,}" if len(train) > 1 else f"{train[0]:,}"
        test = "" if one.facts.num_test is None else f", {one.facts.num_test:,} to test"
        groups = "" if one.facts.num_test_groups is None else f" of {one.facts.num_test_groups:,} groups"
        return f"{between} training images a run{test}{groups}"

    return _per_dataset(known, say)


def _partition(known: Known) -> str:
    return _per_dataset(known, lambda one: f"{one.facts.split_rule}; groups: {one.facts.group_rule}")


def _quality(known: Known) -> str:
    def say(one: Section) -> str:
        of_data = [found for found in one.facts.findings if found.get("code", "")[:1] not in OF_WEIGHTS_OR_NUMBERS]
        return " ".join(f"{found.get('code', '')} {found['text']}".strip() for found in of_data)

    return _per_dataset(known, say) or "No findings in images and tables"


def _preprocessing(known: Known) -> str:
    views = {part for texts in describe_methods(known.settings).values() for text in texts for part in text.split("; ")}
    told = sorted(part for part in views if "view" in part or "crops" in part)
    return "; ".join(told)


def _models(known: Known) -> str:
    def say(one: Mapping[str, str]) -> str:
        licence = one["licence"] or "not stated"
        return f"{one['name']} ({one['architecture']}, weights {one['weights'][:12]}, licence: {licence})"

    return "; ".join(map(say, describe_models(known.settings)))


def _methods(known: Known) -> str:
    return "; ".join(f"{name}: {' / '.join(texts)}" for name, texts in describe_methods(known.settings).items())


def _tuning(known: Known) -> str:
    rates = "; ".join(f"{name}: {' / '.join(texts)}" for name, texts in describe_rates(known.settings).items() if texts)
    chosen = "the learning rate of the highest mean validation accuracy over the seeds is tested, no other"
    return f"Learning rates tried: {rates}; {chosen}" if rates else "No learning rate was chosen"


def _sampling(known: Known) -> str:
    amounts = dict.fromkeys(words.amount(one.shots, one.fraction) for one in known.settings)
    loss = "linear classifiers and adapters minimise a cross-entropy without class weights"
    return f"Training images drawn: {', '.join(amounts)}; {loss}"


def _seeds(known: Known) -> str:
    seeds = sorted({seed for one in known.settings for seed in one.seeds})
    return f"Training seeds {', '.join(map(str, seeds))}"


def _measures(_: Known) -> str:
    return (
        "Accuracy, balanced accuracy, macro F1, kappa, AUROC, calibration error and confusion matrices, with 95 % "
        f"intervals. {LEGEND} Settings are compared in pairs on the same test images, p corrected by Holm"
    )


def _clusters(known: Known) -> str:
    rules = {section.facts.group_rule for section in known.sections}
    return f"Intervals resample groups, not images, where groups are known ({'; '.join(sorted(rules))})"


def _performance(known: Known) -> str:
    def say(one: Section) -> str:
        best = one.best
        found = None if best is None else best.test("accuracy")
        if best is None or found is None:
            return ""
        interval = best.intervals.get("accuracy")
        between = f", 95 % interval {words.percent(interval.low)} to {words.percent(interval.high)}" if interval else ""
        amount = words.amount(best.shots, best.fraction)
        return (
            f"{best.model}, {best.method}, {amount}, best on validation: accuracy {words.percent(found.mean)} % on test"
            f"{between}"
        )

    return _per_dataset(known, say)


def _subgroups(known: Known) -> str:
    columns = sorted({found.column for section in known.sections for found in section.breakdowns})
    return f"Metrics by {', '.join(columns)}" if columns else ""


def _limitations(known: Known) -> str:
    said = [text for _, text in notices(known.settings)]
    warnings = [
        f"{section.facts.name}: {found['text']}"
        for section in known.sections
        for found in section.facts.findings
        if found["severity"] != "note"
    ]
    return "; ".join([*said, *warnings])


def _software(known: Known) -> str:
    return "; ".join(f"{name} {value}" for name, value in describe_software(known.runs))


def _left_out_sites(known: Known) -> str:
    found = sorted({one.spec.split.leave_out for one in known.settings if one.spec.split.leave_out})
    return f"Tested on values left out of training: {', '.join(found)}" if found else ""


def _counted_runs(known: Known) -> str:
    return f"{words.count(len(known.runs), 'run')} in {words.count(len(known.settings), 'setting')}"


def _stored(known: Known) -> str:
    checked = sum(run.checksums is not None for run in known.runs)
    text = "Class probabilities of every validation and test image of every run are stored"
    return f"{text}, with checksums of {checked:,} of {len(known.runs):,} runs" if checked else text


FACTS: dict[str, tuple[Callable[[Known], str], str]] = {
    "class_counts": (_class_counts, "images.csv"),
    "classes": (_classes, "classes.csv"),
    "clusters": (_clusters, "methods.md, settings.csv"),
    "data_source": (_data_source, "index.html"),
    "left_out_sites": (_left_out_sites, "settings.csv"),
    "licence": (_licence, "index.html"),
    "limitations": (_limitations, "index.html, findings.json"),
    "measures": (_measures, "settings.csv, gains.csv, figures/"),
    "methods": (_methods, "index.html, RUNS/spec.json"),
    "models": (_models, "index.html, RUNS/provenance.json"),
    "partition": (_partition, "index.html, splits/"),
    "performance": (_performance, "tables.csv, settings.csv"),
    "preprocessing": (_preprocessing, "index.html, RUNS/spec.json"),
    "quality": (_quality, "findings.json, RUNS/provenance.json"),
    "runs": (_counted_runs, "costs.csv"),
    "sampling": (_sampling, "index.html, RUNS/spec.json"),
    "seeds": (_seeds, "settings.csv"),
    "sizes": (_sizes, "images.csv"),
    "software": (_software, "index.html, RUNS/provenance.json"),
    "stored": (_stored, "RUNS/predictions.parquet"),
    "subgroups": (_subgroups, "metadata.csv"),
    "tuning": (_tuning, "rates.csv"),
}
"""By name, how a fact is told from stored runs, and where it stands, as far as a report has the file."""


def gather(names: Iterable[str], known: Known) -> list[Fact]:
    """Returns those facts that the runs know."""
    told = ((FACTS[name][0](known), _there(FACTS[name][1], known.files)) for name in names)
    return [Fact(text=text, where=where) for text, where in told if text]


def _there(where: str, files: Collection[str]) -> str:
    """Returns those of some places that a report has; what has no data has no file (``findings.json``)."""
    places = where.split(", ")
    return ", ".join(one for one in places if one.startswith(_OF_RUNS) or one.rstrip("/") in files)
