"""Leave-one-site-out: the cells of one metadata value (scanner, stain, site) are the test set, whole groups."""

from collections.abc import Iterable
from dataclasses import dataclass

from cytolora.config.leave_out import column_and_value
from cytolora.core.findings import RefusedDataError, first
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import ConfigError

_MAX_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The images of the test set, and why they are there."""

    paths: frozenset[str]
    in_words: str


def left_out(manifest: Manifest, leave_out: str, *, by_group: bool, with_copies: bool) -> LeftOut:
    """Finds the images with a metadata value, and all that no test set may be parted from.

    A slide that two scanners recorded stands in the test set of either of them, whole: no group is in two subsets.

    Args:
        leave_out: ``COLUMN=VALUE``.
        by_group: Whether images of the same group are taken too.
        with_copies: Whether byte-equal files are taken too, and then their groups.

    Raises:
        ConfigError: If no image has such a column, or such a value.
        RefusedDataError: If the others lack a class.
    """
    column, value = column_and_value(leave_out)
    held = {sample.path for sample in manifest.samples if dict(sample.metadata).get(column) == value}
    if not held:
        raise _unknown(manifest, column, value)
    taken = _closed(manifest.samples, held, by_group=by_group, with_copies=with_copies)
    others = {sample.label for sample in manifest.samples if sample.path not in taken}
    if missing := [label for label in manifest.classes if label not in others]:
        raise RefusedDataError(
            "L404",
            f"{manifest.name}: without {leave_out} no image of class {missing[0]!r} is left to train on. Leave out "
            "another value, or merge classes with a label map.",
        )
    more = len(taken) - len(held)
    beside = f", and {more} others of the same groups or files" if more else ""
    given = " in place of the dataset's own subsets" if any(sample.subset for sample in manifest.samples) else ""
    unknown = sum(column not in dict(one.metadata) for one in manifest.samples if one.path not in taken)
    rest = f"; {unknown} others, of which no {column} is known, are not tested and may be of it" if unknown else ""
    in_words = f"test: {len(held)} images of {column} {value}{beside}{given}{rest}; "
    return LeftOut(paths=frozenset(taken), in_words=in_words)


def _closed(samples: Iterable[Sample], held: set[str], *, by_group: bool, with_copies: bool) -> set[str]:
    """Adds images that share a group or a file with one that is taken, until there are no more."""
    samples, taken = list(samples), set(held)
    while True:
        inside = [sample for sample in samples if sample.path in taken]
        groups = {sample.group for sample in inside if by_group} - {None}
        files = {sample.sha256 for sample in inside if with_copies} - {""}
        found = {sample.path for sample in samples if sample.group in groups or sample.sha256 in files}
        if found <= taken:
            return taken
        taken |= found


def _unknown(manifest: Manifest, column: str, value: str) -> ConfigError:
    values = {found for sample in manifest.samples if (found := dict(sample.metadata).get(column))}
    if not values:
        columns = manifest.metadata_names
        known = f"it has {', '.join(columns)}" if columns else "it has none: list the images in a table with such a one"
        return ConfigError(f"{manifest.name}: no metadata column {column!r}; {known}.")
    named = sorted(values)
    cases = ", ".join(named) if len(named) <= _MAX_NAMED else first(named)
    return ConfigError(f"{manifest.name}: no image has the {column} {value!r}; its values are {cases}.")
