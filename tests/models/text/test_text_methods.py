"""Zero-shot and heads that start from class names, from a grid to stored runs, on a small CLIP in official layout."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from official import SMALL, Official, biomedclip, open_clip_vit

from cells import contents, tiny_grid
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import TEXT_HEADS, ZERO_SHOT, HeadSpec, RunSpec, TrainSpec, to_plain
from cytolora.config.yaml import parse_spec
from cytolora.core.progress import Progress
from cytolora.data.manifest import Sample
from cytolora.errors import ConfigError
from cytolora.experiments.engines.inline import run_jobs
from cytolora.experiments.expand import count_runs, expand, narrowed
from cytolora.experiments.plan import Plan, make_plan
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import TextSpec
from cytolora.models.encoder_with_head import from_safetensors
from cytolora.models.text.embeddings import ClassText, class_text, text_head
from cytolora.models.text.prompts import PAPER_TEMPLATE, TEMPLATES, WORDS, prompts
from cytolora.reporting.pages.build import build_report
from cytolora.training.adapt import train_adapter, train_heads
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import Labelled
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

NAME = "small-clip"


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Official]:
    """A small CLIP with random weights and the published scale of 100, registered as a backbone for this file."""
    made = open_clip_vit(tmp_path_factory.mktemp("clip"), SMALL, name="clip-vit-b16", quick_gelu=True)
    scale = torch.tensor(math.log(100))
    torch.save(torch.load(made.weights, weights_only=True) | {"logit_scale": scale}, made.weights)
    made.model.logit_scale.data = scale
    spec = replace(made.spec, name=NAME, text=TextSpec(width=64, heads=1, layers=1), weights=made.weights, hub=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES._entries, NAME, spec)
        yield replace(made, spec=spec)


def text_grid(start: str = "text", **axes: object) -> GridSpec:
    """Zero-shot, and the smoke grid's two methods with heads that start from the class names."""
    grid = replace(tiny_grid(), models=(NAME,))
    methods = {name: replace(method, head_start=start) for name, method in grid.methods.items()}
    return narrowed(replace(grid, methods={ZERO_SHOT: MethodSpec(), **methods}), **axes)  # pyright: ignore


def run_it(grid: GridSpec, cells: Path, runs: Path) -> Plan:
    inputs, store = Inputs(data={"synthetic": cells}), Store(runs)
    plan = make_plan(grid, store, inputs)
    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=Progress())
    return plan


