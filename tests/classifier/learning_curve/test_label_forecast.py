"""labels: the curve is fitted as scipy would, the interval holds, and what the data cannot say is not said."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import load_benchmark
from in_process import output_of
from numpy.typing import NDArray
from quick_fit import quick_fit
from scipy.optimize import curve_fit

from cytolora.classifier.learning_curve.checks import back_test, lack_of_fit
from cytolora.classifier.learning_curve.curve import Curve, Draw
from cytolora.classifier.learning_curve.forecast import Forecast, forecast, in_words, plain, warnings
from cytolora.classifier.learning_curve.measure import default_shots
from cytolora.classifier.learning_curve.power_law import fit_power_law
from cytolora.cli.app import main
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.own_files import LEARNING_CURVE
from cytolora.data.targets import check_together
from cytolora.errors import ConfigError

SHOTS = (1, 2, 4, 8, 16, 32)


def _curve(true: NDArray[np.float64], *, seed: int = 0, num_units: int = 60, num_draws: int = 5) -> Curve:
    """Draws of cells from units that are easier or harder by a share of their own, recognised at these rates."""
    random = np.random.default_rng(seed)
    ease = random.normal(0, 0.05, num_units)
    draws = []
    for number in range(num_draws):
        tested = random.choice(num_units, num_units // 3, replace=False)
        unit, label = np.repeat(tested, 12), np.tile(np.arange(4), len(tested) * 3)
        luck = random.normal(0, 0.02, len(true))
        chance = np.clip(true[:, None] + ease[unit][None, :] + luck[:, None], 0, 1)
        names = np.array([f"group {place}" for place in unit], dtype=str)
        right = random.random(chance.shape) < chance
        rates = (0.01,) * len(true)
        draws.append(Draw(seed=number, test_labels=label, test_units=names, is_right=right, learning_rates=rates))
    return Curve(
        shots=SHOTS[: len(true)],
        draws=tuple(draws),
        available={"a": 40, "b": 32},
        by_group=True,
        split_rule="by group",
    )


def _power(asymptote: float, scale: float, exponent: float, labels: object = SHOTS) -> NDArray[np.float64]:
    return asymptote - scale * np.asarray(labels, dtype=float) ** -exponent


@pytest.fixture(scope="module")
def rising() -> Curve:
    return _curve(_power(0.9, 0.6, 0.5), num_units=400)


def test_a_power_law_is_found_again_and_read_off():
    found = fit_power_law(SHOTS, _power(0.9, 0.6, 0.5))
    assert float(found.asymptote) == pytest.approx(0.9, abs=0.005)
    assert float(found.exponent) == pytest.approx(0.5, abs=0.01)
    assert float(found.needed(0.85)) == pytest.approx((0.6 / 0.05) ** 2, rel=0.1)
    assert float(found.needed(0.95)) == np.inf
    np.testing.assert_allclose(found.at(SHOTS), _power(0.9, 0.6, 0.5), atol=1e-3)


def test_many_fits_at_once_equal_scipys_bounded_one():
    random = np.random.default_rng(0)
    curves = np.clip(_power(0.85, 0.6, 0.4) + random.normal(0, 0.03, (12, len(SHOTS))), 0, 1)
    ours = fit_power_law(SHOTS, curves)
    sigma = 1 / np.sqrt(np.arange(1, len(SHOTS) + 1))

    def error(fitted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
        return float((((fitted - measured) / sigma) ** 2).sum())

    for row, curve in enumerate(curves):
        starts = [(0.9, 0.5, exponent) for exponent in (0.1, 0.5, 1.5)]
        fits = [
            curve_fit(lambda n, a, b, c: a - b * n**-c, SHOTS, curve, start, sigma, bounds=([0, 0, 0.05], [1, 9, 2]))[0]
            for start in starts
        ]
        theirs = min(error(_power(*fit), curve) for fit in fits)
        assert error(ours.at(SHOTS)[row], curve) <= theirs * 1.01 + 1e-9


def test_bounds_hold_where_a_curve_would_leave_them():
    steep = fit_power_law(SHOTS, [0.1, 0.2, 0.35, 0.55, 0.8, 0.99])
    assert float(steep.asymptote) <= 1
    falling = fit_power_law(SHOTS, [0.6, 0.58, 0.55, 0.53, 0.5, 0.5])
    assert float(falling.scale) == 0
    assert float(falling.needed(0.7)) == np.inf


def test_a_target_within_the_data_is_reached(rising):
    found = forecast(rising, 0.7)
    low, high = found.interval
    assert found.verdict == "reached"
    assert low <= found.needed <= high
    assert low < 9 < high
    assert f"0.7 is reached with about {round(found.needed)} labelled images per class" in in_words(found)
    assert found.more() == {"a": 0, "b": 0}


def test_a_target_beyond_the_data_is_a_forecast_with_an_interval(rising):
    found = forecast(rising, 0.82)
    assert found.verdict == "within reach"
    assert found.interval[0] < found.needed < found.interval[1]
    more = found.more()["b"]
    assert more is not None
    assert more > 0
    assert f"{more} more of 'b', the rarest class" in in_words(found)


def test_a_target_far_beyond_the_data_is_marked_and_no_number_to_plan_with():
    found = forecast(_curve(_power(0.95, 0.7, 0.25), num_units=300), 0.85)
    assert found.verdict == "far"
    assert "more than 8 times beyond the 32 labels measured" in in_words(found)


def test_a_target_above_the_asymptote_gives_no_number(rising):
    found = forecast(rising, 0.99)
    assert found.verdict == "out of reach"
    assert "No number of labels is given" in in_words(found)
    told = json.loads(json.dumps(plain(found), allow_nan=False))
    assert (told["labels_per_class"], told["more_per_class"]) == (None, {"a": None, "b": None})
    assert found.share_reaching < 0.3


def test_groups_are_drawn_once_for_all_draws():
    """The same patient is tested in several draws; taking each anew would make the interval too narrow."""
    found = forecast(_curve(_power(0.9, 0.6, 0.5), num_draws=1), 0.7)
    copies = found.curve.draws * 5
    again = Curve(shots=SHOTS, draws=copies, available={"a": 9}, by_group=True, split_rule="x")
    width, once = (np.std(some.resampled[:, -1]) for some in (forecast(again, 0.7), found))
    assert width == pytest.approx(once, rel=0.02)


def test_what_makes_the_numbers_doubtful_is_said():
    few = _curve(_power(0.9, 0.6, 0.5), num_units=9, num_draws=2)
    texts = warnings(forecast(few, 0.7))
    assert any("groups are tested on" in text for text in texts)
    assert any("Only 2 draws" in text for text in texts)
    flat = _curve(np.linspace(0.6, 0.5, len(SHOTS), dtype=np.float64))
    assert any("does not rise" in text for text in warnings(forecast(flat, 0.7)))


LABELS = np.array(SHOTS, dtype=float)
OTHER_FORMS = {
    "sigmoid, steep": 0.25 + 0.65 / (1 + np.exp(4 - np.log2(LABELS))),
    "sigmoid, early": 0.25 + 0.65 / (1 + np.exp(3 - np.log2(LABELS))),
    "sigmoid, slow": 0.25 + 0.65 / (1 + np.exp((4 - np.log2(LABELS)) / 1.5)),
    "hyperbola": 0.9 - 0.65 * 8 / (LABELS + 8),
    "hyperbola, late": 0.9 - 0.65 * 20 / (LABELS + 20),
    "straight in the logarithm": 0.25 + 0.11 * np.log2(LABELS),
    "straight": 0.3 + 0.015 * LABELS,
    "late step": np.where(LABELS < 16, 0.5, 0.8),
    "fall at the end": np.array([0.4, 0.5, 0.58, 0.65, 0.7, 0.55]),
}
"""Balanced accuracies of curves that are no power law."""


@pytest.mark.parametrize("form", OTHER_FORMS)
@pytest.mark.parametrize("num_units", [100, 300])
def test_a_curve_of_another_form_gets_no_number(form: str, num_units: int):
    for seed in range(3):
        found = forecast(_curve(OTHER_FORMS[form], seed=seed, num_units=num_units), 0.85)
        told = json.loads(json.dumps(plain(found), allow_nan=False))
        assert told["verdict"] == "withheld"
        assert (told["labels_per_class"], told["interval"], told["more_per_class"]["b"]) == (None, None, None)
        assert in_words(found).startswith("No forecast for balanced accuracy 0.85: ")
        assert any("lack of fit" in doubt or "back-test" in doubt for doubt in found.doubts)


@pytest.mark.slow
def test_nine_in_ten_power_laws_pass_both_checks():
    """Nominally 90 % pass the test of fit, and 95 % of each error's interval hold 0."""
    passed = [not forecast(_curve(_power(0.9, 0.6, 0.5), seed=seed, num_units=90), 0.8).doubts for seed in range(40)]
    assert np.mean(passed) > 0.8


