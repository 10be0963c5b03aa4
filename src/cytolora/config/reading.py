"""Choices that a user makes about reading a dataset, where its files leave one."""

import re
from dataclasses import dataclass

from cytolora.errors import ConfigError

NAMES, NONE = "names", "none"
"""Answers to groups suspected by file names: take them, or take none; anything else is a regular expression."""

_MAX_PATTERN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Reading of a dataset; the defaults read it as it stands."""

    group_column: str | None = None
    """Column of the table that names the patient, slide or field; None: ``group``."""
    subset_column: str | None = None
    """Column of the table that names train, val or test; None: ``subset``."""
    groups_from: str | None = None
    """Groups of images that have none: ``names`` takes what their file names suggest, ``none`` refuses it, and a
    regular expression finds the group in the file name; None suspects only."""

    def __post_init__(self) -> None:
        if self.groups_from is not None:
            check_groups_from(self.groups_from)


def check_groups_from(text: str) -> None:
    """Raises a ConfigError unless the text is ``names``, ``none`` or a regular expression with at most one group."""
    if text in (NAMES, NONE):
        return
    lead = "Groups are taken from `names`, from `none`, or by a regular expression"
    if not text or len(text) > _MAX_PATTERN:
        raise ConfigError(f"{lead} of 1 to {_MAX_PATTERN} characters, got {len(text)} (--groups-from).")
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{lead}; {text!r} is none: {error} (--groups-from).") from error
    if pattern.groups > 1:
        raise ConfigError(
            f"{lead} with one capturing group or none; {text!r} has {pattern.groups} (--groups-from). Write the others "
            "as (?:...)."
        )


AS_IT_STANDS = ReadOptions()
