from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.config.run import Budget, RunSpec, Sampling, SplitSpec, TrainSpec, to_plain
from cytolora.errors import StoreError
from cytolora.experiments.select import by_setting, choose_rate, decide, setting_id, with_all_rates
from cytolora.experiments.stored_run import StoredRun

SPEC = RunSpec(
    dataset="hicervix:25",
    backbone="nano",
    method="linear",
    sampling=Sampling(shots=4),
    split=SplitSpec(),
    train=TrainSpec(budget=Budget(amount=100, unit="epochs")),
    learning_rate=1e-3,
    seed=1,
)


def run(
    *, rate: float = 1e-3, seed: int = 1, accuracy: float | None = 0.5, loss: float = 1.0, **changes: Any
) -> StoredRun:
    """A stored run; ``accuracy`` None is one that diverged."""
    spec = replace(SPEC, learning_rate=rate, seed=seed, **changes)
    metrics = {"val": accuracy and {"accuracy": accuracy, "loss": loss}, "test": {"accuracy": 1 - (accuracy or 1)}}
    return StoredRun(path=Path(spec.run_id), spec=to_plain(spec), metrics=metrics, provenance={})


@pytest.mark.parametrize("amount", [{"shots": 1}, {"fraction": 0.05}, {}])
def test_a_stored_spec_names_the_same_setting_as_its_run_spec(amount: dict[str, Any]):
    spec = replace(SPEC, sampling=Sampling(**amount))
    assert setting_id(to_plain(spec)) == spec.setting_id


def test_a_spec_stored_before_a_field_existed_stays_in_its_setting():
    plain = to_plain(SPEC)
    del plain["split"]["seed"]
    assert setting_id(plain) == SPEC.setting_id


def test_runs_that_differ_in_rate_and_seed_only_share_a_setting():
    runs = [run(rate=rate, seed=seed) for rate in (1e-2, 1e-3) for seed in (2, 1)]
    other = run(sampling=Sampling(shots=1))
    found = by_setting([*runs, other])
    assert sorted(len(members) for members in found.values()) == [1, 4]
    members = found[SPEC.setting_id]
    assert [(r.spec["learning_rate"], r.spec["seed"]) for r in members] == [(1e-3, 1), (1e-3, 2), (1e-2, 1), (1e-2, 2)]


def test_the_rate_of_highest_mean_validation_accuracy_wins_though_its_test_is_worse():
    runs = [run(rate=1e-3, seed=s, accuracy=a) for s, a in ((1, 0.9), (2, 0.1))]
    runs += [run(rate=1e-2, seed=s, accuracy=0.6) for s in (1, 2)]
    assert choose_rate(runs) == 1e-2


def test_a_tie_goes_to_the_lower_validation_loss():
    assert choose_rate([run(rate=1e-3, loss=1.0), run(rate=1e-2, loss=0.9), run(rate=1e-1, loss=1.1)]) == 1e-2


def test_a_tie_in_loss_too_goes_to_the_lower_rate():
    assert choose_rate([run(rate=1e-2), run(rate=1e-3), run(rate=1e-1)]) == 1e-3


def test_equal_counts_of_right_images_tie_however_their_shares_are_rounded():
    low = [run(rate=1e-3, seed=s, accuracy=a, loss=1.0) for s, a in ((1, 1 / 7), (2, 2 / 7), (3, 3 / 7))]
    high = [run(rate=1e-2, seed=s, accuracy=a, loss=0.5) for s, a in ((1, 2 / 7), (2, 2 / 7), (3, 2 / 7))]
    assert choose_rate(low + high) == 1e-2


def test_a_rate_that_lacks_a_seed_does_not_compete():
    runs = [run(rate=1e-3, seed=s, accuracy=0.5) for s in (1, 2)]
    assert choose_rate([*runs, run(rate=1e-2, seed=1, accuracy=1.0)]) == 1e-3


def test_a_rate_that_diverged_with_one_seed_does_not_compete():
    runs = [run(rate=1e-3, seed=s, accuracy=0.2) for s in (1, 2)]
    assert choose_rate([*runs, run(rate=1, seed=1, accuracy=1.0), run(rate=1, seed=2, accuracy=None)]) == 1e-3


def test_no_rate_with_all_seeds_is_an_error_that_says_what_to_do():
    with pytest.raises(StoreError, match=r"hicervix-25_nano_linear_4-shot.*all seeds \(1, 2\).*Run the grid again"):
        choose_rate([run(rate=1e-3, seed=1), run(rate=1e-2, seed=2)])


@given(
    st.permutations([run(rate=r, seed=s, accuracy=(s * r * 997) % 1) for r in (1e-4, 1e-3, 1e-2) for s in (1, 2, 3)])
)
def test_the_order_of_the_runs_does_not_matter(runs: list[StoredRun]):
    assert choose_rate(runs) == 1e-3


def untested(one: StoredRun) -> StoredRun:
    return replace(one, metrics={**one.metrics, "test": None})


def test_a_seed_that_lacks_a_rate_is_left_out_and_further_rates_do_no_harm():
    whole = [run(rate=rate, seed=1) for rate in (1e-3, 1e-2)]
    further = [run(rate=rate, seed=2) for rate in (1e-3, 1e-2, 1e-1)]
    part = [run(rate=1e-3, seed=3)]
    assert with_all_rates([*whole, *part, *further], [1e-2, 1e-3]) == [*whole, *further]


def test_the_chosen_rate_is_scored_where_it_was_not_and_scores_of_other_rates_are_taken_away():
    good = [run(rate=1e-2, seed=seed, accuracy=0.9) for seed in (1, 2)]
    worse = [run(rate=1e-3, seed=seed, accuracy=0.5) for seed in (1, 2)]
    found = decide([untested(good[0]), good[1], worse[0], untested(worse[1])], [1e-3, 1e-2])
    assert found.to_score == (untested(good[0]),)
    assert found.to_seal == (worse[0],)
    done = decide([*good, *map(untested, worse)], [1e-3, 1e-2])
    assert (done.to_score, done.to_seal) == ((), ())


def test_a_seed_that_is_not_done_is_neither_scored_nor_has_it_a_say():
    good = [untested(run(rate=1e-2, seed=1, accuracy=0.6)), untested(run(rate=1e-3, seed=1, accuracy=0.5))]
    early = untested(run(rate=1e-3, seed=2, accuracy=1.0))
    found = decide([*good, early], [1e-3, 1e-2])
    assert found.to_score == (good[0],)
    scored = run(rate=1e-3, seed=2, accuracy=1.0)
    assert decide([*good, scored], [1e-3, 1e-2]).to_seal == (scored,)


def test_a_run_of_another_version_is_named_and_not_taken_for_another_setting():
    later = replace(run(), spec={**run().spec, "later": 1})
    with pytest.raises(StoreError, match=r"cannot be read by this version of cytolora: .*'later'.* Update, or move"):
        by_setting([later])


def test_a_head_that_is_fitted_without_a_rate_keeps_its_setting():
    fitted = replace(SPEC, method="gda", learning_rate=0.0)
    assert setting_id(to_plain(fitted)) == fitted.setting_id


def test_settings_are_sorted_by_name_and_an_empty_one_has_no_rate():
    names = list(by_setting([run(sampling=Sampling(shots=shots)) for shots in (8, 1, 4)]))
    assert names == sorted(names)
    with pytest.raises(StoreError, match="An empty setting: no learning rate"):
        choose_rate([])
