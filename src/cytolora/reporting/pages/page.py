"""One HTML file that opens without a network: what was run, what came out, how to read it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cytolora.data.grouping import GROUPS_UNKNOWN, SPLIT_BY_IMAGE
from cytolora.display import format as words
from cytolora.experiments.store import StoredRun
from cytolora.metrics import bootstrap as stats
from cytolora.reporting.pages import protocol
from cytolora.reporting.pages.examples import Examples
from cytolora.reporting.pages.protocol import DatasetFacts
from cytolora.reporting.results.flags import flags
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import METRICS, Cell, Metric, best
from cytolora.reporting.tables.details import class_rows, tree_rows
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
    """How far cells are from a published model on the same classes."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one dataset."""

    facts: DatasetFacts
    cells: Sequence[Cell]
    curves: Sequence[Picture] = ()
    """Accuracy first."""
    matrices: Sequence[Picture] = ()
    """The best cell's first, then each model's at its largest amount."""
    breakdowns: Sequence[Breakdown] = ()
    """The metrics per value of each metadata column."""
    reliability: Picture | None = None
    """The best cell's."""
    examples: Examples | None = None
    """Of the best cell; None without the data."""
    slug: str
    """Names the dataset in links."""

    @property
    def best(self) -> Cell | None:
        """The cell of the highest accuracy on test."""
        return best(self.cells)

    @property
    def amounts(self) -> list[str]:
        """The amounts of training images, smallest first."""
        return amounts_of(self.cells)

    @property
    def has_published(self) -> bool:
        """Whether the literature prints any of its cells."""
        return any(cell.published for cell in self.cells)

    @property
    def sources(self) -> list[str]:
        """Where the published values come from, each once, then what keeps one from being the same experiment."""
        found = [(cell.model, cell.published) for cell in self.cells]
        sources = [f"{entry.source}." for _, entry in found if entry]
        notes = [f"{model}: {entry.note}" for model, entry in found if entry and entry.note]
        return list(dict.fromkeys([*sources, *notes]))

    @property
    def remarks(self) -> list[tuple[str, str, int]]:
        """The text and tag of each remark that occurs, and in how many cells."""
        found = Counter((mark.text, mark.tag) for cell in self.cells for mark in marks(cell))
        return [(text, tag, number) for (text, tag), number in found.items()]

    def pivot(self) -> Mapping[tuple[str, str], Mapping[str, Cell]]:
        """(model, method) to amount to cell."""
        return pivot(self.cells)

    def top(self, amount: str, metric: Metric) -> Cell | None:
        """The best cell of one column."""
        return best([cell for cell in self.cells if words.amount(cell.shots, cell.fraction) == amount], metric)


def render(overview: Overview, sections: Sequence[Section], runs: Sequence[StoredRun]) -> str:
    """Fills the template."""
    cells = [cell for section in sections for cell in section.cells]
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
        "seconds": words.seconds,
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
    environment.globals |= {"neighbour_rows": neighbour_rows}
    return environment.get_template("page.html.j2").render(overview=overview, **_context(sections, cells, runs))


def _context(sections: Sequence[Section], cells: Sequence[Cell], runs: Sequence[StoredRun]) -> dict[str, Any]:
    models = protocol.describe_models(cells)
    return {
        "sections": sections,
        "cells": cells,
        "runs": runs,
        "metrics": METRICS,
        "replicates": stats.REPLICATES,
        "models": models,
        "methods": protocol.describe_methods(cells),
        "rates": protocol.describe_rates(cells),
        "seeds": sorted({seed for cell in cells for seed in cell.seeds}),
        "software": protocol.describe_software(runs),
        "total_seconds": protocol.total_seconds(runs),
        "notices": _notices(cells),
        "once": not any(mark.tag == "retested" for cell in cells for mark in marks(cell)),
    }


def _notices(cells: Sequence[Cell]) -> list[str]:
    """Says what concerns many cells at once, before any number is read."""
    tags = [{mark.tag for mark in marks(cell)} for cell in cells]
    wording = {
        "cut": "trained with a budget cut short: a rehearsal of the machinery, not a result",
        "wrong attention": "computed with the public code's wrong attention: no result of the model",
        "missing": "without a learning rate that has all seeds: not finished, or diverged",
        "validation only": "without a test score yet: not finished",
        "incomplete": "with a test score for some seeds only",
        SPLIT_BY_IMAGE: "split by image: patients may be on both sides of the split (group leakage)",
        GROUPS_UNKNOWN: "with groups unknown: patients may be on both sides of the split (group leakage)",
        "repeated": "trained on repeated images: a class has fewer than were asked for",
        "retested": "whose test set was scored at more than one learning rate",
    }
    found = ((text, sum(tag in of_cell for of_cell in tags)) for tag, text in wording.items())
    return [f"{number} of {words.count(len(cells), 'cell')} {text}." for text, number in found if number]
