"""A store that was damaged, copied into itself or written by another version: one line, no table."""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fake_store import FakeData, write_runs
from hypothesis import given, settings
from hypothesis import strategies as st

import cytolora.core.unfinished
from cytolora.config.run import Budget, RunSpec, TrainSpec
from cytolora.config.yaml import parse_spec
from cytolora.errors import StoreError
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult
from cytolora.reporting.pages.build import build_report

SMALL = FakeData(num_groups=12)
SUMS = "sha256sums.txt"


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with checksums."""
    store = Store(tmp_path_factory.mktemp("store"))
    write_runs(store, data=SMALL, models=("uni",), methods=("linear",), shots=(4,), rates=(1e-3,), seeds=(1,))
    return next(store.root.glob("*/spec.json")).parent


@pytest.fixture
def run(store: Store) -> Path:
    """The folder of one run of three, stored without checksums, as 0.1.0 did: what is wrong shows itself."""
    write_runs(store, data=SMALL, models=("uni",), methods=("linear",), shots=(4,), rates=(1e-3,))
    for sums in store.root.glob("*/sha256sums.txt"):
        sums.unlink()
    return sorted(store.root.glob("*/spec.json"))[1].parent


def _not_a_number(run: Path) -> None:
    table = pq.read_table(run / "predictions.parquet")
    wrong = pa.array(np.full(len(table), np.nan, np.float32))
    pq.write_table(
        table.set_column(table.column_names.index("columnar"), "columnar", wrong), run / "predictions.parquet"
    )


def _no_test_image(run: Path) -> None:
    table = pq.read_table(run / "predictions.parquet")
    pq.write_table(table.filter(pc.field("subset") != "test"), run / "predictions.parquet")


def _other_numbers(run: Path) -> None:
    table = pq.read_table(run / "predictions.parquet")
    for name in SMALL.classes:
        equal = pa.array(np.full(len(table), 1 / 7, np.float32))
        table = table.set_column(table.column_names.index(name), name, equal)
    pq.write_table(table, run / "predictions.parquet")


def _column(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    """Puts other values into a column of the predictions."""

    def damage(run: Path) -> None:
        table = pq.read_table(run / "predictions.parquet")
        values = change(np.array(table[name].to_pylist()))
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
        pq.write_table(table, run / "predictions.parquet")

    return damage


def _first(value: Any) -> Callable[[np.ndarray], Any]:
    return lambda values: [value, *values[1:].tolist()]


def _twice(run: Path) -> None:
    table = pq.read_table(run / "predictions.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(len(table) - 1)]), run / "predictions.parquet")


def _other_labels(run: Path) -> None:
    """Two labels change places: as many are right, and not as many of each class."""
    table = pq.read_table(run / "predictions.parquet")
    labels = ["mild dysplasia" if label == "carcinoma in situ" else label for label in table["label"].to_pylist()]
    pq.write_table(table.set_column(1, "label", pa.array(labels)), run / "predictions.parquet")


def _other_version(run: Path) -> None:
    spec = json.loads((run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps(spec | {"later": 1}))


def _without(file: str, *keys: str, value: Any = None) -> Callable[[Path], None]:
    """Takes a field away, or puts another value in its place."""

    def change(run: Path) -> None:
        content = found = json.loads((run / file).read_text())
        for key in keys[:-1]:
            found = found[key]
        del found[keys[-1]]
        if value is not None:
            found[keys[-1]] = value
        (run / file).write_text(json.dumps(content))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("provenance.json", "classes"), r"provenance\.json has no 'classes'"),
        (_without("provenance.json", "classes", value="abc"), r"has 'classes' 'abc', which is not a list of texts"),
        (_without("provenance.json", "seconds", value="long"), r"has 'seconds' 'long', which is not a finite number"),
        (_without("metrics.json", "train"), r"metrics\.json has no 'train'"),
        (_without("metrics.json", "train", "num_images"), r"metrics\.json has no 'train\.num_images'"),
        (_without("metrics.json", "num_trainable"), r"metrics\.json has no 'num_trainable'"),
        (_without("metrics.json", "val", "loss"), r"metrics\.json has no 'val\.loss'"),
        (_without("metrics.json", "test", "accuracy"), r"metrics\.json has no 'test\.accuracy'"),
        (_without("metrics.json", "val", value=3), r"has 'val' 3, which is not an object or null"),
        (
            _without("metrics.json", "val", "accuracy", value=float("nan")),
            r"metrics\.json: NaN is no JSON",
        ),
        (_without("spec.json", "sampling"), r"spec\.json has no 'sampling'"),
        (_without("spec.json", "learning_rate", value="high"), r"has 'learning_rate' 'high', which is not a finite"),
        (_without("spec.json", "seed", value=1.5), r"has 'seed' 1\.5, which is not a whole number"),
        (_without("metrics.json", "test", "accuracy", value=85), r"has 'test\.accuracy' 85, which is not a number in"),
        (_without("metrics.json", "val", "macro_f1", value=-0.1), r"has 'val\.macro_f1' -0\.1, which is not a number"),
        (_without("metrics.json", "val", "loss", value=-2), r"has 'val\.loss' -2, which is not a finite number from 0"),
        (_without("metrics.json", "test", "n", value=True), r"has 'test\.n' True, which is not a whole number"),
        (_without("metrics.json", "num_trainable", value=2**70), r"has 'num_trainable' 1\d+, which is not a whole"),
        (_without("provenance.json", "seconds", value=-3), r"has 'seconds' -3, which is not a finite number from 0 up"),
        (_without("spec.json", "learning_rate", value=-0.1), r"has 'learning_rate' -0\.1, which is not a finite"),
        (lambda run: (run / "metrics.json").write_text("[]"), r"metrics\.json has no 'val'"),
        (lambda run: (run / "metrics.json").write_text('{"val": null}'), r"metrics\.json has no 'test'"),
        (lambda run: (run / "provenance.json").write_text("{}"), r"provenance\.json has no 'weights_sha256'"),
        (lambda run: (run / "predictions.parquet").unlink(), r"predictions\.parquet is missing"),
        (lambda run: (run / "predictions.parquet").write_bytes(b"PAR1"), r"predictions\.parquet: "),
        (_not_a_number, "the probabilities of 60 of 60 test images are no numbers"),
        (_no_test_image, "no test image"),
        (_other_numbers, r"metrics\.json says test (accuracy|loss) \d\.\d+, its predictions give \d\.\d+"),
        (_twice, "holds test images twice: 61 rows of 60 images"),
        (_other_labels, r"metrics\.json says (test|val) (accuracy|balanced_accuracy) 0\.\d+, its predictions give"),
        (
            _column("columnar", _first(7.5)),
            "the probabilities of 1 of \\d+ \\w+ images are not from 0 up with a sum of 1",
        ),
        (_column("columnar", lambda values: 0 * values), "images are not from 0 up with a sum of 1, first '"),
        (_column("columnar", lambda values: values - 1), "are not from 0 up with a sum of 1"),
        (_column("columnar", lambda values: values.astype(str)), "has a column 'columnar' of string, expected prob"),
        (
            _column("columnar", lambda values: [None, *values[1:].tolist()]),
            "the probabilities of 1 of .* are no numbers",
        ),
        (_column("label", _first("scc")), "its predictions do not fit its classes"),
        (_column("label", _first(None)), "its predictions do not fit its classes"),
        (_column("subset", _first("train")), "has rows of 'train', expected val and test"),
        (_column("path", lambda values: np.arange(len(values))), "has a column 'path' of int64, expected texts"),
        (_without("metrics.json", "test", "accuracy", value=0.99), r"metrics\.json says test accuracy 0\.99, its"),
        (_without("metrics.json", "test", "macro_f1", value=0.99), r"metrics\.json says test macro_f1 0\.99, its"),
        (_without("metrics.json", "test", "n", value=61), r"metrics\.json says test n 61, its predictions give 60"),
        (_without("metrics.json", "val", "balanced_accuracy", value=0.99), r"metrics\.json says val balanced_acc"),
        (_without("metrics.json", "val", "loss", value=0.001), r"metrics\.json says val loss 0\.001, its pred"),
        (_other_version, "cannot be read by this version of cytolora: .*unknown key 'later'"),
    ],
)
def test_a_damaged_run_is_named_and_no_report_is_made(
    store: Store, run: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
):
    damage(run)
    with pytest.raises(StoreError, match=f"Stored run .*{said}"):
        build_report(store.root, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_metrics_that_changed_after_a_report_are_named_by_the_next(store: Store, run: Path, tmp_path: Path):
    build_report(store.root, tmp_path / "report")
    _without("metrics.json", "test", "balanced_accuracy", value=0.99)(run)
    with pytest.raises(StoreError, match=r"metrics\.json says test balanced_accuracy 0\.99, its predictions give 0\."):
        build_report(store.root, tmp_path / "again")


def test_a_run_that_reading_would_call_damaged_is_not_stored(one_run: Path, tmp_path: Path):
    stored = next(Store(one_run.parent).runs())
    result = RunResult(
        spec=parse_spec(stored.spec, RunSpec, "spec.json"),
        metrics={**stored.metrics, "test": {**stored.metrics["test"], "accuracy": 85}},
        predictions=stored.predictions(),
        weights=None,
        provenance=stored.provenance,
    )
    with pytest.raises(
        StoreError, match=r"cannot be stored: metrics\.json has 'test\.accuracy' 85, which is not a num"
    ):
        Store(tmp_path / "new").write(result)
    assert list((tmp_path / "new").glob("*/*")) == []


def test_a_copied_run_is_refused_for_it_would_count_as_a_further_seed(store: Store, run: Path, tmp_path: Path):
    shutil.copytree(run, run.with_name("copy"))
    with pytest.raises(StoreError, match=r"copy holds the stored run .*copied or renamed"):
        build_report(store.root, tmp_path / "report")


def _read_all(store: Path) -> None:
    for run in Store(store).runs():
        run.predictions()
        run.weights()


@pytest.mark.parametrize(
    "name", ["spec.json", "metrics.json", "predictions.parquet", "weights.safetensors", "provenance.json", SUMS]
)
@given(data=st.data())
@settings(max_examples=25)
def test_one_changed_bit_of_a_stored_run_is_named(one_run: Path, name: str, data: st.DataObject):
    file = one_run / name
    content = file.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
    try:
        with pytest.raises(StoreError, match=rf"{one_run.name}"):
            _read_all(one_run.parent)
    finally:
        file.write_bytes(content)


def test_the_checksums_are_those_that_sha256sum_checks(one_run: Path):
    lines = {line.split("  ")[1]: line.split("  ")[0] for line in (one_run / SUMS).read_text().splitlines()}
    others = {path.name for path in one_run.iterdir()} - {SUMS}
    assert lines == {name: hashlib.sha256((one_run / name).read_bytes()).hexdigest() for name in others}


@pytest.mark.slow
def test_the_page_says_of_runs_without_checksums_that_nobody_can_verify_them(store: Store, run: Path, tmp_path: Path):
    page = build_report(store.root, tmp_path / "report").read_text()
    assert "3 of 3 runs kept none: nobody can tell whether a byte was changed" in page


def test_a_file_that_cannot_be_read_is_not_called_damaged(one_run: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cytolora.core.folders._read_in", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError, match=r"Cannot read stored run .*Input/output error.*Nothing says that it is dam"):
        list(Store(one_run.parent).runs())


def test_a_store_that_may_not_be_written_is_reported_and_left_as_it_is(
    store: Store, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a disk that is mounted to be read: permissions do not bind the user that tests may run as."""
    (store.root / ".lock").unlink(missing_ok=True)
    held, write = store.root, cytolora.core.unfinished.begin_file

    def refuse(target: Path):
        if held in target.parents:
            raise PermissionError(target)
        return write(target)

    monkeypatch.setattr("cytolora.core.folders.os.access", lambda path, _mode: Path(path) != held)
    monkeypatch.setattr("cytolora.core.unfinished.begin_file", refuse)
    before = sorted(held.rglob("*"))
    assert build_report(held, tmp_path / "report").is_file()
    assert [path for path in sorted(held.rglob("*")) if path.is_file()] == [path for path in before if path.is_file()]


@pytest.mark.slow
def test_a_cut_budget_is_marked_in_every_table_and_in_the_pictures(store: Store, tmp_path: Path):
    cut = TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=2))
    write_runs(store, data=SMALL, models=("uni",), methods=("lora",), shots=(1, 4), rates=(1e-3,), train=cut)
    out = build_report(store.root, tmp_path / "report").parent
    assert "[cut, few groups]" in (out / "tables.md").read_text()
    assert "[cut, few groups]" in (out / "tables.tex").read_text()
    for name in ("figure1", "herlev_accuracy", "labels"):
        picture = (out / "figures" / f"{name}.svg").read_text()
        assert "budget cut: a dry run" in picture
        assert "linear, all images" not in picture
