"""Comparable pairs: settings of one dataset that differ in one thing only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from cytolora.display import format as words
from cytolora.reporting.results.settings import Metric, Setting, best
from cytolora.reporting.results.variants import OF_A_MODEL, differing, plain_name, spec_fields, within

By = Literal["model", "method", "shots"]

_OF_THE_THING: Mapping[By, tuple[str, ...]] = {
    "model": OF_A_MODEL,
    "method": ("adapter", "train", "head_start", "preprocess"),
    "shots": (),
}
"""Fields of a spec that come with a model, method or amount, so that two of them may differ in these as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivals:
    """Settings among which one thing differs."""

    dataset: str
    setting: str
    """What all share besides the dataset."""
    pairs: tuple[tuple[Setting, Setting], ...]


def name_of(setting: Setting, by: By) -> str:
    """Names the thing in which a setting differs from its rivals."""
    return _names(setting)[by]


def find_rivals(settings: Sequence[Setting], by: By, metric: Metric, *, only_best: bool) -> list[Rivals]:
    """Gathers the tested settings that agree in everything but ``by``, in the order of the settings.

    Args:
        only_best: Pairs the best setting of each group, by ``metric``, with the others alone.
    """
    groups: dict[tuple[object, ...], list[Setting]] = {}
    for setting in settings:
        if setting.tested:
            groups.setdefault(_key(setting, by), []).append(setting)
    found = []
    for members in groups.values():
        winner = best(members, metric) if only_best else None
        paired = combinations(members, 2) if winner is None else ((winner, one) for one in members)
        pairs = tuple((first, second) for first, second in paired if _differ_in_one_thing(first, second, by))
        if pairs:
            setting = ", ".join(said for name, said in _names(members[0]).items() if name != by)
            found.append(Rivals(dataset=members[0].dataset, setting=setting, pairs=pairs))
    return found


def alone(settings: Sequence[Setting], by: By, paired: Sequence[Rivals]) -> list[str]:
    """Says of each tested setting without a rival what else differs in the setting that comes nearest, a line each.

    A setting is passed over where no other differs from it in ``by`` and has the same names otherwise.
    """
    have_one = {setting.setting_id for rivals in paired for pair in rivals.pairs for setting in pair}
    table: dict[tuple[str, ...], list[Setting]] = defaultdict(list)
    for setting in settings:
        if setting.tested:
            table[setting.dataset, *(value for name, value in _plain_names(setting).items() if name != by)].append(
                setting
            )
    said = []
    for members in table.values():
        for setting in members:
            others = [one for one in members if _plain_names(one)[by] != _plain_names(setting)[by]]
            if setting.setting_id not in have_one and others:
                near = min(others, key=lambda one: len(_differences(setting, one, by)))
                too = words.listed([plain_name(key) for key in _differences(setting, near, by)])
                names = [", ".join(_names(one).values()) for one in (setting, near)]
                said.append(f"{setting.dataset}: {names[0]} has no rival; {names[1]} differs in {too} too.")
    return said


def _names(setting: Setting) -> dict[By, str]:
    return {"model": setting.model, "method": setting.method, "shots": words.amount(setting.shots, setting.fraction)}


def _plain_names(setting: Setting) -> dict[By, str]:
    """As ``_names``, without what sets variants of a method apart."""
    return {**_names(setting), "method": setting.spec.method}


def _key(setting: Setting, by: By) -> tuple[object, ...]:
    """Everything in which rivals agree."""
    names = [name for thing, name in _names(setting).items() if thing != by]
    kept = {key: value for key, value in spec_fields(setting.spec).items() if not within(key, _OF_THE_THING[by])}
    cut = setting.spec.train.budget.max_steps
    return (setting.dataset, *names, cut, *((key, str(kept[key])) for key in sorted(kept)))


def _differ_in_one_thing(first: Setting, second: Setting, by: By) -> bool:
    """Of settings with one key, whether they are not the same model, and not another method under another preset."""
    if by == "method":
        here, there = first.spec, second.spec
        return first is not second and (
            here.method == there.method or (here.preset, here.preprocess) == (there.preset, there.preprocess)
        )
    return name_of(first, by) != name_of(second, by)


def _differences(setting: Setting, other: Setting, by: By) -> list[str]:
    keys = differing(spec_fields(setting.spec), spec_fields(other.spec))
    found = [key for key in keys if not within(key, _OF_THE_THING[by])]
    if setting.spec.train.budget.max_steps != other.spec.train.budget.max_steps:
        found.append("train.budget")
    if setting.spec.preset != other.spec.preset:
        found.append("preset")
    return list(dict.fromkeys(found))
