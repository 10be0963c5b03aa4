"""TXT split reader, the layout of the authors' later benchmark: ``images/<class>/…`` and ``splits/*.txt``."""

from pathlib import Path

from cytolora.config.run import SUBSETS, Subset
from cytolora.core.delimited import lines_of, read_text
from cytolora.core.named_files import is_file
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal
from cytolora.data.readers.paths import NamesOnDisk, leaves_folder, slashed
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError

_EXPECTED = "images/<class>/… and splits/train.txt, val.txt and test.txt"


def read_txt(path: Path) -> Manifest:
    """Reads lines ``class/file label``; the classes are in the order of their labels in all three lists together.

    Raises:
        DataError: If a line is no such pair, a label stands for two classes, or an image is not there.
    """
    lists: dict[Subset, Path] = {subset: path / "splits" / f"{subset}.txt" for subset in SUBSETS}
    if not all(file.is_file() for file in lists.values()):
        raise refusal(path, TXT.title, _EXPECTED)
    root = path / "images"
    samples: list[Sample] = []
    names = NamesOnDisk(root)
    numbers: dict[str, int] = {}
    for subset, file in lists.items():
        for line, image, number in _lines(file):
            sample = _sample(f"{file}, line {line}", image, subset, names)
            if numbers.setdefault(sample.label, number) != number:
                raise DataError(f"{file}, line {line}: class {sample.label!r} is {numbers[sample.label]} and {number}.")
            samples.append(sample)
    if len(set(numbers.values())) < len(numbers):
        raise DataError(f"{path / 'splits'}: one number stands for two classes: {numbers}.")
    missing = [sample.path for sample in samples if not is_file(root / sample.path)]
    if missing:
        number = counted(len(missing), "image that is", "images that are")
        raise DataError(f"{path / 'splits'} lists {number} not in {root}: {missing[0]}, ….")
    return Manifest(
        name=path.resolve().name,
        root=root,
        classes=tuple(sorted(numbers, key=numbers.__getitem__)),
        samples=tuple(samples),
        findings=tuple(names.findings("splits")),
        split_rule="splits/train.txt, val.txt and test.txt",
    )


def _lines(file: Path) -> list[tuple[int, str, int]]:
    """Reads a list as line, image and label; names hold blanks, which is why a line is divided at its last one."""
    entries = []
    for number, line in enumerate(lines_of(read_text(file)), start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        if not (image and label.isascii() and label.isdecimal()):
            raise DataError(f"{file}, line {number}: {line!r} is not a file and a label; expected 'class/file 0'.")
        entries.append((number, image.strip(), int(label)))
    return entries


def _sample(where: str, image: str, subset: Subset, names: NamesOnDisk) -> Sample:
    if leaves_folder(image) or "/" not in slashed(image):
        raise DataError(f"{where}: {image!r} is not a file in a class folder; expected 'class/file 0'.")
    path = names.find(where, image)
    return Sample(path=path, label=path.partition("/")[0], subset=subset)


def _looks_like(path: Path) -> bool:
    return (path / "images").is_dir() and all((path / "splits" / f"{subset}.txt").is_file() for subset in SUBSETS)


TXT = DatasetSpec(
    name="txt",
    title="The layout of the authors' later benchmark",
    read=read_txt,
    looks_like=_looks_like,
    description=f"{_EXPECTED}, as github.com/mdausort/Cytology_Benchmark asks for.",
    group_rule="groups cannot be known",
    licence="that of the images",
    generic=True,
)