def test_the_back_test_predicts_the_last_two_points_from_the_others_alone(rising):
    found = forecast(rising, 0.82)
    known = fit_power_law(SHOTS[:4], found.means[:4]).at([16, 32])
    assert found.back_test is not None
    assert found.back_test.predicted == pytest.approx(known)
    assert found.back_test.errors == pytest.approx(known - found.means[4:])
    moved = np.concatenate([found.means[:4], [0.0, 0.0]])
    again = back_test(SHOTS, moved, found.resampled)
    assert again is not None
    assert again.predicted == pytest.approx(known)
    assert f"{known[0]:.3f} at 16 labels ({found.means[4]:.3f} measured" in str(found.back_test)
    told = plain(found)["back_test"]
    assert (told["shots"], told["passed"], told["predicted"]) == ([16, 32], True, pytest.approx(list(known)))


def test_the_interval_holds_the_numbers_at_which_the_curve_meets_the_target_and_the_error_of_the_back_test(rising):
    found = forecast(rising, 0.82)
    assert found.back_test is not None
    error, (low, high) = found.back_test.bound, found.interval
    assert error >= np.abs(found.back_test.errors).max()
    assert low <= float(found.law.needed(0.82 - error)) < found.needed < float(found.law.needed(0.82 + error)) <= high


