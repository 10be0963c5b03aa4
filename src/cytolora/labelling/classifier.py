"""Classifier of an open project: fitted again and again to the features of the encoder that answers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from cytolora.labelling.apart import Apart
from cytolora.labelling.encoders import Encoders
from cytolora.labelling.features import Space
from cytolora.labelling.project import Project
from cytolora.labelling.refit import Refit, prepare, refit, refit_file
from cytolora.labelling.turns import Turn


class Classifier:
    """The last refit, and what computes the next."""

    def __init__(self, project: Project, *, cache: Path, device: str, is_apart: bool) -> None:
        """Fits nothing yet.

        Args:
            cache: Of decoded images, for LoRA.
            device: For LoRA.
            is_apart: Fits, forecasts and trains LoRA in a process of its own each.

        Raises:
            DataError: If what an earlier LoRA wrote is damaged.
        """
        self._project = project
        self._number = 0
        self.apart = Apart() if is_apart else None
        self._forecaster = Apart("makes the forecast", "ask for it again then") if is_apart else None
        self._forecast_turn = Turn("A forecast is being made already. Ask again when it is there.")
        self.encoders = Encoders(project, cache=cache, device=device, is_apart=is_apart)
        self.fitted: Refit | None = None

    def prepare(self) -> None:
        """Loads what a refit computes with.

        Raises:
            EngineError: If a process of its own cannot be started.
        """
        if self.apart is None:
            prepare()
        else:
            self.apart.start()

    def fit(
        self, space: Space, training: Mapping[int, int], is_usable: Bool[np.ndarray, " cells"], *, counts: bool = True
    ) -> Refit | None:
        """Fits to labelled cells; None where fewer than two classes are labelled.

        Args:
            training: Class index by cell.
            counts: Numbers the refit; else it is one that nobody is shown.
        """
        cells, units = list(training), self._project.units
        given = (
            is_usable,
            cells,
            [training[cell] for cell in cells],
            [units[cell] for cell in cells],
            len(self._project.about.classes),
            space.seen,
        )
        apart = self.apart
        found = refit(space.features, *given) if apart is None else apart.call(refit_file, space.path, *given)
        if found is None or not counts:
            return found
        self._number += 1
        return replace(found, number=self._number, encoder=space.encoder)

    @contextmanager
    def forecaster(self) -> Iterator[Apart | None]:
        """Gives the process that makes a forecast, so that no refit waits for it; None: this one makes it.

        It ends with the block: its memory is not kept for a forecast that may never be asked for.

        Raises:
            UnderWayError: If a forecast is being made.
        """
        with self._forecast_turn.taken():
            try:
                yield self._forecaster
            finally:
                if self._forecaster is not None:
                    self._forecaster.stop()

    def close(self) -> None:
        """Ends what computes."""
        self.encoders.close()
        if self._forecaster is not None:
            self._forecaster.close()
        if self.apart is not None:
            self.apart.close()
