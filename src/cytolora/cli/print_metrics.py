"""Prints test metrics for `fit` and `evaluate`."""

from typing import TYPE_CHECKING, Any

from cytolora.cli.console import PlainTable, make_console
from cytolora.core.text import counted
from cytolora.display.format import (
    interval,
    member_cells,
    over_divisions_in_words,
    percent,
    whole_percent,
    with_interval,
)

if TYPE_CHECKING:
    from cytolora.classifier.decision.statement import Statement


def print_metrics(found: dict[str, Any]) -> None:
    """Prints what ``assess`` measured."""
    from cytolora.metrics.intervals import LEGEND  # loads numpy

    console = make_console()
    groups = f", {counted(found['num_groups'], 'group')}" if found["num_groups"] else ""
    console.print(f"On {counted(found['n'], 'image')}{groups}, in percent, 95 % intervals over {_unit(found)}:")
    console.print(LEGEND)
    for name, bounds in found["intervals"].items():
        console.print(f"  {name.replace('_', ' ')}: {percent(found[name])} ({interval(bounds)})")
    table = PlainTable("class", "n", "sensitivity", "specificity", no_wrap="class")
    columns = ("sensitivity", "specificity")
    for row in found["classes"]:
        table.add_row(row["label"], str(row["n"]), *(with_interval(row[name]) for name in columns))
    console.print(table)
    for line in _threshold_lines(found):
        console.print(line)


def print_statement(statement: "Statement") -> None:
    """Prints whether the classifier does what was asked, and by which numbers."""
    console = make_console()
    console.print(f"{statement.title}:")
    for one in statement.criteria:
        console.print(f"  {one.answer}: {one.text}")


def print_members(members: list[dict[str, Any]]) -> None:
    """Prints the members of an ensemble, and by how much it scores higher than each."""
    console = make_console()
    console.print("The ensemble minus each member on the same test images, in points, with 95 % intervals:")
    table = PlainTable("member", "weight", "balanced accuracy", "difference", "p (Holm)", no_wrap="member")
    for row in members:
        table.add_row(*member_cells(row))
    console.print(table)


def print_repeats(repeated: dict[str, Any]) -> None:
    """Prints what repeated divisions gave."""
    console = make_console()
    number = repeated["num_divisions"]
    console.print(f"Over {number} divisions, that of the bundle among them, in percent, ± standard deviation:")
    for name in ("accuracy", "balanced_accuracy"):
        console.print(f"  {name.replace('_', ' ')}: {over_divisions_in_words(repeated[name])}")


def print_readers(found: dict[str, Any]) -> None:
    """Prints the agreement of readers on test cells, and of the classifier with each of them."""
    from cytolora.classifier.fit.readers import in_words  # loads numpy

    console = make_console()
    console.print("Agreement on test cells (Cohen's kappa, 95 % interval over groups):")
    for line in in_words(found):
        console.print(f"  {line}")


def _threshold_lines(found: dict[str, Any]) -> list[str]:
    lines, sets, referral, point = [], found["prediction_sets"], found["referral"], found["operating_point"]
    if point is not None:
        lines.append(
            f"Operating point ({', '.join(point['positive'])}, {counted(point['n'], 'image')}): sensitivity "
            f"{with_interval(point['sensitivity'])} over images, {with_interval(point['sensitivity_over_groups'])} "
            f"over groups; specificity {with_interval(point['specificity'])}."
        )
    if sets is not None:
        over_groups, size = percent(sets["coverage_over_groups"]), f"{sets['mean_size']:.2f}"
        lines.append(
            f"Prediction sets at {whole_percent(sets['nominal'])}: {with_interval(sets['coverage'])} hold the true "
            f"class, {over_groups} on average over groups; {size} classes a set."
        )
    rest = referral["error_of_rest"]
    among = "nothing is left to decide alone" if rest is None else f"error among the rest {percent(rest)}"
    lines.append(
        f"Referred to a person: {percent(referral['share'])}, {among}, among all "
        f"{percent(referral['error_of_all'])}; area under the referral curve {referral['curve']['area']:.4f}."
    )
    lines.append(f"Out-of-distribution: {percent(found['unfamiliar'])}.")
    lines.append(f"Expected calibration error: {percent(found['calibration_error'])}.")
    return lines


def _unit(found: dict[str, Any]) -> str:
    return "groups" if any(one["unit"] == "group" for one in found["intervals"].values()) else "images"
