"""Open labelling project: journal, features, classifier, queue and estimates behind one lock."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock, RLock
from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np

from cytolora.core.arguments import AnyPath, as_path, as_path_or_none
from cytolora.core.cache_folder import default_cache
from cytolora.core.text import counted, normal
from cytolora.errors import ConfigError, CytoloraError, DataError, unknown_name
from cytolora.labelling import export
from cytolora.labelling.board import Board
from cytolora.labelling.classifier import Classifier
from cytolora.labelling.create import checked_reader, create_project
from cytolora.labelling.drawing import Drawn, checked_mixture
from cytolora.labelling.encoders import Encoders
from cytolora.labelling.features import Features, Space, compute_features, load_features, nearest, plane
from cytolora.labelling.journal import Draft, How
from cytolora.labelling.overview import counts_of
from cytolora.labelling.points import points_of
from cytolora.labelling.project import (
    Description,
    groups_in_words,
    missing_in_words,
    read_project,
    write_description,
)
from cytolora.labelling.queues import Queues
from cytolora.labelling.refit import Refit
from cytolora.labelling.running import Running
from cytolora.labelling.turns import Turn
from cytolora.labelling.votes import NO_CLASS

log = logging.getLogger(__name__)

__all__ = ["Labelling", "create_project"]

_NUM_SIMILAR = 12


class Labelling:
    """One open project; safe to use from threads.

    Cells are numbers from 0 in the order of the project's list. Every method is quick but for ``start_features`` and
    ``refit``. Labels are on disk when a method that writes returns.
    """

    def __init__(
        self, folder: AnyPath, *, cache: AnyPath | None = None, device: str = "cpu", refits_apart: bool = False
    ) -> None:
        """Opens a project.

        Args:
            cache: Of features; the common one if None.
            device: That computes features and trains LoRA: auto, cpu, cuda or mps.
            refits_apart: Fits the classifier, and trains LoRA, in processes of their own, which ``close`` ends.

        Raises:
            DataError: If the folder is no project, is damaged, or was written by a newer version; or none of its cells
                is where it was.
        """
        self._lock, self._one_refit, self._one_plane = RLock(), Lock(), Lock()
        self._features_turn = Turn("The features of the cells are being computed already.")
        self._project = read_project(as_path(folder, "folder"))
        self._cache = as_path_or_none(cache, "cache") or default_cache()
        self._board = Board(self._project)
        gone = np.flatnonzero(~self._project.is_there).tolist()
        self._errors = {cell: f"{self._project.root / self._project.names[cell]} is no longer there." for cell in gone}
        if gone:
            log.warning("%s", missing_in_words(self._project))
        self._progress: dict[str, Any] = {"done": 0, "total": self.n_cells, "error": None}
        self._device = device
        self._classifier = Classifier(self._project, cache=self._cache, device=device, is_apart=refits_apart)
        self._plane: np.ndarray | None = None
        self._running = Running(self._project, self._board)
        self.groups = groups_in_words(self._project)
        """What counts as a group, in words."""
        self._take_features(load_features(self._project))

    @property
    def about(self) -> Description:
        """Description of the project."""
        return self._project.about

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self._project.about.classes)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self._project.names)

    @property
    def encoder(self) -> str:
        """Name of the encoder whose features answer: ``frozen``, or ``lora``."""
        return self._encoders.name

    @property
    def last_entry(self) -> int:
        """Number of the last journal entry that was taken in."""
        return self._board.votes.last_entry

    def close(self) -> None:
        """Closes the journal and ends refits and training; nothing is lost without it."""
        self._classifier.close()
        with self._lock:
            self._board.close()

    def prepare(self) -> None:
        """Loads what the first refit computes with, so that it does not wait for that.

        Raises:
            EngineError: If a process of its own cannot be started.
        """
        self._classifier.prepare()

    def start_features(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Computes the features of all cells, unless they are there; labelling goes on meanwhile.

        Raises:
            UnderWayError: If they are being computed.
            CytoloraError: If that is not possible; ``overview`` shows the reason too.
        """
        with self._features_turn.taken():
            if self._space is None:
                self._compute_features(on_progress)

    def _compute_features(self, on_progress: Callable[[int, int], None] | None) -> None:
        def told(done: int, total: int) -> None:
            self._progress.update(done=done, total=total)
            if on_progress is not None:
                on_progress(done, total)

        try:
            features, errors = compute_features(self._project, cache=self._cache, device=self._device, on_progress=told)
        except CytoloraError as error:
            self._progress["error"] = str(error)
            raise
        with self._lock:
            self._errors |= errors
            self._take_features(features)

    def _take_features(self, features: Features | None) -> None:
        if features is not None:
            self._board.take_readable(self._encoders.take_frozen(features).is_usable)
            self._progress.update(done=self.n_cells, total=self.n_cells)
        self._renew_queues()

    @property
    def _encoders(self) -> Encoders:
        return self._classifier.encoders

    @property
    def _space(self) -> Space | None:
        return self._encoders.space

    @property
    def _fitted(self) -> Refit | None:
        return self._classifier.fitted

    def _renew_queues(self) -> None:
        features = self._space and self._space.features
        self._queues = Queues(project=self._project, board=self._board, features=features, fitted=self._fitted)

    def overview(self, reader: str) -> dict[str, Any]:
        """Returns what the page shows beside the cells: counts, progress, classifier, mixture and estimates."""
        reader = self._reader(reader)
        with self._lock:
            self._board.catch_up()
            return {
                **counts_of(self._project, self._board, self._fitted),
                "groups": self.groups,
                "features": dict(self._progress),
                "encoder": self._encoders.state(),
                "estimate": self.estimates(),
                "can_undo": self._board.votes.can_undo(reader),
                "can_redo": self._board.votes.can_redo(reader),
                "last_entry": self.last_entry,
            }

    def queue(self, reader: str, n: int = 24, *, kind: str = "next") -> list[dict[str, Any]]:
        """Returns the next cells of a queue: next, test, mistakes or second (blind second reading).

        Raises:
            ConfigError: If the kind is unknown.
        """
        reader = self._reader(reader)
        self._queues.prepare(n)
        with self._lock:
            self._board.catch_up()
            return [self._shown(reader, one) for one in self._queues.draw(reader, n, kind)]

    def _shown(self, reader: str, drawn: Drawn) -> dict[str, Any]:
        return {**self._described(reader, drawn.cell), "why": drawn.why}

    def _described(self, reader: str, cell: int) -> dict[str, Any]:
        """Returns name, group and share; what the classifier says is hidden of test cells and blind readings."""
        project, fitted = self._project, self._fitted
        is_test = bool(project.is_test[cell])
        is_scored = fitted is not None and int(fitted.predictions[cell]) >= 0
        known = is_scored and not self._queues.is_blind(reader, cell) and bool(self._board.is_usable[cell])
        return {
            "cell": cell,
            "name": project.names[cell],
            "group": project.groups[cell] or None,
            "share": "test" if is_test else "train",
            "prediction": project.about.classes[int(fitted.predictions[cell])] if fitted and known else None,
            "probabilities": [float(one) for one in fitted.probabilities[cell]] if fitted and known else None,
            "doubt": float(fitted.doubt[cell]) if fitted and known else None,
        }

    def cell(self, reader: str, cell: int) -> dict[str, Any]:
        """Returns one cell with the reader's label, its history and the twelve cells that are most similar to it.

        The history is the reader's own, and also that of others once she has labelled the cell: second readings are
        blind, and without a prediction.
        """
        reader = self._reader(reader)
        self._check_cells([cell])
        space = self._space
        similar = [] if space is None else nearest(space.features, cell, _NUM_SIMILAR)  # slow: labels do not wait
        similar = [one for one in similar if self._project.is_there[one]]
        with self._lock:
            self._board.catch_up()
            votes = self._board.votes
            has_read = votes.of_reader(reader, cell) is not None
            return {
                **self._described(reader, cell),
                "why": self._errors.get(cell, "You chose it."),
                "label": votes.shown(reader, cell),
                "history": [one for one in votes.history(cell) if has_read or one["reader"] == reader],
                "similar": similar,
            }

    def label_of(self, reader: str, cell: int) -> str | None:
        """Returns the reader's own label of a cell."""
        with self._lock:
            return self._board.votes.of_reader(self._reader(reader), cell)

    def points(self, reader: str | None = None) -> dict[str, Any]:
        """Returns the map as arrays of one value a cell; x and y are None until features are there.

        Args:
            reader: Whose labels are shown; cells that others alone labelled are marked, without theirs. None: agreed
                labels.
        """
        reader = None if reader is None else self._reader(reader)
        with self._one_plane:
            if self._plane is None and (space := self._space) is not None:
                self._plane = plane(space.features)
                self._plane[~self._project.is_there] = np.nan
        with self._lock:
            self._board.catch_up()
            return points_of(self._project, self._board, self._fitted, self._plane, reader)

    def picture(self, cell: int, size: int = 512) -> tuple[bytes, str]:
        """Returns a cell's own pixels as PNG, reduced where its longer edge has more than ``size``, never enlarged.

        Raises:
            DataError: If the image cannot be read.
        """
        from PIL import Image

        from cytolora.data.imaging.decode import decode

        self._check_cells([cell])
        image = Image.fromarray(decode(self._project.root / self._project.names[cell]))
        image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
        sink = io.BytesIO()
        image.save(sink, "PNG", compress_level=1)
        return sink.getvalue(), "image/png"

    def estimates(self) -> dict[str, Any]:
        """Returns the running estimate from the drawn test cells, and the stopping hint."""
        with self._lock:
            return self._running.estimates(self._fitted)

    def forecast(self) -> dict[str, Any]:
        """Forecasts the balanced accuracy with twice the training labels, with an interval; takes seconds.

        Returns:
            labels, now, expected (value and both ends, or None where no number is given) and sentence.

        Raises:
            UnderWayError: If one is being made.
        """
        with self._classifier.forecaster() as apart:
            return self._running.forecast(self._lock, apart)

    def disagreements(self) -> list[dict[str, Any]]:
        """Returns the cells whose readers differ."""
        with self._lock:
            self._board.catch_up()
            votes = self._board.votes
            return [
                {"cell": cell, "labels": votes.by_reader(cell), "adjudicated": votes.adjudicated(cell)}
                for cell in votes.disagreements()
            ]

    def agreement(self) -> dict[str, Any]:
        """Returns Cohen's kappa of every two readers, and Fleiss' of all; weighted where the classes are ordered."""
        with self._lock:
            self._board.catch_up()
            return export.agreement_of(self._project, self._board)

    def label(self, reader: str, cells: list[int], value: str, *, client_id: str, how: str = "key") -> dict[str, Any]:
        """Stores the label of one cell or many.

        A row or lasso leaves cells of the test share out: these are judged one at a time, and blind.

        Args:
            value: A class, ``not a cell`` or ``unsure``.
            client_id: Of the request; a repeated one is one entry.
            how: key, row, lasso, import or adjudication.

        Raises:
            ConfigError: If value, cell or way is unknown, or no cell is left.
            DataError: If it could not be stored; nothing has changed then.
        """
        reader, known = self._reader(checked_reader(reader)), (*self.classes, *NO_CLASS)
        if value not in known:
            raise unknown_name("label", value, known)
        if how not in get_args(How):
            raise unknown_name("way of labelling", how, get_args(How))
        self._check_cells(cells)
        is_test = self._project.is_test
        left_out = [cell for cell in cells if is_test[cell]] if how in ("row", "lasso") else []
        kept = tuple(cell for cell in dict.fromkeys(cells) if not left_out or not is_test[cell])
        if not kept:
            raise ConfigError(
                f"{counted(len(left_out), 'cell')} of the test share: label each by itself, so that it is judged blind."
                if left_out
                else "No cell was named; name one or more."
            )
        if gone := [cell for cell in kept if not self._project.is_there[cell]]:
            raise ConfigError(f"Nothing was stored: {self._errors[gone[0]]} A cell that nobody sees takes no label.")
        with self._lock:
            fitted = self._fitted
            suggested = () if fitted is None else tuple(self._suggestion(fitted, cell) for cell in kept)
            entry = self._board.append(
                reader,
                client_id,
                lambda: Draft(
                    reader=reader,
                    kind="label",
                    client_id=client_id,
                    how=how,
                    value=value,
                    cells=kept,
                    classifier=fitted and fitted.number,
                    suggested=suggested,
                ),
            )
            if (entry.kind, entry.how, entry.value, entry.cells) != ("label", how, value, kept):
                raise _used(client_id)
            return {"entry": entry.number, "undone": [], "left_out": left_out, "overview": self.overview(reader)}

    def _suggestion(self, fitted: Refit, cell: int) -> str:
        """Returns the predicted class of a cell; empty where none was shown."""
        code = int(fitted.predictions[cell])
        return "" if code < 0 or self._project.is_test[cell] else self.classes[code]

    def _reader(self, name: str) -> str:
        """Returns the reader who is meant: names that differ by case or blanks are one, as first stored by anybody."""
        with self._lock:
            self._board.catch_up()
            return self._board.votes.reader_named(normal(name))

    def _check_cells(self, cells: Sequence[int]) -> None:
        wrong = next((cell for cell in cells if not 0 <= cell < self.n_cells), None)
        if wrong is not None:
            raise ConfigError(f"There is no cell {wrong}; cells are numbers from 0 to {self.n_cells - 1}.")

    def undo(self, reader: str, *, client_id: str) -> dict[str, Any]:
        """Takes the reader's last label back: a new entry.

        Raises:
            ConfigError: If there is none.
            DataError: If it could not be stored.
        """
        return self._turn(reader, client_id, "undo")

    def redo(self, reader: str, *, client_id: str) -> dict[str, Any]:
        """Brings back what the reader undid last; raises as ``undo``."""
        return self._turn(reader, client_id, "redo")

    def _turn(self, reader: str, client_id: str, kind: Literal["undo", "redo"]) -> dict[str, Any]:
        reader = self._reader(checked_reader(reader))
        with self._lock:
            votes = self._board.votes
            find = votes.to_undo if kind == "undo" else votes.to_redo

            def draft() -> Draft:
                target = find(reader)
                return Draft(reader=reader, kind=kind, client_id=client_id, target=target.number)

            entry = self._board.append(reader, client_id, draft)
            if entry.kind != kind:
                raise _used(client_id)
            cells = list(votes.cells_of(entry))
            return {"entry": entry.number, "cells": cells, "overview": self.overview(reader)}

    def adjudicate(self, reader: str, cell: int, value: str, *, client_id: str) -> dict[str, Any]:
        """Ends a disagreement: the label counts instead of all others; raises as ``label``."""
        return self.label(reader, [cell], value, client_id=client_id, how="adjudication")

    def set_mixture(self, mixture: Mapping[str, float]) -> None:
        """Sets and keeps the shares of the queue.

        Raises:
            ConfigError: If they are none.
        """
        parts = checked_mixture(mixture)
        with self._lock:
            write_description(self._project.folder, mixture=parts)
            self._project = replace(self._project, about=replace(self._project.about, mixture=parts))
            self._running.project = self._project
            self._renew_queues()

    def begin_lora(self) -> Callable[[], bool]:
        """Begins the training of LoRA on the training labels; ``stop_lora`` ends it from now on.

        Returns:
            What trains it, and has its features answer from the next refit on; it takes minutes, has to be called
            once, and returns whether LoRA was trained: False where it was stopped.

        Raises:
            UnderWayError: If it runs.
            ConfigError: If features or labels are missing.
        """
        train = self._encoders.begin(self._training())

        def train_and_answer() -> bool:
            is_trained = train()
            if is_trained:
                self._renew_features()
            return is_trained

        return train_and_answer

    def train_lora(self) -> bool:
        """Trains LoRA at once (``begin_lora``).

        Raises:
            CytoloraError: If it cannot be trained.
        """
        return self.begin_lora()()

    def stop_lora(self) -> None:
        """Ends the training of LoRA; one before stays."""
        self._encoders.stop()

    def choose_encoder(self, name: str) -> None:
        """Chooses whose features answer from the next refit on: ``frozen``, or ``lora``.

        Raises:
            ConfigError: If there is none of that name.
        """
        self._encoders.choose(name)
        self._renew_features()

    @property
    def is_lora_new(self) -> bool:
        """Whether another process trained LoRA anew, or removed it; the next refit looks for what there is."""
        return self._encoders.is_behind

    def _renew_features(self) -> None:
        with self._one_plane:
            self._plane = None
        with self._lock:
            self._renew_queues()

    def _training(self) -> dict[int, int]:
        with self._lock:
            self._board.catch_up()
            return self._board.training()

    def refit(self) -> dict[str, Any]:
        """Fits the classifier to all training labels; labelling goes on meanwhile.

        Returns:
            number, seconds and labels; number 0 where fewer than two classes are labelled or features are not there.
        """
        started = perf_counter()
        with self._one_refit:
            while True:
                if self._encoders.catch_up():
                    self._renew_features()
                try:
                    return {**self._refit(), "seconds": perf_counter() - started}
                except DataError:
                    if not self.is_lora_new:  # else another process replaced what was to be read
                        raise

    def _refit(self) -> dict[str, Any]:
        training, space, usable_now = self._training(), self._space, self._board.is_usable
        if space is not None:  # cells may have been away when LoRA was trained
            usable_now = usable_now & space.is_usable
            training = {cell: code for cell, code in training.items() if usable_now[cell]}
        fitted = space and self._classifier.fit(space, training, usable_now)
        if space is None or fitted is None:
            return {"number": 0, "labels": len(training)}
        with self._lock:
            self._classifier.fitted = fitted
            self._renew_queues()

        def fit_half(half: Mapping[int, int]) -> Refit | None:
            return self._classifier.fit(space, half, usable_now, counts=False)

        if not space.seen:  # half of the labels would be fitted to features that all labels have shaped
            self._running.look(self._lock, fitted, fit_half, training)
        return {"number": fitted.number, "labels": len(training)}

    def write_labels(self, path: AnyPath | None = None) -> Path:
        """Writes path, label, subset, group and selection of labelled cells; to ``labels.csv`` of the project if None.

        Raises:
            ConfigError: If a file of another kind is there.
            DataError: If no cell has a class.
        """
        with self._lock:
            self._board.catch_up()
            return export.write_labels(self._project, self._board, as_path_or_none(path))

    def lacking(self) -> str:
        """Says what the project lacks to become a classifier whose test is valid; empty where it lacks nothing."""
        with self._lock:
            self._board.catch_up()
            return export.lacking(self._project, self._board)

    def write_format(self, name: str, path: AnyPath) -> list[Path]:
        """Writes the same in a format of another program (`cytolora ls formats`); an existing file is kept."""
        with self._lock:
            self._board.catch_up()
            return export.write_format(self._project, self._board, name, as_path(path))


def _used(client_id: str) -> ConfigError:
    return ConfigError(
        f"Nothing was stored: the id {client_id!r} belongs to another entry. Each request has an id of its own."
    )
