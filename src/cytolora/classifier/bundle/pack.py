"""Serialises a trained head and adapter to files of a bundle: PEFT's own two where the adapter is PEFT's."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors.torch import save
from torch import Tensor

from cytolora.classifier.bundle.files import HEAD, OPENED, PEFT_CONFIG, PEFT_WEIGHTS, Files
from cytolora.models.adapters.peft_modules import is_peft_model
from cytolora.models.encoder_with_head import EncoderWithHead, trained_state

if TYPE_CHECKING:
    from peft import PeftConfig

_HEAD = "head."


def head_file(state: Mapping[str, Tensor]) -> Files:
    """Returns the file of the head."""
    return {HEAD: save({name: tensor for name, tensor in state.items() if name.startswith(_HEAD)})}


def adapter_files(classifier: EncoderWithHead) -> Files:
    """Returns the files of the adapter; none where only a head was trained.

    PEFT's names are those of the encoder with q, k and v apart (models/adapters/split_qkv.py).
    """
    state = {name: tensor for name, tensor in trained_state(classifier).items() if not name.startswith(_HEAD)}
    if not state:
        return {}
    if not is_peft_model(classifier.encoder.trunk):
        return {OPENED: save(state)}
    config = cast("PeftConfig", classifier.encoder.trunk.peft_config["default"])
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        written = (Path(folder) / "adapter_config.json").read_bytes()
    return {PEFT_WEIGHTS: save(state), PEFT_CONFIG: written}
