"""Documentation of findings from their table: `python scripts/findings.py > docs/findings.md` renews it."""

import sys

from cytolora.core.finding_kinds import KINDS

_TITLES = {
    "P": "Pixels",
    "F": "Files",
    "T": "Tables",
    "L": "Labels and groups",
    "D": "Duplicates and division",
    "W": "Weights",
    "S": "Slides and cells",
    "N": "Numbers",
}

_HEAD = """# Findings

Everything odd in the input that does not stop the work is a *finding*. It has a code that never changes its meaning, a
severity, a count and its first cases. `check`, `fit`, `run`, `evaluate`, `predict`, `embed`, `learning-curve`,
`leakage` and `report` show the same list:

* on the console, the gravest first: `!` before what somebody should look at, `-` before a note; of many of one kind the
  first three, and how many more there are;
* with `--json` under `findings`: objects with code, name, severity, text, count and examples;
* on the pages of `check --page`, `fit` and `report`, which also writes `findings.json`;
* in `bundle.json` (`training.findings`) and on the card of a bundle; in `provenance.json` of a run.

| severity | meaning | `check` exits with |
| --- | --- | ---: |
| error | `fit` and `run` refuse the data, too | 1 |
| warning | somebody should look at it before a number is trusted | 1 |
| note | to know | 0, with `--strict` 1 |

What keeps the data from being read at all is no finding: one line, exit code 2.
"""


def page() -> str:
    """Renders the page."""
    parts = [_HEAD]
    for letter, title in _TITLES.items():
        kinds = [kind for code, kind in KINDS.items() if code.startswith(letter)]
        if kinds:
            cells = ((one.code, one.name, one.severity, one.meaning, one.cure) for one in kinds)
            rows = (f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in cells)
            head = "| code | name | severity | meaning | cure |\n| --- | --- | --- | --- | --- |"
            parts.append("\n".join([f"## {letter}: {title}\n", head, *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
