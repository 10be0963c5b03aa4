"""Fitted heads in grids: a run for each seed and amount, no rate and no budget, ids that stay."""

import json
import re
from dataclasses import replace

import pytest

from cytolora.cli.catalogue import ls
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import FITTED_HEADS, TEXT_HEADS, TREE_HEADS, HeadSpec, RunSpec, Sampling, to_plain
from cytolora.config.yaml import load_grid, parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import count_runs, expand, narrowed

PLAIN_HEADS = tuple(name for name in FITTED_HEADS if name not in (*TEXT_HEADS, *TREE_HEADS))
"""Those that any backbone and any dataset has."""
PLAIN = {"name": "g", "datasets": ["synthetic"], "models": ["nano"], "shots": [1, 4], "seeds": [1, 2, 3]}


def grid(methods: dict[str, object], **changes: object) -> GridSpec:
    return parse_spec({**PLAIN, "methods": methods, **changes}, GridSpec, "grid.yaml")


def test_a_fitted_head_is_one_run_for_each_amount_and_seed_whatever_the_grids_rates():
    found = expand(grid({name: {} for name in PLAIN_HEADS}, fractions=[0.5], learning_rates=[0.1, 0.2]))
    assert (
        len(found) == count_runs(grid({name: {} for name in PLAIN_HEADS}, fractions=[0.5])) == len(PLAIN_HEADS) * 3 * 3
    )
    assert {run.learning_rate for run in found} == {0.0}
    assert {(run.kind, run.num_steps(100), run.num_images_seen(100)) for run in found} == {("head", 0, 0)}
    assert len({run.run_id for run in found}) == len(found)
    assert len({run.setting_id for run in found}) == len(PLAIN_HEADS) * 3


def test_the_ids_of_fitted_heads_are_pinned():
    """They stand in stores: a default that changes makes every stored run a stranger."""
    first = {run.method: run.run_id for run in reversed(expand(grid({name: {} for name in PLAIN_HEADS})))}
    assert first == {
        "gda": "synthetic_nano_gda_1-shot_lr0_s1_6f31f56d",
        "knn": "synthetic_nano_knn_1-shot_lr0_s1_c2fccb02",
        "logistic": "synthetic_nano_logistic_1-shot_lr0_s1_d0175258",
        "mlp": "synthetic_nano_mlp_1-shot_lr0_s1_0a4894fc",
        "nearest-mean": "synthetic_nano_nearest-mean_1-shot_lr0_s1_2772a5eb",
        "prototypes": "synthetic_nano_prototypes_1-shot_lr0_s1_49a0de90",
        "ridge": "synthetic_nano_ridge_1-shot_lr0_s1_2cffb4ac",
    }


@pytest.mark.parametrize("name", TEXT_HEADS)
def test_a_head_that_reads_text_is_refused_with_a_backbone_that_has_none(name: str):
    with pytest.raises(ConfigError, match=rf"{re.escape(name)} needs a text encoder, and nano has none. Those that ha"):
        expand(grid({name: {}}))


def test_the_ids_of_heads_that_read_text_are_pinned():
    found = expand(grid({name: {} for name in TEXT_HEADS}, models=["clip-vit-b16"]))
    first = {run.method: run.run_id for run in reversed(found)}
    assert all(run.needs_text for run in found)
    assert first == {
        "clap": "synthetic_clip-vit-b16_clap_1-shot_lr0_s1_2f25d5ec",
        "clip-adapter": "synthetic_clip-vit-b16_clip-adapter_1-shot_lr0_s1_8871df80",
        "lp++": "synthetic_clip-vit-b16_lp++_1-shot_lr0_s1_bc89b038",
        "proker": "synthetic_clip-vit-b16_proker_1-shot_lr0_s1_47bad3c9",
        "ss-text": "synthetic_clip-vit-b16_ss-text_1-shot_lr0_s1_89229b6b",
        "task-residual": "synthetic_clip-vit-b16_task-residual_1-shot_lr0_s1_b9b1cdc2",
        "tip-adapter": "synthetic_clip-vit-b16_tip-adapter_1-shot_lr0_s1_09c46afb",
        "tip-adapter-f": "synthetic_clip-vit-b16_tip-adapter-f_1-shot_lr0_s1_05d89126",
    }


@pytest.mark.parametrize(
    "changes", [{"batch_size": 7}, {"warmup_steps": 1}, {"weight_decay": 0.5}, {"precision": "bf16"}, {"augment": None}]
)
def test_what_only_steps_read_changes_no_id_of_a_fitted_head(changes: dict[str, object]):
    ids = [{run.run_id for run in expand(replace(grid({"gda": {}}), **more))} for more in ({}, changes)]  # pyright: ignore
    assert ids[0] == ids[1]


