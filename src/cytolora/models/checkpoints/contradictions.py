"""Comparison of a backbone's entry with the configurations beside its weights: what no tensor shows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from cytolora.core.findings import Finding, finding
from cytolora.errors import ConfigError, WeightsError
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.building import build_trunk, without_weights
from cytolora.models.checkpoints.neighbours import Statement, Value, read_neighbours

_WORDS = {
    "activation": "activation",
    "norm_eps": "epsilon of its norms",
    "width": "width",
    "layers": "number of layers",
    "heads": "number of heads",
    "patch_px": "patch size",
    "image_px": "image size",
    "mean": "mean",
    "std": "standard deviation",
    "interpolation": "interpolation",
}
_NOTED = {"interpolation"}
"""Facts in which libraries differ without a change of the checkpoint: to know, and no contradiction."""
_IMPLIED = {"activation": ("act_layer", "mlp_layer"), "norm_eps": ("norm_eps", "norm_layer"), "heads": ("num_heads",)}
"""Facts that the name of an architecture implies, by the arguments with which an entry sets its own."""
_TOLERANCE = {"mean": 1e-3, "std": 1e-3}
"""Absolute: published values are rounded to three or four digits."""


def check_neighbours(spec: BackboneSpec, path: Path, *, trust_weights: bool = False) -> tuple[Finding, ...]:
    """Compares an entry with the configurations beside a checkpoint.

    Where several state one fact, the entry agrees with one of them, or contradicts them all.

    Args:
        trust_weights: Goes on with the entry, whatever they say.

    Returns:
        What is noteworthy, contradictions included where ``trust_weights`` lets them pass.

    Raises:
        WeightsError: If a configuration names another value than the entry.
    """
    neighbours = read_neighbours(path)
    notes = [
        finding("W602", f"{_name(file)} beside the weights is not read: {why}.", examples=[_name(file)])
        for file, why in neighbours.unread.items()
    ]
    if not neighbours.statements:
        return tuple(notes)
    own = _facts_of_entry(spec)
    against = _contradicted(spec, own, [*neighbours.statements, *_implied(spec, neighbours.statements)])
    notes += [
        finding("W603", f"{_sentence(spec, own, one)}.", examples=[_name(one.file)])
        for one in against
        if _is_noted(one)
    ]
    graver = [one for one in against if not _is_noted(one)]
    if not graver:
        return tuple(notes)
    text = "; ".join(_sentence(spec, own, one) for one in graver)
    if not trust_weights:
        listed = "; ".join(_sentence(spec, own, one, str(one.file)) for one in graver)
        raise WeightsError(
            f"{listed}. Features would not be those of {path}: use the entry that the weights belong to, or go on with "
            "this one by --trust-weights (Python: trust_weights=True)."
        )
    return (finding("W601", f"{text}; the entry was trusted.", count=len(graver), examples=_files(graver)), *notes)


def _facts_of_entry(spec: BackboneSpec) -> dict[str, Value]:
    pre = spec.preprocess
    facts: dict[str, Value] = {"mean": pre.mean, "std": pre.std, "interpolation": pre.interpolation}
    if not spec.resamples_positions:  # else the file is of another size by its entry's own word
        facts["image_px"] = float(pre.size_px)
    with without_weights():
        trunk = build_trunk(spec)
    return facts | _facts_of_trunk(trunk)


def _facts_of_trunk(trunk: nn.Module) -> dict[str, Value]:
    """Reads off a timm encoder what configurations name; what it does not have is left out."""
    facts: dict[str, Value] = {}
    modules, inside = dict(trunk.named_modules()), vars(trunk)
    activation = next((module for name, module in modules.items() if name.endswith("mlp.act")), None)
    if activation is not None:
        facts["activation"] = _activation_of(activation)
    if isinstance(eps := getattr(modules.get("blocks.0.norm1"), "eps", None), float):
        facts["norm_eps"] = eps
    if "blocks.0.norm1" in modules:
        facts["layers"] = float(sum(name.startswith("blocks.") and name.count(".") == 1 for name in modules))
        if isinstance(width := inside.get("embed_dim"), int):
            facts["width"] = float(width)
    if isinstance(heads := getattr(modules.get("blocks.0.attn"), "num_heads", None), int):
        facts["heads"] = float(heads)
    patch: Any = getattr(modules.get("patch_embed"), "patch_size", None)
    if isinstance(patch, tuple) and len(set(patch)) == 1:
        facts["patch_px"] = float(patch[0])
    return facts


def _activation_of(module: nn.Module) -> str:
    name = type(module).__name__.lower()
    tanh = name == "gelutanh" or getattr(module, "approximate", "none") == "tanh"
    return "gelu_tanh" if tanh else {"quickgelu": "quick_gelu"}.get(name, name)


def _implied(spec: BackboneSpec, statements: Iterable[Statement]) -> list[Statement]:
    """Returns what the name of timm's architecture implies and no argument of the entry sets."""
    found = []
    for one in statements:
        if one.fact != "architecture" or one.value == spec.architecture:
            continue
        try:
            with without_weights():
                trunk = build_trunk(replace(spec, architecture=str(one.value), arguments={"num_classes": 0}))
        except ConfigError:  # of another version of timm
            continue
        facts = _facts_of_trunk(trunk)
        for fact, arguments in _IMPLIED.items():
            if fact in facts and not set(arguments) & set(spec.arguments):
                key = f"{one.key} {one.value}"
                found.append(Statement(fact=fact, value=facts[fact], key=key, file=one.file))
    return found


def _contradicted(spec: BackboneSpec, own: Mapping[str, Value], statements: Iterable[Statement]) -> list[Statement]:
    stated: dict[str, list[Statement]] = {}
    for one in statements:
        if one.fact in own and one.fact not in (spec.overrides or {}):
            stated.setdefault(one.fact, []).append(one)
    return [
        those[0] for fact, those in stated.items() if not any(_is_equal(fact, one.value, own[fact]) for one in those)
    ]


def _is_equal(fact: str, left: Value, right: Value) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return left == right
    pairs = zip(_as_tuple(left), _as_tuple(right), strict=True)
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=_TOLERANCE.get(fact, 0)) for a, b in pairs)


def _as_tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_noted(statement: Statement) -> bool:
    return statement.fact in _NOTED


def _sentence(spec: BackboneSpec, own: Mapping[str, Value], one: Statement, name: str = "") -> str:
    source, name = spec.sources[0] if spec.sources else "registry", name or _name(one.file)
    return (
        f"{name} beside the weights names another {_WORDS[one.fact]} ({one.key}: {_shown(one.value)}) than the "
        f"entry {spec.name} of {source} ({_shown(own[one.fact])}, {spec.architecture})"
    )


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{number:.6g}" for number in value) + "]"
    return value if isinstance(value, str) else f"{value:g}"


def _files(statements: Iterable[Statement]) -> list[str]:
    return list(dict.fromkeys(_name(one.file) for one in statements))


def _name(file: Path) -> str:
    """Names a file by its folder alone: findings are stored and published, and say nothing of a machine's folders."""
    return f"{file.parent.name}/{file.name}" if file.parent.name else file.name
