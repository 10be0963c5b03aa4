"""Prompt learning on cached image features: CoOp, CoCoOp, KgCoOp and ProGrad, trained through the text encoder."""

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cytolora.config.run import PromptSpec, RunSpec
from cytolora.data.manifest import Sample
from cytolora.models.adapters.methods import METHODS
from cytolora.models.adapters.prompt_methods import DEFAULT_LAM, MOMENTUM, PromptFacts
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import fetch_vocabulary, find_vocabulary
from cytolora.models.text.embeddings import class_text
from cytolora.models.text.prompted import PromptedText
from cytolora.models.text.prompts import prompts, words_of
from cytolora.training.early_stopping import KeptWeights, Patience
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.loop import batches, rate_at
from cytolora.training.seeding import seeded
from cytolora.training.session import Session
from cytolora.training.trained import State, Trained

_CONTEXT_STD = 0.02
"""Of context vectors that start from no words (Zhou et al. 2022, arXiv:2109.01134)."""
_SHRINK = 16
"""Width of the image features over that of CoCoOp's hidden layer (Zhou et al. 2022, arXiv:2203.05557)."""
_PROMPTS_AT_ONCE = 256
"""Prompts in one pass where every image has its own: their number is classes times images."""
_CONTEXT, _NET = "prompt.context", "prompt.net."


class PromptLearner(nn.Module):
    """Context vectors before the class names; with ``per_image``, moved by a network that sees the image.

    CoCoOp's network ends in zeros here, so that training starts from the template; in the public code it is drawn.
    """

    def __init__(
        self, text: PromptedText, facts: PromptFacts, context: Float[Tensor, "vectors width"], feature_dim: int
    ) -> None:
        super().__init__()
        self.text = text
        self.context = nn.Parameter(context)
        self.net: nn.Sequential | None = None
        if facts.per_image:
            hidden, width = max(1, feature_dim // _SHRINK), context.shape[1]
            self.net = nn.Sequential(nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Linear(hidden, width))
            for parameter in self.net[2].parameters():
                nn.init.zeros_(parameter)

    def trained(self) -> dict[str, nn.Parameter]:
        """Returns what training changes, by the name under which it is stored."""
        net = {} if self.net is None else {_NET + name: part for name, part in self.net.named_parameters()}
        return {_CONTEXT: self.context, **net}

    def logits(self, z: Float[Tensor, "images width"]) -> Float[Tensor, "images classes"]:
        """Returns scaled cosines of unit features with the embeddings of the prompts."""
        if self.net is None:
            return self.text.logit_scale * z @ self.text(self.context).T
        context = self.context + self.net(z).unsqueeze(1)
        return self.text.logit_scale * torch.einsum("nd,nkd->nk", z, self.text(context))

    @torch.no_grad()
    def probabilities(self, z: Float[Tensor, "images width"]) -> Float32[Tensor, "images classes"]:
        """Returns class probabilities of unit features, on the CPU, some images at a time."""
        at_once = len(z) if self.net is None else images_at_once(self.text.num_classes)
        return torch.cat([self.logits(part).softmax(dim=1).cpu() for part in z.split(max(1, at_once))])


def train_prompts(
    session: Session,
    run: RunSpec,
    on_steps: Callable[[int], None] = lambda steps: None,
    *,
    num_steps: int | None = None,
) -> Trained:
    """Trains the prompts of one run on frozen image features, through the text encoder.

    Args:
        on_steps: Told the number of steps after each.
        num_steps: In the place of those of the run's budget.
    """
    samples = session.split(run).train
    features = session.features_of(samples, run.preprocess, run.train.augment).clone()  # autograd keeps these
    z, labels = scaled(features).to(session.device), session.labels_of(samples).to(session.device)
    learner, facts = _learner(session, run, z.shape[1]), _facts(run)
    teacher = _teacher(session, run) if facts.guide != "none" else None
    lam = (run.prompt or PromptSpec()).lam or DEFAULT_LAM[facts.guide]
    parameters, started = list(learner.trained().values()), perf_counter()
    optimiser = torch.optim.SGD(
        parameters, lr=run.learning_rate, momentum=MOMENTUM, weight_decay=run.train.weight_decay
    )
    num_steps, order = num_steps or run.num_steps(len(samples)), torch.Generator().manual_seed(run.seed)
    train, num_batches = run.train.in_steps(len(samples)), math.ceil(len(samples) / run.train.batch_size)
    kept, loss, done = _kept_weights(session, run, learner), math.nan, 0
    for step, indices in enumerate(batches(len(samples), run.train.batch_size, num_steps, order)):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, num_steps, run.learning_rate, train)
        indices = indices.to(session.device)
        loss, grads = gradients(learner, z[indices], labels[indices], facts, teacher=teacher, lam=lam)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimiser.step()
        on_steps(1)
        done = step + 1
        if kept and (done % num_batches == 0 or done == num_steps) and kept.after_epoch(done, loss):
            break
    on_steps(num_steps - done)
    return Trained(
        num_trainable=sum(parameter.numel() for parameter in parameters),
        num_steps=done,
        final_loss=kept.restore(loss) if kept else loss,
        state=_state(learner),  # of the weights that are kept
        seconds=perf_counter() - started,
        kept_step=kept.patience.kept_step if kept else None,
    )


def _kept_weights(session: Session, run: RunSpec, learner: PromptLearner) -> KeptWeights | None:
    """Returns what stops the training early; None: nothing does."""
    spec, samples = run.train.budget.early_stopping, session.split(run).val
    if spec is None:
        return None
    z = scaled(session.features_of(samples, run.preprocess)).to(session.device)
    return KeptWeights(
        model=learner,
        validate=lambda: learner.probabilities(z),
        labels=session.labels_of(samples),
        patience=Patience(spec=spec),
    )


