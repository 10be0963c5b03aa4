"""Multilayer perceptron on frozen features: one hidden layer, trained by gradient steps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.models.encoder_with_head import seeded_head
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import Draws, Parameters, Recipe, SteppedHead, train_and_choose, unit

MLP = Recipe(optimiser="adamw", rates=(1e-3, 3e-3, 1e-2), epochs=100, batch_size=32, weight_decay=0.01, by_epoch=False)
"""Batches, weight decay and epochs of the linear heads of the shipped grids; the rates are ours."""
HIDDEN = 256
_NAMES = ("hidden.weight", "hidden.bias", "head.weight", "head.bias")


def mlp(known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]) -> list[SteppedHead]:
    """Trains ``W2 ReLU(W1 z + b1) + b2`` of features scaled to length 1, started as ``nn.Linear`` does.

    Validation accuracy chooses the learning rate, of equals the lowest; the last step is taken.
    """
    draws, width = Draws.of(known, val, seeds), spec.hidden or HIDDEN
    starts = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        sizes = ((draws.features.shape[2], width), (width, known[0].num_classes))
        starts.append([tensor for wide, out in sizes for tensor in seeded_head(wide, out, generator)])
    start: dict[str, Tensor] = dict(zip(_NAMES, map(torch.stack, zip(*starts, strict=True)), strict=True))
    stepped, chosen = train_and_choose(start, _logits, draws, MLP, spec)
    return [
        stepped.head({name: stepped.parameters[name][index, best].contiguous() for name in _NAMES}, index, best)
        for index, best in enumerate(chosen)
    ]


def mlp_logits(state: Parameters, features: Float[Tensor, "images features"]) -> Float32[Tensor, "images classes"]:
    """Applies a trained perceptron to features of any length."""
    one = {name: state[name][None, None] for name in _NAMES}
    return _logits(one, unit(features).unsqueeze(0))[0, 0]


def _logits(parameters: Parameters, images: Tensor) -> Tensor:
    """Applies all heads of a seed as one product, the images in columns: then no gradient is turned and copied."""
    first, first_bias, second, second_bias = (parameters[name] for name in _NAMES)
    together = torch.baddbmm(first_bias.flatten(1).unsqueeze(2), first.flatten(1, 2), images.transpose(1, 2))
    hidden = torch.relu(together).view(*first.shape[:3], images.shape[1])
    return (second @ hidden + second_bias.unsqueeze(3)).transpose(2, 3)
