"""Table of predictions as CSV or Parquet, one row per image: streamed in constant memory, written atomically."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.inference.image_sources import Source
from cytolora.classifier.inference.images_read import ImagesRead
from cytolora.classifier.inference.predictions import Predictions, schema
from cytolora.classifier.inference.predictor import NOT_SEEN, Predictor, as_data_error
from cytolora.classifier.inference.review_page import (
    MAX_CELLS,
    CellsOfPage,
    ReviewCell,
    review_picture,
    review_thumbnail,
    write_page,
)
from cytolora.core.arguments import AnyPath, as_path, as_path_or_none
from cytolora.core.delimited import csv_line
from cytolora.core.files import staged_file
from cytolora.core.findings import Finding, gravest_first
from cytolora.data.imaging.decode import Decoded, Pixels
from cytolora.data.imaging.room import one_image
from cytolora.data.own_files import GEOJSON, GEOJSON_SUFFIXES, PREDICTIONS, REVIEW_PAGE
from cytolora.data.targets import check_replaceable_file, check_target
from cytolora.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cytolora.classifier.inference.transductive import Pool

TABLES = (".csv", ".parquet")
"""Suffixes of a table of images."""
BATCH_SIZE = 64
_NUM_THREADS = 4
"""Images decoded side by side."""
NO_PIXELS = np.empty((0, 0, 3), np.uint8)
"""Of an image whose pixels are not kept."""

Write = Callable[[Sequence[Prediction]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts of a finished prediction."""

    num_images: int
    num_errors: int
    num_referred: int
    num_out_of_distribution: int
    findings: tuple[Finding, ...] = ()
    """Of the images, the gravest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One image with its prediction."""

    prediction: Prediction
    thumbnail: str
    """A data URI; empty where none was asked for, or the image cannot be read."""
    picture: str = ""
    """The same in the image's own pixels; empty where the thumbnail has them."""
    decoded: Decoded | None = None
    """How it was read, without its pixels; None where it was not."""


def predict_table(
    bundle: Predictor[Any],
    sources: Iterable[Source],
    out: AnyPath,
    *,
    page: AnyPath | None = None,
    pool: "Pool | None" = None,
    left_out: Iterable[Finding] = (),
    on_images: Callable[[int], None] = lambda images: None,
) -> Summary:
    """Writes one row per image to a CSV or Parquet file, and a review page if asked for.

    Args:
        pool: Classifies the images of each slide together; its columns are added, and the table is written at the end.
        left_out: Findings of files that are no images, for summary and page.
        on_images: Told the number of images after every batch.

    Raises:
        ConfigError: If the name of the file is of another kind, or the file that is there.
        DataError: If the table or page cannot be written, or more images are to stand on the page than it holds; the
            table is then written.
    """
    out, page = as_path(out, "out"), as_path_or_none(page, "page")
    kinds: dict[str, Callable[[Path, Predictor[Any], bool], AbstractContextManager[Write]]] = {
        ".csv": _csv,
        ".parquet": _parquet,
    }
    check_table(out)
    check_page(page, out)
    counts, read = [0, 0, 0, 0], ImagesRead(bundle.decoding)
    cells, on_page = CellsOfPage(bundle.classes), set[str]()
    try:
        with staged_file(out) as staging, kinds[out.suffix.lower()](staging, bundle, pool is not None) as write:
            for batch in look(bundle, sources, with_thumbnails=page is not None, pool=pool):
                predictions = [one.prediction for one in batch]
                if pool is None:
                    write(predictions)
                on_images(len(batch))
                read.add(batch)
                counts = [old + new for old, new in zip(counts, counted(predictions), strict=True)]
                if page is not None and len(cells) <= MAX_CELLS:  # beyond, the table is finished all the same
                    new = {one.prediction.name: one for one in batch if one.prediction.name not in on_page}
                    cells.add(map(review_cell, new.values()))
                    on_page |= new.keys()
            if pool is not None:
                write(pool.predictions())
    except OSError as error:
        raise DataError(f"Cannot write {out}: {error.strerror or error}. Nothing half-written stays there.") from error
    of_slides = () if pool is None else pool.findings()
    findings = gravest_first([*bundle.findings(), *read.findings(), *left_out, *of_slides])
    if page is not None:
        check_room(page, len(cells))
        source = f"By {bundle.name}"
        write_page(cells, page, classes=bundle.classes, title=page.stem, source=source, findings=findings)
    return Summary(
        num_images=counts[0],
        num_errors=counts[1],
        num_referred=counts[2],
        num_out_of_distribution=counts[3],
        findings=tuple(findings),
    )


