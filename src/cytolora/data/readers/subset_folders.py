"""Folders above class folders: subsets, folds, patients and slides, told apart by their names and what they hold."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.core.text import counted
from cytolora.data.readers.layout import SUBSET_NAMES
from cytolora.data.walk import folders_in, has_images_in
from cytolora.errors import DataError

_HOLDS = r"(?:data|datasets?|sets?|subsets?|splits?|images?|imgs?|cells?|samples?|folders?)"
_LOOSE = re.compile(
    rf"(?:{_HOLDS}[ _.\-]*)*(?P<subset>train|training|val|valid|validation|test|testing)(?:[ _.\-]*{_HOLDS})*",
    re.IGNORECASE,
)
"""``Training``, ``test_set``, ``Train data``: a subset where the folders beside it are subsets, too."""
_FOLD = re.compile(r"(?:k[ _\-]?)?(?:fold|split|cv|part|partition|set|batch)s?[ _\-]?\d+", re.IGNORECASE)
_SHARED = 2
"""Folders that hold a name, from which on it is repeated."""
_SHOWN = 3


def subset_named(folder: str) -> Subset | None:
    """Tells the subset that a folder is called after, also as ``Training`` or ``test_set``."""
    match = _LOOSE.fullmatch(folder)
    if match is None:
        return None
    word = match["subset"].lower()
    return SUBSET_NAMES.get(word) or ("train" if word == "training" else "test")


def subsets_of(path: Path, folders: Sequence[Path]) -> dict[Path, Subset | None]:
    """Tells the subset of each folder: by the words train, val, test alone, or by others if all hold shared classes.

    Raises:
        DataError: If folders are called like subsets, folds, patients or slides and hold the same folders, or no
            folders at all, so that their own names would be taken for classes.
    """
    strict: dict[Path, Subset | None] = {folder: SUBSET_NAMES.get(folder.name.lower()) for folder in folders}
    loose: dict[Path, Subset | None] = {folder: subset_named(folder.name) for folder in folders}
    if any(strict.values()):
        return loose if all(loose.values()) else strict
    inside = {folder: [one.name for one in folders_in(folder)] for folder in folders}
    if all(loose.values()):
        if _is_shared(inside.values()):
            return loose
        raise DataError(
            f"{path} holds {_names(folders)}, subsets by their names, but no folder of a class stands in all of them. "
            "Expected one sub-folder of images for each class in each; or list the images in a table manifest.csv "
            "with columns path,label,subset."
        )
    _refuse_above_classes(path, inside)
    return strict


def _refuse_above_classes(path: Path, inside: Mapping[Path, Sequence[str]]) -> None:
    """Refuses folders that hold the same folders: these are the classes, and what stands above is something else."""
    holding = [folder for folder, names in inside.items() if names and not has_images_in(folder)]
    times = [name for folder in holding for name in set(inside[folder])]
    repeated = sorted({name for name in times if times.count(name) >= _SHARED})
    if len(holding) < _SHARED or len(holding) < len(inside) or len(repeated) * 2 <= len(set(times)):
        return
    if all(_FOLD.fullmatch(folder.name) for folder in holding):
        what, column = "folds or parts", "subset (train, val or test; one fold is held out)"
    else:
        what, column = "patients, slides or fields", "group"
    below = ", ".join(map(repr, repeated[:_SHOWN]))
    raise DataError(
        f"{path} holds {_names(holding)}, and each of these holds folders called {below}: "
        f"{what} above classes, it seems. Classes stand on top, or below train, val and test: make a table "
        f"manifest.csv with columns path,label,{column}."
    )


def _is_shared(inside: Iterable[Sequence[str]]) -> bool:
    """Whether some folder stands in all of these."""
    sets = [set(names) for names in inside]
    return bool(sets) and bool(set.intersection(*sets))


def _names(folders: Sequence[Path]) -> str:
    more = ", …" if len(folders) > _SHOWN else ""
    return f"{counted(len(folders), 'folder')}, {', '.join(repr(one.name) for one in folders[:_SHOWN])}{more}"
