"""Added cells: new images that a person labelled, used for training and for nothing else.

They were chosen, the doubtful first, so they are no sample of anything: in calibration or test they would bend every
number. The dataset's own images are divided as they are without them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path, PurePosixPath

from cytolora.classifier.inference.image_sources import as_text, find_images
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.files import sha256_file
from cytolora.core.text import counted, matching, normal
from cytolora.data.archive import is_archive, unpack
from cytolora.data.datasets import DATASETS
from cytolora.data.formats import is_image
from cytolora.data.grouping import as_known_groups
from cytolora.data.imaging.marks import changed_rule
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.scan import ImageRecord, Records
from cytolora.data.readers.csv import TABLE
from cytolora.data.readers.paths import PathIndex, slashed
from cytolora.data.readers.tables import read_rows, refuse_other_names
from cytolora.data.similar_names import is_unknown_group
from cytolora.errors import DataError

_MARK = "~"
"""Before the paths of added images: sorts after the letters of ASCII, so that features of the dataset that are kept in
chunks stay in the same ones."""
_NUM_SHOWN = 3

GroupOf = Callable[[str, str], str | None]


@dataclass(frozen=True, kw_only=True)
class _Folder:
    given: Path
    name: str
    """``~`` and as many last parts of its path as tell it from the other folders: the same on every machine."""
    root: Path
    """Where its images lie; of a zip file, where it was unpacked."""


@dataclass(frozen=True, kw_only=True)
class Added:
    """Images of folders beside the dataset, of which a table labels some."""

    folders: tuple[_Folder, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    """By the path that a manifest gives them."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """By the same path, where a table in the folder says which."""

    def find(self, name: str) -> list[str]:
        """Returns the paths of the images that a name may mean: a file from here, or within one of the folders."""
        here = Path(name).resolve()
        found = {name, self._by_file.get(as_text(here), name)}
        for folder in self.folders:
            found.add(f"{folder.name}/{name}")
            if here.is_relative_to(folder.given.resolve()):  # in a zip file, as predictions name it
                found.add(f"{folder.name}/{here.relative_to(folder.given.resolve()).as_posix()}")
        return sorted(found & self.files.keys())

    def find_alike(self, where: str, name: str) -> list[str]:
        """The same where case, Unicode form or blanks are others; ``where`` names the line in errors."""
        index = PathIndex(self.files)
        found = (index.find(where, path) for path in (name, *(f"{folder.name}/{name}" for folder in self.folders)))
        file = PathIndex(self._by_file).find(where, as_text(Path(name).resolve()))
        return sorted({path for path in found if path} | ({self._by_file[file]} if file else set()))

    @property
    def names(self) -> str:
        """The folders as they were given but for where they lie: the same on every machine."""
        return " and ".join(folder.name.removeprefix(_MARK) for folder in self.folders)

    @cached_property
    def _by_file(self) -> dict[str, str]:
        return {as_text(file.resolve()): path for path, file in self.files.items()}

    def samples(self, labels: Mapping[str, str], group_of: GroupOf | None) -> tuple[Sample, ...]:
        """Makes samples of labelled images, with hashes; the group is that of the table, else that of the file's name.

        Args:
            group_of: How the dataset reads groups from names, if it does.
        """
        return tuple(
            Sample(
                path=path,
                label=label,
                group=self.groups.get(path) or (group_of(PurePosixPath(path).stem, label) if group_of else None),
                sha256=_hash(self.files[path]),
                elsewhere=self.files[path],
                is_added=True,
            )
            for path, label in labels.items()
        )

    def unlabelled_of_known_group(self, known: set[str]) -> tuple[Sample, ...]:
        """Returns unlabelled images of known group: others of the group may be trained on (group leakage)."""
        left = [path for path in self.groups if path not in known]
        return tuple(
            Sample(path=path, label="", group=self.groups[path], sha256=_hash(self.files[path])) for path in left
        )

    def summary(self, joined: int, labelled: int, table: str) -> str:
        """Says how many images joined, what for, and how many were left."""
        are, left = "is" if joined == 1 else "are", len(self.files) - labelled
        return (
            f"{joined} of the {counted(len(self.files), 'image')} of {self.names} {are} trained on, and used for "
            "nothing else: a person chose them, so they would be no random sample in calibration or test. "
            f"{left} that {table} does not label {'was' if left == 1 else 'were'} left out."
        )


def find_added(paths: Sequence[str | Path], manifest: Manifest, reading: ReadOptions = AS_IT_STANDS) -> Added:
    """Looks for the images of folders and zip files; those that are the dataset's own are not counted twice.

    Args:
        reading: Names the column of the groups where a table in a folder has it, too.

    Raises:
        DataError: If a path is neither, or holds no image.
    """
    folders = _folders(list(dict.fromkeys(Path(path).absolute() for path in paths)), list(map(Path, paths)))
    own = {sample.file_in(manifest.root).resolve() for sample in manifest.samples} if folders else set()
    files, groups = dict[str, Path](), dict[str, str]()
    for folder in folders:
        for source in find_images([folder.root]):
            if is_image(source.file) and source.file.resolve() not in own:
                own.add(source.file.resolve())  # one folder may lie inside another
                files[f"{folder.name}/{as_text(source.file.relative_to(folder.root).as_posix())}"] = source.file
        if (folder.root / TABLE).is_file():
            groups |= _groups(folder, PathIndex(files), reading)
    known = (one.group for one in manifest.samples if one.group is not None)
    names = as_known_groups(groups.values(), known)
    return Added(folders=folders, files=files, groups={path: names[group] for path, group in groups.items()})


def group_rule_of(manifest: Manifest) -> GroupOf | None:
    """Returns how a published dataset reads groups from the names of its files; None where it does not."""
    fitting = (spec for spec in DATASETS if spec.name == manifest.name.partition(":")[0])
    return next((spec.group_of for spec in fitting if spec.group_rule == manifest.group_rule), None)


def with_added(manifest: Manifest, samples: Sequence[Sample]) -> Manifest:
    """Returns the dataset together with added images, to be looked at."""
    rule = manifest.group_rule or (f"column group of {TABLE}" if any(one.group for one in samples) else "")
    read = tuple(
        replace(one, pixel_rules=changed_rule(one.file_in(manifest.root), manifest.decoding)) for one in samples
    )
    return replace(manifest, samples=(*manifest.samples, *read), group_rule=rule)


def join(divided: Manifest, whole: Manifest) -> tuple[Manifest, list[str]]:
    """Puts the added images of ``whole`` into train, but for those of a group that calibration or test has: a leak."""
    samples = [one for one in whole.samples if one.is_added]
    held_out = {one.group for one in divided.samples if one.subset != "train"} - {None}
    leaks = [one for one in samples if one.group in held_out]
    taken = tuple(replace(one, subset="train") for one in samples if one.group not in held_out)
    notes = []
    if leaks:
        shown = sorted({one.group for one in leaks if one.group is not None})
        more = ", …" if len(shown) > _NUM_SHOWN else ""
        notes.append(
            f"{len(leaks)} added images left out, for calibration or test has images of the same group: "
            f"{', '.join(shown[:_NUM_SHOWN])}{more}."
        )
    unknown = sum(one.group is None for one in taken)
    if unknown and any(one.group for one in divided.samples):
        notes.append(
            f"Cannot be verified: whether the {unknown} added images of unknown group come from a patient, slide or "
            f"field of the test images. A table {TABLE} with the columns path,group in their folder says so."
        )
    rule = f"{divided.split_rule}; {len(taken)} added images in train only" if taken else divided.split_rule
    return replace(with_added(divided, taken), split_rule=rule), notes


def without_contradicted(manifest: Manifest, records: Records) -> Manifest:
    """Leaves out cells that only soft labels brought, and whose pixels another cell has under an agreed label.

    Readers could not decide on the one, and on the other they did.
    """
    undecided = {one.path for one in manifest.samples if one.is_added and one.shares}
    if not undecided:
        return manifest
    pixels = {path: one.pixel_sha256 for path, one in records.items() if isinstance(one, ImageRecord)}
    decided = {pixels.get(one.path) for one in manifest.samples if one.path not in undecided} - {None}
    kept = (one for one in manifest.samples if one.path not in undecided or pixels.get(one.path) not in decided)
    return replace(manifest, samples=tuple(kept))


def check_labels_agree(paths: Sequence[str], samples: Mapping[str, Sample]) -> None:
    """Raises a DataError if an added image has the pixels of another one and another label."""
    new = [path for path in paths if samples[path].is_added]
    for path in new:
        other = next((one for one in paths if samples[one].label != samples[path].label), None)
        if other is not None:
            raise DataError(
                f"{path} is labelled {samples[path].label!r} and has the same pixels as {other}, which is "
                f"{samples[other].label!r}. Correct one of them in --labels, or leave {path} out of it."
            )


def _folders(places: Sequence[Path], given: Sequence[Path]) -> tuple[_Folder, ...]:
    for place in places:
        if not place.is_dir() and not is_archive(place):
            what = "is no folder or zip file" if place.exists() else "does not exist"
            raise DataError(f"--add {place} {what}; expected a folder or zip file of new cells, as predict reads it.")
    by_place = {path.absolute(): path for path in reversed(given)}
    return tuple(
        _Folder(
            given=by_place[place], name=f"{_MARK}{name}", root=unpack(place) if is_archive(place) else by_place[place]
        )
        for place, name in zip(places, _shortest(places), strict=True)
    )


def _shortest(places: Sequence[Path]) -> list[str]:
    """Returns as many last parts of each path as make all of them differ."""
    for number in count(1):
        names = ["/".join(part.strip("/") for part in place.parts[-number:]) for place in places]
        if len(set(names)) == len(places):
            return names
    raise AssertionError("places differ")


def _groups(folder: _Folder, images: PathIndex, reading: ReadOptions) -> dict[str, str]:
    table = folder.root / TABLE
    rows = read_rows(table, ("path",))
    column = matching(reading.group_column or "group", rows[0][1]) or "group"
    refuse_other_names(table, [row for _, row in rows], ("subset", *(("group",) if column != "group" else ())))
    groups = dict[str, str]()
    for line, row in rows:
        path = images.find(f"{table}, line {line}", f"{folder.name}/{slashed(row['path'])}")
        group = normal(row.get(column, ""))
        if path is not None and group and not is_unknown_group(group):
            groups[path] = group
    return groups


def _hash(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}.") from error