@pytest.mark.parametrize("name", ["smoke", "exp1", "exp2", "exp2-linear", "exp3"])
def test_a_fitted_head_joins_any_shipped_grid_by_its_name(name: str):
    chosen = narrowed(load_grid(name), methods=["gda", "knn"], max_steps=3)
    assert set(chosen.methods) == {"gda", "knn"}
    found = expand(chosen)
    assert len(found) == count_runs(chosen)
    assert {run.method for run in found} == {"gda", "knn"}
    assert all(run.train.budget.max_steps is None for run in found), "there are no steps to cut"


def test_a_dry_run_truncates_every_training_by_steps_and_is_another_run():
    methods: dict[str, object] = {name: {} for name in (*TEXT_HEADS, "gda", "mlp")}
    methods["clap-20"] = {"method": "clap", "head": {"epochs": 20}}
    methods["coop"] = {"budget": {"amount": 1, "unit": "epochs"}}
    whole = grid(methods, models=["clip-vit-b16"])
    cut = narrowed(whole, max_steps=2)
    by_steps = {"clap", "clip-adapter", "lp++", "mlp", "task-residual", "tip-adapter-f", "coop"}
    assert {run.method for run in expand(cut) if run.max_steps == 2} == by_steps
    assert {run.method for run in expand(cut) if run.max_steps is None} == {*TEXT_HEADS, "gda"} - by_steps
    whole_ids = {run.run_id for run in expand(whole)}
    assert {run.method for run in expand(cut) if run.run_id not in whole_ids} == by_steps
    epochs = {run.head.epochs for run in expand(cut) if run.head is not None}
    assert epochs == {None, 20}, "what a variant sets stays"


@pytest.mark.parametrize("limit", [0, 1.5])
def test_a_step_limit_is_a_whole_number_from_1(limit: float):
    with pytest.raises(ConfigError, match="step_limit is a whole number from 1"):
        HeadSpec(step_limit=limit)  # pyright: ignore[reportArgumentType]


def test_a_head_without_steps_has_no_step_limit():
    with pytest.raises(ConfigError, match="gda does not use step_limit of the head"):
        expand(grid({"gda": {"head": {"step_limit": 2}}}))


def test_the_frozen_features_are_those_of_linear_heads_in_a_preset_that_augments_them():
    augmented = replace(grid({"gda": {}, "linear": {"budget": {"amount": 1, "unit": "epochs"}}}), augment_frozen=True)
    assert len({run.train.augment for run in expand(augmented)}) == 1
    assert expand(augmented)[0].train.augment is not None


