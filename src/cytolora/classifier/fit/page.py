"""Evaluation page of a classifier: one HTML file beside the bundle that opens without a network."""

from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.classifier.decision.statement import RULE
from cytolora.classifier.fit.figures import figures, of_readers
from cytolora.classifier.fit.leakage import LEAKAGE
from cytolora.classifier.fit.readers import READERS, kappa_in_words
from cytolora.classifier.leakage.page import PACKAGE
from cytolora.classifier.leakage.report import LeakageReport
from cytolora.classifier.leakage.tables import Table, of
from cytolora.config.run import SUBSETS
from cytolora.display import format as words
from cytolora.display.figure import in_page
from cytolora.display.page_templates import page_templates
from cytolora.metrics.intervals import LEGEND


def render_page(
    contents: BundleManifest, found: Sequence[str], notes: Sequence[str], counts: Mapping[str, Mapping[str, int]]
) -> str:
    """Fills the template; equal contents give equal text, and nothing in it is a time or a path of this machine.

    Args:
        found: The first look at the data, in lines.
        notes: What must be known before a number is read; what the statement above them says is not repeated.
        counts: Images by class and subset.
    """
    said = {criterion.text for criterion in contents.statement.criteria}
    pictures = [(figure.caption, in_page(figure)) for figure in figures(contents)]
    readers = of_readers(contents)
    template = _environment().get_template("fit.html.j2")
    return template.render(
        contents=contents,
        statement=contents.statement,
        rule=RULE,
        training=contents.training,
        test=contents.metrics["test"],
        beside=contents.metrics.get("neighbours"),
        too_few_groups=contents.metrics.get("too_few_groups"),
        members=contents.metrics.get("members"),
        weights_are_equal=len({one.weight for one in contents.members or ()}) == 1,
        member_cells=words.member_cells,
        repeated=contents.metrics.get("repeats"),
        over_divisions=words.over_divisions_in_words,
        found=found,
        notes=[note for note in notes if note not in said],
        counts=counts,
        subsets=SUBSETS,
        interval_kinds=LEGEND,
        pictures=pictures,
        readers=contents.metrics.get(READERS),
        readers_picture=None if readers is None else (readers.caption, in_page(readers)),
        tables=_leakage(contents),
    )


def _leakage(contents: BundleManifest) -> list[Table]:
    """Returns the tables of the leakage section; none where groups are not known."""
    plain = contents.metrics.get(LEAKAGE)
    return [] if plain is None else of(LeakageReport.from_plain(plain))


@cache
def _environment() -> Environment:
    """Makes the templates' environment once a process, which compiles them."""
    environment = page_templates("cytolora.classifier.fit", PACKAGE)
    environment.filters |= {"percent": words.percent, "interval": words.interval, "svg": Markup}
    environment.globals |= {"count": words.count, "kappa": kappa_in_words}
    return environment
