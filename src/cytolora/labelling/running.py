"""Running estimate of an open project: accuracy and sensitivities on drawn test cells, and looks for the hint."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from cytolora.core.strict_json import read_json
from cytolora.labelling.apart import Apart
from cytolora.labelling.board import NO_CELL, NOT_SURE, UNLABELLED, Board
from cytolora.labelling.estimate import Look, Triple, hint, look_at, marks, share_of
from cytolora.labelling.forecast import too_few, with_twice_the_labels
from cytolora.labelling.journal import Draft
from cytolora.labelling.project import FEATURES, Project
from cytolora.labelling.refit import Refit, naive_accuracy
from cytolora.metrics.intervals import LEVEL

_METHOD = (
    "Mean over test cells drawn by chance without replacement, from groups that were set aside before the first label; "
    "95 % interval over groups, mostly narrower than in a report (Korn-Graubard with Jeffreys' limits, or "
    "beta-binomial where mistakes are few)."
)
_LOOKS = "looks"
"""The reader of their entries: nobody."""


class Running:
    """The estimate, computed again when a test label or the classifier changes."""

    def __init__(self, project: Project, board: Board) -> None:
        self.project, self._board = project, board
        self._known: tuple[tuple[int, int, int], dict[str, Any]] | None = None

    def estimates(self, fitted: Refit | None) -> dict[str, Any]:
        """Returns the estimate as the page takes it."""
        looks = self._looks()
        key = (self._board.test_version, fitted.number if fitted else 0, len(looks))
        if self._known is None or self._known[0] != key:
            self._known = key, self._computed(fitted, looks)
        return self._known[1]

    def _computed(self, fitted: Refit | None, looks: list[Look]) -> dict[str, Any]:
        board, classes = self._board, self.project.about.classes
        drawn = board.drawn()
        cells = [cell for cell in drawn if board.codes[cell] >= 0]
        groups = len({self.project.units[cell] for cell in cells})
        codes = board.codes[drawn]
        sensitivity: dict[str, list[float] | None] = dict.fromkeys(classes)
        if fitted is not None:
            for at, name in enumerate(classes):
                of_class = [cell for cell in cells if board.codes[cell] == at]
                sensitivity[name] = list(self._share(fitted, of_class)) if of_class else None
        return {
            "n": len(cells),
            "groups": groups,
            "accuracy": list(self._share(fitted, cells)) if fitted is not None and cells else None,
            "sensitivity": sensitivity,
            "method": _METHOD,
            "marks": marks(
                groups_known=self.project.about.groups_known,
                num_groups=groups,
                unsure=int((codes == NOT_SURE).sum()),
                not_cells=int((codes == NO_CELL).sum()),
                disputed=int((codes == UNLABELLED).sum()),
            ),
            "hint": hint(looks, len(drawn)),
            "naive": None if fitted is None else naive_accuracy(fitted, board.training()),
        }

    def _share(self, fitted: Refit, cells: list[int]) -> Triple:
        """Estimates the share of cells that the classifier gets right."""
        hits = fitted.predictions[cells] == self._board.codes[cells]
        names, groups = self.project.names, self.project.groups
        return share_of(hits, [names[cell] for cell in cells], [groups[cell] for cell in cells])

    def _looks(self) -> list[Look]:
        plain = (read_json(entry.value) for entry in self._board.votes.looks)
        return [Look(**{**one, "accuracy": tuple(one["accuracy"])}) for one in plain]

    def forecast(self, lock: RLock, apart: Apart | None) -> dict[str, Any]:
        """Forecasts the accuracy with twice the training labels (``forecast.with_twice_the_labels``); slow."""
        with lock:
            board, units = self._board, self.project.units
            training = [(cell, label, units[cell]) for cell, label in board.training().items()]
            test = [(cell, int(board.codes[cell]), units[cell]) for cell in board.drawn() if board.codes[cell] >= 0]
        path = self.project.folder / FEATURES
        lack = too_few(len(training), len(test))
        if lack is None and not path.exists():
            lack = "No forecast yet: the features of the cells are still being computed."
        if lack is not None:
            return {"labels": 2 * len(training), "now": None, "expected": None, "sentence": lack}
        call = with_twice_the_labels if apart is None else partial(apart.call, with_twice_the_labels)
        about = self.project.about
        return call(path, training, test, len(about.classes), groups_known=about.groups_known)

    def look(
        self, lock: RLock, fitted: Refit, fit: Callable[[dict[int, int]], Refit | None], training: Mapping[int, int]
    ) -> None:
        """Stores the next interim analysis where as many test cells are labelled as it takes; slow where it is due.

        It takes the first of the drawn cells, so that the moment at which it is called has no influence.
        """
        with lock:
            number = len(self._board.votes.looks) + 1
            drawn = self._board.drawn()[: look_at(number)]
            cells = [cell for cell in drawn if self._board.codes[cell] >= 0]
            if len(drawn) < look_at(number) or not cells:
                return
            accuracy = self._share(fitted, cells)
        half = fit(dict(list(training.items())[::2]))
        changed = 1.0 if half is None else float(np.mean(half.predictions != fitted.predictions))
        look = Look(
            number=number,
            test_labels=len(drawn),
            level=LEVEL,
            accuracy=accuracy,
            changed=changed,
            classifier=fitted.number,
        )
        client_id = f"look {number}"
        draft = Draft(reader=_LOOKS, kind="look", client_id=client_id, value=json.dumps(look.plain()))
        with lock:
            self._board.append(_LOOKS, client_id, lambda: draft)
