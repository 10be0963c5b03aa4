"""Head on frozen features: the class whose median is nearest."""

import torch
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.training.heads.fitted import FittedHead, State
from cytolora.training.heads.labelled import Labelled


def _fit(known: Labelled, val: Labelled, spec: HeadSpec, seed: int) -> State:
    """Returns what is stored: the median of each class, [classes, features]."""
    medians = [known.features[known.labels == label].median(dim=0).values for label in range(known.num_classes)]
    return {"medians": torch.stack(medians)}


def _probabilities(state: State, known: Labelled, features: Tensor) -> Tensor:
    return torch.softmax(-torch.cdist(features, state["medians"]), dim=1)


NEAREST_MEDIAN = FittedHead(name="nearest-median", fit=_fit, probabilities=_probabilities)
