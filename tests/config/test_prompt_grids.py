"""Prompt learning in grids: budget and rates as linear heads, ids that stay, and what means nothing refused."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import cytolora
from cytolora.cli.catalogue import ls
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import PROMPT_METHODS, AdapterSpec, PromptSpec, RunSpec, to_plain
from cytolora.config.yaml import load_grid, parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import count_runs, expand
from cytolora.models.adapters.prompt_methods import PROMPTED

BUDGET = {"budget": {"amount": 2, "unit": "epochs"}}
PLAIN = {"name": "g", "datasets": ["synthetic"], "models": ["nano-clip"], "shots": [1, 4], "seeds": [1, 2, 3]}


def grid(methods: Mapping[str, object], **changes: object) -> GridSpec:
    return parse_spec({**PLAIN, "methods": methods, **changes}, GridSpec, "grid.yaml")


def test_a_prompt_method_is_a_run_for_each_amount_seed_and_rate_with_the_optimiser_of_its_public_code():
    found = expand(grid(dict.fromkeys(PROMPT_METHODS, BUDGET), learning_rates=[0.1, 0.2], weight_decay=0.5))
    assert len(found) == len(PROMPT_METHODS) * 2 * 3 * 2
    assert len(found) == count_runs(grid(dict.fromkeys(PROMPT_METHODS, BUDGET), learning_rates=[0.1, 0.2]))
    assert len({run.run_id for run in found}) == len(found)
    assert len({run.setting_id for run in found}) == len(PROMPT_METHODS) * 2
    assert {(run.kind, run.needs_text, run.has_steps, run.train.augment) for run in found} == {
        ("prompt", True, True, None)
    }
    assert {run.train.weight_decay for run in found} == {5e-4}, "the grid's is of AdamW"
    assert {run.num_steps(64) for run in found} == {4}


def test_the_ids_of_prompt_methods_are_pinned():
    """They stand in stores: a default that changes makes every stored run a stranger."""
    runs = expand(grid(dict.fromkeys(PROMPT_METHODS, BUDGET), learning_rates=[0.002]))
    assert {run.method: run.run_id for run in reversed(runs)} == IDS


IDS = {
    "cocoop": "synthetic_nano-clip_cocoop_1-shot_lr0.002_s1_329a4243",
    "coop": "synthetic_nano-clip_coop_1-shot_lr0.002_s1_1ee13297",
    "kgcoop": "synthetic_nano-clip_kgcoop_1-shot_lr0.002_s1_b7a7fc25",
    "prograd": "synthetic_nano-clip_prograd_1-shot_lr0.002_s1_6f62998e",
}


def test_settings_of_prompts_have_ids_of_their_own_and_defaults_none_however_they_are_written():
    plain, default, other = (
        expand(grid({"coop": {**BUDGET, **more}}, shots=[4], seeds=[1], learning_rates=[0.1]))[0]
        for more in ({}, {"prompt": {"tokens": None}}, {"prompt": {"tokens": 16}})
    )
    assert plain == default
    assert plain.prompt is None
    assert "prompt" not in to_plain(plain)
    assert other.run_id != plain.run_id
    assert other.setting_id != plain.setting_id
    assert parse_spec(to_plain(other), RunSpec, "spec.json") == other


@pytest.mark.parametrize("name", PROMPT_METHODS)
def test_a_prompt_method_is_refused_with_a_backbone_that_has_no_text(name: str):
    with pytest.raises(ConfigError, match=rf"^{name} needs a text encoder, and nano has none. Those that have"):
        expand(grid({name: BUDGET}, models=["nano"]))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"coop": {}}, "methods.coop.budget is missing"),
        ({"coop": {**BUDGET, "head_start": "text"}}, "coop has no head, and so no head_start"),
        ({"coop": {**BUDGET, "head": {"penalty": 1}}}, "methods.coop.head: only"),
        ({"linear": {**BUDGET, "prompt": {"tokens": 4}}}, "methods.linear.prompt: only cocoop, coop, kgcoop, prograd"),
        ({"coop": {**BUDGET, "prompt": {"tokens": 0}}}, "tokens is a whole number from 1 to 8,192, got 0"),
        ({"kgcoop": {**BUDGET, "prompt": {"lam": 0}}}, r"lam is a number in \[1e-30, 1e\+30\], got 0"),
        ({"kgcoop": {**BUDGET, "prompt": {"lam": float("inf")}}}, r"lam is a number in \[1e-30, 1e\+30\], got inf"),
        ({"coop": {**BUDGET, "prompt": {"template": "a cell"}}}, "one {} for the class, got 'a cell'"),
        ({"coop": {**BUDGET, "prompt": {"template": "a {} or {} cell"}}}, "one {} for the class"),
        ({"coop": {**BUDGET, "prompt": {"template": "a {name} cell"}}}, "one {} for the class"),
        ({"coop": {**BUDGET, "prompt": {"template": "{} cell"}}}, "no word before {} that could be trained"),
        ({"coop": {**BUDGET, "prompt": {"template": "\u200b {} cell"}}}, "no word before {} that could be trained"),
        ({"coop": {**BUDGET, "prompt": {"template": "non-{} cell"}}}, "a space before {}"),
        ({"coop": {**BUDGET, "prompt": {"rank": 4}}}, "rank"),
    ],
)
def test_settings_that_mean_nothing_for_prompts_are_refused(methods: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        grid(methods)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"template": 3}, "template is a text with one {} for the class, got 3"), ({"lam": "8"}, "lam is a number in")],
)
def test_values_of_another_type_are_refused_from_python_too(wrong: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        PromptSpec(**wrong)


@pytest.mark.parametrize("name", ["coop", "cocoop"])
def test_the_weight_of_zero_shot_is_refused_where_nothing_reads_it(name: str):
    method = MethodSpec(budget=load_grid("prompts").methods["coop"].budget, prompt=PromptSpec(lam=2.0))
    with pytest.raises(ConfigError, match=f"{name} does not use lam of the prompt; it reads template, tokens"):
        expand(replace(grid({"coop": BUDGET}), methods={name: method}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_start": "text"}, "no head and so no head_start"),
        ({"method": "linear", "prompt": PromptSpec(tokens=3)}, "no prompt settings"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0"),
    ],
)
def test_a_run_that_mixes_prompts_with_heads_is_refused(changes: dict[str, object], message: str):
    run = expand(grid({"coop": BUDGET}))[0]
    with pytest.raises(ConfigError, match=message):
        replace(run, **changes)  # pyright: ignore[reportArgumentType]


def test_methods_are_listed_with_their_prompts_and_where_each_value_is_from(capsys: pytest.CaptureFixture[str]):
    assert ls("methods", json_=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if row["kind"] == "prompt"} == set(PROMPT_METHODS)
    assert rows["cocoop"]["prompt"]["per_image"]
    assert "2303.13283" in rows["kgcoop"]["prompt"]["values"]["lam"]["source"]
    assert "prompt" not in rows["lora"]
    assert all(value["source"] for name in PROMPTED for value in rows[name]["prompt"]["values"].values())


LORA = {**BUDGET, "adapter": {"targets": ["q", "k", "v"], "towers": ["image", "text"]}}
IVLP = {**BUDGET, "adapter": {"prompts": 2}}
TWO_TOWERS: dict[str, object] = {"lora": LORA, "ivlp": IVLP}


def test_the_ids_of_adapters_in_both_towers_are_pinned_and_the_image_tower_alone_is_as_before():
    runs = expand(grid(TWO_TOWERS, learning_rates=[0.002], shots=[1], seeds=[1]))
    assert all(run.needs_text and run.trains_text_tower for run in runs)
    assert {run.method: run.run_id for run in runs} == TWO_TOWER_IDS
    plain, written = (
        expand(grid({"lora": {**BUDGET, "adapter": adapter}}, learning_rates=[0.002], shots=[1], seeds=[1]))[0]
        for adapter in ({}, {"towers": ["image"]})
    )
    assert plain == written
    assert not plain.trains_text_tower
    assert "towers" not in to_plain(plain)["adapter"]
    swapped = grid({"lora": {**BUDGET, "adapter": {"targets": ["q", "k", "v"], "towers": ["text", "image"]}}})
    assert expand(replace(swapped, learning_rates=(0.002,)))[0].run_id == TWO_TOWER_IDS["lora"]


TWO_TOWER_IDS = {
    "lora": "synthetic_nano-clip_lora_1-shot_lr0.002_s1_4b8c3848",
    "ivlp": "synthetic_nano-clip_ivlp_1-shot_lr0.002_s1_60c41cbc",
}


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_adapters_in_both_towers_are_refused_with_a_backbone_that_has_no_text(name: str):
    with pytest.raises(ConfigError, match=rf"^{name} needs a text encoder, and nano has none. Those that have"):
        expand(grid({name: TWO_TOWERS[name]}, models=["nano"]))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"lora": {**LORA, "head_start": "text"}}, "in both towers it has no head, and so no head_start"),
        ({"ivlp": {**IVLP, "head_start": "text"}}, "in both towers it has no head, and so no head_start"),
        ({"lora": {**BUDGET, "adapter": {"towers": ["text"]}}}, r"towers is \[image\], or \[image, text\], got"),
        ({"lora": {**BUDGET, "adapter": {"towers": []}}}, r"towers is \[image\], or \[image, text\], got \[\]"),
        ({"lora": {**BUDGET, "adapter": {"towers": ["image", "image"]}}}, r"towers is \[image\], or \[image, text\]"),
        ({"lora": {**BUDGET, "adapter": {"towers": ["audio"]}}}, "towers"),
    ],
)
def test_towers_that_cannot_be_are_refused(methods: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        grid(methods)


def test_towers_are_refused_where_the_method_does_not_read_them():
    with pytest.raises(ConfigError, match="vera does not use towers of the adapter"):
        expand(grid({"vera": {**BUDGET, "adapter": {"towers": ["image", "text"]}}}))


def test_attach_from_python_refuses_both_towers_in_one_line():
    encoder = cytolora.load_backbone("nano-clip")
    for method, adapter in (("lora", AdapterSpec(towers=("image", "text"))), ("ivlp", AdapterSpec())):
        with pytest.raises(ConfigError, match=f"{method} in both towers needs a text encoder"):
            cytolora.attach(encoder, method, adapter)
