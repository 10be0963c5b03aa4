"""Consistency checks: refuses runs of different data, weights or draws in one table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cytolora.core.files import canonical_json
from cytolora.errors import StoreError
from cytolora.experiments.stored_run import StoredRun


def refuse_mixed(runs: Iterable[StoredRun]) -> None:
    """Checks that runs of one dataset saw the same images, of one model the same weights, of one draw the same split,
    and that none is there twice.

    Raises:
        StoreError: Naming both fingerprints and a run of each.
    """
    stored = list(runs)
    _agree(stored, "data_fingerprint", "dataset {}", _data)
    _agree(stored, "weights_sha256", "model {}", lambda spec: [spec["backbone"]])
    _agree(stored, "split_fingerprint", "the draw of {}", _draw)


def _data(spec: Mapping[str, Any]) -> list[Any]:
    return [spec["dataset"], spec.get("label_map_sha256")]


def _draw(spec: Mapping[str, Any]) -> list[Any]:
    return [*_data(spec), spec["sampling"], spec["split"], spec["seed"]]


def _agree(runs: Sequence[StoredRun], field: str, title: str, key: Callable[[Mapping[str, Any]], list[Any]]) -> None:
    first: dict[str, StoredRun] = {}
    for run in runs:
        other = first.setdefault(canonical_json(key(run.spec)), run)
        here, there = (getattr(entry.identity, field) for entry in (run, other))
        if here != there:
            raise StoreError(
                f"Stored runs disagree in the {field} of {title.format(key(run.spec)[0])}: {there} in {other.run_id}, "
                f"{here} in {run.run_id}. Their numbers cannot stand in one table; move the stale ones to another "
                "folder (`cytolora plan` lists them)."
            )
