"""Counts of a labelling project: its cells, its labels by class, and the classifier that answers."""

from typing import Any

import numpy as np

from cytolora.labelling.board import NO_CELL, NOT_SURE, Board
from cytolora.labelling.project import Project
from cytolora.labelling.refit import Refit

_KEYS = 9
"""Classes that have a key of their own, 1 to 9."""


def counts_of(project: Project, board: Board, fitted: Refit | None) -> dict[str, Any]:
    """Returns name, numbers of cells, labels by class, classifier and mixture of a project."""
    about = project.about
    counts = _counts(board.codes, len(about.classes))
    in_test = _counts(board.codes[project.is_test], len(about.classes))
    predicted = [0] * len(counts) if fitted is None else _counts(fitted.predictions, len(counts))
    classifier = fitted and {
        "name": f"ridge on {fitted.encoder}",
        "labels": fitted.num_labels,
        "number": fitted.number,
    }
    return {
        "project": about.name,
        "version": about.version,
        "n_cells": len(project.names),
        "n_groups": int(project.unit_index.max()) + 1,
        "groups_known": about.groups_known,
        "classes": [
            {
                "name": name,
                "key": str(at + 1) if at < _KEYS else "",
                "labels": counts[at],
                "test_labels": in_test[at],
                "predicted": predicted[at],
            }
            for at, name in enumerate(about.classes)
        ],
        "not_a_cell": int((board.codes == NO_CELL).sum()),
        "unsure": int((board.codes == NOT_SURE).sum()),
        "unreadable": int((~board.is_usable).sum()),
        "classifier": classifier,
        "mixture": dict(about.mixture),
    }


def _counts(codes: np.ndarray, number: int) -> list[int]:
    return np.bincount(codes[codes >= 0], minlength=number).tolist()
