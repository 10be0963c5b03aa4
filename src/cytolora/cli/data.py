"""data download: fetches datasets that need no account, and prints where to get the others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cytolora.cli.console import make_console
from cytolora.cli.options import Several
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import shared
from cytolora.core.progress import Progress
from cytolora.data.datasets import DATASETS, find_dataset
from cytolora.data.download import ZENODO, fetch, remote_files
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.targets import IMAGES
from cytolora.errors import ConfigError

app = App(name="data", help="Downloads datasets.")


@app.command
def download(
    name: str,
    /,
    *,
    to: Annotated[Path, shared(IMAGES, option="--to")],
    only: Annotated[tuple[str, ...], Several] = (),
    mirror: str = ZENODO,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Downloads a dataset that needs no account and verifies it; prints page and instructions for the others.

    Complete files stay after an interruption; the same command continues from there.

    Examples:

        cytolora data download hicervix --to HiCervix
        cytolora data download bloodmnist --to bloodmnist --only bloodmnist_64.npz
        cytolora data download sipakmed --to sipakmed

    Parameters
    ----------
    name
        Dataset (`cytolora ls datasets`).
    to
        Folder for the files.
    only
        Names of files to download, instead of all, or of the default one.
    mirror
        Address of a copy of Zenodo.
    quiet
        Shows no progress.
    """
    spec = find_dataset(name)
    console = make_console()
    if spec.generic or spec.drawn:
        fetched = ", ".join(one.name for one in DATASETS if one.page)
        raise ConfigError(f"{spec.name!r} has no download. Datasets with one: {fetched}.")
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
    for file in remote_files(spec.zenodo, only, mirror=mirror):
        with show_progress(quiet=quiet) as progress:
            progress.status(f"{file.name}: connecting, or comparing what is there")
            path = fetch(spec.zenodo, file, to, mirror=mirror, on_bytes=_teller(file.name, progress))
        yield path


def _teller(name: str, progress: Progress) -> Callable[[int, int], None]:
    """Returns what takes how many bytes of how many are there; the stage begins with the first."""
    num_told: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal num_told
        if num_told is None:
            progress.begin(name, total, "bytes")
        progress.done(done - (num_told or 0))
        num_told = done

    return tell
