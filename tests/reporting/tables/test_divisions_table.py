"""Several divisions in tables, files and the page: spreads apart, an interval for new data."""

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import pytest
from fake_store import FakeData, fake_run

from cytolora.config.run import Sampling, SplitSpec
from cytolora.experiments.store import Store
from cytolora.metrics.divisions import over_divisions
from cytolora.reporting.figures.over_divisions import one_row_each
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.pages.protocol import describe_dataset
from cytolora.reporting.results.divided import divided, undivided
from cytolora.reporting.results.flags import GRAVE
from cytolora.reporting.results.settings import Setting, read_settings
from cytolora.reporting.tables.divisions import division_pivot, division_rows
from cytolora.reporting.tables.table1 import lines_of, tables1, to_rows
from cytolora.reporting.tables.tables import to_latex, to_markdown


def write(
    store: Store, seeds: tuple[int, ...], *, shots: int | None = None, moved: bool = True, **more: object
) -> None:
    """Two runs on each division; its test images are others unless ``moved`` is False."""
    for split_seed, seed in product(seeds, (1, 2)):
        skill, split = 1.0 + 0.5 * split_seed, SplitSpec(seed=split_seed)
        run = fake_run(FakeData(), "uni", "linear", shots, 1e-3, seed, skill, True, split=split)
        rows = run.predictions
        if moved:
            paths = [f"{split_seed}/{path}" for path in rows["path"].to_pylist()]
            rows = rows.set_column(rows.column_names.index("path"), "path", [paths])
        store.write(replace(run, predictions=rows, provenance={**run.provenance, **more}))


def accuracies(settings: list[Setting]) -> dict[int, list[float]]:
    return {one.spec.split.seed: [run.metrics["test"]["accuracy"] for run in one.tested] for one in settings}


def test_a_setting_on_three_divisions_is_one_row_with_both_spreads_apart(store: Store):
    write(store, (0, 1, 2))
    settings = read_settings(store.runs())
    (row,) = division_rows(divided(settings))
    values = accuracies(settings)
    means = [fmean(values[seed]) for seed in (0, 1, 2)]
    assert (row["method"], row["n_divisions"], row["split_seeds"]) == ("linear", 3, "0 1 2")
    assert row["accuracy_mean"] == pytest.approx(fmean(means), abs=1e-6)
    assert row["accuracy_std_divisions"] == pytest.approx(stdev(means), abs=1e-6)
    within = fmean(stdev(values[seed]) ** 2 for seed in (0, 1, 2)) ** 0.5
    assert row["accuracy_std_seeds"] == pytest.approx(within, abs=1e-6)
    expected = over_divisions(list(values.values()), test_over_train=1 / 3)
    assert row["test_over_train"] == pytest.approx(1 / 3, abs=1e-6)
    assert row["accuracy_low"] == pytest.approx(expected.low, abs=1e-6)
    assert row["setting_ids"].split() == [one.setting_id for one in sorted(settings, key=lambda s: s.spec.split.seed)]
    assert {one.method for one in settings} == {f"linear (split seed {seed})" for seed in (0, 1, 2)}


def test_the_ratio_is_of_groups_as_the_runs_counted_them(store: Store):
    write(store, (0, 1), division_counts={"train": {"images": 900, "units": 40}, "test": {"images": 50, "units": 10}})
    (row,) = division_rows(divided(read_settings(store.runs())))
    assert row["test_over_train"] == pytest.approx(0.25)


def test_few_shots_have_a_spread_and_no_interval(store: Store):
    write(store, (0, 1, 2), shots=4)
    (row,) = division_rows(divided(read_settings(store.runs())))
    assert row["accuracy_std_divisions"] > 0
    assert (row["test_over_train"], row["accuracy_low"], row["accuracy_high"]) == (None,) * 3


def test_split_seeds_that_test_the_same_images_are_one_division(store: Store):
    write(store, (0, 1, 2), moved=False)
    settings = read_settings(store.runs())
    assert divided(settings) == []
    assert undivided(settings, []) == settings


def test_tables_have_one_row_for_all_divisions_and_the_others_as_before(store: Store):
    write(store, (0, 1))
    store.write(fake_run(FakeData(), "clip-vit-b16", "linear", 4, 1e-3, 1, 1.0, True))
    settings = read_settings(store.runs())
    text = to_markdown(settings)
    values = accuracies([one for one in settings if one.model == "uni"])
    found = over_divisions(list(values.values()), test_over_train=1 / 3)
    said = f"| uni | linear | {100 * found.mean:.1f} ± {100 * found.std_divisions:.1f} (divisions) ± "
    assert said in text
    assert "herlev: accuracy on test over several divisions, %" in text
    assert "| uni | linear (split" not in text
    assert text.count("| clip-vit-b16 | linear (split seed 0) |") == 2, "which one of the divisions it is of"
    assert text.count("| uni |") == 2
    latex = to_latex(settings)
    assert latex.count("\\begin{table}") == latex.count("\\end{table}") == 4
    assert "(divisions) $\\pm$" in latex


