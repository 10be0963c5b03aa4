"""Versions of packages: a worker computes only with those of its driver."""

from collections.abc import Mapping
from platform import node
from typing import Any

from cytolora.core.provenance import software
from cytolora.errors import ConfigError


def check_versions(required: Mapping[str, str]) -> None:
    """Raises a ConfigError if this machine has other versions than the driver: its numbers would differ."""
    installed: Mapping[str, Any] = software()["versions"]
    differing = [name for name, version in required.items() if installed.get(name) != version]
    if differing:
        name = differing[0]
        raise ConfigError(
            f"Worker {node()} has {name} {installed.get(name)}, the driver {required[name]}. Use the same environment "
            "on all machines."
        )
