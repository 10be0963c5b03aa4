"""Which cells may be compared: those of one dataset that differ in one thing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from cytolora.display import format as words
from cytolora.reporting.results.settings import Cell, Metric, best
from cytolora.reporting.results.variants import OF_A_MODEL, differing, plain_name, settings, within

By = Literal["model", "method", "shots"]

_OF_THE_THING: Mapping[By, tuple[str, ...]] = {
    "model": OF_A_MODEL,
    "method": ("adapter", "train", "head_start", "preprocess"),
    "shots": (),
}
"""Settings that come with a model, method or amount, so that two of them may differ in these as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """Cells among which one thing differs."""

    dataset: str
    setting: str
    """What all share besides the dataset."""
    pairs: tuple[tuple[Cell, Cell], ...]


def name_of(cell: Cell, by: By) -> str:
    """Names the thing in which a cell differs from its rivals."""
    return _names(cell)[by]


def find_rivals(cells: Sequence[Cell], by: By, metric: Metric, *, only_best: bool) -> list[Rivals]:
    """Gathers the tested cells that agree in every setting but ``by``, in the order of the cells.

    Args:
        only_best: Pairs the best cell of each group, by ``metric``, with the others alone.
    """
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        if cell.tested:
            groups.setdefault(_key(cell, by), []).append(cell)
    found = []
    for members in groups.values():
        winner = best(members, metric) if only_best else None
        paired = combinations(members, 2) if winner is None else ((winner, one) for one in members)
        pairs = tuple((first, second) for first, second in paired if _differ_in_one_thing(first, second, by))
        if pairs:
            setting = ", ".join(said for name, said in _names(members[0]).items() if name != by)
            found.append(Rivals(dataset=members[0].dataset, setting=setting, pairs=pairs))
    return found


def alone(cells: Sequence[Cell], by: By, paired: Sequence[Rivals]) -> list[str]:
    """Says of each tested cell without a rival what else differs in the cell that comes nearest, a line each.

    A cell is passed over where no other differs from it in ``by`` and has the same names otherwise.
    """
    have_one = {cell.cell_id for rivals in paired for pair in rivals.pairs for cell in pair}
    table: dict[tuple[str, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.tested:
            table[cell.dataset, *(value for name, value in _plain_names(cell).items() if name != by)].append(cell)
    said = []
    for members in table.values():
        for cell in members:
            others = [one for one in members if _plain_names(one)[by] != _plain_names(cell)[by]]
            if cell.cell_id not in have_one and others:
                near = min(others, key=lambda one: len(_differences(cell, one, by)))
                too = words.listed([plain_name(key) for key in _differences(cell, near, by)])
                names = [", ".join(_names(one).values()) for one in (cell, near)]
                said.append(f"{cell.dataset}: {names[0]} has no rival; {names[1]} differs in {too} too.")
    return said


def _names(cell: Cell) -> dict[By, str]:
    return {"model": cell.model, "method": cell.method, "shots": words.amount(cell.shots, cell.fraction)}


def _plain_names(cell: Cell) -> dict[By, str]:
    """As ``_names``, without what sets variants of a method apart."""
    return {**_names(cell), "method": cell.spec.method}


def _key(cell: Cell, by: By) -> tuple[object, ...]:
    """Everything in which rivals agree."""
    names = [name for thing, name in _names(cell).items() if thing != by]
    kept = {key: value for key, value in settings(cell.spec).items() if not within(key, _OF_THE_THING[by])}
    cut = cell.spec.train.budget.max_steps
    return (cell.dataset, *names, cut, *((key, str(kept[key])) for key in sorted(kept)))


def _differ_in_one_thing(first: Cell, second: Cell, by: By) -> bool:
    """Of cells with one key, whether they are not the same model, and not another method under another preset."""
    if by == "method":
        here, there = first.spec, second.spec
        return first is not second and (
            here.method == there.method or (here.preset, here.preprocess) == (there.preset, there.preprocess)
        )
    return name_of(first, by) != name_of(second, by)


def _differences(cell: Cell, other: Cell, by: By) -> list[str]:
    keys = differing(settings(cell.spec), settings(other.spec))
    found = [key for key in keys if not within(key, _OF_THE_THING[by])]
    if cell.spec.train.budget.max_steps != other.spec.train.budget.max_steps:
        found.append("train.budget")
    if cell.spec.preset != other.spec.preset:
        found.append("preset")
    return list(dict.fromkeys(found))
