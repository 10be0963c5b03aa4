"""Map of an open project: a value of each kind for every cell, as arrays and packed for the page."""

from typing import Any

import numpy as np
from jaxtyping import Float32

from cytolora.labelling.board import BY_OTHERS, Board
from cytolora.labelling.project import Project
from cytolora.labelling.refit import Refit


def points_of(
    project: Project,
    board: Board,
    fitted: Refit | None,
    plane: Float32[np.ndarray, "cells two"] | None,
    reader: str | None,
) -> dict[str, Any]:
    """Returns the map; predictions and doubts of test cells are hidden (-1 and NaN).

    Args:
        plane: Where cells lie; None until features are there.
        reader: Whose labels are shown; a cell that others alone labelled is ``BY_OTHERS``. None: agreed labels.
    """
    number, train = len(project.names), ~project.is_test
    labels = board.codes.astype(np.int16)
    if reader is not None:
        for cell in np.flatnonzero(board.is_held).tolist():
            own = board.votes.shown(reader, cell)
            labels[cell] = BY_OTHERS if own is None else board.code(own)
    prediction, doubt = np.full(number, -1, dtype=np.int16), np.full(number, np.nan, dtype=np.float32)
    if fitted is not None:
        prediction[train] = fitted.predictions[train]
        doubt[train] = fitted.doubt[train]
    x, y = (None, None) if plane is None else (plane[:, 0].copy(), plane[:, 1].copy())
    return {
        "x": x,
        "y": y,
        "label": labels,
        "prediction": prediction,
        "doubt": doubt,
        "group": project.unit_index.astype(np.int32),
        "test": project.is_test.astype(np.uint8),
    }


def pack_points(points: dict[str, Any]) -> bytes:
    """Packs ``Labelling.points`` for typed arrays of the page, little-endian.

    Number of cells and whether there are positions (int32 each); then an array after the other: x, y, doubt (float32),
    group (int32), label, prediction (int16), test (uint8).
    """
    n = len(points["label"])
    has_positions = points["x"] is not None
    places = {axis: points[axis] if has_positions else np.zeros(n, np.float32) for axis in ("x", "y")}
    arrays = (
        (places["x"], "<f4"),
        (places["y"], "<f4"),
        (points["doubt"], "<f4"),
        (points["group"], "<i4"),
        (points["label"], "<i2"),
        (points["prediction"], "<i2"),
        (points["test"], "u1"),
    )
    head = np.array([n, has_positions], "<i4").tobytes()
    return head + b"".join(np.asarray(values).astype(kind).tobytes() for values, kind in arrays)
