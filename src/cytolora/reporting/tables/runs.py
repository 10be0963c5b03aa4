"""Table of single runs, each with the marks of its setting."""

from collections.abc import Sequence
from typing import Any

from cytolora.experiments.run_table import row_of
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import Setting


def run_rows(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Returns a row for each run of some settings, by ``experiments.run_table.COLUMNS``."""
    return [row_of(run, in_file(one)) for one in settings for run in one.runs]
