"""Runs whose test set is not one of new patients bear a mark wherever their numbers go, whatever divided the images."""

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path

import pyarrow as pa
import pytest
from fake_store import FakeData, fake_run, write_runs

from cytolora.cli.app import main
from cytolora.config.run import SplitSpec
from cytolora.data.datasets import load_manifest
from cytolora.data.grouping import DIVIDED_BY_IMAGE, GROUPS_UNKNOWN, SPLIT_BY_IMAGE, Grouping
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.compare import compare, notes
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.flags import flags
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import read_settings

GRID = """
name: leak
datasets: [csv]
models: [nano]
methods:
  linear: {{budget: {{amount: 1, unit: epochs}}}}
shots: [2, all]
seeds: [1, 2]
learning_rates: [0.01]
on_small_class: repeat
split: {{by: {by}, ratios: [0.4, 0.3, 0.3], seed: 0}}
"""
BOTH = frozenset({SPLIT_BY_IMAGE, GROUPS_UNKNOWN})
Group = Callable[[int, str], str]


def cytolora(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0


def kept(place: int, group: str) -> str:
    return group


def gone(place: int, group: str) -> str:
    return ""


def some(place: int, group: str) -> str:
    return group if place % 3 else ""


def table(folder: Path, drawn: Path, group: Group, *, subsets: bool = False) -> Path:
    """A manifest.csv over the drawn cells, with other groups, and with subsets that tear them if asked for."""
    samples = load_manifest(drawn, "synthetic").samples
    folder.mkdir()
    (folder / "images").symlink_to(drawn)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", *(["subset"] if subsets else [])])
        rows = enumerate(zip(sorted(samples, key=lambda one: (one.label, one.path)), subset_of_each(), strict=False))
        for place, (one, subset) in rows:
            writer.writerow([f"images/{one.path}", one.label, group(place, one.group or ""), *[subset][: int(subsets)]])
    return folder


def subset_of_each():
    return cycle(["train", "train", "val", "test"])


def torn_file(folder: Path) -> Path:
    """A split file made elsewhere: paths and subsets, no word on how."""
    with (folder / "manifest.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    out = folder.parent / "elsewhere.csv"
    rows = [f"{path},{subset}" for path, subset in zip(paths, subset_of_each(), strict=False)]
    out.write_text("\n".join(["path,subset", *rows]))
    return out


def own_file(folder: Path, by: str) -> Path:
    out = folder.parent / "split.csv"
    cytolora(["split", str(folder), "--by", by, "--ratios", "40/30/30", "--out", str(out)])
    return out


ROUTES: dict[str, tuple[Group, bool, str, Callable[[Path], Path] | None, frozenset[str]]] = {
    # groups of the images, subsets in the table, the grid's rule, the split file, and the tags of the marks
    "by group": (kept, False, "group", None, frozenset()),
    "by image": (kept, False, "image", None, frozenset({SPLIT_BY_IMAGE})),
    "by image, groups unknown": (gone, False, "image", None, BOTH),
    "by group, groups unknown": (gone, False, "group", None, frozenset({GROUPS_UNKNOWN})),
    "by group, some groups unknown": (some, False, "group", None, frozenset({GROUPS_UNKNOWN})),
    "file by group": (kept, False, "image", lambda folder: own_file(folder, "group"), frozenset()),
    "file by image": (kept, False, "group", lambda folder: own_file(folder, "image"), frozenset({SPLIT_BY_IMAGE})),
    "file by image, groups unknown": (gone, False, "group", lambda folder: own_file(folder, "image"), BOTH),
    "file made elsewhere": (kept, False, "group", torn_file, frozenset({SPLIT_BY_IMAGE})),
    "file made elsewhere, groups unknown": (gone, False, "group", torn_file, frozenset({GROUPS_UNKNOWN})),
    "official subsets": (kept, True, "group", None, frozenset({SPLIT_BY_IMAGE})),
    "official subsets, groups unknown": (gone, True, "image", None, frozenset({GROUPS_UNKNOWN})),
}


def run(route: str, drawn: Path, folder: Path) -> Path:
    """Runs the grid by one of the routes; returns the folder of the runs."""
    group, subsets, by, split, _ = ROUTES[route]
    data = table(folder / "cells", drawn, group, subsets=subsets)
    (folder / "grid.yaml").write_text(GRID.format(by=by))
    given = ["--split", str(split(data))] if split else []
    cytolora(["run", str(folder / "grid.yaml"), "--data", f"csv={data}", "--out", str(folder / "runs"), *given])
    return folder / "runs"


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the runs of a route, which are run once."""
    return cache(lambda route: run(route, drawn_cells, tmp_path_factory.mktemp("route")))


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_to_patients_on_both_sides_is_marked_and_no_other(route: str, finished: Callable[[str], Path]):
    settings = read_settings(Store(finished(route)).runs())
    assert len(settings) == 2
    assert {frozenset(BOTH & set(flags(setting))) for setting in settings} == {ROUTES[route][-1]}


@pytest.mark.parametrize("route", ["by group", "file made elsewhere", "by image, groups unknown"])
@pytest.mark.slow
def test_a_report_says_on_top_in_tables_and_in_figures_that_patients_may_be_on_both_sides(
    route: str, finished: Callable[[str], Path], tmp_path: Path
):
    out, tags = tmp_path / "report", ROUTES[route][-1]
    cytolora(["report", str(finished(route)), "--out", str(out)])
    bear_marks(out, {SPLIT_BY_IMAGE: SPLIT_BY_IMAGE in tags, GROUPS_UNKNOWN: GROUPS_UNKNOWN in tags})


def bear_marks(out: Path, expected: dict[str, bool]) -> None:
    """Checks the page above its first number, every table and every figure in all its files."""
    page = (out / "index.html").read_text()
    top = re.sub(r"<style.*?</style>", "", page[: page.index('class="cards"')], flags=re.DOTALL)
    assert {tag: tag in top for tag in expected} == expected
    assert ("(group leakage)" in top) == any(expected.values())
    figures = sorted((out / "figures").iterdir())
    tables = [out / name for name in ("tables.md", "tables.tex", "table1.md", "table1.tex")]
    assert {path.suffix for path in figures} == {".csv", ".tex", ".svg", ".png", ".pdf"}
    for path in [*tables, *figures]:
        if path.suffix not in (".png", ".pdf") and not path.stem.endswith("_leakage"):
            text = " ".join(re.sub(r"<[^>]+>", " ", path.read_text()).split())  # a drawing parts lines by its tags
            assert {tag: tag in text for tag in expected} == expected, path.name
    others = ("images.csv", "leakage.csv")  # counts of images, and what is measured on divisions of its own
    results = [path for path in out.glob("*.csv") if path.name not in others]
    for path in results:
        for row in csv.DictReader(path.open()):
            if "adapted_flags" in row:  # of two settings
                row["flags"] = f"{row['adapted_flags']}; {row['linear_flags']}"
            if row["setting_id" if "setting_id" in row else "dataset"]:  # an average is of no single setting
                assert {tag: tag in row["flags"].split("; ") for tag in expected} == expected, path.name


def stored(store: Store, *, forget: bool, **changes) -> list[str]:
    """The tags on group leakage of runs that counted their groups, or of earlier ones that did not."""
    one = {"models": ("uni",), "methods": ("linear",), "shots": (4,), "rates": (1e-3,), "seeds": (1,)}
    write_runs(store, **one, **changes)
    (setting,) = read_settings(store.runs())
    assert ("grouping" in setting.runs[0].provenance) != forget
    return [mark.tag for mark in marks(setting) if mark.tag in BOTH]


@pytest.mark.parametrize(
    ("counts", "tags"),
    [
        ((60, 60, 6, 0), []),
        ((60, 60, 6, 2), [SPLIT_BY_IMAGE]),
        ((60, 0, 0, 0), [GROUPS_UNKNOWN]),
        ((60, 59, 6, 1), [SPLIT_BY_IMAGE, GROUPS_UNKNOWN]),
    ],
)
def test_what_a_run_counted_decides(store: Store, counts: tuple[int, ...], tags: list[str]):
    names = ("num_images", "num_grouped", "num_groups", "num_torn")
    facts = {"grouping": dict(zip(names, counts, strict=True)), "group_rule": "slide"}
    assert stored(store, forget=False, provenance=facts) == tags


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({"data": FakeData()}, []),
        ({"data": FakeData(groups_known=False)}, [GROUPS_UNKNOWN]),
        ({"data": FakeData(), "split": SplitSpec(by="image")}, [SPLIT_BY_IMAGE]),
        (
            {
                "data": FakeData(),
                "split": SplitSpec(file_sha256="0" * 64),
                "provenance": {"split_rule": f"{DIVIDED_BY_IMAGE}; train 60 % (from a.csv)"},
            },
            [SPLIT_BY_IMAGE],
        ),
    ],
)
def test_runs_stored_before_groups_were_counted_are_marked_by_what_they_hold(store: Store, changes, tags: list[str]):
    changes = {**changes, "data": FakeData(num_groups=30, group_size=14, groups_known=changes["data"].groups_known)}
    assert stored(store, forget=True, **changes) == tags


def test_earlier_runs_whose_val_and_test_share_a_group_are_marked(store: Store):
    one = fake_run(FakeData(), "uni", "linear", 4, 1e-3, 1, skill=1, tested=True)
    names = [f"{row['subset']}/{row['path']}" for row in one.predictions.to_pylist()]
    store.write(replace(one, predictions=one.predictions.set_column(0, "path", pa.array(names))))
    (setting,) = read_settings(store.runs())
    assert re.match(r"Split by image: \d+ of 60 groups", setting.group_warnings[SPLIT_BY_IMAGE])


def test_a_comparison_of_leaking_runs_says_so_beside_every_name_and_in_its_notes(store: Store):
    write_runs(store, data=FakeData(groups_known=False), methods=("linear",), shots=(4,), seeds=(1, 2), rates=(1e-3,))
    found = compare(read_settings(store.runs()), "model", replicates=50)
    assert any(
        "2 of 2 settings: groups unknown, patients may be on both sides (group leakage)" in x for x in notes(found)
    )


@pytest.mark.usefixtures("real_drawings")
def test_a_page_of_fit_says_that_its_split_tears_groups(drawn_cells: Path, tmp_path: Path):
    data = table(tmp_path / "cells", drawn_cells, kept)
    given = [
        "--split",
        str(torn_file(data)),
        "--model",
        "nano",
        "--method",
        "linear",
        "--learning-rates",
        "0.01",
        "--steps",
        "2",
    ]
    cytolora(["fit", str(data), "--out", str(tmp_path / "bundle"), *given])
    for name in ("card.md", "report.html"):
        text = (tmp_path / "bundle" / name).read_text()
        assert re.search(r"Split by image: 3 of 6 groups \(patients, slides or fields\) have images in more", text), (
            name
        )


def test_groups_are_counted_once_and_torn_where_they_stand_in_two_subsets():
    images = [("train", "a"), ("test", "a"), ("val", "b"), ("val", "b"), ("test", None), (None, "c")]
    assert Grouping.of(images) == Grouping(num_images=6, num_grouped=5, num_groups=3, num_torn=1)


@pytest.mark.slow
def test_a_report_of_earlier_runs_is_marked_in_all_its_files_too(store: Store, tmp_path: Path):
    names = {"models": ("uni",), "seeds": (1, 2), "rates": (1e-3,)}
    write_runs(
        store, data=FakeData(groups_known=False, metadata={"stain": ["pap", "giemsa"]}), shots=(4, None), **names
    )
    out = build_report(store.root, tmp_path / "out").parent
    bear_marks(out, {SPLIT_BY_IMAGE: False, GROUPS_UNKNOWN: True})
    assert (out / "metadata.csv").is_file()
