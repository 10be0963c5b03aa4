"""Leakage page: one HTML file that opens without a network; and the section of it on the page of `fit`."""

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from cytolora.classifier.leakage.report import LeakageReport
from cytolora.classifier.leakage.tables import of, summary
from cytolora.core.files import write_text

PACKAGE = "cytolora.classifier.leakage"
"""Holds the templates."""


def write_page(report: LeakageReport, path: Path) -> None:
    """Writes the page."""
    write_text(path, render(report))


def render(report: LeakageReport) -> str:
    """Returns the page; equal reports give equal text."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(PACKAGE), PackageLoader("cytolora.display")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("leakage.html.j2").render(
        report=report, summary=summary(report), findings=report.findings(), tables=of(report)
    )
