"""Ensembles of stored predictions: weighted means of probabilities, beside their members with paired differences."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np

from cytolora.config.method_kinds import Weighting
from cytolora.errors import ConfigError
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.ensembles import likeliest_weights, mean_probabilities
from cytolora.metrics.intervals import Interval, intervals_of
from cytolora.metrics.paired import Difference, difference, holm
from cytolora.reporting.results.flags import suffix
from cytolora.reporting.results.predictions import TestPredictions, count_seeds, draw_seeds, read_test
from cytolora.reporting.results.settings import Metric, Setting, by_dataset
from cytolora.reporting.results.variants import differing, field_in_words, spec_fields, within

Over = Literal["all", "model", "method", "seed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Predictions that an ensemble is made of, or its own: on test images, a value per seed."""

    name: str
    test: tuple[TestPredictions, ...]
    """In the order of the paths."""
    val: tuple[TestPredictions | None, ...]
    """None where a run has no validation images."""
    data: tuple[str, str | None] = ("", None)
    """Name of the dataset, and fingerprint of its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A member beside its ensemble."""

    member: Member
    weight: float
    """Mean over the seeds."""
    interval: Interval
    difference: Difference
    """Of the ensemble minus the member."""
    p_holm: float
    """Corrected for all members of all ensembles that were made together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """One mean of several members' probabilities."""

    dataset: str
    setting: str
    """What the members share besides the dataset."""
    metric: Metric
    own: Member
    interval: Interval
    rows: tuple[Row, ...]
    weights: tuple[tuple[float, ...], ...]
    """By seed, one per member."""
    note: str = ""
    """Seeds of some members that it leaves out, for others lack them; empty where there are none."""


def make_ensembles(
    settings: Sequence[Setting],
    *,
    over: Over = "all",
    weights: Weighting = "equal",
    metric: Metric = "accuracy",
    together: bool = False,
    replicates: int = 2000,
) -> list[Ensemble]:
    """Makes an ensemble of all tested settings that share dataset, division, amount and what ``over`` leaves.

    Args:
        over: What members differ in: ``all`` takes every setting of a dataset, division and amount, seed by seed;
            ``seed`` the seeds of each setting. A group of one setting is made over its seeds. What has 0 shots joins
            every amount and seed.
        weights: ``validation`` chooses them on the validation images that all members share, seed by seed.
        together: Makes one ensemble of all runs of all settings, whatever they share, each run a member.
        replicates: Draws of the test set.

    Raises:
        ConfigError: If no group has two members, or members have other classes, test images, or no seed in common; or
            if a run that is to be a member was not tested.
    """
    made = [
        _ensemble(group, members, weights, metric, replicates)
        for group in ([_of_named_runs(settings)] if together else _groups(settings, over))
        if len(members := _read(group)) > 1
    ]
    if not made:
        raise ConfigError(
            f"No ensemble over {over}: no dataset and amount has two tested {_PLURALS[over]}. Run more of the grid, or "
            "choose another --over."
        )
    corrected = iter(holm([row.difference.p for one in made for row in one.rows]))
    return [replace(one, rows=tuple(replace(row, p_holm=next(corrected)) for row in one.rows)) for one in made]


