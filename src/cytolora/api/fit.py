"""Fit a classifier from Python: the function that ``cytolora fit`` calls."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.api.datasets import pool_from
from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.core.arguments import (
    AnyPath,
    OneOrMany,
    as_device,
    as_names,
    as_path,
    as_path_or_none,
)
from cytolora.core.cache_damage import one_notice
from cytolora.core.findings import lines
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.errors import ConfigError
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.labelling.export import Labels

_DEFAULTS = FitOptions()


@one_notice()
def fit(
    data: AnyPath | Mapping[str, AnyPath],
    out: AnyPath,
    *,
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = None,
    shots: int | None = None,
    seed: int = 0,
    positive: OneOrMany[str] = (),
    labels: AnyPath | None = None,
    add: OneOrMany[AnyPath] = (),
    weights: Mapping[str, AnyPath] | None = None,
    device: "str | torch.device | None" = None,
    options: FitOptions = _DEFAULTS,
    progress: Progress | None = None,
) -> "Classifier":
    """Fits a classifier to labelled cells, tests it once on held-out cells, and writes it as a bundle.

    Example::

        classifier = cytolora.fit("my_cells", "model1", model="uni", positive=["hsil", "scc"], device="auto")
        print(classifier.metrics["balanced_accuracy"])
        cytolora.fit("my_cells", "dry-run", options=cytolora.FitOptions(max_steps=20, learning_rates=0.01))

    Args:
        data: Folder with a sub-folder per class, table or zip file; or a project of ``cytolora label``, whose drawn
            test cells are the test set, and whose backbone is taken where ``model`` is None; of a pool
            (``options.pool``), the folder of each dataset by name.
        out: The bundle: a folder, or a zip file where the name ends in .zip. An older bundle there is replaced.
        dataset: Which reader (``list_datasets``); recognised from the folder if None.
        model: A backbone (``list_backbones``); the best one on this machine if None.
        method: ``linear`` on a CPU and ``lora`` on a GPU if None.
        shots: Training images per class; all if None.
        seed: Of the draw, the folds and the start of training.
        positive: One class or many that must not be missed: sets an operating point.
        labels: CSV with columns path,label that replaces labels: what the review page saves.
        add: Folders and zip files of new cells: those that ``labels`` names are trained on too.
        weights: Checkpoints on disk, by backbone; otherwise the hub's cache, then the hub.
        device: ``auto`` takes a GPU where there is one; the CPU if None.
        options: Everything else; an argument of this call may not contradict it.
        progress: A progress bar in a notebook and the logger ``cytolora`` elsewhere, if None.

    Raises:
        CytoloraError: If something is for the user to change.
    """
    from cytolora.classifier.bundle.files import check_free
    from cytolora.classifier.fit import fit as fit_stages
    from cytolora.classifier.fit.prepare import read_cells, summary
    from cytolora.classifier.fit.usable import DIVISION
    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.data.pooling import load_pool, registered

    out, device = as_path(out, "out"), as_device(device)
    options = _joined(
        options, model=model, method=method, shots=shots, seed=seed, positive=as_names(positive, "positive")
    )
    if options.pool is not None or isinstance(data, Mapping):
        together, data = pool_from(data, options.pool, dataset, options.label_map), Path()
    else:
        together, data = None, as_path(data, "data")
    labelled = _labelled(data, dataset, options) if together is None else None
    if labelled is None and options.reader_labels != "agreed":
        raise ConfigError(
            "Soft labels (--reader-labels) are those of several readers, and the data are no project of `cytolora "
            "label`. Leave --reader-labels out."
        )
    if labelled is not None:
        options = replace(options, model=options.model or labelled.model)
        weights = {**labelled.weights, **(weights or {})}
    inputs = Inputs(data={}, weights=weights, weights_dir=options.weights_dir, trust_weights=options.trust_weights)
    progress = progress or default_progress()
    config = choose_config(options, inputs, device.type, options.own_backbones)
    check_free(out)  # now, not after all images were read
    read = labelled and labelled.manifest
    if together is not None:
        for name, path in together.members.items():
            _check_outside(path, registered(name), out, options.cache)
        read = load_pool(together, options.reading)
        data = read.root
    elif labelled is None:
        _check_outside(data, dataset, out, options.cache)
    cells = read_cells(
        data,
        dataset,
        labels=as_path_or_none(labels, "labels"),
        add=add,
        label_map=options.label_map,
        split_file=options.split,
        split=None if options.leave_out is None else replace(DIVISION, leave_out=options.leave_out),
        reading=options.reading,
        read=read,
        cache=options.cache,
        begin=progress.begin,
        on_image=lambda: progress.done(1),
    )
    if labelled is not None:
        readings = labelled.readings if options.label_map is None else None  # readers gave other classes
        cells = replace(cells, statements=(*labelled.statements, *cells.statements), readings=readings)
    for line in (*summary(cells), *config.notes):
        progress.say(line)
    for line in lines(cells.findings):
        progress.finding(line)
    fitted = fit_stages.fit(cells, out, config, options, inputs, cache=options.cache, device=device, progress=progress)
    for note in fitted.notes:
        if note not in (*cells.statements, *config.notes):  # those were said before
            progress.say(f"! {note}")
    path = inputs.weights.get(config.backbone.name)
    return Classifier.load(out, weights=path, weights_dir=options.weights_dir, device=device)


def _labelled(data: Path, dataset: str | None, options: FitOptions) -> "Labels | None":
    """Reads the labels of a project of ``cytolora label``; None where the data are none.

    Raises:
        ConfigError: If something is asked for that the project has decided.
        DataError: If the project is damaged, or nothing in it is labelled.
    """
    from cytolora.labelling.as_dataset import check_nothing_asked, project_at
    from cytolora.labelling.export import read_labelled

    folder = project_at(data)
    if folder is None:
        return None
    check_nothing_asked(folder, options.reading, dataset=dataset, split=options.split, leave_out=options.leave_out)
    return read_labelled(folder, options.reader_labels)


def _joined(options: FitOptions, **arguments: Any) -> FitOptions:
    """Puts the arguments of a call into the options.

    Raises:
        ConfigError: If an argument and the options say two things.
    """
    given = {name: value for name, value in arguments.items() if value != getattr(_DEFAULTS, name)}
    for name, value in given.items():
        if getattr(options, name) not in (value, getattr(_DEFAULTS, name)):
            raise ConfigError(
                f"{name} is given twice: {value!r} as an argument and {getattr(options, name)!r} in options. "
                "Leave one out."
            )
    return replace(options, **given)


def _check_outside(data: Path, dataset: str | None, out: Path, cache: Path) -> None:
    """Raises a ConfigError if something would be written among class folders: it would be taken for a class."""
    from cytolora.data.datasets import find_dataset, recognise
    from cytolora.data.readers.folder import FOLDER

    if not data.is_dir() or (find_dataset(dataset) if dataset else recognise(data)) is not FOLDER:
        return
    for option, path in (("--out", out), ("--cache", cache)):
        if path.suffix != ".zip" and path.resolve().is_relative_to(data.resolve()):
            raise ConfigError(
                f"{path} lies in {data}, where every folder is a class: it would be taken for one the next time. "
                f"Choose another {option}, outside."
            )
