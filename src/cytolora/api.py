"""The main job from Python: the same functions that the command line calls."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolora.config import load_grid
from cytolora.engines.catalogue import ENGINES, HERE, Spread
from cytolora.errors import ConfigError, StoreError
from cytolora.grid import Plan, make_plan
from cytolora.inputs import Inputs
from cytolora.specs import GridSpec
from cytolora.store import Store

if TYPE_CHECKING:
    import torch

    from cytolora.lab.bundle import Bundle
    from cytolora.models.tower import Tower
    from cytolora.workbench import Progress

_LISTED = 5


def run_grid(
    grid: str | GridSpec,
    inputs: Inputs,
    out: Path,
    *,
    device: "torch.device | None" = None,
    watch: "Callable[[Plan, Inputs], AbstractContextManager[Progress]] | None" = None,
    engine: str = "inline",
    spread: Spread = HERE,
) -> Plan:
    """Runs what is missing of a grid; what is finished stays, and the same call goes on from there.

    Example::

        import cytolora
        from cytolora.inputs import Inputs
        from pathlib import Path

        cytolora.run_grid("smoke", Inputs(data={"synthetic": Path("cells")}), Path("runs"))
        cytolora.report(Path("runs"), Path("report"))

    Args:
        grid: A shipped name, the path of a YAML file, or a spec.
        device: The CPU if not given.
        watch: Opens what shows progress, told what there is to do.
        engine: Where runs are executed: ``inline`` or ``ray``.
        spread: The cluster and the number of workers, for an engine that has some.

    Returns:
        The plan as it was before.

    Raises:
        StoreError: If stored runs of the grid were computed from other weights, data or splits.
    """
    import torch

    from cytolora.prompting import has_text
    from cytolora.workbench import Progress

    chosen = ENGINES.get(engine)
    chosen.check(spread)
    spec, store = load_grid(grid) if isinstance(grid, str) else grid, Store(out)
    plan = _checked_plan(spec, store, inputs)
    if any([inputs.fetch_weights(group.backbone) for group in plan.groups]):  # noqa: C419  (all of them are fetched)
        plan = _checked_plan(spec, store, inputs)  # their hashes are known only now
    for group in plan.groups:
        if any(run.needs_text and not has_text(run, inputs, out / ".cache" / "text") for run in group.runs):
            inputs.fetch_vocabulary(group.backbone)  # now, not after hours of other runs
    with nullcontext(Progress()) if watch is None else watch(plan, inputs) as progress:
        device = device or torch.device("cpu")
        chosen.run_groups(plan.groups, inputs, store, device=device, progress=progress, spread=spread)
    return plan


def load_backbone(name: str, weights: Path | None = None) -> "Tower":
    """Loads a frozen image tower: images [batch, 3, size, size] to features [batch, feature_dim].

    Args:
        weights: Its official checkpoint on disk; otherwise the hub's cache, then the hub.
    """
    from cytolora.models.backbones import BACKBONES
    from cytolora.models.loading import load_tower

    inputs = Inputs(data={}, weights={} if weights is None else {name: weights})
    inputs.fetch_weights(name)
    return load_tower(BACKBONES.get(name), inputs.weights_path(name))


def report(runs: Path | str, out: Path | str, data: Mapping[str, Path] | None = None) -> Path:
    """Builds tables, figures and one page from stored runs; returns the page."""
    from cytolora.report.build import build_report

    return build_report(Path(runs), Path(out), data)


def fit(
    data: Path | str,
    out: Path | str,
    *,
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = None,
    shots: int | None = None,
    seed: int = 0,
    positive: Sequence[str] = (),
    sensitivity: float = 0.95,
    coverage: float = 0.9,
    rates: Sequence[float] = (),
    steps: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    labels: Path | None = None,
    label_map: Path | None = None,
    split: Path | None = None,
    weights: Mapping[str, Path] | None = None,
    weights_dir: Path | None = None,
    cache: Path = Path("runs/.cache"),
    device: "torch.device | None" = None,
    own_backbones: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
    begin: Callable[[str, int], None] = lambda text, total: None,
    done: Callable[[int], None] = lambda images: None,
) -> "Bundle":
    """Fits a classifier to one's own cells and writes it as a bundle; see ``cytolora fit --help``.

    Example::

        bundle = cytolora.fit("my_cells", "model1", model="uni", positive=["hsil", "scc"])
        print(bundle.contents.metrics["test"]["balanced_accuracy"])

    Args:
        data: Folder, table or zip file.
        out: The bundle: a folder, or a zip file where the name ends in .zip. An older bundle there is replaced.
        model: A backbone; the best one on this machine if None (lab/recipe.py).
        method: ``linear`` on a CPU and ``lora`` on a GPU if None.
        positive: Classes of which at least the share ``sensitivity`` is to be found.
        cache: Keeps decoded images, features and trained adapters; the same call goes on from there.
        device: The CPU if None.
        own_backbones: Names of registered backbones, one of which is meant where ``model`` is None.
        say: Told what was found and what is being done, a line at a time.
        begin: Told of each long stage and its number of images.
        done: Told the number of images just done of that stage.

    Raises:
        CytoloraError: If something is for the user to change.
    """
    import torch

    from cytolora.lab import fit as lab_fit
    from cytolora.lab.bundle import Bundle
    from cytolora.lab.bundle_files import check_free
    from cytolora.lab.fit_data import read_cells, summary
    from cytolora.lab.recipe import Wishes, choose_recipe
    from cytolora.workbench import Progress

    device, inputs = device or torch.device("cpu"), Inputs(data={}, weights=weights or {}, weights_dir=weights_dir)
    wishes = Wishes(
        model=model,
        method=method,
        shots=shots,
        seed=seed,
        positive=tuple(positive),
        sensitivity=sensitivity,
        coverage=coverage,
        rates=tuple(rates),
        max_steps=steps,
        precision=precision,
    )
    recipe = choose_recipe(wishes, inputs, device.type, own_backbones)
    check_free(Path(out))  # now, not after all images were read
    _check_outside(Path(data), dataset, Path(out), cache)
    cells = read_cells(
        Path(data),
        dataset,
        labels=labels,
        label_map=label_map,
        split_file=split,
        begin=begin,
        on_image=lambda: done(1),
    )
    for line in (*summary(cells), *recipe.notes):
        say(line)
    watch = Progress(say=say, done=done)
    fitted = lab_fit.fit(
        cells, Path(out), recipe, wishes, inputs, cache=cache, device=device, progress=watch, begin=begin
    )
    for note in fitted.notes:
        if note not in (*cells.notes, *recipe.notes):  # those were said before
            say(f"! {note}")
    path = inputs.weights.get(recipe.backbone.name)
    return Bundle.load(Path(out), weights=path, weights_dir=weights_dir, device=str(device))


def _check_outside(data: Path, dataset: str | None, out: Path, cache: Path) -> None:
    """Raises a ConfigError if something would be written among class folders: it would be taken for a class."""
    from cytolora.data.datasets import find_dataset, recognise
    from cytolora.data.sources.folder import FOLDER

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
