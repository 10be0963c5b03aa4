"""Presets: named differences from a grid, such as two states of the paper's public code."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import PAPER, AugmentSpec, Budget, PreprocessChange
from cytolora.config.yaml import read_spec
from cytolora.core.schema import FILE_NAME, check_fields
from cytolora.errors import ConfigError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetSpec:
    """Changes that a preset makes in a grid; a field that is left out changes nothing."""

    name: str
    """Shown beside every number that was computed with it."""
    description: str = ""
    models: Mapping[str, str] | None = None
    """Backbones by the name of the one that stands in its place."""
    preprocess: PreprocessChange | None = None
    augment: AugmentSpec | None = None
    augment_frozen: bool = False
    steps_per_shot: int | None = None
    """The amount of budgets in that unit; what is added to the product stays."""
    cosine_steps_frozen: int | None = None
    """Of methods without an adapter; see TrainSpec.cosine_steps."""
    learning_rates_frozen: tuple[float, ...] | None = None
    """Of methods without an adapter, whatever the grid gives them."""
    scaling: Literal["alpha_over_rank", "alpha_over_sqrt_rank"] | None = None
    """Of all adapters."""
    reference_attention_bug: bool = False
    """See GridSpec."""
    budget: Budget | None = None
    """Of all methods with steps, whatever the grid gives them; a dry run's cut is made afterwards."""
    learning_rates: tuple[float, ...] | None = None
    """Of all methods with steps, whatever the grid gives them."""
    batch_size: int | None = None
    warmup_epochs: int | None = None
    """In place of the grid's warm-up in steps."""
    val_shots: int | Literal["none"] | None = None
    """See GridSpec."""
    on_small_class: Literal["error", "repeat"] | None = None

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic; a slot cannot be annotated ClassVar)

    def __post_init__(self) -> None:
        check_fields(self, {"name": FILE_NAME})


def shipped_presets() -> dict[str, Path]:
    """Returns the presets that come with the package, by name."""
    folder = Path(str(files("cytolora.config") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def load_preset(name_or_path: str) -> PresetSpec:
    """Reads a shipped preset by name, or a YAML file.

    Raises:
        ConfigError: If there is no such preset, it has wrong keys or values, or a file takes the name of a shipped one.
    """
    shipped = shipped_presets()
    if name_or_path in shipped:
        return read_spec(shipped[name_or_path], PresetSpec)
    if not name_or_path.endswith((".yaml", ".yml")):
        raise unknown_name("preset", name_or_path, shipped)
    preset = read_spec(Path(name_or_path), PresetSpec)
    if preset.name in shipped:
        raise ConfigError(f"{name_or_path}: {preset.name} is the name of a shipped preset. Choose another.")
    return preset


def with_preset(grid: GridSpec, preset: PresetSpec) -> GridSpec:
    """Applies the differences of a preset to a grid; its runs carry the preset's name.

    Raises:
        ConfigError: If the grid has a preset already.
    """
    if grid.preset != PAPER:
        raise ConfigError(f"Grid {grid.name!r} has the preset {grid.preset} already; give one.")
    models = tuple((preset.models or {}).get(name, name) for name in grid.models)
    named = ("learning_rates", "batch_size", "warmup_epochs", "val_shots", "on_small_class")
    return replace(
        grid,
        **{name: value for name in named if (value := getattr(preset, name)) is not None},
        preset=preset.name,
        models=tuple(dict.fromkeys(models)),
        methods={name: _changed(method, preset) for name, method in grid.methods.items()},
        preprocess=preset.preprocess or grid.preprocess,
        augment=preset.augment or grid.augment,
        augment_frozen=preset.augment_frozen or grid.augment_frozen,
        reference_attention_bug=preset.reference_attention_bug or grid.reference_attention_bug,
    )


def _changed(method: MethodSpec, preset: PresetSpec) -> MethodSpec:
    budget, adapter = method.budget, method.adapter
    if budget is not None and preset.budget is not None:
        budget = preset.budget
    if budget is not None and budget.unit == "steps_per_shot" and preset.steps_per_shot is not None:
        budget = replace(budget, amount=preset.steps_per_shot)
    if adapter is not None and preset.scaling is not None:
        adapter = replace(adapter, scaling=preset.scaling)
    cosine_steps, rates = method.cosine_steps, None if preset.learning_rates else method.learning_rates
    if adapter is None and budget is not None:
        cosine_steps = cosine_steps if preset.cosine_steps_frozen is None else preset.cosine_steps_frozen
        rates = rates if preset.learning_rates_frozen is None else preset.learning_rates_frozen
    return replace(method, budget=budget, adapter=adapter, cosine_steps=cosine_steps, learning_rates=rates)
