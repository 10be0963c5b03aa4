"""Choice of groups from file names: names, none or a regular expression."""

import re

from cytolora.errors import ConfigError

NAMES, NONE = "names", "none"
"""Answers to groups suspected by file names: take them, or take none; anything else is a regular expression."""

_MAX_PATTERN = 500


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
