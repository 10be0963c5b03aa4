"""TXT split reader, the layout of the authors' later benchmark: ``images/<class>/…`` and ``splits/*.txt``."""

from pathlib import Path, PurePosixPath

from cytolora.config.run import SUBSETS, Subset
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal
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
    numbers: dict[str, int] = {}
    for subset, file in lists.items():
        for line, image, number in _lines(file):
            sample = _sample(file, line, image, subset)
            if numbers.setdefault(sample.label, number) != number:
                raise DataError(f"{file}, line {line}: class {sample.label!r} is {numbers[sample.label]} and {number}.")
            samples.append(sample)
    if len(set(numbers.values())) < len(numbers):
        raise DataError(f"{path / 'splits'}: one number stands for two classes: {numbers}.")
    missing = [sample.path for sample in samples if not (root / sample.path).is_file()]
    if missing:
        raise DataError(f"{path / 'splits'} lists {len(missing)} images that are not in {root}: {missing[0]}, ….")
    return Manifest(
        name=path.resolve().name,
        root=root,
        classes=tuple(sorted(numbers, key=numbers.__getitem__)),
        samples=tuple(samples),
        split_rule="splits/train.txt, val.txt and test.txt",
    )


def _lines(file: Path) -> list[tuple[int, str, int]]:
    """Reads a list as line, image and label; names hold blanks, which is why a line is divided at its last one."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {file} as a UTF-8 text: {error}.") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        if not (image and label.isascii() and label.isdecimal()):
            raise DataError(f"{file}, line {number}: {line!r} is not a file and a label; expected 'class/file 0'.")
        entries.append((number, image.strip(), int(label)))
    return entries


def _sample(file: Path, line: int, image: str, subset: Subset) -> Sample:
    path = PurePosixPath(image)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise DataError(f"{file}, line {line}: {image!r} is not a file in a class folder; expected 'class/file 0'.")
    return Sample(path=path.as_posix(), label=path.parts[0], subset=subset)


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
