"""Checkpoint look-up: a named file, a carried folder, the cache of the Hugging Face hub; and the download from it.

Loads no torch. The look-up never downloads; ``fetch`` does, and its errors name the next step.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from cytolora.core.files import sha256_file
from cytolora.core.progress import Progress
from cytolora.errors import WeightsError
from cytolora.models.backbones.spec import BackboneSpec, HubFile
from cytolora.models.checkpoints.hub_cache import commit_of, snapshot_in
from cytolora.models.checkpoints.neighbours import NEIGHBOURS
from cytolora.models.checkpoints.offline_folder import find_carried
from cytolora.models.checkpoints.shards import INDEX, index_of, is_index
from cytolora.models.checkpoints.stalls import StalledError, telling, unless_stalled

_log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
"""Of files that can hold weights, the safest first."""

_PREFERRED = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")

STALL_SECONDS = 600.0
"""Longest time without progress. The hub's client has a deadline for silence (HF_HUB_DOWNLOAD_TIMEOUT, 10 s) and none
for a connection that drips; it counts pieces of 10 MB, so that this is a rate of 17 kB a second."""


def find(spec: BackboneSpec, named: Path | None = None, folder: Path | None = None) -> Path | None:
    """Returns the checkpoint's file on this machine, or None where it is not here. Needs no network.

    Of a sharded checkpoint it is the index, whichever of its files was named.

    Args:
        named: The file, a folder with it, or the hub's cache, that the user gave for this backbone; nothing else is
            looked at then.
        folder: A folder written by ``cytolora weights fetch``; looked into before the hub's cache.

    Raises:
        WeightsError: If ``named`` is not there, ``folder`` is none or not what its manifest says, or a folder does not
            say which of its files is meant.
    """
    if named is not None:
        return _file_at(spec, named)
    if folder is not None and (carried := find_carried(folder, spec.name)) is not None:
        return carried
    if spec.weights is not None:
        return _file_at(spec, spec.weights)
    return None if spec.hub is None else _cached(spec.hub)


def fetch(spec: BackboneSpec, progress: Progress | None = None) -> Path:
    """Downloads the official file into the hub's cache, or finds it there, and returns it.

    Raises:
        WeightsError: If the hub cannot be reached, refuses, does not have the file, or what arrives is damaged.
    """
    if spec.hub is None:
        raise missing(spec)
    path = _download(spec, spec.hub, progress)
    fetch_neighbours(spec, path)
    return path


def intact(spec: BackboneSpec, path: Path) -> Path:
    """Compares a file of the hub's cache with the hash that the hub names it by, where that is a SHA-256.

    Raises:
        WeightsError: If it differs; the file is removed then, so that it can be fetched again.
    """
    promised, is_link = path.resolve().name, path.is_symlink()
    if is_link and re.fullmatch(r"[0-9a-f]{64}", promised) and (sha256 := sha256_file(path)) != promised:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise WeightsError(
            f"The download of {spec.name} is damaged: SHA-256 {sha256[:12]}…, the hub promised {promised[:12]}…. "
            "It was removed; fetch it again."
        )
    return path


def find_vocabulary(spec: BackboneSpec, weights: Path) -> Path | None:
    """Returns the text encoder's vocabulary: beside the weights, or in the hub's cache; None where it needs none."""
    named = spec.text and spec.text.vocabulary
    if named is None:
        return None
    if isinstance(named, str):
        return weights.parent / named
    beside = weights.parent / named.filename
    return beside if beside.is_file() else _cached(named)


def fetch_neighbours(spec: BackboneSpec, checkpoint: Path) -> list[Path]:
    """Returns the configurations beside a checkpoint, fetched into the hub's cache where the hub has them.

    They are compared with the entry when the weights are read. What the hub does not have, or does not give while it
    cannot be reached, is left out.

    Args:
        checkpoint: As ``find`` or ``fetch`` gave it.
    """
    found = [checkpoint.parent / name for name in NEIGHBOURS if (checkpoint.parent / name).is_file()]
    commit = commit_of(checkpoint)
    if found or spec.hub is None or commit is None:  # a file of one's own has the neighbours it has
        return found
    folder = PurePosixPath(spec.hub.filename).parent
    ours = [HubFile(repo=spec.hub.repo, filename=str(folder / name), revision=commit) for name in NEIGHBOURS]
    return [path for path in map(_if_there, ours) if path is not None]


def fetch_vocabulary(spec: BackboneSpec) -> Path | None:
    """Like ``fetch``, for the text encoder's vocabulary; None where it needs none, or has it with its weights."""
    named = spec.text and spec.text.vocabulary
    return _download(spec, named) if isinstance(named, HubFile) else None


def missing(spec: BackboneSpec, lost: str = "") -> WeightsError:
    """Builds the error for a checkpoint that is not on this machine; ``lost`` says where else it was looked for."""
    here = f"No weights of {spec.name} on this machine{f' ({lost})' if lost else ''}."
    ways = f"Name the file: --weights {spec.name}=PATH"
    if spec.hub is None:
        return WeightsError(f"{here} {ways}.")
    gate = f" (gated: accept the terms at {spec.hub.url} first)" if spec.gated else ""
    return WeightsError(
        f"{here} {ways}, or fetch {spec.hub.filename} of {spec.hub.repo} with "
        f"`cytolora weights fetch {spec.name} --to DIR`{gate}."
    )


