"""Prompt learning follows its papers' equations, starts from the template's zero-shot head, and learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cytolora.config.run import PROMPT_METHODS, EarlyStopping, PromptSpec, RunSpec
from cytolora.config.yaml import load_grid
from cytolora.experiments.expand import expand, narrowed
from cytolora.models.adapters.prompt_methods import PROMPTED
from cytolora.models.backbones.registry import BACKBONES, NANO_CLIP
from cytolora.models.checkpoints.hub import find_vocabulary
from cytolora.models.text.encoder import TextEncoder, load_text_encoder
from cytolora.models.text.prompted import PromptedText
from cytolora.training.adapt import probabilities
from cytolora.training.heads.affine import AffineHead
from cytolora.training.loop import batches, rate_at
from cytolora.training.prompt_learning import (
    PromptLearner,
    gradients,
    images_at_once,
    kgcoop_penalty,
    train_prompts,
    without_conflict,
)
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

WORDS = ["normal", "low-grade dysplastic squamous", "koilocytotic squamous"]
TEMPLATE = "a photo of a {} cell."
GUIDED = [name for name, facts in PROMPTED.items() if facts.guide != "none"]
AFFINE = [name for name, facts in PROMPTED.items() if facts.is_affine]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    assert isinstance(NANO_CLIP.weights, Path)
    return load_text_encoder(NANO_CLIP, NANO_CLIP.weights, find_vocabulary(NANO_CLIP, NANO_CLIP.weights))


@pytest.fixture(scope="module")
def session(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    run, inputs = run_of("coop"), Inputs(data={"synthetic": drawn_cells})
    return Session(
        manifest=inputs.manifest(run.dataset, run.split),
        backbone=BACKBONES.get("nano-clip"),
        inputs=inputs,
        cache=tmp_path_factory.mktemp("cache"),
        device="cpu",
    )


def run_of(method: str, *, steps: int | None = None, rate: float = 0.01, prompt: PromptSpec | None = None) -> RunSpec:
    grid = narrowed(
        load_grid("prompts"), methods=[method], shots=[2], seeds=[1], learning_rates=[rate], max_steps=steps
    )
    return replace(expand(grid)[0], prompt=prompt)


def learner(encoder: TextEncoder, method: str) -> PromptLearner:
    text = PromptedText(encoder, TEMPLATE, WORDS)
    return PromptLearner(text, PROMPTED[method], text.word_vectors(), 64)


def drawn(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(number, 64, generator=generator), dim=1)
    return z, torch.randint(len(WORDS), (number,), generator=generator)


def test_the_names_of_the_config_are_those_of_the_registry():
    assert sorted(PROMPTED) == sorted(PROMPT_METHODS)


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_training_starts_from_the_templates_zero_shot_head(method: str, encoder: TextEncoder):
    z, _ = drawn(7)
    text = F.normalize(encoder.embed([TEMPLATE.format(words) for words in WORDS]), dim=1)
    torch.testing.assert_close(
        learner(encoder, method).logits(z), encoder.logit_scale * z @ text.T, atol=1e-5 * encoder.logit_scale, rtol=1e-5
    )


def test_kgcoops_penalty_is_the_papers_and_half_its_squared_distance():
    generator = np.random.default_rng(0)
    ours, teacher = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in generator.normal(size=(2, 5, 9)))
    cosines = [float(a @ b) for a, b in zip(ours, teacher, strict=True)]
    found = kgcoop_penalty(torch.from_numpy(ours), torch.from_numpy(teacher), 8.0).item()
    assert found == pytest.approx(8 * (1 - np.mean(cosines)), abs=1e-9)
    assert found == pytest.approx(8 / 2 * np.mean(np.sum((ours - teacher) ** 2, axis=1)), abs=1e-9)


@pytest.mark.parametrize("lam", [1.0, 0.3])
@pytest.mark.parametrize("seed", range(6))
def test_prograd_takes_the_part_against_zero_shot_away_and_nothing_else(seed: int, lam: float):
    generator = np.random.default_rng(seed)
    wanted, guiding = generator.normal(size=(2, 4, 6))
    inner = float((wanted * guiding).sum())
    expected = wanted if inner >= 0 else wanted - lam * inner / (guiding**2).sum() * guiding
    found = without_conflict(torch.from_numpy(wanted), torch.from_numpy(guiding), lam)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    if inner < 0 and lam == 1:
        assert abs(float((found.numpy() * guiding).sum())) < 1e-9, "at right angles to zero-shot's"


def test_prograd_stays_finite_where_zero_shot_has_no_gradient():
    wanted = torch.tensor([1.0, -2.0])
    assert torch.equal(without_conflict(wanted, torch.zeros(2), 1.0), wanted)


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_the_gradient_of_a_step_is_that_of_the_papers_loss(method: str, encoder: TextEncoder):
    """Written out with the plain loss and torch's own gradients, at vectors away from the start."""
    ours, scale, lam = learner(encoder, method), encoder.logit_scale, 2.0
    with torch.no_grad():
        for parameter in ours.trained().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    z, labels = drawn(90, seed=3)
    teacher = F.normalize(torch.randn(3, 64, generator=torch.Generator().manual_seed(4)), dim=1)
    loss, found = gradients(ours, z, labels, PROMPTED[method], teacher=teacher, lam=lam)
    parameters = list(ours.trained().values())
    if ours.net is None:
        text = ours.text(ours.context)
        logits = scale * z @ text.T
    else:
        shifts = ours.net[2](torch.relu(ours.net[0](z)))
        text = torch.stack([ours.text(ours.context + shift) for shift in shifts])
        logits = scale * (z.unsqueeze(1) * text).sum(dim=2)
    plain = -logits.log_softmax(dim=1)[torch.arange(len(z)), labels].mean()
    total = plain + lam * (1 - (text * teacher).sum(dim=1).mean()) if method == "kgcoop" else plain
    expected = list(torch.autograd.grad(total, parameters, retain_graph=True))
    if method == "prograd":
        shares = (scale * z @ teacher.T).softmax(dim=1)
        divergence = (shares * (shares.log() - logits.log_softmax(dim=1))).sum(dim=1).mean()
        (against,) = torch.autograd.grad(divergence, parameters)
        inner = (expected[0] * against).sum()
        if inner < 0:
            expected[0] = expected[0] - lam * inner / (against**2).sum() * against
    assert loss == pytest.approx(plain.item(), rel=1e-4)
    assert len(z) > images_at_once(3), "CoCoOp goes through several parts"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_cocoop_moves_the_prompts_of_each_image_by_its_own_feature(encoder: TextEncoder):
    ours = learner(encoder, "cocoop")
    assert ours.net is not None
    with torch.no_grad():
        for parameter in ours.net[2].parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    z, _ = drawn(5)
    for row, logits in zip(z, ours.logits(z), strict=True):
        shift = ours.net[2](torch.relu(ours.net[0](row)))
        alone = encoder.logit_scale * ours.text(ours.context + shift) @ row
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-3)


