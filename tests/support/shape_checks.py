"""Run-time shape checks of array annotations: every function that names a shape checks it while tests run.

jaxtyping's own import hook checks each annotation of each function; this one checks shapes and dtypes alone, and leaves
functions without them as they are: tests pass stand-ins for other types, and the fast tests stay fast.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


class _CheckingLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for owner in (module, *_own_classes(module)):
            for name, member in list(vars(owner).items()):
                if getattr(member, "__module__", module.__name__) == module.__name__ and _names_shapes(member):
                    setattr(owner, name, jaxtyped(member, typechecker=_check_shapes))


class _CheckingFinder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = tuple(packages)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(tuple(f"{package}." for package in self._packages)):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _CheckingLoader(spec.loader.name, spec.loader.path)
        return spec


def install(packages: Sequence[str]) -> None:
    """Checks shapes in all modules of these packages that are imported from now on.

    Raises:
        RuntimeError: If one was imported already: its functions would go unchecked.
    """
    if loaded := [name for name in sys.modules if name.startswith(tuple(f"{package}." for package in packages))]:
        raise RuntimeError(f"{loaded[0]} was imported before its shapes could be checked.")
    sys.meta_path.insert(0, _CheckingFinder(packages))


def _own_classes(module: ModuleType) -> Iterator[type]:
    return (item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__)


def _names_shapes(member: Any) -> bool:
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    if not isinstance(function, FunctionType):  # what lru_cache returns is none, and is left alone
        return False
    return any(map(_has_shape, inspect.unwrap(function).__annotations__.values()))


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_has_shape(inner) for inner in get_args(hint))


def _check_shapes(function: Any) -> Any:
    """The type checker of ``jaxtyped``: beartype on the annotations that hold a shape."""
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    return beartype(function)
