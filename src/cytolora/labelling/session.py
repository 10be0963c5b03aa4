"""Open labelling project: journal, features, classifier, queue and estimates behind one lock."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolora.core.arguments import AnyPath


def create_project(
    cells: AnyPath,
    out: AnyPath,
    *,
    classes: Sequence[str] = (),
    like: str | None = None,
    model: str = "nano",
    reader: str = "reader 1",
    test_share: float = 0.25,
    seed: int = 0,
    groups: str | None = None,
    labels: AnyPath | None = None,
) -> Path:
    """Makes a project folder from cells, or opens the one that is there, and returns it."""
    raise NotImplementedError


class Labelling:
    """One open project."""

    classes: list[str]
    n_cells: int

    def __init__(self, folder: AnyPath) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def start_features(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        raise NotImplementedError

    def overview(self, reader: str) -> dict[str, Any]:
        raise NotImplementedError

    def queue(self, reader: str, n: int = 24, *, kind: str = "next") -> list[dict[str, Any]]:
        raise NotImplementedError

    def cell(self, reader: str, cell: int) -> dict[str, Any]:
        raise NotImplementedError

    def points(self) -> dict[str, Any]:
        raise NotImplementedError

    def picture(self, cell: int, size: int = 512) -> tuple[bytes, str]:
        raise NotImplementedError

    def estimates(self) -> dict[str, Any]:
        raise NotImplementedError

    def disagreements(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def agreement(self) -> dict[str, Any]:
        raise NotImplementedError

    def label(self, reader: str, cells: list[int], value: str, *, client_id: str, how: str = "key") -> dict[str, Any]:
        raise NotImplementedError

    def undo(self, reader: str, *, client_id: str) -> dict[str, Any]:
        raise NotImplementedError

    def redo(self, reader: str, *, client_id: str) -> dict[str, Any]:
        raise NotImplementedError

    def adjudicate(self, reader: str, cell: int, value: str, *, client_id: str) -> dict[str, Any]:
        raise NotImplementedError

    def set_mixture(self, mixture: Mapping[str, float]) -> None:
        raise NotImplementedError

    def refit(self) -> dict[str, Any]:
        raise NotImplementedError

    def write_labels(self, path: AnyPath | None = None) -> Path:
        raise NotImplementedError
