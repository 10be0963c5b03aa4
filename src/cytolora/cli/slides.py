"""The part of predict that reads whole slides."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.cli.console import make_console
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
    """Predicts the cells of one slide and says how many.

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
        found = predict_slide(
            model,
            slide,
            collection.positions,
            out,
            crop_um=crop_um,
            page=page,
            members=collection.members,
            on_images=progress.done,
        )
    is_kept = found.num_errors and is_geojson(out) and collection.positions[0].feature is not None
    kept = " and keep the class that they came with, if any" if is_kept else ""
    print_summary(found, "cells", out, page, of_errors=kept)


def print_summary(found: "Summary", unit: str, out: Path, page: Path | None, of_errors: str = "") -> None:
    """Says what was predicted, and where it is; ``of_errors``: what became of those that cannot be read."""
    make_console(stderr=True).print(
        f"{found.num_images} {unit}: {found.num_referred} referred to a person, "
        f"{found.num_out_of_distribution} out-of-distribution, "
        f"{found.num_errors} that cannot be read{of_errors}. Written: {out}{f', {page}' if page else ''}."
    )
