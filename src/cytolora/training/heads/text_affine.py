"""Affine heads on frozen features that start from the text embeddings of the classes: SS-Text+ and LP++."""

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from cytolora.models.encoder_with_head import seeded_head
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.labelled import Labelled

_NUM_EPOCHS, _MOMENTUM = 300, 0.9
_FACTOR_START, _FACTOR_EVERY = 250.0, 10
"""Of LP++'s factors of the text."""


def ss_text(known: Labelled) -> AffineHead:
    """Fits SS-Text+ (Silva-Rodríguez et al. 2025, arXiv:2506.17500; public code, sstext.py:22-62) in closed form.

    Of unit features z and unit text embeddings t, with s the checkpoint's factor from cosine to logit and n_c images of
    class c among N: ``w_c = t_c + s n_c / N sum z_i`` over the class, then ``w_c - r_c / |r_c|`` with
    ``r_c = 2 w_c - mean(w)``; the logit is ``s cos(z, w_c)``. A class without an image starts from its text alone. With
    s = 100 and unit features the images outweigh the text from the first shot on; the public code, which takes features
    as they were stored, shares that.
    """
    text = known.class_text
    z, t = scaled(known.features).double(), text.embeddings.double()
    one_hot = F.one_hot(known.labels, known.num_classes).double()
    counts = one_hot.sum(dim=0)
    weight = t + text.logit_scale * (counts / len(z)).unsqueeze(1) * (one_hot.T @ z)
    weight = weight - F.normalize(2 * weight - weight.mean(dim=0), dim=1)
    weight = text.logit_scale * F.normalize(weight, dim=1)
    return AffineHead(weight=weight.float(), bias=torch.zeros(known.num_classes))


def lp_plus_plus(known: Labelled, val: Labelled, *, seed: int) -> AffineHead:
    """Trains LP++ (Huang et al. 2024, arXiv:2404.02285; public code, linear_probe_p2.py) on the whole training set.

    The logit is ``w_c z + b_c + a_c z t_c`` of unit features z and unit text embeddings t, without a temperature.
    Cross-entropy is minimised in 300 steps with momentum 0.9 and the step size 4 N / l, l the largest eigenvalue of
    Z'Z; every tenth step also moves the factors a, by N / (4 max_c sum (z t_c)^2). w starts as the sum of a class's
    images, a as 250 times their mean cosine with all texts. Validation accuracy chooses the step, of equals the latest.

    The public code never clears the gradient of a, so that every move of it uses the sum since the start; here it uses
    the gradient.
    """
    text = known.class_text.embeddings.double()
    z, z_val = scaled(known.features).double(), scaled(val.features).double()
    one_hot = F.one_hot(known.labels, known.num_classes).double()
    cosines, sums = z @ text.T, one_hot.T @ z
    counts = one_hot.sum(dim=0)
    means = sums[counts > 0] / counts[counts > 0].unsqueeze(1)
    weight, factor = sums, (_FACTOR_START * (means @ text.T).mean()).repeat(known.num_classes)
    bias = seeded_head(z.shape[1], known.num_classes, torch.Generator().manual_seed(seed))[1].double()
    step_size = 4 * len(z) / _largest_eigenvalue(z)
    factor_step = len(z) / (4 * (cosines**2).sum(dim=0).max())
    moves = [torch.zeros_like(weight), torch.zeros_like(bias)]
    best, chosen = -1.0, (weight, bias)
    for epoch in range(1, _NUM_EPOCHS + 1):
        errors = ((z @ weight.T + bias + cosines * factor).softmax(dim=1) - one_hot) / len(z)
        moves = [_MOMENTUM * move + grad for move, grad in zip(moves, (errors.T @ z, errors.sum(dim=0)), strict=True)]
        weight, bias = weight - step_size * moves[0], bias - step_size * moves[1]
        if epoch % _FACTOR_EVERY == 0:
            factor = factor - factor_step * (errors * cosines).sum(dim=0)
        whole = weight + factor.unsqueeze(1) * text
        right = ((z_val @ whole.T + bias).argmax(dim=1) == val.labels).double().sum().item()
        if right >= best:
            best, chosen = right, (whole, bias)
    return AffineHead(weight=chosen[0].float(), bias=chosen[1].float())


def _largest_eigenvalue(rows: Float64[Tensor, "images features"]) -> float:
    """Of ``rows' rows``, by the smaller of the two products, which share it."""
    product = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(torch.linalg.eigvalsh(product)[-1])