def _download(spec: BackboneSpec, hub: HubFile, progress: Progress | None = None) -> Path:
    """Returns the file; the hub's client draws its own bar where there is no ``progress``."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm as own_bar

    bar = own_bar if progress is None else _silent_bar(progress, f"{spec.name}: fetching {hub.filename}")

    def download(tell: Callable[[], None]) -> str:
        return hf_hub_download(hub.repo, hub.filename, revision=hub.revision, tqdm_class=telling(bar, tell))

    try:
        path = Path(unless_stalled(download, seconds=STALL_SECONDS))
    except Exception as error:  # the hub's client raises errors of its own, of httpx and of the system
        raise _explained(spec, hub, error) from error
    return intact(spec, path)


def _if_there(hub: HubFile) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def download(tell: Callable[[], None]) -> str:
        bar = telling(_silent_bar(Progress(), hub.filename), tell)
        return hf_hub_download(hub.repo, hub.filename, revision=hub.revision, tqdm_class=bar)

    try:
        return Path(unless_stalled(download, seconds=STALL_SECONDS))
    except (HfHubHTTPError, LocalEntryNotFoundError, StalledError, OSError) as error:
        _log.info("%s of %s is not there: %s", hub.filename, hub.repo, type(error).__name__)
        return None


def _silent_bar(progress: Progress, text: str) -> type[Any]:
    """Returns what the hub's client takes for its bar: nothing is drawn, the bytes are told."""
    from tqdm import tqdm

    class Told(tqdm):  # pyright: ignore[reportMissingTypeArgument]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            progress.begin(text, int(self.total or 0), "bytes")
            progress.done(int(self.n))

        def update(self, n: float | None = 1) -> bool | None:
            progress.done(int(n or 0))
            return super().update(n)

    return Told


def _file_at(spec: BackboneSpec, path: Path) -> Path:
    """Returns the file, or the index of shards, that a named file or folder means."""
    if path.is_file():
        return path if is_index(path) else index_of(path) or path
    if not path.is_dir():
        raise WeightsError(f"No weights file at {path}. Name it with --weights {spec.name}=PATH.")
    folder = snapshot_in(spec, path)
    official = [] if spec.hub is None else [folder / spec.hub.filename]
    indices = [folder / f"{name}{INDEX}" for name in _PREFERRED]
    for known in (*official, *(folder / name for name in _PREFERRED), *indices):
        if known.is_file():
            return known
    files = [*_weight_files(folder), *sorted(folder.glob(f"*{INDEX}"))]
    found = {index_of(file) or file for file in files if not is_index(file)} | {f for f in files if is_index(f)}
    if len(found) != 1:
        raise _not_one(spec, folder, sorted(found))
    return found.pop()


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)


def _not_one(spec: BackboneSpec, folder: Path, files: list[Path]) -> WeightsError:
    """Builds the error for a folder with no or several files of weights; it names one that can be given instead."""
    below = [] if files else [file for inner in sorted(folder.glob("*/")) for file in _weight_files(inner)]
    names = ", ".join(file.relative_to(folder).as_posix() for file in files[:3]) or "none"
    where = f"; below it lies {below[0].relative_to(folder).as_posix()}" if below else ""
    example = (files or below or [Path("PATH")])[0]
    return WeightsError(
        f"{folder} holds {len(files)} files of weights ({names}), expected one{where}. "
        f"Name the file itself: --weights {spec.name}={example}."
    )


def _cached(hub: HubFile) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub.repo, hub.filename, revision=hub.revision)
    return Path(path) if isinstance(path, str) else None


def _explained(spec: BackboneSpec, hub: HubFile, error: Exception) -> WeightsError:
    from huggingface_hub import constants, errors

    else_ = f"Or name a file on disk: --weights {spec.name}=PATH."
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client hides a broken hub and a missing route behind "not in the cache"
    where = f"{hub.repo}" + (f" at revision {hub.revision}" if hub.revision else "")
    match error:
        case StalledError():
            return WeightsError(
                f"The download of {hub.filename} from {hub.repo} came to a halt: less than 10 MB in "
                f"{STALL_SECONDS:.0f} s. What has arrived is kept; fetch it again, and it goes on from there. {else_}"
            )
        case errors.GatedRepoError():
            return WeightsError(
                f"{hub.repo} is gated and refused: accept its terms at {hub.url}, then log in with `hf auth login` "
                f"or set HF_TOKEN. {else_}"
            )
        case errors.RevisionNotFoundError() | errors.RemoteEntryNotFoundError():
            return WeightsError(f"{where} has no file {hub.filename}. Look at {hub.url}/tree/main. {else_}")
        case errors.RepositoryNotFoundError():
            return WeightsError(
                f"The hub shows no repository {hub.repo}: it is private, renamed, or the token in HF_TOKEN is not "
                f"valid. Look at {hub.url}. {else_}"
            )
        case errors.HfHubHTTPError():
            status = getattr(error.response, "status_code", "an error")
            return WeightsError(f"The hub answered {status} for {hub.repo}. Try again later. {else_}")
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled() if constants.HF_HUB_OFFLINE:
            return WeightsError(
                f"{spec.name} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it. On a machine with a "
                f"network run `cytolora weights fetch {spec.name} --to DIR` and carry DIR over (--weights-dir). {else_}"
            )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return WeightsError(
        f"Cannot fetch {hub.repo} from {constants.ENDPOINT}: {reason}. Check the network, or on a machine that has one "
        f"run `cytolora weights fetch {spec.name} --to DIR` and carry DIR over (--weights-dir). {else_}"
    )
