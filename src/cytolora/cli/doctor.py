"""doctor: what this machine has, and what is missing on it."""

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import find

_PROBLEMS = 1
_HUB_TIMEOUT_SECONDS = 3.0
_LOW_DISK_GB = 5


def doctor(
    *,
    weights_dir: Path | None = None,
    offline: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Says what this machine has: Python, devices, disk, checkpoints with licences and gates, the hub in reach or not.

    Exits with 1 if something was found that will stand in the way.

    Example:

        cytolora doctor

    Parameters
    ----------
    weights_dir
        Folder written by `cytolora weights fetch`.
    offline
        Does not ask whether the hub can be reached.
    json_
        Prints one JSON document.
    """
    found = {
        "python": platform.python_version(),
        **_devices(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "hub": "not asked" if offline else _hub(),
        "weights": _weights(weights_dir),
    }
    problems = _problems(found)
    if json_:
        sys.stdout.write(json.dumps({**found, "problems": problems}, indent=2) + "\n")
    else:
        _print(found, problems)
    return _PROBLEMS if problems else 0


def _devices() -> dict[str, Any]:
    import torch

    from cytolora.models.kernels.packed import packing_works

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "packed_cpu_layers": packing_works(),
        "gpus": gpus,
        "mps": torch.backends.mps.is_available(),
    }


def _hub() -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline (HF_HUB_OFFLINE is set)"
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=_HUB_TIMEOUT_SECONDS).close()
    except HTTPError:
        return "reachable"  # it answered
    except (URLError, OSError) as error:
        return f"not reachable: {getattr(error, 'reason', error)}"
    return "reachable"


def _weights(folder: Path | None) -> list[dict[str, Any]]:
    rows = []
    for spec in BACKBONES:
        path = find(spec, None, folder)
        row = {"name": spec.name, "file": path and str(path), "licence": spec.licence, "gated": spec.gated}
        rows.append(row)
    return rows


def _problems(found: dict[str, Any]) -> list[str]:
    problems = []
    if found["disk_free_gb"] < _LOW_DISK_GB:
        problems.append(f"Only {found['disk_free_gb']} GB are free here; checkpoints and features need some GB.")
    if found["hub"].startswith("not reachable"):
        problems.append(
            "The hub cannot be reached: checkpoints have to be carried here. See `cytolora weights fetch --help`."
        )
    return problems


def _print(found: dict[str, Any], problems: list[str]) -> None:
    console = make_console()
    devices = ", ".join(found["gpus"]) or ("Apple GPU" if found["mps"] else "no GPU")
    packed = "oneDNN layers" if found["packed_cpu_layers"] else "plain layers"
    console.print(f"Python {found['python']}, torch {found['torch']}, {devices}")
    console.print(f"{found['cpus']} CPUs, {found['threads']} threads, {packed}; {found['disk_free_gb']} GB free here")
    console.print(f"hub: {found['hub']}")
    here = [row for row in found["weights"] if row["file"]]
    console.print(f"checkpoints here: {len(here)} of {len(found['weights'])}")
    for row in here:
        console.print(f"  {row['name']}: {row['file']} ({row['licence']}{', gated' if row['gated'] else ''})")
    for problem in problems:
        console.print(f"! {problem}")
