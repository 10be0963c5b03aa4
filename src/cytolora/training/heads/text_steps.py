"""Heads that are trained by steps from the text of the classes: Tip-Adapter-F, CLIP-Adapter, Task Residual, CLAP.

With u the unscaled text embeddings, t the same of length 1, z unit features and s the checkpoint's factor from cosine
to logit, all are functions of s z t at their start. Test images decide nothing: the authors' codes of Tip-Adapter-F and
of CLAP's competitors choose epoch, alpha and beta on them, which is not copied.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.models.text.embeddings import ClassText
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import (
    Draws,
    Logits,
    Parameters,
    Recipe,
    SteppedHead,
    num_right,
    train_and_choose,
    train_by_steps,
    unit,
)
from cytolora.training.heads.text_kernels import TIP_START, class_weights, tip_search

TIP_F = Recipe(
    optimiser="adamw", rates=(1e-3,), epochs=100, batch_size=256, weight_decay=0.01, eps=1e-4, by_epoch=False
)
CLIP_ADAPTER = Recipe(
    optimiser="sgd",
    rates=(1e-3,),
    epochs=100,
    batch_size=8,
    weight_decay=5e-4,
    warmup_epochs=10,
    warmup="linear",
)
TASK_RESIDUAL = Recipe(optimiser="adam", rates=(2e-3,), epochs=100, batch_size=256, weight_decay=5e-4, warmup_epochs=1)
CLAP = Recipe(optimiser="sgd", rates=(0.1,), epochs=300, batch_size=256, warmup_epochs=1)
_MORE_EPOCHS, _MORE_SHOTS = 200, 8
"""Of Task Residual: twice the epochs from 8 images of each class on (public code, configs/trainers/TaskRes)."""
RATIO, SCALE = 0.2, 0.5
"""Of CLIP-Adapter (clip_adapter.py) and Task Residual (its run script; 1.0 for one of its datasets)."""
_BOTTLENECK = 4
WEIGHTS, RATIO_NAME = ("adapter.down", "adapter.up"), "adapter.ratio"


def tip_adapter_f(
    known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]
) -> list[SteppedHead]:
    """Trains Tip-Adapter's keys (Tip-Adapter-F, Zhang et al. 2022, arXiv:2207.09519; public code, main.py:66-141).

    It starts as ``tip-adapter`` before its search. Validation accuracy chooses the epoch, the start among them and of
    equals the earliest, then alpha and beta where they are not set, then the learning rate; without validation images
    the last epoch is taken. The public code chooses the
    epoch on the test set, and adds up votes of keys that have lost their length of 1; here keys are scaled to it.
    """
    text, weights = known[0].class_text, torch.stack([class_weights(one) for one in known]).float()
    alpha, beta = spec.alpha or TIP_START[0], spec.beta or TIP_START[1]
    draws = Draws.of(known, val, seeds)

    def logits(parameters: Parameters, images: Tensor) -> Tensor:
        cosines = images.unsqueeze(1) @ unit(parameters["keys"]).transpose(2, 3)
        votes = torch.exp(-beta * (1 - cosines)) @ weights.unsqueeze(1)
        return (text.logit_scale * images @ text.embeddings.T).unsqueeze(1) + alpha * votes

    start, rates = {"keys": draws.features}, spec.rates or TIP_F.rates
    epochs = TIP_F.epochs if spec.epochs is None else spec.epochs
    best = _Best(logits, draws, start, len(rates))
    stepped = train_by_steps(
        start, logits, draws, TIP_F, rates=rates, epochs=epochs, step_limit=spec.step_limit, after_epoch=best.look
    )
    heads = []
    for index, (one, images) in enumerate(zip(known, val, strict=True)):
        keys = best.parameters["keys"][index]
        choices = [tip_search(replace(one, features=each), images, spec) for each in keys]
        rate_index = max(range(len(rates)), key=lambda each: choices[each].num_right)
        state = {"keys": keys[rate_index].contiguous()}
        state |= {name: torch.tensor(getattr(choices[rate_index], name)).double() for name in ("alpha", "beta")}
        heads.append(stepped.head(state, index, rate_index))
    return heads


class _Best:
    """The parameters of the epoch with the highest validation accuracy, the start among them, of every head.

    Without validation images those of the last epoch.
    """

    def __init__(self, logits: Logits, draws: Draws, start: Parameters, num_rates: int) -> None:
        self._look = lambda parameters: num_right(parameters, logits, draws.val_features, draws.val_labels)
        self.parameters = {
            name: tensor.unsqueeze(1).repeat_interleave(num_rates, dim=1) for name, tensor in start.items()
        }
        self.right, self._chooses = self._look(self.parameters), draws.val_labels.shape[1] > 0

    def look(self, parameters: Parameters) -> None:
        right = self._look(parameters)
        better = right > self.right if self._chooses else torch.ones_like(right, dtype=torch.bool)
        self.right = torch.where(better, right, self.right)
        for name, tensor in parameters.items():
            mask = better.view(*better.shape, *(1,) * (tensor.dim() - 2))
            self.parameters[name] = torch.where(mask, tensor, self.parameters[name])


def clip_adapter(
    known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]
) -> list[SteppedHead]:
    """Trains CLIP-Adapter's image adapter (Gao et al. 2021, arXiv:2110.04544; public code, clip_adapter.py:55-113).

    ``A(f) = ReLU(W2 ReLU(W1 f))`` of the features f as the encoder gives them, with a quarter of their width between
    and no bias; the logit is ``s cos(r A(f) + (1 - r) f, t_c)``. W1 and W2 start as ``nn.Linear`` does, so that the
    start is zero-shot but for the share r of A. Optimiser and length are those of the later benchmark of Dausort et al.
    """
    text, ratio = known[0].class_text, spec.ratio or RATIO
    draws = Draws.of(known, val, seeds, scaled=False)
    starts = [_adapter_start(draws.features.shape[2], torch.Generator().manual_seed(seed)) for seed in seeds]
    start = dict(zip(WEIGHTS, map(torch.stack, zip(*starts, strict=True)), strict=True))

    def logits(parameters: Parameters, images: Tensor) -> Tensor:
        return adapted_logits(parameters, images.unsqueeze(1), text, ratio)

    stepped, chosen = train_and_choose(start, logits, draws, CLIP_ADAPTER, spec)
    heads = []
    for index, best in enumerate(chosen):
        state = {name: stepped.parameters[name][index, best].contiguous() for name in WEIGHTS}
        heads.append(stepped.head({**state, RATIO_NAME: torch.tensor(ratio).double()}, index, best))
    return heads


def adapted_logits(
    weights: Parameters, features: Float32[Tensor, "*images features"], text: ClassText, ratio: float
) -> Float32[Tensor, "*heads_and_images classes"]:
    """Applies CLIP-Adapter's two matrices, [features, width] and [width, features], and compares with the text."""
    down, up = (weights[name] for name in WEIGHTS)
    adapted = torch.relu(torch.relu(features @ down) @ up)
    return text.logit_scale * unit(ratio * adapted + (1 - ratio) * features) @ text.embeddings.T


