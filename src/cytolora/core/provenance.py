"""Software versions and git state that a result is stored with."""

import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("cytolora", "torch", "torchvision", "timm", "peft", "numpy", "pillow", "scikit-learn")


@cache
def software() -> dict[str, Any]:
    """Returns ``versions`` and ``git`` (commit and dirty flag; null for an installed package)."""
    return {"versions": {"python": platform.python_version(), **_versions()}, "git": _git()}


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _git() -> dict[str, Any] | None:
    folder = Path(__file__).parent

    def ask(*arguments: str) -> str | None:
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10
            )
            return done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    if ask("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed somewhere below a repository that is not ours
    commit = ask("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "is_dirty": bool(ask("status", "--porcelain", str(folder)))}
