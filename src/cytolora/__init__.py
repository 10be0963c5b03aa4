"""Adapt vision foundation models to cytology. Names are loaded when they are first used, so importing costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cytolora.core.deferred_compiler import defer_compiler

if TYPE_CHECKING:
    from cytolora.api.datasets import check, convert, list_datasets, load_dataset, split
    from cytolora.api.ensembles import ensemble
    from cytolora.api.fit import fit
    from cytolora.api.grids import Report, compare, report, run
    from cytolora.api.leakage import leakage
    from cytolora.api.models import (
        attach,
        embed,
        list_backbones,
        list_methods,
        load,
        load_backbone,
        load_images,
        publish,
    )
    from cytolora.api.stores import RunTable, Store, open_store, track
    from cytolora.classifier.fit.config import FitOptions
    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.inference.predictions import Predictions
    from cytolora.config.reading import ReadOptions
    from cytolora.config.run import AdapterSpec
    from cytolora.core.progress import Progress
    from cytolora.errors import (
        BundleError,
        ConfigError,
        CytoloraError,
        DataError,
        EngineError,
        StoreError,
        WeightsError,
    )
    from cytolora.experiments.tracking.track import Tracked
    from cytolora.training.estimator import LinearHead
    from cytolora.training.resources import Inputs

    __version__: str

__all__ = [
    "AdapterSpec",
    "BundleError",
    "Classifier",
    "ConfigError",
    "CytoloraError",
    "DataError",
    "EngineError",
    "FitOptions",
    "Inputs",
    "LinearHead",
    "Predictions",
    "Progress",
    "ReadOptions",
    "Report",
    "RunTable",
    "Store",
    "StoreError",
    "Tracked",
    "WeightsError",
    "__version__",
    "attach",
    "check",
    "compare",
    "convert",
    "embed",
    "ensemble",
    "fit",
    "leakage",
    "list_backbones",
    "list_datasets",
    "list_methods",
    "load",
    "load_backbone",
    "load_dataset",
    "load_images",
    "open_store",
    "publish",
    "report",
    "run",
    "split",
    "track",
]

_MODULES = {
    "api.datasets": ("check", "convert", "list_datasets", "load_dataset", "split"),
    "api.ensembles": ("ensemble",),
    "api.fit": ("fit",),
    "api.grids": ("Report", "compare", "report", "run"),
    "api.leakage": ("leakage",),
    "api.models": (
        "attach",
        "embed",
        "list_backbones",
        "list_methods",
        "load",
        "load_backbone",
        "load_images",
        "publish",
    ),
    "api.stores": ("RunTable", "Store", "open_store", "track"),
    "classifier.fit.config": ("FitOptions",),
    "classifier.inference.classifier": ("Classifier",),
    "classifier.inference.predictions": ("Predictions",),
    "config.reading": ("ReadOptions",),
    "config.run": ("AdapterSpec",),
    "core.progress": ("Progress",),
    "errors": tuple(name for name in __all__ if name.endswith("Error")),
    "experiments.tracking.track": ("Tracked",),
    "training.estimator": ("LinearHead",),
    "training.resources": ("Inputs",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

defer_compiler()


def __getattr__(name: str) -> Any:
    """Loads a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("cytolora")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'cytolora' has no attribute {name!r}")
    return getattr(import_module(f"cytolora.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return list(__all__)
