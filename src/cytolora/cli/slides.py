"""Whole-slide prediction of the command `predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.cli.console import make_console
from cytolora.cli.print_findings import print_findings
from cytolora.cli.progress import show_progress
from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from cytolora.classifier.inference.predictor import Predictor
    from cytolora.classifier.inference.table import Summary


def predict_on_slide(
    model: "Predictor[Any]",
    paths: Sequence[str],
    cells: Path,
    out: Path,
    *,
    page: Path | None,
    crop_um: float | None,
    mpp: float | None,
    quiet: bool,
) -> None:
    """Predicts the cells of one slide and prints a summary.

    Raises:
        ConfigError: If it is not one slide, or the size of crops is not given.
    """
    from cytolora.classifier.inference.table import check_out
    from cytolora.classifier.slides.positions import is_geojson, read_collection
    from cytolora.classifier.slides.predict import predict_slide
    from cytolora.classifier.slides.slide import Slide

    if len(paths) != 1:
        raise ConfigError(f"--cells belongs to one slide, and {len(paths)} paths were named; one command a slide.")
    if crop_um is None:
        raise ConfigError("--cells needs the edge of the crops in micrometres, as in training: --crop-um 30, say.")
    check_out(out, cells)
    collection = read_collection(cells)
    with (
        Slide(Path(paths[0]), mpp=mpp) as slide,
        show_progress(quiet=quiet) as progress,
    ):
        progress.begin("predicting", len(collection.positions), "cells")
        result = predict_slide(
            model,
            slide,
            collection.positions,
            out,
            crop_um=crop_um,
            page=page,
            members=collection.members,
            on_images=progress.done,
        )
    is_kept = result.num_errors and is_geojson(out) and collection.positions[0].feature is not None
    kept = " and keep the class that they came with, if any" if is_kept else ""
    print_summary(result, "cells", out, page, of_errors=kept)


def print_summary(result: "Summary", unit: str, out: Path, page: Path | None, of_errors: str = "") -> None:
    """Prints counts and the files written; ``of_errors`` adds a remark on unreadable images."""
    console = make_console(stderr=True)
    print_findings(result.findings, console)
    console.print(
        f"{result.num_images} {unit}: {result.num_referred} referred to a person, {result.num_out_of_distribution} "
        f"out-of-distribution, {result.num_errors} unreadable{of_errors}. Written: {out}{f', {page}' if page else ''}."
    )
