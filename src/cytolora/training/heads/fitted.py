"""Fitted heads by method: training images to what is stored, and that to class probabilities."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32
from torch import Tensor

from cytolora.config.method_kinds import HEAD
from cytolora.config.run import HeadSpec
from cytolora.core.registry import Registry
from cytolora.errors import ConfigError
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.means import gaussian, nearest_mean, prototypes
from cytolora.training.heads.neighbours import choose_k, smoothed_votes
from cytolora.training.heads.penalised import logistic, ridge
from cytolora.training.heads.perceptron import mlp, mlp_logits
from cytolora.training.heads.steps import SteppedHead
from cytolora.training.heads.text_affine import lp_plus_plus, ss_text
from cytolora.training.heads.text_kernels import (
    proker_logits,
    proker_solve,
    proker_values,
    tip_logits,
    tip_search,
)
from cytolora.training.heads.text_steps import (
    RATIO_NAME,
    adapted_logits,
    clap,
    clip_adapter,
    task_residual,
    tip_adapter_f,
)
from cytolora.training.heads.threads import numpys_threads
from cytolora.training.heads.tree import hxe, tree_probabilities, tree_softmax

State = dict[str, Tensor]
"""What is stored of a head, by name."""
_NEIGHBOURS = "neighbours"
_ALPHA, _BETA, _COEFFICIENTS, _KEYS = "alpha", "beta", "coefficients", "keys"


Train = Callable[[Sequence[Labelled], Sequence[Labelled], HeadSpec, Sequence[int]], list[SteppedHead]]
"""Training and validation images of every seed, hyper-parameters and seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedHead:
    """How a head is solved, and how it predicts."""

    name: str = ""
    """Of its method; of a built-in one the registry knows it."""
    fit: Callable[[Labelled, Labelled, HeadSpec, int], State]
    """Training images, validation images, hyper-parameters and seed."""
    probabilities: Callable[[State, Labelled, Tensor], Float32[Tensor, "queries classes"]]
    """State, training images, and features of the images to classify."""
    train: Train | None = None
    """Of heads that are trained by steps: all seeds in one pass; ``fit`` does the same for one."""


def _affine(fit: Callable[[Labelled, Labelled, HeadSpec, int], AffineHead]) -> FittedHead:
    return FittedHead(
        fit=lambda known, val, spec, seed: fit(known, val, spec, seed).state(), probabilities=_affine_probabilities
    )


def _affine_probabilities(state: State, known: Labelled, features: Tensor) -> Float32[Tensor, "queries classes"]:
    return AffineHead.of(state).logits(features).softmax(dim=1)


def _trained(
    train: Train,
    probabilities: Callable[[State, Labelled, Tensor], Float32[Tensor, "queries classes"]] = _affine_probabilities,
) -> FittedHead:
    return FittedHead(
        fit=lambda known, val, spec, seed: train([known], [val], spec, [seed])[0].state,
        probabilities=probabilities,
        train=train,
    )


def _choose_neighbours(known: Labelled, val: Labelled, spec: HeadSpec, seed: int) -> State:
    if spec.neighbours is not None and spec.neighbours > len(known.labels):
        raise ConfigError(
            f"knn asks for {spec.neighbours} neighbours, but there are {len(known.labels)} training images. Give fewer."
        )
    k = spec.neighbours or choose_k(known, val.features, val.labels)
    return {_NEIGHBOURS: torch.tensor(k)}


def _tip(known: Labelled, val: Labelled, spec: HeadSpec, seed: int) -> State:
    alpha, beta, _ = tip_search(known, val, spec)
    return {_ALPHA: torch.tensor(alpha, dtype=torch.float64), _BETA: torch.tensor(beta, dtype=torch.float64)}


def _tip_probabilities(state: State, known: Labelled, features: Tensor) -> Float32[Tensor, "queries classes"]:
    keys = replace(known, features=state[_KEYS]) if _KEYS in state else known
    return tip_logits(keys, features, alpha=float(state[_ALPHA]), beta=float(state[_BETA])).softmax(dim=1)


