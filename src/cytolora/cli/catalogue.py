"""ls: lists models, datasets, label maps of pools, grids, presets, methods, engines, formats and trackers by name."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cytolora.cli.console import make_console, print_rows
from cytolora.core.registry import Registry
from cytolora.reporting.manuscript.bibtex import to_bibtex

_PROBLEMS = 1


def ls(
    kind: Literal["models", "datasets", "pools", "grids", "presets", "methods", "engines", "formats", "trackers"],
    /,
    *,
    wide: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Lists models, datasets, label maps of pools, grids, presets, methods, engines, exchange formats or trackers.

    Exits with 1 if a plug-in of that kind cannot be loaded; it is named on standard error.

    Examples:

        cytolora ls models
        cytolora ls datasets --wide
        cytolora ls pools --json

    Parameters
    ----------
    kind
        What to list.
    wide
        Shows every column: as a table on a terminal of 120 columns, else as a paragraph for each entry. Without it a
        narrower terminal has the columns that matter most.
    json_
        Prints a list of objects, each with `name`; models, datasets and methods with `bibtex` to cite them by.
    """
    rows = (_ROWS_IN_FULL if json_ else _ROWS)[kind]()
    if json_:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif print_rows(rows, narrow=() if wide else _MATTER[kind]):
        make_console(stderr=True).print(f"More columns: cytolora ls {kind} --wide")
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


def _fitted_heads() -> Registry[Any]:
    from cytolora.training.heads.fitted import HEADS

    return HEADS


def _execution_engines() -> Registry[Any]:
    from cytolora.experiments.engines.registry import ENGINES

    return ENGINES


def _exchange_formats() -> Registry[Any]:
    from cytolora.data.exchange.formats import FORMATS

    return FORMATS


def _experiment_trackers() -> Registry[Any]:
    from cytolora.experiments.tracking.registry import TRACKERS

    return TRACKERS


def _trackers() -> list[dict[str, Any]]:
    return [
        {"name": one.name, "target": f"{one.name}:{one.address}", "description": one.description}
        for one in _experiment_trackers()
    ]


def _formats() -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "holds": entry.holds,
            "use": " and ".join(["read"] * bool(entry.reads) + ["written"] * bool(entry.writes)),
            "description": entry.reads or entry.writes,
        }
        for entry in _exchange_formats()
    ]


def _formats_in_full() -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "holds": entry.holds,
            "read": entry.reads,
            "written": entry.writes,
            "lost": entry.lost,
            "checked_with": entry.checked_with,
        }
        for entry in _exchange_formats()
    ]


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


def _pools() -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "categories": ", ".join(one.categories),
            "datasets": ", ".join(sorted(one.datasets)),
            "description": one.title,
            "source": one.sources[one.source],
        }
        for one in _pool_maps()
    ]


def _pools_in_full() -> list[dict[str, Any]]:
    """Adds every line with its source."""
    lines = {
        one.name: {
            dataset: {label: {**asdict(line), "source": one.sources[line.source]} for label, line in own.items()}
            for dataset, own in ((dataset, one.lines(dataset)) for dataset in one.datasets)
        }
        for one in _pool_maps()
    }
    names = {one.name: dict(one.categories) for one in _pool_maps()}
    return [{**row, "categories": names[row["name"]], "datasets": lines[row["name"]]} for row in _pools()]


def _pool_maps() -> list[Any]:
    from cytolora.data.pool_maps import read_pool_map, shipped_maps

    return [read_pool_map(name) for name in shipped_maps()]


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


def _models_in_full() -> list[dict[str, Any]]:
    """Adds what asks to be cited, as BibTeX."""
    from cytolora.reporting.manuscript.references import of_backbone

    return [{**row, "bibtex": to_bibtex(of_backbone(row["name"]))} for row in _models()]


def _datasets_in_full() -> list[dict[str, Any]]:
    """Adds what asks to be cited, as BibTeX."""
    from cytolora.reporting.manuscript.references import of_dataset

    return [{**row, "bibtex": to_bibtex(of_dataset(row["name"]))} for row in _datasets()]


def _methods_in_full() -> list[dict[str, Any]]:
    """Adds what to cite, and what a head or prompt learning needs, with its hyper-parameters and their sources."""
    from cytolora.reporting.manuscript.references import of_method

    full = []
    for row, method in zip(_methods(), _adaptation_methods(), strict=True):
        head, prompt = (facts and asdict(facts) for facts in (method.head, method.prompt))
        needs = {**({"head": head} if head else {}), **({"prompt": prompt} if prompt else {})}
        full.append({**row, "bibtex": to_bibtex(of_method(row["name"])), **needs})
    return full


def _engines() -> list[dict[str, Any]]:
    return [{"name": engine.name, "description": engine.description} for engine in _execution_engines()]


_REGISTRIES: dict[str, Callable[[], Registry[Any]]] = {
    "models": _backbones,
    "datasets": _dataset_readers,
    "methods": _adaptation_methods,
    "heads": _fitted_heads,
    "engines": _execution_engines,
    "formats": _exchange_formats,
    "trackers": _experiment_trackers,
}
_ROWS = {
    "models": _models,
    "datasets": _datasets,
    "pools": _pools,
    "grids": _grids,
    "presets": _presets,
    "methods": _methods,
    "engines": _engines,
    "formats": _formats,
    "trackers": _trackers,
}
_MATTER: dict[str, tuple[str, ...]] = {
    "models": ("name", "licence", "gate", "description"),
    "datasets": ("name", "classes", "images", "description"),
    "pools": ("name", "datasets", "description"),
    "methods": ("name", "kind", "description"),
    "formats": ("name", "use", "description"),
    **dict.fromkeys(("grids", "presets", "engines", "trackers"), ()),
}
"""Columns of a terminal of 80; empty: there are few, and all are shown."""
_ROWS_IN_FULL = {
    **_ROWS,
    "models": _models_in_full,
    "datasets": _datasets_in_full,
    "methods": _methods_in_full,
    "formats": _formats_in_full,
    "pools": _pools_in_full,
}
