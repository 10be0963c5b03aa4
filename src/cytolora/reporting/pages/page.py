"""Report page: one HTML file with settings, results and a reading guide, which opens without a network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cytolora.display import format as words
from cytolora.display.page_templates import page_templates
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.intervals import LEGEND
from cytolora.reporting.comparison.gains import Gain
from cytolora.reporting.leakage.section import LeakageSection
from cytolora.reporting.pages import protocol
from cytolora.reporting.pages.examples import Examples
from cytolora.reporting.pages.protocol import DatasetFacts
from cytolora.reporting.results.divided import Divided, divided, undivided
from cytolora.reporting.results.flags import flags, notices
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.rates import distinct_val, num_val, runner_up
from cytolora.reporting.results.settings import METRICS, Metric, Setting, best, highest
from cytolora.reporting.tables.details import class_rows, tree_rows
from cytolora.reporting.tables.divisions import LEGEND as DIVISIONS_LEGEND
from cytolora.reporting.tables.divisions import division_pivot
from cytolora.reporting.tables.images import image_table
from cytolora.reporting.tables.intruders import intruder_line
from cytolora.reporting.tables.metadata import Breakdown
from cytolora.reporting.tables.neighbours import neighbour_rows
from cytolora.reporting.tables.rates import to_rows
from cytolora.reporting.tables.table1 import BELOW, Table1, lines_of
from cytolora.reporting.tables.tables import TITLES, amounts_of, further, pivot, plus_minus

LEAKAGE = "cytolora.classifier.leakage"
"""Holds the template of its tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure in the page."""

    name: str
    """The stem of its files in ``figures/``."""
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Experiments over all datasets, before any of them alone: the paper's, and one's own."""

    tables: Sequence[Table1]
    pictures: Sequence[Picture]
    own_tables: Sequence[Table1]
    """Linear classifiers on all images whose budget is not the paper's."""
    own_pictures: Sequence[Picture]
    """Methods, variants and budgets that the paper does not have."""
    gains: Sequence[Gain]
    """Adapters beside the linear head at equal amounts."""
    panel: Picture | None
    """Their figure."""
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
    leakage: LeakageSection
    leakage_panel: Picture | None = None
    """Its figure."""
    slug: str
    """Names the dataset in links."""

    @property
    def best(self) -> Setting | None:
        """The tested setting of the highest accuracy on validation."""
        return best(self.settings)

    @property
    def val_sizes(self) -> tuple[int, int] | None:
        """Fewest and most validation images of a run, of the settings that ``best`` compares; None where all are equal.

        The highest accuracy of many is the more often luck, the fewer images it was measured on.
        """
        sizes = {size for one in self.settings if one.tested and (size := num_val(one))}
        return (min(sizes), max(sizes)) if len(sizes) > 1 else None

    @property
    def has_splits(self) -> bool:
        """Whether its runs kept the file of their division."""
        return any(run.provenance.get("division") for setting in self.settings for run in setting.runs)

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

    @cached_property
    def divided(self) -> list[Divided]:
        """The settings that were run on several divisions, a row each."""
        return divided(self.settings)

    @cached_property
    def alone(self) -> list[Setting]:
        """The settings that were run on one division."""
        return undivided(self.settings, self.divided)


def top_of(settings: Sequence[Setting], amount: str, metric: Metric) -> Setting | None:
    """The setting of the highest mean on test in one column."""
    return highest([one for one in settings if words.amount(one.shots, one.fraction) == amount], metric)


def render(overview: Overview, sections: Sequence[Section], runs: Sequence[StoredRun]) -> str:
    """Fills the template."""
    settings = [setting for section in sections for setting in section.settings]
    return _environment().get_template("page.html.j2").render(overview=overview, **_context(sections, settings, runs))


@cache
def _environment() -> Environment:
    """Makes the templates' environment once a process, which compiles them."""
    environment = page_templates("cytolora.reporting.pages", LEAKAGE)
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
        "pivot": pivot,
        "amounts_of": amounts_of,
        "top_of": top_of,
        "below": BELOW,
        "further": further,
        "num_val": num_val,
        "distinct_val": distinct_val,
        "runner_up": runner_up,
        "rate_rows": to_rows,
        "image_table": image_table,
    }
    environment.globals |= {"flags": flags, "tree_rows": tree_rows, "class_rows": class_rows}
    environment.globals |= {"neighbour_rows": neighbour_rows, "division_pivot": division_pivot}
    environment.globals |= {"divisions_legend": DIVISIONS_LEGEND, "intruder_line": intruder_line}
    return environment


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
        "notices": notices(settings),
        "once": not any(mark.tag == "retested" for setting in settings for mark in marks(setting)),
    }
