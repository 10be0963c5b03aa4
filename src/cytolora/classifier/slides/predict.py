"""Predicts the cells of a whole slide: GeoJSON for QuPath, or a table; one crop in memory at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.classifier.decision.decide import Prediction, transductive_columns
from cytolora.classifier.inference.image_sources import as_text
from cytolora.classifier.inference.images_read import ImagesRead
from cytolora.classifier.inference.predictor import Predictor
from cytolora.classifier.inference.review_page import CellsOfPage, review_surroundings, write_page
from cytolora.classifier.inference.table import (
    Seen,
    Summary,
    as_cells,
    check_out,
    check_page,
    check_room,
    counted,
    look,
    review_cell,
)
from cytolora.classifier.slides.geojson import Classified, PassedOver, free_prefix, is_geojson, write_geojson
from cytolora.classifier.slides.objects import Position
from cytolora.classifier.slides.slide import SURROUNDINGS, Slide, SlideCell
from cytolora.config.reading import Decoding
from cytolora.core.arguments import AnyPath, as_path, as_path_or_none
from cytolora.core.delimited import csv_line
from cytolora.core.files import staged_file
from cytolora.core.findings import Finding, finding, first, gravest_first
from cytolora.core.text import counted as counted_text
from cytolora.data.imaging.decode import Decoded
from cytolora.data.imaging.findings import Cases
from cytolora.errors import ConfigError, DataError

if TYPE_CHECKING:
    from cytolora.classifier.inference.transductive import Pool

COLUMNS = ("slide", "id", "x", "y")
"""Of a table, before those of every prediction."""
_MARKS = {"positive": "positive", "is_referred": "referred", "is_out_of_distribution": "unfamiliar"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A cell of a slide as ``look`` takes it."""

    name: str
    cell: SlideCell

    def decoded(self, decoding: Decoding) -> Decoded:
        """Returns the crop, which the slide's reader decoded."""
        if self.cell.pixels is None:
            raise DataError(f"{self.name}: {self.cell.error}.")
        return Decoded(pixels=self.cell.pixels)


def predict_slide(
    model: Predictor[Any],
    slide: Slide,
    positions: Sequence[Position],
    out: AnyPath,
    *,
    crop_um: float,
    page: AnyPath | None = None,
    pool: "Pool | None" = None,
    members: Mapping[str, Any] | None = None,
    passed_over: Sequence[PassedOver] = (),
    on_images: Callable[[int], None] = lambda images: None,
) -> Summary:
    """Predicts the cells at some positions of a slide; one that cannot be read has an error and no class of ours.

    Args:
        out: .geojson, the features of the positions with a class, its colour and the probabilities of every cell; or
            .csv, with one row a cell.
        pool: Classifies the cells together; its columns or measurements are added.
        members: Of the FeatureCollection that the positions come from; they go into that of ``out``.
        passed_over: Features of that file that are no cells; they go into a .geojson as they are.
        crop_um: Edge of the square crops, micrometres: that of the images that the model was trained on.
        on_images: Told the number of cells after every batch.

    Raises:
        ConfigError: If the name of a file is of another kind, one is the other, or the crop of no sensible size.
        DataError: If a file cannot be written, more cells are to stand on the page than it holds, or all lie outside.
    """
    out, page = as_path(out, "out"), as_path_or_none(page, "page")
    _check_kind(out, model.classes)
    check_out(out, slide.path)
    check_page(page, out)
    if page is not None:
        check_room(page, len(positions))
    seen = SeenCells(
        model=model,
        slide=slide,
        positions=positions,
        crop_um=crop_um,
        pool=pool,
        with_thumbnails=page is not None,
        on_images=on_images,
    )
    try:
        if is_geojson(out):
            names = [*(_probability(name) for name in model.classes), *_MARKS.values()]
            prefix = free_prefix(positions, names if pool is None else [*names, *_measured(model.classes)])
            found = (_classified(*one, model.classes, prefix) for one in seen)
            write_geojson(found, out, model.classes, members, passed_over)
        else:
            _write_csv(seen, out, slide.path, model.classes, with_transductive=pool is not None)
    except OSError as error:
        raise DataError(f"Cannot write {out}: {error.strerror or error}. Nothing half-written stays there.") from error
    summary = seen.summary()
    if page is not None:
        write_page(
            seen.shown,
            page,
            classes=model.classes,
            title=as_text(slide.path.name),
            source=f"By {model.name}",
            findings=summary.findings,
            times_wider=SURROUNDINGS,
        )
    return summary


