"""What is left out of the fast tests runs among the slow ones, and every line of the list names a test."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from thin_slices import mark_rest_slow, read_slices, spread

SLICES = read_slices(Path(__file__).with_name("thin_slices.txt"))
ROOT = Path(__file__).parents[1]


def test_every_line_names_a_module_or_a_function_in_it():
    named = defaultdict[str, set[str]](set)
    for name in SLICES:
        module, _, function = name.partition("::")
        named[module] |= {function} - {""}
    for module, functions in named.items():
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        assert functions <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, module


@pytest.mark.parametrize(("number", "total"), [(0, 5), (1, 5), (3, 72), (4, 4), (9, 4)])
def test_as_many_cases_as_are_asked_for_stay_fast_spread_over_all(number: int, total: int):
    places = spread(number, total)
    assert len(set(places)) == min(number, total)
    assert all(0 <= place < total for place in places)


class _Item:
    def __init__(self, nodeid: str) -> None:
        self.nodeid, self.marks = nodeid, list[str]()

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.name)


def test_the_others_are_slow_and_what_is_not_listed_stays_as_it_is():
    items = [_Item(f"tests/a.py::test_long[{case}]") for case in range(6)]
    items += [_Item("tests/a.py::test_other"), _Item("tests/b.py::test_any"), _Item("tests/b.py::test_any_more")]
    mark_rest_slow(items, {"tests/a.py::test_long": 2, "tests/b.py": 0})  # type: ignore[arg-type]
    assert [item.marks for item in items] == [[], ["slow"], ["slow"], [], ["slow"], ["slow"], [], ["slow"], ["slow"]]
