"""Starts of PEFT's adapters: rank limits, LoRA from a run's own images (EVA), and RandLoRA's random matrices.

EVA (Paischer et al. 2024, arXiv:2410.07170): the rows of A are the directions of largest variance among the inputs of
each layer, B is zero, so that the frozen weights and the first outputs stay as they are. PEFT computes it; ranks are
not redistributed (rho is 1): a stored adapter is rebuilt from the rank that its spec names. OLoRA (Büyükakyüz 2024,
arXiv:2406.01775) starts from the QR decomposition of the weights, PiSSA (Meng et al. 2024, arXiv:2404.02948) from
their largest singular directions; both take that part out of the frozen weights.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cytolora.errors import ConfigError
from cytolora.models.adapters.peft_modules import is_peft_model
from cytolora.models.encoder import Encoder

WRITING_INITS = ("olora", "pissa")
"""Values of ``init`` that move a part of the frozen weights into the adapter."""

_IMAGES_AT_ONCE = 16
_MOST_BATCHES = 500
"""EVA goes round until its directions stay the same; images without that many directions would keep it for ever."""


def check_rank(rank: int, layer: nn.Linear) -> None:
    """Raises a ConfigError if a layer has fewer directions than an adapter that takes them from it has ranks."""
    most = min(layer.in_features, layer.out_features)
    if rank > most:
        raise ConfigError(f"rank is {rank}, and an adapted layer has {most} directions. Set rank to {most} or less.")


def start_from_images(
    encoder: Encoder, batch: Callable[[Sequence[int]], Float32[Tensor, "batch 3 size size"]], num_images: int
) -> None:
    """Starts the LoRA of an adapted encoder from images, in place (EVA); no label is looked at.

    The directions depend on the images and their order alone, and torch's global random state stays as it was.

    Args:
        batch: Makes the images at some indices below ``num_images``, on the encoder's device.

    Raises:
        ConfigError: If the images have fewer directions than the adapter has ranks.
    """
    from peft import initialize_lora_eva_weights

    if not is_peft_model(encoder.trunk):
        raise ValueError("start_from_images needs an encoder with a LoRA of PEFT's")
    rank = int(getattr(encoder.trunk.peft_config["default"], "r"))  # noqa: B009  (of LoRA's configuration alone)
    num_seen = 0

    def forward(_: nn.Module, indices: Tensor) -> None:
        nonlocal num_seen
        num_seen += 1
        if num_seen > _MOST_BATCHES:
            raise ConfigError(f"init: eva finds no {rank} directions in the training images. {_FEWER}")
        encoder(batch(indices.tolist()))

    def tokens(inputs: tuple[Tensor, ...], _: Any, name: str) -> Float[Tensor, "tokens width"]:
        rows = inputs[0].flatten(end_dim=-2)
        if len(rows) < rank:
            raise ConfigError(f"init: eva takes {rank} directions from {len(rows)} tokens of the images. {_FEWER}")
        return rows

    with torch.random.fork_rng():  # PEFT seeds it, the same for every run
        initialize_lora_eva_weights(
            encoder.trunk,
            _Batches(num_images),
            forward_fn=forward,
            prepare_model_inputs_fn=None,
            prepare_layer_inputs_fn=tokens,
            show_progress_bar=False,
        )


_FEWER = "Set a lower rank, give more images, or leave init out."


class _Batches:
    """Indices of images in batches of about equal size; PEFT keeps all that it was given, so that pixels are made late.

    Equal sizes leave no last batch with fewer tokens than ranks.
    """

    def __init__(self, num_images: int) -> None:
        self._parts = torch.arange(num_images).tensor_split(-(-num_images // _IMAGES_AT_ONCE))

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._parts)


def draw_randlora(trunk: nn.Module) -> None:
    """Draws RandLoRA's random matrices, in place: those that PEFT draws in bfloat16, kept in fp32.

    They are not stored but drawn again from the configuration's key. PEFT draws them in float16, and so others, on a
    machine whose GPU has no bfloat16.
    """
    model = getattr(trunk, "base_model", None)
    if not is_peft_model(trunk) or not hasattr(model, "randlora_A"):
        return
    generator = torch.Generator().manual_seed(int(trunk.peft_config["default"].projection_prng_key))  # pyright: ignore
    for part in (model.randlora_A, model.randlora_B):  # pyright: ignore
        rows, num_bases, columns = part["default"].shape
        drawn = torch.cat([_draw(rows, columns, generator) for _ in range(num_bases)], dim=1)
        part["default"] = (drawn / drawn.std()).to(part["default"].device, torch.float32)


def _draw(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows 1 columns"]:
    drawn = torch.empty(rows, 1, columns, dtype=torch.bfloat16)
    return nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