def look(
    bundle: Predictor[Any], sources: Iterable[Source], *, with_thumbnails: bool = False, pool: "Pool | None" = None
) -> Iterator[list[Seen]]:
    """Yields the predictions of the images in batches, in their order; ``pool`` gets all of them."""
    rest, on_outputs = iter(sources), None if pool is None else pool.on_outputs
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        while batch := list(islice(rest, BATCH_SIZE)):
            read = list(threads.map(lambda source: _read(bundle, source, with_thumbnails), batch))
            views = [view for view, *_ in read]
            predicted = bundle.predict_views([source.name for source in batch], views, on_outputs)
            if pool is not None:
                pool.add(predicted)
            yield [
                Seen(prediction=one, thumbnail=small, picture=own, decoded=decoded)
                for one, (_, small, own, decoded) in zip(predicted, read, strict=True)
            ]


def _read(bundle: Predictor[Any], source: Source, with_pictures: bool) -> tuple[Any, str, str, Decoded | None]:
    """Returns what the encoder sees, the thumbnail and the picture of the page, and how the image was read."""
    try:
        with one_image():
            decoded = source.decoded(bundle.decoding)
            pictures = (review_thumbnail, review_picture) if with_pictures else (_no_picture, _no_picture)
            small, own = (picture(decoded.pixels) for picture in pictures)
            return bundle.view(decoded.pixels), small, own, replace(decoded, pixels=NO_PIXELS)
    except NOT_SEEN as error:
        return as_data_error(error), "", "", None


def _no_picture(_: Pixels) -> str:
    return ""


def counted(predictions: Sequence[Prediction]) -> list[int]:
    """Counts images, errors, referred and out-of-distribution ones."""
    flags = [(True, bool(one.error), bool(one.is_referred), bool(one.is_out_of_distribution)) for one in predictions]
    return [sum(column) for column in zip(*flags, strict=True)]


def review_cell(seen: Seen) -> ReviewCell:
    """Turns a predicted image into a cell of the review page."""
    one = seen.prediction
    flags = {"error": bool(one.error), "refer": bool(one.is_referred), "unfamiliar": bool(one.is_out_of_distribution)}
    return ReviewCell(
        path=one.name,
        thumbnail=seen.thumbnail,
        picture=seen.picture,
        probabilities=one.probabilities or (),
        flags=(*(name for name, is_set in flags.items() if is_set), *(("positive",) if one.positive else ())),
        note=one.error,
    )


def check_room(page: Path, num_cells: int) -> None:
    """Raises a DataError if a page is to hold more cells than a browser opens."""
    if num_cells > MAX_CELLS:
        raise DataError(f"{page} holds {MAX_CELLS:,} cells at most; predict without --page, or a part of the images.")


def check_page(page: Path | None, out: Path | None = None) -> None:
    """Raises a ConfigError if a page cannot be written, or is the table: now, not after hours of work."""
    if page is None:
        return
    if out is not None and page.resolve() == out.resolve():
        raise ConfigError(f"--page and --out are one file, {page}; choose another --page.")
    _check_writable(page, "--page")
    if page.is_dir():
        raise ConfigError(f"--page {page} is a folder; name a file, such as {page / 'review.html'}.")
    check_replaceable_file(page, REVIEW_PAGE, option="--page")


def check_out(out: Path, *read: Path) -> None:
    """Raises a ConfigError if a table cannot be written, or would replace what is read or another file.

    Better now than after the work.
    """
    for path in read:
        if path.resolve() == out.resolve():
            raise ConfigError(f"--out {out} is what is read, and would be lost; choose another --out.")
    kind = GEOJSON if out.suffix.lower() in GEOJSON_SUFFIXES else PREDICTIONS
    check_replaceable_file(out, kind)
    _check_writable(out, "--out")


def check_table(out: Path, *read: Path) -> None:
    """Does the same of a table of images, which is no GeoJSON."""
    if out.suffix.lower() not in TABLES:
        raise ConfigError(f"{out} ends in {out.suffix!r}; predictions are written to {' or '.join(TABLES)}.")
    check_out(out, *read)


def _check_writable(path: Path, option: str) -> None:
    check_target(path, option=option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}. Choose another {option}.") from error


@contextmanager
def _csv(path: Path, bundle: Predictor[Any], with_transductive: bool) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(csv_line(Prediction(name="").row(bundle.classes, with_transductive=with_transductive)))
        yield lambda predictions: file.writelines(
            csv_line(as_cells(one.row(bundle.classes, with_transductive=with_transductive).values()))
            for one in predictions
        )


def as_cells(values: Iterable[Any]) -> list[Any]:
    """Returns the values of a row as a table writes them: truth values are ``true`` and ``false``."""
    return [str(value).lower() if isinstance(value, bool) else value for value in values]


@contextmanager
def _parquet(path: Path, bundle: Predictor[Any], with_transductive: bool) -> Iterator[Write]:
    import pyarrow.parquet as pq  # 26 MiB, which CSV does not need

    with pq.ParquetWriter(path, schema(bundle.classes, with_transductive=with_transductive)) as writer:
        yield lambda predictions: writer.write_table(
            Predictions(tuple(predictions), bundle.classes).to_arrow(with_transductive=with_transductive)
        )