def test_points_on_a_power_law_fit_and_points_off_it_by_more_than_their_error_do_not():
    random, true = np.random.default_rng(0), _power(0.9, 0.6, 0.5)
    resampled = true + random.normal(0, 0.01, (500, len(SHOTS)))
    assert lack_of_fit(SHOTS, fit_power_law(SHOTS, true), true, resampled) > 0.99
    off = true + np.array([0, 0.05, -0.05, 0.05, -0.05, 0.05])
    assert lack_of_fit(SHOTS, fit_power_law(SHOTS, off), off, resampled + off - true) < 0.01
    flat = np.full(len(SHOTS), 0.5)
    assert lack_of_fit(SHOTS, fit_power_law(SHOTS, flat), flat, np.repeat(flat[None], 500, axis=0)) == 1


@pytest.mark.parametrize("num_points", [4, 5, 6])
def test_a_forecast_takes_as_many_points_as_its_back_test(num_points: int):
    found = forecast(_curve(_power(0.9, 0.6, 0.5)[:num_points], num_units=400), 0.8)
    assert (found.back_test is None) == (num_points < 5)
    if num_points < 5:
        assert found.verdict == "withheld"
        assert "a back-test takes at least 5 numbers of shots, of which 4 are measured" in in_words(found)
        assert plain(found)["back_test"] is None


