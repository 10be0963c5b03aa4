"""What no grid may hold: an empty axis, a value named twice, a number that is none, a seed that nothing takes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from cytolora.config.run import GridSpec

_END_OF_SEEDS = 2**63
"""What PyTorch's and NumPy's generators both take."""


def check_axes(grid: "GridSpec") -> None:
    """Raises a ConfigError for the first wrong value of an axis, or of any number in the grid."""
    name = f"Grid {grid.name!r}"
    for axis in ("datasets", "models", "methods", "seeds", "learning_rates"):
        if not getattr(grid, axis):
            raise ConfigError(f"{name} has no {axis}; name at least one.")
    for where, value in _numbers(asdict(grid)):
        if not isfinite(value):
            raise ConfigError(f"{name}: {where} is a finite number, got {value}.")
    for axis in ("datasets", "models", "shots", "fractions", "seeds", "learning_rates"):
        _refuse_doubles(f"{name}: {axis}", getattr(grid, axis))
    for method, spec in grid.methods.items():
        if spec.learning_rates == ():
            raise ConfigError(f"{name}: methods.{method}.learning_rates is empty; name at least one, or leave it out.")
        _refuse_doubles(f"{name}: methods.{method}.learning_rates", spec.learning_rates or ())
    for seed in grid.seeds:
        if not 0 <= seed < _END_OF_SEEDS:
            raise ConfigError(f"{name}: a seed is a whole number from 0 to 2^63 - 1, got {seed}.")


def _refuse_doubles(axis: str, values: Sequence[Any]) -> None:
    """A run that is listed twice is stored once: its group would never be finished."""
    doubled = [value for index, value in enumerate(values) if value in values[:index]]
    if doubled:
        raise ConfigError(f"{axis} name {doubled[0]!r} twice; name each value once.")


def _numbers(plain: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Yields the fractional numbers in plain data, each with the keys that lead to it."""
    if isinstance(plain, float):
        yield where, plain
    elif isinstance(plain, dict):
        for key, inner in plain.items():
            yield from _numbers(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(plain, list | tuple):
        for inner in plain:
            yield from _numbers(inner, where)
