"""Names of the models of a service: parts of its addresses, given as NAME=MODEL or those of the models' folders."""

import re
from collections.abc import Sequence
from pathlib import Path

from cytolora.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")
"""Letters that an address holds as they are (RFC 3986, 2.3), and the labels of metrics too."""
_TAKEN = ("predict", ".", "..")
"""/v1/models/predict asks several models; dots are what a client leaves out of an address."""


def named_models(given: Sequence[str]) -> dict[str, Path]:
    """Returns models by name: ``NAME=MODEL``, else the last part of a path or of ``hf:OWNER/NAME``.

    Raises:
        ConfigError: If two have one name, one is given twice, or a name cannot stand in an address.
    """
    models: dict[str, Path] = {}
    for text in given:
        name, path = _split(text)
        problem = _problem(name)
        if problem:
            raise ConfigError(f"{text}: a model cannot be served as {name!r}, {problem}. Name it: NAME={path}.")
        same = [other for other, known in models.items() if _is_same(known, path)]
        if same:
            raise ConfigError(f"{path} is given twice, as {same[0]} and {name}. Give every model once.")
        if name in models:
            raise ConfigError(
                f"Two models are called {name}: {models[name]} and {path}. Give one another name: NAME={path}."
            )
        models[name] = path
    return models


def _split(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if separator and path and "/" not in name and not Path(text).exists():
        return name, Path(path)
    if text.startswith("hf:"):
        return text.partition("@")[0].rpartition("/")[2], Path(text)
    path = Path(text)
    own = path if path.name not in ("", "..") else path.resolve()
    return own.stem if own.suffix.lower() == ".zip" else own.name, path


def _problem(name: str) -> str:
    if name in _TAKEN:
        return "which means something else in an address"
    return "" if _NAME.fullmatch(name) else "for a name is 1 to 64 letters, digits and . _ ~ -"


def _is_same(one: Path, other: Path) -> bool:
    return one == other or one.resolve() == other.resolve()
