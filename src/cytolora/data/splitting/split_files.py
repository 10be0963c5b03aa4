"""Split files, to cite and to share: the subset of every image."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.delimited import Row, csv_line
from cytolora.core.files import canonical_json, sha256_text, write_text
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted, normal
from cytolora.data.grouping import group_key
from cytolora.data.manifest import Manifest
from cytolora.data.own_files import FileKind
from cytolora.data.readers.paths import PathIndex, slashed
from cytolora.data.readers.tables import has_columns, not_used, read_rows, subset_of
from cytolora.data.similar_names import is_unknown_group
from cytolora.data.targets import check_replaceable_file
from cytolora.errors import DataError

_COLUMNS = ("path", "label", "subset", "group", "fingerprint", "split_rule")
"""The last two stand in the first row only: they are about the whole file, and a comment would not be CSV."""
_OWN = FileKind(name="split file", is_own=lambda file: has_columns(file, ("path", "subset", "fingerprint")))


def write_split(manifest: Manifest, path: AnyPath, *, by_names: bool = False) -> None:
    """Writes where every image stands, with a fingerprint of the images and the rule in words.

    Args:
        by_names: Leaves the fingerprint out: the split is of file names, whatever the files hold.

    Raises:
        ConfigError: If a file is there that is no split file; it would be lost.
        DataError: If the manifest is not divided yet, or the file cannot be written.
    """
    path, text = as_path(path), split_text(manifest, by_names=by_names)
    check_replaceable_file(path, _OWN)
    try:
        write_text(path, text)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. Choose another --out, or make room."
        ) from error


def split_text(manifest: Manifest, *, by_names: bool = False) -> str:
    """Returns what ``write_split`` writes."""
    if not manifest.has_subsets:
        raise DataError(f"{manifest.name} is not divided into train, val and test yet; there is no split to write.")
    lines = [csv_line(_COLUMNS)]
    about = ("" if by_names else images_fingerprint(manifest), manifest.split_rule)
    for sample in manifest.samples:
        lines.append(csv_line([sample.path, sample.label, sample.subset, sample.group, *about]))
        about = ("", "")
    return "".join(lines)


def read_split(path: AnyPath, manifest: Manifest) -> Manifest:
    """Returns the manifest with the subsets of a split file.

    Labels and groups stay the manifest's own: a label map moves no image to another side. A file made by hand may
    lack the columns fingerprint and split_rule.

    Raises:
        DataError: If the file lists other images than the dataset has, or images whose content has changed.
    """
    path = as_path(path)
    rows = read_rows(path, ("path", "subset"), keep_blanks=True)
    index = PathIndex(sample.path for sample in manifest.samples)
    subsets: dict[str, Subset] = {}
    groups: dict[str, str] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        image = index.find(where, row["path"]) or slashed(row["path"].strip())
        if image in subsets:
            raise DataError(f"{where}: {image} is listed twice; keep one of the lines.")
        subsets[image] = subset_of(where, row["subset"])
        groups[image] = normal(row.get("group", ""))
    _check_same_images(path, subsets, manifest)
    expected, rule = (_about(path, rows, column) for column in ("fingerprint", "split_rule"))
    if expected and expected != images_fingerprint(manifest):
        raise DataError(
            f"{path} was made for other images: paths are those of {manifest.name}, but the content of at least one "
            "file has changed. Get the images that the split was made for, or make a new split."
        )
    samples = tuple(replace(sample, subset=subsets[sample.path]) for sample in manifest.samples)
    return replace(
        manifest,
        samples=samples,
        has_given_test=False,  # unless the file gives one: its own division counts
        split_rule=f"{rule} (from {path.name})" if rule else f"from {path.name}",
        findings=(
            *manifest.findings,
            *not_used(path.name, [row for _, row in rows], _COLUMNS, has_groups=True),
            *_other_groups(path.name, groups, subsets, manifest),
        ),
    )


def _other_groups(
    name: str, groups: Mapping[str, str], subsets: Mapping[str, Subset], manifest: Manifest
) -> list[Finding]:
    """Says where a file names other groups than the dataset, whose own count, and which of them the split tears."""
    own = {sample.path: sample.group for sample in manifest.samples}
    named = {image: group for image, group in groups.items() if group and not is_unknown_group(group)}
    other = sorted(image for image, group in named.items() if group_key(group) != group_key(own[image] or ""))
    if not other:
        return []
    images = counted(len(other), "image")
    text = (
        f"{name}: column 'group' is not used, and names other groups than {manifest.name} for {images}; "
        f"{first(other)}. Write them into the table of the dataset."
    )
    found = [finding("T301", text, count=len(other), examples=other)]
    homes: dict[str, set[Subset]] = {}
    for image, group in named.items():
        homes.setdefault(group_key(group), set()).add(subsets[image])
    torn = sorted({group for group in named.values() if len(homes[group_key(group)]) > 1})
    if torn:
        groups_stand = counted(len(torn), "group stands", "groups stand")
        text = f"{name}: {groups_stand} in more than one subset by its own column 'group'; {first(torn)}."
        found.append(finding("D505", text, count=len(torn), examples=torn))
    return found


def images_fingerprint(manifest: Manifest) -> str:
    """SHA-256 over paths and bytes of the images alone: labels and groups may be corrected without a new split."""
    rows = [[sample.path, sample.sha256] for sample in manifest.samples]
    if not all(digest for _, digest in rows):
        return images_fingerprint(manifest.with_hashes())
    return sha256_text(canonical_json(rows))


def _about(path: Path, rows: Iterable[Row], column: str) -> str:
    """Returns what the file says of itself, in whichever row: somebody may have sorted them."""
    texts = sorted({row.get(column, "").strip() for _, row in rows} - {""})
    if len(texts) > 1:
        raise DataError(f"{path}: column {column!r} has several values, expected one: {' and '.join(texts[:2])}.")
    return texts[0] if texts else ""


def _check_same_images(path: Path, subsets: dict[str, Subset], manifest: Manifest) -> None:
    there = {sample.path for sample in manifest.samples}
    gone, new = sorted(set(subsets) - there), sorted(there - set(subsets))
    if gone:
        raise DataError(
            f"{path} lists {counted(len(gone), 'image')} that {manifest.name} does not have, the first is {gone[0]}. "
            "Point at the dataset that the split was made for."
        )
    if new:
        raise DataError(
            f"{manifest.name} has {counted(len(new), 'image')} that {path} does not list, the first is {new[0]}. "
            "Make a new split, or take these images away."
        )
