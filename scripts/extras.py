"""Sizes of the package's dependencies and of each extra, as installed here: the table of the README.

    .venv/bin/python scripts/extras.py

An extra is charged with what it brings beyond the dependencies of the package itself; one of which nothing is missing
here is "not installed".
"""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
_OF_A_GPU = re.compile(r"nvidia-|cuda-|triton$")


def closure(requirements: Iterable[str], extras: Iterable[str] = ()) -> set[str]:
    """Names of the installed distributions that requirements need, and those need in turn.

    Raises:
        PackageNotFoundError: If one that is asked for directly is not installed.
    """
    found: set[str] = set()
    waiting = [(Requirement(text), tuple(extras), True) for text in requirements]
    while waiting:
        one, active, is_asked = waiting.pop()
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        applies = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*active, ""))
        if not applies or name in found or name == PROJECT["name"]:
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            if is_asked:
                raise
            continue
        found.add(name)
        waiting += [(Requirement(text), tuple(one.extras), False) for text in needs]
    return found


def megabytes(names: Iterable[str]) -> float:
    """Size of the files of installed distributions."""
    files = [Path(str(file.locate())) for name in names for file in distribution(name).files or []]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    """Prints one line for the package and one for each extra."""
    base = closure(PROJECT["dependencies"])
    of_a_gpu = {name for name in base if _OF_A_GPU.match(name)}
    print(f"dependencies: {len(base)} packages, {megabytes(base):,.0f} MB")
    print(f"  of these CUDA: {len(of_a_gpu)} packages, {megabytes(of_a_gpu):,.0f} MB")
    for extra, requirements in PROJECT["optional-dependencies"].items():
        try:
            new = closure(text for text in requirements if not text.startswith("cytolora")) - base
        except PackageNotFoundError as error:
            print(f"{extra}: {error.name} is not installed")
            continue
        print(f"{extra}: {len(new)} packages, {megabytes(new):,.1f} MB")


if __name__ == "__main__":
    main()
