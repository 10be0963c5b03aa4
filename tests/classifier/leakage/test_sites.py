"""Shift between sites: threshold, temperature and head come from elsewhere, and no slide stands on both sides."""

from dataclasses import replace

import numpy as np
import pytest
from planted_leakage import Metadata, drawn_features

from cytolora.classifier.leakage import sites
from cytolora.classifier.leakage.cells import SourcedCells
from cytolora.classifier.leakage.sites import measure_sites

SITES: tuple[Metadata, ...] = tuple((("site", "east" if number % 3 else "west"),) for number in range(12))


def cells(seed: int = 0, **options) -> SourcedCells:
    return drawn_features(seed=seed, num_cells=480, dim=16, class_distance=2.0, metadata=SITES, **options)


def moved(plain: SourcedCells) -> SourcedCells:
    """Moves the cells of the west along the line from one class to another."""
    is_west = np.array([value == "west" for value in plain.column("site")])
    means = [plain.features[plain.labels == label].mean(dim=0) for label in (0, 1)]
    features = plain.features.clone()
    features[is_west] += 2 * (means[1] - means[0])
    return plain.with_features(features)


def test_a_site_like_the_others_keeps_sensitivity_accuracy_and_calibration():
    found = measure_sites(cells(), positive=("class0",), sensitivity=0.9)
    assert [(one.column, one.value) for one in found] == [("site", "east"), ("site", "west")]
    for one in found:
        assert one.elsewhere.sensitivity == pytest.approx(0.9, abs=0.02)
        assert one.here.sensitivity == pytest.approx(0.9, abs=0.1)
        assert one.here.balanced_accuracy == pytest.approx(one.elsewhere.balanced_accuracy, abs=0.1)
        assert one.here.calibration_slope is not None
        assert 0.5 < one.here.calibration_slope < 2
    assert (found[1].here.num_cells, found[1].here.num_groups, found[1].elsewhere.num_groups) == (160, 4, 8)


def test_a_site_that_is_moved_loses_sensitivity_at_the_frozen_threshold_and_is_overconfident():
    east, west = measure_sites(moved(cells()), positive=("class0",), sensitivity=0.9)
    assert west.elsewhere.sensitivity == pytest.approx(0.9, abs=0.02)
    assert west.here.sensitivity is not None
    assert west.here.sensitivity < 0.5
    assert west.here.sensitivity_interval is not None
    assert west.here.sensitivity_interval.low <= west.here.sensitivity <= west.here.sensitivity_interval.high
    assert west.here.calibration_slope is None or west.here.calibration_slope < 0.6
    assert west.here.calibration_error > west.elsewhere.calibration_error + 0.1
    assert east.value == "east"


def test_without_positive_classes_there_is_no_threshold():
    for one in measure_sites(cells()):
        assert (one.threshold, one.here.sensitivity, one.here.specificity) == (None, None, None)


def test_a_slide_that_two_scanners_recorded_is_never_trained_on_and_tested(monkeypatch: pytest.MonkeyPatch):
    """Half of the cells of each slide come from either scanner."""
    plain = drawn_features(seed=1, num_cells=240, num_groups=8)
    rng = np.random.default_rng(0)
    scanners = rng.integers(0, 2, 240)
    samples = tuple(
        replace(one, metadata=(("scanner", f"s{scanner}"),))
        for one, scanner in zip(plain.samples, scanners, strict=True)
    )
    both, seen = replace(plain, samples=samples), []
    real = sites.predicted

    def spied(cells, head, train, test):
        seen.append((train, test))
        return real(cells, head, train, test)

    monkeypatch.setattr(sites, "predicted", spied)
    assert len(measure_sites(both)) == 2
    assert len(seen) == 10
    for number, (train, test) in enumerate(seen):
        assert not set(both.groups[train].tolist()) & set(both.groups[test].tolist())
        assert set(scanners[train].tolist()) == {1 - number // 5}
        assert set(scanners[test].tolist()) == {0, 1}


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        tuple((("site", "one"),) for _ in range(12)),
        tuple((("site", f"s{number}"),) for number in range(12)),  # 20 cells each: a class may lack, none is lost
        tuple((("number", str(number)),) if number else () for number in range(12)),
    ],
)
def test_columns_of_any_kind_are_read_without_an_error(metadata):
    found = measure_sites(drawn_features(seed=0, metadata=metadata))
    assert all(one.here.num_cells + one.elsewhere.num_cells <= 240 for one in found)
    assert bool(found) == (len({value for one in metadata for _, value in one}) > 1)
