"""Whole-slide prediction of the command `predict`."""

import glob
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.cli.console import make_console
from cytolora.cli.options import MachineOptions
from cytolora.cli.print_findings import print_findings
from cytolora.cli.progress import show_progress
from cytolora.core.findings import gravest_first
from cytolora.core.text import counted
from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from cytolora.classifier.inference.predictor import Predictor
    from cytolora.classifier.inference.table import Summary
    from cytolora.classifier.inference.transductive import Pool
    from cytolora.classifier.slides.slide import Plane
    from cytolora.sharding.run import Sharding


def predict_on_slide(
    model: "Predictor[Any]",
    paths: Sequence[str],
    cells: Path,
    out: Path,
    *,
    page: Path | None,
    crop_um: float | None,
    mpp: float | None,
    plane: str | None,
    transductive: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """Predicts the cells of one slide and prints a summary.

    Raises:
        ConfigError: If it is not one slide, or the size of crops is not given.
    """
    from cytolora.classifier.inference.table import check_out
    from cytolora.classifier.slides.geojson import is_geojson
    from cytolora.classifier.slides.objects import Target
    from cytolora.classifier.slides.positions import read_collection
    from cytolora.classifier.slides.predict import predict_slide
    from cytolora.classifier.slides.slide import Slide

    if len(paths) != 1:
        raise ConfigError(f"--cells belongs to one slide, and {len(paths)} paths were named; one command a slide.")
    crop_um = _crop_um(crop_um)
    check_out(out, cells)
    pool = make_pool(model) if transductive else None
    with Slide(Path(paths[0]), mpp=mpp, plane=_plane(plane)) as slide:
        collection = read_collection(cells, Target(image=slide.path.name, mpp=max(slide.mpp), crop_um=crop_um))
        if transductive:
            check_several(len(collection.positions))
        of_input = [*collection.findings, *slide.findings(collection.positions)]
        if not json_:  # before the work, which may be in vain
            print_findings(of_input, make_console(stderr=True))
        with show_progress(quiet=quiet) as progress:
            progress.begin("predicting", len(collection.positions), "cells")
            result = predict_slide(
                model,
                slide,
                collection.positions,
                out,
                crop_um=crop_um,
                page=page,
                pool=pool,
                members=collection.members,
                passed_over=collection.passed_over,
                on_images=progress.done,
            )
    is_kept = result.num_errors and is_geojson(out) and collection.positions[0].feature is not None
    kept = " and keep the class that they came with, if any" if is_kept else ""
    if json_:
        result = replace(result, findings=tuple(gravest_first([*of_input, *result.findings])))
    print_summary(result, "cells", out, page, of_errors=kept, json_=json_)


def predict_on_slides(
    model: "Predictor[Any]",
    paths: Sequence[str],
    cells: Path,
    out: Path,
    how: "Sharding",
    machine: MachineOptions,
    *,
    crop_um: float | None,
    mpp: float | None,
    plane: str | None,
    json_: bool,
    quiet: bool,
) -> None:
    """Predicts the cells of many slides, each a shard, and prints a summary over all.

    Raises:
        ConfigError: If the size of crops is not given, or ``cells`` is no folder.
    """
    from cytolora.cli.machine import resolve_device
    from cytolora.core.stopping import heeding_signals
    from cytolora.sharding.slides import predict_slides, slide_items

    if not cells.is_dir():
        raise ConfigError(
            f"--cells {cells} is no folder; with --engine or --workers it holds a file of positions for every slide, "
            "called like the slide."
        )
    slides = [Path(file) for path in paths for file in _fitting(path)]
    with heeding_signals(), show_progress(quiet=quiet) as progress:
        result = predict_slides(
            model,
            slide_items(slides, cells),
            [*paths, str(cells)],
            out,
            how,
            crop_um=_crop_um(crop_um),
            mpp=mpp,
            plane=_plane(plane),
            device=resolve_device(machine),
            progress=progress,
        )
    print_summary(result, "cells", out, None, json_=json_)


def _crop_um(given: float | None) -> float:
    if given is None:
        raise ConfigError("--cells needs the edge of the crops in micrometres, as in training: --crop-um 30, say.")
    return given


def _fitting(path: str) -> list[str]:
    """Returns the files of a path or a pattern.

    Raises:
        ConfigError: If nothing fits.
    """
    found = [path] if Path(path).exists() else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    if not found:
        raise ConfigError(f"Nothing fits {path}; name slides, or a pattern in quotes that fits them.")
    return found


def make_pool(model: "Predictor[Any]", slide_of: Callable[[str], str] | None = None) -> "Pool":
    """Makes what --transductive collects cells in: one slide, or those that images are of by their names."""
    from cytolora.classifier.inference import transductive

    return transductive.Pool(model) if slide_of is None else transductive.Pool(model, slide_of)


def slides_of(
    paths: Sequence[str], names: Sequence[str], slide_by: str | None, column: str | None
) -> tuple[Callable[[str], str] | None, list[Path]]:
    """Returns what names the slide of an image, by folder or by a column of tables, and the tables; None: one slide.

    Raises:
        DataError: If the tables do not say it of every image.
    """
    if column is not None:
        from cytolora.classifier.inference.slide_tables import by_column, tables_at

        return by_column(paths, column, names), tables_at(paths)
    if slide_by != "folder":
        return None, []
    from cytolora.classifier.inference.transductive import by_folder

    return by_folder, []


def check_several(num_cells: int) -> None:
    """Refuses --transductive for a single cell."""
    from cytolora.classifier.inference import transductive

    transductive.check_several(num_cells)


def refuse_slides(paths: Sequence[str]) -> None:
    """Refuses whole slides among the images to predict, named or found by a pattern.

    Raises:
        ConfigError: If there is one.
    """
    from cytolora.data.imaging.whole_slide import slide_problem

    for path in paths:
        files = [Path(path)] if Path(path).exists() else map(Path, sorted(glob.glob(path, recursive=True)))  # noqa: PTH207
        for file in files:
            problem = slide_problem(file) if file.is_file() else ""
            if problem:
                raise ConfigError(
                    f"{file}: {problem}, and a slide needs --cells FILE, the positions of its cells, and --crop-um."
                )


def _plane(text: str | None) -> "Plane | None":
    """Reads --plane.

    Raises:
        ConfigError: If it is neither a number nor a rule.
    """
    if text is None or text in ("middle", "sharpest"):
        return text
    if not text.isdecimal():
        raise ConfigError(f"--plane is a number from 0, middle or sharpest, got {text!r}.")
    return int(text)


def print_summary(
    result: "Summary", unit: str, out: Path, page: Path | None, *, of_errors: str = "", json_: bool = False
) -> None:
    """Prints counts, findings and the files written; ``of_errors`` adds a remark on unreadable images."""
    if json_:
        findings = [one.plain() for one in result.findings]
        files = {"out": str(out), "page": None if page is None else str(page)}
        sys.stdout.write(json.dumps({**asdict(result), **files, "findings": findings}, indent=2) + "\n")
        return
    console = make_console(stderr=True)
    print_findings(result.findings, console)
    number = counted(result.num_images, unit.removesuffix("s"))
    console.print(
        f"{number}: {result.num_referred} referred to a person, {result.num_out_of_distribution} "
        f"out-of-distribution, {result.num_errors} unreadable{of_errors}. Written: {out}{f', {page}' if page else ''}."
    )
