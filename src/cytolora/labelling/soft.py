"""Soft labels of training cells on which readers differ: the share of the readers who gave each class."""

from collections import Counter
from dataclasses import replace

import numpy as np

from cytolora.core.text import counted
from cytolora.data.manifest import Manifest
from cytolora.labelling.board import UNLABELLED, Board
from cytolora.labelling.project import Project, manifest_of

Shares = tuple[tuple[str, float], ...]


def shares_of(project: Project, board: Board, classes: tuple[str, ...]) -> dict[int, Shares]:
    """Returns the shares by training cell, where readers gave two classes or more and nobody decided.

    What is no class (unsure, not a cell) counts for none; so does a class that is none of ``classes``.
    """
    found: dict[int, Shares] = {}
    is_shared = board.is_held & ~project.is_test & project.is_there & (board.codes >= UNLABELLED)
    for cell in np.flatnonzero(is_shared).tolist():
        if board.votes.adjudicated(cell) is None:
            given = Counter(value for value in board.votes.by_reader(cell).values() if value in classes)
            if len(given) > 1:
                found[cell] = tuple((name, given[name] / given.total()) for name in classes if given[name])
    return found


def with_soft_labels(project: Project, board: Board, manifest: Manifest) -> tuple[Manifest, str]:
    """Gives cells their soft labels, and adds those that have no agreed label; says so in a sentence.

    Those take part in training alone: their ``label`` is the most frequent class, of equally frequent ones the first.

    Args:
        manifest: Of the agreed labels, whose classes count.
    """
    shares = shares_of(project, board, manifest.classes)
    if not shares:
        return manifest, "Soft labels: there is no training cell on which readers differ and nobody decided."
    by_name = {project.names[cell]: of_cell for cell, of_cell in shares.items()}
    kept = tuple(replace(one, shares=by_name.get(one.path, ())) for one in manifest.samples)
    undecided = {
        cell: max(of_cell, key=lambda one: one[1])[0]
        for cell, of_cell in shares.items()
        if board.codes[cell] == UNLABELLED
    }
    samples = manifest_of(project, undecided, subsets=True).samples if undecided else ()
    added = tuple(replace(one, shares=by_name[one.path], is_added=True) for one in samples)
    sentence = (
        f"Soft labels: {counted(len(shares), 'training cell')} on which readers differ and nobody decided "
        f"{'is' if len(shares) == 1 else 'are'} trained on with the share of readers who gave each class, as if there "
        f"once for each class with that weight. {len(undecided)} of them without a majority take part in training "
        "alone, as added images."
    )
    return replace(manifest, samples=(*kept, *added)), sentence
