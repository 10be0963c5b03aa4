"""Mutants of a Python source: one small change each, by the standard operators of mutation testing.

Not mutated, for no test is meant to see it: annotations, docstrings, imports, decorators and the words of messages.
"""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
ARITHMETIC = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
SHAPES = ("Bool", "Float", "Float32", "Float64", "Int", "Int64", "Num", "Literal")
"""Subscripts of these are types, wherever they stand."""
SYMMETRIC = ("max", "min", "np.maximum", "np.minimum", "np.allclose", "math.isclose")
MESSAGES = ("Error", "finding", "damaged", "debug", "info", "warning")
"""Calls whose name ends so hold words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    line: int
    key: str
    """The function, the code before and after, and a number where the same stands there twice: no line, which moves."""
    place: int
    """Of the node, in the order of ``_places``."""
    change: int
    """Of those of that node, in the order of ``_changes``."""


def mutants(source: str) -> list[Mutant]:
    """Lists every mutant of a source, in the order of its lines."""
    found, seen = [], Counter[str]()
    for place, (scope, node) in enumerate(_places(ast.parse(source), ())):
        before = _code(node)
        for number, change in enumerate(_changes(node)):
            key = f"{'.'.join(scope) or '-'}: {before} -> {_code(change(copy.deepcopy(node)))}"
            seen[key] += 1
            key += f" ({seen[key]})" if seen[key] > 1 else ""
            found.append(Mutant(line=node.lineno, key=key, place=place, change=number))
    return sorted(found, key=lambda mutant: mutant.line)


def mutated(source: str, mutant: Mutant) -> str:
    """Makes the source of a mutant; comments are lost."""
    tree = ast.parse(source)
    node = list(_places(tree, ()))[mutant.place][1]
    _replace(tree, node, list(_changes(node))[mutant.change](node))
    return ast.unparse(ast.fix_missing_locations(tree))


def _code(node: ast.AST) -> str:
    """Returns code in one line; of a long statement its beginning."""
    text = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(entry is old for entry in value):
                value[:] = [new if entry is old else entry for entry in value]


def _places(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.AST]]:
    """Yields the nodes that may be mutated, with the names of the functions and classes around them."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or (name == "exc" and isinstance(node, ast.Raise)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_silent(child):
                continue
            inside = scope
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = (*scope, child.name)
            elif hasattr(child, "lineno"):
                yield scope, child
            yield from _places(child, inside)


def _is_silent(node: ast.AST) -> bool:
    """Says whether a node holds nothing that a test is meant to see."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Expr(value=ast.Constant()):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.keyword(arg="strict"):  # of zip: never unequal lengths
            return True
        case ast.Subscript(value=ast.Name(id=name)):
            return name in SHAPES
        case ast.Call():
            return ast.unparse(node.func).endswith(MESSAGES)
    return False


def _changes(node: ast.AST) -> Iterator[Callable[[ast.AST], ast.AST]]:
    """Yields the changes of one node, as functions of an equal node."""
    match node:
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                if type(operator) in COMPARISONS:
                    yield lambda old, index=index: _with_comparison(old, index)
        case ast.BinOp() | ast.AugAssign() if type(node.op) in ARITHMETIC and not _is_text(node):
            yield lambda old: _with(old, op=ARITHMETIC[type(old.op)]())
        case ast.BoolOp():
            yield lambda old: _with(old, op=ast.Or() if isinstance(old.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield lambda old: old.operand
        case ast.Constant(value=bool()):
            yield lambda old: ast.Constant(not old.value)
        case ast.Constant(value=int() | float()):
            yield lambda old: ast.Constant(old.value + 1)
        case ast.Constant(value=str()):
            yield lambda old: ast.Constant("" if old.value else "x")
        case ast.Return(value=ast.expr()) if ast.unparse(node.value) != "None":
            yield lambda old: ast.Return(ast.Constant(None))
        case ast.Continue() | ast.Break() | ast.Raise():
            yield lambda old: ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield lambda old: ast.Pass()
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            yield lambda old: ast.Pass()
        case ast.Call(args=[first, second, *_]) if _can_swap(node.func, first, second):
            yield lambda old: _with(old, args=[old.args[1], old.args[0], *old.args[2:]])
    if isinstance(node, ast.AugAssign):
        yield lambda old: ast.Pass()
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield lambda old: _with(old, test=ast.UnaryOp(ast.Not(), old.test))
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        for index, generator in enumerate(node.generators):
            if generator.ifs:
                yield lambda old, index=index: _with_condition(old, index)


def _can_swap(function: ast.AST, first: ast.AST, second: ast.AST) -> bool:
    """Says whether a call with its first two arguments exchanged is another one."""
    is_starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
    return not is_starred and ast.unparse(first) != ast.unparse(second) and ast.unparse(function) not in SYMMETRIC


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _with_comparison(node: ast.Compare, index: int) -> ast.AST:
    operators = list(node.ops)
    operators[index] = COMPARISONS[type(operators[index])]()
    return _with(node, ops=operators)


def _with_condition(node: ast.AST, index: int) -> ast.AST:
    generators = list(node.generators)
    first, *rest = generators[index].ifs
    generators[index] = _with(generators[index], ifs=[ast.UnaryOp(ast.Not(), first), *rest])
    return _with(node, generators=generators)


def _is_text(node: ast.AST) -> bool:
    """Says whether texts are joined or formatted: subtracting them is an error of every caller."""
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    return any(isinstance(side, ast.JoinedStr | ast.Constant) and not _is_number(side) for side in sides)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)
