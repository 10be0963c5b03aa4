"""Values of a run folder's files: of another type or out of its range they are named, at its edge they are taken."""

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from fake_store import FakeData, fake_run
from hypothesis import given
from hypothesis import strategies as st

from cytolora.config.run import to_plain
from cytolora.core.schema import shown
from cytolora.errors import StoreError
from cytolora.experiments.run_folder import (
    METRICS,
    PREDICTIONS,
    PROBLEMS,
    PROVENANCE,
    SPEC,
    WEIGHTS,
    checksum_lines,
    damaged,
    problem_in_table,
    read_checksums,
    unreadable,
    verify,
)

RUN = fake_run(FakeData(num_groups=4), "uni", "linear", 4, 1e-3, 1, 1.0, True)
CONTENT: dict[str, Any] = {SPEC: to_plain(RUN.spec), METRICS: dict(RUN.metrics), PROVENANCE: dict(RUN.provenance)}
COUNTS = {"num_images": 9, "num_grouped": 9, "num_groups": 3, "num_torn": 0}
FOLDER = Path("runs/one")


def changed(name: str, *keys: str, value: Any = None, delete: bool = False) -> dict[str, Any]:
    """A file's content with one field changed or left out."""
    content = dict(CONTENT[name])
    at = content
    for key in keys[:-1]:
        at[key] = dict(at[key])
        at = at[key]
    if delete:
        del at[keys[-1]]
    else:
        at[keys[-1]] = value
    return content


@pytest.mark.parametrize("name", list(CONTENT))
def test_a_run_as_it_is_stored_has_no_problem(name: str):
    assert PROBLEMS[name](CONTENT[name]) == ""


TEXTS = [(SPEC, key) for key in ("dataset", "backbone", "method")] + [
    (PROVENANCE, key) for key in ("weights_sha256", "data_fingerprint", "split_fingerprint")
]
OBJECTS = [(SPEC, ("sampling",)), (SPEC, ("split",)), (SPEC, ("train",)), (METRICS, ("train",))]
COUNTED = [(METRICS, ("num_trainable",)), (METRICS, ("train", "num_images")), (METRICS, ("train", "num_steps"))]
COUNTED += [(METRICS, ("val", "n")), (METRICS, ("test", "n"))]
SHARES = [
    (METRICS, (subset, name)) for subset in ("val", "test") for name in ("accuracy", "balanced_accuracy", "macro_f1")
]
SIZES = [(SPEC, ("learning_rate",)), (METRICS, ("val", "loss"))]
NUMBERS = [*SIZES, *SHARES]
COUNT = "a whole number from 0 up"
CASES = [(name, (key,), "a text", value) for name, key in TEXTS for value in (1, None, ["a"])]
CASES += [(name, keys, "an object", value) for name, keys in OBJECTS[:3] for value in (1, None, [], "{}")]
CASES += [(name, keys, COUNT, value) for name, keys in COUNTED for value in (-1, 1.5, True, "1", None)]
NO_NUMBERS = ("1", None, True, float("inf"))
CASES += [(name, keys, "a finite number from 0 up", value) for name, keys in SIZES for value in (*NO_NUMBERS, -0.1)]
CASES += [(name, keys, "a number in [0, 1]", value) for name, keys in SHARES for value in (*NO_NUMBERS, -0.1, 1.1)]
CASES += [(SPEC, ("seed",), "a whole number", value) for value in (1.0, True, "1", None)]
CASES += [(METRICS, (subset,), "an object or null", value) for subset in ("val", "test") for value in (1, [], "x")]
CASES += [(PROVENANCE, ("classes",), "a list of texts", value) for value in ([], "ab", ["a", 1], {"a": 1}, None)]
CASES += [(PROVENANCE, ("seconds",), "a finite number from 0 up", value) for value in ("long", True, [1])]
CASES += [(PROVENANCE, (key,), COUNT, v) for key in ("num_repeated", "threads") for v in (-1, 0.5, "1")]
GROUPED = "an object of the whole numbers num_images, num_grouped, num_groups, num_torn"
CASES += [(PROVENANCE, ("grouping",), GROUPED, value) for value in ([1], {**COUNTS, "num_torn": -1}, {"num_torn": 1})]


