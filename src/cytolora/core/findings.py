"""Findings: what is odd in the input and does not stop the work, each with a code, a count and examples."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cytolora.core.finding_kinds import KINDS, FindingKind, Severity
from cytolora.errors import DataError

_NUM_EXAMPLES = 10
"""Cases that a finding keeps; its count counts all."""
_NUM_SHOWN = 3
"""Cases that one line names."""

ORDER: tuple[Severity, ...] = ("error", "warning", "note")
"""From the gravest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding; ``str`` gives its line."""

    code: str
    """``P102``; ``KINDS`` says what it means."""
    text: str
    """One line: what was found, with its number and first cases."""
    count: int = 1
    """Images, files, rows, classes or groups that it concerns."""
    examples: tuple[str, ...] = ()
    """The first of these, at most 10."""

    @property
    def kind(self) -> FindingKind:
        """What the code means, how grave it is, and its cure."""
        return KINDS[self.code]

    @property
    def severity(self) -> Severity:
        """``error``, ``warning`` or ``note``."""
        return self.kind.severity

    def plain(self) -> dict[str, Any]:
        """Returns what is written into JSON files and documents."""
        return {
            "code": self.code,
            "name": self.kind.name,
            "severity": self.severity,
            "text": self.text,
            "count": self.count,
            "examples": list(self.examples),
        }

    def __str__(self) -> str:
        return self.text


def finding(code: str, text: str, *, count: int = 1, examples: Iterable[str] = ()) -> Finding:
    """Makes a finding.

    Args:
        text: One line, complete as it stands.
        examples: All cases, or the first; those beyond 10 are dropped.

    Raises:
        KeyError: If the code is not in the table of kinds.
    """
    KINDS[code]
    return Finding(code=code, text=text, count=count, examples=tuple(examples)[:_NUM_EXAMPLES])


class RefusedDataError(DataError):
    """Data that no classifier is trained on; `check` says the same beforehand, under the same code."""

    def __init__(self, code: str, text: str) -> None:
        """Takes the code of a kind of severity ``error``."""
        assert KINDS[code].severity == "error", f"{code} is no error: data with it are used"
        super().__init__(text)
        self.code = code


def refuse_errors(name: str, findings: Iterable[Finding]) -> None:
    """Raises what `fit` and `run` answer to data of which a finding is an error.

    Raises:
        RefusedDataError: With the first such finding and its cure.
    """
    for one in findings:
        if one.severity == "error":
            text = str(one) if name in str(one) else f"{name}: {one}"
            raise RefusedDataError(one.code, f"{text} {one.kind.cure}")


def first(cases: Sequence[str]) -> str:
    """Names the first cases in words: ``namely a; b``, or ``the first are a; b; c``."""
    lead = "the first are " if len(cases) > _NUM_SHOWN else "namely "
    return lead + "; ".join(cases[:_NUM_SHOWN])


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorts findings by severity; equal ones keep their order, and each stands once."""
    return sorted(dict.fromkeys(findings), key=lambda one: ORDER.index(one.severity))


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings that somebody should look at: errors and warnings."""
    return [one for one in findings if one.severity != "note"]


def summary(findings: Iterable[Finding]) -> str:
    """Counts findings in words: ``1 error, 2 warnings``; empty where there is none."""
    number = Counter(one.severity for one in findings)
    words = [f"{number[severity]} {severity}{'s' * (number[severity] > 1)}" for severity in ORDER if number[severity]]
    return ", ".join(words)


def few_of_each(findings: Iterable[Finding]) -> list[Finding]:
    """Returns findings to read, the gravest first; of many of one kind the first three, and how many more there are."""
    by_code: dict[str, list[Finding]] = {}
    for one in gravest_first(findings):
        by_code.setdefault(one.code, []).append(one)
    return [one for members in by_code.values() for one in (*members[:_NUM_SHOWN], *_rest(members[_NUM_SHOWN:]))]


def _rest(findings: Sequence[Finding]) -> list[Finding]:
    if len(findings) < 2:
        return list(findings)
    return [replace(findings[0], text=f"… and {len(findings)} more of this kind; --json lists all.", examples=())]


def mark(one: Finding) -> str:
    """Returns what stands before a finding: ``! P102``, and ``- D506`` for a note."""
    return f"{'-' if one.severity == 'note' else '!'} {one.code}"


def lines(findings: Iterable[Finding]) -> list[str]:
    """Returns ``few_of_each`` of the findings as lines of a console."""
    return [f"{mark(one)} {one}" for one in few_of_each(findings)]
