"""The protocol section: what each method was run with, and nothing that it does not read."""

from dataclasses import fields, replace
from typing import Any

import pytest
from fake_store import FakeData, write_runs

from cytolora.config.run import FITTED_HEADS, PROMPT_METHODS, AdapterSpec, HeadSpec, PromptSpec
from cytolora.experiments.store import Store
from cytolora.models.adapters.head_methods import FITTED
from cytolora.models.adapters.methods import METHODS
from cytolora.models.adapters.prompt_methods import PROMPTED
from cytolora.reporting.pages.protocol import describe_methods, head_settings, prompt_settings
from cytolora.reporting.results.settings import read_settings

OTHER: dict[str, Any] = {
    "rank": 3,
    "alpha": 7.0,
    "scaling": "alpha_over_rank",
    "dropout": 0.5,
    "targets": ("k", "o"),
    "blocks": (1, 3),
    "last_blocks": 2,
    "prompts": 5,
    "towers": ("image", "text"),
    "init": "olora",
    "reference_attention_bug": True,
}
ADAPTED = sorted(entry.name for entry in METHODS if entry.kind == "adapter")


def settings(store: Store, method: str, adapter: AdapterSpec) -> str:
    """What the page says of a method that ran once with this adapter."""
    one: dict[str, Any] = {"models": ("uni",), "shots": (4,), "seeds": (1,), "rates": (1e-3,)}
    write_runs(store, methods=(method,), **one, data=FakeData(num_groups=2), adapter=adapter, tested=False)
    (run,) = store.runs()
    ((text,),) = describe_methods(read_settings([run])).values()
    for path in run.path.iterdir():
        path.unlink()
    run.path.rmdir()
    return text


def test_every_field_of_an_adapter_is_varied_here():
    assert set(OTHER) == {entry.name for entry in fields(AdapterSpec)}


@pytest.mark.parametrize("method", ADAPTED)
def test_a_setting_is_stated_exactly_where_the_method_reads_it(store: Store, method: str):
    plain = settings(store, method, AdapterSpec())
    changed = {
        name: settings(store, method, replace(AdapterSpec(), **{name: value})) != plain for name, value in OTHER.items()
    }
    assert {name for name, differs in changed.items() if differs} == set(METHODS.get(method).uses)


@pytest.mark.parametrize(
    ("method", "adapter", "said"),
    [
        ("lora", {}, "rank 2 on q, v of all blocks; α 1, scaled by α/√rank, dropout 0.25; AdamW"),
        ("lora", {"last_blocks": 1}, "rank 2 on q, v of the last block; α 1, scaled by α/√rank, dropout 0.25; AdamW"),
        ("lora", {"blocks": (0, 3), "targets": ("o",)}, "rank 2 on o of blocks 0, 3; α 1, "),
        ("vera", {"rank": 8}, "rank 8 on q, v of all blocks; dropout 0.25; AdamW"),
        ("ia3", {}, "batches of 32; on q, v of all blocks; AdamW"),
        ("bitfit", {}, "batches of 32; in all blocks; AdamW"),
        ("vpt", {"prompts": 3, "last_blocks": 1}, "batches of 32; 3 prompts a block in the last block; AdamW"),
        ("last_blocks", {"last_blocks": 2}, "batches of 32; in the last 2 blocks; AdamW"),
        ("full", {}, "batches of 32; AdamW"),
        ("of-another-machine", {"prompts": 3}, "batches of 32; 3 prompts a block; AdamW"),
    ],
)
def test_settings_are_said_in_these_words(store: Store, method: str, adapter: dict[str, Any], said: str):
    assert said in settings(store, method, AdapterSpec(**adapter))


PROMPT_CHANGES: dict[str, Any] = {"template": "a slide of a {} cell", "tokens": 7, "lam": 0.7}


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_prompt_learning_is_described_by_the_settings_that_it_reads(method: str):
    assert set(PROMPT_CHANGES) == {entry.name for entry in fields(PromptSpec)}
    plain = prompt_settings(method, PromptSpec())
    for name, value in PROMPT_CHANGES.items():
        changed = prompt_settings(method, PromptSpec(**{name: value}))
        assert (changed != plain) == (name in PROMPTED[method].values)
        assert str(value) in " ".join(changed) or name not in PROMPTED[method].values
    assert ("zero-shot weighs 8" in plain) == (method == "kgcoop"), "the authors' is said where none is set"


HEAD_CHANGES: dict[str, Any] = {
    "shrinkage": 0.25,
    "penalty": 0.5,
    "neighbours": 7,
    "centre": True,
    "alpha": 0.3,
    "beta": 9.5,
    "lam": 0.7,
    "rates": (0.02, 0.5),
    "epochs": 17,
    "scale": 0.35,
    "ratio": 0.45,
    "hidden": 33,
}


@pytest.mark.parametrize("method", FITTED_HEADS)
def test_a_fitted_head_is_described_by_the_settings_that_it_reads_and_by_no_step_or_rate(method: str):
    reads = tuple(FITTED[method].values)
    plain = head_settings(method, HeadSpec())
    assert {*HEAD_CHANGES, "step_limit"} == {entry.name for entry in fields(HeadSpec)}
    assert head_settings(method, HeadSpec(step_limit=4)) == [*plain, "cut to 4 steps"]
    for name, value in HEAD_CHANGES.items():
        changed = head_settings(method, HeadSpec(**{name: value}))
        assert (changed != plain) == (name in reads)
        assert f"{name} {str(value).lower().strip('()')}" in changed or name not in reads
