"""Writes constraints.txt: the exact versions of everything that the package and its extras need, as installed here.

    .venv/bin/python scripts/constraints.py > constraints.txt

Names and versions only: no index, no URL. Run it after trying newer versions, and commit the file with the reason.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement


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


versions: dict[str, str] = {}
closure("cytolora", frozenset(sys.argv[1:] or ["dev"]), versions, set())
for package, number in sorted(versions.items()):
    if package != "cytolora":
        print(f"{package}=={number}")