def test_settings_of_a_head_have_ids_of_their_own_and_defaults_none_however_they_are_written():
    (plain,), (default,), (other,) = (
        expand(grid({"knn": method}, shots=[4], seeds=[1]))
        for method in ({}, {"head": {"centre": False}}, {"head": {"neighbours": 3}})
    )
    assert plain == default
    assert plain.run_id == default.run_id
    assert plain.head is None
    assert other.run_id != plain.run_id
    assert other.setting_id != plain.setting_id
    assert "head" not in to_plain(plain)
    assert parse_spec(to_plain(other), RunSpec, "spec.json") == other


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"gda": {"budget": {"amount": 1, "unit": "epochs"}}}, "gda is trained without steps.*Write `gda: {}`"),
        ({"knn": {"learning_rates": [0.1]}}, "knn is trained without steps"),
        ({"ridge": {"adapter": {}}}, "ridge is trained without steps"),
        ({"nearest-mean": {"head_start": "text"}}, "nearest-mean is trained without steps"),
        ({"linear": {"budget": {"amount": 1, "unit": "epochs"}, "head": {"penalty": 1}}}, "methods.linear.head: only"),
        ({"gda": {"head": {"shrinkage": 1.5}}}, r"shrinkage is a share in \[0, 1\], got 1.5"),
        ({"logistic": {"head": {"penalty": 0}}}, "penalty is a finite number above 0, got 0"),
        ({"knn": {"head": {"neighbours": 0}}}, "neighbours is a number of images, at least 1, got 0"),
        ({"gda": {"head": {"rank": 2}}}, "rank"),
        ({"tip-adapter": {"head": {"alpha": 0}}}, "alpha is a finite number above 0, got 0"),
        ({"proker": {"head": {"lam": -1}}}, "lam is a finite number above 0, got -1"),
        ({"tip-adapter": {"head": {"beta": float("inf")}}}, "beta is a finite number above 0, got inf"),
        ({"ss-text": {"head_start": "text"}}, "ss-text is trained without steps"),
        ({"mlp": {"head": {"hidden": 0}}}, "hidden is a number of units, at least 1, got 0"),
        ({"mlp": {"head": {"rates": [0.1, 0]}}}, r"rates is one or more finite learning rates above 0, got \[0.1, 0.0"),
        ({"mlp": {"head": {"rates": []}}}, "rates is one or more finite learning rates above 0"),
        ({"clap": {"head": {"epochs": -1}}}, "epochs is a number of passes .* at least 0, got -1"),
        ({"clip-adapter": {"head": {"ratio": 1.5}}}, r"ratio is a share in \(0, 1\], got 1.5"),
        ({"task-residual": {"head": {"scale": 0}}}, "scale is a finite number above 0, got 0"),
    ],
)
def test_settings_that_mean_nothing_for_a_head_are_refused(methods: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        grid(methods)


@pytest.mark.parametrize(
    ("method", "head", "message"),
    [
        ("gda", HeadSpec(penalty=1.0), "gda does not use penalty of the head; it reads shrinkage"),
        ("knn", HeadSpec(centre=True), "knn does not use centre of the head; it reads neighbours"),
        ("ridge", HeadSpec(neighbours=3), "ridge does not use neighbours of the head; it reads penalty"),
        ("nearest-mean", HeadSpec(shrinkage=0.0), "nearest-mean does not use shrinkage"),
        ("logistic", HeadSpec(shrinkage=0.5, neighbours=1), "logistic does not use shrinkage, neighbours"),
        ("tip-adapter", HeadSpec(lam=0.5), "tip-adapter does not use lam of the head; it reads alpha, beta"),
        ("proker", HeadSpec(alpha=0.5), "proker does not use alpha of the head; it reads beta, lam"),
        ("mlp", HeadSpec(ratio=0.5), "mlp does not use ratio of the head; it reads rates, epochs, hidden, step_limit"),
        ("prototypes", HeadSpec(rates=(0.1,)), "prototypes does not use rates of the head; it reads nothing of it"),
        (
            "task-residual",
            HeadSpec(ratio=0.5),
            "task-residual does not use ratio of the head; it reads",
        ),
        ("lp++", HeadSpec(alpha=0.5), r"lp\+\+ does not use alpha of the head; it reads step_limit"),
    ],
)
def test_a_setting_that_a_head_does_not_read_is_refused(method: str, head: HeadSpec, message: str):
    with pytest.raises(ConfigError, match=message):
        expand(replace(grid({"gda": {}}), methods={method: MethodSpec(head=head)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, "gda is trained without steps: it has learning_rate 0"),
        ({"head_start": "text"}, "and no head_start"),
        (
            {"method": "zero-shot", "sampling": Sampling(shots=0, max_val_shots=None), "head": HeadSpec(centre=True)},
            "zero",
        ),
        ({"sampling": Sampling(shots=0, max_val_shots=None)}, "only zero-shot has 0 shots"),
        ({"method": "lora"}, "adapter None do not fit"),
    ],
)
def test_a_run_that_mixes_heads_with_steps_is_refused(changes: dict[str, object], message: str):
    run = expand(grid({"gda": {}}))[0]
    with pytest.raises(ConfigError, match=message):
        replace(run, **changes)  # pyright: ignore[reportArgumentType]


def test_methods_are_listed_with_kind_and_in_json_with_what_a_head_needs_and_its_sources(
    capsys: pytest.CaptureFixture[str],
):
    assert ls("methods", json_=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if row["kind"] == "head"} == set(FITTED_HEADS)
    assert rows["knn"]["head"]["needs_validation"]
    assert not rows["gda"]["head"]["needs_validation"]
    assert {name for name, row in rows.items() if row.get("head", {}).get("needs_text")} == set(TEXT_HEADS)
    assert [rows[name]["solved"] for name in ("gda", "logistic", "linear", "lora")] == [
        *("closed form", "iterative", "batched"),
        "",
    ]
    assert "2402.04087" in rows["gda"]["head"]["values"]["shrinkage"]["source"]
    assert "head" not in rows["lora"]


@pytest.mark.parametrize("name", TREE_HEADS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "synthetic has none"),
        ({"datasets": ["herlev"]}, "herlev has none"),
        ({"datasets": ["hicervix", "folder", "sipakmed"]}, "folder, sipakmed has none"),
        ({"datasets": ["hicervix"], "label_map_sha256": "0" * 64}, "a label map leaves none"),
        ({"datasets": ["csv"]}, "csv has none"),
        ({"datasets": ["pool:bethesda+a+b"]}, "pool:bethesda+a+b has none"),
    ],
)
def test_a_head_of_a_tree_is_refused_where_classes_have_none(name: str, changes: dict, reason: str):
    with pytest.raises(ConfigError, match=re.escape(f"{name} needs classes in a tree, and {reason}. Datasets with on")):
        expand(grid({name: {}}, **changes))


def test_the_ids_of_heads_of_a_tree_are_pinned():
    found = expand(grid({name: {} for name in TREE_HEADS}, datasets=["hicervix:23"]))
    first = {run.method: run.run_id for run in reversed(found)}
    assert first == {
        "hxe": "hicervix-23_nano_hxe_1-shot_lr0_s1_e661d7c5",
        "tree-softmax": "hicervix-23_nano_tree-softmax_1-shot_lr0_s1_53b4776d",
    }