def gradients(
    learner: PromptLearner,
    z: Float[Tensor, "images width"],
    labels: Int64[Tensor, " images"],
    facts: PromptFacts,
    *,
    teacher: Float[Tensor, "classes width"] | None,
    lam: float,
) -> tuple[float, list[Tensor]]:
    """Returns the cross-entropy of a batch, and the gradient that its step takes, a tensor for each parameter.

    Args:
        z: Features of length 1.
        teacher: Zero-shot embeddings of the classes, of length 1, where zero-shot guides.
        lam: Weight of that guide.
    """
    parameters = list(learner.trained().values())
    if facts.per_image:
        return _per_image_gradients(learner, z, labels)
    embeddings = learner.text(learner.context)
    logits = learner.text.logit_scale * z @ embeddings.T
    loss = F.cross_entropy(logits, labels)
    if facts.guide == "none":
        return loss.item(), list(torch.autograd.grad(loss, parameters))
    assert teacher is not None, "the method compares with zero-shot"
    if facts.guide == "cosine":
        total = loss + kgcoop_penalty(embeddings, teacher, lam)
        return loss.item(), list(torch.autograd.grad(total, parameters))
    guide = F.cross_entropy(logits, (learner.text.logit_scale * z @ teacher.T).softmax(dim=1))
    wanted = torch.autograd.grad(loss, parameters, retain_graph=True)
    guiding = torch.autograd.grad(guide, parameters)
    return loss.item(), [without_conflict(*pair, lam) for pair in zip(wanted, guiding, strict=True)]


def kgcoop_penalty(
    embeddings: Float[Tensor, "classes width"], teacher: Float[Tensor, "classes width"], lam: float
) -> Float[Tensor, ""]:
    """Returns ``lam (1 - mean cos(t'_c, t_c))`` of unit embeddings (Yao et al. 2023, arXiv:2303.13283)."""
    return lam * (1 - (embeddings * teacher).sum(dim=1).mean())


def without_conflict(wanted: Tensor, guiding: Tensor, lam: float) -> Tensor:
    """Takes from a gradient, ``lam`` times, its part against another (Zhu et al. 2023, arXiv:2205.14865, eq. 4).

    Where both agree, or the other is zero, the gradient stays as it is.
    """
    length = guiding.norm()
    inner = (wanted * guiding).sum()
    if inner >= 0 or length == 0:
        return wanted
    unit = guiding / length
    return wanted - lam * (wanted * unit).sum() * unit


def _per_image_gradients(
    learner: PromptLearner, z: Float[Tensor, "images width"], labels: Int64[Tensor, " images"]
) -> tuple[float, list[Tensor]]:
    parameters = list(learner.trained().values())
    sums, mean = [torch.zeros_like(parameter) for parameter in parameters], 0.0
    at_once = images_at_once(learner.text.num_classes)
    for part, truth in zip(z.split(at_once), labels.split(at_once), strict=True):
        loss = F.cross_entropy(learner.logits(part), truth, reduction="sum") / len(z)
        for total, grad in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
            total += grad
        mean += loss.item()
    return mean, sums


def images_at_once(num_classes: int) -> int:
    """Returns how many images one pass takes where each has prompts of its own."""
    return max(1, _PROMPTS_AT_ONCE // num_classes)


def prompt_probabilities(
    session: Session, run: RunSpec, state: Mapping[str, Tensor], samples: Sequence[Sample]
) -> Float32[Tensor, "images classes"]:
    """Returns class probabilities of images under learned prompts."""
    features = session.features_of(samples, run.preprocess)
    if _facts(run).is_affine:
        return AffineHead.of(state).logits(features).softmax(dim=1)
    learner = _learner(session, run, features.shape[1])
    with torch.no_grad():
        for name, parameter in learner.trained().items():
            parameter.copy_(state[name])
    return learner.probabilities(scaled(features).to(session.device))


def _state(learner: PromptLearner) -> State:
    state = {name: parameter.detach().cpu().clone() for name, parameter in learner.trained().items()}
    if learner.net is not None:
        return state
    with torch.no_grad():
        weight = (learner.text.logit_scale * learner.text(learner.context)).float().cpu()
    return {**AffineHead(weight=weight, bias=torch.zeros(len(weight))).state(), **state}


def _learner(session: Session, run: RunSpec, feature_dim: int) -> PromptLearner:
    """Builds the untrained prompts of a run; the encoder before the seed is set, for building one draws too."""
    spec, encoder = run.prompt or PromptSpec(), session.text_encoder
    words = words_of(run.dataset, session.manifest.classes)
    text = PromptedText(encoder, spec.template, words, num_vectors=spec.tokens)
    with seeded(run.seed):
        context = text.word_vectors()
        if spec.tokens is not None:
            context = _CONTEXT_STD * torch.randn_like(context)
        learner = PromptLearner(text, _facts(run), context, feature_dim)
    return learner.to(session.device).eval()


def _teacher(session: Session, run: RunSpec) -> Float[Tensor, "classes width"]:
    """Returns the zero-shot embeddings of the classes: the mean over all templates but the run's own."""
    backbone, weights = BACKBONES.get(run.backbone), session.inputs.weights_path(run.backbone)
    text = class_text(
        backbone,
        weights,
        prompts(run.dataset, session.manifest.classes),
        weights_sha256=session.inputs.weights_sha256(run.backbone),
        cache=session.cache / "text",
        vocabulary=find_vocabulary(backbone, weights),
        fetch_vocabulary=lambda: fetch_vocabulary(backbone),
    )
    return text.embeddings.clone().to(session.device)


def _facts(run: RunSpec) -> PromptFacts:
    facts = METHODS.get(run.method).prompt
    assert facts is not None, f"{run.method} learns no prompts"
    return facts
