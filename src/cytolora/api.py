"""The main job from Python: the same functions that the command line calls."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolora.config.run import GridSpec
from cytolora.config.yaml import load_grid
from cytolora.core.arguments import (
    AnyPath,
    OneOrMany,
    as_device,
    as_names,
    as_numbers,
    as_path,
    as_path_or_none,
)
from cytolora.core.progress import Progress
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.engines.registry import ENGINES, HERE, Spread
from cytolora.experiments.plan import Plan, make_plan
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

    from cytolora.classifier.inference.bundle_predictor import Bundle
    from cytolora.models.encoder import Encoder

_LISTED = 5


def run_grid(
    grid: AnyPath | GridSpec,
    inputs: Inputs,
    out: AnyPath,
    *,
    device: "str | torch.device | None" = None,
    progress: Progress | None = None,
    announce: Callable[[Plan, Inputs], None] = lambda plan, inputs: None,
    engine: str = "inline",
    spread: Spread = HERE,
) -> Plan:
    """Runs what is missing of a grid; what is finished stays, and the same call goes on from there.

    Example::

        import cytolora
        from cytolora.training.resources import Inputs

        cytolora.run_grid("smoke", Inputs(data={"synthetic": "cells"}), "runs")
        cytolora.report("runs", "report")

    Args:
        grid: A shipped name, the path of a YAML file, or a spec.
        device: ``auto`` takes a GPU where there is one; the CPU if not given.
        progress: Told what is being done.
        announce: Told what there is to do, before the first run.
        engine: Where runs are executed: ``inline`` or ``ray``.
        spread: The cluster and the number of workers, for an engine that has some.

    Returns:
        The plan as it was before.

    Raises:
        StoreError: If stored runs of the grid were computed from other weights, data or splits.
    """
    from cytolora.training.class_text import has_text

    out, device, chosen, progress = as_path(out, "out"), as_device(device), ENGINES.get(engine), progress or Progress()
    chosen.check(spread)
    progress.status("comparing what is stored with data and checkpoints")
    spec, store = grid if isinstance(grid, GridSpec) else load_grid(grid), Store(out)
    plan = _checked_plan(spec, store, inputs)
    if any([inputs.fetch_weights(group.backbone, progress) for group in plan.groups]):  # noqa: C419  (all of them are fetched)
        plan = _checked_plan(spec, store, inputs)  # their hashes are known only now
    for group in plan.groups:
        if any(run.needs_text and not has_text(run, inputs, out / ".cache" / "text") for run in group.runs):
            inputs.fetch_vocabulary(group.backbone)  # now, not after hours of other runs
    announce(plan, inputs)
    chosen.run_groups(plan.groups, inputs, store, device=device, progress=progress, spread=spread)
    return plan


def load_backbone(name: str, weights: AnyPath | None = None) -> "Encoder":
    """Loads a frozen image encoder: images [batch, 3, size, size] to features [batch, feature_dim].

    Args:
        weights: Its official checkpoint on disk; otherwise the hub's cache, then the hub.
    """
    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.models.checkpoints.loading import load_encoder

    inputs = Inputs(data={}, weights={} if weights is None else {name: weights})
    inputs.fetch_weights(name)
    return load_encoder(BACKBONES.get(name), inputs.weights_path(name))


def report(runs: AnyPath, out: AnyPath, data: Mapping[str, AnyPath] | None = None) -> Path:
    """Builds tables, figures and one page from stored runs; returns the page."""
    from cytolora.reporting.pages.build import build_report

    return build_report(runs, out, data)


def fit(
    data: AnyPath,
    out: AnyPath,
    *,
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = None,
    shots: int | None = None,
    seed: int = 0,
    positive: OneOrMany[str] = (),
    sensitivity: float = 0.95,
    coverage: float = 0.9,
    rates: OneOrMany[float] = (),
    steps: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    labels: AnyPath | None = None,
    add: OneOrMany[AnyPath] = (),
    label_map: AnyPath | None = None,
    split: AnyPath | None = None,
    weights: Mapping[str, AnyPath] | None = None,
    weights_dir: AnyPath | None = None,
    cache: AnyPath = Path("runs/.cache"),
    device: "str | torch.device | None" = None,
    own_backbones: OneOrMany[str] = (),
    progress: Progress | None = None,
) -> "Bundle":
    """Fits a classifier to one's own cells and writes it as a bundle; see ``cytolora fit --help``.

    Example::

        bundle = cytolora.fit("my_cells", "model1", model="uni", positive=["hsil", "scc"], device="auto")
        print(bundle.contents.metrics["test"]["balanced_accuracy"])

    Args:
        data: Folder, table or zip file.
        out: The bundle: a folder, or a zip file where the name ends in .zip. An older bundle there is replaced.
        model: A backbone; the best one on this machine if None (classifier/fit/recipe.py).
        method: ``linear`` on a CPU and ``lora`` on a GPU if None.
        positive: One class or many, of which together at least the share ``sensitivity`` is to be found.
        add: Folders and zip files of new cells: those that ``labels`` names are trained on too.
        cache: Keeps decoded images, features and trained adapters; the same call goes on from there.
        device: ``auto`` takes a GPU where there is one; the CPU if None.
        own_backbones: Names of registered backbones, one of which is meant where ``model`` is None.
        progress: Told what was found, what is being done, and how far it is.

    Raises:
        CytoloraError: If something is for the user to change.
    """
    from cytolora.classifier.bundle.files import check_free
    from cytolora.classifier.fit import fit as lab_fit
    from cytolora.classifier.fit.prepare import read_cells, summary
    from cytolora.classifier.fit.recipe import FitOptions, choose_recipe
    from cytolora.classifier.inference.bundle_predictor import Bundle

    data, out, cache, device = as_path(data, "data"), as_path(out, "out"), as_path(cache, "cache"), as_device(device)
    inputs = Inputs(data={}, weights=weights, weights_dir=weights_dir)
    progress = progress or Progress()
    options = FitOptions(
        model=model,
        method=method,
        shots=shots,
        seed=seed,
        positive=as_names(positive, "positive"),
        sensitivity=sensitivity,
        coverage=coverage,
        rates=as_numbers(rates, "rates"),
        max_steps=steps,
        precision=precision,
    )
    recipe = choose_recipe(options, inputs, device.type, as_names(own_backbones, "own_backbones"))
    check_free(out)  # now, not after all images were read
    _check_outside(data, dataset, out, cache)
    cells = read_cells(
        data,
        dataset,
        labels=as_path_or_none(labels, "labels"),
        add=add,
        label_map=as_path_or_none(label_map, "label_map"),
        split_file=as_path_or_none(split, "split"),
        cache=cache,
        begin=progress.begin,
        on_image=lambda: progress.done(1),
    )
    for line in (*summary(cells), *recipe.notes):
        progress.say(line)
    fitted = lab_fit.fit(cells, out, recipe, options, inputs, cache=cache, device=device, progress=progress)
    for note in fitted.notes:
        if note not in (*cells.notes, *recipe.notes):  # those were said before
            progress.say(f"! {note}")
    path = inputs.weights.get(recipe.backbone.name)
    return Bundle.load(out, weights=path, weights_dir=weights_dir, device=device)


def _check_outside(data: Path, dataset: str | None, out: Path, cache: Path) -> None:
    """Raises a ConfigError if something would be written among class folders: it would be taken for a class."""
    from cytolora.data.datasets import find_dataset, recognise
    from cytolora.data.readers.folder import FOLDER

    if not data.is_dir() or (find_dataset(dataset) if dataset else recognise(data)) is not FOLDER:
        return
    for option, path in (("--out", out), ("--cache", cache)):
        if path.suffix != ".zip" and path.resolve().is_relative_to(data.resolve()):
            raise ConfigError(
                f"{path} lies in {data}, where every folder is a class: it would be taken for one the next time. "
                f"Choose another {option}, outside."
            )


def _checked_plan(spec: GridSpec, store: Store, inputs: Inputs) -> Plan:
    plan = make_plan(spec, store, inputs)
    if plan.stale:
        shown = "; ".join(str(stale) for stale in plan.stale[:_LISTED])
        more = f"; and {len(plan.stale) - _LISTED} more" if len(plan.stale) > _LISTED else ""
        raise StoreError(
            f"{len(plan.stale)} stored runs in {store.root} were computed from other weights, data or splits: {shown}"
            f"{more}. They are neither used nor overwritten: choose another --out, or move them away."
        )
    return plan
