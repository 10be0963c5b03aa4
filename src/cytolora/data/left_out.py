"""Files that a reader left out, counted and named: what is below a dataset's folder and is no image of its manifest."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from cytolora.core.delimited import read_text
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted
from cytolora.data.formats import TABLE_SUFFIXES, WORKBOOK_SUFFIXES, is_about, kind_of_unread, suffix_of
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.tables import has_columns, how_to_name
from cytolora.data.walk import Found, content_at, files_in, walk
from cytolora.errors import DataError

_CROISSANT = ("file_name", "label", "split", "group", "sha256")
_OURS = (("path", "fingerprint"), ("from", "to"), _CROISSANT)
"""Columns of split files, label maps and tables of Croissant files, which may lie beside the images."""
_TABLES = ("csv", "txt")
"""Readers that take images by the word of a table or list."""


def account(path: Path, manifest: Manifest, spec: DatasetSpec) -> tuple[Manifest, list[Finding]]:
    """Compares a manifest with the files below a path, and leaves out samples that are links to others.

    Raises:
        DataError: If class folders give one class, and a table beside them may give more.
    """
    files = {sample.path: sample.file_in(manifest.root) for sample in manifest.samples}
    reals = _real_files(files.values())
    manifest, links, dropped = _without_links(manifest, spec, files, reals)
    used = {str(file) for name, file in files.items() if name not in dropped}
    if not path.is_dir():
        beside = _beside_table(path, manifest, used, reals) if spec.name == "csv" else []
        return manifest, [*links, *beside, *_masks_in_use(manifest, used)]
    used |= set(map(str, spec.sources(path)))
    left = [one for one in walk(path) if str(one.path) not in used and not _belongs(one.path, path, spec)]
    if reals:
        left = _without_read(left, files, reals, dropped)
    found = [*findings_of(left, path), *links]
    if spec.generic:
        tables = [one.path for one in left if one.kind == "other" and _is_table(one.path)]
        if spec.name == "folder" and tables and len(manifest.classes) == 1:
            raise DataError(
                f"{path} gives one class, {manifest.classes[0]}, and {tables[0].name} is not read. "
                f"{how_to_name(tables[0])}."
            )
        found += [
            *_of_images(left, path, manifest, spec),
            *_of_tables(tables, path, spec),
            *_of_others(left, path, spec),
        ]
        found += _masks_in_use(manifest, used) if spec.name in _TABLES else []
    return manifest, found


def _without_read(
    left: Iterable[Found], files: Mapping[str, Path], reals: Mapping[Path, str], dropped: set[str]
) -> list[Found]:
    """Leaves out what was read under another name, and links that images were read through, or are named already."""
    folders = {file.parent for file in files.values()}
    named = {str(parent) for folder in folders for parent in (folder, *folder.parents)}
    named |= {str(files[name]) for name in dropped}
    read = set(reals.values())
    return [
        one
        for one in left
        if (str(one.path) not in named if one.kind == "link" else os.path.realpath(one.path) not in read)
    ]


def findings_of(left: Iterable[Found], root: Path) -> list[Finding]:
    """Makes the findings that every command shares: images of unread formats, masks, pictures of slides, links."""
    by_kind: defaultdict[str, list[Path]] = defaultdict(list)
    for one in left:
        by_kind[one.kind].append(one.path)
    kinds = _kinds(by_kind["unread"]) if by_kind["unread"] else ""
    sentences: Mapping[str, tuple[str, str, str]] = {
        "unread": (
            "F201",
            f"file is passed over: {kinds}{{names}}. Images of this format are not read",
            f"files are passed over: {kinds}{{names}}. Images of these formats are not read",
        ),
        "mask": (
            "F202",
            "file is a mask of an image beside it, or a drawing over it, and is left out",
            "files are masks of images beside them, or drawings over them, and are left out",
        ),
        "slide picture": (
            "F212",
            "file is a thumbnail, macro or label picture of a slide, and is left out",
            "files are thumbnails, macro or label pictures of slides, and are left out",
        ),
        "link": (
            "F206",
            "link leads in a circle, or to what is there without it, and is left out",
            "links lead in a circle, or to what is there without them, and are left out",
        ),
        "broken link": ("F206", "link leads nowhere", "links lead nowhere"),
    }
    return [
        _one(code, one, several, by_kind[kind], root)
        for kind, (code, one, several) in sentences.items()
        if by_kind[kind]
    ]


def other_files(left: Iterable[Found], root: Path) -> list[Finding]:
    """Counts the files that are no images."""
    paths = [one.path for one in left if one.kind == "other" and not is_about(one.path.name)]
    if not paths:
        return []
    kinds = _kinds(paths)
    texts = f"file that is no image is not read: {kinds}", f"files that are no images are not read: {kinds}"
    return [_one("F211", *texts, paths, root)]


def _of_images(left: Iterable[Found], path: Path, manifest: Manifest, spec: DatasetSpec) -> list[Finding]:
    homes = {sample.file_in(manifest.root).parent for sample in manifest.samples}
    by_class = spec.name == "folder"
    unused = [one.path for one in left if one.kind == "image"]
    deeper = [one for one in unused if by_class and not homes.isdisjoint(one.parents)]
    outside = [one for one in unused if one not in set(deeper)]
    where = "outside the class folders" if spec.name in ("folder", "flat") else f"that {_table_of(spec)} does not list"
    sentences = {
        "F203": (deeper, "image deeper down in a class folder is", "images deeper down in class folders are"),
        "F204": (outside, f"image {where} is", f"images {where} are"),
    }
    return [
        _one(code, f"{one} left out", f"{several} left out", paths, path, before=f"{path}: ")
        for code, (paths, one, several) in sentences.items()
        if paths
    ]


def _beside_table(table: Path, manifest: Manifest, used: set[str], reals: Mapping[Path, str]) -> list[Finding]:
    """Counts the images among those of a table that was named, which neither it nor a table beside it lists."""
    folders = {sample.file_in(manifest.root).parent for sample in manifest.samples}
    read = set(reals.values())
    left = [
        one.path
        for one in walk(Path(os.path.commonpath(folders)))
        if one.kind == "image" and str(one.path) not in used and os.path.realpath(one.path) not in read
    ]
    listed = _names_in_tables(table) if left else set()
    paths = [one for one in left if listed.isdisjoint((one.name.casefold(), one.stem.casefold()))]
    texts = (
        f"image beside those of {table.name} is in no table, and is not read",
        f"images beside those of {table.name} are in no table, and are not read",
    )
    return [_one("F214", *texts, paths, table.parent)] if paths else []


def _names_in_tables(table: Path) -> set[str]:
    """Returns the last part of every cell of the tables and lists beside one: names of images are among them."""
    names: set[str] = set()
    for file in files_in(table.parent):
        if file != table and suffix_of(file.name) in (TABLE_SUFFIXES | {".txt"}) - WORKBOOK_SUFFIXES:
            try:
                cells = re.split(r"[,;|\t\r\n\"]+", read_text(file))
            except (DataError, OSError):
                continue  # it says nothing that can be read
            names |= {re.split(r"[/\\]", cell.strip())[-1].casefold() for cell in cells}
    return names


def _of_tables(tables: Iterable[Path], path: Path, spec: DatasetSpec) -> list[Finding]:
    if spec.name != "folder":
        return []
    return [
        finding(
            "F205",
            f"{_name(table, path)} is not read, the classes are those of the folders. {how_to_name(table)}.",
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
    if suffix_of(file.name) == ".json":  # a description in Croissant, by the table that it has
        table = file.with_name(f"{file.name}.csv")
        return table.is_file() and has_columns(table, _CROISSANT)
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
    texts = (
        "image of the table is a mask of an image beside it; it is read as an image, remove its row",
        "images of the table are masks of images beside them; they are read as images, remove their rows",
    )
    return [_one("F202", *texts, masks, manifest.root)] if masks else []


def _without_links(
    manifest: Manifest, spec: DatasetSpec, files: Mapping[str, Path], reals: Mapping[Path, str]
) -> tuple[Manifest, list[Finding], set[str]]:
    """Leaves out samples whose file is a link to that of another: an image is read once, where it stands itself.

    A table is taken by its word: two labels that it gives to one image are kept, and named.

    Returns:
        The manifest, findings, and the paths of the samples that were left out.
    """
    if not reals:
        return manifest, [], set()
    of = {path: reals[file] for path, file in files.items()}
    if len(set(of.values())) == len(of):
        return manifest, [], set()
    first_of: dict[str, Sample] = {}
    repeated: list[Sample] = []
    is_link = {path: of[path] != str(manifest.root.resolve() / path) for path in files}
    for sample in sorted(manifest.samples, key=lambda one: (files[one.path].is_symlink(), is_link[one.path], one.path)):
        kept = first_of.setdefault(of[sample.path], sample)
        if kept is not sample:
            repeated.append(sample)
    others = [one for one in repeated if one.label != first_of[of[one.path]].label]
    in_table = {one.path for one in others} if spec.name in _TABLES else set()
    dropped = {one.path for one in repeated} - in_table
    cases = [f"{one.path} is {first_of[of[one.path]].path}" for one in others]
    same = sorted(dropped.difference(one.path for one in others))
    found = [_repeated(same)] if same else []
    found += [_relabelled(cases, is_kept=bool(in_table))] if cases else []
    samples = tuple(one for one in manifest.samples if one.path not in dropped)
    labels = {one.label for one in samples}
    classes = tuple(one for one in manifest.classes if one in labels) if spec.generic else manifest.classes
    return replace(manifest, samples=samples, classes=classes), found, dropped


def _repeated(paths: list[str]) -> Finding:
    text = counted(
        len(paths),
        "link leads to an image that is there without it, and is left out",
        "links lead to images that are there without them, and are left out",
    )
    return finding("F206", f"{text}, {first(paths)}.", count=len(paths), examples=paths)


def _relabelled(cases: list[str], *, is_kept: bool) -> Finding:
    text = counted(len(cases), "link leads to an image of another class", "links lead to images of other classes")
    what = "one image has two labels" if is_kept else "an image has one label, that of the folder it stands in"
    end = "" if is_kept else f", and {'is' if len(cases) == 1 else 'are'} left out"
    return finding("F206", f"{text}{end} ({what}), {first(cases)}.", count=len(cases), examples=cases)


def _real_files(files: Iterable[Path]) -> dict[Path, str]:
    """Returns where the files are really; empty where no link leads to any of them from another."""
    listed = list(files)
    folders = {folder: os.path.realpath(folder) for folder in {file.parent for file in listed}}
    links = {file for file in listed if os.path.islink(file)}  # noqa: PTH114  (asked of every file)
    tops = {real.removesuffix(str(folder)) for folder, real in folders.items()}
    if not links and len(tops) == 1 and len(set(folders.values())) == len(folders):
        return {}
    return {
        file: os.path.realpath(file) if file in links else os.path.join(folders[file.parent], file.name)  # noqa: PTH118
        for file in listed
    }


def _one(code: str, one: str, several: str, paths: list[Path], root: Path, *, before: str = "") -> Finding:
    names = [_name(path, root) for path in paths]
    text = before + counted(len(names), one, several)
    shown = f", {first(names)}"
    line = text.replace("{names}", shown) if "{names}" in text else f"{text}{'' if code == 'F211' else shown}"
    return finding(code, f"{line}.", count=len(names), examples=names)


def _kinds(paths: Iterable[Path]) -> str:
    """Counts files by what their names, or else their contents, say that they are."""
    return ", ".join(f"{number:,} {kind}" for kind, number in Counter(map(_kind, paths)).most_common())


def _kind(path: Path) -> str:
    return kind_of_unread(path.name, content_at(path.name, lambda _: path.open("rb")))


def _name(path: PurePath, root: Path) -> str:
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return name.as_posix().encode(errors="replace").decode()
