"""Settings that differ in some field are named in the words of a paper, not in those of a program."""

from typing import Any

import pytest
from fake_store import write_runs

from cytolora.config.run import AdapterSpec
from cytolora.experiments.store import Store
from cytolora.reporting.results.settings import read_settings
from cytolora.reporting.results.variants import fields_in_words

ALL: Any = ("q", "k", "v", "o")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (
            AdapterSpec(rank=2),
            AdapterSpec(rank=16, targets=ALL),
            {"lora (rank 2 on q, v)", "lora (rank 16 on q, k, v, o)"},
        ),
        (AdapterSpec(rank=2), AdapterSpec(rank=16), {"lora (rank 2)", "lora (rank 16)"}),
        (AdapterSpec(), AdapterSpec(targets=("q",)), {"lora (on q, v)", "lora (on q)"}),
        (AdapterSpec(), AdapterSpec(dropout=0.1), {"lora (dropout 0.25)", "lora (dropout 0.1)"}),
        (AdapterSpec(), AdapterSpec(alpha=8.0), {"lora (α 1)", "lora (α 8)"}),
        (AdapterSpec(), AdapterSpec(blocks=(0, 11)), {"lora (in all blocks)", "lora (in blocks 0, 11)"}),
        (
            AdapterSpec(),
            AdapterSpec(rank=4, targets=("k",), dropout=0.0),
            {"lora (rank 2 on q, v, dropout 0.25)", "lora (rank 4 on k, dropout 0)"},
        ),
    ],
)
def test_variants_of_a_method_are_named_in_words(
    store: Store, first: AdapterSpec, second: AdapterSpec, names: set[str]
):
    for adapter in (first, second):
        write_runs(store, models=("uni",), methods=("lora",), shots=(4,), seeds=(1,), adapter=adapter)
    assert {setting.method for setting in read_settings(store.runs())} == names


@pytest.mark.parametrize("value", [("a", "b"), ["a", "b"], True, False, None, 3, 0.5])
def test_no_field_is_printed_as_a_list_of_python(value: Any):
    (text,) = fields_in_words({"train.augment.some_field": value})
    assert text.startswith("augment some field ")
    assert not set("[](){}'") & set(text)
    assert not {"True", "False", "None"} & set(text.split())
