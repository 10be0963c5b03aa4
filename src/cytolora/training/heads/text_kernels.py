"""Heads that compare images with all training images and with the text of the classes: Tip-Adapter and ProKeR."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.errors import ConfigError
from cytolora.training.heads.affine import scaled
from cytolora.training.heads.draws import draw_of
from cytolora.training.heads.labelled import ROWS, Labelled, by_rows

TIP_BETAS = tuple(0.1 + step * (12 - 0.1) / 200 for step in range(200))
TIP_ALPHAS = tuple(0.1 + step * (10 - 0.1) / 20 for step in range(20))
"""The grid of Tip-Adapter's code with the ranges that the cytology benchmark of the paper's authors has (12 and 10)."""
TIP_START = (2.0, 1.0)
"""Alpha and beta before the search, in the same benchmark: what equal accuracies fall to."""
_PROKER = {1: (3.0, 0.05), 2: (2.6, 0.05), 4: (1.5, 0.05), 8: (1.66, 0.07), 16: (1.7, 0.1)}
"""By images of each class, beta and lambda (public code, configs_proker/hyperparameters.json)."""
_SEARCHED = 2**17
"""Comparisons of validation with training images at a time; the search takes 30 numbers for each of a class, 32 MB."""
MAX_SOLVED = 10_000
"""Training images of ProKeR, which solves as many equations: 0.8 GB and a minute there."""

Rows = Float64[Tensor, "images features"]
Likeness = Float32[np.ndarray, "queries images"]


class TipChoice(NamedTuple):
    """Tip-Adapter's factors, and how many validation images they classify rightly."""

    alpha: float
    beta: float
    num_right: int


