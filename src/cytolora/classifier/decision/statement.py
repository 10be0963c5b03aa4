"""Plain statement: whether a classifier does what was asked of it, by its metrics on labelled images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.decision.rules import DecisionRules, OperatingPoint
from cytolora.core.text import counted
from cytolora.display.format import interval, percent, whole_percent

Answer = Literal["yes", "no", "too few labels"]

MOST_REFERRED = 0.5
"""Share of the images that may be referred to a person: deciding fewer than half of them saves little work."""

TITLES: Mapping[Answer, str] = {
    "yes": "Meets what was asked",
    "no": "Does not meet what was asked",
    "too few labels": "Too few labels to tell",
}

_LIMIT = whole_percent(MOST_REFERRED)
RULE = (
    "The answer is yes where the whole 95 % interval lies on the right side of the limit, no where all of it lies on "
    "the wrong side, and too few labels to tell where the limit is inside it. Limits: the sensitivity that was asked "
    "for the classes that must not be missed, over groups; the balanced accuracy of naming the most frequent class "
    "every time, which is 1 / number of classes among the images; and "
    f"{_LIMIT} of the images referred to a person. One no makes a no; else one too few labels makes too few labels."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that was asked, and what the labelled images say of it."""

    name: str
    answer: Answer
    text: str
    """One sentence with the number, its interval and the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The answer that all criteria give together."""

    criteria: tuple[Criterion, ...]

    @property
    def answer(self) -> Answer:
        """No where one criterion says no, else too few labels where one says so, else yes."""
        answers = {one.answer for one in self.criteria}
        if "no" in answers:
            return "no"
        return "too few labels" if "too few labels" in answers else "yes"

    @property
    def title(self) -> str:
        """The answer in words."""
        return TITLES[self.answer]

    def plain(self) -> dict[str, Any]:
        """Returns the answers and sentences for JSON."""
        criteria = [{"name": one.name, "answer": one.answer, "text": one.text} for one in self.criteria]
        return {"answer": self.answer, "title": self.title, "criteria": criteria}


def state(metrics: Mapping[str, Any], rules: DecisionRules) -> Statement:
    """Judges the metrics of ``inference.metrics.assess`` on images that decided nothing.

    Args:
        metrics: ``test``, and ``too_few_groups`` where an operating point was asked for that could not be had.
    """
    test = metrics["test"]
    return Statement(
        criteria=(*_sensitivity(metrics, rules), _gain(test), *_referral(test, rules)),
    )


def _sensitivity(metrics: Mapping[str, Any], rules: DecisionRules) -> Iterator[Criterion]:
    name, point = "Sensitivity", rules.operating_point
    if "too_few_groups" in metrics:
        yield Criterion(name=name, answer="too few labels", text=metrics["too_few_groups"]["text"])
    if point is None:
        return
    test, classes = metrics["test"], ", ".join(point.positive)
    measured = test["operating_point"]
    found = measured.get("sensitivity_over_groups", measured["sensitivity"])  # a bundle before has that over images
    if found is None:
        text = f"None of the labelled images shows {classes}, of which {whole_percent(point.asked)} were to be found."
        yield Criterion(name=name, answer="too few labels", text=text)
        return
    is_over_groups = test.get("num_groups") and found is not measured["sensitivity"]
    text = (
        f"Finds {_percents(found)} of {classes} as positive{', on average over groups' if is_over_groups else ''}; "
        f"{whole_percent(point.asked)} were asked{_promised(point)}."
    )
    yield Criterion(name=name, answer=_above(found, point.asked), text=text)


def _promised(point: OperatingPoint) -> str:
    """Says so where less was taken than asked, as calibration groups were too few to promise more."""
    if point.promised is None or point.promised >= point.asked or point.num_groups is None:
        return ""
    groups = counted(point.num_groups, "calibration group")
    return f", and {groups} can promise {percent(point.promised)} %"


def _gain(test: Mapping[str, Any]) -> Criterion:
    numbers = {row["label"]: row["n"] for row in test["classes"] if row["n"]}
    if len(numbers) < 2:  # whoever names it every time is always right
        text = f"All labelled images show {', '.join(numbers)}; telling classes apart takes images of two or more."
        return Criterion(name="Gain", answer="too few labels", text=text)
    frequent, blind = max(numbers, key=lambda label: numbers[label]), 1 / len(numbers)
    found = {**test["intervals"]["balanced_accuracy"], "value": test["balanced_accuracy"]}
    text = (
        f"Balanced accuracy {_percents(found)}; naming {frequent}, the most frequent class, every time would have "
        f"{percent(blind)} %."
    )
    return Criterion(name="Gain", answer=_above(found, blind), text=text)


def _referral(test: Mapping[str, Any], rules: DecisionRules) -> Iterator[Criterion]:
    found, sets = test.get("referral", {}).get("interval"), rules.conformal
    if found is None:  # of a bundle before the interval was kept
        return
    text = f"Refers {_percents(found)} of the images to a person; the limit is {_LIMIT}."
    answer: Answer = _above({key: 1 - found[other] for key, other in _TURNED.items()}, 1 - MOST_REFERRED)
    if sets is not None and answer != "yes" and sets.num_groups < needed_groups(sets.coverage):
        groups = counted(sets.num_groups, "calibration group")
        text += f" It cannot refer fewer with {groups}: {needed_groups(sets.coverage)} are needed at least."
        answer = "too few labels"
    yield Criterion(name="Referral", answer=answer, text=text)


_TURNED = {"low": "high", "high": "low"}
"""The interval of the share that is not referred, from that of the share that is."""


def _above(found: Mapping[str, float], limit: float) -> Answer:
    if found["low"] >= limit:
        return "yes"
    return "no" if found["high"] < limit else "too few labels"


def _percents(found: Mapping[str, Any]) -> str:
    return f"{percent(found['value'])} % ({interval(found)})"
