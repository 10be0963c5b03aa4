"""Settings that differ in some field are named in the words of a paper, not in those of a program."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import pytest
from fake_store import FakeData, fake_run, write_runs

from cytolora.config.run import AdapterSpec, HeadSpec, RunSpec, Sampling, SplitSpec
from cytolora.experiments.store import Store
from cytolora.reporting.results.settings import read_settings
from cytolora.reporting.results.variants import field_in_words, fields_in_words, name_variants

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


def _named(*changes: dict[str, Any]) -> list[str]:
    """Texts of the variants of one linear head."""
    spec = fake_run(FakeData(num_groups=2), "uni", "linear", 4, 0.1, 1, 1.0, tested=False).spec
    found = name_variants({str(number): replace(spec, **change) for number, change in enumerate(changes)})
    return [", ".join(filter(None, (one.text, one.division))) for one in found.values()]


def test_what_is_not_set_is_said_in_words():
    natural = {"sampling": Sampling(shots=4, sampling="natural")}
    assert _named({}, natural) == ["as many of every class", "labels in natural prevalence"]
    validation = [{"sampling": Sampling(shots=4, val_shots=number)} for number in (0, 16)]
    expected = ["validation images by the shots", "no validation image a class", "16 validation images a class"]
    assert _named({}, *validation) == expected
    left_out = {"split": SplitSpec(leave_out="site=A")}
    assert _named({}, left_out) == ["official or random test set", "tested on site=A"]
    settled = {"method": "gda", "learning_rate": 0}
    shrunk = {**settled, "head": HeadSpec(shrinkage=0.5)}
    assert _named(settled, shrunk) == ["head shrinkage by default", "head shrinkage 0.5"]


def _optional(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields of a spec that may be unset."""
    hints = get_type_hints(kind)
    for entry in fields(kind):
        known = (hints[entry.name], *get_args(hints[entry.name]))
        if type(None) in known:
            yield prefix + entry.name
        for inner in filter(is_dataclass, known):
            yield from _optional(inner, f"{prefix}{entry.name}.")


@pytest.mark.parametrize("key", sorted(_optional(RunSpec)))
def test_no_unset_field_is_called_none_or_twice_the_same(key: str):
    said = field_in_words(key, None).split()
    assert "none" not in said
    assert all(one != other for one, other in pairwise(said))
