"""Fields in which settings differ, by the short names of the command line: ``rank``, ``targets``, ``last-blocks``."""

from collections.abc import Mapping, Sequence
from typing import Any

from cytolora.errors import ConfigError, unknown_name
from cytolora.reporting.results.settings import SettingRuns
from cytolora.reporting.results.variants import differing, spec_fields

By = str
"""``model``, ``method``, ``shots``, ``learning_rate``, or a field of a spec by its dotted name."""
THINGS: tuple[By, ...] = ("model", "method", "shots")
"""Bring fields of their own, and have columns of their own."""
RATE: By = "learning_rate"
"""Within a setting, on its validation images: the test set is scored for the chosen rate alone."""
_PRESET = "preset"


def fields_of(setting: SettingRuns) -> dict[str, Any]:
    """Returns every field of a setting that has no column, by dotted name; the preset too."""
    return {**spec_fields(setting.spec), _PRESET: setting.spec.preset}


def resolve(settings: Sequence[SettingRuns], by: str) -> By:
    """Returns the full name of what is meant: ``rank`` is ``adapter.rank``.

    Raises:
        ConfigError: If no setting has such a field, all have the same value of it, or the name means several.
    """
    name = by.strip().replace("-", "_")
    if name in (*THINGS, RATE):
        return name
    if name in ("seed", "seeds"):
        raise ConfigError("Settings are compared by their mean over the training seeds; a seed is no setting.")
    flats = [fields_of(setting) for setting in settings]
    known = sorted({key for flat in flats for key in flat})
    meant = [key for key in known if name in (key, key.rpartition(".")[2], key.replace(".", "_"))]
    varying = differing(*flats)
    if not meant:
        raise unknown_name("field to compare by:", by, [*THINGS, RATE, *map(short_name, varying)])
    chosen = [key for key in meant if key in varying]
    if len(chosen) > 1:
        raise ConfigError(f"{by} means {' and '.join(chosen)}, and settings differ in both; write one of them in full.")
    if not chosen:
        raise ConfigError(f"No two settings differ in {by}. They differ in: {_listed(varying)}.")
    return chosen[0]


def short_name(key: str) -> str:
    """Returns the last part of a dotted name: what a user types."""
    return key.rpartition(".")[2]


def without(fields: Mapping[str, Any], by: By) -> dict[str, Any]:
    """Returns all fields but the one that is compared."""
    return {key: value for key, value in fields.items() if key != by}


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(map(short_name, keys)) or "no field at all"
