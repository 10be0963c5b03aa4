"""Rebuilds encoder, adapter and head from stored tensors, for prediction."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cytolora.classifier.bundle.manifest import Member
from cytolora.config.method_kinds import ON_UNIT_FEATURES
from cytolora.config.run import AdapterSpec, method_kind
from cytolora.errors import BundleError, StoreError
from cytolora.models.adapters.attach import attach, merged
from cytolora.models.adapters.methods import METHODS
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, MemberHead, load_trained_state


def attached(
    encoder: Encoder,
    method: str,
    adapter: AdapterSpec | None,
    state: Mapping[str, Tensor],
    seed: int,
    members: Sequence[Member] = (),
) -> EncoderWithHead:
    """Returns encoder and head with the adapter beside the weights, as it was trained.

    Args:
        encoder: Frozen, as it was loaded; it stays as it is.
        seed: Of training: methods such as vera keep random matrices that are drawn, not stored.
        members: Of an ensemble; empty: one head.

    Raises:
        BundleError: If the state is of another adapter, encoder or number of classes.
    """
    adapted = encoder
    if adapter is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = attach(encoder, method, adapter)
    classifier = EncoderWithHead(
        adapted,
        state["head.weight"].shape[-2],
        scales_features=method_kind(method) in ON_UNIT_FEATURES,
        members=[member_head(one) for one in members],
    )
    try:
        load_trained_state(classifier, state)
    except StoreError as error:
        raise BundleError(f"The trained weights do not fit this backbone and method: {error}") from error
    return classifier


def rebuild(
    encoder: Encoder,
    method: str,
    adapter: AdapterSpec | None,
    state: Mapping[str, Tensor],
    seed: int,
    device: torch.device,
    members: Sequence[Member] = (),
) -> EncoderWithHead:
    """Returns encoder and head in evaluation mode, frozen, with PEFT's adapters merged into the weights.

    Arguments and errors are those of ``attached``.
    """
    classifier = attached(encoder, method, adapter, state, seed, members)
    if adapter is not None and METHODS.get(method).peft_config is not None:
        classifier.encoder = merged(classifier.encoder)
    return classifier.requires_grad_(False).eval().to(device)


def member_head(member: Member) -> MemberHead:
    """Returns how a member of an ensemble counts."""
    return MemberHead(
        temperature=member.temperature,
        weight=member.weight,
        scales_features=method_kind(member.method) in ON_UNIT_FEATURES,
    )
