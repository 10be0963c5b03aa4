"""Files that a reader left out, counted and named: what is below a dataset's folder and is no image of its manifest."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from cytolora.core.findings import Finding, finding, first
from cytolora.data.formats import SIGNATURE_BYTES, TABLE_SUFFIXES, is_about, signature, suffix_of
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.tables import has_columns
from cytolora.data.walk import Found, files_in, walk
from cytolora.errors import DataError

_OURS = (("path", "fingerprint"), ("from", "to"))
"""Columns of split files and label maps, which may lie beside the images."""


def account(path: Path, manifest: Manifest, spec: DatasetSpec) -> tuple[Manifest, list[Finding]]:
    """Compares a manifest with the files below a path, and leaves out samples that are links to others.

    Raises:
        DataError: If class folders give one class, and a table beside them may give more.
    """
    manifest, links = _without_links(manifest)
    used = {str(sample.file_in(manifest.root)) for sample in manifest.samples}
    if not path.is_dir():
        return manifest, [*links, *_masks_in_use(manifest, used)]
    left = [one for one in walk(path) if str(one.path) not in used and not _belongs(one.path, path, spec)]
    linked = {example for one in links for example in one.examples}
    left = [one for one in left if one.kind != "link" or str(one.path) not in linked]
    found = [*findings_of(left, path), *links]
    if spec.generic:
        tables = [one.path for one in left if one.kind == "other" and _is_table(one.path)]
        if spec.name == "folder" and tables and len(manifest.classes) == 1:
            raise DataError(
                f"{path} gives one class, {manifest.classes[0]}, and {tables[0].name} is not read. "
                f"Name the table (`cytolora check {tables[0]}`), or call it manifest.csv, with columns path,label."
            )
        found += [
            *_of_images(left, path, manifest, spec),
            *_of_tables(tables, path, spec),
            *_of_others(left, path, spec),
        ]
        found += _masks_in_use(manifest, used) if spec.name in ("csv", "txt") else []
    return manifest, found


def findings_of(left: Iterable[Found], root: Path) -> list[Finding]:
    """Makes the findings that every command shares: images of unread formats, masks, pictures of slides, links."""
    by_kind: defaultdict[str, list[Path]] = defaultdict(list)
    for one in left:
        by_kind[one.kind].append(one.path)
    suffixes = Counter(map(_suffix, by_kind["unread"]))
    kinds = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common())
    is_or_are = "file is" if len(by_kind["unread"]) == 1 else "files are"
    sentences: Mapping[str, tuple[str, str]] = {
        "unread": ("F201", f"{{n}} {is_or_are} passed over: {kinds}. Images of these formats are not read"),
        "mask": ("F202", "{n} files are masks of images beside them, and are left out"),
        "slide picture": ("F212", "{n} files are thumbnails, macro or label pictures of slides, and are left out"),
        "link": ("F206", "{n} links lead in a circle, or to files that are there without them, and are left out"),
        "broken link": ("F206", "{n} links lead nowhere"),
    }
    return [_one(code, text, by_kind[kind], root) for kind, (code, text) in sentences.items() if by_kind[kind]]


def other_files(left: Iterable[Found], root: Path) -> list[Finding]:
    """Counts the files that are no images."""
    paths = [one.path for one in left if one.kind == "other" and not is_about(one.path.name)]
    kinds = ", ".join(f"{number} {suffix}" for suffix, number in Counter(map(_suffix, paths)).most_common())
    return [_one("F211", f"{{n}} files that are no images are not read: {kinds}", paths, root)] if paths else []


def _of_images(left: Iterable[Found], path: Path, manifest: Manifest, spec: DatasetSpec) -> list[Finding]:
    homes = {sample.file_in(manifest.root).parent for sample in manifest.samples}
    by_class = spec.name == "folder"
    unused = [one.path for one in left if one.kind == "image"]
    deeper = [one for one in unused if by_class and not homes.isdisjoint(one.parents)]
    outside = [one for one in unused if one not in set(deeper)]
    where = "outside the class folders" if spec.name in ("folder", "flat") else f"that {_table_of(spec)} does not list"
    found = [_one("F203", f"{path}: {{n}} images deeper down in class folders are left out", deeper, path)]
    found.append(_one("F204", f"{path}: {{n}} images {where} are left out", outside, path))
    return [one for one in found if one.count]


def _of_tables(tables: Iterable[Path], path: Path, spec: DatasetSpec) -> list[Finding]:
    if spec.name != "folder":
        return []
    return [
        finding(
            "F205",
            f"{_name(table, path)} is not read, the classes are those of the folders. If it says what the images show, "
            f"name it (`cytolora check {table}`), or call it manifest.csv.",
            examples=[_name(table, path)],
        )
        for table in tables
    ]


def _of_others(left: Iterable[Found], path: Path, spec: DatasetSpec) -> list[Finding]:
    is_read: Mapping[str, Callable[[Path], bool]] = {
        "csv": lambda file: file.name.lower() == "manifest.csv" and file.parent == path,
        "txt": lambda file: file.parent.name == "splits",
        "folder": _is_table,  # has a finding of its own
    }
    unread = (one for one in left if not is_read.get(spec.name, lambda file: False)(one.path))
    return other_files((one for one in unread if not _is_ours(one.path)), path)


def _is_table(file: Path) -> bool:
    return suffix_of(file.name) in TABLE_SUFFIXES and not _is_ours(file)


def _is_ours(file: Path) -> bool:
    return suffix_of(file.name) == ".csv" and any(has_columns(file, columns) for columns in _OURS)


def _table_of(spec: DatasetSpec) -> str:
    return "manifest.csv" if spec.name == "csv" else "the table"


def _belongs(file: Path, path: Path, spec: DatasetSpec) -> bool:
    """Whether the layout of a published dataset has such files."""
    return any(fnmatchcase(_name(file, path).lower(), pattern) for pattern in spec.companions)


def _masks_in_use(manifest: Manifest, used: set[str]) -> list[Finding]:
    """Names masks that a table lists as images: they are read, for somebody listed them."""
    folders = {sample.file_in(manifest.root).parent for sample in manifest.samples}
    masks = [
        file
        for folder in sorted(folders)
        for file, kind in files_in(folder).items()
        if kind == "mask" and str(file) in used
    ]
    text = "{n} images of the table are masks of images beside them; they are read as images, remove their rows"
    return [_one("F202", text, masks, manifest.root)] if masks else []


def _without_links(manifest: Manifest) -> tuple[Manifest, list[Finding]]:
    """Leaves out samples whose file is a link to that of another sample with the same label."""
    files = [(sample, sample.file_in(manifest.root)) for sample in manifest.samples]
    folders = {folder: folder.resolve() for folder in {file.parent for _, file in files}}
    if len(set(folders.values())) == len(folders) and not any(os.path.islink(file) for _, file in files):  # noqa: PTH114
        return manifest, []
    is_linked = {folder: real != Path(folder).absolute() for folder, real in folders.items()}
    real_of = {
        sample.path: str(file.resolve() if file.is_symlink() else folders[file.parent] / file.name)
        for sample, file in files
    }
    if len(set(real_of.values())) == len(real_of):
        return manifest, []
    first_of: dict[str, Sample] = {}
    repeated: list[Sample] = []
    for sample, _ in sorted(files, key=lambda one: (one[1].is_symlink(), is_linked[one[1].parent], one[0].path)):
        kept = first_of.setdefault(real_of[sample.path], sample)
        if kept is not sample:
            repeated.append(sample)
    dropped = {one.path for one in repeated if one.label == first_of[real_of[one.path]].label}
    kept_twice = [one.path for one in repeated if one.path not in dropped]
    found = []
    if dropped:
        text = f"{len(dropped)} links lead to images that are there without them, and are left out"
        found.append(
            finding("F206", f"{text}, {first(sorted(dropped))}.", count=len(dropped), examples=sorted(dropped))
        )
    if kept_twice:
        text = f"{len(kept_twice)} links lead to images of other classes: one image has two labels"
        found.append(finding("F206", f"{text}, {first(kept_twice)}.", count=len(kept_twice), examples=kept_twice))
    return replace(manifest, samples=tuple(one for one in manifest.samples if one.path not in dropped)), found


def _one(code: str, text: str, paths: list[Path], root: Path) -> Finding:
    names = [_name(path, root) for path in paths]
    shown = "" if code in ("F201", "F211") else f", {first(names)}" if names else ""
    return finding(code, f"{text.replace('{n}', str(len(names)))}{shown}.", count=len(names), examples=names)


def _suffix(path: Path) -> str:
    if suffix_of(path.name):
        return suffix_of(path.name)
    try:
        with path.open("rb") as file:
            kind = signature(file.read(SIGNATURE_BYTES))
    except OSError:
        kind = ""
    return f"without a suffix ({kind})" if kind else "without a suffix"


def _name(path: PurePath, root: Path) -> str:
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return name.as_posix().encode(errors="replace").decode()