def tip_search(known: Labelled, val: Labelled, spec: HeadSpec) -> TipChoice:
    """Chooses Tip-Adapter's alpha and beta by validation accuracy, where they are not set.

    Of equals the start, then the smallest beta and alpha.
    """
    start_alpha, start_beta = spec.alpha or TIP_START[0], spec.beta or TIP_START[1]
    alphas = (start_alpha,) if spec.alpha is not None else (start_alpha, *TIP_ALPHAS)
    betas = (start_beta,) if spec.beta is not None else (start_beta, *TIP_BETAS)
    factors = torch.tensor(alphas, dtype=torch.float64).view(-1, 1, 1)
    draw, classes = draw_of(known), class_weights(known)
    right = torch.zeros(len(betas), len(alphas), dtype=torch.int64)
    size = max(1, min(ROWS, _SEARCHED // max(1, len(known.labels))))
    for features, labels in zip(val.features.split(size), val.labels.split(size), strict=True):
        votes = _votes_at(betas, draw.cosines(features).double(), classes)
        base = _zero_shot(known, scaled(features).double())
        right += ((base + factors * votes.unsqueeze(1)).argmax(dim=3) == labels).sum(dim=2)
    most = int(right.max())
    beta_index, alpha_index = (right == most).nonzero()[0].tolist()  # the first of equals
    return TipChoice(alphas[alpha_index], betas[beta_index], most)


def _votes_at(
    betas: Sequence[float], cosines: Float64[Tensor, "queries images"], classes: Float64[Tensor, "images classes"]
) -> Float64[Tensor, "betas queries classes"]:
    """Returns ``_votes`` for one beta and then for ``TIP_BETAS``.

    Those are evenly spaced, so that the likeness at the k-th is that at the first times a factor to the power k. With k
    = i n + j it is a power of each image to i n times one to j: 2 n powers, and products of matrices for all n n betas.
    In float32, as the cosines are: to choose by right answers no more digits count.
    """
    first = _votes(cosines, classes, betas[0]).unsqueeze(0)
    if len(betas) == 1:
        return first
    step, side = TIP_BETAS[1] - TIP_BETAS[0], math.isqrt(len(TIP_BETAS) - 1) + 1
    weights, index = classes.max(dim=1)
    order = index.argsort(stable=True)  # images of a class side by side
    apart = (1 - cosines[:, order]).float().numpy()
    votes = np.zeros((classes.shape[1], len(cosines), side, side), dtype=np.float32)
    start = 0
    for label, size in zip(
        *(found.tolist() for found in index[order].unique_consecutive(return_counts=True)), strict=True
    ):
        own = apart[:, start : start + size]
        large = _powers(np.exp(-TIP_BETAS[0] * own), np.exp(-step * side * own), side)
        small = _powers(np.ones_like(own), np.exp(-step * own), side)
        np.matmul(large.transpose(1, 0, 2), small.transpose(1, 2, 0), out=votes[label])
        votes[label] *= float(weights[order[start]])
        start += size
    searched = torch.from_numpy(votes).flatten(start_dim=2).permute(2, 1, 0)
    return torch.cat([first, searched[: len(TIP_BETAS)].double()])


def _powers(start: Likeness, factor: Likeness, number: int) -> Float32[np.ndarray, "powers queries images"]:
    """Returns ``start``, ``start factor``, ``start factor^2`` and so on."""
    powers = np.empty((number, *start.shape), dtype=start.dtype)
    powers[0] = start
    for index in range(1, number):
        np.multiply(powers[index - 1], factor, out=powers[index])
    return powers


def tip_logits(
    known: Labelled, queries: Float32[Tensor, "queries features"], *, alpha: float, beta: float
) -> Float32[Tensor, "queries classes"]:
    """Returns Tip-Adapter's logits (Zhang et al. 2022, arXiv:2207.09519), without training.

    ``s z t_c + alpha sum exp(-beta (1 - z k_i))`` over the training images i of class c, unit features as keys k. The
    paper's keys are means over ten augmented views. Where classes differ in size, each class's sum is scaled to that of
    a class of mean size, so that the sizes are no prior; with equal ones that changes nothing.
    """

    keys, classes = scaled(known.features).double(), class_weights(known)

    def logits(part: Tensor) -> Tensor:
        z = scaled(part).double()
        return (_zero_shot(known, z) + alpha * _votes(z @ keys.T, classes, beta)).float()

    return by_rows(queries, logits)


def proker_values(known: Labelled, spec: HeadSpec) -> tuple[float, float]:
    """Returns ProKeR's beta and lambda: those set, else its authors' for the images of each class, rounded down."""
    per_class = len(known.labels) // max(1, len(known.labels.unique()))
    beta, lam = _PROKER[max(shots for shots in _PROKER if shots <= max(1, per_class))]
    return spec.beta or beta, spec.lam or lam


def proker_solve(known: Labelled, *, beta: float, lam: float) -> Float64[Tensor, "images classes"]:
    """Solves for ProKeR's coefficients (Bendou et al. 2025, arXiv:2501.11175): ``(K / lam + I)^-1 (Y - Z T)``.

    ``K = exp(-beta (1 - z z'))`` between training images, Y one-hot labels, T the text embeddings. Read from a public
    fork of the authors' code; the textbook's coefficients are these divided by lam.
    """
    if len(known.labels) > MAX_SOLVED:
        raise ConfigError(
            f"proker solves an equation for each of {len(known.labels):,} training images, and takes at most "
            f"{MAX_SOLVED:,}. Train on fewer, or choose another head: gda, ss-text."
        )
    z, text = scaled(known.features).double(), known.class_text.embeddings.double()
    kernel = torch.exp(-beta * (1 - z @ z.T))
    residual = F.one_hot(known.labels, known.num_classes).double() - z @ text.T
    return torch.linalg.solve(kernel / lam + torch.eye(len(z), dtype=torch.float64), residual).contiguous()


def proker_logits(
    known: Labelled,
    queries: Float32[Tensor, "queries features"],
    coefficients: Float64[Tensor, "images classes"],
    *,
    beta: float,
) -> Float32[Tensor, "queries classes"]:
    """Returns ``s (z t_c + k(z) A)``: corrected cosines, scaled as those of zero-shot are, which leaves their order."""
    text = known.class_text
    keys, embeddings = scaled(known.features).double(), text.embeddings.double()

    def logits(part: Tensor) -> Tensor:
        z = scaled(part).double()
        corrected = z @ embeddings.T + torch.exp(-beta * (1 - z @ keys.T)) @ coefficients
        return (text.logit_scale * corrected).float()

    return by_rows(queries, logits)


def _zero_shot(known: Labelled, z: Float64[Tensor, "queries features"]) -> Float64[Tensor, "queries classes"]:
    """Returns the logits of the text alone."""
    text = known.class_text
    return text.logit_scale * z @ text.embeddings.double().T


def class_weights(known: Labelled) -> Float64[Tensor, "images classes"]:
    """Returns the classes of training images, one-hot, each class weighed as one of mean size."""
    one_hot = F.one_hot(known.labels, known.num_classes).double()
    counts = one_hot.sum(dim=0)
    return one_hot * (counts[counts > 0].mean() / counts.clamp(min=1))


def _votes(
    cosines: Float64[Tensor, "queries images"], classes: Float64[Tensor, "images classes"], beta: float
) -> Float64[Tensor, "queries classes"]:
    return torch.exp(-beta * (1 - cosines)) @ classes
