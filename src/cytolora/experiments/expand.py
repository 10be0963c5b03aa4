"""Expansion of a grid to runs: axes multiplied, every name checked before anything starts; imports no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Literal

from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.groups_from import NONE
from cytolora.config.run import (
    FITTED_HEADS,
    PAPER,
    PROMPT_METHODS,
    AugmentSpec,
    Budget,
    HeadSpec,
    Preprocess,
    RunSpec,
    Sampling,
    SplitSpec,
    TrainSpec,
    method_kind,
    needs_text,
)
from cytolora.core.files import sha256_file
from cytolora.data.datasets import DATASETS
from cytolora.errors import ConfigError, missing_package, unknown_name
from cytolora.experiments.class_trees import check_has_tree
from cytolora.experiments.without_validation import check_needs_no_validation
from cytolora.models.adapters.methods import METHODS, check_fits, check_head, check_prompt
from cytolora.models.adapters.prompt_methods import WEIGHT_DECAY
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import TEXT_PACKAGES, BackboneSpec

_NO_TRAINING = TrainSpec(budget=Budget(amount=1, unit="steps_per_shot"), augment=None)
"""Of methods without steps: part of the ids of their runs, whatever the grid says of batches and warm-up."""

_SYNTHETIC = "synthetic"


def narrowed(
    grid: GridSpec,
    *,
    datasets: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    shots: Sequence[int | Literal["all"]] | None = None,
    fractions: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    split_seeds: Sequence[int] | None = None,
    leave_out: Sequence[str] | None = None,
    learning_rates: Sequence[float] | None = None,
    max_steps: int | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    val_shots: int | Literal["none"] | None = None,
    sampling: Literal["per_class", "natural"] | None = None,
) -> GridSpec:
    """Replaces axes of a grid; None leaves an axis as it is.

    Raises:
        ConfigError: If a method is named that the grid gives no budget for; fitted heads need none.
    """
    changes: dict[str, object] = {}
    axes = {"datasets": datasets, "models": models, "shots": shots, "fractions": fractions, "seeds": seeds}
    axes |= {"split_seeds": split_seeds, "leave_out": leave_out, "learning_rates": learning_rates}
    for axis, values in axes.items():
        if values:
            changes[axis] = tuple(dict.fromkeys(values))  # named twice, it is still one run
    if split_seeds:
        changes["split"] = replace(grid.split, seed=0)  # its own is replaced
    if leave_out:
        changes["split"] = replace(changes.get("split", grid.split), leave_out=None)  # pyright: ignore[reportArgumentType]
    if fractions and not shots:
        changes["shots"] = ()
    if shots and not fractions:
        changes["fractions"] = ()
    given = {"precision": precision, "val_shots": val_shots, "sampling": sampling}
    changes |= {name: value for name, value in given.items() if value is not None}
    chosen = _chosen_methods(grid, methods) if methods else grid.methods
    changes["methods"] = {
        name: _adjusted(method, method.method or name, bool(learning_rates), max_steps)
        for name, method in chosen.items()
    }
    return replace(grid, **changes)  # pyright: ignore[reportArgumentType]


def _chosen_methods(grid: GridSpec, methods: Sequence[str]) -> dict[str, MethodSpec]:
    """Returns methods by name; a method that has variants alone means all of them."""
    chosen: dict[str, MethodSpec] = {}
    for name in methods:
        variants = {other: spec for other, spec in grid.methods.items() if grid.method_of(other) == name}
        if name in grid.methods:
            chosen[name] = grid.methods[name]
        elif variants:
            chosen |= variants
        elif method_kind(name) == "head":
            chosen[name] = MethodSpec()
        else:
            raise unknown_name(f"method of grid {grid.name}:", name, grid.methods)
    return chosen


def dataset_folders(grid: GridSpec, named: Mapping[str, Path], out: Path) -> dict[str, Path]:
    """Returns the folder of each dataset of a grid; drawn cells have a default one inside ``out``.

    Args:
        named: Folders by dataset; a name without its label set (``hicervix``) means all label sets of the grid.

    Raises:
        ConfigError: If a name is none of the grid's datasets.
    """
    data: dict[str, Path] = {}
    for name, path in named.items():
        meant = [dataset for dataset in grid.datasets if name in (dataset, dataset.partition(":")[0])]
        if not meant:
            raise ConfigError(f"--data names {name!r}, but the grid's datasets are {', '.join(grid.datasets)}.")
        data |= dict.fromkeys(meant, path)
    if _SYNTHETIC in grid.datasets:
        data.setdefault(_SYNTHETIC, out / "data" / _SYNTHETIC)
    return data


def tied_to_files(
    grid: GridSpec, split_file: Path | None, label_map: Path | None, groups_from: str | None = None
) -> GridSpec:
    """Ties a grid to the contents of its split file and label map, and to a choice of groups; None leaves its own.

    Raises:
        ConfigError: If the grid has several datasets, or a file cannot be read.
    """
    if (split_file or label_map) and len(grid.datasets) > 1:
        raise ConfigError(
            f"A split file and a label map are for one dataset; choose one of {', '.join(grid.datasets)}: --dataset."
        )
    if split_file and len(grid.split_seeds) > 1:
        seeds = ", ".join(map(str, grid.split_seeds))
        raise ConfigError(f"A split file is one division, and the grid has the split seeds {seeds}; give one of them.")
    if split_file and grid.leave_out:
        raise ConfigError("A split file and --leave-out exclude each other; give one of them.")
    chosen = grid.split.groups_from if groups_from is None else groups_from
    split = replace(
        SplitSpec(file_sha256=_hash(split_file)) if split_file else grid.split,
        groups_from=None if chosen == NONE else chosen,
    )
    split_seeds = () if split_file else grid.split_seeds
    return replace(grid, split=split, split_seeds=split_seeds, label_map_sha256=_hash(label_map) if label_map else None)


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error


def expand(grid: GridSpec) -> tuple[RunSpec, ...]:
    """Lists the runs of a grid; every name is checked against its registry.

    Raises:
        ConfigError: If a name is unknown, or two variants are the same setting.
    """
    return tuple(run for _, run in _expanded(grid))


def variant_names(grid: GridSpec) -> dict[str, str]:
    """Returns the names of a grid's named variants by setting id."""
    return {run.setting_id: name for name, run in _expanded(grid) if grid.methods[name].method is not None}


