"""Classes called like a column of a table of predictions keep their probabilities and the column its own values."""

import csv
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.classifier.decision.decide import COLUMNS, Prediction, class_columns
from cytolora.classifier.inference.predictions import Predictions, schema
from cytolora.core.delimited import csv_line


@pytest.mark.parametrize("name", COLUMNS)
def test_a_class_called_like_a_column_loses_no_probability_and_takes_no_column_away(name: str):
    one = Prediction(
        name="a.png", probabilities=(0.25, 0.75), predicted=name, positive=True, prediction_set=(name,),
        is_referred=False, is_out_of_distribution=False,
    )  # fmt: skip
    table = Predictions((one,), ("negative", name)).to_arrow()
    assert table.column_names == ["path", "predicted", "negative", f"p {name}", *COLUMNS[2:]]
    assert table.to_pylist() == [
        {
            "path": "a.png", "predicted": name, "negative": 0.25, f"p {name}": 0.75, "positive": True,
            "prediction_set": name, "referred": False, "unfamiliar": False, "error": "",
        }
    ]  # fmt: skip
    header = next(csv.reader(io.StringIO(csv_line(one.row(("negative", name))))))
    assert header == table.column_names


@given(st.lists(st.sampled_from([*COLUMNS, "p positive", "p p positive", "p error", "hsil"]), unique=True, min_size=2))
def test_every_column_has_a_name_of_its_own_whatever_classes_are_called(classes: list[str]):
    names = schema(classes).names
    assert len(set(names)) == len(names) == len(COLUMNS) + len(classes)
    assert schema(classes).field("positive").type == pa.bool_()


def test_other_classes_have_the_columns_that_they_had():
    assert class_columns(("hsil", "p positive", "carcinoma in situ")) == ["hsil", "p positive", "carcinoma in situ"]
