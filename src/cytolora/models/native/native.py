"""A checkpoint opened by its native library, and what its openers share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from cytolora.core.strict_json import read_json
from cytolora.errors import ConfigError

View = Callable[[Image.Image], Float[Tensor, "3 size size"]]
"""From an RGB image to normalised pixels."""


@dataclass(frozen=True, kw_only=True)
class Native:
    """An encoder of another library."""

    library: str
    """Name and version."""
    model: nn.Module
    """Its modules; ``features`` calls them in whatever precision they are."""
    features: Callable[[Float[Tensor, "batch 3 size size"]], Float[Tensor, "batch width"]]
    view: View | None
    """The library's own preprocessing; None where no configuration beside the weights states one."""
    configuration: str
    """Of the encoder: the file that states it."""


def named(package: str) -> str:
    """Returns a library's name and version."""
    return f"{package} {version(package)}"


def read_beside(path: Path, name: str) -> Mapping[str, Any] | None:
    """Reads a JSON configuration in the folder of the weights; None where there is none.

    Raises:
        ConfigError: If it is damaged.
    """
    file = path.parent / name
    if not file.is_file():
        return None
    try:
        content = read_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}. Fetch it again.") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file} holds a {type(content).__name__}, expected keys and values. Fetch it again.")
    return content


def not_beside(library: str, name: str) -> ConfigError:
    """Builds the error for a configuration without which a library opens nothing."""
    return ConfigError(
        f"{library} takes the encoder's configuration from {name}, which is not beside the weights. Put the official "
        "one there (`cytolora weights fetch` copies it)."
    )
