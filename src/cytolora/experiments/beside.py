"""Nearest neighbours and nearest mean beside linear heads, scored once for all seeds that draw the same images."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.config.run import RunSpec
from cytolora.data.manifest import Sample
from cytolora.training.adapt import labelled
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.neighbours import choose_k, score_neighbours
from cytolora.training.session import Session

Scores = dict[str, Any]


def val_scores(session: Session, run: RunSpec) -> Scores:
    """Scores what needs no training on the draw of a linear head, with the number of neighbours that val chooses."""

    def score() -> Scores:
        compared = _known_and(session, run, session.split(run).val)
        k = choose_k(*compared)
        scores = score_neighbours(*compared, k=k)
        return {
            "knn": {"k": k, "val": scores["knn"], "test": None},
            "nearest_mean": {"val": scores["nearest_mean"], "test": None},
        }

    return _once(session, run, "val", None, score)


def test_scores(session: Session, run: RunSpec, k: int) -> Scores:
    """Scores the test set by method."""
    return _once(
        session, run, "test", k, lambda: score_neighbours(*_known_and(session, run, session.split(run).test), k=k)
    )


def num_pairs(session: Session, run: RunSpec, subset: Literal["val", "test"]) -> int:
    """Counts the pairs of images that scoring compares; 0 where a run of the same draw was scored."""
    if any(key[:3] == _draw(session, run, subset) for key in session.scores_beside):
        return 0
    split = session.split(run)
    return len(split.train) * (2 * len(split.val) if subset == "val" else len(split.test))


def _draw(session: Session, run: RunSpec, subset: Literal["val", "test"]) -> tuple[Any, ...]:
    return run.preprocess, session.split(run).fingerprint, subset


def _once(
    session: Session, run: RunSpec, subset: Literal["val", "test"], k: int | None, score: Callable[[], Scores]
) -> Scores:
    key = (*_draw(session, run, subset), k)
    if key not in session.scores_beside:
        session.scores_beside[key] = score()
    return session.scores_beside[key]


def _known_and(
    session: Session, run: RunSpec, others: Sequence[Sample]
) -> tuple[Labelled, Float32[Tensor, "queries features"], Int64[Tensor, " queries"]]:
    beside = labelled(session, run, others)
    return labelled(session, run, session.split(run).train), beside.features, beside.labels
