"""Variant names: tell apart settings of one dataset, model, method and amount by the fields that differ."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cytolora.config.run import PAPER, HeadSpec, PromptSpec, RunSpec, Sampling, to_plain
from cytolora.display import format as words

_NAMED_ELSEWHERE = (
    *("dataset", "label_map_sha256", "backbone", "method", "learning_rate", "seed", "preset"),
    *("sampling.shots", "sampling.fraction"),
)
BUDGET = "train.budget"
SPLIT_SEED = "split.seed"
LEFT_OUT = "split.leave_out"
DIVISIONS = (LEFT_OUT, SPLIT_SEED)
"""Fields that tell divisions apart."""
_NO_NAMES: Mapping[str, str] = {}
_NO_IMAGE = "no validation image"
INITS = {"eva": "EVA from the training images", "olora": "OLoRA", "pissa": "PiSSA"}
SCALING = {"alpha_over_rank": "α/rank", "alpha_over_sqrt_rank": "α/√rank"}
OF_A_MODEL = ("preprocess", "adapter.reference_attention_bug")
"""What a grid gives each model in its own way: models that differ in these are still compared as models."""


def spec_fields(spec: RunSpec) -> dict[str, Any]:
    """Returns the fields of a spec by dotted name, less those that a table has a column for; the budget in words."""
    # nothing said of a head or prompt is its defaults: a field of them that another sets differs from a value
    plain = to_plain(spec) | {
        "head": to_plain(spec.head or HeadSpec()),
        "prompt": to_plain(spec.prompt or PromptSpec()),
    }
    flat = {key: value for key, value in _flat(plain).items() if not within(key, (BUDGET,))}
    return flat | {BUDGET: words.budget(spec.train.budget)}


def within(key: str, parents: Iterable[str]) -> bool:
    """Whether a dotted name is one of ``parents`` or lies below one."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def differing(*flats: Mapping[str, Any]) -> list[str]:
    """Returns the names in which specs differ, sorted."""
    keys = sorted({key for flat in flats for key in flat})
    return [key for key in keys if len({str(flat.get(key)) for flat in flats}) > 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What sets a spec apart from others that a table would take for the same; empty where nothing does."""

    text: str
    division: str
    """Of several divisions which: ``split seed 1``."""


def name_variants(specs: Mapping[str, RunSpec], names: Mapping[str, str] = _NO_NAMES) -> dict[str, Variant]:
    """Names each spec by its preset, and by what sets it apart from specs that a table would take for the same.

    A name follows from the specs alone: where some clash, in one row or in one column, all specs of that method and
    preset are named by what clashes, so that equal specs are called the same in all datasets and of all models.
    Names are empty for the paper's preset where nothing clashes.

    Args:
        names: What grids call some of the specs: they clash with those of the same name alone.
    """
    families: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, spec in specs.items():
        families[names.get(name, spec.method), spec.preset].append(name)
    named = {}
    for (_, preset), members in families.items():
        flats = {name: spec_fields(specs[name]) for name in members}
        keys = _clashing(specs, flats)
        for name, flat in flats.items():
            fields = {key: flat.get(key) for key in keys if key not in DIVISIONS}
            parts = ["" if preset == PAPER else f"preset {preset}", *fields_in_words(fields)]
            division = [field_in_words(key, flat.get(key)) for key in DIVISIONS if key in keys]
            named[name] = Variant(text=", ".join(filter(None, parts)), division=", ".join(division))
    return named


_PHRASES: Mapping[str, Callable[[Any], str]] = {
    BUDGET: str,
    LEFT_OUT: lambda value: f"tested on {value}",
    "split.file_sha256": lambda value: f"split file {value[:8]}",
    "split.groups_from": lambda value: f"groups from {value}",
    "sampling.max_val_shots": lambda value: f"at most {words.count(value, 'validation image')} a class",
    "sampling.val_shots": lambda value: f"{words.count(value, 'validation image') if value else _NO_IMAGE} a class",
    "sampling.sampling": lambda value: f"labels in {value} prevalence",
    "train.warmup_epochs": lambda value: f"warm-up {words.count(value, 'epoch')}",
    "train.warmup_steps": lambda value: f"warm-up {words.count(value, 'step')}",
    "train.cosine_steps": lambda value: f"cosine of {words.count(value, 'step')}",
    "adapter.rank": lambda value: f"rank {value}",
    "adapter.targets": lambda value: f"on {', '.join(value)}",
    "adapter.blocks": lambda value: f"in {'all blocks' if value == 'all' else f'blocks {_listed(value)}'}",
    "adapter.last_blocks": lambda value: "in the last block" if value == 1 else f"in the last {value} blocks",
    "adapter.prompts": lambda value: f"{words.count(value, 'prompt')} a block",
    "adapter.alpha": lambda value: f"α {value:g}",
    "adapter.dropout": lambda value: f"dropout {value:g}",
    "adapter.scaling": lambda value: f"scaled by {SCALING[value]}",
    "adapter.init": lambda value: f"started by {INITS[value]}",
    "head.step_limit": lambda value: f"cut to {words.count(value, 'step')}",
    "transductive": lambda _: "all images together",
    "adapter.towers": lambda value: "in both encoders, without a head",
    "adapter.reference_attention_bug": lambda value: f"{'wrong' if value else 'right'} attention",
}
"""What a table says of a field, as a paper would; other fields are called by their name."""
_UNSET: Mapping[str, str] = {
    LEFT_OUT: "official or random test set",
    "split.file_sha256": "no split file",
    "split.groups_from": "groups as in the data",
    "sampling.sampling": "as many of every class",
    "sampling.max_val_shots": "all validation images",
    "sampling.val_shots": "validation images by the shots",
    "train.warmup_epochs": "warm-up in steps",
    "train.cosine_steps": "cosine to the end",
    "train.augment": "no augmentation",
    "train.augment.min_scale": "no augmentation",
    "train.augment.flip": "no augmentation",
    "adapter.last_blocks": "in all or numbered blocks",
    "adapter.init": "started as LoRA",
    "adapter.towers": "in the image encoder",
    "head.step_limit": "trained to the end",
    "transductive": "each image alone",
}
"""What it says of a field that is not set, where that is no default of a method or model."""
_ONE_PHRASE = ("adapter.rank", "adapter.prompts", "adapter.targets", "adapter.blocks", "adapter.last_blocks")
"""Size and place of an adapter: ``rank 16 on q, k, v, o``."""


def fields_in_words(values: Mapping[str, Any]) -> list[str]:
    """Puts fields into phrases: ``rank 16 on q, k, v, o``, ``dropout 0.1``; size and place of an adapter are one."""
    together = [field_in_words(key, values[key]) for key in _ONE_PHRASE if values.get(key) is not None]
    others = [field_in_words(key, value) for key, value in values.items() if key not in _ONE_PHRASE or value is None]
    return list(dict.fromkeys([*filter(None, [" ".join(together)]), *others]))


def field_in_words(key: str, value: Any) -> str:
    """Puts a field into words: ``rank 2``, ``batch size 32``."""
    if value is not None and key in _PHRASES:
        return _PHRASES[key](value)
    if value is None and key in _UNSET:
        return _UNSET[key]
    return f"{plain_name(key)} {'by default' if value is None else _listed(value)}"


def _listed(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def plain_name(key: str) -> str:
    """Puts the name of a field into words: ``adapter rank``."""
    return " ".join(dict.fromkeys(key.split(".")[-2:])).replace("_", " ")


def _clashing(specs: Mapping[str, RunSpec], flats: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fields that differ in a row (a dataset and model), or between the models of a column's kind."""
    rows: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    columns: dict[tuple[str | None, ...], list[str]] = defaultdict(list)
    for name in flats:
        spec = specs[name]
        rows[spec.dataset, spec.label_map_sha256, spec.backbone].append(name)
        columns[spec.dataset, spec.label_map_sha256, _kind(spec.sampling)].append(name)
    found = {key for members in rows.values() for key in differing(*_of(flats, members))}
    shared = {key for members in columns.values() for key in differing(*_of(flats, members))}
    return sorted(found | {key for key in shared if not within(key, OF_A_MODEL)})


def _of(flats: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    return [flats[name] for name in names]


def _kind(sampling: Sampling) -> str:
    """What the amount is told in: each has a figure of its own, and the paper's have methods of their own."""
    if sampling.shots is not None:
        return "shots"
    return "all" if sampling.fraction is None else "fraction"


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
