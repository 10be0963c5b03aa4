"""Class facts of registered datasets: order of severity, class tree, and other label sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cytolora.config.run import RunSpec
from cytolora.data.datasets import find_dataset
from cytolora.errors import ConfigError
from cytolora.reporting.results.published import references


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFacts:
    """Of one dataset under one label set; empty fields where nothing is known."""

    order: tuple[str, ...] = ()
    """From the least to the most severe."""
    order_source: str = ""
    tree: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By class, its ancestors from the coarsest level down, and itself."""
    restrictions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By label set that a published result was measured on: the indices of its classes, where ours hold them all."""


def class_facts(spec: RunSpec, classes: Sequence[str]) -> ClassFacts:
    """Looks the classes of a run up; mapped labels and data of one's own have no known order or tree."""
    if spec.label_map_sha256 is not None:
        return ClassFacts()
    try:
        known = find_dataset(spec.dataset)
    except ConfigError:  # a reader that another machine had
        return ClassFacts()
    fits = set(known.classes) == set(classes)
    return ClassFacts(
        order=known.order if fits else (),
        order_source=known.order_source if fits else "",
        tree=known.tree if fits else {},
        restrictions=_restrictions(spec.dataset, classes),
    )


def _restrictions(dataset: str, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found = {}
    for reference in references(dataset.partition(":")[0]):
        theirs = find_dataset(reference.dataset).classes
        if set(theirs) <= set(classes):
            found[reference.dataset] = tuple(list(classes).index(name) for name in theirs)
    return found
