"""Registry of experiment trackers, and targets such as ``mlflow:http://127.0.0.1:5000``; loads no tracker's library."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

from cytolora.core.registry import Registry
from cytolora.errors import ConfigError, CytoloraError, missing_package
from cytolora.experiments.tracking.record import Record

Mirror = Callable[[Record], bool]
"""Adds a run to a tracker, or brings the one that is there up to date; False where nothing was to do."""

_SECRET = re.compile(r"//[^/@\s]*@")
"""User and password in an address."""
_SHOWN = 600
"""Characters of what a library says that are shown."""
_Value = TypeVar("_Value")


def _always(address: str, seconds: float) -> None:
    """Of a tracker that is files: there is nobody to be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """An experiment tracker that stored runs are mirrored to."""

    name: str
    description: str
    address: str
    """What follows its name in a target, in words."""
    open: Callable[[str], Mirror]
    """Loads its library and opens an address, without asking anybody yet."""
    check: Callable[[str, float], None] = _always
    """Raises an OSError if nobody answers at an address within some seconds; loads no large library."""
    package: str = ""
    """Module that it needs; empty for none."""
    extra: str = ""
    """Extra of cytolora that brings the module."""


TRACKERS: Registry[Tracker] = Registry("tracker")


@dataclass(frozen=True, slots=True)
class Target:
    """A tracker and the address in it: ``NAME:ADDRESS``."""

    tracker: Tracker
    address: str

    def __str__(self) -> str:
        return _without_secret(f"{self.tracker.name}:{self.address}")

    def check(self, seconds: float) -> None:
        """Raises a ConfigError if nobody answers within some seconds."""
        try:
            self.tracker.check(self.address, seconds)
        except OSError as error:
            raise ConfigError(
                f"{self} does not answer ({_reason(error)}). Nothing was mirrored. Start the tracker, or correct its "
                "address."
            ) from error

    def open(self) -> Mirror:
        """Opens it; whatever its library raises is a ConfigError."""
        mirror = self._named(lambda: self.tracker.open(self.address), "cannot be opened")

        def named(record: Record) -> bool:
            return self._named(lambda: mirror(record), f"did not take run {record.run_id}")

        return named

    def _named(self, do: Callable[[], _Value], what: str) -> _Value:
        try:
            return do()
        except CytoloraError:
            raise
        except Exception as error:  # code of others, with errors of their own and of what they build on
            raise ConfigError(f"{self} {what}: {_reason(error)}. The stored runs are as they were.") from error


def parse_target(text: str) -> Target:
    """Reads ``NAME:ADDRESS``.

    Raises:
        ConfigError: If there is no such tracker, no address, or its package is not installed.
    """
    name, _, address = text.partition(":")
    tracker = TRACKERS.get(name)
    if not address:
        raise ConfigError(f"{text!r} names no place in the tracker. Expected {tracker.name}:{tracker.address}.")
    if tracker.package and find_spec(tracker.package) is None:
        raise missing_package(f"{tracker.name}: needs", tracker.package, extra=tracker.extra)
    return Target(tracker, address)


def _reason(error: Exception) -> str:
    """Returns what an error says, in one line without passwords."""
    text = _without_secret(" ".join(str(error).split()) or type(error).__name__)
    return (text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…").rstrip(".")


def _without_secret(text: str) -> str:
    return _SECRET.sub("//", text)


def _open_tensorboard(address: str) -> Mirror:
    from cytolora.experiments.tracking.tensorboard import open_folder

    return open_folder(address)


def _open_mlflow(address: str) -> Mirror:
    from cytolora.experiments.tracking.mlflow import open_store

    return open_store(address)


def _open_wandb(address: str) -> Mirror:
    from cytolora.experiments.tracking.wandb import open_project

    return open_project(address)


def _open_trackio(address: str) -> Mirror:
    from cytolora.experiments.tracking.trackio import open_project

    return open_project(address)


def _check_server(address: str, seconds: float) -> None:
    from cytolora.experiments.tracking.answers import check_answer

    check_answer(address, seconds)


TRACKERS.add(
    Tracker(
        name="tensorboard",
        description="Event files for TensorBoard, a folder for each run.",
        address="FOLDER",
        open=_open_tensorboard,
        package="tensorboard",
        extra="tensorboard",
    )
)
TRACKERS.add(
    Tracker(
        name="mlflow",
        description="The experiment `cytolora` of an MLflow server or store.",
        address="URI",
        open=_open_mlflow,
        check=_check_server,
        package="mlflow",
        extra="mlflow",
    )
)
TRACKERS.add(
    Tracker(
        name="wandb",
        description="Offline runs of Weights & Biases, to send with `wandb sync`.",
        address="PROJECT",
        open=_open_wandb,
        package="wandb",
        extra="wandb",
    )
)
TRACKERS.add(
    Tracker(
        name="trackio",
        description="A local project of trackio.",
        address="PROJECT",
        open=_open_trackio,
        package="trackio",
        extra="trackio",
    )
)
