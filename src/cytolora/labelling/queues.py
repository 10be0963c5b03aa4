"""Queues of an open project: next cells by the mixture, test cells, suspected mistakes and blind second readings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from cytolora.core.files import sha256_text
from cytolora.errors import unknown_name
from cytolora.labelling.board import Board
from cytolora.labelling.drawing import (
    Drawn,
    Reason,
    by_doubt,
    coverage_order,
    mixed,
    rare_cells,
    seeded_order,
    sentence,
)
from cytolora.labelling.features import Features
from cytolora.labelling.project import Project
from cytolora.labelling.refit import Refit, suspected_mistakes

QueueKind = Literal["next", "test", "mistakes", "second"]

_NUM_COVERED = 300
"""Cells that are ordered by coverage: more labels than that are there before a classifier is never."""
_NUM_FIRST = 48
"""Of them, ordered before the page has anything to show; the others when a queue comes to them."""


@dataclass(kw_only=True)
class Queues:
    """What cells are drawn from; one for each refit, so that its orders are computed once."""

    project: Project
    board: Board
    features: Features | None
    fitted: Refit | None

    @cached_property
    def _begin(self) -> list[int]:
        """Training cells in the order of the first labels; with features the beginning of ``_first``."""
        allowed = np.flatnonzero(self._may_train)
        if self.features is None:
            return seeded_order(allowed.tolist(), self.project.units, seed=self.project.about.seed)
        return self._covering(_NUM_FIRST)

    @cached_property
    def _first(self) -> list[int]:
        return self._begin if self.features is None else self._covering(_NUM_COVERED)

    def _covering(self, number: int) -> list[int]:
        assert self.features is not None
        allowed, seed = np.flatnonzero(self._may_train), self.project.about.seed
        return coverage_order(self.features, allowed, self.project.unit_index, number=number, seed=seed)

    @property
    def _may_train(self) -> Bool[np.ndarray, " cells"]:
        return ~self.project.is_test & self.board.is_usable

    @cached_property
    def _training_labels(self) -> Int64[np.ndarray, " classes"]:
        of_class = list(self.board.training().values())
        return np.bincount(np.array(of_class, dtype=np.int64), minlength=len(self.project.about.classes))

    @cached_property
    def _mistakes(self) -> list[int]:
        if self.fitted is None:
            return []
        return [cell for _, cell in suspected_mistakes(self.fitted, self.board.training())]

    def prepare(self, number: int) -> None:
        """Computes what is slow, once: nobody has to wait for it who does not draw ``number`` cells."""
        if self.fitted is None and np.count_nonzero(~self.board.is_held[self._begin]) < number:
            _ = self._first

    def draw(self, reader: str, number: int, kind: str) -> list[Drawn]:
        """Returns the next cells of a queue, at most ``number``.

        Raises:
            ConfigError: If the kind is unknown.
        """
        chosen: list[tuple[int, Reason]]
        if kind == "next":
            chosen = self._mixture(number)
        elif kind == "test":
            chosen = [(cell, "test") for cell in self._test()]
        elif kind == "mistakes":
            chosen = [] if self.fitted is None else [(cell, "mistakes") for cell in self._suspected()]
        elif kind == "second":
            chosen = [(cell, "second") for cell in self._second(reader)]
        else:
            raise unknown_name("queue", kind, ("next", "test", "mistakes", "second"))
        return [
            Drawn(cell=cell, reason=reason, why=self._why(reader, cell, reason)) for cell, reason in chosen[:number]
        ]

    def _mixture(self, number: int) -> list[tuple[int, Reason]]:
        parts = self.project.about.mixture
        allowed = self._may_train & ~self.board.is_held
        own = max(1 - parts["mistakes"] - parts["rare"] - parts["test"], 0.0)
        if self.fitted is None or self.features is None:
            begin = [cell for cell in self._begin if allowed[cell]]
            first = begin if len(begin) >= number else (cell for cell in self._first if allowed[cell])
            shares: dict[Reason, float] = {"coverage": 1 - parts["test"], "test": parts["test"]}
            return mixed({"coverage": first, "test": self._test()}, shares, number)
        total = parts["doubt"] + parts["diversity"]
        doubtful = by_doubt(
            self.fitted.doubt,
            self.features,
            allowed,
            self.project.unit_index,
            number=number,
            diversity=parts["diversity"] / total if total else 0.5,
        )
        rare = rare_cells(
            self.fitted.predictions, self.fitted.probabilities, self._training_labels, allowed, number=number
        )
        sources: dict[Reason, Iterable[int]] = {
            "doubt": doubtful,
            "mistakes": self._suspected(),
            "rare": rare,
            "test": self._test(),
        }
        shares = {"doubt": own, "mistakes": parts["mistakes"], "rare": parts["rare"], "test": parts["test"]}
        return mixed(sources, shares, number)

    def _test(self) -> Iterator[int]:
        """Yields test cells that nobody labelled, in the order of drawing."""
        board = self.board
        return (cell for cell in self.project.order.tolist() if board.is_usable[cell] and not board.is_held[cell])

    def _suspected(self) -> list[int]:
        """Returns suspected mistakes, the clearest first, without those that were changed or confirmed since."""
        assert self.fitted is not None
        held_out, codes, votes = self.fitted.held_out, self.board.codes, self.board.votes
        return [
            cell
            for cell in self._mistakes
            if codes[cell] >= 0 and codes[cell] != held_out[cell].argmax() and not votes.is_confirmed(cell)
        ]

    def _second(self, reader: str) -> list[int]:
        """Returns cells that others labelled and the reader did not, in an order of chance."""
        votes, seed = self.board.votes, self.project.about.seed
        held = np.flatnonzero(self.board.is_held & self.board.is_usable).tolist()
        open_ones = [cell for cell in held if votes.of_reader(reader, cell) is None]
        return sorted(open_ones, key=lambda cell: sha256_text(f"{seed}:second:{self.project.names[cell]}"))

    def is_blind(self, reader: str, cell: int) -> bool:
        """Whether the reader is shown no prediction: of test cells, and of those that others alone labelled."""
        votes = self.board.votes
        others = bool(votes.by_reader(cell)) or votes.adjudicated(cell) is not None
        return bool(self.project.is_test[cell]) or (others and votes.shown(reader, cell) is None)

    def _why(self, reader: str, cell: int, reason: Reason) -> str:
        if reason == "mistakes" and self.is_blind(reader, cell):
            return sentence("second")  # the class that it looks like would tell which it was not given
        if self.fitted is None or reason in ("test", "second", "coverage"):
            return sentence(reason)
        classes, code = self.project.about.classes, int(self.board.codes[cell])
        held_out = self.fitted.held_out
        by_class = held_out[cell] if cell in held_out else self.fitted.probabilities[cell]
        looks_like = int(by_class.argmax())
        return sentence(
            reason,
            prediction=classes[looks_like],
            doubt=float(self.fitted.doubt[cell]),
            label=classes[code] if code >= 0 else "",
            in_class=int(self._training_labels[looks_like]),
        )
