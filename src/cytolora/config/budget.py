"""Length of training: budget and early stopping; imported from config/run.py."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from cytolora.core.schema import check_fields, whole
from cytolora.errors import ConfigError

CLOSED = {"extra": "forbid"}
"""Read by pydantic at the YAML edge (config/yaml.py): an unknown key is an error, never ignored."""

MAX_COUNT = 1_000_000_000
"""Of steps and epochs; a larger number is a slip of the pen, and ends never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Validation after every epoch: training ends when accuracy has not risen for some epochs; the best one is kept.

    The rule of the LoRA code of Dausort et al.'s later benchmark (github.com/mdausort/Cytology_Benchmark, run_lora): an
    epoch is better where its accuracy is strictly higher than that of all before it.
    """

    patience: int = 10
    """Epochs in a row without a higher validation accuracy that end training, at least 1."""
    uncounted_epochs: int = 10
    """First epochs, of which none counts towards ``patience``; the best of them may be kept all the same."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.patience < 1 or self.uncounted_epochs < 0:
            raise ConfigError(
                "early_stopping needs a patience of at least 1 epoch and uncounted_epochs of at least 0, got "
                f"{self.patience} and {self.uncounted_epochs}."
            )
        check_fields(self, dict.fromkeys(("patience", "uncounted_epochs"), whole(0, MAX_COUNT)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Length of training, with its unit."""

    amount: int
    unit: Literal["epochs", "steps_per_shot"]
    plus_steps: int = 0
    """Added to the product; the paper's public code trains 50 x shots + 50 steps."""
    max_steps: int | None = None
    """Truncates the budget, for dry runs; the report marks every run that has it."""
    early_stopping: EarlyStopping | None = None
    """May end training before; None trains to the end and keeps the last iterate."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.amount < 1 or self.plus_steps < 0 or (self.max_steps is not None and self.max_steps < 1):
            raise ConfigError(f"A budget needs amount >= 1, plus_steps >= 0 and max_steps >= 1 or none, got {self}.")

        counts = ("amount", "plus_steps", "max_steps")
        check_fields(self, dict.fromkeys(counts, whole(0, MAX_COUNT)))

    def num_steps(self, *, num_train: int, batch_size: int, shots: int | None) -> int:
        """Optimiser steps of a run that sees ``num_train`` images in batches of ``batch_size``."""
        if self.unit == "steps_per_shot":
            if shots is None:
                raise ConfigError(
                    "A budget in steps_per_shot needs shots; for fractions or all images give one in epochs."
                )
            steps = self.amount * shots + self.plus_steps
        else:
            steps = self.amount * ceil(num_train / batch_size) + self.plus_steps
        return steps if self.max_steps is None else min(steps, self.max_steps)
