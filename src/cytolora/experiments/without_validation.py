"""Grids without validation images: every choice has one value."""

from cytolora.config.grid import GridSpec
from cytolora.config.run import HeadSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.methods import METHODS


def check_needs_no_validation(grid: GridSpec, name: str) -> None:
    """Raises a ConfigError if a head of a grid without validation images would choose on them.

    A budget's learning rates and early stopping are checked where the grid is made; what a head chooses, its registry
    entry says.
    """
    spec, head = grid.methods[name], METHODS.get(grid.method_of(name)).head
    if grid.val_shots != 0 or head is None or spec.budget is not None:
        return
    given = spec.head or HeadSpec()
    if given.rates is not None and len(given.rates) > 1:
        raise ConfigError(
            f"Grid {grid.name!r}, {name}: without validation images (val_shots: none) nothing chooses among "
            f"{len(given.rates)} learning rates; give one below `head` (`rates: [{given.rates[0]:g}]`)."
        )
    chosen = head.chosen_on_validation or tuple(head.values)  # a plug-in's entry may not say which: then all
    left = [field for field in chosen if getattr(given, field) is None]
    if head.needs_validation and (left or not chosen):
        cure = f"give {' and '.join(left)} below `head`" if left else "leave it out"
        raise ConfigError(
            f"Grid {grid.name!r}, {name}: it chooses on validation images, and val_shots is none; {cure}, or give "
            "val_shots above 0."
        )
