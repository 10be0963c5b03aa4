"""Comparable pairs: settings of one dataset that differ in one thing only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from cytolora.display import format as words
from cytolora.reporting.comparison.fields import RATE, THINGS, By, fields_of, without
from cytolora.reporting.comparison.rates import pairs_of_rates
from cytolora.reporting.results.settings import Metric, Setting, best
from cytolora.reporting.results.variants import OF_A_MODEL, differing, field_in_words, plain_name, within

_OF_THE_THING: Mapping[By, tuple[str, ...]] = {
    "model": OF_A_MODEL,
    "method": ("adapter", "train", "head", "prompt", "head_start", "preprocess", "transductive"),
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
    """Names the thing in which a setting differs from its rivals; a field with what a grid calls the setting."""
    if by in THINGS:
        return _names(setting)[by]
    if by == RATE:
        return f"learning rate {words.rate(setting.rate)}"
    said = field_in_words(by, fields_of(setting).get(by))
    return f"{said} ({setting.name})" if setting.name else said


def find_rivals(settings: Sequence[Setting], by: By, metric: Metric, *, only_best: bool) -> list[Rivals]:
    """Gathers the tested settings that agree in everything but ``by``, in the order of the settings.

    Args:
        by: A thing, or a field by its full name (``fields.resolve``).
        only_best: Pairs the best setting of each group, by ``metric``, with the others alone.
    """
    if by == RATE:
        return _rates(settings, metric, only_best=only_best)
    groups: dict[tuple[object, ...], list[Setting]] = {}
    for setting in settings:
        if setting.tested:
            groups.setdefault(_key(setting, by), []).append(setting)
    found: list[tuple[Setting, Rivals]] = []
    for members in groups.values():
        winner = best(members, metric) if only_best else None
        paired = combinations(members, 2) if winner is None else ((winner, one) for one in members)
        pairs = tuple((first, second) for first, second in paired if _differ_in_one_thing(first, second, by))
        if pairs:
            setting = ", ".join(said for name, said in _shared_names(members[0], by).items() if name != by)
            found.append((members[0], Rivals(dataset=members[0].dataset, setting=setting, pairs=pairs)))
    return _told_apart(found, by)


def _rates(settings: Sequence[Setting], metric: Metric, *, only_best: bool) -> list[Rivals]:
    return [
        Rivals(dataset=setting.dataset, setting=", ".join(_names(setting).values()), pairs=pairs)
        for setting in settings
        if (pairs := pairs_of_rates(setting, metric, only_best=only_best))
    ]


def _told_apart(found: Sequence[tuple[Setting, Rivals]], by: By) -> list[Rivals]:
    """Adds to groups that are called the same the fields in which they differ."""
    alike: dict[tuple[str, str], list[Setting]] = defaultdict(list)
    for setting, rivals in found:
        alike[rivals.dataset, rivals.setting].append(setting)
    told = []
    for setting, rivals in found:
        others = alike[rivals.dataset, rivals.setting]
        own = fields_of(setting)
        apart = differing(*(without(fields_of(one), by) for one in others))
        extra = [field_in_words(key, own.get(key)) for key in apart]
        told.append(replace(rivals, setting=", ".join([rivals.setting, *extra])))
    return told


def alone(settings: Sequence[Setting], by: By, paired: Sequence[Rivals]) -> list[str]:
    """Says of each tested setting without a rival what else differs in the setting that comes nearest, a line each.

    A setting is passed over where no other differs from it in ``by`` and has the same names otherwise.
    """
    if by == RATE:
        return []
    have_one = {setting.setting_id for rivals in paired for pair in rivals.pairs for setting in pair}
    table: dict[tuple[str, ...], list[Setting]] = defaultdict(list)
    for setting in settings:
        if setting.tested:
            names = (value for name, value in _plain_names(setting).items() if name != by)
            table[setting.dataset, *names].append(setting)
    said = []
    for members in table.values():
        for setting in members:
            others = [one for one in members if _value(one, by) != _value(setting, by)]
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


def _shared_names(setting: Setting, by: By) -> dict[By, str]:
    """What rivals are called together: variants of a method differ in the field that is compared."""
    return _names(setting) if by in THINGS else _plain_names(setting)


def _value(setting: Setting, by: By) -> str:
    return _plain_names(setting)[by] if by in THINGS else str(fields_of(setting).get(by))


def _key(setting: Setting, by: By) -> tuple[object, ...]:
    """Everything in which rivals agree."""
    names = [name for thing, name in _shared_names(setting, by).items() if thing != by]
    fields = fields_of(setting)
    if by in THINGS:
        fields.pop("preset")  # part of a method's name; models and amounts are called by theirs
    kept = {key: value for key, value in fields.items() if not within(key, _OF_THE_THING.get(by, (by,)))}
    cut = setting.spec.max_steps
    return (setting.dataset, *names, cut, *((key, str(kept[key])) for key in sorted(kept)))


def _differ_in_one_thing(first: Setting, second: Setting, by: By) -> bool:
    """Of settings with one key, whether they are not the same model, and not another method under another preset."""
    if by == "method":
        here, there = first.spec, second.spec
        return first is not second and (
            here.method == there.method or (here.preset, here.preprocess) == (there.preset, there.preprocess)
        )
    return _value(first, by) != _value(second, by)


def _differences(setting: Setting, other: Setting, by: By) -> list[str]:
    keys = differing(fields_of(setting), fields_of(other))
    found = [key for key in keys if not within(key, _OF_THE_THING.get(by, (by,)))]
    if setting.spec.max_steps != other.spec.max_steps:
        found.append("train.budget")
    return list(dict.fromkeys(found))
