"""Prediction of whole slides in shards, a slide each: the tables of ``cytolora predict --cells`` in one folder."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from cytolora.classifier.inference.image_sources import as_text
from cytolora.classifier.inference.predictions import schema
from cytolora.classifier.inference.predictor import Predictor
from cytolora.classifier.inference.table import BATCH_SIZE, Summary
from cytolora.classifier.slides.objects import Target
from cytolora.classifier.slides.positions import Collection, read_collection
from cytolora.classifier.slides.predict import COLUMNS, SeenCells, check_classes, slide_row
from cytolora.classifier.slides.slide import Plane, Slide
from cytolora.core.files import sha256_file
from cytolora.core.findings import Finding, finding, gravest_first
from cytolora.core.progress import Progress
from cytolora.errors import ConfigError, DataError
from cytolora.sharding.folder import write_part
from cytolora.sharding.predict import PredictTask, about_model
from cytolora.sharding.run import Job, Sharding, run_shards
from cytolora.sharding.worker import WriteShard

_KINDS = (".geojson", ".json", ".csv", ".tsv")
"""Of files of positions, the first that is there counts."""
_NUMBERS = ("num_images", "num_errors", "num_referred", "num_out_of_distribution")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideItem:
    """A slide with the file of its cells' positions."""

    slide: Path
    cells: Path

    @property
    def identity(self) -> list[Any]:
        """Size and time of the slide, content of the positions."""
        stat = self.slide.stat()
        return [as_text(self.slide.name), stat.st_size, stat.st_mtime_ns, sha256_file(self.cells)]

    @property
    def entry(self) -> list[Any]:
        """Absolute paths."""
        return [str(self.slide.absolute()), str(self.cells.absolute())]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideTask:
    """A model, and how crops are cut."""

    model: PredictTask
    crop_um: float
    mpp: float | None
    plane: Plane | None

    def open(self, device: torch.device, threads: int) -> WriteShard:
        """Opens the model; raises as ``PredictTask`` does."""
        return partial(_write, self.model.opened(device, threads), self)


def slide_items(slides: Sequence[Path], cells: Path) -> list[SlideItem]:
    """Finds the positions of every slide: the file of its name in a folder.

    Raises:
        ConfigError: If two slides have one name, which positions and rows are told apart by.
        DataError: If a slide is not there, or has no file of positions.
    """
    name, times = Counter(slide.stem for slide in slides).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"{times} slides are called {name}; the files of --cells are found by their names.")
    found = []
    for slide in slides:
        if not slide.is_file():
            raise DataError(f"{slide} is no file; name slides, or a pattern in quotes that fits them.")
        own = next((path for kind in _KINDS if (path := cells / f"{slide.stem}{kind}").is_file()), None)
        if own is None:
            raise DataError(
                f"There is no {slide.stem}.geojson or .csv in {cells} with the cells of {slide}. Add it, or leave the "
                "slide out."
            )
        found.append(SlideItem(slide=slide, cells=own))
    return found


def predict_slides(
    model: Predictor[Any],
    items: Sequence[SlideItem],
    paths: Sequence[str],
    out: Path,
    how: Sharding,
    *,
    crop_um: float,
    mpp: float | None = None,
    plane: Plane | None = None,
    device: torch.device,
    progress: Progress,
) -> Summary:
    """Predicts the cells of slides; returns counts and findings over all, a slide that cannot be read among these.

    Args:
        paths: As they were named, with that of the positions: the folder belongs to them.
        crop_um, mpp, plane: As for one slide.

    Raises:
        ConfigError: If the folder holds something else, the engine cannot do it, or a class is called like a column.
        DataError: If a shard cannot be written.
        EngineError: If workers cannot be started, or die at one slide again and again.
    """
    check_classes(model.classes, out)
    task = SlideTask(model=PredictTask.of(model), crop_um=crop_um, mpp=mpp, plane=plane)
    about = {**about_model(model), "crop_um": crop_um, "mpp": mpp, "plane": plane}
    job = Job(kind="predict --cells", task=task, about=about, model=model.name, paths=paths, unit="slide", fixed_size=1)
    told = run_shards(job, items, out, how, device=device, progress=progress)
    findings = [finding(**one) for part in told for one in part["findings"]]
    numbers = {name: sum(part[name] for part in told) for name in _NUMBERS}
    return Summary(**numbers, findings=tuple(gravest_first([*model.findings(), *findings])))


def _write(
    model: Predictor[Any],
    task: SlideTask,
    entries: Sequence[Sequence[Any]],
    path: Path,
    on_images: Callable[[int], None],
) -> None:
    (slide_path, cells_path) = map(Path, entries[0])
    columns = schema(model.classes)
    names = [name for name in columns.names if name != "path"]
    place = [pa.field(name, pa.float64() if name in ("x", "y") else pa.string()) for name in COLUMNS]
    own = pa.schema([*place, *(columns.field(name) for name in names)])
    summary, failed = Summary(num_images=0, num_errors=0, num_referred=0, num_out_of_distribution=0), ""
    of_input: list[Finding] = []

    def tables() -> Iterator[pa.Table]:
        nonlocal summary, failed
        try:
            with Slide(slide_path, mpp=task.mpp, plane=task.plane) as slide:
                collection = _read(slide, cells_path, task.crop_um)
                of_input.extend([*collection.findings, *slide.findings(collection.positions)])
                seen = SeenCells(model=model, slide=slide, positions=collection.positions, crop_um=task.crop_um)
                rows = (slide_row(slide_path, cell, found, model.classes) for cell, found in seen)
                while some := list(islice(rows, BATCH_SIZE)):
                    yield pa.Table.from_pylist(some, schema=own)
                summary = replace(seen.summary(), findings=tuple(seen.of_cells()))
        except DataError as error:
            failed = " ".join(str(error).split())
        on_images(1)

    def about() -> dict[str, Any]:
        found = [finding("S714", f"Not predicted: {failed}", examples=[as_text(slide_path.name)])] if failed else []
        return {
            **{name: getattr(summary, name) for name in _NUMBERS},
            "findings": [_named(one, slide_path) for one in (*found, *of_input, *summary.findings)],
        }

    write_part(path, own, tables(), about)


def _read(slide: Slide, cells: Path, crop_um: float) -> Collection:
    return read_collection(cells, Target(image=slide.path.name, mpp=max(slide.mpp), crop_um=crop_um))


def _named(one: Finding, slide: Path) -> dict[str, Any]:
    """Returns the finding with the slide's name in its line."""
    name = as_text(slide.name)
    return asdict(one if name in one.text else replace(one, text=f"{name}: {one.text}"))
