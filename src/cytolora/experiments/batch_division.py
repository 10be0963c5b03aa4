"""Batch division of an adapter run: among processes, and into passes. Loads no torch."""

from collections.abc import Iterable
from dataclasses import dataclass

from cytolora.config.run import RunSpec
from cytolora.core.arguments import check_count
from cytolora.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDivision:
    """What changes a result by rounding alone, and so is part of no run's id."""

    processes: int = 1
    """That train one run together, each on a GPU of its own, or on a share of the CPU's threads."""
    micro_batch: int | None = None
    """Images that one process takes through the encoder together, at most; None: as many as are fastest."""

    def __post_init__(self) -> None:
        check_count(self.processes, "--gpus-per-run")
        if self.micro_batch is not None:
            check_count(self.micro_batch, "--micro-batch")

    def check(self, runs: Iterable[RunSpec]) -> None:
        """Raises a ConfigError unless every batch of adapter runs is divided evenly: else GPUs would wait in turns."""
        for run in runs:
            size = run.train.batch_size
            if run.kind == "adapter" and size % self.processes:
                fitting = ", ".join(str(count) for count in range(1, size + 1) if size % count == 0)
                raise ConfigError(
                    f"--gpus-per-run {self.processes} does not divide the batch of {size} images of {run.run_id}. "
                    f"Choose one of {fitting}."
                )


WHOLE = BatchDivision()
"""One process for a run, in passes as large as are fastest."""
