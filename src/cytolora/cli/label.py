"""The command `label`: cells labelled in the browser, over a project folder."""

import shlex
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cytolora.cli.cache_options import DEFAULT, CacheOptions
from cytolora.cli.console import make_console
from cytolora.cli.listening import listening, run_service
from cytolora.cli.options import CheckpointFiles, Device, Several, pairs
from cytolora.cli.targets import replaced
from cytolora.core.arguments import as_device
from cytolora.errors import ConfigError, missing_package

_HOST = "127.0.0.1"


@Parameter(name="*", group="Checkpoints")
@dataclass(frozen=True, kw_only=True)
class _Files(CheckpointFiles):
    """Files of the checkpoint of the project's backbone."""


_HUB = _Files()


def label(
    cells: Path,
    /,
    *,
    out: Annotated[Path | None, replaced()] = None,
    classes: Annotated[Sequence[str], Several] = (),
    like: str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    groups_from: str | None = None,
    labels: Path | None = None,
    test_share: float | None = None,
    seed: int | None = None,
    reader: str = "reader 1",
    files: _Files = _HUB,
    caching: CacheOptions = DEFAULT,
    device: Device = "auto",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0,
    no_browser: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Labels cells in the browser, and leaves a valid test set behind.

    Whole groups are assigned to a test share before the first label, and its cells are drawn at random; all others are
    chosen where a label helps most. Every label is on disk before the page shows it as stored. The page answers on
    127.0.0.1 alone and needs the token in its address; Ctrl-C stops it, the same command goes on.

    Examples:

        cytolora label cells --out project --classes NILM LSIL HSIL
        cytolora label cells --out project --like bethesda --model uni --weights uni=UNI/model.safetensors
        cytolora label slides --out project --classes NILM LSIL HSIL --groups-from folders
        cytolora label project --reader "B. second"

    Parameters
    ----------
    cells
        Folder, table or zip file of cells; or a project, to go on with it.
    out
        Folder of the project: journal of labels, shares, features. A project that is there is opened; where its cells
        moved, the first argument is their new place. Options that it has settled (model, test share, seed, groups,
        reader of the cells) are refused where they differ.
    classes
        Names of the classes, two or more.
    like
        Takes the classes of a shipped label map (bethesda) or a published dataset instead.
    model
        Backbone of the features (`cytolora ls models`); nano where none is named. A project that has no features yet
        can be given another.
    dataset
        Which reader of the cells (`cytolora ls datasets`); recognised from the folder if not given.
    groups_from
        Groups of images that have none: folders (a sub-folder per patient or slide), names, none, or a regular
        expression for the file name.
    labels
        Labels made elsewhere, stored as this reader's: a table with columns path and label, or a file of coco, cvat,
        fiftyone, imagefolder, label-studio or qupath (`cytolora ls formats`).
    test_share
        Share of the groups that is kept for testing, in (0, 1); 0.25 where none is named.
    seed
        Of the draw of groups and test cells; 0 where none is named.
    reader
        Name of who labels; the page can change it.
    device
        That computes features and trains LoRA: auto takes CUDA where there is one, else Apple's GPU, else the CPU.
    port
        0 takes a free one.
    no_browser
        Prints the address and opens no browser.
    """
    try:
        from cytolora.labelling.server import LIMITS, make_app, new_token
    except ImportError as error:
        raise missing_package("`cytolora label` needs", error.name or "FastAPI", extra="serve", error=error) from error
    from cytolora.labelling.project import is_project
    from cytolora.labelling.session import Labelling, create_project
    from cytolora.labelling.settled import absent_weights

    if out is None and not is_project(cells):
        raise ConfigError(f"{cells} is no labelling project yet; name the folder of one: --out project.")
    if device not in ("auto", "cpu"):
        as_device(device)  # loads torch, which the page starts without
    folder = create_project(
        cells,
        out or cells,
        classes=classes,
        like=like,
        model=model,
        reader=reader,
        test_share=test_share,
        seed=seed,
        groups=groups_from,
        labels=labels,
        dataset=dataset,
        weights=pairs(files.weights, "--weights"),
        weights_dir=files.weights_dir,
    )
    token = new_token()
    project = Labelling(folder, cache=caching.folder(), device=device, refits_apart=True)
    notice = absent_weights(project.about)
    app = make_app(project, folder, token, reader=reader)
    console = make_console(stderr=True)
    with listening(_HOST, port) as listener:
        console.print(project.groups)
        if notice is not None:
            console.print(f"! {notice}")
        address = f"http://{_HOST}:{listener.getsockname()[1]}/?token={token}"
        console.print(f"Label the cells of {folder} at {address} . Ctrl-C stops it. For research use only.")
        if not no_browser:
            Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # one in the terminal would not return
        run_service(app, LIMITS, listener)
    again = shlex.join(["cytolora", "label", str(folder)])
    console.print(f"Stopped; every label that was shown as stored is in {folder}. Go on: {again}")