def _expanded(grid: GridSpec) -> list[tuple[str, RunSpec]]:
    """Lists the runs, each with its method's name in the grid."""
    for name in grid.datasets:
        DATASETS.get(name.partition(":")[0])
    for name in grid.models:
        BACKBONES.get(name)
    for name, spec in grid.methods.items():
        _check_method(grid, name, spec)
    _check_attention(grid)
    named = [
        run
        for dataset, backbone, split in product(grid.datasets, grid.models, grid.splits)
        for run in _runs(grid, dataset, backbone, split)
    ]
    _refuse_twins(grid, named)
    return named


def _check_method(grid: GridSpec, name: str, spec: MethodSpec) -> None:
    method = METHODS.get(grid.method_of(name))
    if (method.kind == "adapter") != (spec.adapter is not None):
        raise ConfigError(
            f"Grid {grid.name!r}, {name}: linear, zero-shot and {', '.join((*FITTED_HEADS, *PROMPT_METHODS))} have no "
            "adapter, all others need one."
        )
    if spec.method is not None and name != spec.method and name in {entry.name for entry in METHODS}:
        raise ConfigError(f"methods.{name}: {name} is a method itself, no name of a variant of {spec.method}.")
    check_head(method, spec.head)
    check_prompt(method, spec.prompt)
    if spec.adapter is not None:
        check_fits(method, spec.adapter)
    if method.plans_all_steps and spec.budget is not None and spec.budget.early_stopping is not None:
        raise ConfigError(f"methods.{name}: {method.name} takes rank away over all steps; leave out early_stopping.")
    _check_text(grid, name, spec)
    check_has_tree(grid, name)
    _check_budget(grid, name, spec)
    check_needs_no_validation(grid, name)