@pytest.mark.slow
def test_a_report_has_divisions_csv_and_the_page_shows_it(store: Store, tmp_path: Path):
    write(store, (0, 1, 2))
    write(store, (0, 1, 2), shots=4)
    page = build_report(store.root, tmp_path / "report")
    with (tmp_path / "report" / "divisions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["shots"], row["n_divisions"]) for row in rows] == [("4", "3"), ("all", "3")]
    text = page.read_text()
    assert "Several divisions" in text
    assert f'<td class="num">{100 * float(rows[1]["accuracy_std_divisions"]):.1f}</td>' in text
    build_report(store.root, tmp_path / "report")  # the folder is known as a report's


def test_a_report_of_one_division_has_no_such_table(report_dir: Path):
    assert not (report_dir / "divisions.csv").exists()
    assert "Several divisions" not in (report_dir / "index.html").read_text()


def test_fractions_of_a_division_have_an_interval(store: Store):
    for seed in (0, 1):
        run = fake_run(
            FakeData(num_groups=40 + seed),
            "uni",
            "linear",
            None,
            1e-3,
            1,
            1.0,
            True,
            split=SplitSpec(seed=seed, ratios=(0.5, 0.25, 0.25)),
            sampling=Sampling(fraction=0.5),
        )
        store.write(run)
    (row,) = division_rows(divided(read_settings(store.runs())))
    assert (row["fraction"], row["test_over_train"]) == (0.5, 0.5)
    assert row["accuracy_low"] is not None


def test_table_1_has_one_number_for_all_divisions(store: Store):
    write(store, (0, 1, 2))
    settings = read_settings(store.runs())
    (table,) = tables1(settings)
    means = [fmean(values) for values in accuracies(settings).values()]
    (row,) = [row for row in to_rows(table) if row["dataset"] == "herlev"]
    assert (table.method, row["n_divisions"], row["n_seeds"]) == ("linear", 3, 6)
    assert row["accuracy_mean"] == pytest.approx(fmean(means), abs=1e-6)
    assert row["accuracy_std"] == pytest.approx(stdev(means), abs=1e-6)
    expected = over_divisions(list(accuracies(settings).values()), test_over_train=1 / 3)
    assert row["accuracy_low"] == pytest.approx(expected.low, abs=1e-6)
    assert expected.low is not None
    assert expected.high is not None
    printed = dict(lines_of(table))
    assert printed["95 % interval"] == [f"{100 * expected.low:.2f}–{100 * expected.high:.2f} approximate"]
    assert "Over 3 divisions of herlev" in table.note


def test_table_1_of_one_division_says_nothing_of_divisions(store: Store):
    write(store, (0,))
    (table,) = tables1(read_settings(store.runs()))
    assert (table.method, table.note) == ("linear", "")
    assert "approximate" not in str(lines_of(table))


@pytest.mark.slow
def test_the_page_shows_divisions_together_and_each_by_itself_in_a_fold(store: Store, tmp_path: Path):
    write(store, (0, 1), shots=4)
    write(store, (0,), shots=16)
    page = build_report(store.root, tmp_path / "report").read_text()
    together, one, each = (
        page.index(f">{title}<") for title in ("Several divisions", "One division", "Each division by itself")
    )
    assert together < one < each
    assert page.count("linear (split seed 1)") > 0
    assert "linear (split seed 1)" not in page[together:each]


def test_rules_that_differ_in_their_seed_are_one_rule(store: Store):
    for seed in (0, 1, 2):
        write(store, (seed,), split_rule=f"divided by group, stratified by class, seed {seed}")
    assert describe_dataset(read_settings(store.runs())).split_rule == (
        "divided by group, stratified by class, seed 0, 1 and 2"
    )


def write_named(store: Store, name: str, split: SplitSpec, skill: float, data: FakeData | None = None) -> None:
    """Two runs on a division whose test images no other has."""
    for seed in (1, 2):
        run = fake_run(data or FakeData(), "uni", "linear", None, 1e-3, seed, skill, True, split=split)
        rows = run.predictions
        paths = [f"{name}/{path}" for path in rows["path"].to_pylist()]
        store.write(replace(run, predictions=rows.set_column(rows.column_names.index("path"), "path", [paths])))


RANDOM = (SplitSpec(seed=0), SplitSpec(seed=1))
SITES = (SplitSpec(leave_out="site=A"), SplitSpec(leave_out="site=B"))
SCANNERS = (SplitSpec(leave_out="scanner=x"), SplitSpec(leave_out="scanner=y"), SplitSpec(leave_out="scanner=z"))


@pytest.mark.parametrize(
    "kinds", [(RANDOM, SITES), (SITES, RANDOM), (SITES, SCANNERS), (RANDOM, SITES, SCANNERS), (SCANNERS, RANDOM[:1])]
)
def test_no_kind_of_division_stands_in_for_another(store: Store, kinds: tuple[tuple[SplitSpec, ...], ...]):
    expected = {}
    for place, splits in enumerate(kinds):
        for at, split in enumerate(splits):
            write_named(store, f"{place}.{at}", split, 0.2 + 1.5 * place + 0.2 * at)
    settings = read_settings(store.runs())
    for splits in kinds:
        means = [fmean(r.metrics["test"]["accuracy"] for r in s.tested) for s in settings if s.spec.split in splits]
        expected[fmean(means)] = len(splits)
    assert len(expected) == len(kinds)
    in_table_1 = [row for table in tables1(settings) for row in to_rows(table) if row["dataset"] == "herlev"]
    drawn = one_row_each(settings, lambda one: {"mean": one.test("accuracy").mean, "method": one.method})  # pyright: ignore
    families = division_rows(divided(settings))
    several = {mean: number for mean, number in expected.items() if number > 1}
    for rows, key, wanted in (
        (in_table_1, "accuracy_mean", expected),
        (drawn, "mean", expected),
        (families, "accuracy_mean", several),
    ):
        assert sorted(row[key] for row in rows) == pytest.approx(sorted(wanted), abs=1e-6)
        assert {round(row[key], 5): row["n_divisions"] for row in rows} == {round(m, 5): n for m, n in wanted.items()}
    assert len({row["method"] for row in in_table_1}) == len({row["method"] for row in drawn}) == len(kinds)
    assert len(division_pivot(divided(settings))) == len(several)
    text = to_markdown(settings)
    for mean in expected:
        assert f" {100 * mean:.1f} ± " in text


def test_another_seed_of_one_site_does_not_take_the_place_of_all_sites(store: Store):
    for place, split in enumerate(SITES):
        write_named(store, str(place), split, 0.2 + place)
    write_named(store, "0", replace(SITES[0], seed=7), 3.0)
    settings = read_settings(store.runs())
    rows = [row for table in tables1(settings) for row in to_rows(table) if row["dataset"] == "herlev"]
    assert sorted(row["n_divisions"] for row in rows) == [1, 2]
    assert len({row["method"] for row in rows}) == 2


def test_sites_left_out_are_named_and_promised_no_interval(store: Store):
    for place, split in enumerate(SITES):
        write_named(store, str(place), split, 0.2 + place)
    settings = read_settings(store.runs())
    (row,) = division_rows(divided(settings))
    assert (row["method"], row["accuracy_low"]) == ("linear (one site left out)", None)
    (table,) = tables1(settings)
    assert table.note == " Over 2 divisions of herlev: their mean ± their standard deviation."


def test_flags_of_all_divisions_stand_gravest_first_in_every_file(store: Store):
    write(store, (0,), num_repeated=3)
    write(store, (1,), grouping={"num_images": 300, "num_grouped": 0, "num_groups": 0, "num_torn": 0})
    (family,) = divided(read_settings(store.runs()))
    assert len(family.flags) > 1
    assert list(family.flags) == sorted(family.flags, key=GRAVE.index)


def test_a_division_without_a_score_marks_the_mean_over_the_others(store: Store):
    write(store, (0, 1))
    assert divided(read_settings(store.runs()))[0].flags == ()
    for seed in (1, 2):
        store.write(fake_run(FakeData(), "uni", "linear", None, 1e-3, seed, 1.0, False, split=SplitSpec(seed=2)))
    settings = read_settings(store.runs())
    (row,) = division_rows(divided(settings))
    assert (row["n_divisions"], row["flags"]) == (2, "incomplete")
    (table,) = tables1(settings)
    assert [row["flags"] for row in to_rows(table) if row["dataset"] == "herlev"] == ["incomplete"]
    assert "[incomplete]" in lines_of(table)[0][1][0]
    assert to_markdown(settings).count("[incomplete]") == 2


def test_nothing_is_published_of_sites_left_out(store: Store):
    for place, split in enumerate((*RANDOM, *SITES)):
        write_named(store, str(place), split, 0.2 + place, FakeData(name="sipakmed"))
    rows = {table.method: row for table in tables1(read_settings(store.runs())) for row in to_rows(table)[:1]}
    assert rows["linear"]["published_accuracy"] is not None
    assert rows["linear (one site left out)"]["published_accuracy"] is None
    assert rows["linear (one site left out)"]["difference"] is None


def test_values_left_out_that_hold_blanks_are_told_apart(store: Store):
    names = ("site=Lab 1", "site=Lab 2")
    for place, name in enumerate(names):
        write_named(store, str(place), SplitSpec(leave_out=name), 0.2 + place)
    (row,) = division_rows(divided(read_settings(store.runs())))
    assert row["split_seeds"].split("; ") == list(names)
