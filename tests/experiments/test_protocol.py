"""Runs with a validation size of their own, without validation, in natural prevalence and with early stopping."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import cytolora
from cells import contents, run_all, tiny_grid
from cytolora.cli.app import main
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import AdapterSpec, EarlyStopping, HeadSpec
from cytolora.core.progress import Progress
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.cost import num_training_passes
from cytolora.experiments.expand import expand, narrowed
from cytolora.experiments.failures import failures, record
from cytolora.experiments.plan import make_plan
from cytolora.experiments.status import status_of
from cytolora.experiments.store import Store
from cytolora.experiments.undrawn import undrawn
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import read_settings
from cytolora.training.resources import Inputs


def _stopping(grid: GridSpec, **values: int) -> GridSpec:
    methods = {
        name: replace(spec, budget=spec.budget and replace(spec.budget, early_stopping=EarlyStopping(**values)))
        for name, spec in grid.methods.items()
    }
    return replace(grid, methods=methods)


def _metrics(runs: Path) -> list[dict]:
    return [json.loads(text) for text in contents(runs).values()]


@pytest.mark.slow
def test_runs_without_validation_are_tested_reported_and_told_from_diverged_ones(drawn_cells: Path, tmp_path: Path):
    grid = tiny_grid(methods=["linear", "ridge"], learning_rates=[1e-2], val_shots="none")
    run_all(grid, drawn_cells, tmp_path / "runs")
    for one in _metrics(tmp_path / "runs"):
        assert one["val"] is None
        assert one["test"]["n"] > 0
        assert "neighbours" not in one, "their number is chosen on validation"
    found = read_settings(Store(tmp_path / "runs").runs())
    assert [(one.rate, one.diverged, len(one.tested)) for one in found] == [(1e-2, (), 2), (0, (), 2)]
    build_report(tmp_path / "runs", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "No setting has validation images" in page
    assert "diverged" not in page.partition("<h3>Software")[2]
    other = narrowed(grid, methods=["linear"], learning_rates=[1e-3])
    with pytest.raises(StoreError, match=r"no validation images, and the learning rates 0\.001, 0\.01, among"):
        run_all(other, drawn_cells, tmp_path / "runs")
    assert len(contents(tmp_path / "runs")) == 4, "refused before anything was trained"


def test_validation_of_its_own_size_is_scored_whatever_the_shots(drawn_cells: Path, tmp_path: Path):
    grid = tiny_grid(methods=["linear"], shots=[1, 2], val_shots=2)
    run_all(grid, drawn_cells, tmp_path / "runs")
    metrics = _metrics(tmp_path / "runs")
    num_classes = len(next(iter(Store(tmp_path / "runs").runs())).provenance["classes"])
    assert {one["train"]["num_images"] for one in metrics} == {num_classes, 2 * num_classes}
    assert {one["val"]["n"] for one in metrics} == {2 * num_classes}, "the rule would give 1 at 1 shot"


@pytest.mark.slow
def test_heads_and_adapters_stop_early_twice_alike_and_say_where(drawn_cells: Path, tmp_path: Path):
    grid = _stopping(tiny_grid(seeds=[1], learning_rates=[3e-2], max_steps=None), patience=1, uncounted_epochs=1)
    for name in ("runs", "again"):
        run_all(grid, drawn_cells, tmp_path / name)
    assert contents(tmp_path / "runs") == contents(tmp_path / "again")
    for run in Store(tmp_path / "runs").runs():
        train = run.metrics["train"]
        assert 0 < train["kept_step"] <= train["num_steps"]
        assert train["num_steps"] < (100 if run.spec["method"] == "linear" else 36)
    rows = read_settings(Store(tmp_path / "runs").runs())
    assert {one.num_steps for one in rows} == {run.metrics["train"]["num_steps"] for one in rows for run in one.runs}


@pytest.mark.slow
def test_natural_draws_run_with_every_head_and_name_the_classes_they_lack(drawn_cells: Path, tmp_path: Path):
    heads = ["linear", "gda", "knn", "logistic", "nearest-mean", "ridge"]
    run_all(tiny_grid(methods=heads, shots=[1], sampling="natural"), drawn_cells, tmp_path / "runs")
    stored = list(Store(tmp_path / "runs").runs())
    assert {run.spec["method"] for run in stored} == set(heads)
    assert all(run.spec["sampling"]["sampling"] == "natural" for run in stored)
    assert all("1-shot-natural" in run.run_id for run in stored)
    lacking = [one for run in stored for one in run.provenance["findings"] if one["code"] == "D513"]
    assert lacking
    assert "hold none of" in lacking[0]["text"]


def test_a_record_of_a_draw_without_a_class_is_forgotten_when_the_draw_holds_every_class(
    drawn_cells: Path, tmp_path: Path
):
    grid = replace(tiny_grid(methods=["linear"], shots=[1], seeds=[1, 2]), methods={"tip-adapter": MethodSpec()})
    grid, store = replace(grid, models=("nano-clip",)), Store(tmp_path)
    inputs = Inputs(data={"synthetic": drawn_cells})
    natural, per_class = (
        make_plan(replace(grid, sampling=one), store, inputs).jobs for one in ("natural", "per_class")
    )
    (failure,) = undrawn(natural, inputs, store, Progress())
    assert failures(tmp_path) == [failure]
    record(tmp_path, replace(failure, name=f"draw_{per_class[0].settings[0][0].setting_id}"))
    assert undrawn(per_class, inputs, store, Progress()) == []
    assert failures(tmp_path) == [failure]


@pytest.mark.slow
def test_a_setting_whose_draw_lacks_a_class_that_it_needs_is_left_out_and_all_others_are_run(
    drawn_cells: Path, tmp_path: Path
):
    root, heads = tmp_path / "runs", {"gda": MethodSpec(), "gda-together": MethodSpec(method="gda", transductive=True)}
    methods = {"tip-adapter": MethodSpec(), **heads}
    grid = replace(tiny_grid(methods=["linear"], shots=[1], seeds=[1, 2]), models=("nano-clip",), sampling="natural")
    for _ in range(2):  # the second time nothing is left to do but what was left out
        with pytest.raises(StoreError, match=r"^2 settings were left out.* tip-adapter .* more shots, or .* per_class"):
            cytolora.run(replace(grid, methods=methods), {"synthetic": drawn_cells}, root)
        stored = {run.spec["method"]: run.spec for run in Store(root).runs()}
        assert list(stored) == ["gda"]
        assert "transductive" not in stored["gda"]
    found = status_of(root)
    assert (found.done, found.failed_runs, found.waiting) == (2, 4, 0)
    assert any("leave out transductive" in one.reason for one in found.failed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": (1e-3, 1e-2)}, r"nothing chooses among 2 learning rates; give one"),
        ({"methods": {"knn": MethodSpec()}}, r"knn: it chooses on validation .* give neighbours below `head`"),
        ({"methods": {"tip-adapter": MethodSpec()}, "models": ("nano-clip",)}, r"give alpha and beta below `head`"),
        (
            {
                "methods": {"tip-adapter": MethodSpec(head=HeadSpec(alpha=1.0))},
                "models": ("nano-clip",),
            },
            r"give beta below `head`",
        ),
        (
            {
                "methods": {"tip-adapter-f": MethodSpec(head=HeadSpec(rates=(0.01,), epochs=3))},
                "models": ("nano-clip",),
            },
            r"give alpha and beta below `head`",
        ),
        ({"methods": {"mlp": MethodSpec(head=HeadSpec(epochs=3))}}, r"give rates below `head`"),
        *(
            (
                {"methods": {name: MethodSpec(head=head)}, "models": ("nano-clip",)},
                r"nothing chooses among 2 .*: \[0\.1\]",
            )
            for head in (HeadSpec(rates=(0.1, 1e-5)),)
            for name in ("clap", "clip-adapter", "task-residual", "mlp")
        ),
        (
            {
                "methods": {"tip-adapter-f": MethodSpec(head=HeadSpec(rates=(0.1, 0.2), alpha=1.0, beta=1.0))},
                "models": ("nano-clip",),
            },
            r"tip-adapter-f: .* nothing chooses among 2 learning rates",
        ),
        ({"methods": {"lp++": MethodSpec()}, "models": ("nano-clip",)}, r"lp\+\+: it chooses .* leave it out, or give"),
    ],
)
def test_without_validation_every_choice_has_one_value_or_one_clear_line(changes, message):
    grid = replace(tiny_grid(methods=["linear"], learning_rates=[1e-3], max_steps=None), val_shots="none")
    with pytest.raises(ConfigError, match=message) as found:
        expand(replace(grid, **changes))
    assert "\n" not in str(found.value)


def test_heads_with_their_values_given_need_no_validation():
    grid = tiny_grid(methods=["linear"], learning_rates=[1e-3], val_shots=0)
    assert grid == tiny_grid(methods=["linear"], learning_rates=[1e-3], val_shots="none")
    methods = {"knn": MethodSpec(head=HeadSpec(neighbours=1)), "gda": MethodSpec(), "ridge": MethodSpec()}
    assert len(expand(replace(grid, methods=methods))) == 6
    one = MethodSpec(head=HeadSpec(rates=(0.01,)))
    of_text = {"clap": one, "tip-adapter-f": MethodSpec(head=HeadSpec(alpha=1.0, beta=1.0)), "mlp": one}
    assert len(expand(replace(grid, methods=of_text, models=("nano-clip",)))) == 6
    of_tree = {"hxe": one, "tree-softmax": one}
    assert len(expand(replace(grid, methods=of_tree, datasets=("hicervix",)))) == 4, "epochs and alpha have defaults"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": "natural", "shots": ("all",)}, "natural needs shots"),
        ({"sampling": "natural", "shots": (), "fractions": (0.5,)}, "natural needs shots"),
        ({"val_shots": -1}, "val_shots is a whole number from 0"),
        ({"val_shots": "all"}, "val_shots is a whole number from 0"),
        ({"warmup_epochs": -1}, "warmup_epochs is a whole number from 0"),
        ({"warmup_epochs": 0.5}, "warmup_epochs is a whole number from 0"),
    ],
)
def test_a_wrong_protocol_is_refused_before_anything_runs(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(tiny_grid(), **changes)


def test_early_stopping_needs_validation_and_is_no_part_of_a_plan_of_ranks():
    with pytest.raises(ConfigError, match="early_stopping needs validation images"):
        replace(_stopping(tiny_grid(learning_rates=[1e-3]), patience=1), val_shots=0)
    grid = _stopping(tiny_grid(methods=["lora"]), patience=1)
    with pytest.raises(ConfigError, match="adalora takes rank away over all steps"):
        expand(replace(grid, methods={"adalora": replace(grid.methods["lora"], adapter=AdapterSpec())}))


def test_the_ids_of_a_protocol_at_its_defaults_are_those_without_it():
    plain = [run.run_id for run in expand(tiny_grid())]
    assert plain == [run.run_id for run in expand(replace(tiny_grid(), sampling="per_class", val_shots=None))]
    for changed in (
        replace(tiny_grid(), sampling="natural"),
        replace(tiny_grid(), val_shots=16),
        replace(tiny_grid(), warmup_epochs=10),
        _stopping(tiny_grid(), patience=10),
    ):
        assert not set(plain) & {run.run_id for run in expand(changed)}


def test_the_forecast_counts_the_validation_after_every_epoch_of_an_adapter(drawn_cells: Path):
    inputs = Inputs(data={"synthetic": drawn_cells})
    plain, stopping = (
        expand(narrowed(grid, methods=["lora"], seeds=[1], learning_rates=[1e-3], max_steps=7))[0]
        for grid in (tiny_grid(), _stopping(tiny_grid(), patience=3))
    )
    split = inputs.split(plain)
    epochs = -(-7 // -(-len(split.train) // plain.train.batch_size))
    more = num_training_passes([stopping], inputs) - num_training_passes([plain], inputs)
    assert more == epochs * len(split.val) > 0


def test_the_command_line_and_python_replace_validation_size_and_sampling(drawn_cells: Path, tmp_path: Path, capsys):
    axes = ["--method", "linear", "--shots", "1", "--seeds", "1", "--learning-rates", "0.01", "--steps", "1"]
    data = ["--data", f"synthetic={drawn_cells}", "--out", str(tmp_path / "runs")]
    for options, code, message in (
        (["--val-shots", "none", "--sampling", "natural"], 0, "1 run, 0 stored"),
        (["--val-shots", "many"], 2, "val-shots is a number of images per class or the word none, got 'many'."),
        (["--val-shots", "-1"], 2, "val_shots is a whole number from 0 to 1,000,000, got -1."),
        (["--val-shots", "none", "--learning-rates", "0.1", "0.01"], 2, "nothing chooses among 2 learning rates"),
        (["--sampling", "natural", "--shots", "all"], 2, "sampling: natural needs shots"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["plan", "smoke", *axes, *options, *data])
        said = " ".join("".join(capsys.readouterr()).split())
        assert (stop.value.code, message in said) == (code, True), said
    chosen = {"method": "linear", "shots": 1, "seeds": 1, "learning_rates": 0.01, "steps": 1}
    plan = cytolora.run(
        "smoke", {"synthetic": drawn_cells}, tmp_path / "runs", val_shots=2, sampling="natural", **chosen
    )
    (run,) = plan.runs
    assert (run.sampling.val_shots, run.sampling.sampling) == (2, "natural")
    assert next(Store(tmp_path / "runs").runs()).metrics["val"]["n"] == 10
