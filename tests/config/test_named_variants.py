"""Named variants of one method in a grid: the names stand beside the runs, ids know the real method alone."""

import pytest

from cytolora.config.grid import GridSpec
from cytolora.config.yaml import parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import count_runs, expand, narrowed, variant_names

PLAIN = {"name": "g", "datasets": ["synthetic"], "models": ["nano"], "shots": [1, 4], "seeds": [1, 2, 3]}
BUDGET = {"amount": 2, "unit": "epochs"}


def lora(rank: int, **more: object) -> dict[str, object]:
    return {"budget": BUDGET, "adapter": {"rank": rank}, **more}


def grid(methods: dict[str, object], **changes: object) -> GridSpec:
    return parse_spec({**PLAIN, "methods": methods, **changes}, GridSpec, "grid.yaml")


VARIANTS = {"lora-r2": lora(2, method="lora"), "lora-r16": lora(16, method="lora"), "linear": {"budget": BUDGET}}


def test_variants_are_runs_of_their_real_method_with_the_ids_of_that_method_alone():
    runs = expand(grid(VARIANTS))
    assert {(run.method, run.adapter and run.adapter.rank) for run in runs} == {
        ("lora", 2),
        ("lora", 16),
        ("linear", None),
    }
    alone = [expand(grid({"lora": lora(rank)})) for rank in (2, 16)]
    assert {run.run_id for run in runs if run.method == "lora"} == {run.run_id for one in alone for run in one}
    assert len({run.run_id for run in runs}) == len(runs) == count_runs(grid(VARIANTS))


def test_every_setting_of_a_variant_has_its_name_and_a_plain_method_has_none():
    names, runs = variant_names(grid(VARIANTS)), expand(grid(VARIANTS))
    assert {names.get(run.setting_id) for run in runs if run.method == "linear"} == {None}
    assert {(names[run.setting_id], run.adapter.rank) for run in runs if run.adapter} == {
        ("lora-r2", 2),
        ("lora-r16", 16),
    }


def test_heads_without_steps_and_linear_have_variants_too():
    found = grid(
        {
            "knn-1": {"method": "knn", "head": {"neighbours": 1}},
            "knn-5": {"method": "knn", "head": {"neighbours": 5}},
            "short": {"method": "linear", "budget": BUDGET},
            "long": {"method": "linear", "budget": {"amount": 9, "unit": "epochs"}},
        }
    )
    runs = expand(found)
    assert {run.method for run in runs} == {"knn", "linear"}
    assert {run.kind for run in runs} == {"head", "linear"}
    assert len(runs) == count_runs(found) == 2 * 2 * 3 + 2 * 2 * 3 * 5
    assert set(variant_names(found).values()) == {"knn-1", "knn-5", "short", "long"}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["lora-r16"], ["lora-r16"]),
        (["lora"], ["lora-r2", "lora-r16"]),
        (["linear", "lora-r2"], ["linear", "lora-r2"]),
        (["gda", "lora-r2"], ["gda", "lora-r2"]),
        (["lora", "lora-r2"], ["lora-r2", "lora-r16"]),
    ],
)
def test_a_method_is_chosen_by_the_name_of_a_variant_or_by_its_own(asked: list[str], names: list[str]):
    assert list(narrowed(grid(VARIANTS), methods=asked).methods) == names


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"a": lora(2, method="lora"), "b": lora(2, method="lora")}, "the methods a and b are the same setting"),
        (
            {"a": lora(2, method="lora", learning_rates=[0.1]), "b": lora(2, method="lora", learning_rates=[0.2])},
            "the methods a and b are the same setting",
        ),
        ({"lora": lora(2), "b": lora(2, method="lora")}, "the methods lora and b are the same setting"),
        ({"linear": lora(2, method="lora")}, "linear is a method itself, no name of a variant of lora"),
        ({"dora": lora(2, method="lora")}, "dora is a method itself"),
        ({"gda": lora(2, method="lora")}, "gda is a method itself"),
        ({"a": lora(2, method="lorra")}, "Did you mean 'lora'"),
        ({"lora-r2": lora(2)}, "Unknown method 'lora-r2'"),
        ({"zero": {"method": "zero-shot"}}, "zero-shot has nothing to vary"),
        ({"a b": lora(2, method="lora")}, "a variant's name is"),
        ({"../x": lora(2, method="lora")}, "a variant's name is"),
        ({"=1": lora(2, method="lora")}, "a variant's name is"),
        ({"16": lora(2, method="lora")}, "a variant's name is"),
        ({"x" * 41: lora(2, method="lora")}, "a variant's name is"),
        ({"a": {"method": "gda", "budget": BUDGET}}, "a is trained without steps"),
        ({"a": {"method": "lora", "budget": BUDGET}}, "all others need one"),
        ({"a": {"method": "linear"}}, r"methods.a.budget is missing"),
    ],
)
def test_variants_that_cannot_be_told_apart_or_named_are_refused(methods: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        expand(grid(methods))