@dataclass(kw_only=True)
class SeenCells:
    """The cells of a slide with their predictions, one crop in memory at a time, and what is counted on the way."""

    model: Predictor[Any]
    slide: Slide
    positions: Sequence[Position]
    crop_um: float
    pool: "Pool | None" = None
    with_thumbnails: bool = False
    on_images: Callable[[int], None] = lambda images: None
    _counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    _not_read: Cases = field(default_factory=Cases)

    def __post_init__(self) -> None:
        self.slide.check_positions(self.positions)
        self._read = ImagesRead(self.model.decoding)
        self.shown = CellsOfPage(self.model.classes)
        """Of the review page; empty without thumbnails."""

    def __iter__(self) -> Iterator[tuple[SlideCell, Prediction]]:
        """Yields the cells in the order of the positions; can be done once."""
        cells: list[SlideCell] = []
        for batch in _looked(
            self.model,
            self.slide,
            self.positions,
            self.crop_um,
            with_thumbnails=self.with_thumbnails,
            pool=self.pool,
        ):
            if self.pool is None:
                yield from ((cell, seen.prediction) for cell, seen in batch)
            else:
                cells += [replace(cell, pixels=None) for cell, _ in batch]
            self._note(batch)
        if self.pool is not None:
            yield from zip(cells, self.pool.predictions(), strict=True)

    def _note(self, batch: Sequence[tuple[SlideCell, Seen]]) -> None:
        if self.with_thumbnails:
            self.shown.add(
                replace(review_cell(seen), surroundings=review_surroundings(cell.surroundings)) for cell, seen in batch
            )
        self._read.add(seen for _, seen in batch if not seen.prediction.error)
        for cell, seen in batch:
            if seen.prediction.error:
                self._not_read.add(f"{cell.id} ({cell.error or seen.prediction.error})")
        found = counted([seen.prediction for _, seen in batch])
        self._counts = [old + new for old, new in zip(self._counts, found, strict=True)]
        self.on_images(len(batch))

    def summary(self) -> Summary:
        """Returns the counts and findings of all that was yielded."""
        of_slide = self.pool.findings() if self.pool else ()
        return Summary(
            num_images=self._counts[0],
            num_errors=self._counts[1],
            num_referred=self._counts[2],
            num_out_of_distribution=self._counts[3],
            findings=tuple(gravest_first([*self.model.findings(), *self.of_cells(), *of_slide])),
        )

    def of_cells(self) -> list[Finding]:
        """Returns the findings of the cells alone."""
        return [*self._read.findings(), *_not_read(self._not_read)]


def _not_read(cells: Cases) -> list[Finding]:
    if not cells.count:
        return []
    text = f"{counted_text(cells.count, 'cell')} not read; {first(cells.examples)}."
    return [finding("S711", text, count=cells.count, examples=cells.examples)]


def _check_kind(out: Path, classes: Sequence[str]) -> None:
    if not is_geojson(out) and out.suffix.lower() != ".csv":
        raise ConfigError(f"{out} ends in {out.suffix!r}; predictions of a slide are written to .geojson or .csv.")
    if not is_geojson(out):
        check_classes(classes, out)


def check_classes(classes: Sequence[str], out: Path) -> None:
    """Raises a ConfigError if a class is called like a column of the table of a slide."""
    twice = [label for label in classes if label in COLUMNS]
    if twice:
        raise ConfigError(f"Class {twice[0]!r} is called like a column of {out}; write .geojson, or rename the class.")


def _looked(
    model: Predictor[Any],
    slide: Slide,
    positions: Iterable[Position],
    crop_um: float,
    *,
    with_thumbnails: bool,
    pool: "Pool | None",
) -> Iterator[list[tuple[SlideCell, Seen]]]:
    waiting: list[SlideCell] = []

    def sources() -> Iterator[Any]:
        for cell in slide.cells(positions, crop_um=crop_um, with_surroundings=with_thumbnails):
            waiting.append(cell)
            yield _Source(name=cell.id, cell=cell)

    for batch in look(model, sources(), with_thumbnails=with_thumbnails, pool=pool):
        cells = waiting[: len(batch)]
        del waiting[: len(batch)]
        yield list(zip(cells, batch, strict=True))


def _classified(cell: SlideCell, found: Prediction, classes: tuple[str, ...], prefix: str) -> Classified:
    shares = {} if found.probabilities is None else dict(zip(classes, found.probabilities, strict=True))
    marks = {said: getattr(found, name) for name, said in _MARKS.items()}
    numbers = {_probability(name): share for name, share in shares.items()}
    numbers |= {name: float(value) for name, value in marks.items() if value is not None}
    if found.transductive is not None:
        one = found.transductive
        numbers |= dict(zip(_measured(classes), (*one.probabilities, float(one.is_applied)), strict=True))
    measurements = {f"{prefix}{name}": number for name, number in numbers.items()}
    return Classified(feature=cell.feature, id=cell.id, predicted=found.predicted, measurements=measurements)


def _measured(classes: Sequence[str]) -> list[str]:
    """Names the measurements of the transductive answer: each class's probability, and whether it is one."""
    _, *by_class, _, applied = transductive_columns(classes)
    return [*by_class, applied]


def _probability(label: str) -> str:
    return f"p {label}"


def _write_csv(
    cells: Iterable[tuple[SlideCell, Prediction]],
    out: Path,
    slide: Path,
    classes: tuple[str, ...],
    *,
    with_transductive: bool,
) -> None:
    with staged_file(out) as staging, staging.open("w", newline="", encoding="utf-8") as file:
        columns = _columns(classes, with_transductive=with_transductive)
        file.write(csv_line([*COLUMNS, *columns]))
        for cell, found in cells:
            row = found.row(classes, with_transductive=with_transductive)
            values = as_cells(row[name] for name in columns)
            file.write(csv_line([as_text(slide.name), cell.id, f"{cell.x:.2f}", f"{cell.y:.2f}", *values]))


def slide_row(slide: Path, cell: SlideCell, found: Prediction, classes: tuple[str, ...]) -> dict[str, Any]:
    """Returns the row of a cell in a Parquet file: ``COLUMNS`` and the columns of every prediction but its path."""
    row = found.row(classes)
    place = (as_text(slide.name), cell.id, cell.x, cell.y)
    return {**dict(zip(COLUMNS, place, strict=True)), **{name: row[name] for name in _columns(classes)}}


def _columns(classes: Sequence[str], *, with_transductive: bool = False) -> list[str]:
    empty = Prediction(name="").row(tuple(classes), with_transductive=with_transductive)
    return [name for name in empty if name != "path"]