def _refuse_twins(grid: GridSpec, named: Sequence[tuple[str, RunSpec]]) -> None:
    """Names differ, the setting does not: stored once, its runs would bear one of the names."""
    first: dict[str, str] = {}
    for name, run in named if any(spec.method for spec in grid.methods.values()) else ():
        if (other := first.setdefault(run.setting_id, name)) != name:
            raise ConfigError(
                f"Grid {grid.name!r}: the methods {other} and {name} are the same setting, for they differ in nothing "
                "but perhaps learning rates. Leave one out, or join their learning rates."
            )


def count_runs(grid: GridSpec) -> int:
    """Counts the runs of a grid without making them, every dataset divided anew by each split seed."""
    places = len(grid.datasets) * len(grid.models) * len(grid.splits)
    amounts = len(grid.shots) + len(grid.fractions)
    kinds = {name: grid.kind_of(name) for name in grid.methods}
    rates = sum(
        1 if kinds[name] == "head" else len(method.learning_rates or grid.learning_rates)
        for name, method in grid.methods.items()
        if kinds[name] != "zero_shot"
    )
    return places * (amounts * len(grid.seeds) * rates + list(kinds.values()).count("zero_shot"))


def _check_text(grid: GridSpec, name: str, method: MethodSpec) -> None:
    if not needs_text(grid.method_of(name), method.head_start, method.adapter):
        return
    mute = [model for model in grid.models if BACKBONES.get(model).text is None]
    if mute:
        able = ", ".join(sorted(spec.name for spec in BACKBONES if spec.text is not None))
        option = f"head_start: text of {name}" if method.head_start == "text" else name
        raise ConfigError(f"{option} needs a text encoder, and {', '.join(mute)} has none. Those that have: {able}.")
    kinds = {text.kind for model in grid.models if (text := BACKBONES.get(model).text)}
    if absent := [package for kind, package in TEXT_PACKAGES.items() if kind in kinds and find_spec(package) is None]:
        raise missing_package("Text encoders need", absent[0], extra="text")


def _check_budget(grid: GridSpec, name: str, method: MethodSpec) -> None:
    """Refuses now what could only fail when the first run counts its steps."""
    wholes = ["all images"] * ("all" in grid.shots) + ["fractions"] * bool(grid.fractions)
    if wholes and method.budget is not None and method.budget.unit == "steps_per_shot":
        raise ConfigError(
            f"Grid {grid.name!r}, {name}: a budget in steps_per_shot needs shots, and "
            f"{' and '.join(wholes)} have none. Name shots, or write a grid with a budget in epochs."
        )


def _check_attention(grid: GridSpec) -> None:
    """Refuses the public code's wrong attention where it was never computed; a preset brings it to all grids."""
    had = [spec.name for spec in BACKBONES if spec.reference_attention_bug]
    direct = any(method.adapter and method.adapter.reference_attention_bug for method in grid.methods.values())
    wrong = [name for name in grid.models if name not in had]
    if (direct and wrong) or (grid.reference_attention_bug and len(wrong) == len(grid.models) and grid.preset == PAPER):
        raise ConfigError(
            f"reference_attention_bug is what the paper's public code computes for {' and '.join(had)}, and for no "
            f"other: not for {', '.join(wrong)}. Leave it out, or choose these models."
        )


def _runs(grid: GridSpec, dataset: str, backbone: str, split: SplitSpec) -> Iterator[tuple[str, RunSpec]]:
    for name in (name for name in grid.methods if grid.kind_of(name) == "zero_shot"):
        run = RunSpec(
            dataset=dataset,
            backbone=backbone,
            method=name,
            sampling=Sampling(shots=0, max_val_shots=None),
            split=split,
            train=_NO_TRAINING,
            learning_rate=0.0,
            seed=0,
            label_map_sha256=grid.label_map_sha256,
            preset=grid.preset,
            preprocess=_preprocess(grid, backbone),
        )
        yield name, run
    for sampling, (name, method) in product(_samplings(grid), grid.methods.items()):
        runs: Iterator[RunSpec] = iter(())
        if grid.kind_of(name) == "head":
            runs = _fitted(grid, dataset, backbone, split, name, method, sampling)
        elif method.budget is not None:
            runs = _setting(grid, dataset, backbone, split, name, method, method.budget, sampling)
        yield from ((name, run) for run in runs)


