"""Prints exact versions of everything that the package and its extras need: those installed here, or the lowest.

    .venv/bin/python scripts/constraints.py > constraints.txt
    .venv/bin/python scripts/constraints.py --lowest > constraints-lowest.txt

Names and versions only: no index, no URL. ``--lowest`` resolves the bounds of pyproject.toml to the lowest version of
each direct requirement, by `uv` (``pip install uv``); the others, and what the tests need, are as new as fits.
Run either after trying other versions, and commit the file with the reason.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

_ROOT = Path(__file__).resolve().parents[1]
NOT_LOWEST = ("bench", "dev", "docs", "wandb", "trackio")
"""Extras of those who work on the package, and those that CI does not install."""
TOOLS = ("beartype", "httpx", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
"""Of the tests: in the versions of constraints.txt, whatever their bounds are."""


def closure(name: str, extras: frozenset[str], found: dict[str, str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Adds ``name``'s installed requirements, and theirs, to ``found``."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    for text in requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            continue
        canonical = re.sub(r"[-_.]+", "-", requirement.name).lower()
        try:
            found[canonical] = version(canonical)
        except PackageNotFoundError:
            continue
        closure(canonical, frozenset(requirement.extras), found, seen)


def installed(extras: frozenset[str]) -> list[str]:
    """Lists what the package with some extras needs, as it is installed here."""
    versions: dict[str, str] = {}
    closure("cytolora", extras, versions, set())
    return [f"{package}=={number}" for package, number in sorted(versions.items()) if package != "cytolora"]


def lowest() -> list[str]:
    """Resolves the lowest direct requirements of the package and of its users' extras."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    of_users = [text for name, texts in extras if name not in NOT_LOWEST for text in texts]
    pinned = dict(line.split("==") for line in (_ROOT / "constraints.txt").read_text("utf-8").split())
    wanted = [*project["dependencies"], *of_users, *(f"{tool}=={pinned[tool]}" for tool in TOOLS)]
    python = project["requires-python"].removeprefix(">=")
    options = ["--resolution", "lowest-direct", "--python-version", python, "--no-header", "--no-annotate", "--quiet"]
    command = ["uv", "pip", "compile", *options, "-"]
    return subprocess.run(command, input="\n".join(wanted), text=True, capture_output=True, check=True).stdout.split()


def main() -> None:
    """Prints one requirement a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", default=["dev"], help="of the package, as installed here")
    parser.add_argument("--lowest", action="store_true", help="the lowest versions that pyproject.toml allows")
    chosen = parser.parse_args()
    try:
        lines = lowest() if chosen.lowest else installed(frozenset(chosen.extras))
    except FileNotFoundError:
        sys.exit("uv is not installed: pip install uv")
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr.strip())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
