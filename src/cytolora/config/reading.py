"""Choices that a user makes about reading a dataset, where its files leave one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Reading of a dataset; the defaults read it as it stands."""

    group_column: str | None = None
    """Column of the table that names the patient, slide or field; None: ``group``."""
    subset_column: str | None = None
    """Column of the table that names train, val or test; None: ``subset``."""


AS_IT_STANDS = ReadOptions()