def _proker(known: Labelled, val: Labelled, spec: HeadSpec, seed: int) -> State:
    beta, lam = proker_values(known, spec)
    return {
        _COEFFICIENTS: proker_solve(known, beta=beta, lam=lam),
        _BETA: torch.tensor(beta, dtype=torch.float64),
    }


def _refusing_none(name: str, head: FittedHead) -> FittedHead:
    """Returns a head that is fitted to one training image or more."""

    def checked(draws: Sequence[Labelled]) -> None:
        if not all(len(one.labels) for one in draws):
            raise ConfigError(
                f"{name} is fitted to training images, and there are none. Give one of some class at least, or choose "
                "zero-shot."
            )

    def fit(known: Labelled, val: Labelled, spec: HeadSpec, seed: int) -> State:
        checked([known])
        with numpys_threads():
            return head.fit(known, val, spec, seed)

    if (inner := head.train) is None:
        return replace(head, fit=fit)

    def train(
        known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]
    ) -> list[SteppedHead]:
        checked(known)
        with numpys_threads():
            return inner(known, val, spec, seeds)

    return replace(head, fit=fit, train=train)


_HEADS: Mapping[str, FittedHead] = {
    "gda": _affine(lambda known, val, spec, seed: gaussian(known, spec, seed=seed)),
    "logistic": _affine(lambda known, val, spec, seed: logistic(known, spec, seed=seed)),
    "ridge": _affine(lambda known, val, spec, seed: ridge(known, spec, seed=seed)),
    "nearest-mean": _affine(lambda known, val, spec, seed: nearest_mean(known, spec)),
    "prototypes": _affine(lambda known, val, spec, seed: prototypes(known, seed=seed)),
    "mlp": _trained(mlp, lambda state, _, features: mlp_logits(state, features).softmax(dim=1)),
    "tree-softmax": _trained(tree_softmax, tree_probabilities),
    "hxe": _trained(hxe),
    "knn": FittedHead(
        fit=_choose_neighbours,
        probabilities=lambda state, known, features: smoothed_votes(known, features, k=int(state[_NEIGHBOURS])),
    ),
    "ss-text": _affine(lambda known, val, spec, seed: ss_text(known)),
    "lp++": _trained(lambda known, val, spec, seeds: lp_plus_plus(known, val, seeds, step_limit=spec.step_limit)),
    "tip-adapter": FittedHead(fit=_tip, probabilities=_tip_probabilities),
    "tip-adapter-f": _trained(tip_adapter_f, _tip_probabilities),
    "clip-adapter": _trained(
        clip_adapter,
        lambda state, known, features: adapted_logits(
            state, features, known.class_text, float(state[RATIO_NAME])
        ).softmax(dim=1),
    ),
    "task-residual": _trained(task_residual),
    "clap": _trained(clap),
    "proker": FittedHead(
        fit=_proker,
        probabilities=lambda state, known, features: proker_logits(
            known, features, state[_COEFFICIENTS], beta=float(state[_BETA])
        ).softmax(dim=1),
    ),
}


class _Heads(Registry[FittedHead]):
    """Heads that refuse to be fitted to no image, those of plug-ins among them."""

    def get(self, name: str, *, offered: Iterable[str] | None = None) -> FittedHead:
        return _refusing_none(name, super().get(name, offered=offered))


HEADS: Registry[FittedHead] = _Heads(HEAD)
"""By method: those of ``models.adapters.head_methods.FITTED``, and those of plug-ins."""
for _name, _head in _HEADS.items():
    HEADS.add(replace(_head, name=_name))


def head_of(method: str) -> FittedHead:
    """Returns the head of a method, which refuses to be fitted to no image.

    Raises:
        ConfigError: If there is none of that name.
    """
    return HEADS.get(method)
