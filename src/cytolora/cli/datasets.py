"""check and split: audits a dataset, and divides it into training, validation and test images."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolora.classifier.fit.usable import audited
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.feature_options import NO_FEATURES, FeatureOptions, reader
from cytolora.cli.options import AS_IT_STANDS, ONE_DATASET, PoolOptions, ReadingOptions
from cytolora.cli.print_findings import print_conclusion, print_findings
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced
from cytolora.config.run import SUBSETS, SplitSpec
from cytolora.core.files import write_text
from cytolora.core.finding_kinds import EVERY_DATASET
from cytolora.core.findings import Finding, problems
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.core.zip_members import is_zip
from cytolora.data.datasets import DATASETS
from cytolora.data.label_map import apply_label_map
from cytolora.data.manifest import Manifest
from cytolora.data.own_files import AUDIT_PAGE
from cytolora.data.pooling import Pool, load_pool
from cytolora.data.quality.findings import Audit
from cytolora.data.quality.group_test import groups_suspected
from cytolora.data.splitting.canonical import canonical_division, check_canonical, verify_division
from cytolora.data.splitting.findings import torn_copies
from cytolora.data.splitting.split_files import read_split, write_split
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError
from cytolora.labelling.as_dataset import read_dataset_or_project

_PROBLEMS = 1


def check(
    path: Path | None = None,
    /,
    *,
    dataset: str | None = None,
    split: Path | None = None,
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    pooling: PoolOptions = ONE_DATASET,
    reading: ReadingOptions = AS_IT_STANDS,
    strict: Annotated[bool, Parameter(negative="")] = False,
    page: Annotated[Path | None, replaced("--page", AUDIT_PAGE)] = None,
    croissant: Annotated[Path | None, replaced("--croissant")] = None,
    alike: FeatureOptions = NO_FEATURES,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Audits a dataset: classes, counts, groups, unreadable files, duplicates, group leakage between subsets.

    Says beforehand what `fit`, `split` and `run` would refuse. Exits with 1 if problems were found; docs/findings.md
    documents each code.

    Examples:

        cytolora check my_cells
        cytolora check smear2005 --dataset herlev --json
        cytolora check my_cells --split split.csv --page check.html
        cytolora check my_cells --model uni --weights uni=UNI/model.safetensors --out runs --page check.html
        cytolora check --data herlev=smear2005 sipakmed=SIPaKMeD --pool bethesda

    Parameters
    ----------
    path
        Folder, table or zip file; a project of `cytolora label`, of which the agreed labels count; or --data and --pool
        in its place.
    dataset
        Reader (`cytolora ls datasets`); recognised from the folder if not given.
    split
        File written by `cytolora split`.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    strict
        Exits with 1 on notes, too, and makes a count that differs from the published one an error.
    page
        HTML file to write: duplicates side by side, unreadable files, group leakage, counts.
    croissant
        JSON file to write in the folder of the images: the dataset in Croissant 1.1, and beside it a table of them.
    json_
        Prints one JSON document.
    quiet
        Shows no progress.
    """
    if page is not None and page.is_dir():
        raise ConfigError(f"{page} is a folder; name a file for the page, such as {page / 'check.html'}.")
    source = pooling.source(path, dataset, map_)
    _check_described(source, croissant)
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {_title(source)}")
        manifest = _manifest(source, dataset, map_, reading, strict=strict, split=split)
        if split is not None:
            manifest = read_split(split, manifest)
        found = _audited(manifest, alike, progress)
        if page is not None:
            progress.status(f"writing {page}")
            _write_page(manifest, found, page)
        unknown = [] if croissant is None else _write_croissant(manifest, found.findings(), croissant)
    if json_:
        sys.stdout.write(
            json.dumps({**asdict(found), "findings": [one.plain() for one in found.findings()]}, indent=2) + "\n"
        )
    else:
        _print(manifest, found)
        _say_unknown(croissant, unknown)
    notes = [one for one in found.findings() if one.code not in EVERY_DATASET]
    return _PROBLEMS if found.has_problems or (strict and notes) else 0


