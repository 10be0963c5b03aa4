"""Thin slices: of a long table of cases some run among the fast tests, all of them among the slow ones or these."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest


def read_slices(file: Path) -> dict[str, int]:
    """Returns how many cases stay fast, by module or module::function."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {name: int(number) for number, name in (line.split(" ", 1) for line in lines)}


def mark_rest_slow(items: Iterable[pytest.Item], slices: dict[str, int]) -> None:
    """Marks all cases but the fast ones, which are spread evenly over the table."""
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        function = item.nodeid.partition("[")[0]
        module = function.partition("::")[0]
        if function in slices or module in slices:
            cases[function].append(item)
    for function, found in cases.items():
        number = slices.get(function, slices.get(function.partition("::")[0], 0))
        for at, item in enumerate(found):
            if at not in spread(number, len(found)):
                item.add_marker(pytest.mark.slow)


def spread(number: int, total: int) -> Sequence[int]:
    """Returns places spread evenly over a list, the first among them."""
    number = min(number, total)
    return [place * total // number for place in range(number)]