def _adapter_start(dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    width = max(1, dim // _BOTTLENECK)
    shapes = ((dim, width), (width, dim))
    return tuple(
        torch.empty(shape).uniform_(-(shape[0] ** -0.5), shape[0] ** -0.5, generator=generator) for shape in shapes
    )  # pyright: ignore[reportReturnType]


def task_residual(
    known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]
) -> list[SteppedHead]:
    """Trains Task Residual (Yu et al. 2023, arXiv:2211.10277; public code, taskres.py): ``s cos(z, u_c + a x_c)``.

    x starts at 0, so that the start is zero-shot. u has the length of the mean over a class's prompts, for which a was
    chosen, and the direction of zero-shot's embedding.
    """
    text = known[0].class_text
    scale, base, zero = spec.scale or SCALE, text.unscaled, torch.zeros_like(text.embeddings)
    shots = min(len(one.labels) for one in known) / known[0].num_classes
    recipe = replace(TASK_RESIDUAL, epochs=_MORE_EPOCHS) if shots >= _MORE_SHOTS else TASK_RESIDUAL
    return _trained_rows(recipe, zero, lambda residual: base + scale * residual, known, val, spec, seeds)


def clap(known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]) -> list[SteppedHead]:
    """Trains CLAP (Silva-Rodríguez et al. 2024, arXiv:2312.12730; public code, trainers/adapters.py:219-252).

    The logit is ``s cos(z, w_c)``, w starts at u, and the loss is cross-entropy and the mean over classes of
    ``l_c |w_c - u_c|^2``, l_c the mean zero-shot probability of class c over its own images, computed once. A class
    without an image, for which the public code divides 0 by 0, stays at its text: l_c is 1. With one learning rate,
    the default, no validation image is read.
    """
    text = known[0].class_text
    multipliers = torch.stack([_multipliers(one) for one in known]).unsqueeze(1)
    base = text.unscaled

    def penalty(parameters: Parameters) -> Tensor:
        return (multipliers * (parameters["rows"] - base).square().sum(dim=3)).mean(dim=2)

    return _trained_rows(CLAP, base, lambda rows: rows, known, val, spec, seeds, penalty)


def _multipliers(known: Labelled) -> Float32[Tensor, " classes"]:
    text = known.class_text
    shares = (text.logit_scale * unit(known.features) @ text.embeddings.T).softmax(dim=1)
    one_hot = F.one_hot(known.labels, known.num_classes).float()
    counts = one_hot.sum(dim=0)
    return torch.where(counts > 0, (shares * one_hot).sum(dim=0) / counts.clamp(min=1), 1.0)


def _trained_rows(
    recipe: Recipe,
    start: Float32[Tensor, "classes width"],
    rows_of: Callable[[Tensor], Tensor],
    known: Sequence[Labelled],
    val: Sequence[Labelled],
    spec: HeadSpec,
    seeds: Sequence[int],
    penalty: Callable[[Parameters], Tensor] | None = None,
) -> list[SteppedHead]:
    """Trains a row for each class, of which the logit is the scaled cosine: an affine map of unit features."""
    scale = known[0].class_text.logit_scale

    def logits(parameters: Parameters, images: Tensor) -> Tensor:
        return scale * images.unsqueeze(1) @ unit(rows_of(parameters["rows"])).transpose(2, 3)

    starts = {"rows": start.expand(len(seeds), *start.shape)}
    stepped, chosen = train_and_choose(starts, logits, Draws.of(known, val, seeds), recipe, spec, penalty)
    heads = []
    for index, best in enumerate(chosen):
        weight = scale * unit(rows_of(stepped.parameters["rows"][index, best]))
        state = AffineHead(weight=weight.contiguous(), bias=torch.zeros(len(weight))).state()
        heads.append(stepped.head(state, index, best))
    return heads
