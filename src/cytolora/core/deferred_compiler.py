"""Deferred loading of torch's compiler: torchvision and timm import it, and nothing here calls it.

``torch._dynamo`` takes more than a second and 160 MiB of a process. ``torchvision.ops`` imports one of its functions,
and timm marks methods of one model with ``torch.compiler.disable``, which loads it. While these two packages are
imported, both are replaced by functions that load the compiler when they are called; afterwards torch is as it was.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any

_PACKAGES = frozenset({"torchvision", "timm"})
_COMPILER = "torch._dynamo"
_UTILS = f"{_COMPILER}.utils"


def defer_compiler() -> None:
    """Lets the first import of torchvision and of timm in this process load no compiler."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in _PACKAGES or _COMPILER in sys.modules:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _deferred():
            super().exec_module(module)


class _Utils(ModuleType):
    """Stands for ``torch._dynamo.utils``; whatever else is asked of it loads the real one."""

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        return import_module(_UTILS).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]
        return getattr(import_module(_UTILS), name)


@contextmanager
def _deferred() -> Iterator[None]:
    torch: Any = import_module("torch")
    compiler = torch.compiler
    before, utils_before = compiler.disable, sys.modules.get(_UTILS)
    utils = utils_before or _Utils(_UTILS)

    def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
        return torch._disable_dynamo(fn, recursive)

    sys.modules[_UTILS], compiler.disable = utils, disable
    try:
        yield
    finally:
        compiler.disable = before
        if utils_before is None and sys.modules.get(_UTILS) is utils:
            del sys.modules[_UTILS]