@pytest.mark.parametrize(("name", "keys", "kind", "value"), CASES)
def test_a_value_of_another_kind_is_named_with_what_it_should_be(name: str, keys: tuple[str, ...], kind: str, value):
    said = PROBLEMS[name](changed(name, *keys, value=value))
    assert said == f"has {'.'.join(keys)!r} {shown(value)}, which is not {kind}"


REQUIRED = [(name, (key,)) for name, key in TEXTS]
REQUIRED += [*OBJECTS, *COUNTED, *NUMBERS, (SPEC, ("seed",)), (METRICS, ("val",)), (METRICS, ("test",))]
REQUIRED += [(PROVENANCE, ("classes",))]


@pytest.mark.parametrize(("name", "keys"), REQUIRED)
def test_a_value_that_is_missing_is_named(name: str, keys: tuple[str, ...]):
    assert PROBLEMS[name](changed(name, *keys, delete=True)) == f"has no {'.'.join(keys)!r}"


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        (SPEC, ("seed",), -3),
        (SPEC, ("learning_rate",), 1),
        (METRICS, ("val",), None),
        (METRICS, ("test",), None),
        (METRICS, ("val", "n"), 0),
        (METRICS, ("num_trainable",), 0),
        (PROVENANCE, ("grouping",), COUNTS),
        (PROVENANCE, ("grouping",), None),
        (PROVENANCE, ("seconds",), 0.0),
        (PROVENANCE, ("num_repeated",), 0),
        (PROVENANCE, ("classes",), ["a"]),
        (PROVENANCE, ("later",), {"of": "another version"}),
    ],
)
def test_values_at_the_edge_of_their_range_are_taken(name: str, keys: tuple[str, ...], value: Any):
    assert PROBLEMS[name](changed(name, *keys, value=value)) == ""


@pytest.mark.parametrize("name", list(CONTENT))
@pytest.mark.parametrize("content", [[], "x", None, 3])
def test_a_file_that_holds_no_object_lacks_its_first_field(name: str, content: Any):
    first = {SPEC: "dataset", METRICS: "val", PROVENANCE: "weights_sha256"}[name]
    assert PROBLEMS[name](content) == f"has no {first!r}"


def test_a_train_part_that_is_no_object_is_a_problem_and_no_crash():
    assert PROBLEMS[METRICS](changed(METRICS, "train", value=[])) == "has 'train' [], which is not an object"


@given(st.dictionaries(st.sampled_from([SPEC, METRICS, PREDICTIONS, PROVENANCE, WEIGHTS]), st.binary(max_size=20)))
def test_checksums_are_read_back_if_they_list_the_files_that_every_run_has(contents: dict[str, bytes]):
    lines = checksum_lines(contents)
    if {SPEC, METRICS, PREDICTIONS, PROVENANCE} <= contents.keys():
        verify(FOLDER, read_checksums(FOLDER, lines), contents)
    else:
        with pytest.raises(StoreError, match=r"runs/one is damaged: sha256sums\.txt does not list its files"):
            read_checksums(FOLDER, lines)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"no line of a checksum\n", b"0  spec.json\n0  spec.json\n"])
def test_a_list_of_checksums_with_another_line_is_damage(damage: bytes):
    lines = checksum_lines(dict.fromkeys((SPEC, METRICS, PREDICTIONS, PROVENANCE), b""))
    with pytest.raises(StoreError, match=r"sha256sums\.txt does not list its files"):
        read_checksums(FOLDER, lines + damage)


