"""Transductive prediction: the outputs of all cells of a slide, and their answer when the last one is there."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision.decide import Prediction, Transductive
from cytolora.classifier.decision.transduction import LEAST_CELLS, Anchors, SlideAnswer, answer, from_bytes
from cytolora.classifier.inference.predictor import Predictor
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted
from cytolora.errors import BundleError, ConfigError

WHOLE = "the slide"
"""Name of the only slide of a command."""


class Pool:
    """Cells of one slide or several, which are classified slide by slide."""

    def __init__(self, model: Predictor[Any], slide_of: Callable[[str], str] = lambda name: WHOLE) -> None:
        """Takes a classifier and what names the slide of an image by the image's name.

        Raises:
            BundleError: If the classifier has no anchors.
        """
        self._model = model
        self._anchors = anchors_of(model)
        self._slide_of = slide_of
        self._predictions: list[Prediction] = []
        self._rows: list[int] = []
        self._points: list[NDArray[np.float64]] = []
        self._logits: list[NDArray[np.float32]] = []
        self._findings: list[Finding] = []

    def on_outputs(self, indices: Sequence[int], logits: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        """Takes logits and features of those images of the next batch that could be read."""
        self._rows += [len(self._predictions) + index for index in indices]
        self._points.append(self._anchors.space.project(features))
        self._logits.append(logits)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Takes the predictions of the batch."""
        self._predictions += predictions

    def predictions(self) -> list[Prediction]:
        """Returns all predictions in their order, each with the answer among the cells of its slide."""
        if not self._rows:
            return self._predictions
        points, logits = np.concatenate(self._points), np.concatenate(self._logits)
        by_slide: dict[str, list[int]] = {}
        for at, row in enumerate(self._rows):
            by_slide.setdefault(self._slide_of(self._predictions[row].name), []).append(at)
        done, answers = list(self._predictions), dict[str, SlideAnswer]()
        for slide, places in by_slide.items():
            found = answers[slide] = self._answer(points[places], logits[places])
            for at, transductive in zip(places, _by_cell(found, self._model.classes), strict=True):
                row = self._rows[at]
                done[row] = replace(done[row], transductive=transductive)
        self._findings = _findings(answers)
        return done

    def findings(self) -> list[Finding]:
        """Returns what is to be said of the slides, once ``predictions`` was called."""
        return self._findings

    def _answer(self, points: NDArray[np.float64], logits: NDArray[np.float32]) -> SlideAnswer:
        contents = self._model.contents
        return answer(
            self._anchors,
            points,
            logits,
            temperature=contents.temperature,
            coverage=None if contents.conformal is None else contents.conformal.coverage,
            classes=contents.classes,
        )


def check_several(num_cells: int) -> None:
    """Raises a ConfigError if there is nothing to classify a cell together with."""
    if num_cells < LEAST_CELLS:
        raise ConfigError(
            f"--transductive classifies the cells of a slide together, and got {counted(num_cells, 'cell')}. "
            "Name all cells of the slide, or leave it out."
        )


def by_folder(name: str) -> str:
    """Names the slide of an image by the folder that it is in."""
    return PurePath(name).parent.as_posix()


def anchors_of(model: Predictor[Any]) -> Anchors:
    """Reads the anchors of a classifier.

    Raises:
        BundleError: If it has none.
    """
    content = model.anchors_file()
    if content is None:
        raise BundleError(
            f"{model.name} has no anchors for --transductive: it was written by an earlier version, or has a class "
            "without a training image. Fit it again, and export it again."
        )
    return from_bytes(content)


def _by_cell(found: SlideAnswer, classes: Sequence[str]) -> list[Transductive]:
    cells = []
    for row, by_class in enumerate(found.probabilities):
        in_set = None
        if found.sets is not None:
            in_set = tuple(label for label, is_in in zip(classes, found.sets[row], strict=True) if is_in)
        cells.append(
            Transductive(
                predicted=classes[int(by_class.argmax())],
                probabilities=tuple(map(float, by_class)),
                prediction_set=in_set,
                is_applied=found.is_transductive,
            )
        )
    return cells


def _findings(answers: dict[str, SlideAnswer]) -> list[Finding]:
    kept = [f"{slide} ({found.reason})" for slide, found in answers.items() if found.reason]
    withheld = [slide for slide, found in answers.items() if found.sets is None]
    found: list[Finding] = []
    if kept:
        text = f"{counted(len(kept), 'slide')} of {len(answers)} not classified transductively; {first(kept)}."
        found.append(finding("S712", text, count=len(kept), examples=kept))
    if withheld:
        text = "The transductive answer has no prediction sets: a class has too few held-out groups for its own."
        found.append(finding("S713", text, count=len(withheld), examples=withheld))
    return found
