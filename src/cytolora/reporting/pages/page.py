"""Report page: one HTML file with settings, results and a reading guide, which opens without a network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cytolora.data.grouping import GROUPS_UNKNOWN, SPLIT_BY_IMAGE
from cytolora.display import format as words
from cytolora.experiments.store import StoredRun
from cytolora.metrics.intervals import LEGEND
from cytolora.reporting.pages import protocol
from cytolora.reporting.pages.examples import Examples
from cytolora.reporting.pages.protocol import DatasetFacts
from cytolora.reporting.results.divided import Divided, divided
from cytolora.reporting.results.flags import flags
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import METRICS, Metric, Setting, best
from cytolora.reporting.tables.details import class_rows, tree_rows
from cytolora.reporting.tables.divisions import LEGEND as DIVISIONS_LEGEND
from cytolora.reporting.tables.divisions import division_pivot
from cytolora.reporting.tables.metadata import Breakdown
from cytolora.reporting.tables.neighbours import neighbour_rows
from cytolora.reporting.tables.table1 import BELOW, Table1, lines_of
from cytolora.reporting.tables.tables import TITLES, amounts_of, further, pivot, plus_minus


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure in the page."""

    name: str
    """The stem of its files in ``figures/``."""
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The paper's experiments over all datasets, before any of them alone."""

    tables: Sequence[Table1]
    pictures: Sequence[Picture]
    rivals: Sequence[str]
    """How far settings are from a published model on the same classes."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one dataset."""

    facts: DatasetFacts
    settings: Sequence[Setting]
    curves: Sequence[Picture] = ()
    """Accuracy first."""
    matrices: Sequence[Picture] = ()
    """The best setting's first, then each model's at its largest amount."""
    breakdowns: Sequence[Breakdown] = ()
    """The metrics per value of each metadata column."""
    reliability: Picture | None = None
    """The best setting's."""
    examples: Examples | None = None
    """Of the best setting; None without the data."""
    slug: str
    """Names the dataset in links."""

    @property
    def best(self) -> Setting | None:
        """The setting of the highest accuracy on test."""
        return best(self.settings)

    @property
    def amounts(self) -> list[str]:
        """The amounts of training images, smallest first."""
        return amounts_of(self.settings)

    @property
    def has_published(self) -> bool:
        """Whether the literature prints any of its settings."""
        return any(setting.published for setting in self.settings)

    @property
    def sources(self) -> list[str]:
        """Where the published values come from, each once, then what keeps one from being the same experiment."""
        found = [(setting.model, setting.published) for setting in self.settings]
        sources = [f"{entry.source}." for _, entry in found if entry]
        notes = [f"{model}: {entry.note}" for model, entry in found if entry and entry.note]
        return list(dict.fromkeys([*sources, *notes]))

    @property
    def remarks(self) -> list[tuple[str, str, int]]:
        """The text and tag of each remark that occurs, and in how many settings."""
        found = Counter((mark.text, mark.tag) for setting in self.settings for mark in marks(setting))
        return [(text, tag, number) for (text, tag), number in found.items()]

    @property
    def divided(self) -> list[Divided]:
        """The settings that were run on several divisions, a row each."""
        return divided(self.settings)

    def pivot(self) -> Mapping[tuple[str, str], Mapping[str, Setting]]:
        """(model, method) to amount to setting."""
        return pivot(self.settings)

    def top(self, amount: str, metric: Metric) -> Setting | None:
        """The best setting of one column."""
        return best(
            [setting for setting in self.settings if words.amount(setting.shots, setting.fraction) == amount], metric
        )


def render(overview: Overview, sections: Sequence[Section], runs: Sequence[StoredRun]) -> str:
    """Fills the template."""
    settings = [setting for section in sections for setting in section.settings]
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("cytolora.reporting.pages"), PackageLoader("cytolora.display")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "spread": plus_minus,
        "interval": words.interval,
        "minus": words.difference,
        "rate": words.rate,
        "duration": words.duration,
        "thousands": words.thousands,
        "listed": words.listed,
        "svg": Markup,  # drawn by figures.save, which escapes every text
    }
    environment.globals |= {
        "amount": words.amount,
        "count": words.count,
        "marks": marks,
        "titles": TITLES,
        "lines_of": lines_of,
        "below": BELOW,
        "further": further,
    }
    environment.globals |= {"flags": flags, "tree_rows": tree_rows, "class_rows": class_rows}
    environment.globals |= {"neighbour_rows": neighbour_rows, "division_pivot": division_pivot}
    environment.globals |= {"divisions_legend": DIVISIONS_LEGEND}
    return environment.get_template("page.html.j2").render(overview=overview, **_context(sections, settings, runs))


def _context(sections: Sequence[Section], settings: Sequence[Setting], runs: Sequence[StoredRun]) -> dict[str, Any]:
    models = protocol.describe_models(settings)
    return {
        "sections": sections,
        "settings": settings,
        "runs": runs,
        "metrics": METRICS,
        "interval_kinds": LEGEND,
        "models": models,
        "methods": protocol.describe_methods(settings),
        "rates": protocol.describe_rates(settings),
        "seeds": sorted({seed for setting in settings for seed in setting.seeds}),
        "software": protocol.describe_software(runs),
        "total_seconds": protocol.total_seconds(runs),
        "notices": _notices(settings),
        "once": not any(mark.tag == "retested" for setting in settings for mark in marks(setting)),
    }


def _notices(settings: Sequence[Setting]) -> list[str]:
    """Says what concerns many settings at once, before any number is read."""
    tags = [{mark.tag for mark in marks(setting)} for setting in settings]
    wording = {
        "cut": "trained with a budget cut short: a dry run, not a result",
        "wrong attention": "computed with the public code's wrong attention: no result of the model",
        "missing": "without a learning rate that has all seeds: not finished, or diverged",
        "validation only": "without a test score yet: not finished",
        "incomplete": "with a test score for some seeds only",
        SPLIT_BY_IMAGE: "split by image: patients may be on both sides of the split (group leakage)",
        GROUPS_UNKNOWN: "with groups unknown: patients may be on both sides of the split (group leakage)",
        "repeated": "trained on repeated images: a class has fewer than were asked for",
        "retested": "whose test set was scored at more than one learning rate",
    }
    found = ((text, sum(tag in of_setting for of_setting in tags)) for tag, text in wording.items())
    return [f"{number} of {words.count(len(settings), 'setting')} {text}." for text, number in found if number]