@pytest.fixture(scope="module")
def finished(small_clip: Official, drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("text") / "runs"
    run_it(text_grid(), drawn_cells, runs)
    return runs


def zero_shot_run(runs: Path) -> StoredRun:
    (found,) = [run for run in Store(runs).runs() if run.spec["method"] == ZERO_SHOT]
    return found


def test_zero_shot_is_one_run_whatever_the_grids_shots_seeds_rates_and_budgets(small_clip: Official):
    grid = text_grid(methods=[ZERO_SHOT])
    (run,) = expand(grid)
    assert (run.learning_rate, run.seed, run.sampling.amount, run.head_start) == (0, 0, "0-shot", "random")
    wide = text_grid(shots=[1, 4, 8], seeds=[5, 6], learning_rates=[0.1])
    others = [found for found in expand(replace(wide, batch_size=8)) if found.method == ZERO_SHOT]
    assert others == [run]
    assert count_runs(wide) == len(expand(wide)) == 1 + 3 * 2 * 2
    assert expand(replace(grid, shots=())) == (run,)


@pytest.mark.slow
def test_zero_shot_probabilities_equal_open_clips_from_the_image_file(finished: Path, small_clip, drawn_cells: Path):
    run = zero_shot_run(finished)
    rows = run.predictions().to_pylist()
    manifest = Inputs(data={"synthetic": drawn_cells}).manifest("synthetic", tiny_grid().split)
    assert [row["path"] for row in rows] == [s.path for name in ("val", "test") for s in manifest.subset(name)]
    words = [WORDS["synthetic"][label] for label in manifest.classes]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{small_clip.weights.parent}")
    with torch.inference_mode():
        weights = open_clip.build_zero_shot_classifier(
            small_clip.model, tokenizer, words, [lambda c, t=t: t.format(c) for t in TEMPLATES]
        )
        images = torch.stack([small_clip.native(drawn_cells / row["path"]) for row in rows])
        logits = small_clip.model.logit_scale.exp() * F.normalize(images, dim=-1) @ weights
    ours = np.array([[row[label] for label in manifest.classes] for row in rows])
    np.testing.assert_allclose(ours, logits.softmax(dim=-1).numpy(), atol=1e-4)
    assert ours.std(axis=0).max() > 20 * 1e-4  # the comparison is of something


def test_a_zero_shot_run_says_that_it_trained_nothing_and_what_it_asked(finished: Path):
    run = zero_shot_run(finished)
    assert run.metrics["num_trainable"] == 0
    assert run.metrics["train"] == {"num_images": 0, "num_steps": 0, "final_loss": None}
    assert run.metrics["val"]["n"] > 0
    assert run.metrics["test"]["n"] > 0
    weights = run.weights()
    assert weights is not None
    assert set(from_safetensors(weights)) == {"text.embeddings", "text.logit_scale"}
    assert run.provenance["prompts"] == prompts("synthetic", run.provenance["classes"])


@pytest.mark.slow
def test_heads_that_read_text_go_through_a_grid_with_the_prompts_of_zero_shot(
    small_clip: Official, drawn_cells: Path, tmp_path: Path
):
    """The stored probabilities are those of the head on the features and texts of the official checkpoint."""
    few = {"clap": HeadSpec(epochs=5)}  # with random weights its steps are so large that more tear rounding apart
    grid = replace(tiny_grid(), models=(NAME,), methods={name: MethodSpec(head=few.get(name)) for name in TEXT_HEADS})
    plan = run_it(grid, drawn_cells, tmp_path / "runs")
    stored = list(Store(tmp_path / "runs").runs())
    assert {run.spec["method"] for run in stored} == set(TEXT_HEADS)
    assert len(stored) == len(plan.runs)
    manifest = Inputs(data={"synthetic": drawn_cells}).manifest("synthetic", tiny_grid().split)
    words = [[t.format(WORDS["synthetic"][label]) for t in TEMPLATES] for label in manifest.classes]
    with torch.inference_mode():
        tokens = [open_clip.get_tokenizer(f"local-dir:{small_clip.weights.parent}")(texts) for texts in words]
        raw = [small_clip.model.encode_text(one) for one in tokens]
    means = [F.normalize(one, dim=-1).mean(dim=0) for one in raw]
    text = ClassText(
        embeddings=F.normalize(torch.stack(means), dim=1),
        logit_scale=100.0,
        lengths=torch.stack([one.mean(dim=0).norm() for one in raw]),
    )
    split = Inputs(data={"synthetic": drawn_cells}).split(plan.runs[0])

    def seen(samples: Sequence[Sample]) -> Labelled:
        with torch.inference_mode():
            features = torch.stack([small_clip.native(drawn_cells / sample.path) for sample in samples])
        labels = torch.tensor([manifest.classes.index(sample.label) for sample in samples])
        return Labelled(features=features, labels=labels, num_classes=len(manifest.classes), text=text)

    for run in stored:
        assert run.provenance["prompts"] == prompts("synthetic", manifest.classes)
        if run.spec["seed"] != plan.runs[0].seed or run.spec["sampling"] != to_plain(plan.runs[0].sampling):
            continue
        head = HEADS.get(run.spec["method"])
        spec = few.get(run.spec["method"], HeadSpec())
        state = head.fit(seen(split.train), seen(split.val), spec, run.spec["seed"])
        rows = run.predictions().to_pylist()
        of = {row["path"]: [row[label] for label in manifest.classes] for row in rows}
        expected = head.probabilities(state, seen(split.train), seen(split.test).features)
        np.testing.assert_allclose([of[sample.path] for sample in split.test], expected, atol=2e-3, err_msg=run.run_id)


def test_a_second_run_does_nothing_and_the_text_is_kept_in_the_cache(finished: Path, drawn_cells: Path):
    before = contents(finished)
    plan = run_it(text_grid(), drawn_cells, finished)
    assert (len(plan.stored), plan.to_do, plan.jobs) == (9, (), ())
    assert contents(finished) == before
    assert len(list((finished / ".cache" / "text").iterdir())) == 2  # all templates, and the paper's alone


def test_other_words_for_a_class_make_the_runs_that_asked_for_it_stale(
    finished: Path, drawn_cells: Path, monkeypatch: pytest.MonkeyPatch
):
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(finished)
    monkeypatch.setitem(WORDS["synthetic"], "hsil", "severely dysplastic")  # pyright: ignore
    stale = make_plan(text_grid(), store, inputs).stale
    assert len(stale) == 9
    assert all(str(found).count("; ") == 0 and "prompts_sha256" in str(found) for found in stale)
    assert make_plan(tiny_grid(), store, inputs).stale == ()


def test_what_was_stored_before_prompts_had_a_hash_still_counts(finished: Path, drawn_cells: Path):
    """The prompts themselves are in the provenance: the hash is that of them."""
    run = zero_shot_run(finished)
    old = replace(run, provenance={name: run.provenance[name] for name in run.provenance if name != "prompts_sha256"})
    assert old.identity == run.identity
    assert old.identity.prompts_sha256 is not None
    trained = next(found for found in Store(finished).runs() if found.spec["method"] == "lora")
    assert trained.identity.prompts_sha256 != old.identity.prompts_sha256  # heads start from the paper's wording alone


@pytest.mark.slow
def test_biomedclips_bert_and_its_vocabulary_go_through_a_grid(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The official layout: open_clip_pytorch_model.bin with vocab.txt beside it."""
    made = biomedclip(tmp_path / "biomedclip", SMALL)
    official = BACKBONES.get("biomedclip").text
    assert official is not None
    text = replace(official, width=32, heads=2, layers=1, mlp=64, vocab_size=57)
    monkeypatch.setitem(BACKBONES._entries, NAME, replace(made.spec, name=NAME, text=text, weights=made.weights))
    run_it(text_grid(methods=[ZERO_SHOT]), drawn_cells, tmp_path / "runs")
    run = zero_shot_run(tmp_path / "runs")
    words = [WORDS["synthetic"][label] for label in run.provenance["classes"]]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{made.weights.parent}")
    rows = run.predictions().to_pylist()[:6]
    with torch.inference_mode():
        weights = open_clip.build_zero_shot_classifier(
            made.model, tokenizer, words, [lambda c, t=t: t.format(c) for t in TEMPLATES]
        )
        images = torch.stack([made.native(drawn_cells / row["path"]) for row in rows])
        logits = made.model.logit_scale.exp() * F.normalize(images, dim=-1) @ weights
    ours = np.array([[row[label] for label in run.provenance["classes"]] for row in rows])
    np.testing.assert_allclose(ours, logits.softmax(dim=-1).numpy(), atol=1e-4)
    assert run.metrics["test"]["n"] > 0
    made.weights.with_name("vocab.txt").unlink()
    shutil.rmtree(run.path)
    run_it(text_grid(methods=[ZERO_SHOT]), drawn_cells, tmp_path / "runs")  # what is kept needs no vocabulary
    assert zero_shot_run(tmp_path / "runs").metrics["test"] == run.metrics["test"]


@pytest.mark.parametrize("method", ["linear", "lora"])
def test_a_head_starts_as_the_embeddings_of_the_class_names(
    method: str, small_clip: Official, drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At a learning rate of nothing the stored head is the start."""
    run = next(run for run in expand(text_grid(methods=[method])) if run.seed == 2)
    still = TrainSpec(budget=replace(run.train.budget, max_steps=1), warmup_steps=0, min_learning_rate=0)
    run = replace(run, learning_rate=1e-12, train=still)
    inputs = Inputs(data={"synthetic": drawn_cells})
    manifest = inputs.manifest("synthetic", run.split)
    session = Session(
        backbone=small_clip.spec,
        manifest=manifest,
        inputs=inputs,
        cache=tmp_path / "cache",
        device=torch.device("cpu"),
        progress=Progress(),
    )
    trained = train_heads(session, [run])[run.run_id] if method == "linear" else train_adapter(session, run)
    text = class_text(
        small_clip.spec,
        small_clip.weights,
        prompts("synthetic", manifest.classes, [PAPER_TEMPLATE]),
        weights_sha256="0",
        cache=tmp_path / "other",
    )
    weight, bias = text_head(text, session.features_of(inputs.split(run).train))
    torch.testing.assert_close(trained.state["head.weight"], weight, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(trained.state["head.bias"], bias, rtol=0, atol=1e-9)


def test_the_heads_start_is_a_setting_of_its_own_with_its_own_result(finished: Path, drawn_cells: Path, tmp_path: Path):
    run_it(text_grid("random", methods=["lora"], seeds=[1]), drawn_cells, tmp_path)
    drawn = Store(tmp_path).runs()
    assert not {run.run_id for run in drawn} & set(contents(finished))
    for run in drawn:
        other = replace(parse_spec(run.spec, RunSpec, "spec"), head_start="text").run_id
        assert Store(finished).find(other).metrics["val"] != run.metrics["val"]  # pyright: ignore


@pytest.mark.parametrize(("methods", "option"), [([ZERO_SHOT], "zero-shot"), (["lora"], "head_start: text of lora")])
def test_a_backbone_without_a_text_encoder_is_refused_before_anything_runs(methods: list[str], option: str, small_clip):
    grid = text_grid(methods=methods)
    with pytest.raises(ConfigError, match=rf"{option} needs a text encoder, and nano has none\. .*clip-vit-b16"):
        expand(replace(grid, models=(NAME, "nano")))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"zero-shot": {"budget": {"amount": 1, "unit": "epochs"}}}, "write `zero-shot: {}`"),
        ({"zero-shot": {"head_start": "text"}}, "write `zero-shot: {}`"),
        ({"linear": {}}, r"methods\.linear\.budget is missing"),
        ({"linear": {"budget": {"amount": 1, "unit": "epochs"}, "head_start": "txet"}}, "head_start.*'txet'"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_the_file(method: dict[str, object], message: str):
    plain = {"name": "g", "datasets": ["synthetic"], "models": [NAME], "shots": [1], "methods": method}
    with pytest.raises(ConfigError, match=message):
        parse_spec(plain, GridSpec, "grid.yaml")


@pytest.mark.slow
def test_the_report_draws_zero_shot_as_a_level_and_names_no_learning_rate(
    small_clip: Official, drawn_cells: Path, tmp_path: Path
):
    run_it(text_grid(shots=[1, 2], seeds=[1], learning_rates=[1e-2]), drawn_cells, tmp_path / "runs")
    page = build_report(tmp_path / "runs", tmp_path / "report").read_text()
    assert "zero-shot, trained on none" in page
    assert "nothing is trained" in page
    assert "0 shots" in page
