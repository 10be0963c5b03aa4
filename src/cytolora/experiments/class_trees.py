"""Class trees of a grid's datasets: hierarchical heads are refused where classes have none."""

from cytolora.config.grid import GridSpec
from cytolora.config.run import TREE_HEADS
from cytolora.data.datasets import DATASETS
from cytolora.errors import ConfigError


def check_has_tree(grid: GridSpec, name: str) -> None:
    """Refuses a head that reads a tree of classes with a dataset that has none, before anything is read.

    Raises:
        ConfigError: If a dataset of the grid has none, or a label map leaves none.
    """
    if grid.method_of(name) not in TREE_HEADS:
        return
    without = [dataset for dataset in grid.datasets if not _has_tree(dataset)]
    if without or grid.label_map_sha256:
        which = f"{', '.join(without)} has none" if without else "a label map leaves none"
        able = ", ".join(sorted(spec.name for spec in DATASETS if spec.tree))
        raise ConfigError(f"{name} needs classes in a tree, and {which}. Datasets with one: {able}.")


def _has_tree(dataset: str) -> bool:
    base, _, label_set = dataset.partition(":")
    spec = DATASETS.get(base)
    return bool(spec.label_sets[label_set].tree if label_set in spec.label_sets else spec.tree)
