"""LoRA trained on the labels of a project, and the features that its encoder gives all cells.

It is trained on the labelled cells of all groups but those of one fold, a fifth or more: what is fitted to its features
can then be tested on cells that have not shaped them (``refit``).
"""

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from cytolora.config.components import CLOSED
from cytolora.config.yaml import parse_spec
from cytolora.core.arguments import as_device
from cytolora.core.files import staged_file, write_json
from cytolora.core.folders import Version, folder_version, read_unreplaced, recover_folder
from cytolora.core.locks import locked
from cytolora.core.progress import SILENT
from cytolora.core.strict_json import read_json
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest, Split
from cytolora.errors import ConfigError, DataError, WeightsError
from cytolora.labelling.apart import tell
from cytolora.labelling.features import Space, encoder_of, is_of_cells, listed, load_features, unit_rows, usable
from cytolora.labelling.project import FEATURES, Project, read_project
from cytolora.training.heads.folds import group_folds

FOLDER, ABOUT = "lora", "about.json"
_LOCK = ".lock"
METHOD = "lora"
_RATE = 1e-3
"""One learning rate, the middle of those that ``fit`` chooses from: each costs a training."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Content of ``lora/about.json``."""

    model: str
    learning_rate: float
    num_steps: int
    trained_on: tuple[int, ...]
    """Cells."""
    features: str = FEATURES
    """Name of their file beside this one: of its own for each training, but for those of earlier versions."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if Path(self.features).name != self.features:
            raise ConfigError(f"features is the name of a file in this folder, got {self.features!r}")


def adapted_version(project: Project) -> Version | None:
    """Returns what the LoRA of another training would differ in; None where there is none."""
    return folder_version(project.folder / FOLDER / ABOUT)


def load_adapted(project: Project) -> Space | None:
    """Opens the features of the LoRA that was trained last; None where there are none of these cells.

    Raises:
        DataError: If they are damaged.
    """
    folder = project.folder / FOLDER
    recover_folder(folder)  # which earlier versions replaced whole

    def read(path: Path) -> tuple[About, np.ndarray]:
        about = parse_spec(read_json(path.read_bytes()), About, str(path))
        return about, np.load(folder / about.features, mmap_mode="r", allow_pickle=False)

    try:
        about, features = read_unreplaced(folder / ABOUT, read)
    except ConfigError as error:  # names the file, and what is wrong in it
        raise DataError(f"{folder} is damaged: {error} Remove it, and train LoRA again.") from error
    except (OSError, ValueError) as error:
        if not (folder / ABOUT).exists():
            return None
        raise DataError(f"{folder} is damaged: {error}. Remove it, and train LoRA again.") from error
    if not is_of_cells(features, len(project.names)):
        return None
    name = f"{about.model} with LoRA of {counted(len(about.trained_on), 'label')}"
    units = {project.units[cell] for cell in about.trained_on}
    seen = frozenset(cell for cell, unit in enumerate(project.units) if unit in units)
    return Space(path=folder / about.features, features=features, encoder=name, seen=seen)


def cells_to_train_on(project: Project, training: Mapping[int, int]) -> list[int]:
    """Returns the labelled cells of all groups but those of the first fold.

    Args:
        training: Class index by labelled cell.

    Raises:
        ConfigError: If fewer than two classes have labels, or one of them comes from one group only.
    """
    groups: dict[int, set[str]] = {}
    for cell, code in training.items():
        groups.setdefault(code, set()).add(project.units[cell])
    if len(groups) < 2:
        raise ConfigError("LoRA takes training labels of two classes or more. Label more cells, then start it again.")
    unit = "group" if project.about.groups_known else "image"
    for code, found in sorted(groups.items()):
        if len(found) < 2:
            raise ConfigError(
                f"LoRA keeps a fold of the {unit}s apart, and class {project.about.classes[code]!r} comes from one "
                f"{unit} only. Label a cell of it in another {unit}, then start LoRA again."
            )
    cells = list(training)
    codes = np.array([training[cell] for cell in cells], dtype=np.int64)
    folds = group_folds(codes, [project.units[cell] for cell in cells], seed=0)
    if not folds:
        raise ConfigError(
            f"LoRA keeps a fold of the {unit}s apart, and no division of them leaves every class on both sides. Label "
            f"cells of each class in more {unit}s, then start LoRA again."
        )
    return [cells[at] for at in folds[0][0].tolist()]


def adapt(
    folder: Path,
    training: Mapping[int, int],
    *,
    cache: Path,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] = tell,
) -> None:
    """Trains LoRA and writes the features of all cells to the project, beside those that are in use until then.

    Args:
        training: Class index by labelled cell, none of the test share.
        cache: Of decoded images.
        device: That it is trained on; auto, cpu, cuda or mps.
        on_progress: Told how many passes of an image through the encoder are done, and how many there are.

    Raises:
        ConfigError: If there are too few labels.
        WeightsError: If the encoder gives no finite numbers, as where the training diverges.
        CytoloraError: If the backbone takes no LoRA or has no weights here, or a cell cannot be read any more.
    """
    from cytolora.classifier.bundle.rebuild import rebuild
    from cytolora.training.adapt import train_adapter
    from cytolora.training.protocol import PASSES_OF_TRAINING
    from cytolora.training.session import Session

    project = read_project(folder)
    cells = cells_to_train_on(project, training)
    frozen = load_features(project)
    known = np.flatnonzero(project.is_there if frozen is None else usable(frozen) & project.is_there)
    everything = listed(project, [project.names[cell] for cell in known])
    labelled = _labelled(everything, project, {cell: training[cell] for cell in cells})
    place = as_device(device)
    inputs, config = encoder_of(project, METHOD, str(place), (_RATE,))
    num_passes, num_done = PASSES_OF_TRAINING * config.num_seen(len(cells)) + len(known), 0

    def advance(passes: int) -> None:
        nonlocal num_done
        num_done += passes
        on_progress(min(num_done, num_passes), num_passes)

    session = Session(
        manifest=labelled,
        backbone=config.backbone,
        inputs=inputs,
        cache=cache,
        device=place,
        progress=replace(SILENT, done=advance),
        given_split=Split(train=labelled.samples, val=(), test=()),
    )
    trained = train_adapter(session, config.run(session.dataset, _RATE))
    if trained.diverged:  # said before all cells are encoded, which may take hours
        raise _not_finite(config.backbone.name, "a loss that is no finite number")
    encoder = rebuild(session.encoder, METHOD, config.adapter, trained.state, config.seed, session.device).encoder
    rows = _features(session, encoder, everything, advance)
    if num_wrong := int((~np.isfinite(rows).all(axis=1)).sum()):
        what = f"features that are no finite numbers, of {num_wrong} of {counted(len(rows), 'cell')}"
        raise _not_finite(config.backbone.name, what)
    features = np.full((len(project.names), rows.shape[1]), np.nan, dtype=np.float32)
    features[known] = unit_rows(rows)  # cells and samples are both in the order of their names
    about = About(
        model=config.backbone.name, learning_rate=_RATE, num_steps=trained.num_steps, trained_on=tuple(sorted(cells))
    )
    write_adapted(folder / FOLDER, features, about)


def _not_finite(model: str, what: str) -> WeightsError:
    return WeightsError(
        f"{model} with LoRA gave {what}: its training diverged. Nothing of it was kept, and the encoder that answered "
        "before answers. Label more cells, then train it anew; where it diverges again, stay with the frozen encoder."
    )


def write_adapted(folder: Path, features: np.ndarray, about: About) -> None:
    """Writes features under a name of their own, then the description that names them; removes what it replaced.

    Nothing that another process maps is written to: it reads features and description of one training, until it looks
    for another.
    """
    folder.mkdir(exist_ok=True)
    name = f"features-{token_hex(8)}.npy"
    with locked(folder / _LOCK):  # of two trainings at once, the second would remove the features of the first
        with staged_file(folder / name) as path, path.open("wb") as file:
            np.save(file, features, allow_pickle=False)
        write_json(folder / ABOUT, asdict(replace(about, features=name)))
        for old in {*folder.glob("features-*.npy"), folder / FEATURES} - {folder / name}:
            with suppress(OSError):  # Windows removes no file that is mapped: the next training does
                old.unlink(missing_ok=True)


def _labelled(everything: Manifest, project: Project, training: Mapping[int, int]) -> Manifest:
    """Returns the cells to train on, with their classes and as they are decoded among all."""
    label_of = {project.names[cell]: project.about.classes[code] for cell, code in training.items()}
    samples = tuple(replace(one, label=label_of[one.path]) for one in everything.samples if one.path in label_of)
    return replace(everything, classes=tuple(project.about.classes), samples=samples)


def _features(session: Any, encoder: Any, everything: Manifest, on_images: Callable[[int], None]) -> np.ndarray:
    """Returns the features of all cells by another encoder than the session's; none is kept in the cache."""
    from cytolora.data.imaging.views import evaluation_view
    from cytolora.models.kernels.cpu import for_inference
    from cytolora.training.features import encoded

    preprocess = session.backbone.preprocess
    computed = encoded(
        for_inference(encoder, session.device),
        everything.samples,
        lambda sample: evaluation_view(session.pixels.whole(sample), preprocess),
        preprocess,
        session.device,
        on_images,
    )
    with closing(computed) as batches:
        return np.concatenate([rows.numpy() for _, rows in batches])
