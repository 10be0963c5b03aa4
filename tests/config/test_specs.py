"""A run is a value: its id, its budget, and what it refuses."""

from dataclasses import replace

import pytest

from cytolora.config.run import AdapterSpec, Budget, RunSpec, Sampling, SplitSpec, TrainSpec, to_plain
from cytolora.config.yaml import parse_spec
from cytolora.errors import ConfigError

LORA = RunSpec(
    dataset="hicervix:25",
    backbone="clip-vit-b16",
    method="lora",
    adapter=AdapterSpec(),
    sampling=Sampling(shots=4),
    split=SplitSpec(),
    train=TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50)),
    learning_rate=1e-3,
    seed=1,
)


def test_ids_are_pinned():
    """A change here makes every stored run of every user a stranger: defaults never change, new fields have one."""
    assert LORA.run_id == "hicervix-25_clip-vit-b16_lora_4-shot_lr0.001_s1_c813dbe4"
    assert LORA.setting_id == "hicervix-25_clip-vit-b16_lora_4-shot_db94095c"


def test_every_field_of_a_run_changes_its_id():
    others = [
        replace(LORA, seed=2),
        replace(LORA, learning_rate=3e-3),
        replace(LORA, dataset="hicervix:23"),
        replace(LORA, sampling=Sampling(shots=4, on_small_class="repeat")),
        replace(LORA, split=SplitSpec(by="image")),
        replace(LORA, split=SplitSpec(file_sha256="ab")),
        replace(LORA, split=SplitSpec(groups_from="names")),
        replace(LORA, split=SplitSpec(groups_from=r"slide\d+")),
        replace(LORA, label_map_sha256="ab"),
        replace(LORA, adapter=AdapterSpec(rank=16)),
        replace(LORA, head_start="text"),
        replace(LORA, train=replace(LORA.train, batch_size=16)),
        replace(LORA, train=replace(LORA.train, budget=replace(LORA.train.budget, max_steps=2))),
    ]
    assert len({run.run_id for run in [LORA, *others]}) == len(others) + 1


def test_runs_of_one_setting_differ_in_seed_and_rate_only():
    assert replace(LORA, seed=2, learning_rate=1e-4).setting_id == LORA.setting_id
    assert replace(LORA, sampling=Sampling(shots=8)).setting_id != LORA.setting_id


def test_a_run_comes_back_from_its_json():
    assert parse_spec(to_plain(LORA), RunSpec, "spec.json") == LORA


@pytest.mark.parametrize(
    ("budget", "shots", "expected"),
    [
        (Budget(amount=50, unit="steps_per_shot", plus_steps=50), 16, 850),
        (Budget(amount=100, unit="epochs"), 16, 400),
        (Budget(amount=100, unit="epochs"), None, 400),
        (Budget(amount=100, unit="epochs", max_steps=2), 16, 2),
    ],
)
def test_budgets_count_steps(budget, shots, expected):
    """112 images in batches of 32 are 4 steps an epoch."""
    assert budget.num_steps(num_train=112, batch_size=32, shots=shots) == expected


def test_a_budget_per_shot_needs_shots():
    with pytest.raises(ConfigError, match="needs shots"):
        Budget(amount=50, unit="steps_per_shot").num_steps(num_train=100, batch_size=32, shots=None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sampling(shots=0), "at least 1, got 0"),
        (lambda: Sampling(fraction=10), "For 10 % write 0.1"),
        (lambda: Sampling(shots=1, fraction=0.5), "exclude each other"),
        (lambda: SplitSpec(ratios=(0.6, 0.2, 0.3)), "add up to 1"),
        (lambda: AdapterSpec(dropout=1.0), r"in \[0, 1\)"),
        (lambda: AdapterSpec(targets=()), "one or more of q, k, v, o"),
        (lambda: replace(LORA, method="linear"), "only linear has none"),
        (lambda: replace(LORA, learning_rate=0), "above 0"),
        (lambda: replace(LORA, learning_rate=float("nan")), "a finite number above 0, got nan"),
        (lambda: replace(LORA, learning_rate=float("inf")), "a finite number above 0, got inf"),
        (lambda: replace(LORA, sampling=Sampling(shots=0, max_val_shots=None)), "only zero-shot has 0 shots"),
        (lambda: replace(LORA, method="zero-shot", adapter=None), "only zero-shot has 0 shots"),
    ],
)
def test_wrong_values_are_refused_with_the_value(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_steps_of_a_run_are_those_of_its_budget_at_its_batch_size_and_shots():
    assert LORA.num_steps(112) == LORA.train.budget.num_steps(
        num_train=112, batch_size=LORA.train.batch_size, shots=LORA.sampling.shots
    )


def test_a_run_sees_each_training_image_as_often_as_its_epochs():
    epochs = TrainSpec(budget=Budget(amount=3, unit="epochs"), batch_size=32)
    whole = replace(LORA, sampling=Sampling(), train=epochs)
    assert [whole.num_images_seen(number) for number in (0, 1, 40, 112)] == [0, 3, 120, 336]
