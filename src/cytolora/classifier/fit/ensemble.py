"""Heads of `fit` on frozen features: one, or an ensemble of several whose calibrated probabilities are averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolora.classifier.bundle.manifest import Member
from cytolora.classifier.bundle.rebuild import member_head
from cytolora.classifier.fit.config import FitConfig
from cytolora.classifier.fit.held_out import RateScores
from cytolora.classifier.fit.linear import Head, Logits, Selected, fit_linear
from cytolora.classifier.fit.prompts import fit_prompts
from cytolora.config.method_kinds import Weighting
from cytolora.config.run import method_kind, to_plain
from cytolora.data.manifest import Sample, Split
from cytolora.metrics.bootstrap import draw_metrics
from cytolora.metrics.calibration import probabilities
from cytolora.metrics.ensembles import likeliest_weights
from cytolora.metrics.paired import difference, holm
from cytolora.metrics.scores import score
from cytolora.models.encoder_with_head import MeanHead, head_state
from cytolora.training.session import Session

COMPARED = ("balanced_accuracy", "accuracy")
"""Metrics of which an ensemble is compared with its members."""


@dataclass(frozen=True, kw_only=True)
class FittedMember:
    """One head of an ensemble, and how it counts."""

    member: Member
    head: Head

    def plain(self) -> dict[str, Any]:
        """Returns what ``bundle.json`` says of its training."""
        return {
            "method": self.member.method,
            "learning_rate": self.head.learning_rate,
            "num_steps": self.head.num_steps,
            "tried": [to_plain(scores) for scores in self.head.tried],
        }


@dataclass(frozen=True, kw_only=True)
class EnsembleHead:
    """The mean of several heads' probabilities, with what else is said of one head."""

    members: tuple[FittedMember, ...]
    held_out: Logits
    """Of the images in ``held_out_labels``, by heads that had not seen them."""
    held_out_labels: NDArray[np.int64]
    chosen_on: str
    """Description of these images: temperatures and weights were fitted on them."""
    learning_rate: float = 0.0
    tried: tuple[RateScores, ...] = ()
    num_steps: int = 0
    """Rates and steps are those of its members."""
    temperature: float = 1.0
    """The members bear theirs."""

    @property
    def num_trainable(self) -> int:
        """Numbers that were trained, of all members."""
        return sum(one.head.num_trainable for one in self.members)

    @property
    def state(self) -> dict[str, Tensor]:
        """Weights [members, classes, feature_dim] and biases [members, classes]."""
        states = [one.head.state for one in self.members]
        weight, bias = (torch.stack([one[name] for one in states]) for name in ("head.weight", "head.bias"))
        return head_state(weight, bias)

    def logits(self, features: Tensor) -> Logits:
        """Returns the logarithm of the mean probabilities; features as of one head."""
        state = self.state
        _, num_classes, feature_dim = state["head.weight"].shape
        head = MeanHead(feature_dim, num_classes, [member_head(one.member) for one in self.members])
        head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in state.items()})
        with torch.inference_mode():
            return head(features).numpy()


def fit_frozen(
    session: Session, split: Split, config: FitConfig, *, needed_groups: int
) -> Selected[Head] | Selected[EnsembleHead]:
    """Fits the head of a configuration, or the members of its ensemble one after the other; see ``fit_linear``."""

    def fitted(one: FitConfig) -> Selected[Head]:
        if method_kind(one.method) == "prompt":
            return fit_prompts(session, split, one, needed_groups=needed_groups)
        return fit_linear(session, split, one.protocol, seed=one.seed, needed_groups=needed_groups)

    if not config.members:
        return fitted(config)
    selected = [fitted(one) for one in config.members]
    head = _averaged([one.method for one in config.members], [one.head for one in selected], config.weighting)
    first = selected[0]
    return Selected(
        head=head,
        calibration=first.calibration,
        folded=None if first.folded is None else (head.held_out, first.folded[1]),
        notes=first.notes,
    )


def _averaged(methods: Sequence[str], heads: Sequence[Head], weighting: Weighting) -> EnsembleHead:
    """Averages heads by the images that their learning rates were chosen on, which are the same of all."""
    labels, chosen_on = heads[0].held_out_labels, heads[0].chosen_on
    shares = [probabilities(one.held_out, one.temperature) for one in heads]
    equal = [1 / len(heads)] * len(heads)
    weights = likeliest_weights(shares, labels) if weighting == "validation" else equal
    mean = np.tensordot(weights, np.stack(shares), axes=1)
    members = tuple(
        FittedMember(member=Member(method=method, temperature=head.temperature, weight=weight), head=head)
        for method, head, weight in zip(methods, heads, weights, strict=True)
    )
    return EnsembleHead(
        members=members,
        held_out=np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32),
        held_out_labels=labels,
        chosen_on=chosen_on,
    )


def compare_members(
    session: Session, members: Sequence[FittedMember], samples: Sequence[Sample], ensemble: NDArray[np.float64]
) -> list[Mapping[str, Any]]:
    """Scores each member on test images, and by how much the ensemble scores higher on the same images.

    Args:
        ensemble: Its probabilities of the samples.

    Returns:
        A row a member: ``method``, ``weight``, ``temperature``, its scores, and under ``difference`` by metric the
        difference of the ensemble minus the member with its 95 % interval and p-values, ``p_holm`` corrected for all
        members.
    """
    labels, features = session.labels_of(samples).numpy(), session.features_of(samples)
    images, groups = [one.path for one in samples], [one.group for one in samples]

    def drawn(by_image: NDArray[np.float64]) -> Any:
        return draw_metrics(
            labels, by_image.argmax(axis=1), images=images, groups=groups, num_classes=by_image.shape[1]
        )

    own, rows = drawn(ensemble), []
    for one in members:
        by_image = probabilities(one.head.logits(features), one.member.temperature)
        replicates = drawn(by_image)
        apart = {metric: asdict(difference(own, replicates, metric)) for metric in COMPARED}
        rows.append({**asdict(one.member), **score(labels, by_image), "difference": apart})
    for metric in COMPARED:
        found = [row["difference"][metric] for row in rows]
        for each, p in zip(found, holm([each["p"] for each in found]), strict=True):
            each["p_holm"] = p
    return rows
