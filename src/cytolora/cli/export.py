"""The command `export`: a classifier as ONNX, timm or PEFT files, verified against its predictions."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.cli.options import NO_WEIGHTS, MachineOptions, OfFeatures, Several, WeightOptions
from cytolora.cli.print_findings import print_findings
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced
from cytolora.core.text import counted


def export(
    bundle: Path,
    /,
    *,
    to: Literal["onnx", "timm", "peft"],
    out: Annotated[Path, replaced()],
    images: Annotated[Sequence[Path], Several] = (),
    force_licence: Annotated[bool, Parameter(negative="")] = False,
    precision: OfFeatures = "auto",
    files: WeightOptions = NO_WEIGHTS,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Exports a classifier to ONNX, to a timm checkpoint, or its LoRA for PEFT, and verifies the export.

    The export is opened again and predicts images; if a class changes, or a probability by more than 0.0001, it is
    deleted. ONNX runs without torch: `cytolora predict DIR PATH …` on a machine that has only ONNX Runtime.

    Examples:

        cytolora export model1 --to onnx --out model1-onnx --images new_cells
        cytolora export model1 --to timm --out model1-timm

    Parameters
    ----------
    bundle
        Folder or zip file that `cytolora fit` wrote.
    to
        onnx: one file, adapter merged. timm: opens with `timm.create_model("local-dir:DIR", pretrained=True)`.
        peft: the adapter and the head alone.
    out
        Folder to write.
    images
        Images to compare on, files or folders; synthetic cells if not given.
    force_licence
        Exports weights although their licence forbids modified copies.
    precision
        Of a frozen encoder: auto is that of `fit`; an export computes in fp32, also of a bundle in int8 with fp32 here.
    json_
        Prints one JSON document.
    quiet
        Shows no progress.
    """
    from cytolora.classifier.export.export import Agreement, licence_problem
    from cytolora.classifier.export.export import export as write
    from cytolora.cli.own_backbones import open_bundle

    with show_progress(quiet=quiet, keep_bars=False) as progress:
        progress.status(f"opening {bundle}")
        opened = open_bundle(bundle, files, MachineOptions(device="cpu"), precision)
        found: Agreement = write(opened, to, out, images=images, force_licence=force_licence, progress=progress)
    problem = licence_problem(opened) if to != "peft" else ""
    if json_:
        named = [str(path) for path in images] or ["drawn cells"]
        said = {"out": str(out), "to": to, "licence": problem, "compared_on": named, **asdict(found)}
        said["findings"] = [one.plain() for one in opened.findings()]
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
        return
    console = make_console()
    on = (
        f"{counted(found.num_images, 'image')} of {', '.join(map(str, images))}"
        if images
        else f"{found.num_images} drawn cells"
    )
    left_out = f", {found.num_unreadable} unreadable ones left out" if found.num_unreadable else ""
    console.print(f"{out}: {to}, compared with {bundle} on {on}{left_out}")
    console.print(
        f"largest difference: logit {found.logit:.1e}, probability {found.probability:.1e}; "
        f"{found.num_flips} of {found.num_images} classes changed, {found.num_other_flags} other flags or sets"
    )
    print_findings(opened.findings(), console)
    if not images:
        console.print("! drawn cells are not yours: before you rely on it, compare it on real ones: --images NEW_CELLS")
    if problem:
        console.print(f"! keep it in your house: {problem}")
    elif opened.backbone.redistributable is None and to != "peft":
        console.print(f"! it holds weights under {opened.backbone.licence!r}: find out whether you may pass them on")
