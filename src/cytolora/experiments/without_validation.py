"""Grids without validation images: every choice has one value."""

from cytolora.config.grid import GridSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.methods import METHODS


def check_needs_no_validation(grid: GridSpec, name: str) -> None:
    """Raises a ConfigError if a head of a grid without validation images would choose on them.

    Learning rates and early stopping are checked where the grid is made; what a head chooses, its registry entry says.
    """
    spec, head = grid.methods[name], METHODS.get(grid.method_of(name)).head
    if grid.val_shots != 0 or head is None or not head.needs_validation or spec.budget is not None:
        return
    left = [field for field in head.values if spec.head is None or getattr(spec.head, field) is None]
    if left or not head.values:
        cure = f"give {' and '.join(left)} below `head`" if left else "leave it out"
        raise ConfigError(
            f"Grid {grid.name!r}, {name}: it chooses on validation images, and val_shots is none; {cure}, or give "
            "val_shots above 0."
        )
