"""ls: lists models, datasets, grids, presets, methods and engines by name."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytolora.cli.console import make_console, print_rows
from cytolora.core.registry import Registry

_PROBLEMS = 1


def ls(
    kind: Literal["models", "datasets", "grids", "presets", "methods", "engines"],
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Lists models, datasets, grids, presets, methods or engines.

    Exits with 1 if a plug-in of that kind cannot be loaded; it is named on standard error.

    Example:

        cytolora ls models

    Parameters
    ----------
    kind
        What to list.
    json_
        Prints a list of objects, each with `name`.
    """
    rows = (_ROWS_IN_FULL if json_ else _ROWS)[kind]()
    if json_:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        print_rows(rows)
    return print_plugin_problems(kind)


def print_plugin_problems(kind: str) -> int:
    """Prints plug-ins of a kind that cannot be loaded on standard error; returns the exit code."""
    problems = plugin_problems(kind)
    for problem in problems:
        make_console(stderr=True).print(f"! {problem}")
    return _PROBLEMS if problems else 0


def plugin_problems(*kinds: str) -> list[str]:
    """Returns one sentence for each plug-in of these kinds that cannot be loaded; grids and presets have none."""
    registries = [_REGISTRIES[kind]() for kind in kinds or _REGISTRIES if kind in _REGISTRIES]
    return [problem for registry in registries for problem in registry.problems()]


def _backbones() -> Registry[Any]:
    from cytolora.models.backbones.registry import BACKBONES

    return BACKBONES


def _dataset_readers() -> Registry[Any]:
    from cytolora.data.datasets import DATASETS

    return DATASETS


def _adaptation_methods() -> Registry[Any]:
    from cytolora.models.adapters.methods import METHODS

    return METHODS


def _execution_engines() -> Registry[Any]:
    from cytolora.experiments.engines.registry import ENGINES

    return ENGINES


def _models() -> list[dict[str, Any]]:
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
        for spec in _backbones()
    ]


def _datasets() -> list[dict[str, Any]]:
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
        for spec in _dataset_readers()
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
    return [
        {
            "name": method.name,
            "kind": method.kind.replace("_", "-"),
            "solved": method.head.solution if method.head else "",
            "description": method.description,
        }
        for method in _adaptation_methods()
    ]


def _methods_in_full() -> list[dict[str, Any]]:
    """Adds what a head or prompt learning needs, and its hyper-parameters with their sources."""
    full = []
    for row, method in zip(_methods(), _adaptation_methods(), strict=True):
        head, prompt = (facts and asdict(facts) for facts in (method.head, method.prompt))
        full.append({**row, **({"head": head} if head else {}), **({"prompt": prompt} if prompt else {})})
    return full


def _engines() -> list[dict[str, Any]]:
    return [{"name": engine.name, "description": engine.description} for engine in _execution_engines()]


_REGISTRIES: dict[str, Callable[[], Registry[Any]]] = {
    "models": _backbones,
    "datasets": _dataset_readers,
    "methods": _adaptation_methods,
    "engines": _execution_engines,
}
_ROWS = {
    "models": _models,
    "datasets": _datasets,
    "grids": _grids,
    "presets": _presets,
    "methods": _methods,
    "engines": _engines,
}
_ROWS_IN_FULL = {**_ROWS, "methods": _methods_in_full}
