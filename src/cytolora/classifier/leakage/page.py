"""Leakage page: one HTML file that opens without a network; and the section of it on the page of `fit`."""

from pathlib import Path

from cytolora.classifier.leakage.report import LeakageReport
from cytolora.classifier.leakage.tables import of, summary
from cytolora.core.files import write_text
from cytolora.display.page_templates import page_templates

PACKAGE = "cytolora.classifier.leakage"
"""Holds the templates."""


def write_page(report: LeakageReport, path: Path) -> None:
    """Writes the page."""
    write_text(path, render(report))


def render(report: LeakageReport) -> str:
    """Returns the page; equal reports give equal text."""
    return (
        page_templates(PACKAGE)
        .get_template("leakage.html.j2")
        .render(report=report, summary=summary(report), findings=report.findings(), tables=of(report))
    )
