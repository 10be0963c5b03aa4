"""Fits with every option as a plain keyword, for tests that set many of them."""

import inspect
from pathlib import Path
from typing import Any

import cytolora
from cytolora import Classifier, FitOptions

_EVERYDAY = set(inspect.signature(cytolora.fit).parameters)


def quick_fit(data: str | Path, out: str | Path, **given: Any) -> Classifier:
    """Sorts the keywords into the arguments of ``cytolora.fit`` and its options; the cache is that of the commands."""
    options = {name: value for name, value in given.items() if name not in _EVERYDAY}
    arguments = {name: value for name, value in given.items() if name in _EVERYDAY}
    return cytolora.fit(data, out, options=FitOptions(**{"cache": "runs/.cache", **options}), **arguments)
