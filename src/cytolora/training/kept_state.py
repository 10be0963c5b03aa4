"""State of a training that is kept while it runs, so that a killed run goes on from there and ends bit-equal.

A state is all that a step depends on and changes: trained weights and buffers, the optimiser's moments, what AdaLoRA
weighs its ranks by, early stopping with the weights of the best epoch, and torch's generators, from which dropout
draws. The position is the number of steps. The rate follows from it, and the order of images is drawn again from the
seed; augmented views depend on seed, epoch and image alone, so that numpy's generators have no state to keep.
"""

import hashlib
import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cytolora.config.run import RunSpec, to_plain
from cytolora.core import stopping
from cytolora.core.files import canonical_json, sha256_text, staged_file
from cytolora.core.provenance import software
from cytolora.models.adapters.adalora import RankAllocation
from cytolora.training.early_stopping import KeptWeights

if TYPE_CHECKING:
    from cytolora.training.session import Session

log = logging.getLogger(__name__)

_FORMAT = 2
_SUM = "sha256"
"""Key of the checksum over the tensors and all other metadata."""
_LEAST_RATIO = 150
"""Time from one state to the next as a multiple of the time that writing one took, at least: less than 1 %."""
_WEIGHTS, _OPTIMISER, _RANKS, _EARLY, _GENERATOR = "weights.", "optimiser.", "ranks.", "early.", "generator."


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What the steps of one training change."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    ranks: RankAllocation | None
    device: torch.device

    def tensors(self) -> dict[str, Tensor]:
        """Returns all of it by name."""
        moments = {
            f"{_OPTIMISER}{index}.{name}": value
            for index, values in self.optimiser.state_dict()["state"].items()
            for name, value in values.items()
        }
        ranks = {} if self.ranks is None else {_RANKS + name: value for name, value in self.ranks.tensors().items()}
        generators = {f"{_GENERATOR}cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            generators[f"{_GENERATOR}cuda"] = torch.cuda.get_rng_state(self.device)
        return {**self._weights(), **moments, **ranks, **generators}

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether tensors are those of a training like this one."""
        given = {name: value.shape for name, value in tensors.items() if name.startswith(_WEIGHTS)}
        return given == {name: value.shape for name, value in self._weights().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts everything back as it was."""
        with torch.no_grad():
            for name, value in self._weights().items():
                value.copy_(tensors[name])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, _OPTIMISER).items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        if self.ranks is not None:
            self.ranks.restore({name: value.to(self.device) for name, value in _below(tensors, _RANKS).items()})
        torch.set_rng_state(tensors[f"{_GENERATOR}cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors[f"{_GENERATOR}cuda"], self.device)

    def _weights(self) -> dict[str, Tensor]:
        trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        return {_WEIGHTS + name: value for name, value in {**trained, **dict(self.model.named_buffers())}.items()}


@dataclass(kw_only=True)
class KeptState:
    """File of the state of one run, and when the next is due."""

    path: Path
    key: str
    """Hash of all that must be equal for a training to go on from a state."""
    minutes: float
    """From one state to the next; 0: after every step."""
    early: KeptWeights | None = None
    """What stops this run early."""
    seconds_before: float = 0.0
    """Of training until the state that it went on from."""
    _began: float = field(default_factory=perf_counter)
    _written: float = field(default_factory=perf_counter)
    _write_seconds: float = 0.0

    def restore(self, training: Training) -> int:
        """Puts a training back to its last state; returns the number of steps it has taken, 0 where there is none.

        A state that is damaged or does not fit is told of in one line, and the training begins anew.
        """
        try:
            metadata, tensors = _read(self.path)
        except FileNotFoundError:
            return 0
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            why = " ".join(str(error).split())
            log.warning("The training state %s is damaged (%s): this run begins anew.", self.path, why)
            return 0
        if metadata["key"] != self.key or not training.fits(tensors):
            log.warning(
                "The training state %s is of other data, weights, versions, threads or another device: this run begins "
                "anew.",
                self.path,
            )
            return 0
        training.restore(tensors)
        if self.early is not None:
            self.early.resume({name: one.to(training.device) for name, one in _below(tensors, _EARLY).items()})
        self.seconds_before = float(metadata["seconds"])
        return int(metadata["steps"])

    def after_step(self, num_steps: int, training: Training) -> None:
        """Writes the state where it is due; a disk that does not take it costs a line, not the run.

        Raises:
            StoppedError: If the command was asked to stop; the state is written then.
        """
        now, is_asked = perf_counter(), stopping.is_asked()
        if not is_asked and now - self._written < max(
            60 * self.minutes, _LEAST_RATIO * self._write_seconds if self.minutes else 0
        ):
            return
        early = {} if self.early is None else {_EARLY + name: one for name, one in self.early.tensors().items()}
        seconds = self.seconds_before + now - self._began
        try:
            _write(
                self.path,
                {**training.tensors(), **early},
                {"key": self.key, "steps": str(num_steps), "seconds": repr(seconds)},
            )
        except (OSError, SafetensorError) as error:
            log.warning("Cannot keep the training state %s: %s. The run goes on without it.", self.path, error)
        self._written = perf_counter()
        self._write_seconds = self._written - now
        if is_asked:
            raise stopping.StoppedError

    def remove(self) -> None:
        """Removes the file, if there is one."""
        remove(self.path)


def state_of(session: "Session", run: RunSpec, folder: Path, minutes: float, *, num_processes: int = 1) -> KeptState:
    """Returns the file of a run's state; nothing is read or written yet.

    Args:
        num_processes: That train the run together: sums over another number of them differ in their last bits.
    """
    is_cuda = session.device.type == "cuda"
    key: dict[str, Any] = {
        "format": _FORMAT,
        "spec": to_plain(run),
        "identity": asdict(session.inputs.identity(run)),
        **software(),
        "device": torch.cuda.get_device_name(session.device) if is_cuda else session.device.type,
        "machine": [platform.system(), platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        **({"processes": num_processes} if num_processes > 1 else {}),
    }
    return KeptState(path=file_of(folder, run.run_id), key=sha256_text(canonical_json(key)), minutes=minutes)


def file_of(folder: Path, run_id: str) -> Path:
    """Returns the path of a run's state."""
    return folder / f"{run_id}.safetensors"


def remove(path: Path) -> None:
    """Removes the file of a state; one that stays where nothing may be removed does no harm."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("Cannot remove %s: %s.", path, error.strerror or error)


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    whole = {name: _own(value) for name, value in tensors.items()}
    with staged_file(path) as file:
        save_file(whole, file, {**metadata, _SUM: _digest(whole, metadata)})


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.exists():
        raise FileNotFoundError(path)
    with safe_open(path, "pt") as file:  # pyright: ignore[reportPrivateImportUsage]
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (it is no mapping)
    if metadata.pop(_SUM) != _digest(tensors, metadata):
        raise ValueError("its checksum is another one")
    return metadata, tensors


def _own(tensor: Tensor) -> Tensor:
    """Brings a tensor to the CPU, in memory that it shares with none: what the format asks for."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Hashes all of a state: a wrong number of steps would end as another run, in silence."""
    digest = hashlib.sha256(canonical_json(dict(metadata)).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
