"""Findings as text, for assertions."""

from collections.abc import Iterable

from cytolora.core.findings import Finding


def texts(findings: Iterable[Finding]) -> list[str]:
    """Returns the line of each."""
    return [str(one) for one in findings]


def problem_texts(findings: Iterable[Finding]) -> list[str]:
    """Returns the line of each that is more than a note."""
    return [str(one) for one in findings if one.severity != "note"]


def codes(findings: Iterable[Finding]) -> list[str]:
    """Returns the code of each."""
    return [one.code for one in findings]
