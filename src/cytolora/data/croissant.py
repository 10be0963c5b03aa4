"""Croissant 1.1: a description of a dataset that machines read, with the table that it names, beside the images.

Specification: MLCommons, Croissant format 1.1, and its vocabulary for responsible AI 1.0.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from cytolora.config.run import SUBSETS
from cytolora.core.delimited import csv_line
from cytolora.core.files import sha256_text, write_json, write_text
from cytolora.core.findings import Finding
from cytolora.core.strict_json import read_json
from cytolora.data.manifest import METADATA_PREFIX, Manifest
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.targets import check_target
from cytolora.errors import ConfigError

VERSION = "http://mlcommons.org/croissant/1.1"
RESPONSIBLE = "http://mlcommons.org/croissant/RAI/1.0"
UNKNOWN = "cannot be verified"
"""Said where neither files nor documents tell."""
_BIASES = ("D505", "D506", "D508", "D511", "N841", "P109")
"""Codes of findings that make a classifier learn, or a test measure, something else than the classes."""
_REQUIRED = ("license", "url", "creator", "datePublished")
"""What the specification asks for and files do not tell."""
_SPLITS = {"train": "TrainingSplit", "val": "ValidationSplit", "test": "TestSplit"}
_ENCODINGS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".tif": "image/tiff"}
# fmt: off
_TERMS = (
    "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key",
    "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "separator", "source", "subField", "transform",
)
# fmt: on
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}


def write_croissant(
    manifest: Manifest, path: Path, *, spec: DatasetSpec | None, findings: Iterable[Finding]
) -> list[str]:
    """Writes the description to ``path``, and its table of images beside it, with ``.csv`` behind its name.

    Args:
        path: In the folder of the images or above it: the description names images relative to itself. What
            is there is replaced if it is a description in this version, too; what somebody wrote into it, and
            nothing here tells, is kept.
        spec: What is published of the dataset; None of one's own.
        findings: What was found in it, as biases and limitations.

    Returns:
        The keys that the specification asks for and nobody told.

    Raises:
        ConfigError: If ``path`` does not end in .json, lies elsewhere, holds something else, or cannot be written.
    """
    below = _below(manifest.root, path)
    check_target(path, option="--croissant")
    told = _told_before(path)
    if path.suffix.lower() not in (".json", ".jsonld"):
        raise ConfigError(f"--croissant {path} is a JSON file; give it a name that ends in .json.")
    manifest = manifest.with_hashes()
    table, text = path.with_name(f"{path.name}.csv"), _table(manifest, below)
    described = _described(manifest, below, (table.name, sha256_text(text)), spec, list(findings))
    described |= {key: value for key, value in told.items() if described.get(key) in (None, UNKNOWN, [UNKNOWN])}
    try:
        write_json(path, described)
        write_text(table, text)  # last: without its description it would count as somebody's own
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
    return [key for key in _REQUIRED if key not in described]


def _below(root: Path, path: Path) -> str:
    below = os.path.relpath(root.resolve(), path.resolve().parent).replace(os.sep, "/")
    if below.startswith(".."):
        raise ConfigError(
            f"{path} lies neither in the folder of the images nor above it, and a Croissant file names images relative "
            f"to itself: write {root / 'croissant.json'}."
        )
    return "" if below == "." else f"{below}/"


def _told_before(path: Path) -> dict[str, Any]:
    """Returns an earlier description.

    Raises:
        ConfigError: If a file is there that would be lost: no description, such as the table of the labels, or one in
            another version.
    """
    try:
        described = read_json(path.read_bytes())
        standard = described["conformsTo"]
    except FileNotFoundError:
        taken = path.with_name(f"{path.name}.csv")
        if os.path.lexists(taken):
            raise ConfigError(f"{taken} is there, and would be lost. Choose another --croissant.") from None
        return {}
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError):
        standard, described = "", {}
    given = standard if isinstance(standard, list) else [standard]
    conforms = [one.get("@id") if isinstance(one, dict) else one for one in given]
    if VERSION in conforms:
        return described
    other = next((one for one in conforms if "/croissant/" in str(one)), None)
    kind = "no Croissant file" if other is None else f"a Croissant file of another version ({other})"
    raise ConfigError(f"{path} is there and is {kind}: it would be lost. Choose another --croissant.")


def _table(manifest: Manifest, below: str) -> str:
    columns = _metadata(manifest)
    header = ["file_name", "label", "split", "group", "sha256", *(f"{METADATA_PREFIX}{name}" for name in columns)]
    lines = [_line(header)]
    for one in manifest.samples:
        told = dict(one.metadata)
        cells = [f"{below}{one.path}", one.label, one.subset, one.group, one.sha256, *map(told.get, columns)]
        lines.append(_line("" if cell is None else cell for cell in cells))
    return "".join(lines)


def _line(cells: Iterable[str]) -> str:
    """A row that is joined with names of files and classes: a mark before ``+`` or ``-`` would part them."""
    return csv_line(cells, marks_formulas=False)


def _metadata(manifest: Manifest) -> list[str]:
    return sorted({name for one in manifest.samples for name, _ in one.metadata})


def _described(
    manifest: Manifest, below: str, table: tuple[str, str], spec: DatasetSpec | None, findings: list[Finding]
) -> dict[str, Any]:
    name, sha256 = table
    published = _published(spec)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [VERSION, RESPONSIBLE],
        "name": manifest.name,
        "description": (spec and spec.description) or f"Images of cells of {len(manifest.classes)} classes.",
        **published,
        "dateCreated": date.today().isoformat(),
        "version": "1.0.0",
        "sdVersion": manifest.fingerprint,
        **_responsible(manifest, findings),
        "distribution": [
            _file_object(name, sha256),
            _file_set(manifest, below),
        ],
        "recordSet": [_labels(manifest), *([_splits()] if manifest.has_subsets else []), _images(manifest, name)],
    }


def _published(spec: DatasetSpec | None) -> dict[str, Any]:
    if spec is None or not spec.page:
        return {}
    authors = spec.citation.partition(":")[0]
    return {
        "url": spec.page,
        "license": spec.licence,
        "creator": [{"@type": "Person", "name": name.strip()} for name in authors.split(",") if name.strip()],
        "citeAs": spec.citation,
    }


def _responsible(manifest: Manifest, findings: list[Finding]) -> dict[str, Any]:
    """What is known for the vocabulary of responsible AI, and that the rest cannot be verified."""
    groups = manifest.group_rule or f"groups (patients, slides, fields): {UNKNOWN}"
    division = manifest.split_rule or "not divided"
    bias = [str(one) for one in findings if one.code in _BIASES]
    return {
        "rai:dataManipulationProtocol": f"{division}; images that must stay together in one subset: {groups}",
        "rai:dataCollectionMissingData": " ".join(str(one) for one in findings if one.code.startswith("F")) or UNKNOWN,
        "rai:dataBiases": bias or [UNKNOWN],
        "rai:dataLimitations": [str(one) for one in findings if one.code not in _BIASES] or [UNKNOWN],
        "rai:dataAnnotationProtocol": UNKNOWN,
        "rai:annotationsPerItem": UNKNOWN,
        "rai:annotatorDemographics": UNKNOWN,
        "rai:personalSensitiveInformation": UNKNOWN,
    }


def _file_object(name: str, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": "A row for every image.",
        "contentUrl": name,
        "encodingFormat": "text/csv",
        "sha256": sha256,
    }


def _file_set(manifest: Manifest, below: str) -> dict[str, Any]:
    suffixes = sorted({PurePosixPath(one.path).suffix for one in manifest.samples})
    encodings = sorted({_ENCODINGS.get(suffix.lower(), f"image/{suffix[1:].lower()}") for suffix in suffixes})
    return {
        "@type": "cr:FileSet",
        "@id": "image-files",
        "name": "image-files",
        "description": "The images that the table names.",
        "encodingFormat": encodings if len(encodings) > 1 else encodings[0],
        "includes": _includes(manifest, below, suffixes),
    }


def _includes(manifest: Manifest, below: str, suffixes: Sequence[str]) -> list[str]:
    """Returns patterns for the images and for no other file: by suffix, or, where that takes others in, one each."""
    named = {one.path for one in manifest.samples}
    found = {path.relative_to(manifest.root).as_posix() for one in suffixes for path in manifest.root.rglob(f"*{one}")}
    if found == named:
        return [f"{below}**/*{suffix}" for suffix in suffixes]
    return [escape(f"{below}{one.path}") for one in manifest.samples]


def _field(
    record_set: str, name: str, about: str, kind: str | list[str], source: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": name, "description": about, "dataType": kind}
    return {**field, **({} if source is None else {"source": source})}


def _labels(manifest: Manifest) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "The classes, in their order.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/name"},
        "field": [_field("labels", "name", "Name of the class.", "sc:Text")],
        "data": [{"labels/name": name} for name in manifest.classes],
    }


def _splits() -> dict[str, Any]:
    fields = [
        _field("splits", "name", "Name of the subset.", "sc:Text"),
        _field("splits", "url", "What it is for.", ["sc:URL", "cr:Split"]),
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The subsets.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": fields,
        "data": [
            {"splits/name": name, "splits/url": f"http://mlcommons.org/croissant/{_SPLITS[name]}"} for name in SUBSETS
        ],
    }


def _images(manifest: Manifest, table: str) -> dict[str, Any]:
    def column(name: str) -> dict[str, Any]:
        return {"fileObject": {"@id": table}, "extract": {"column": name}}

    def joined(name: str, about: str, other: str) -> dict[str, Any]:
        return _field("images", name, about, "sc:Text", column(name)) | {"references": {"field": {"@id": other}}}

    together = f"Images of one group stay in one subset. {manifest.group_rule or 'Groups are not known.'}"
    fields = [
        _field(
            "images",
            "file",
            "Its path, as found.",
            "sc:Text",
            _of_file("fullpath") | {"transform": {"regex": "^(.+)$"}},
        )
        | {"references": column("file_name")},
        _field("images", "file_name", "Its path.", "sc:Text", column("file_name")),
        _field("images", "image", "Its pixels.", "sc:ImageObject", _of_file("content")),
        joined("label", "Its class.", "labels/name"),
        _field("images", "group", together, "sc:Text", column("group")),
        _field("images", "sha256", "Of its file.", "sc:Text", column("sha256")),
    ]
    if manifest.has_subsets:
        fields.append(joined("split", manifest.split_rule or "Its subset.", "splits/name"))
    fields += [
        _field("images", METADATA_PREFIX + name, f"Metadata: {name}.", "sc:Text", column(METADATA_PREFIX + name))
        for name in _metadata(manifest)
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "The images with class, subset and group.",
        "key": {"@id": "images/file_name"},
        "field": fields,
    }


def _of_file(what: str) -> dict[str, Any]:
    return {"fileSet": {"@id": "image-files"}, "extract": {"fileProperty": what}}