def _samplings(grid: GridSpec) -> Iterator[Sampling]:
    common = {
        "max_val_shots": grid.max_val_shots,
        "on_small_class": grid.on_small_class,
        "val_shots": grid.val_shots,
        "sampling": None if grid.sampling == "per_class" else grid.sampling,
    }
    for shots in grid.shots:
        yield Sampling(shots=None if shots == "all" else shots, **common)
    for fraction in grid.fractions:
        yield Sampling(fraction=fraction, **common)


def _setting(
    grid: GridSpec,
    dataset: str,
    backbone: str,
    split: SplitSpec,
    name: str,
    method: MethodSpec,
    budget: Budget,
    sampling: Sampling,
) -> Iterator[RunSpec]:
    adapter, spec, preprocess = method.adapter, BACKBONES.get(backbone), _preprocess(grid, backbone)
    if adapter is not None and grid.reference_attention_bug and spec.reference_attention_bug:
        adapter = replace(adapter, reference_attention_bug=True)
    train = TrainSpec(
        budget=budget,
        batch_size=grid.batch_size,
        weight_decay=WEIGHT_DECAY if method_kind(grid.method_of(name)) == "prompt" else grid.weight_decay,
        warmup_steps=50 if grid.warmup_epochs is not None else grid.warmup_steps,
        warmup_epochs=grid.warmup_epochs,
        cosine_steps=method.cosine_steps,
        augment=_augment(grid, spec, preprocess) if adapter is not None or grid.augment_frozen else None,
        precision="fp32" if method.adapter is None else grid.precision,  # heads are trained in fp32 in any case
    )
    for seed, rate in product(grid.seeds, method.learning_rates or grid.learning_rates):
        yield RunSpec(
            dataset=dataset,
            backbone=backbone,
            method=grid.method_of(name),
            adapter=adapter,
            sampling=sampling,
            split=split,
            train=train,
            learning_rate=rate,
            seed=seed,
            label_map_sha256=grid.label_map_sha256,
            head_start=method.head_start,
            preset=grid.preset,
            preprocess=preprocess,
            prompt=method.prompt,
            transductive=method.transductive,
        )


def _fitted(
    grid: GridSpec,
    dataset: str,
    backbone: str,
    split: SplitSpec,
    name: str,
    method: MethodSpec,
    sampling: Sampling,
) -> Iterator[RunSpec]:
    """Yields a run for each seed of a head that is fitted without steps, on the features that a linear head sees."""
    preprocess = _preprocess(grid, backbone)
    augment = _augment(grid, BACKBONES.get(backbone), preprocess) if grid.augment_frozen else None
    for seed in grid.seeds:
        yield RunSpec(
            dataset=dataset,
            backbone=backbone,
            method=grid.method_of(name),
            sampling=sampling,
            split=split,
            train=replace(_NO_TRAINING, augment=augment),
            learning_rate=0.0,
            seed=seed,
            label_map_sha256=grid.label_map_sha256,
            preset=grid.preset,
            preprocess=preprocess,
            head=method.head,
            transductive=method.transductive,
        )


def _preprocess(grid: GridSpec, backbone: str) -> Preprocess | None:
    own = BACKBONES.get(backbone).preprocess
    changed = own if grid.preprocess is None else grid.preprocess.apply(own)
    return None if changed == own else changed


def _augment(grid: GridSpec, backbone: BackboneSpec, preprocess: Preprocess | None) -> AugmentSpec | None:
    """Leaves out an interpolation that the backbone sees anyway: it would rename runs that are the same."""
    augment, seen = grid.augment, preprocess or backbone.preprocess
    if augment is not None and augment.interpolation == seen.interpolation:
        return replace(augment, interpolation=None)
    return augment


def _adjusted(spec: MethodSpec, method: str, rates_replaced: bool, max_steps: int | None) -> MethodSpec:
    if rates_replaced:
        spec = replace(spec, learning_rates=None)
    if max_steps is None:
        return spec
    if spec.budget is not None:
        return replace(spec, budget=replace(spec.budget, max_steps=max_steps))
    head = METHODS.get(method).head
    if head is not None and "step_limit" in head.settings:
        spec = replace(spec, head=replace(spec.head or HeadSpec(), step_limit=max_steps))
    return spec
