"""Groups by a user's choice, of images that no table and no published rule gives one: names, none, or a pattern."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from cytolora.config.groups_from import NAMES, NONE
from cytolora.core.findings import Finding, finding
from cytolora.data.grouping import group_key
from cytolora.data.manifest import Manifest
from cytolora.data.name_groups import NameGroups, groups_in_names
from cytolora.data.similar_names import join_groups
from cytolora.errors import ConfigError, DataError

GroupOf = Callable[[str, str], str | None]
"""From a file's name without suffix, and its class."""

MAX_SECONDS = 10.0
"""Of matching all names; a pattern with nested repetition may take longer than anybody lives."""

_MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = (re.search(pattern, name) for name in names)
json.dump([match and match[match.re.groups] for match in found], sys.stdout)
"""
"""Runs in a process of its own, for nothing else can stop a match."""


def with_chosen_groups(manifest: Manifest, choice: str | None) -> Manifest:
    """Returns the manifest with the groups of ``--groups-from``; groups that are known stay as they are.

    Raises:
        ConfigError: If all groups are known, names show none, or a pattern takes too long.
        DataError: If a pattern finds no group in the name of an image.
    """
    if choice is None or (choice == NONE and manifest.has_groups):
        return manifest
    if manifest.has_groups:
        raise ConfigError(
            f"{manifest.name} names the groups of all its images ({manifest.group_rule or 'column group'}), and "
            f"--groups-from {choice} asks for others. Leave it out."
        )
    if choice == NONE:
        return replace(manifest, findings=(*manifest.findings, _refusal(manifest)))
    paths = [sample.path for sample in manifest.samples if sample.group is None]
    groups, rule = _of_names(manifest) if choice == NAMES else (_matched(manifest.name, paths, choice), _by(choice))
    samples = [replace(one, group=one.group or groups.get(one.path)) for one in manifest.samples]
    joined, findings = join_groups(manifest.name, samples)
    known = f"{manifest.group_rule}; else " if any(one.group for one in manifest.samples) else ""
    return replace(manifest, samples=tuple(joined), group_rule=known + rule, findings=(*manifest.findings, *findings))


def groups_elsewhere(manifest: Manifest, choice: str | None, stems: Iterable[str]) -> GroupOf | None:
    """Returns how the choice made for a dataset reads the groups of further images; None: not at all.

    Groups are written as in the dataset. A pattern of paths says nothing of files from elsewhere.
    """
    if choice is None or choice == NONE or "/" in choice:
        return None
    as_known = {group_key(sample.group): sample.group for sample in manifest.samples if sample.group is not None}
    names = groups_in_names(manifest.samples) if choice == NAMES else None
    stems = sorted(set(stems))
    matched = {} if choice == NAMES else dict(zip(stems, _search(choice, stems), strict=True))

    def group_of(stem: str, label: str) -> str | None:
        group = names.of(stem, label) if names else matched.get(stem)
        return as_known.get(group_key(group), group) if group else None

    return group_of


def _refusal(manifest: Manifest) -> Finding:
    names = _names(manifest)
    what = f"the {names.num_groups} groups that file names suggest ({names.rule})" if names else "groups in file names"
    text = f"{manifest.name}: {what} were refused (--groups-from none); groups stay unknown."
    return finding("D512", text, count=names.num_groups if names else 0)


def _names(manifest: Manifest) -> NameGroups | None:
    return groups_in_names(sample for sample in manifest.samples if sample.group is None)


def _of_names(manifest: Manifest) -> tuple[Mapping[str, str], str]:
    names = _names(manifest)
    if names is None:
        raise ConfigError(
            f"{manifest.name}: file names show no groups; expected names like slide03_007, with several images of "
            "each slide. Write --groups-from 'REGEX', or name the groups in a table (manifest.csv)."
        )
    return names.group_of, f"{names.rule} (--groups-from names)"


def _by(pattern: str) -> str:
    return f"what {pattern!r} matches in the {'path' if '/' in pattern else 'file name'} (--groups-from)"


def _matched(name: str, paths: Sequence[str], pattern: str) -> Mapping[str, str]:
    texts = [path if "/" in pattern else PurePosixPath(path).stem for path in paths]
    groups = dict(zip(paths, _search(pattern, texts), strict=True))
    without = [path for path, group in groups.items() if not group]
    if without:
        raise DataError(
            f"{name}: --groups-from {pattern!r} finds no group in the names of {len(without)} of {len(paths)} images, "
            f"the first is {without[0]}. Expected a match in every {'path' if '/' in pattern else 'name'}, without "
            "its suffix where the pattern has no slash."
        )
    return {path: group for path, group in groups.items() if group}


def _search(pattern: str, texts: Iterable[str]) -> list[str | None]:
    """Returns the capturing group of the first match in every text, or the whole match of a pattern without one.

    Raises:
        ConfigError: If that takes longer than ``MAX_SECONDS``.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCH],
            input=json.dumps([pattern, list(texts)]),
            capture_output=True,
            encoding="ascii",
            check=True,
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"--groups-from {pattern!r} was not done with the names in {MAX_SECONDS:g} s. Write it without repetition "
            "inside repetition, such as (a+)+."
        ) from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"--groups-from {pattern!r} cannot be matched: {error.stderr.strip()[-200:]}.") from error
    return json.loads(done.stdout)