_PLURALS = {"all": "settings or seeds", "model": "models", "method": "methods", "seed": "seeds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Runs of which one ensemble is made."""

    dataset: str
    setting: str
    """What they share besides the dataset."""
    members: Sequence[tuple[str, Setting, Sequence[StoredRun]]]
    """The name of each, and its runs in the order of the seeds."""
    note: str = ""


def _of_named_runs(settings: Sequence[Setting]) -> _Group:
    """Makes every run a member, whatever its seed."""
    runs = [(setting, run) for setting in settings for run in setting.runs]
    for _, run in runs:
        if run.metrics["test"] is None:
            raise ConfigError(
                f"{run.path} has no test score: validation chose another learning rate, or it is not finished. Leave "
                "it out, or name the run of the chosen rate."
            )
    dataset = settings[0].dataset if settings else ""
    members = [(_name(one, one.method, run.spec["seed"]), one, [run]) for one, run in runs]
    return _Group(dataset=dataset, setting="", members=members)


def _groups(settings: Sequence[Setting], over: Over) -> list[_Group]:
    """Sorts settings into groups, of which each makes an ensemble; what has 0 shots joins those of every amount."""
    divisions = _divisions(settings)
    groups: dict[tuple[str, ...], list[Setting]] = defaultdict(list)
    for setting in settings:
        if setting.tested:
            groups[(*_key(setting, over, divisions[setting.setting_id]), setting.spec.sampling.amount)].append(setting)
    for key, group in groups.items():
        if over in ("all", "method") and group[0].shots != 0:
            group += groups.get((*key[:-1], _NO_SHOTS), ())
    return [_group(key, group, over) for key, group in groups.items()]


_NO_SHOTS = "0-shot"


def _key(setting: Setting, over: Over, division: str) -> tuple[str, ...]:
    kept = {"model": setting.model, "method": setting.label}
    shared = [value for name, value in kept.items() if over == "seed" or (over != "all" and name != over)]
    return setting.dataset, *shared, division


def _divisions(settings: Sequence[Setting]) -> dict[str, str]:
    """Names the division of each setting by what sets it apart from others of its dataset, by setting id."""
    named = {}
    for members in by_dataset(settings).values():
        flats = [{k: v for k, v in spec_fields(one.spec).items() if within(k, ("split",))} for one in members]
        keys = differing(*flats)
        for one, flat in zip(members, flats, strict=True):
            named[one.setting_id] = ", ".join(field_in_words(key, flat.get(key)) for key in keys)
    return named


def _group(key: tuple[str, ...], group: Sequence[Setting], over: Over) -> _Group:
    """Makes members of a group: settings seed by seed, or the seeds of one setting, each a member."""
    dataset, shared = key[0], ", ".join(filter(None, key[1:]))
    if over == "seed" or (over == "all" and len(group) == 1):
        runs = [(one, run) for one in group for run in one.tested]
        members = [(_name(one, one.label, run.spec["seed"]), one, [run]) for one, run in runs]
        return _Group(dataset=dataset, setting=shared, members=members)
    drawn = [one for one in group if one.shots != 0] or group
    seeds = set.intersection(*(_seeds(one) for one in drawn))
    if not seeds:
        names = " and ".join(_name(one, one.label) for one in drawn[:2])
        raise ConfigError(f"{dataset}: {names} have no seed in common, and an ensemble is made seed by seed.")
    members = []
    for one in group:
        of_seeds = [run for run in one.tested if run.spec["seed"] in seeds]
        if one.shots == 0 and len(drawn) < len(group):  # nothing is drawn for it: the same at every seed
            of_seeds = [one.tested[0]] * len(seeds)
        members.append((_name(one, one.label), one, of_seeds))
    left = sorted(set.union(*(_seeds(one) for one in drawn)) - seeds)
    lacking = [_name(one, one.label) for one in drawn if not _seeds(one).issuperset(left)]
    said = f"{'seed' if len(left) == 1 else 'seeds'} {', '.join(map(str, left))} left out, not tested of"
    note = f"{dataset}, {shared}: {said} {'; '.join(lacking)}." if left else ""
    return _Group(dataset=dataset, setting=shared, members=members, note=note)


def _seeds(setting: Setting) -> set[int]:
    return {run.spec["seed"] for run in setting.tested}


def _read(group: _Group) -> list[Member]:
    """Reads the predictions of a group of two members or more; no others are needed."""
    if len(group.members) < 2:
        return []
    return [
        Member(name=name, test=tuple(map(_test, runs)), val=tuple(map(_val, runs)), data=_data(setting))
        for name, setting, runs in group.members
    ]


def _data(setting: Setting) -> tuple[str, str | None]:
    return setting.spec.dataset, setting.runs[0].identity.data_fingerprint


def _name(setting: Setting, method: str, seed: int | None = None) -> str:
    of_seed = "" if seed is None else f", seed {seed}"
    return f"{setting.model}, {method}{of_seed}{suffix(setting)}"


def _test(run: StoredRun) -> TestPredictions:
    return _in_order(read_test(run))


def _val(run: StoredRun) -> TestPredictions | None:
    return None if run.metrics["val"] is None else _in_order(read_test(run, "val"))


def _in_order(rows: TestPredictions) -> TestPredictions:
    order = sorted(range(len(rows.paths)), key=rows.paths.__getitem__)
    return _taken(rows, order)


def _taken(rows: TestPredictions, places: Sequence[int]) -> TestPredictions:
    return TestPredictions(
        classes=rows.classes,
        paths=[rows.paths[place] for place in places],
        groups=[rows.groups[place] for place in places],
        labels=rows.labels[list(places)],
        probabilities=rows.probabilities[list(places)],
    )


def _ensemble(
    group: _Group, members: Sequence[Member], weights: Weighting, metric: Metric, replicates: int
) -> Ensemble:
    dataset = group.dataset
    members = matched(dataset, members)
    num_seeds = len(members[0].test)
    of_seeds = [
        _weights([one.val[seed] for one in members], dataset) if weights == "validation" else _equal(len(members))
        for seed in range(num_seeds)
    ]
    test = tuple(
        replace(
            members[0].test[seed],
            probabilities=mean_probabilities([one.test[seed].probabilities for one in members], of_seeds[seed]),
        )
        for seed in range(num_seeds)
    )
    own, drawn = Member(name=f"ensemble of {len(members)}", test=test, val=()), draw_seeds(test, replicates)
    rows = [
        Row(
            member=one,
            weight=fmean(of_seed[index] for of_seed in of_seeds),
            interval=intervals_of(count_seeds(one.test))[metric],
            difference=(apart := difference(drawn, draw_seeds(one.test, replicates), metric)),
            p_holm=apart.p,
        )
        for index, one in enumerate(members)
    ]
    return Ensemble(
        dataset=dataset,
        setting=group.setting,
        note=group.note,
        metric=metric,
        own=own,
        interval=intervals_of(count_seeds(test))[metric],
        rows=tuple(rows),
        weights=tuple(map(tuple, of_seeds)),
    )


def _equal(number: int) -> list[float]:
    return [1 / number] * number


def matched(dataset: str, members: Sequence[Member]) -> list[Member]:
    """Returns members whose classes stand in the order of the first one's.

    Raises:
        ConfigError: Unless all know the same classes, were tested on the same images, and agree on their labels.
    """
    first, known = members[0], dict[str, int]()
    ordered = []
    for one in members:
        pair = f"{dataset}: {first.name} and {one.name} make no ensemble"
        classes = first.test[0].classes
        if any(set(rows.classes) != set(classes) for rows in one.test):
            raise ConfigError(f"{pair}: their classes differ ({len(classes)} and {len(one.test[0].classes)}).")
        test = tuple(_with_classes(rows, classes) for rows in one.test)
        val = tuple(rows and _with_classes(rows, classes) for rows in one.val)
        for here, there in zip(first.test, test, strict=True):
            if here.paths != there.paths or (here.labels != there.labels).any():
                raise ConfigError(
                    f"{pair}: they did not see the same test images ({len(here.paths)} and {len(there.paths)}; another "
                    "split or other labels)."
                )
        if all(here != there for here, there in zip(first.data, one.data, strict=True)):
            raise ConfigError(f"{pair}: {first.data[0]} and {one.data[0]} hold other images under the same names.")
        for rows in filter(None, val):
            labels = dict(zip(rows.paths, rows.labels.tolist(), strict=True))
            if any(known.setdefault(path, label) != label for path, label in labels.items()):
                raise ConfigError(f"{pair}: they know other labels of validation images.")
        ordered.append(replace(one, test=test, val=val))
    return ordered


def _with_classes(rows: TestPredictions, classes: tuple[str, ...]) -> TestPredictions:
    """Puts classes, labels and probabilities in another order of the same classes."""
    if rows.classes == classes:
        return rows
    columns = [rows.classes.index(name) for name in classes]
    labels = np.argsort(columns)[rows.labels]
    return replace(rows, classes=classes, labels=labels, probabilities=rows.probabilities[:, columns])


def _weights(members: Sequence[TestPredictions | None], dataset: str) -> list[float]:
    """Chooses weights on the validation images that all members share."""
    known = [one for one in members if one is not None]
    shared = set.intersection(*(set(one.paths) for one in known)) if len(known) == len(members) else set()
    if not shared:
        raise ConfigError(f"{dataset}: the members share no validation image to choose weights on; take `equal`.")
    parts = [_taken(one, [place for place, path in enumerate(one.paths) if path in shared]) for one in known]
    return likeliest_weights([one.probabilities for one in parts], parts[0].labels)
