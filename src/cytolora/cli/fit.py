"""The command `fit`: labelled cells to a classifier in a bundle."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.cache_options import DEFAULT, CacheOptions
from cytolora.cli.console import make_console
from cytolora.cli.options import (
    AS_IT_STANDS,
    NO_WEIGHTS,
    ONE_DATASET,
    THIS_MACHINE,
    FitPrecision,
    MachineOptions,
    PoolOptions,
    ReadingOptions,
    Several,
    WeightOptions,
    pairs,
)
from cytolora.cli.own_backbones import add_own
from cytolora.cli.print_metrics import print_members, print_metrics, print_readers, print_repeats, print_statement
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced
from cytolora.config.method_kinds import ReaderLabels, Weighting
from cytolora.data.pooling import Pool


def fit(
    path: Path | None = None,
    /,
    *,
    out: Annotated[Path, replaced()] = Path("model"),
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = None,
    ensemble: Annotated[tuple[str, ...], Several] = (),
    ensemble_weights: Weighting = "equal",
    shots: int | None = None,
    seed: int = 0,
    positive: Annotated[tuple[str, ...], Several] = (),
    sensitivity: float = 0.95,
    lower_sensitivity: Annotated[bool, Parameter(negative="")] = False,
    coverage: float = 0.9,
    learning_rates: Annotated[tuple[float, ...], Several] = (),
    steps: int | None = None,
    repeats: int = 0,
    precision: FitPrecision = "auto",
    reader_labels: ReaderLabels = "agreed",
    labels: Path | None = None,
    add: Annotated[tuple[Path, ...], Several] = (),
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    split: Path | None = None,
    leave_out: str | None = None,
    pooling: PoolOptions = ONE_DATASET,
    reading: ReadingOptions = AS_IT_STANDS,
    files: WeightOptions = NO_WEIGHTS,
    caching: CacheOptions = DEFAULT,
    machine: MachineOptions = THIS_MACHINE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Fits a classifier to your own cells, tests it once on held-out cells, and writes it as a bundle.

    Ctrl-C at any time; the same command resumes.

    Examples:

        cytolora fit my_cells --out model1
        cytolora fit my_cells --out model1 --model uni --positive hsil scc --sensitivity 0.95
        cytolora fit my_cells --out model1 --method lora --shots 4 --labels corrections.csv
        cytolora fit my_cells --out model1 --ensemble linear gda ridge
        cytolora fit my_cells --out model1 --repeats 5
        cytolora fit my_cells --out model2 --labels corrections.csv --add new_cells
        cytolora fit my_project --out model1
        cytolora fit --data herlev=smear2005 sipakmed=SIPaKMeD --pool bethesda --out model1

    Parameters
    ----------
    path
        Folder with a sub-folder for each class, a table (manifest.csv), or a zip file; or a project of `cytolora
        label`, whose drawn test cells are the test set. Or --data and --pool in its place.
    out
        The bundle: a folder, or one zip file where the name ends in .zip. An older bundle there is replaced.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    model
        Backbone (`cytolora ls models`); that of --backbone-file, or the best one on this machine, if not given.
    method
        linear (frozen features), gda or another fitted head, coop, kgcoop or prograd (prompts, by the names of the
        classes), lora, or another of `cytolora ls methods`; linear on a CPU, lora on a GPU.
    ensemble
        Two or more heads on frozen features (linear, gda, ridge, ...) instead of --method: their calibrated
        probabilities are averaged, and each stands beside the mean in the report.
    ensemble_weights
        Of that mean: equal, or validation: those under which the true classes of cross-validation are most probable.
    shots
        Training images per class; all if not given. Held-out images are all used either way.
    seed
        Seed of the draw, the folds and the start of training.
    positive
        Classes that must not be missed: sets an operating point.
    sensitivity
        Target sensitivity for the positive classes, for images of new groups.
    lower_sensitivity
        Where calibration groups are too few to promise --sensitivity, takes what they can: n / (n + 1) with n groups.
    coverage
        Nominal coverage of the prediction sets.
    learning_rates
        Learning rates to choose from, by cross-validation.
    steps
        Truncates training to so many steps: a dry run.
    repeats
        Divisions into train, held-out and test images, the bundle's among them, on which a head is trained and tested:
        the accuracy to expect whatever the division, with its spread. For heads on frozen features (linear, gda, ...).
    precision
        Of adapter training auto is fp32; bf16 is twice as fast on processors that have it. Of frozen features (linear,
        gda, ...) int8 is faster on a CPU with VNNI, and the classifier then predicts in int8 (docs/performance.md).
    reader_labels
        Of a project of `cytolora label` with several readers: agreed (cells on which they differ and nobody decided are
        left out) or soft (such cells are trained on with the share of readers who gave each class; method linear).
    labels
        CSV with columns path,label that replaces labels: what the review page saves.
    add
        Folders or zip files of new cells, as predict read them: those that --labels names are trained on too, and on
        nothing else; the others are left out.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    split
        File written by `cytolora split`: train, val or test of each image.
    leave_out
        Metadata column and value (site=B) whose images are the test set.
    quiet
        Prints only findings and the result.
    json_
        Prints one JSON document: `bundle`, `metrics`, `training`, `findings`.
    """
    from cytolora.api.fit import fit as fit_classifier
    from cytolora.classifier.fit.config import FitOptions
    from cytolora.cli.machine import resolve_device

    source, own = pooling.source(path, dataset, map_), add_own(files.backbone_file)
    with show_progress(quiet=quiet, keep_bars=False) as progress:
        progress.status(f"reading {source.name if isinstance(source, Pool) else source}")
        classifier = fit_classifier(
            source.members if isinstance(source, Pool) else source,
            out,
            dataset=dataset,
            labels=labels,
            add=add,
            weights=pairs(files.weights, "--weights"),
            device=resolve_device(machine),
            options=FitOptions(
                model=model,
                method=method,
                ensemble=ensemble,
                ensemble_weights=ensemble_weights,
                shots=shots,
                seed=seed,
                positive=positive,
                sensitivity=sensitivity,
                lower_sensitivity=lower_sensitivity,
                coverage=coverage,
                learning_rates=learning_rates,
                max_steps=steps,
                repeats=repeats,
                precision="fp32" if precision == "auto" else precision,
                reader_labels=reader_labels,
                label_map=map_,
                pool=None if pooling.pool is None else Path(pooling.pool),
                split=split,
                leave_out=leave_out,
                reading=reading.options(),
                weights_dir=files.weights_dir,
                trust_weights=files.trust_weights,
                cache=caching.folder(),
                own_backbones=own,
            ),
            progress=progress,
        )
    contents = classifier.contents
    if json_:
        result = {"bundle": str(out), "metrics": contents.metrics, "training": contents.training}
        result["statement"] = contents.statement.plain()
        result["findings"] = contents.training["findings"]
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    print_metrics(contents.metrics["test"])
    print_statement(contents.statement)
    if members := contents.metrics.get("members"):
        print_members(members)
    if repeated := contents.metrics.get("repeats"):
        print_repeats(repeated)
    if readers := contents.metrics.get("readers"):
        print_readers(readers)
    name = out if out.suffix == ".zip" else out / "report.html"
    make_console().print(
        f"Written: {out}. Look at {name}, then: cytolora predict {out} NEW_CELLS --out predictions.csv"
    )
