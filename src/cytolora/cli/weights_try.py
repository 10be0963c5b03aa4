"""weights try: tries a checkpoint on this machine and writes a result that can be sent on."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.api.trial import DEFAULT_STEPS, try_weights
from cytolora.classifier.trial.trial import Trial
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.machine import resolve_device
from cytolora.cli.options import THIS_MACHINE, MachineOptions, Several, add_backbones, pairs
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced
from cytolora.core.files import write_json
from cytolora.data.own_files import TRIAL
from cytolora.errors import ConfigError

_FAILED = 1


def _file_of(name: str, weights: Path | None) -> Path | None:
    """Takes ``NAME=PATH`` too, as other commands and the error about missing weights write it."""
    text = "" if weights is None else str(weights)
    return Path(text.removeprefix(f"{name}=")) if text.startswith(f"{name}=") else weights


def try_(
    name: str,
    /,
    *,
    weights: Path | None = None,
    weights_dir: Path | None = None,
    trust_weights: Annotated[bool, Parameter(negative="")] = False,
    backbone_file: Annotated[Sequence[Path], Several] = (),
    data: Annotated[Sequence[str], Several] = (),
    steps: int = DEFAULT_STEPS,
    out: Annotated[Path | None, replaced(kind=TRIAL)] = None,
    machine: MachineOptions = THIS_MACHINE,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Tries a checkpoint: parity with its native library, LoRA in fp32 and bf16, bundle, ONNX export, speed.

    Everything is drawn but the checkpoint and the configurations beside it. Exits with 1 if a part failed.

    Examples:

        cytolora weights try uni --weights UNI/pytorch_model.bin --out uni.json
        cytolora weights try clip-vit-b16 --weights-dir weights --device cuda --data sipakmed=SIPaKMeD

    Parameters
    ----------
    name
        Backbone (`cytolora ls models`).
    weights
        Its official checkpoint, file or folder (NAME=PATH too), with its configuration beside it; otherwise
        --weights-dir, or the hub's cache. Nothing is downloaded.
    weights_dir
        Folder written by `cytolora weights fetch`.
    trust_weights
        Goes on by the backbone's entry where a configuration beside the weights (config.json) says otherwise.
    backbone_file
        YAML file that describes a backbone of one's own.
    data
        Folder of a dataset, as NAME=PATH: the accuracy of a linear classifier, beside the published one.
    steps
        LoRA steps in each precision.
    out
        JSON file to write: figures, versions, processor, SHA-256 and layout of the checkpoint; no name of user, host or
        folder.
    json_
        Prints that JSON document instead of the table.
    quiet
        Shows no progress.
    """
    add_backbones(backbone_file)
    folders = pairs(data, "--data")
    device = resolve_device(machine)
    with show_progress(quiet=quiet, keep_bars=False) as progress:
        trial = try_weights(
            name,
            _file_of(name, weights),
            data=folders,
            weights_dir=weights_dir,
            trust_weights=trust_weights,
            steps=steps,
            device=device,
            progress=progress,
        )
    if out is not None:
        try:
            write_json(out, trial.plain())
        except OSError as error:
            raise ConfigError(f"Cannot write {out}: {error.strerror or error}. Choose another --out.") from error
    if json_:
        sys.stdout.write(json.dumps(trial.plain(), indent=2) + "\n")
    else:
        _print(trial, out)
    return _FAILED if trial.has_failed else 0


def _print(trial: Trial, out: Path | None) -> None:
    console = make_console(soft_wrap=False)
    table = PlainTable("part", "verdict", "found", no_wrap="part")
    for part in trial.parts:
        table.add_row(part.name, part.verdict, part.text)
    console.print(table)
    failed = [part.name for part in trial.parts if part.verdict == "failed"]
    verdict = f"failed: {', '.join(failed)}" if failed else "nothing failed"
    console.print(f"{trial.model}: {verdict}.", soft_wrap=True)
    if out is not None:
        console.print(f"Written to {out}: it names no user, host or folder, and can be sent on.", soft_wrap=True)
