"""Plain statement of a fit: yes, no or too few labels, by the intervals of its test metrics."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cytolora.classifier.decision.rules import Conformal, DecisionRules, OperatingPoint
from cytolora.classifier.decision.statement import Answer, state


def _share(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def _metrics(*, sensitivity=(0.97, 0.95, 0.99), gain=(0.8, 0.7, 0.9), referred=(0.2, 0.1, 0.3)) -> dict[str, Any]:
    return {
        "test": {
            "num_groups": 40,
            "balanced_accuracy": gain[0],
            "intervals": {"balanced_accuracy": {"low": gain[1], "high": gain[2]}},
            "classes": [{"label": "nilm", "n": 90}, {"label": "hsil", "n": 10}],
            "operating_point": {"sensitivity_over_groups": _share(*sensitivity), "sensitivity": _share(0.9, 0.8, 1.0)},
            "referral": {"interval": _share(*referred)},
        }
    }


def _rules(*, num_groups: int = 30) -> DecisionRules:
    point = OperatingPoint(
        positive=("hsil",),
        asked=0.95,
        threshold=0.3,
        sensitivity=1.0,
        sensitivity_low=0.9,
        sensitivity_high=1.0,
        specificity=1.0,
        specificity_low=0.9,
        specificity_high=1.0,
        num_positive=50,
    )
    sets = Conformal(coverage=0.9, quantile=0.5, num_groups=num_groups)
    return DecisionRules(classes=("nilm", "hsil"), temperature=1.0, operating_point=point, conformal=sets)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, "yes"),
        ({"sensitivity": (0.96, 0.90, 0.99)}, "too few labels"),
        ({"sensitivity": (0.80, 0.70, 0.90)}, "no"),
        ({"gain": (0.55, 0.40, 0.70)}, "too few labels"),
        ({"gain": (0.40, 0.30, 0.49)}, "no"),
        ({"referred": (0.88, 0.80, 0.95)}, "no"),
        ({"referred": (0.50, 0.40, 0.60)}, "too few labels"),
        ({"referred": (0.88, 0.80, 0.95), "sensitivity": (0.96, 0.90, 0.99)}, "no"),
    ],
)
def test_the_answer_is_where_the_interval_lies_beside_the_limit(changed: Mapping[str, Any], answer: Answer):
    assert state(_metrics(**changed), _rules()).answer == answer


def test_referral_for_want_of_calibration_groups_is_too_few_labels_and_names_what_is_needed():
    found = state(_metrics(referred=(1.0, 0.9, 1.0)), _rules(num_groups=3))
    assert found.answer == "too few labels"
    assert found.criteria[-1].text.endswith("It cannot refer fewer with 3 calibration groups: 9 are needed at least.")


def test_every_number_stands_beside_its_limit():
    texts = [one.text for one in state(_metrics(), _rules()).criteria]
    assert texts == [
        "Finds 97.0 % (95.0–99.0) of hsil as positive, on average over groups; 95 % were asked.",
        "Balanced accuracy 80.0 % (70.0–90.0); naming nilm, the most frequent class, every time would have 50.0 %.",
        "Refers 20.0 % (10.0–30.0) of the images to a person; the limit is 50 %.",
    ]


def test_classes_without_a_test_image_do_not_lower_what_is_expected():
    metrics = _metrics(gain=(0.8, 0.7, 0.9))
    metrics["test"]["classes"].append({"label": "scc", "n": 0})
    assert "would have 50.0 %" in state(metrics, _rules()).criteria[1].text


def test_images_of_one_class_tell_nothing_of_a_gain():
    metrics = _metrics(gain=(0.9, 0.8, 0.95))
    metrics["test"]["classes"][1]["n"] = 0
    found = state(metrics, _rules()).criteria[1]
    assert found.answer == "too few labels"
    assert found.text == "All labelled images show nilm; telling classes apart takes images of two or more."


def test_a_lower_sensitivity_that_was_taken_stands_beside_what_was_asked():
    rules = _rules()
    point = replace(rules.operating_point, promised=0.75, num_groups=3)  # type: ignore[type-var]
    text = state(_metrics(), replace(rules, operating_point=point)).criteria[0].text
    assert text.endswith("; 95 % were asked, and 3 calibration groups can promise 75.0 %.")


def test_nothing_is_said_of_groups_where_none_are_known_or_an_older_bundle_did_not_measure_them():
    unknown, older = _metrics(), _metrics()
    unknown["test"]["num_groups"] = 0
    del older["test"]["operating_point"]["sensitivity_over_groups"], older["test"]["referral"]["interval"]
    texts = [state(metrics, _rules()).criteria[0].text for metrics in (unknown, older)]
    assert texts == [
        "Finds 97.0 % (95.0–99.0) of hsil as positive; 95 % were asked.",
        "Finds 90.0 % (80.0–100.0) of hsil as positive; 95 % were asked.",
    ]
    assert [one.name for one in state(older, _rules()).criteria] == ["Sensitivity", "Gain"]


def test_an_operating_point_that_could_not_be_had_is_too_few_labels():
    rules = DecisionRules(classes=("nilm", "hsil"), temperature=1.0)
    found = state({**_metrics(), "too_few_groups": {"text": "3 calibration groups hold hsil."}}, rules)
    assert (found.answer, found.title) == ("too few labels", "Too few labels to tell")
