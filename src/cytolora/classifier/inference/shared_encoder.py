"""Shared encoders: classifiers with equal frozen encoders keep one in memory, and one forward pass answers for all."""

from collections.abc import Sequence
from typing import Any

from cytolora.classifier.inference.predictor import Predictor
from cytolora.core.process_memory import free_memory_bytes
from cytolora.core.text import counted
from cytolora.errors import ConfigError


def share_encoders(predictors: Sequence[Predictor[Any]]) -> list[int]:
    """Lets every predictor use the encoder of the first that has an equal one; nothing may be loaded yet.

    Returns:
        The number of each one's encoder, from 0; equal for those that share it.
    """
    owners: list[Predictor[Any]] = []
    numbers = []
    for predictor in predictors:
        equal = [number for number, owner in enumerate(owners) if owner.encoder_key == predictor.encoder_key]
        if equal:
            predictor.use_encoder_of(owners[equal[0]])
        else:
            owners.append(predictor)
        numbers.append(equal[0] if equal else len(owners) - 1)
    return numbers


def check_memory(predictors: Sequence[Predictor[Any]], free_bytes: int | None = None) -> None:
    """Refuses predictors whose encoders cannot fit into memory together, before any is loaded.

    An encoder takes at least the size of its file: its weights are kept twice, as they are and laid out for the
    processor, and the file may hold a text encoder beside it. Nothing is checked where free memory is not known.

    Args:
        free_bytes: What the system leaves this process; asked if None.

    Raises:
        ConfigError: If their files are larger than the free memory.
        WeightsError: If a file is not on this machine.
    """
    sizes = {predictor.encoder_key: predictor.bytes_to_load() for predictor in predictors}
    needed, free = sum(sizes.values()), free_memory_bytes() if free_bytes is None else free_bytes
    if free is not None and needed > free:
        raise ConfigError(
            f"{counted(len(predictors), 'model needs', 'models need')} at least {needed / 2**30:,.1f} GiB for "
            f"{counted(len(sizes), 'encoder')}, and {free / 2**30:,.1f} GiB of memory are free. Serve fewer models in "
            "one process, or free some."
        )
