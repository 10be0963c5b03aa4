"""The main job from Python: the same functions that the command line calls."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.config import load_grid
from cytolora.errors import StoreError
from cytolora.grid import Plan, make_plan
from cytolora.inputs import Inputs
from cytolora.specs import GridSpec
from cytolora.store import Store

if TYPE_CHECKING:
    import torch

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

    Returns:
        The plan as it was before.

    Raises:
        StoreError: If stored runs of the grid were computed from other weights, data or splits.
    """
    import torch

    from cytolora.engines.inline import run_groups
    from cytolora.workbench import Progress

    spec, store = load_grid(grid) if isinstance(grid, str) else grid, Store(out)
    plan = _checked_plan(spec, store, inputs)
    if any([inputs.fetch_weights(group.backbone) for group in plan.groups]):  # noqa: C419  (all of them are fetched)
        plan = _checked_plan(spec, store, inputs)  # their hashes are known only now
    with nullcontext(Progress()) if watch is None else watch(plan, inputs) as progress:
        run_groups(plan.groups, inputs, store, device=device or torch.device("cpu"), progress=progress)
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


def report(runs: Path, out: Path, data: Mapping[str, Path] | None = None) -> Path:
    """Builds tables, figures and one page from stored runs; returns the page."""
    from cytolora.report.build import build_report

    return build_report(runs, out, data)


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