def test_training_is_the_public_codes_optimiser_with_the_runs_batches_and_warm_up(session: Session):
    """Five steps of SGD, written out."""
    run = run_of("coop", steps=5)
    assert (run.train.weight_decay, run.train.warmup_epochs) == (5e-4, 1)
    trained = train_prompts(session, run)
    samples = session.split(run).train
    z, labels = F.normalize(session.features_of(samples).clone(), dim=1), session.labels_of(samples)
    words = [text[0].removeprefix("a photo of a ").removesuffix(" cell.") for text in texts(session, run)]
    text = PromptedText(session.text_encoder, TEMPLATE, words)
    context, velocity = text.word_vectors().requires_grad_(), 0.0
    train = replace(run.train, warmup_epochs=None, warmup_steps=-(-len(samples) // run.train.batch_size))
    order = torch.Generator().manual_seed(run.seed)
    for step, rows in enumerate(batches(len(samples), run.train.batch_size, 5, order)):
        loss = F.cross_entropy(text.logit_scale * z[rows] @ text(context).T, labels[rows])
        (grad,) = torch.autograd.grad(loss, context)
        velocity = 0.9 * velocity + grad + 5e-4 * context
        context = (context - rate_at(step, 5, run.learning_rate, train) * velocity).detach().requires_grad_()
    torch.testing.assert_close(trained.state["prompt.context"], context.detach(), rtol=1e-4, atol=1e-5)
    assert (trained.num_steps, trained.num_trainable) == (5, context.numel())


def texts(session: Session, run: RunSpec) -> list[list[str]]:
    found = session.inputs.prompts(run)
    assert found is not None
    return list(found.values())


@pytest.mark.parametrize("method", AFFINE)
def test_what_was_learned_is_an_affine_head_on_frozen_features(method: str, session: Session):
    run = run_of(method, steps=3)
    state = train_prompts(session, run).state
    samples = session.split(run).test[:20]
    found = probabilities(session, run, state, samples)
    head = AffineHead.of(state)
    torch.testing.assert_close(head.weight.norm(dim=1), torch.full((5,), session.text_encoder.logit_scale))
    expected = (F.normalize(session.features_of(samples), dim=1) @ state["head.weight"].T).softmax(dim=1)
    torch.testing.assert_close(found, expected)


def test_stored_networks_of_cocoop_give_the_same_probabilities(session: Session):
    run = run_of("cocoop", steps=4, rate=0.5)
    state = train_prompts(session, run).state
    samples = session.split(run).test[:20]
    found = probabilities(session, run, state, samples)
    assert torch.equal(found, probabilities(session, run, state, samples))
    start = train_prompts(session, run_of("cocoop", steps=1, rate=1e-9)).state
    assert (found - probabilities(session, run, start, samples)).abs().max() > 1e-3
    assert "head.weight" not in state


def test_only_methods_that_zero_shot_guides_ask_for_all_templates(session: Session):
    for method in PROMPT_METHODS:
        asked = texts(session, run_of(method))[0]
        assert asked[0].startswith("a photo of a ")
        assert len(asked) == (6 if method in GUIDED else 1)


def test_early_stopping_keeps_the_best_epoch(session: Session):
    run = run_of("coop", rate=3.0)  # far too high: every epoch after the first is worse or equal
    budget = replace(run.train.budget, early_stopping=EarlyStopping(patience=2, uncounted_epochs=1))
    stopped = train_prompts(session, replace(run, train=replace(run.train, budget=budget)))
    assert stopped.kept_step is not None
    assert stopped.kept_step <= stopped.num_steps
    cut = replace(run, train=replace(run.train, budget=replace(budget, early_stopping=None)))
    full = cut.num_steps(len(session.split(run).train))
    assert stopped.num_steps < full
    val = session.split(run).val

    def accuracy(state: dict[str, Tensor]) -> float:
        found = probabilities(session, run, state, val).argmax(dim=1)
        return float((found == session.labels_of(val)).float().mean())

    assert accuracy(stopped.state) >= accuracy(train_prompts(session, cut).state)


def test_random_vectors_learn_what_the_template_had_to_say(session: Session):
    """From vectors that mean nothing to the accuracy of the words, on cells that were not trained on."""
    prompt = PromptSpec(tokens=4, template="{} nuclei")
    before, after = (run_of("coop", steps=steps, rate=rate, prompt=prompt) for steps, rate in ((1, 1e-9), (None, 0.05)))
    samples = session.split(before).test
    labels = session.labels_of(samples)
    scores = []
    for run in (before, after):
        found = probabilities(session, run, train_prompts(session, run).state, samples)
        scores.append((float(F.nll_loss(found.log(), labels)), float((found.argmax(dim=1) == labels).float().mean())))
    assert scores[1][0] < scores[0][0] - 0.05
    assert scores[1][1] >= scores[0][1]
