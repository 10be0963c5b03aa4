"""Adapt vision foundation models to cytology. Names are loaded when they are first used, so importing costs nothing."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytolora.api import fit as fit
    from cytolora.api import load_backbone as load_backbone
    from cytolora.api import report as report
    from cytolora.api import run_grid as run_grid
    from cytolora.classifier.inference.bundle_predictor import Bundle as Bundle
    from cytolora.data.datasets import load_manifest as load_manifest
    from cytolora.training.estimator import LinearHead as LinearHead

_HOMES = {
    "Bundle": "cytolora.classifier.inference.bundle_predictor",
    "fit": "cytolora.api",
    "LinearHead": "cytolora.training.estimator",
    "load_backbone": "cytolora.api",
    "load_manifest": "cytolora.data.datasets",
    "report": "cytolora.api",
    "run_grid": "cytolora.api",
}


def __getattr__(name: str) -> Any:
    """Finds a public name in its room."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cytolora' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted(_HOMES)


class _Callable(ModuleType):
    """A room that is called like a function."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])(*arguments, **named)


class _Package(ModuleType):
    """Importing the room ``cytolora.report`` puts it in the place of the function of that name; both are meant then."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _Callable
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
