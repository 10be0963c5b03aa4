"""Readers beside the classifier: every two by the same measures, on the cells that both labelled."""

import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from cytolora.classifier.fit.figures import ReaderAgreement
from cytolora.classifier.fit.readers import Readings, beside_readers, in_words
from cytolora.display.figure import in_page

_NAMES = [f"{at:02d}.png" for at in range(12)]
_ANN = list("aaaabbbbcccc")
_BEA = list("aaabbbbbcccb")
_SAID = list("aaaabbbccccc")


def _readings(*, is_ordered: bool = False) -> Readings:
    return Readings(
        classes=("a", "b", "c"),
        is_ordered=is_ordered,
        labels={"bea": dict(zip(_NAMES, _BEA, strict=True)), "ann": dict(zip(_NAMES, _ANN, strict=True))},
        units={name: f"group {at // 3}" for at, name in enumerate(_NAMES)},
    )


@pytest.mark.parametrize(("is_ordered", "weights"), [(False, None), (True, "linear")])
def test_kappas_and_agreement_by_class_equal_scikit_learns(is_ordered: bool, weights: str | None) -> None:
    found = beside_readers(_readings(is_ordered=is_ordered), _NAMES, _SAID)
    (between,), (with_ann, with_bea) = found["between"], found["classifier"]
    for row, one, other in ((between, _ANN, _BEA), (with_ann, _SAID, _ANN), (with_bea, _SAID, _BEA)):
        assert row["kappa"] == pytest.approx(cohen_kappa_score(one, other, weights=weights))
        assert row["by_class"] == pytest.approx(f1_score(one, other, average=None))  # pyright: ignore[reportArgumentType]
        assert row["low"] <= row["kappa"] <= row["high"]
    assert (with_bea["a"], with_bea["b"]) == ("classifier", "bea")


def test_a_cell_that_is_no_test_image_counts_between_readers_alone() -> None:
    found = beside_readers(_readings(), _NAMES[1:], _SAID[1:])
    assert found["num_untested"] == 1
    assert found["between"][0]["cells"] == 12
    assert [row["cells"] for row in found["classifier"]] == [11, 11]
    assert in_words(found)[1].startswith("classifier and ann: kappa 0.")


@pytest.mark.usefixtures("real_drawings")
def test_the_figure_holds_every_comparison_and_class_and_a_reader_may_be_called_classifier() -> None:
    readings = _readings()
    labels = {"classifier": readings.labels["ann"], "bea": {"00.png": "a"}}
    one = Readings(classes=readings.classes, is_ordered=False, labels=labels, units=readings.units)
    figure = ReaderAgreement(found=beside_readers(one, _NAMES, _SAID))
    rows = figure.frame().to_pylist()
    assert len(rows) == 3 * 4
    assert rows[0]["kappa"] is None
    assert rows[0]["cells"] == 1
    assert "agreement on the class" in in_page(figure)
