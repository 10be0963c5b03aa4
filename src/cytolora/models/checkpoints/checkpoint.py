"""Checkpoint files to tensors: safetensors, and the weights alone of .bin, .pt and .pth; no code in them is run."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cytolora.core.zip_members import MAX_RATIO, is_zip, unpacks_too_far
from cytolora.errors import WeightsError
from cytolora.models.checkpoints.prefixes import unwrapped
from cytolora.models.checkpoints.shards import is_index, read_index

PICKLED = (".bin", ".pt", ".pth")
"""Official files that only ``torch.load(weights_only=True)`` reads; this project writes none."""

_DAMAGED = (zipfile.BadZipFile, NotImplementedError, OSError, ValueError)
"""Errors of opening a zip file."""
_AGAIN = "Fetch it again and compare its SHA-256."


def read_state(path: Path, official: str | None = None) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint by name.

    Args:
        path: Its file, or the index of its shards.
        official: The official file of the weights alone, named in the error for a file that holds more.

    Raises:
        WeightsError: If the file is not there, damaged, of another kind than its name says, or holds code.
    """
    if not path.is_file():
        raise WeightsError(f"No weights file at {path}. Name it with --weights NAME=PATH.")
    return _read_shards(path, official) if is_index(path) else _read_file(path, official)


def _read_shards(path: Path, official: str | None) -> dict[str, Tensor]:
    """Reads all shards of an index; of mapped files only what is used later takes memory."""
    index, state = read_index(path), {}
    for shard, listed in zip(index.shards, index.tensors.values(), strict=True):
        tensors = _read_file(shard, official, mapped=True)
        if odd := sorted(listed ^ tensors.keys()):
            which = "lacks" if odd[0] in listed else "also holds"
            raise WeightsError(
                f"{shard} {which} {odd[0]}, unlike {path.name} says: index and shards are of two checkpoints. "
                "Copy the whole folder again."
            )
        state |= tensors
    return state


def _read_file(path: Path, official: str | None, *, mapped: bool = False) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLED:
        return _read_pickled(path, official, mapped=mapped and is_zip(path))
    raise WeightsError(
        f"{path} is none of .safetensors, {', '.join(PICKLED)}. Name the file that holds the weights themselves."
    )


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _unreadable(path: Path, error: OSError | MemoryError) -> WeightsError:
    """The error for a file that could not be read: nothing says that a byte of it is wrong."""
    if isinstance(error, MemoryError):
        return WeightsError(f"Too little memory to read {path}. Free some, and try again.")
    why = error.strerror or first_line(error)
    return WeightsError(f"Cannot read {path}: {why}. Nothing says that it is damaged: make it readable, and try again.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, MemoryError) as error:
        raise _unreadable(path, error) from error
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {first_line(error)}. {_AGAIN}") from error


def _read_pickled(path: Path, official: str | None, *, mapped: bool) -> dict[str, Tensor]:
    if is_zip(path) and _unpacks_too_far(path):
        raise WeightsError(f"{path} states more than {MAX_RATIO} times its size: damaged, or a bomb. {_AGAIN}")
    if _is_torchscript(path):
        copy = official or "a file such as model.safetensors, or pytorch_model.bin"
        raise WeightsError(
            f"{path} is a TorchScript archive, which holds code; none is ever run. Use the weights alone: {copy}."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than weights, or is no file of weights; nothing in it was run. "
            "Ask its author for a .safetensors file."
        ) from error
    except (PermissionError, MemoryError) as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # of a damaged file torch's reader fails in any way: IndexError, AssertionError, …
        raise WeightsError(f"{path} is damaged or cut off: {first_line(error)}. {_AGAIN}") from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, expected tensors by name.")
    state = unwrapped(content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name; its keys are {', '.join(list(state)[:3]) or 'none'}.")
    if odd := [name for name, tensor in tensors.items() if not _is_plain(tensor)]:
        raise WeightsError(
            f"{path} holds {odd[0]} in another form than number by number (sparse, quantised or without its numbers). "
            "Use the checkpoint in full precision."
        )
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    """Whether every number of a tensor is in the file: a few bytes can claim terabytes otherwise."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    return tensor.nbytes <= tensor.untyped_storage().nbytes()


def _unpacks_too_far(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return unpacks_too_far(sum(part.file_size for part in archive.infolist()), path.stat().st_size)
    except _DAMAGED:
        return False  # torch's reader says so


def _is_torchscript(path: Path) -> bool:
    if not is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except _DAMAGED:
        return False  # damaged; torch's reader says so
