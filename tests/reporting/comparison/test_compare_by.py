"""Comparison by any setting that differs: rank, targets, scaling, budget, learning rate."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_store import BUDGETS, FakeData, fake_run

import cytolora
from cytolora.cli.app import main
from cytolora.config.run import AdapterSpec, AugmentSpec, Budget, HeadSpec, SplitSpec, Target, TrainSpec
from cytolora.errors import ConfigError
from cytolora.experiments.names import write_names
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.compare import compare, notes
from cytolora.reporting.results.settings import read_settings

QV: tuple[Target, ...] = ("q", "v")
QKVO: tuple[Target, ...] = ("q", "k", "v", "o")
Q: tuple[Target, ...] = ("q",)
LORA = TrainSpec(budget=BUDGETS["lora"])


def write(store: Store, *changes: dict[str, Any], method: str = "lora", rates: Sequence[float] = (1e-3,)) -> list[str]:
    """Stores a setting for each of ``changes`` of its spec; returns their ids."""
    ids = []
    for index, change in enumerate(changes):
        for rate, seed in product(rates, (1, 2)):
            skill = 1 + 0.4 * index - 0.3 * rates.index(rate)
            run = fake_run(FakeData(), "uni", method, 4, rate, seed, skill, rate == rates[0], **change)
            store.write(run)
            ids.append(run.spec.setting_id)
    return list(dict.fromkeys(ids))


@pytest.mark.parametrize(
    ("by", "changes", "names"),
    [
        ("rank", [{"adapter": AdapterSpec(rank=r)} for r in (2, 16)], {"rank 2", "rank 16"}),
        ("adapter.rank", [{"adapter": AdapterSpec(rank=r)} for r in (2, 4)], {"rank 2", "rank 4"}),
        (
            "targets",
            [{"adapter": AdapterSpec(targets=t)} for t in (QV, QKVO)],
            {"on q, v", "on q, k, v, o"},
        ),
        ("alpha", [{"adapter": AdapterSpec(alpha=a)} for a in (1.0, 2.0)], {"α 1", "α 2"}),
        (
            "last-blocks",
            [{"adapter": AdapterSpec(last_blocks=b)} for b in (None, 4)],
            {"in all or numbered blocks", "in the last 4 blocks"},
        ),
        (
            "dropout",
            [{"adapter": AdapterSpec(dropout=d)} for d in (0.0, 0.5)],
            {"dropout 0", "dropout 0.5"},
        ),
        (
            "weight_decay",
            [{"train": replace(LORA, weight_decay=w)} for w in (0.01, 0.1)],
            {"train weight decay 0.01", "train weight decay 0.1"},
        ),
        (
            "precision",
            [{"train": replace(LORA, precision="fp32")}, {"train": replace(LORA, precision="bf16")}],
            {"train precision fp32", "train precision bf16"},
        ),
        (
            "min_scale",
            [{"train": replace(LORA, augment=AugmentSpec(min_scale=s))} for s in (0.7, 0.9)],
            {"augment min scale 0.7", "augment min scale 0.9"},
        ),
        ("head_start", [{"head_start": s} for s in ("random", "text")], {"head start random", "head start text"}),
    ],
)
def test_settings_are_compared_by_the_field_that_differs(by: str, changes: list, names: set[str], store: Store):
    write(store, *changes)
    found = compare(read_settings(store.runs()), by, replicates=50)
    (pair,) = found.pairs
    assert {pair.first, pair.second} == names
    assert pair.setting == "uni, lora, 4 shots"
    first, second = (one.test("accuracy") for one in pair.settings)
    assert first is not None
    assert second is not None
    assert pair.estimate.value == pytest.approx(first.mean - second.mean)
    assert pair.estimate.value != 0


def test_the_budget_is_a_field_too(store: Store):
    write(store, *({"train": TrainSpec(budget=Budget(amount=n, unit="epochs"))} for n in (5, 50)), method="linear")
    (pair,) = compare(read_settings(store.runs()), "budget", replicates=50).pairs
    assert {pair.first, pair.second} == {"5 epochs", "50 epochs"}


def test_named_variants_stand_beside_the_field(store: Store):
    ids = write(store, *({"adapter": AdapterSpec(rank=r)} for r in (2, 16)))
    write_names(store, dict(zip(ids, ("small", "large"), strict=True)))
    (pair,) = compare(read_settings(store.runs()), "rank", replicates=50).pairs
    assert {pair.first, pair.second} == {"rank 2 (small)", "rank 16 (large)"}


def test_groups_that_differ_in_another_field_are_compared_apart_and_told_apart(store: Store):
    adapters = [AdapterSpec(rank=r, targets=t) for t in (QV, Q) for r in (2, 16)]
    write(store, *({"adapter": adapter} for adapter in adapters))
    pairs = compare(read_settings(store.runs()), "rank", replicates=50).pairs
    assert {pair.setting for pair in pairs} == {
        "uni, lora, 4 shots, on q, v",
        "uni, lora, 4 shots, on q",
    }
    assert len(pairs) == 2


def test_heads_are_compared_by_their_own_fields(store: Store):
    run = fake_run(FakeData(), "uni", "linear", 4, 1e-3, 1, 1.0, True)
    for index, k in enumerate((1, 5)):
        spec = replace(run.spec, method="knn", learning_rate=0.0, head=HeadSpec(neighbours=k))
        other = fake_run(FakeData(), "uni", "linear", 4, 1e-3, 1, 1.0 + index, True)
        store.write(replace(other, spec=spec))
    (pair,) = compare(read_settings(store.runs()), "neighbours", replicates=50).pairs
    assert {pair.first, pair.second} == {"head neighbours 1", "head neighbours 5"}


def test_rates_of_a_setting_are_compared_on_validation_images(store: Store):
    write(store, {}, rates=(1e-4, 1e-3, 1e-2))
    (setting,) = read_settings(store.runs())
    found = compare([setting], "learning-rate", replicates=50)
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("learning rate 0.0001", "learning rate 0.001"),
        ("learning rate 0.0001", "learning rate 0.01"),
        ("learning rate 0.001", "learning rate 0.01"),
    ]
    val = {rate: setting.val("accuracy", rate) for rate in setting.rates}
    for pair in found.pairs:
        rates = [one.rate for one in pair.settings]
        here, there = (val[rate] for rate in rates if rate)
        assert here is not None
        assert there is not None
        assert pair.estimate.value == pytest.approx(here.mean - there.mean)
    assert any("on validation images" in note for note in notes(found))
    best = compare([setting], "learning_rate", only_best=True, replicates=50)
    assert len(best.pairs) == 2
    assert all(pair.estimate.value >= 0 for pair in best.pairs)


def test_rates_that_lack_a_seed_are_named_and_not_compared(store: Store):
    write(store, {}, rates=(1e-4, 1e-3))
    store.write(fake_run(FakeData(), "uni", "lora", 4, 1e-4, 3, 1.0, False))
    found = compare(read_settings(store.runs()), "learning_rate", replicates=50)
    assert found.pairs == ()
    assert "they were not run with the same seeds" in found.skipped[0]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("rang", r"Did you mean 'rank'"),
        ("dropout", r"No two settings differ in dropout. They differ in: rank"),
        ("seed", "a seed is no setting"),
        ("", "field to compare by"),
        ("adapter", "field to compare by"),
        ("interpolation", "field to compare by|No two settings differ in interpolation"),
    ],
)
def test_what_names_no_difference_is_refused_with_what_there_is(by: str, said: str, store: Store):
    write(store, *({"adapter": AdapterSpec(rank=r)} for r in (2, 16)))
    with pytest.raises(ConfigError, match=said):
        cytolora.compare(store.root, by)


def test_another_division_is_named_and_not_compared(store: Store):
    for seed in (0, 1):
        data = FakeData(num_groups=60 - seed)
        store.write(fake_run(data, "uni", "lora", 4, 1e-3, 1, 1.0, True, split=SplitSpec(seed=seed)))
    found = compare(read_settings(store.runs()), "split-seed")
    assert found.pairs == ()
    assert "they did not see the same test images" in found.skipped[0]


def test_the_command_takes_any_field(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(store, *({"adapter": AdapterSpec(rank=r)} for r in (2, 16)))
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(store.root), "--by", "rank", "--json"])
    assert caught.value.code in (0, None)
    plain = json.loads(capsys.readouterr().out)
    assert plain["by"] == "adapter.rank"
    assert {plain["pairs"][0]["first"], plain["pairs"][0]["second"]} == {"rank 2", "rank 16"}
