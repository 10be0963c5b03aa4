"""doctor: checks packages, plug-ins, devices, disk and checkpoints, on request the hub; runs where packages lack."""

import json
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from cyclopts import Parameter

from cytolora.cli.catalogue import plugin_problems
from cytolora.cli.console import make_console
from cytolora.core.machine import num_cpus
from cytolora.errors import ConfigError, how_to_install

_PROBLEMS = 1
_HUB_TIMEOUT_SECONDS = 3.0
_LOW_DISK_GB = 5
_MODULES = {"fonttools": "fontTools", "pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""What a package is imported as, where that is not its name."""
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[^\]]*\])?\s*>=\s*(?P<oldest>[\d.]+)")

_INSTALL = f"Install all that cytolora needs: {how_to_install()}."


def doctor(
    *,
    weights_dir: Path | None = None,
    online: Annotated[bool, Parameter(negative="")] = False,
    offline: Annotated[bool, Parameter(negative="", show=False)] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Checks this machine: Python, packages, plug-ins, devices, disk, checkpoints with licences and gates.

    Exits with 1 if a problem was found. Nothing is sent or fetched but with `--online`.

    Examples:

        cytolora doctor

        cytolora doctor --online

    Parameters
    ----------
    weights_dir
        Folder written by `cytolora weights fetch`.
    online
        Asks the hub too whether it can be reached.
    offline
        The default; taken as before.
    json_
        Prints one JSON document.
    """
    if online and offline:
        raise ConfigError("--online and --offline exclude each other; give one of them.")
    packages, problems = _packages()
    facts = {"python": platform.python_version(), "cpus": num_cpus(), "packages": packages}
    sections: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
        ("Devices", _devices),
        ("The disk", _disk),
        ("The hub", lambda: {"hub": _hub() if online else "not asked (--online asks it)"}),
        ("Checkpoints", lambda: {"weights": _weights(weights_dir)}),
        ("Plug-ins", lambda: {"plugins": plugin_problems()}),
    )
    for title, look in sections:
        try:
            facts |= look()
        except ModuleNotFoundError as error:
            problems.append(f"{title} cannot be checked without {error.name}.")
        except Exception as error:  # what a broken package raises
            problems.append(f"{title} cannot be checked: {_in_one_line(error)}.")
    problems += _problems(facts)
    if json_:
        sys.stdout.write(json.dumps({**facts, "problems": problems}, indent=2) + "\n")
    else:
        _print(facts, problems)
    return _PROBLEMS if problems else 0


def _packages() -> tuple[dict[str, str], list[str]]:
    """Imports each package that cytolora requires; returns versions, and one sentence for each that is not usable."""
    versions: dict[str, str] = {}
    absent: dict[str, list[str]] = {}
    problems = []
    for name, oldest in _requirements():
        try:
            versions[name] = version(name)
            import_module(_MODULES.get(name, name.replace("-", "_")))
        except PackageNotFoundError:
            absent.setdefault(name, [])
        except ModuleNotFoundError as error:
            absent.setdefault(error.name or name, []).append(name)
        except Exception as error:  # a broken package raises anything: OSError for a library, say
            problems.append(f"{name} cannot be imported: {_in_one_line(error)}. Install it again.")
        else:
            if _numbers(versions[name]) < _numbers(oldest):
                problems.append(f"{name} {versions[name]} is older than {oldest}. {_INSTALL}")
    for name, needed_by in absent.items():
        others = ", ".join(other for other in needed_by if other != name)
        problems.append(f"{name} is not installed{f' (needed by {others} too)' if others else ''}. {_INSTALL}")
    return versions, problems


def _requirements() -> Iterator[tuple[str, str]]:
    """Yields name and oldest version of each package that is required without an extra."""
    for text in requires("cytolora") or ():
        if "extra ==" not in text and (requirement := _REQUIREMENT.match(text)):
            yield requirement["name"].lower(), requirement["oldest"]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def _devices() -> dict[str, Any]:
    import torch

    from cytolora.models.kernels.packed import DTYPES, packing_works

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "packed_cpu_layers": ", ".join(filter(packing_works, DTYPES)) or "none",
        "gpus": gpus,
        "mps": torch.backends.mps.is_available(),
    }


def _disk() -> dict[str, Any]:
    return {"disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1)}


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
    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.models.checkpoints.hub import find

    rows = []
    for spec in BACKBONES:
        path = find(spec, None, folder)
        row = {"name": spec.name, "file": path and str(path), "licence": spec.licence, "gated": spec.gated}
        rows.append(row)
    return rows


def _problems(facts: dict[str, Any]) -> list[str]:
    problems = list(facts.get("plugins", ()))
    free = facts.get("disk_free_gb")
    if free is not None and free < _LOW_DISK_GB:
        problems.append(f"Only {free} GB are free here; checkpoints and features need some GB.")
    if facts.get("hub", "").startswith("not reachable"):
        problems.append(
            "The hub cannot be reached: checkpoints have to be carried here. See `cytolora weights fetch --help`."
        )
    return problems


def _print(facts: dict[str, Any], problems: list[str]) -> None:
    console = make_console()
    console.print(
        f"Python {facts['python']}, {facts['cpus']} CPUs, {len(facts['packages'])} required packages installed"
    )
    if "torch" in facts:
        devices = ", ".join(facts["gpus"]) or ("Apple GPU" if facts["mps"] else "no GPU")
        packed = "oneDNN layers" if facts["packed_cpu_layers"] else "plain layers"
        console.print(f"torch {facts['torch']}, {devices}; {facts['threads']} threads, {packed}")
    console.print(f"disk: {facts.get('disk_free_gb', 'unknown')} GB free here")
    console.print(f"hub: {facts.get('hub', 'not asked')}")
    rows = facts.get("weights", ())
    here = [row for row in rows if row["file"]]
    console.print(f"checkpoints here: {len(here)} of {len(rows)}")
    for row in here:
        console.print(f"  {row['name']}: {row['file']} ({row['licence']}{', gated' if row['gated'] else ''})")
    for problem in problems:
        console.print(f"! {problem}")
