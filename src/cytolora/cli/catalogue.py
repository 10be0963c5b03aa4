"""ls: what this installation knows by name."""

import json
import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytolora.cli.console import PlainTable, make_console


def ls(
    kind: Literal["models", "datasets", "grids", "presets", "methods", "engines"],
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Lists models, datasets, grids, presets, methods or engines.

    Example:

        cytolora ls models

    Parameters
    ----------
    kind
        What to list.
    json_
        Prints a list of objects, each with `name`.
    """
    rows = _ROWS[kind]()
    if json_:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = PlainTable(*rows[0], no_wrap="name")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    make_console(soft_wrap=False).print(table)


def _models() -> list[dict[str, Any]]:
    from cytolora.models.backbones.registry import BACKBONES

    return [
        {
            "name": spec.name,
            "architecture": spec.architecture,
            "input": f"{spec.preprocess.size_px} px",
            "pool": spec.pool,
            "licence": spec.licence,
            "gate": "gated" if spec.gated else "",
            "facts": "unverified" if spec.unverified else "",
            "description": spec.description,
        }
        for spec in BACKBONES
    ]


def _datasets() -> list[dict[str, Any]]:
    from cytolora.data.datasets import DATASETS

    return [
        {
            "name": spec.name,
            "classes": len(spec.classes) or "",
            "images": sum(spec.expected_counts.values()) or spec.expected_total or "",
            "groups": spec.group_rule,
            "licence": spec.licence,
            "layout": "verified" if spec.verified else "unverified",
            "description": spec.title,
        }
        for spec in DATASETS
    ]


def _grids() -> list[dict[str, Any]]:
    from cytolora.config.yaml import load_grid, shipped_grids
    from cytolora.experiments.expand import count_runs

    grids = [load_grid(name) for name in shipped_grids()]
    return [{"name": grid.name, "runs": count_runs(grid), "description": grid.description} for grid in grids]


def _presets() -> list[dict[str, Any]]:
    from cytolora.config.preset import load_preset, shipped_presets

    presets = [load_preset(name) for name in shipped_presets()]
    return [{"name": preset.name, "description": preset.description} for preset in presets]


def _methods() -> list[dict[str, Any]]:
    from cytolora.models.adapters.methods import METHODS

    return [{"name": method.name, "description": method.description} for method in METHODS]


def _engines() -> list[dict[str, Any]]:
    from cytolora.experiments.engines.registry import ENGINES

    return [{"name": engine.name, "description": engine.description} for engine in ENGINES]


_ROWS = {
    "models": _models,
    "datasets": _datasets,
    "grids": _grids,
    "presets": _presets,
    "methods": _methods,
    "engines": _engines,
}
