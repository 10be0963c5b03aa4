"""Telling apart cells that a table would call the same: the settings in which they differ, in words."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from cytolora.report import words
from cytolora.specs import PAPER, RunSpec, to_plain

_NAMED_ELSEWHERE = (
    *("dataset", "label_map_sha256", "backbone", "method", "learning_rate", "seed", "preset"),
    *("sampling.shots", "sampling.fraction", "train.budget"),
)


def name_variants(specs: Mapping[str, RunSpec]) -> dict[str, str]:
    """Names each spec by its preset, and by what sets it apart from those of the same dataset, model and method.

    Names are empty for the paper's preset, and where no two specs also share the amount of training images.
    """
    families: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    for name, spec in specs.items():
        families[spec.dataset, spec.label_map_sha256, spec.backbone, spec.method, spec.preset].append(name)
    names = {name: "" if spec.preset == PAPER else f"preset {spec.preset}" for name, spec in specs.items()}
    for members in families.values():
        amounts = [words.amount(specs[name].sampling.shots, specs[name].sampling.fraction) for name in members]
        if len(set(amounts)) < len(amounts):
            found = _differences({name: _settings(specs[name]) for name in members})
            names |= {name: ", ".join(filter(None, (names[name], found[name]))) for name in members}
    return names


def _differences(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    keys = sorted({key for flat in settings.values() for key in flat})
    differing = [key for key in keys if len({str(flat.get(key)) for flat in settings.values()}) > 1]
    return {name: ", ".join(_say(key, flat.get(key)) for key in differing) for name, flat in settings.items()}


def _say(key: str, value: Any) -> str:
    if key == "train.budget":
        return value
    name = " ".join(key.split(".")[-2:]).replace("_", " ")
    return f"{name} {'none' if value is None else value}"


def _settings(spec: RunSpec) -> dict[str, Any]:
    return _flat(to_plain(spec)) | {"train.budget": words.budget(spec.train.budget)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, inner in value.items():
        if prefix + key in _NAMED_ELSEWHERE:
            continue
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[prefix + key] = inner
    return flat
