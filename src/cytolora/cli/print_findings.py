"""Prints findings by code, the gravest first: wrapped and coloured on a terminal, one line each elsewhere."""

from collections.abc import Iterable, Mapping
from typing import Any

from cytolora.cli.console import Console, print_item
from cytolora.core.findings import Finding, few_of_each, mark, problems

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """Prints findings; of many of one kind the first three, and how many more there are."""
    for one in few_of_each(findings):
        print_item(console, mark(one), str(one), style=_STYLES[one.severity])


def print_conclusion(findings: Iterable[Finding], console: Console) -> None:
    """Prints how many problems and notes there are."""
    found = list(findings)
    num_problems = len(problems(found))
    num_notes = len(found) - num_problems
    number = f"{num_problems} problem{'s' * (num_problems > 1)}" if num_problems else "No problems"
    notes = f" ({num_notes} note{'s' * (num_notes > 1)})" if num_notes else ""
    console.print(f"{number} found{notes}.")


def print_stored(findings: Iterable[Mapping[str, Any]], console: Console) -> None:
    """Prints findings that a file holds, with their dataset; one of an earlier version has no code."""
    for one in findings:
        mark = " ".join(filter(None, ["-" if one["severity"] == "note" else "!", one["code"]]))
        text = one["text"] if one["dataset"] in one["text"] else f"{one['dataset']}: {one['text']}"
        print_item(console, mark, text, style=_STYLES[one["severity"]])