def test_a_file_that_the_list_lacks_or_that_differs_is_named():
    sums = read_checksums(FOLDER, checksum_lines(dict.fromkeys((SPEC, METRICS, PREDICTIONS, PROVENANCE), b"a")))
    verify(FOLDER, sums, {})
    verify(FOLDER, sums, {SPEC: b"a"})
    for name, content in ((SPEC, b"b"), (WEIGHTS, b"a")):
        with pytest.raises(StoreError, match=rf"damaged: {name} was changed after it was written \(sha256sums\.txt\)"):
            verify(FOLDER, sums, {METRICS: b"a", name: content})


def test_damage_ends_in_one_full_stop_and_says_what_to_do():
    text = (
        "Stored run runs/one is damaged: it is torn. Restore it from a copy, or move this folder out of the store and"
    )
    assert str(damaged(FOLDER, "it is torn.")) == str(damaged(FOLDER, "it is torn")) == f"{text} run again."


def test_what_is_missing_is_damage_and_what_cannot_be_read_is_not():
    gone = FileNotFoundError(errno.ENOENT, "No such file", "spec.json")
    assert "is damaged: spec.json is missing." in str(unreadable(FOLDER, gone))
    locked = PermissionError(errno.EACCES, "Permission denied", "spec.json")
    assert str(unreadable(FOLDER, locked)).startswith(
        "Cannot read stored run runs/one: spec.json: Permission denied. N"
    )


TABLE, CLASSES = RUN.predictions, RUN.provenance["classes"]


def of_column(name: str, values: pa.Array) -> pa.Table:
    """The table of predictions with another column in the place of one."""
    return TABLE.set_column(TABLE.column_names.index(name), name, values)


WHOLE_NUMBERS = pa.array(range(len(TABLE)))
TEST_ROWS = TABLE.filter(pc.field("subset") == "test")
NUM_TESTED = len(TEST_ROWS)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (TABLE, ""),
        (TABLE.slice(0, 0), ""),
        (TABLE.append_column("meta_site", WHOLE_NUMBERS), ""),
        (of_column(CLASSES[0], TABLE[CLASSES[0]].cast(pa.float64())), ""),
        (of_column("label", TABLE["label"].cast(pa.large_string())), ""),
        (TABLE.append_column("path", TABLE["path"]), "has two columns of one name"),
        *((TABLE.drop_columns([name]), f"has no column '{name}'") for name in ("path", "label", "subset", "group")),
        *(
            (of_column(name, WHOLE_NUMBERS), f"has a column '{name}' of int64, expected texts")
            for name in ("path", "label", "subset")
        ),
        (of_column(CLASSES[1], WHOLE_NUMBERS), f"has a column '{CLASSES[1]}' of int64, expected probabilities"),
        (
            of_column("subset", pa.array(["train"] + ["test"] * (len(TABLE) - 1))),
            "has rows of 'train', expected val and test",
        ),
        (
            pa.concat_tables([TABLE, TEST_ROWS.slice(0, 2)]),
            f"holds test images twice: {NUM_TESTED + 2} rows of {NUM_TESTED} images",
        ),
    ],
)
def test_a_table_of_predictions_that_no_run_has_is_named_with_what_is_wrong(table: pa.Table, problem: str):
    assert problem_in_table(table, CLASSES) == (problem and f"predictions.parquet {problem}")


@pytest.mark.parametrize(
    ("table", "classes"),
    [
        (of_column("label", pa.array(["other"] * len(TABLE))), CLASSES),
        (TABLE, [*CLASSES, CLASSES[0]]),
        (TABLE, [*CLASSES, "one without a column"]),
        (TABLE, CLASSES[1:]),
        (TABLE.drop_columns([CLASSES[-1]]), CLASSES),
    ],
)
def test_predictions_of_other_classes_than_the_runs_do_not_fit(table: pa.Table, classes: list[str]):
    expected = f"its predictions do not fit its classes ({', '.join(classes)})"
    assert problem_in_table(table, classes) == expected


def test_validation_images_may_be_those_of_the_test_and_stand_twice():
    val = TABLE.filter(pc.field("subset") == "val")
    assert len(val)
    assert problem_in_table(pa.concat_tables([TABLE, val]), CLASSES) == ""
