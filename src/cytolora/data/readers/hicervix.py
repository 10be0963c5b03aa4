"""HiCervix: 40,229 cervical cells labelled by a tree of three levels, as downloaded from Zenodo."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from cytolora.config.run import SUBSETS, Subset
from cytolora.core.findings import Finding, finding
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal
from cytolora.data.readers.hicervix_tree import NODES, Node
from cytolora.data.readers.layout import images_in
from cytolora.data.readers.spec import DatasetSpec, ZenodoRecord
from cytolora.data.readers.tables import has_columns, read_rows
from cytolora.errors import DataError

_NAME = "hicervix"
_LEVELS = ("level_1", "level_2", "level_3")
_COLUMNS = ("image_name", "class_name", *_LEVELS)
_EXPECTED = "train.csv, val.csv and test.csv beside the folders train, val and test"

_PARENTS = {level for node in NODES.values() for level in node.levels[:-1]}

LABEL_SETS: Mapping[str, tuple[str, Callable[[Node], str | None]]] = {
    "25": (
        "level_3, else level_2, as in the code of Dausort et al. 2025; images with level_1 alone are left out",
        lambda node: node.levels[-1] if len(node.levels) > 1 else None,
    ),
    "23": (
        "the leaves of the tree, as in the evaluation of HierSwin; AGC, AGC-NOS and ADC are left out",
        lambda node: None if node.levels[-1] in _PARENTS else node.levels[-1],
    ),
    "26": ("class_name as it stands; nothing is left out", lambda node: node.levels[-1]),
    "21": (
        "level_2; images with level_1 alone are left out",
        lambda node: node.levels[1] if len(node.levels) > 1 else None,
    ),
}
"""By the part after the colon: in words, and the class of an image, or None where it is left out."""


def read_hicervix(path: Path, label_set: str) -> Manifest:
    """Reads the three tables and the images they list; classes come from the tree, never from a table.

    Raises:
        DataError: If a table is absent or disagrees with the published tree, or images are not there.
    """
    tables: dict[Subset, Path] = {subset: path / f"{subset}.csv" for subset in SUBSETS}
    if not all(table.is_file() for table in tables.values()):
        raise refusal(path, HICERVIX.title, _EXPECTED)
    samples: list[Sample] = []
    findings: list[Finding] = []
    for subset, table in tables.items():
        rows = read_table(table)
        folder, unlisted = _find_images(path, subset, set(rows))
        if unlisted:
            number = counted(unlisted, "image")
            stand = "stands in no table and is" if unlisted == 1 else "stand in no table and are"
            text = f"{_NAME}: {number} in {folder} {stand} left out."
            findings.append(finding("F204", text, count=unlisted))
        within = folder.relative_to(path).as_posix()
        samples += [
            Sample(path=f"{within}/{name}", label=label, subset=subset)
            for name, class_name in rows.items()
            if (label := LABEL_SETS[label_set][1](NODES[class_name]))
        ]
    spec = HICERVIX.label_sets[label_set]
    return Manifest(
        name=spec.name,
        root=path,
        classes=spec.classes,
        samples=tuple(samples),
        split_rule="official: the tables train.csv, val.csv and test.csv",
        findings=tuple(findings),
        tree=tree(label_set),
    )


def read_table(table: Path) -> dict[str, str]:
    """Reads one table as class_name by image_name.

    Raises:
        DataError: If a row disagrees with the published tree, or an image is listed twice.
    """
    class_of: dict[str, str] = {}
    for line, row in read_rows(table, _COLUMNS):
        name, class_name = row["image_name"], row["class_name"]
        levels = tuple(row[level] for level in _LEVELS if row[level])
        if class_name not in NODES:
            raise DataError(f"{table}, line {line}: {class_name!r} is none of the 26 published class names.")
        if levels != NODES[class_name].levels:
            raise DataError(
                f"{table}, line {line}: {class_name!r} stands under {' > '.join(levels) or 'nothing'}, "
                f"the published tree has {' > '.join(NODES[class_name].levels)}."
            )
        if not name or Path(name).name != name or "\\" in name:
            raise DataError(f"{table}, line {line}: image_name {name!r} is no file name.")
        if name in class_of:
            raise DataError(f"{table}, line {line}: {name} is listed twice.")
        class_of[name] = class_name
    return class_of


def tree(label_set: str) -> dict[str, tuple[str, ...]]:
    """Returns the classes of a label set in the tables' order, each with its ancestors and itself."""
    _, choose = LABEL_SETS[label_set]
    chosen = {label: node.levels for node in NODES.values() if (label := choose(node))}
    return {label: levels[: levels.index(label) + 1] for label, levels in chosen.items()}


def _find_images(path: Path, subset: Subset, names: set[str]) -> tuple[Path, int]:
    """Returns the folder of a subset's images, and how many in it are not listed."""
    folder = next((inner for inner in (path / subset / subset, path / subset) if inner.is_dir()), None)
    if folder is None:
        packed = f"Unpack {subset}.zip there." if (path / f"{subset}.zip").is_file() else "Complete the download."
        raise DataError(
            f"{path} has no folder {subset!r}, in which {subset}.csv lists {counted(len(names), 'image')}. {packed}"
        )
    present = {image.name for image in images_in(folder)}
    missing = sorted(names - present)
    if missing:
        raise DataError(
            f"{path / subset}.csv lists {counted(len(missing), 'image that is', 'images that are')} not in {folder}, "
            f"the first is {missing[0]}; "
            "complete the download."
        )
    return folder, len(present - names)


def _spec(label_set: str) -> DatasetSpec:
    words, choose = LABEL_SETS[label_set]
    classes = tuple(tree(label_set))
    nodes = [(label, node.counts) for node in NODES.values() if (label := choose(node))]
    return DatasetSpec(
        name=f"{_NAME}:{label_set}",
        title=f"HiCervix, {len(classes)} classes",
        read=partial(read_hicervix, label_set=label_set),
        looks_like=lambda path: has_columns(path / "train.csv", _COLUMNS),
        description=f"Single cells and groups, cervix, 4,496 whole slides of several centres; labels: {words}.",
        classes=classes,
        expected_counts={one: sum(sum(counts) for label, counts in nodes if label == one) for one in classes},
        expected_subsets={subset: sum(counts[i] for _, counts in nodes) for i, subset in enumerate(SUBSETS)},
        group_rule="groups cannot be known: names are random; whether the official split tears slides was not seen",
        tree=tree(label_set),
        licence="GPLv3, for non-commercial academic purposes",
        citation=(
            "Cai, Chen, Zhao, et al.: HiCervix: An extensive hierarchical dataset and benchmark for cervical cytology "
            "classification. IEEE Transactions on Medical Imaging (2024); doi:10.1109/TMI.2024.3419697."
        ),
        page="https://zenodo.org/records/11087263",
        how_to_get="Run `cytolora data download hicervix --to DIR`, and unpack what it fetched.",
        zenodo=ZenodoRecord(record="11087263"),
    )


HICERVIX = replace(_spec("25"), name=_NAME, label_sets={name: _spec(name) for name in LABEL_SETS})