def test_without_a_forecast_what_was_measured_is_said():
    sigmoid = OTHER_FORMS["sigmoid, early"]
    found = forecast(_curve(sigmoid, num_units=300), 0.7)
    reaching = next(shots for shots, mean in zip(SHOTS, found.means, strict=True) if mean >= 0.7)
    assert f"It was measured at {reaching} labels." in in_words(found)
    beyond = forecast(_curve(sigmoid, num_units=300), 0.95)
    assert f"At 32 labels {beyond.means[-1]:.3f} was measured." in in_words(beyond)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "num_groups"),
    [("power law", 100), ("power law", 300), ("hyperbola", 100), ("plateau", 300), ("sigmoid", 100)],
)
def test_nine_in_ten_forecasts_that_are_not_withheld_hold_the_true_number_whatever_the_curve(
    form: str, num_groups: int
):
    """benchmarks/lab_coverage.py in small, which has every form at both; targets 1.7, 2.4, 4 and 7 times beyond.

    Few curves of another form pass the checks, each with four targets that are missed together: 15 trials left
    eleven sigmoids, so that a few missed at the farthest targets decided. Of power laws nearly none is withheld, and 20
    trials of three curves leave more than 200 forecasts.
    """
    lab_coverage = load_benchmark("lab_coverage")
    held, num_trials = [], 20 if form == "power law" else 60
    for true in lab_coverage.CURVES[form]:
        for found in lab_coverage.forecasts(true, num_groups, trials=num_trials, seed=1).values():
            held.extend(found.holds[~found.is_withheld])
    if form == "power law":
        assert len(held) > 0.75 * num_trials * len(lab_coverage.CURVES[form]) * len(lab_coverage.REACHES)
    assert not held or np.mean(held) >= 0.9


@pytest.mark.slow
def test_the_interval_covers_the_true_number_about_as_often_as_it_says():
    """Nominal 95 %; draws, groups and cells vary as in ``_curve``."""
    truth, hits, num_trials = _power(0.9, 0.6, 0.5), 0, 120
    needed = (0.6 / 0.15) ** 2
    for trial in range(num_trials):
        low, high = forecast(_curve(truth, seed=trial), 0.75).interval
        hits += low <= needed <= high
    assert hits / num_trials > 0.88  # 99 % when it was written; with 300 groups 95 %


