"""Heads that compare images with all training images and with the text of the classes: Tip-Adapter and ProKeR."""

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.errors import ConfigError
from cytolora.training.heads.affine import scaled
from cytolora.training.heads.labelled import Labelled

TIP_BETAS = tuple(0.1 + step * (12 - 0.1) / 200 for step in range(200))
TIP_ALPHAS = tuple(0.1 + step * (10 - 0.1) / 20 for step in range(20))
"""The grid of Tip-Adapter's code with the ranges that the cytology benchmark of the paper's authors has (12 and 10)."""
_TIP_START = (2.0, 1.0)
"""Alpha and beta before the search, in the same benchmark: what equal accuracies fall to."""
_PROKER = {1: (3.0, 0.05), 2: (2.6, 0.05), 4: (1.5, 0.05), 8: (1.66, 0.07), 16: (1.7, 0.1)}
"""By images of each class, beta and lambda (public code, configs_proker/hyperparameters.json)."""
MAX_SOLVED = 10_000
"""Training images of ProKeR, which solves as many equations: 0.8 GB and a minute there."""

Rows = Float64[Tensor, "images features"]


def tip_search(known: Labelled, val: Labelled, spec: HeadSpec) -> tuple[float, float]:
    """Chooses Tip-Adapter's alpha and beta by validation accuracy, where they are not set.

    Of equals the start, then the smallest beta and alpha.
    """
    start_alpha, start_beta = spec.alpha or _TIP_START[0], spec.beta or _TIP_START[1]
    alphas = (start_alpha,) if spec.alpha is not None else (start_alpha, *TIP_ALPHAS)
    betas = (start_beta,) if spec.beta is not None else (start_beta, *TIP_BETAS)
    if not len(val.labels) or len(alphas) == len(betas) == 1:
        return start_alpha, start_beta
    base, cosines, classes = _tip_parts(known, val.features)
    found = {}
    for beta in betas:
        votes = _votes(cosines, classes, beta)
        for alpha in alphas:
            right = (base + alpha * votes).argmax(dim=1) == val.labels
            found.setdefault((alpha, beta), int(right.sum()))
    return max(found, key=found.__getitem__)  # the first of equals


def tip_logits(
    known: Labelled, queries: Float32[Tensor, "queries features"], *, alpha: float, beta: float
) -> Float32[Tensor, "queries classes"]:
    """Returns Tip-Adapter's logits (Zhang et al. 2022, arXiv:2207.09519), without training.

    ``s z t_c + alpha sum exp(-beta (1 - z k_i))`` over the training images i of class c, unit features as keys k. The
    paper's keys are means over ten augmented views. Where classes differ in size, each class's sum is scaled to that of
    a class of mean size, so that the sizes are no prior; with equal ones that changes nothing.
    """
    base, cosines, classes = _tip_parts(known, queries)
    return (base + alpha * _votes(cosines, classes, beta)).float()


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
    z, keys = scaled(queries).double(), scaled(known.features).double()
    corrected = z @ text.embeddings.double().T + torch.exp(-beta * (1 - z @ keys.T)) @ coefficients
    return (text.logit_scale * corrected).float()


def _tip_parts(
    known: Labelled, queries: Float32[Tensor, "queries features"]
) -> tuple[Float64[Tensor, "queries classes"], Float64[Tensor, "queries images"], Float64[Tensor, "images classes"]]:
    """Returns zero-shot logits, cosines with the training images, and their classes, one-hot, weighed by size."""
    z, keys, text = scaled(queries).double(), scaled(known.features).double(), known.class_text
    one_hot = F.one_hot(known.labels, known.num_classes).double()
    counts = one_hot.sum(dim=0)
    mean_size = counts[counts > 0].mean()
    return text.logit_scale * z @ text.embeddings.double().T, z @ keys.T, one_hot * (mean_size / counts.clamp(min=1))


def _votes(
    cosines: Float64[Tensor, "queries images"], classes: Float64[Tensor, "images classes"], beta: float
) -> Float64[Tensor, "queries classes"]:
    return torch.exp(-beta * (1 - cosines)) @ classes
