"""Encoder with a linear head: forward pass, trainable parameters, and the tensors that are stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from safetensors.torch import load, save
from torch import Tensor, nn

from cytolora.errors import StoreError
from cytolora.models.adapters.peft_modules import is_peft_model
from cytolora.models.encoder import Encoder

_HEAD = "head."
_TOWER = "tower."
_LEAST_WEIGHT = 1e-12
"""Of a member of a mean, so that logits stay finite."""


class UnitHead(nn.Linear):
    """Linear map of features scaled to length 1: what heads are that are fitted in closed form."""

    def forward(self, input: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Scales every row to length 1 and maps it to logits."""
        return super().forward(F.normalize(input, dim=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberHead:
    """How one head counts in a mean of several."""

    temperature: float
    """Its logits are divided by it; above 0."""
    weight: float
    """Of its probabilities in the mean; from 0, and all together 1."""
    scales_features: bool
    """Whether it maps features scaled to length 1."""


class MeanHead(nn.Module):
    """Mean of the probabilities of several linear heads; its logits are the logarithm of the mean."""

    def __init__(self, feature_dim: int, num_classes: int, members: Sequence[MemberHead]) -> None:
        """Makes room for the weights and biases of the members, in their order."""
        super().__init__()
        self.members = tuple(members)
        self.weight = nn.Parameter(torch.zeros(len(members), num_classes, feature_dim))
        self.bias = nn.Parameter(torch.zeros(len(members), num_classes))

    def forward(self, input: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Maps features to logits whose softmax is the mean."""
        unit = F.normalize(input, dim=-1)
        parts = [
            F.log_softmax(F.linear(unit if one.scales_features else input, weight, bias) / one.temperature, dim=-1)
            + math.log(max(one.weight, _LEAST_WEIGHT))
            for one, weight, bias in zip(self.members, self.weight, self.bias, strict=True)
        ]
        return torch.stack(parts).logsumexp(dim=0)


class EncoderWithHead(nn.Module):
    """``y = W z + b`` on the features z of an encoder (Dausort et al. 2025, eq. 1; the public code adds the bias b)."""

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        *,
        autocast: bool = False,
        scales_features: bool = False,
        members: Sequence[MemberHead] = (),
    ) -> None:
        """Puts a new head on an encoder.

        Args:
            scales_features: Whether the head maps features scaled to length 1.
            members: Heads of which it is the mean; empty: it is one.
        """
        super().__init__()
        self.autocast = autocast
        """Whether torch chooses which operations of the encoder are computed in bf16; layers made for bf16 need no such
        help. The head is fp32."""
        self.encoder = encoder
        self.head = (
            MeanHead(encoder.feature_dim, num_classes, members)
            if members
            else (UnitHead if scales_features else nn.Linear)(encoder.feature_dim, num_classes)
        )

    def forward(self, images: Float[Tensor, "batch 3 size size"]) -> Float32[Tensor, "batch classes"]:
        """Maps images to logits."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            features = self.encoder(images)
        return self.head(features)

    @property
    def head_tensors(self) -> dict[str, Tensor]:
        """The trained tensors of the head, by the name under which they are stored."""
        return head_state(self.head.weight, self.head.bias)

    def trainable(self) -> list[nn.Parameter]:
        """Returns the parameters that training changes: adapter and head."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def num_trainable(self) -> int:
        """Counts trainable parameters, adapter and head."""
        return sum(parameter.numel() for parameter in self.trainable())


def head_state(
    weight: Float[Tensor, "*members classes features"], bias: Float[Tensor, "*members classes"]
) -> dict[str, Tensor]:
    """Names the tensors of a head, or of the members of a mean, as they are stored."""
    return {f"{_HEAD}weight": weight, f"{_HEAD}bias": bias}


def trained_state(classifier: EncoderWithHead) -> dict[str, Tensor]:
    """Returns adapter and head by name; what is not PEFT's under the encoder's own names."""
    state = dict(classifier.head_tensors)
    if is_peft_model(classifier.encoder.trunk):
        from peft import get_peft_model_state_dict

        state |= get_peft_model_state_dict(classifier.encoder.trunk)
    else:
        state |= {_TOWER + name: tensor for name, tensor in _opened(classifier.encoder).items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def load_trained_state(classifier: EncoderWithHead, state: Mapping[str, Tensor]) -> None:
    """Puts a stored adapter and head back; every key must fit.

    Raises:
        StoreError: If the state is of another adapter, encoder or number of classes.
    """
    expected = trained_state(classifier)
    wrong = sorted(expected.keys() ^ state.keys()) or [k for k in sorted(state) if state[k].shape != expected[k].shape]
    if wrong:
        raise StoreError(f"Stored weights do not fit this encoder and adapter, first at {wrong[0]}.")
    head = classifier.head_tensors
    with torch.no_grad():
        for name, tensor in head.items():
            tensor.copy_(state[name])
    adapter = {name: tensor for name, tensor in state.items() if name not in head}
    if is_peft_model(classifier.encoder.trunk):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(classifier.encoder.trunk, adapter)
        return
    with torch.no_grad():
        for name, parameter in _opened(classifier.encoder).items():
            parameter.copy_(adapter[_TOWER + name])


def _opened(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's own weights that train."""
    return {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def to_safetensors(state: Mapping[str, Tensor]) -> bytes:
    """Serialises tensors by name."""
    return save(dict(state))


def from_safetensors(content: bytes) -> dict[str, Tensor]:
    """Reads what ``to_safetensors`` wrote."""
    return load(content)


def seeded_head(
    feature_dim: int, num_classes: int, generator: torch.Generator
) -> tuple[Float32[Tensor, "classes features"], Float32[Tensor, " classes"]]:
    """Draws the initial weight and bias of a head as ``nn.Linear`` does: uniform in +-1 / sqrt(feature_dim)."""
    bound = feature_dim**-0.5
    weight = torch.empty(num_classes, feature_dim).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(num_classes).uniform_(-bound, bound, generator=generator)
    return weight, bias
