"""weights: lists, fetches and verifies checkpoints, for sites with and without a network."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from cytolora.cli.catalogue import print_plugin_problems
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import shared
from cytolora.data.targets import CHECKPOINTS
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.hub import fetch as fetch_from_hub
from cytolora.models.checkpoints.hub import fetch_neighbours, fetch_vocabulary, find, intact
from cytolora.models.checkpoints.offline_folder import keep, prepare
from cytolora.models.checkpoints.offline_folder import verify as verify_folder

_PROBLEMS_FOUND = 1

app = App(name="weights", help="Lists, fetches and verifies checkpoints, for sites with and without a network.")
app.command(
    "cytolora.cli.weights_try:try_",
    name="try",
    help="Tries a checkpoint: parity with its native library, LoRA, bundle, ONNX export, speed.",
)


@app.command(name="list")
def list_(
    *,
    weights_dir: Path | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Lists the source, licence and gate of each backbone's checkpoint, and whether it is on this machine.

    Exits with 1 if a plug-in cannot be loaded; it is named on standard error.

    Example:

        cytolora weights list

    Parameters
    ----------
    weights_dir
        Folder written by `weights fetch`; looked into before the hub's cache.
    json_
        Prints a list of objects, each with `name`.
    """
    rows = [_row(spec, weights_dir) for spec in BACKBONES]
    if json_:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        table = PlainTable("name", "on disk", "gate", "licence", "facts", "hub")
        for row in rows:
            gate = "gated" if row["gated"] else ""
            on_disk = "yes" if row["path"] else "no"
            facts = "unverified" if row["unverified"] else ""
            table.add_row(row["name"], on_disk, gate, row["licence"], facts, row["repo"] or "")
        make_console().print(table)
    return print_plugin_problems("models")


@app.command
def fetch(
    *names: str,
    to: Annotated[Path, shared(CHECKPOINTS, option="--to")],
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Copies checkpoints into one folder for a site without a network, with a manifest of hashes, licences and gates.

    Those in the hub's cache are copied; the others are downloaded into it first. Configurations beside them
    (config.json, open_clip_config.json) come along: they are compared with the entry when the weights are read.

    Example:

        cytolora weights fetch clip-vit-b16 uni --to weights

    Parameters
    ----------
    names
        Backbones (`cytolora ls models`).
    to
        The folder; on the other side it is read with `--weights-dir`.
    quiet
        Shows no progress.
    """
    from cytolora.errors import ConfigError

    if not names:
        raise ConfigError("Name at least one backbone: cytolora weights fetch NAME --to DIR. See `weights list`.")
    console = make_console()
    specs = [BACKBONES.get(name) for name in names]
    prepare(to)
    for spec in specs:
        with show_progress(quiet=quiet, keep_bars=False) as progress:
            vocabulary, here = fetch_vocabulary(spec), find(spec)
            checkpoint = fetch_from_hub(spec, progress) if here is None else intact(spec, here)
            progress.status(f"{spec.name}: copying to {to}")
            others = [*([] if vocabulary is None else [vocabulary]), *fetch_neighbours(spec, checkpoint)]
            kept = keep(spec, checkpoint, to, others)
        console.print(f"{kept.name}: {kept.file}, {kept.num_bytes:,} bytes, {kept.sha256[:12]}…")
        if spec.redistributable is False:
            note = f"  {spec.licence}: for your own use; neither the file nor weights derived from it travel on."
            console.print(note)


@app.command
def verify(folder: Path, /) -> int:
    """Verifies the hash of each checkpoint in a folder that `weights fetch` wrote; exit code 1 if one differs.

    Example:

        cytolora weights verify weights

    Parameters
    ----------
    folder
        The folder, on either side.
    """
    console = make_console()
    problems = verify_folder(folder)
    for name, problem in problems.items():
        console.print(f"{name}: {problem or 'as it was written'}")
    return _PROBLEMS_FOUND if any(problems.values()) else 0


def _row(spec: BackboneSpec, weights_dir: Path | None) -> dict[str, Any]:
    path = find(spec, folder=weights_dir)
    return {
        "name": spec.name,
        "path": None if path is None else str(path),
        "repo": None if spec.hub is None else spec.hub.repo,
        "file": None if spec.hub is None else spec.hub.filename,
        "revision": None if spec.hub is None else spec.hub.revision,
        "gated": spec.gated,
        "redistributable": spec.redistributable,
        "licence": spec.licence,
        "unverified": list(spec.unverified),
    }
