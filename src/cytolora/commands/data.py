"""data download: fetches what needs no account, and says where everything else is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from cytolora.data.datasets import DATASETS, find_dataset
from cytolora.data.download import ZENODO, fetch, remote_files
from cytolora.data.sources.spec import DatasetSpec
from cytolora.errors import ConfigError

app = App(name="data", help="Gets datasets.")


@app.command
def download(
    name: str,
    /,
    *,
    to: Path,
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    mirror: str = ZENODO,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Fetches a dataset that needs no account, checked; for the others it prints the page and what to click.

    Whole files are kept when it is interrupted; the same command goes on from there.

    Examples:

        cytolora data download hicervix --to HiCervix
        cytolora data download bloodmnist --to bloodmnist --only bloodmnist_64.npz
        cytolora data download sipakmed --to sipakmed

    Parameters
    ----------
    name
        Which dataset (`cytolora ls datasets`).
    to
        Folder for the files.
    only
        Some files of the record instead of all, or of the usual one.
    mirror
        Address of a copy of Zenodo.
    quiet
        Shows no progress.
    """
    spec = find_dataset(name)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if spec.generic or spec.drawn:
        fetched = ", ".join(one.name for one in DATASETS if one.page)
        raise ConfigError(f"Nothing is to be fetched for {spec.name!r}. Datasets with a download: {fetched}.")
    console.print(f"{spec.title}. Licence: {spec.licence}.")
    if spec.zenodo is None:
        console.print(f"It cannot be fetched for you. Open {spec.page}")
        console.print(spec.how_to_get)
        console.print(f"Then: cytolora check {to} --dataset {name}")
        return
    for path in _fetch_all(spec, to, only, mirror, quiet=quiet):
        console.print(f"{path}")
    console.print(f"Next: unpack what is packed, then cytolora check {to} --dataset {name}")


def _fetch_all(spec: DatasetSpec, to: Path, only: tuple[str, ...], mirror: str, *, quiet: bool) -> Iterator[Path]:
    assert spec.zenodo is not None
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn())
    for file in remote_files(spec.zenodo, only, mirror=mirror):
        with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
            task = bar.add_task(file.name, total=file.num_bytes)

            def show(done: int, total: int, bar: Progress = bar, task: TaskID = task) -> None:
                bar.update(task, completed=done, total=total)

            path = fetch(spec.zenodo, file, to, mirror=mirror, on_bytes=show)
        yield path
