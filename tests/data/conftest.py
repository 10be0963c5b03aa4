"""Manifests that name images without any file behind them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cytolora.config.run import SUBSETS
from cytolora.data.manifest import Manifest, Sample

ManifestMaker = Callable[..., Manifest]


@pytest.fixture
def split_manifest() -> ManifestMaker:
    """Makes a manifest with equally many images of every class in every subset."""

    def make(*, per_class: int = 8, classes: tuple[str, ...] = ("hsil", "lsil"), name: str = "toy") -> Manifest:
        samples = [
            Sample(path=f"{subset}/{label}/{number:03}.png", label=label, subset=subset, sha256="0")
            for subset in SUBSETS
            for label in classes
            for number in range(per_class)
        ]
        return Manifest(name=name, root=Path("nowhere"), classes=classes, samples=tuple(samples))

    return make
