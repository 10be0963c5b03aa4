"""How fit and evaluate print what was measured."""

from typing import Any

from cytolora.cli.console import PlainTable, make_console


def print_metrics(found: dict[str, Any]) -> None:
    """Prints what ``assess`` measured."""
    console = make_console()
    groups = f", {found['num_groups']} groups" if found["num_groups"] else ""
    console.print(f"On {found['n']} images{groups}, in percent, 95 % intervals over {_unit(found)}:")
    for name, interval in found["intervals"].items():
        console.print(f"  {name.replace('_', ' ')}: {100 * found[name]:.1f} {_range(interval)}")
    table = PlainTable("class", "n", "sensitivity", "specificity", no_wrap="class")
    columns = ("sensitivity", "specificity")
    for row in found["classes"]:
        table.add_row(row["label"], str(row["n"]), *(_share(row[name]) for name in columns))
    console.print(table)
    for line in _threshold_lines(found):
        console.print(line)


def _threshold_lines(found: dict[str, Any]) -> list[str]:
    lines, sets, referral, point = [], found["prediction_sets"], found["referral"], found["operating_point"]
    if point is not None:
        lines.append(
            f"Operating point ({', '.join(point['positive'])}, {point['n']} images): sensitivity "
            f"{_share(point['sensitivity'])}, specificity {_share(point['specificity'])}."
        )
    if sets is not None:
        lines.append(
            f"Prediction sets at {100 * sets['nominal']:g} %: {_share(sets['coverage'])} hold the true class, "
            f"{100 * sets['coverage_over_groups']:.1f} on average over groups; {sets['mean_size']:.2f} classes a set."
        )
    rest = referral["error_of_rest"]
    among = "nothing is left to decide alone" if rest is None else f"error among the rest {100 * rest:.1f}"
    lines.append(
        f"Referred to a person: {100 * referral['share']:.1f}, {among}, among all "
        f"{100 * referral['error_of_all']:.1f}; area under the referral curve {referral['curve']['area']:.4f}."
    )
    lines.append(
        f"Unfamiliar: {100 * found['unfamiliar']:.1f}. Calibration error: {100 * found['calibration_error']:.1f}."
    )
    return lines


def _unit(found: dict[str, Any]) -> str:
    return "groups" if any(one["unit"] == "group" for one in found["intervals"].values()) else "images"


def _share(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{100 * found['value']:.1f} {_range(found)}"


def _range(found: dict[str, float]) -> str:
    return f"({100 * found['low']:.1f}–{100 * found['high']:.1f})"
