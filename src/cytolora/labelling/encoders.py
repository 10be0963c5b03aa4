"""Encoders of an open project: the frozen one, and one with LoRA that is trained in the background."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Literal, get_args

from cytolora.errors import ConfigError, EngineError, unknown_name
from cytolora.labelling.adapt import adapt, adapted_version, cells_to_train_on, load_adapted
from cytolora.labelling.apart import Apart
from cytolora.labelling.features import Features, Space
from cytolora.labelling.project import FEATURES, Project
from cytolora.labelling.turns import Turn

EncoderName = Literal["frozen", "lora"]
NAMES = FROZEN, WITH_LORA = get_args(EncoderName)
_NICENESS = 19
"""Of the process that trains: the classifier is fitted again, and pictures are read, before it."""


class _StoppedError(Exception):
    """Ends a training at its next step, wherever it is computed."""


class Encoders:
    """Which encoder's features answer, and the training of LoRA: one at a time."""

    def __init__(self, project: Project, *, cache: Path, device: str, is_apart: bool) -> None:
        """Opens what LoRA wrote before, and takes it in the place of the frozen encoder.

        Args:
            cache: Of decoded images.
            device: That LoRA is trained on.
            is_apart: Trains in a process of its own.

        Raises:
            DataError: If what it wrote is damaged.
        """
        self._project, self._cache, self._device = project, cache, device
        self._frozen: Space | None = None
        self._version, self._adapted = adapted_version(project), load_adapted(project)
        self.name = FROZEN if self._adapted is None else WITH_LORA
        """Of the encoder whose features answer."""
        self._one_load, self._turn = Lock(), Turn("LoRA is being trained already. Stop it, or wait for it.")
        self._is_stopped = False
        self._training: dict[str, Any] | None = None
        """Passes of an image done and in total, labels, and seconds that are left; None where it is not trained."""
        self._began = 0.0, 0
        self._apart = (
            Apart("trains LoRA", "start it again then", niceness=_NICENESS, is_one_thread=False, on_told=self._told)
            if is_apart
            else None
        )

    def take_frozen(self, features: Features) -> Space:
        """Takes the features of the frozen encoder, which were computed or read."""
        path = self._project.folder / FEATURES
        self._frozen = Space(path=path, features=features, encoder=self._project.about.model)
        return self._frozen

    @property
    def space(self) -> Space | None:
        """Features that answer; None until those of the frozen encoder are there."""
        adapted, frozen = self._adapted, self._frozen
        return adapted if None not in (frozen, adapted) and self.name == WITH_LORA else frozen

    def choose(self, name: str) -> None:
        """Chooses the encoder that answers.

        Raises:
            ConfigError: If there is none of that name, or LoRA was not trained.
            DataError: If what it wrote is damaged.
        """
        if name not in NAMES:
            raise unknown_name("encoder", name, NAMES)
        if name == WITH_LORA:
            self._load()
            if self._adapted is None:
                raise ConfigError("LoRA was not trained for this project yet. Start it, or choose the frozen encoder.")
        self.name = name

    @property
    def is_behind(self) -> bool:
        """Whether LoRA was trained anew or removed, by another process perhaps, since its features were opened."""
        return adapted_version(self._project) != self._version

    def catch_up(self) -> bool:
        """Opens what LoRA wrote since; returns whether other features answer now. Raises as ``choose``."""
        before = self.space
        if self.is_behind:
            self._load()
        return self.space is not before

    def _load(self) -> None:
        """Opens what LoRA wrote last; the frozen encoder answers where that is nothing, or damaged."""
        with self._one_load:
            self._version = adapted_version(self._project)  # first: what is written from now on is found later
            adapted = None
            try:
                adapted = load_adapted(self._project)
            finally:
                self._adapted = adapted
                if adapted is None:
                    self.name = FROZEN

    def begin(self, training: Mapping[int, int]) -> Callable[[], bool]:
        """Begins the training of LoRA, which can be stopped from now on.

        Args:
            training: Class index by labelled cell.

        Returns:
            What trains LoRA and chooses it; it takes minutes, has to be called once, and returns False where the
            training was stopped.

        Raises:
            UnderWayError: If it runs.
            ConfigError: If features or labels are missing.
        """
        self._turn.take()
        try:
            if self._frozen is None:
                raise ConfigError("The features of the cells are still being computed. Start LoRA when they are there.")
            cells_to_train_on(self._project, training)
        except BaseException:
            self._turn.give_back()
            raise
        self._is_stopped = False
        self._training = {"done": 0, "total": 0, "labels": len(training), "left": None}
        return partial(self._train, training)

    def _train(self, training: Mapping[int, int]) -> bool:
        folder, where = self._project.folder, {"cache": self._cache, "device": self._device}
        try:
            if self._is_stopped:
                return False
            if self._apart is None:
                adapt(folder, training, **where, on_progress=self._told)
            else:
                self._apart.call(adapt, folder, training, **where)
            self.choose(WITH_LORA)
            return True
        except _StoppedError:
            return False
        except EngineError:
            if self._is_stopped:
                return False
            raise
        finally:
            self._training = None
            if self._apart is not None:
                self._apart.stop()  # its memory, for a training that may never come again
            self._turn.give_back()

    def _told(self, done: int, total: int) -> None:
        """Notes how far it is, and how long it takes at the pace since its first step: what it loads is not counted.

        Raises:
            _StoppedError: If it was stopped, perhaps before there was a process to end.
        """
        if self._is_stopped:
            raise _StoppedError
        if (training := self._training) is None:
            return
        if not training["total"]:
            self._began = monotonic(), done
        began, first = self._began
        pace = (done - first) / max(monotonic() - began, 1e-9)
        training.update(done=done, total=total, left=(total - done) / pace if pace else None)

    def stop(self) -> None:
        """Ends the training; the features of one before stay."""
        self._is_stopped = True
        if self._apart is not None:
            self._apart.stop()

    def close(self) -> None:
        """Ends the training and its process for good."""
        self._is_stopped = True
        if self._apart is not None:
            self._apart.close()

    def state(self) -> dict[str, Any]:
        """Returns what the page shows: encoder, whether there is one with LoRA, and how far training is."""
        training = self._training
        return {
            "name": self.name,
            "has_lora": self._adapted is not None,
            "training": None if training is None else dict(training),
        }