def split(
    path: Path | None = None,
    /,
    *,
    out: Annotated[Path | None, replaced()] = None,
    dataset: str | None = None,
    by: Literal["group", "image"] = "group",
    ratios: str = "60/20/20",
    seed: int = 0,
    leave_out: str | None = None,
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    pooling: PoolOptions = ONE_DATASET,
    reading: ReadingOptions = AS_IT_STANDS,
    canonical: Annotated[bool, Parameter(negative="")] = False,
    verify: str | None = None,
    croissant: Annotated[Path | None, replaced("--croissant")] = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Divides a dataset into train, val and test, stratified by class, each group whole; writes the split to a file.

    Examples:

        cytolora split my_cells --by group --ratios 60/20/20 --seed 0 --out split.csv
        cytolora split smear2005 --canonical --out herlev.csv
        cytolora split smear2005 --verify herlev.csv
        cytolora split --data herlev=smear2005 sipakmed=SIPaKMeD --pool bethesda-general --out split.csv

    Parameters
    ----------
    path
        Folder, table or zip file; or --data and --pool in its place.
    out
        CSV file to write: path, label, subset, group and a fingerprint of the images. --canonical needs none.
    dataset
        Reader; recognised from the folder if not given.
    by
        group keeps a patient, slide or field in one subset; image may divide it (group leakage), which reports state.
    ratios
        Percent of train, val and test.
    seed
        Seed of the split; 0 is a seed like any other.
    leave_out
        Metadata column and value (site=B) whose images are the test set; the others are divided into train and val.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    canonical
        Divides a published dataset as everybody does who says so: by group, 60/20/20, from file names alone, official
        subsets kept; prints the hash to cite (docs/splits).
    verify
        Split file or hash to compare with the canonical division; writes nothing.
    croissant
        JSON file to write in the folder of the images: the divided dataset in Croissant 1.1, as `check --croissant`.
    quiet
        Shows no progress.
    """
    spec = SplitSpec(by=by, ratios=_ratios(ratios), seed=seed, copies="together", leave_out=leave_out)
    is_canonical, source = canonical or verify is not None, pooling.source(path, dataset, map_)
    if is_canonical:
        if isinstance(source, Pool):
            raise ConfigError("The canonical division is of one published dataset; divide a pool without --canonical.")
        check_canonical(spec, label_map=map_ is not None, reading=reading.options())
    if verify is None and out is None and croissant is None and not canonical:
        raise ConfigError("Name the file to write with --out, such as --out split.csv.")
    if verify is not None and out is not None:
        raise ConfigError("--verify compares and writes nothing; leave --out out.")
    if verify is not None and croissant is not None:
        raise ConfigError("--verify compares and writes nothing; leave --croissant out.")
    _check_described(source, croissant)
    console = make_console(soft_wrap=False)
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {_title(source)}")
        manifest = _manifest(source, dataset, map_, reading)
        if verify is not None:
            sha256 = verify_division(manifest, verify)
            console.print(f"{manifest.name}: {verify} is the canonical division, sha256:{sha256}.", soft_wrap=True)
            return
        progress.status(f"dividing {_title(source)}")
        suspected = groups_suspected(manifest)
        divided = canonical_division(manifest) if canonical else assign_subsets(manifest, spec)
        if out is not None:
            write_split(divided, out, by_names=canonical)
        unknown = [] if croissant is None else _write_croissant(divided, [*divided.findings, *suspected], croissant)
    console.print(_counts(divided.counts()))
    for text in (manifest.group_rule and f"groups: {manifest.group_rule}", divided.split_rule):
        if text:
            console.print(text, soft_wrap=True)
    if out is not None:
        console.print(f"Written to {out}.", soft_wrap=True)
    _say_unknown(croissant, unknown)
    answered = [one for one in manifest.findings if one.code == "D512"]
    found = [*problems([*manifest.findings, *suspected, *torn_copies(divided)]), *answered]
    print_findings(found, make_console(stderr=True))


def _manifest(
    source: Path | Pool,
    dataset: str | None,
    label_map: Path | None,
    reading: ReadingOptions,
    *,
    strict: bool = False,
    split: Path | None = None,
) -> Manifest:
    if isinstance(source, Pool):
        return load_pool(source, reading.options(), strict=strict)
    manifest = read_dataset_or_project(source, dataset, split=split, reading=reading.options(), strict=strict)
    return manifest if label_map is None else apply_label_map(manifest, label_map)


def _audited(manifest: Manifest, alike: FeatureOptions, progress: Progress) -> Audit:
    features = reader(alike, manifest, progress)
    progress.begin("looking at images", len(manifest.samples), "images")
    return audited(
        manifest,
        features=features,
        min_similarity=alike.similarity,
        on_image=lambda: progress.done(1),
    )


def _write_page(manifest: Manifest, found: Audit, page: Path) -> None:
    from cytolora.reporting.pages.audit_page import render_audit  # no other command here needs the templates

    try:
        write_text(page, render_audit(manifest, found))
    except OSError as error:
        raise ConfigError(f"Cannot write {page}: {error.strerror}.") from error


def _title(source: Path | Pool) -> str:
    return source.name if isinstance(source, Pool) else str(source)


def _check_described(source: Path | Pool, croissant: Path | None) -> None:
    """Raises a ConfigError if images are not in one folder, which a Croissant file could describe."""
    if croissant is None:
        return
    if isinstance(source, Pool):
        raise ConfigError("A Croissant file describes the images of one folder; describe each dataset by itself.")
    if source.is_file() and is_zip(source):
        raise ConfigError(f"{source} is a zip file, and a Croissant file lies beside the images: unpack it first.")


def _write_croissant(manifest: Manifest, findings: list[Finding], path: Path) -> list[str]:
    from cytolora.data.croissant import write_croissant

    registered = next((one for one in DATASETS if one.name == manifest.name), None)
    return write_croissant(manifest, path, spec=registered, findings=findings)


def _say_unknown(croissant: Path | None, keys: list[str]) -> None:
    if croissant is None:
        return
    console = make_console()
    console.print(f"Croissant 1.1 written to {croissant}.", soft_wrap=True)
    if keys:
        console.print(f"No file tells its {', '.join(keys)}: write them into it before you publish it.", soft_wrap=True)


def _print(manifest: Manifest, found: Audit) -> None:
    console = make_console()
    console.print(
        f"{found.name}: {counted(found.num_images, 'image')}, {counted(len(manifest.classes), 'class', 'classes')}, "
        f"{counted(found.num_groups, 'group')}."
    )
    console.print(_counts(found.counts))
    for text in (found.group_rule and f"groups: {found.group_rule}", found.split_rule):
        if text:
            console.print(text)
    print_findings(found.findings(), console)
    print_conclusion(found.findings(), console)


def _counts(counts: Mapping[str, Mapping[str, int]]) -> PlainTable:
    shown = [name for name in ("all", *SUBSETS) if name == "all" or any(row[name] for row in counts.values())]
    table = PlainTable("class", *shown)
    for label, row in counts.items():
        table.add_row(label, *(str(row[name]) for name in shown))
    table.add_row("", *(str(sum(row[name] for row in counts.values())) for name in shown), style="bold")
    return table


def _ratios(text: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(part) / 100 for part in text.split("/"))
    except ValueError:
        raise ConfigError(f"--ratios is percent of train/val/test, such as 60/20/20, got {text!r}.") from None
    return train, val, test
