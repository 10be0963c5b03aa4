"""Facts of a trial that travel with its result: versions, processor, checkpoint; nothing of who ran it, or where."""

import getpass
import platform
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cytolora.config.run import to_plain
from cytolora.core.machine import num_cpus, processor_name
from cytolora.core.provenance import software
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.checkpoint import read_state
from cytolora.models.checkpoints.formats import recognised
from cytolora.models.checkpoints.hub import SUFFIXES
from cytolora.models.checkpoints.shards import checkpoint_bytes, is_index

_LIBRARIES = ("transformers", "open_clip_torch", "safetensors", "onnx", "onnxruntime", "huggingface_hub")
_PATH = re.compile(r"(?<![\w./])(?:~|[A-Za-z]:)?(?:[\\/][^\s\\/:;,'\"`()]+){2,}[\\/]?")
"""Absolute paths of POSIX and Windows; one name behind a slash is no path (`and/or`, `/v1`)."""


def checkpoint_facts(spec: BackboneSpec, path: Path, sha256: str) -> dict[str, Any]:
    """Describes a checkpoint: hash, size, layout and types of its tensors, never its name."""
    state, layout = recognised(read_state(path, spec.hub and str(spec.hub)))
    return {
        "sha256": sha256,
        "bytes": checkpoint_bytes(path),
        "file": "index of shards" if is_index(path) else next(s for s in SUFFIXES if path.name.endswith(s)),
        "layout": "unknown" if layout is None else layout.name,
        "tensors": len(state),
        "types": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()}),
    }


def entry_facts(spec: BackboneSpec) -> dict[str, Any]:
    """Describes the entry that the checkpoint was opened by."""
    return {
        "architecture": spec.architecture,
        "arguments": dict(spec.arguments),
        "pool": spec.pool,
        "projection": spec.projection,
        "feature_dim": spec.feature_dim,
        "preprocess": to_plain(spec.preprocess),
        "official_file": None if spec.hub is None else str(spec.hub),
        "unverified": list(spec.unverified),
    }


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Describes the machine by its kind: system, processor, GPU."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor_name(),
        "cpus": num_cpus(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def version_facts() -> dict[str, str]:
    """Returns versions of Python and of all packages that take part."""
    versions = dict(software()["versions"])
    for package in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def personal_names() -> tuple[str, ...]:
    """Returns names of user and host, as far as the system tells."""
    names = [platform.node(), Path.home().name]
    with suppress(OSError, KeyError, ImportError):
        names.append(getpass.getuser())
    with suppress(OSError):
        names.append(socket.gethostname())
    return tuple(sorted({name for name in names if name}, key=len, reverse=True))


def private_paths(*paths: Path) -> tuple[str, ...]:
    """Returns the texts by which paths and their folders may be named; of use where they hold spaces, too."""
    places = {place for path in paths for place in (path, path.absolute(), path.resolve(), path.parent.absolute())}
    texts = {str(place) for place in places} | {place.as_posix() for place in places}
    return tuple(sorted(texts - {".", "/"}, key=len, reverse=True))


def without_personal_details(value: Any, names: Iterable[str], paths: Iterable[str] = ()) -> Any:
    """Returns plain data with paths, and names of user and host, replaced in every text but keys.

    Args:
        paths: Those that are known, the longest first; any other absolute path is recognised by its form.
    """
    if isinstance(value, Mapping):
        return {key: without_personal_details(inner, names, paths) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_personal_details(inner, names, paths) for inner in value]
    if not isinstance(value, str):
        return value
    text = value
    for path in paths:
        text = text.replace(path, "[path]") if len(path) > 1 else text
    text = _PATH.sub("[path]", text)
    for name in names:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "[name]", text)
    return text