def _labels(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["learning-curve", *arguments, "--model", "nano", "--quiet"])
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_the_command_writes_numbers_and_figure_and_prints_one_document(drawn_cells: Path, tmp_path, capsys):
    shots = ["--shots", "1", "2", "3", "4", "5"]
    options = [*shots, "--seeds", "1", "2", "--target", "0.9", "--cache", str(tmp_path / "c")]
    assert _labels(str(drawn_cells), *options, "--out", str(tmp_path / "out"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["shots"] for point in told["points"]] == [1, 2, 3, 4, 5]
    assert all(len(point["draws"]) == 2 for point in told["points"])
    assert told["split_rule"].endswith("anew for every seed")
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == told
    files = {LEARNING_CURVE.description, *LEARNING_CURVE.others}
    assert files == {path.name for path in (tmp_path / "out").glob("[!.]*")}
    check_together(tmp_path / "out", LEARNING_CURVE)
    assert _labels(str(drawn_cells), *options) == 0
    printed = capsys.readouterr().out
    assert told["summary"] in printed
    assert told["back_test"]["text"] in printed
    assert told["back_test"]["shots"] == [4, 5]
    assert told["back_test"]["measured"] == [point["balanced_accuracy"] for point in told["points"][-2:]]


@pytest.mark.slow
def test_unreadable_images_and_copies_are_left_out_and_named_as_fit_does(drawn_cells: Path, tmp_path, capsys):
    cells = tmp_path / "cells"
    shutil.copytree(drawn_cells, cells)
    first, copied, broken, *_ = sorted(next(path for path in cells.iterdir() if path.is_dir()).glob("*.png"))
    shutil.copy(first, copied)
    broken.write_bytes(first.read_bytes()[:100])
    options = ["--shots", "1", "2", "3", "4", "--seeds", "1", "--cache", str(tmp_path / "c"), "--json"]
    assert _labels(str(cells), *options) == 0
    told = {one["code"]: one["text"] for one in json.loads(capsys.readouterr().out)["findings"]}
    assert broken.name in told["P101"]
    assert copied.name in told.get("D501", "") + told.get("D503", "")  # of one class, or of two


@pytest.fixture(scope="module")
def points(lab_cells: Path, lab_cache: Path) -> dict[int, dict[str, Any]]:
    """What the command measures with seed 0, by shots."""
    options = ("--shots", 1, 2, 3, 4, "--seeds", 0, "--cache", lab_cache, "--json", "--model", "nano", "--quiet")
    return {point["shots"]: point for point in json.loads(output_of("learning-curve", lab_cells, *options))["points"]}


@pytest.mark.parametrize("shots", [1, 4])
@pytest.mark.slow
def test_the_curve_is_measured_with_the_classifier_that_fit_trains(shots, points, lab_cells, lab_cache, tmp_path):
    """Seed 0 divides the groups as `fit` does; one shot has its rate chosen on held-out images, four by folds."""
    point = points[shots]
    bundle = quick_fit(lab_cells, tmp_path / "model", model="nano", shots=shots, cache=lab_cache)
    assert point["draws"] == [pytest.approx(bundle.contents.metrics["test"]["balanced_accuracy"])]
    assert point["learning_rates"] == [bundle.contents.training["learning_rate"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "80"], "--target is a balanced accuracy in (0, 1), got 80.0. For 80 % write 0.8."),
        (["--shots", "1", "2", "4"], "at least 4 numbers of shots, got [1, 2, 4]"),
        (["--shots", "1", "2", "4", "50"], "fewer than the 50 shots asked for"),
        (["--seeds", "-1"], "from 0 to 4294967295, got -1"),
    ],
)
@pytest.mark.slow
def test_a_mistake_is_one_line(options, message, drawn_cells, tmp_path, capsys):
    assert _labels(str(drawn_cells), "--cache", str(tmp_path), *options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_one_class_is_refused_before_any_image_is_looked_at(tmp_path, capsys):
    (tmp_path / "cells" / "only").mkdir(parents=True)
    for number in range(9):
        (tmp_path / "cells" / "only" / f"{number}.png").write_bytes(b"no image")
    for options in ([], ["--shots", "1", "2", "3", "4"]):
        assert _labels(str(tmp_path / "cells"), *options, "--cache", str(tmp_path)) == 2
        assert "has one class, 'only'; a classifier tells two or more apart" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bundle.json", "export.json"])
def test_nothing_is_written_into_a_model(name, drawn_cells, tmp_path, capsys):
    (tmp_path / name).write_text('{"format": 1, "files": {}, "classes": []}')
    assert _labels(str(drawn_cells), "--out", str(tmp_path)) == 2
    assert f"is a model (it holds {name}) and takes no other files" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["embed", str(drawn_cells), "--out", str(tmp_path / "cells.parquet"), "--model", "nano", "--quiet"])
    assert stop.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_a_seed_named_twice_is_one_draw(drawn_cells, tmp_path, capsys):
    options = ["--shots", "1", "2", "3", "4", "--cache", str(tmp_path / "c"), "--json"]
    assert _labels(str(drawn_cells), *options, "--seeds", "2", "1", "2") == 0
    twice = json.loads(capsys.readouterr().out)
    assert _labels(str(drawn_cells), *options, "--seeds", "2", "1") == 0
    assert twice == json.loads(capsys.readouterr().out)
    assert any("Only 2 draws" in text for text in twice["warnings"])


def test_the_default_shots_double_up_to_what_the_smallest_class_has_or_say_what_is_missing(tmp_path):
    def cells(number: int) -> Manifest:
        samples = [Sample(path=f"{label}/{place}", label=label) for label in "ab" for place in range(number)]
        return Manifest(name="cells", root=tmp_path, classes=("a", "b"), samples=tuple(samples))

    assert default_shots(cells(20), [1, 2]) == (1, 2, 4, 8, 12)
    assert default_shots(cells(1000), [1]) == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    with pytest.raises(ConfigError, match=r"class 'a' has 4 images to train on, .* takes at least 4 numbers of shots"):
        default_shots(cells(6), [1])


def test_forecasts_of_equal_curves_are_equal(rising):
    first, second = forecast(rising, 0.7), forecast(rising, 0.7)
    assert isinstance(first, Forecast)
    assert plain(first) == plain(second)
