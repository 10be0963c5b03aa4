"""Classes that are their source, from labels and groups alone: slides of theirs hold no other class."""

from collections.abc import Iterable, Sequence

import numpy as np

from cytolora.core.findings import Finding, finding
from cytolora.data.manifest import Sample
from cytolora.metrics.confounding import Purity, purities


def classes_that_are_their_source(samples: Sequence[Sample], classes: Sequence[str]) -> list[Finding]:
    """Returns the finding on classes whose groups hold no other class, while groups of others are mixed."""
    if not any(sample.group is not None for sample in samples):
        return []
    index = {label: place for place, label in enumerate(classes)}
    labels = np.array([index[sample.label] for sample in samples], dtype=np.int64)
    return confounded(purities(labels, [sample.group for sample in samples], classes))


def confounded(classes: Iterable[Purity]) -> list[Finding]:
    """Returns the finding on those of the classes that are their source; none where none is."""
    tied = [one for one in classes if one.is_source]
    if not tied:
        return []
    cases = [
        f"{one.label} (alone in {round(one.share_alone * one.num_groups)} of {one.num_groups} groups)" for one in tied
    ]
    which = "A class is its source" if len(tied) == 1 else "Classes are their source"
    text = (
        f"{which}: {', '.join(cases)}, while groups of other classes are mixed; a classifier can be right on "
        f"{'it' if len(tied) == 1 else 'them'} by reading the slide."
    )
    return [finding("N841", text, count=len(tied), examples=[one.label for one in tied])]
