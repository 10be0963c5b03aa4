"""Plausible runs without any training: predictions drawn so that more shots, LoRA and the better model help."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from cytolora.config.run import AdapterSpec, Budget, RunSpec, Sampling, SplitSpec, TrainSpec
from cytolora.core.files import sha256_text
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult
from cytolora.metrics.scores import score

HERLEV = (
    "superficial",
    "intermediate",
    "columnar",
    "mild dysplasia",
    "moderate dysplasia",
    "severe dysplasia",
    "carcinoma in situ",
)
RATES = (1e-4, 1e-3, 1e-2)
BUDGETS = {"linear": Budget(amount=100, unit="epochs"), "lora": Budget(amount=50, unit="steps_per_shot", plus_steps=50)}
TRAINABLE = {"linear": 1351, "lora": 38_215}


@dataclass(frozen=True, kw_only=True)
class FakeData:
    """A dataset of which only labels and groups exist."""

    name: str = "herlev"
    classes: tuple[str, ...] = HERLEV
    num_groups: int = 60
    group_size: int = 5
    groups_known: bool = True
    metadata: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    """By column, the values that the groups have in turn."""

    def __hash__(self) -> int:
        return hash(repr(self))  # of the mapping, which has none

    @property
    def paths(self) -> list[str]:
        count = self.num_groups * self.group_size
        return [f"{self.classes[i % len(self.classes)].replace(' ', '_')}/{i:04}.png" for i in range(count)]


def write_runs(
    store: Store,
    *,
    data: FakeData | None = None,
    models: Sequence[str] = ("clip-vit-b16", "uni"),
    methods: Sequence[str] = ("linear", "lora"),
    shots: Sequence[int | None] = (1, 4, 16),
    seeds: Sequence[int] = (1, 2, 3),
    rates: Sequence[float] = RATES,
    tested: bool = True,
    provenance: Mapping[str, Any] | None = None,
    **spec: Any,
) -> None:
    """Stores every combination; the test set is scored at the middle rate, which validation is made to favour."""
    found = data or FakeData()
    best = rates[len(rates) // 2]
    for index, model in enumerate(models):
        for method in methods:
            for amount in shots:
                for rate in rates:
                    for seed in seeds:
                        skill = _skill(index, method, amount, abs(np.log10(rate / best)))
                        run = fake_run(found, model, method, amount, rate, seed, skill, tested and rate == best, **spec)
                        store.write(_with(run, provenance or {}))


def fake_run(
    data: FakeData,
    model: str,
    method: str,
    shots: int | None,
    rate: float,
    seed: int,
    skill: float,
    tested: bool,
    **spec: Any,
) -> RunResult:
    """Makes one run whose predictions are right the more often the higher ``skill`` is."""
    run = RunSpec(
        dataset=data.name,
        backbone=model,
        method=method,
        sampling=spec.pop("sampling", None) or Sampling(shots=shots),
        split=spec.pop("split", SplitSpec()),
        train=spec.pop("train", TrainSpec(budget=BUDGETS.get(method, BUDGETS["lora"]))),
        adapter=spec.pop("adapter", None if method == "linear" else AdapterSpec()),
        learning_rate=rate,
        seed=seed,
        **spec,
    )
    name = f"{data.name} {model} {method} {run.sampling.amount} {rate:g} {seed}"
    val, val_scores = _predicted(data, f"val {name}", skill, min(shots or 4, 4) * len(data.classes))
    parts, metrics = [_subset(val, "val")], {"val": dict(val_scores), "test": None}
    if tested:
        test, test_scores = _predicted(data, name, skill)
        parts, metrics = [*parts, _subset(test, "test")], {**metrics, "test": dict(test_scores)}
    num_images = round(len(data.classes) * (shots or 40 * (run.sampling.fraction or 1)))
    train = {"num_images": num_images, "num_steps": 50 * (shots or 40) + 50, "final_loss": 0.2}
    return RunResult(
        spec=run,
        metrics={**metrics, "num_trainable": TRAINABLE.get(method, 5000), "train": train},
        predictions=pa.concat_tables(parts),
        weights=b"no tensors",
        provenance=_provenance(data, model, method, run),
    )


def _skill(model: int, method: str, shots: int | None, distance: float) -> float:
    gain = {"linear": 0.45, "lora": 0.62}.get(method, 0.5)
    return 0.35 + 0.16 * (model % 5) + gain * np.log2(1 + (shots or 30)) - 2.0 * distance


@lru_cache(maxsize=2000)
def _predicted(
    data: FakeData, name: str, skill: float, count: int | None = None
) -> tuple[pa.Table, dict[str, float | int]]:
    """The first predictions and their scores, drawn once for all tests that store such a run."""
    table = _predict(data, name, skill).slice(0, count)
    return table, score_of(table, data)


def _predict(data: FakeData, name: str, skill: float) -> pa.Table:
    """Cells are hard or easy by themselves and by their group, and look like the neighbouring class."""
    rng, shared = np.random.default_rng(list(name.encode())), np.random.default_rng(7)
    count, width = len(data.paths), len(data.classes)
    labels = np.arange(count) % width
    groups = np.arange(count) // data.group_size
    logits = rng.normal(scale=0.5, size=(count, width)) + shared.normal(scale=0.9, size=(count, width))
    own = skill - 0.9 * shared.normal(size=data.num_groups)[groups]
    logits[np.arange(count), labels] += own
    logits[np.arange(count), (labels + 1) % width] += 0.7
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"slide {group}" if data.groups_known else None for group in groups]
    columns = {"path": data.paths, "label": [data.classes[label] for label in labels], "subset": ["test"] * count}
    columns |= {"group": pa.array(names, pa.string())}
    for column, values in data.metadata.items():
        columns[f"meta_{column}"] = pa.array([values[int(group) % len(values)] for group in groups], pa.string())
    return pa.table(columns | {label: shares[:, index].astype(np.float32) for index, label in enumerate(data.classes)})


def _subset(table: pa.Table, name: str) -> pa.Table:
    return table.set_column(2, "subset", pa.array([name] * len(table)))


def score_of(table: pa.Table, data: FakeData) -> dict[str, float | int]:
    """Scores predictions as a run does."""
    labels = [data.classes.index(label) for label in table["label"].to_pylist()]
    return score(labels, np.column_stack([table[name].to_numpy() for name in data.classes]))


def _provenance(data: FakeData, model: str, method: str, run: RunSpec) -> dict[str, Any]:
    return {
        "weights_sha256": sha256_text(model),
        "data_fingerprint": sha256_text(data.name),
        "split_fingerprint": sha256_text(f"{data.name} {run.sampling} {run.split} {run.seed}"),
        "classes": list(data.classes),
        "group_rule": "first two numbers of the file name" if data.groups_known else "",
        "split_rule": "60/20/20 by group, stratified by class, seed 0",
        "data_warnings": [],
        "num_repeated": 0,
        "backbone": {"name": model, "architecture": "vit_base_patch16_224", "licence": "MIT"},
        "versions": {"cytolora": "0.1.0", "torch": "2.11.0", "timm": "1.0.31", "peft": "0.21.2"},
        "git": {"commit": "880455b0d6a4b6d58d3f1f0d9a2b0c1d2e3f4a5b", "is_dirty": False},
        "device": "cpu",
        "threads": 2,
        "seconds": 0.8 if method == "linear" else 41.0 + (run.sampling.shots or 60),
    }


def _with(run: RunResult, changes: Mapping[str, Any]) -> RunResult:
    return replace(run, provenance={**run.provenance, **changes})
