"""A stored head and adapter back on their tower, as a classifier that only predicts."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cytolora.config.run import AdapterSpec
from cytolora.errors import BundleError, StoreError
from cytolora.models.adapters.attach import attach, merged
from cytolora.models.adapters.methods import METHODS
from cytolora.models.classifier import Classifier, load_trained_state
from cytolora.models.encoder import Tower


def attached(
    tower: Tower, method: str, adapter: AdapterSpec | None, state: Mapping[str, Tensor], seed: int
) -> Classifier:
    """Returns tower and head with the adapter beside the weights, as it was trained.

    Args:
        tower: Frozen, as it was loaded; it stays as it is.
        seed: Of training: methods such as vera keep random matrices that are drawn, not stored.

    Raises:
        BundleError: If the state is of another adapter, tower or number of classes.
    """
    adapted = tower
    if adapter is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = attach(tower, method, adapter)
    classifier = Classifier(adapted, len(state["head.weight"]))
    try:
        load_trained_state(classifier, state)
    except StoreError as error:
        raise BundleError(f"The trained weights do not fit this backbone and method: {error}") from error
    return classifier


def rebuild(
    tower: Tower,
    method: str,
    adapter: AdapterSpec | None,
    state: Mapping[str, Tensor],
    seed: int,
    device: torch.device,
) -> Classifier:
    """Returns tower and head in evaluation mode, frozen, with PEFT's adapters merged into the weights.

    Arguments and errors are those of ``attached``.
    """
    classifier = attached(tower, method, adapter, state, seed)
    if adapter is not None and METHODS.get(method).peft_config is not None:
        classifier.tower = merged(classifier.tower)
    return classifier.requires_grad_(False).eval().to(device)
