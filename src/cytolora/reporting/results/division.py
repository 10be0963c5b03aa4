"""Group leakage in stored runs: as recorded, or for earlier runs as far as predictions and rules show."""

from collections.abc import Sequence
from dataclasses import fields

from cytolora.config.run import RunSpec
from cytolora.data.grouping import DIVIDED_BY_IMAGE, GROUPS_UNKNOWN, SPLIT_BY_IMAGE, Grouping, torn_unseen, unknown
from cytolora.experiments.stored_run import StoredRun


def group_warnings(spec: RunSpec, runs: Sequence[StoredRun], seen: Grouping | None) -> dict[str, str]:
    """Returns by tag what keeps the test set of a setting from being one of new patients.

    Args:
        spec: That of any run of the setting; all of them share images and division.
        seen: What the predictions show, which lack the training images; None until tested.
    """
    rule = next((recorded for run in runs if (recorded := run.provenance.get("split_rule"))), "")
    counted = next((counts for run in runs if (counts := run.provenance.get("grouping"))), None)
    if counted is not None:
        return Grouping(**{entry.name: counted[entry.name] for entry in fields(Grouping)}).warnings(rule)
    warnings = {} if seen is None else seen.warnings(rule)
    by_image = spec.split.by == "image" and spec.split.file_sha256 is None
    if by_image or DIVIDED_BY_IMAGE in rule:
        warnings = {SPLIT_BY_IMAGE: torn_unseen()} | warnings
    if not any(run.provenance.get("group_rule") for run in runs):
        warnings.setdefault(GROUPS_UNKNOWN, unknown())
    return warnings
