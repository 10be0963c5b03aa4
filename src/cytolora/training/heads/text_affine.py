"""Affine heads on frozen features that start from the text embeddings of the classes: SS-Text+ and LP++."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64

from cytolora.models.encoder_with_head import seeded_head
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.draws import draw_of
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import SteppedHead

_NUM_EPOCHS, _MOMENTUM = 300, 0.9
_FACTOR_START, _FACTOR_EVERY = 250.0, 10
"""Of LP++'s factors of the text."""
_LEAST = 1e-12
"""Of a curvature: features without length have none, and nothing to move either."""


def ss_text(known: Labelled) -> AffineHead:
    """Fits SS-Text+ (Silva-Rodríguez et al. 2025, arXiv:2506.17500; public code, sstext.py:22-62) in closed form.

    Of unit features z and unit text embeddings t, with s the checkpoint's factor from cosine to logit and n_c images of
    class c among N: ``w_c = t_c + s n_c / N sum z_i`` over the class, then ``w_c - r_c / |r_c|`` with
    ``r_c = 2 w_c - mean(w)``; the logit is ``s cos(z, w_c)``. A class without an image starts from its text alone, and
    all classes where there is none. With s = 100 and unit features the images outweigh the text from the first shot on;
    the public code, which takes features as they were stored, shares that.
    """
    text, draw = known.class_text, draw_of(known)
    weight = text.embeddings.double()
    shares = torch.from_numpy(draw.counts / max(1, len(draw.rows))).unsqueeze(1)
    weight[draw.present] += text.logit_scale * shares * torch.from_numpy(draw.sums)
    weight = weight - F.normalize(2 * weight - weight.mean(dim=0), dim=1)
    weight = text.logit_scale * F.normalize(weight, dim=1)
    return AffineHead(weight=weight.float(), bias=torch.zeros(known.num_classes))


def lp_plus_plus(
    known: Sequence[Labelled], val: Sequence[Labelled], seeds: Sequence[int], *, step_limit: int | None = None
) -> list[SteppedHead]:
    """Trains LP++ (Huang et al. 2024, arXiv:2404.02285; public code, linear_probe_p2.py) on the whole training sets.

    The logit is ``w_c z + b_c + a_c z t_c`` of unit features z and unit text embeddings t, without a temperature.
    Cross-entropy is minimised in 300 steps with momentum 0.9 and the step size 4 N / l, l the largest eigenvalue of
    Z'Z; every tenth step also moves the factors a, by N / (4 max_c sum (z t_c)^2). w starts as the sum of a class's
    images, a as 250 times their mean cosine with all texts. Validation accuracy chooses the step, of equals the latest.

    Made for equal numbers of images: as a sum, the start of a class with hundreds of times the images of another is so
    far ahead that 300 steps may leave the rare class unpredicted.

    The public code never clears the gradient of a, so that every move of it uses the sum since the start; here it uses
    the gradient. Arrays are [seeds, ...], images in columns: products of few classes are quick that way.
    """
    text, num_classes = known[0].class_text.embeddings.double().numpy(), known[0].num_classes
    z, z_val = (np.stack([scaled(one.features).double().numpy() for one in images]) for images in (known, val))
    truth, truth_val = (np.stack([one.labels.numpy() for one in images]) for images in (known, val))
    one_hot = np.moveaxis(np.eye(num_classes)[truth], 2, 1)
    cosines, weight, counts = text @ np.moveaxis(z, 2, 1), one_hot @ z, one_hot.sum(axis=2)
    starts = [_FACTOR_START * _mean_cosine(*each, text) for each in zip(weight, counts, strict=True)]
    factor = np.repeat(np.array(starts)[:, None], num_classes, axis=1)
    bias = np.stack([_bias_of(seed, z.shape[2], num_classes) for seed in seeds])
    num_images = z.shape[1]
    step_size = np.array([4 * num_images / max(_largest_eigenvalue(rows), _LEAST) for rows in z])[:, None]
    factor_step = num_images / (4 * np.maximum((cosines**2).sum(axis=2).max(axis=1, keepdims=True), _LEAST))
    moves = [np.zeros_like(weight), np.zeros_like(bias)]
    best, chosen, loss = np.full(len(seeds), -1), (weight.copy(), bias.copy()), np.zeros(len(seeds))
    num_steps = _NUM_EPOCHS if step_limit is None else min(_NUM_EPOCHS, step_limit)
    for epoch in range(1, num_steps + 1):
        logits = weight @ np.moveaxis(z, 2, 1) + bias[:, :, None] + cosines * factor[:, :, None]
        shares = _softmax(logits)
        if epoch == num_steps:
            loss = _cross_entropy(logits, one_hot)
        errors = (shares - one_hot) / num_images
        moves = [_MOMENTUM * move + grad for move, grad in zip(moves, (errors @ z, errors.sum(axis=2)), strict=True)]
        weight, bias = weight - step_size[:, :, None] * moves[0], bias - step_size * moves[1]
        if epoch % _FACTOR_EVERY == 0:
            factor = factor - factor_step * (errors * cosines).sum(axis=2)
        whole = weight + factor[:, :, None] * text
        found = whole @ np.moveaxis(z_val, 2, 1) + bias[:, :, None]
        right = (found.argmax(axis=1) == truth_val).sum(axis=1)
        for index in np.flatnonzero(right >= best):
            best[index], chosen[0][index], chosen[1][index] = right[index], whole[index], bias[index]
    return [
        SteppedHead(
            state=AffineHead(weight=torch.from_numpy(rows).float(), bias=torch.from_numpy(offsets).float()).state(),
            num_trainable=rows.size + 2 * num_classes,
            num_steps=num_steps,
            final_loss=float(last),
        )
        for rows, offsets, last in zip(*chosen, loss, strict=True)
    ]


def _mean_cosine(
    sums: Float64[np.ndarray, "classes features"],
    counts: Float64[np.ndarray, " classes"],
    text: Float64[np.ndarray, "classes features"],
) -> float:
    """Of the class means, of classes that have any image, with all texts."""
    return float((sums[counts > 0] / counts[counts > 0, None] @ text.T).mean())


def _bias_of(seed: int, feature_dim: int, num_classes: int) -> Float64[np.ndarray, " classes"]:
    return seeded_head(feature_dim, num_classes, torch.Generator().manual_seed(seed))[1].double().numpy()


def _softmax(logits: Float64[np.ndarray, "seeds classes images"]) -> Float64[np.ndarray, "seeds classes images"]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _cross_entropy(
    logits: Float64[np.ndarray, "seeds classes images"], one_hot: Float64[np.ndarray, "seeds classes images"]
) -> Float64[np.ndarray, " seeds"]:
    """Finite for finite logits, where the share of the true class rounds to 0."""
    high = logits.max(axis=1, keepdims=True)
    whole = high[:, 0] + np.log(np.exp(logits - high).sum(axis=1))
    return (whole - (logits * one_hot).sum(axis=1)).mean(axis=1)


def _largest_eigenvalue(rows: Float64[np.ndarray, "images features"]) -> float:
    """Of ``rows' rows``, by the smaller of the two products, which share it."""
    product = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(np.linalg.eigvalsh(product)[-1])
