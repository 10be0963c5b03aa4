"""benchmarks/mutation.py: the changes that it makes of a source, one at a time, and what it leaves alone."""

import ast
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import load_benchmark


@pytest.fixture(scope="module")
def mutation() -> Any:
    return load_benchmark("mutation")


def keys(mutation: Any, source: str) -> list[str]:
    return [mutant.key for mutant in mutation.mutants(source)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a < b", ["a < b -> a <= b"]),
        ("a in b", ["a in b -> a not in b"]),
        ("a + b * c", ["a + b * c -> a - b * c", "b * c -> b / c"]),
        ("a and b", ["a and b -> a or b"]),
        ("not a", ["not a -> a"]),
        ("-a", ["-a -> a"]),
        ("f(a, b)", ["f(a, b) -> f(b, a)"]),
        ("max(a, b)", []),
        ("f(*a, b)", []),
        ("[x for x in a if x]", ["[x for x in a if x] -> [x for x in a if not x]"]),
        ("a if b else c", ["a if b else c -> a if not b else c"]),
        ("f(key=1)", ["1 -> 2"]),
        ("'name'", ["'name' -> ''"]),
        ("''", ["'' -> 'x'"]),
        ("True", ["True -> False"]),
        ("f'{a + b} words'", []),
        ("Float64[a, 'images classes']", []),
    ],
)
def test_an_expression_is_changed_by_each_operator_that_fits_it(mutation: Any, line: str, expected: list[str]):
    assert keys(mutation, f"value = {line}") == [f"-: {key}" for key in expected]


def test_statements_are_removed_and_conditions_negated_under_the_name_of_their_function(mutation: Any):
    source = "class A:\n    def f(self, a):\n        if a:\n            g(a)\n            a[0] = a\n        return a\n"
    assert keys(mutation, source) == [
        "A.f: if a: g(a) a[0] = a -> if not a: g(a) a[0] = a",
        "A.f: g(a) -> pass",
        "A.f: a[0] = a -> pass",
        "A.f: 0 -> 1",
        "A.f: return a -> return None",
    ]


def test_docstrings_annotations_decorators_imports_and_messages_are_left_alone(mutation: Any):
    source = (
        '"""Words."""\nimport a\n\n\n@cache(maxsize=3)\ndef f(x: "int" = 1) -> "str":\n    """Words."""\n'
        '    raise DataError(f"{x}: found {1 + 1}", "words")\n'
    )
    assert keys(mutation, source) == ["f: 1 -> 2", "f: raise DataError(f'{x}: found {1 + 1}', 'words') -> pass"]


def test_equal_places_are_told_apart_by_a_number_and_each_mutant_changes_one_of_them(mutation: Any):
    source = "a = 1\nb = 1\n"
    first, second = mutation.mutants(source)
    assert (first.key, second.key) == ("-: 1 -> 2", "-: 1 -> 2 (2)")
    assert mutation.mutated(source, first) == "a = 2\nb = 1"
    assert mutation.mutated(source, second) == "a = 1\nb = 2"


def test_every_mutant_of_a_module_is_another_program(mutation: Any):
    source = Path(mutation.__file__).read_text(encoding="utf-8")
    found = [ast.dump(ast.parse(mutation.mutated(source, mutant))) for mutant in mutation.mutants(source)[:12]]
    assert len(found) == len(set(found)) == 12
    assert ast.dump(ast.parse(source)) not in found


@pytest.mark.slow
def test_every_survivor_that_may_stay_still_exists_and_has_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    module = load_benchmark("mutants")
    package = module.ROOT / "src" / "cytolora"
    known = module.known_survivors()
    files = {entry.partition(" | ")[0] for entry in known}
    assert files <= set(module.TESTS)
    existing = {
        f"{name} | {mutant.key}"
        for name in files
        for mutant in module.mutants((package / name).read_text(encoding="utf-8"))
    }
    assert [entry for entry in known if entry not in existing] == []
    assert [entry for entry, reason in known.items() if not reason] == []
