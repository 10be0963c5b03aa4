"""Draws without a training image of some class, and the methods that cannot do without one; loads no torch."""

from collections.abc import Collection, Sequence

from cytolora.config.run import RunSpec
from cytolora.data.manifest import Sample
from cytolora.models.adapters.methods import METHODS


def needs_every_class(run: RunSpec) -> bool:
    """Whether a run compares with training images of every class."""
    facts = METHODS.get(run.method).head
    return bool(run.transductive) or (facts is not None and facts.needs_every_class)


def absent_class(classes: Sequence[str], train: Collection[Sample]) -> str | None:
    """Returns the first class without a training image, None where each has one."""
    drawn = {sample.label for sample in train}
    return next((label for label in classes if label not in drawn), None)


def in_words(run: RunSpec, label: str) -> str:
    """Says that a run needs a class which its draw lacks, and what to do."""
    name = f"transductive {run.method}" if run.transductive else run.method
    remedy = (
        "Take more shots, or sampling: per_class"
        if run.sampling.sampling == "natural"
        else "Divide the data otherwise, join classes by a label map"
    )
    other = "leave out transductive" if run.transductive else "take another head, such as ss-text or task-residual"
    return (
        f"{name} compares with training images of every class, and {label!r} of {run.dataset} has none "
        f"({run.sampling.amount}, seed {run.seed}). {remedy}, or {other}."
    )
