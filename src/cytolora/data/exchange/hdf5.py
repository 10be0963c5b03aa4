"""HDF5 with an array of images: which arrays hold what, a small YAML file beside it says, or their names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from cytolora.core.strict_yaml import read_yaml_text
from cytolora.core.zip_members import MAX_RATIO, unpacks_too_far
from cytolora.data.exchange.containers import Container, Unpacked
from cytolora.data.readers.unpacked import png_bytes
from cytolora.errors import DataError, missing_package, nearest_name

_MAGIC = b"\x89HDF\r\n\x1a\n"
_SUFFIXES = (".h5", ".hdf5")
_MAPPING = ".yaml"
"""Behind the name of the file: the mapping."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "images": ("images", "image", "x", "X", "data"),
    "labels": ("labels", "label", "y", "Y", "targets"),
    "group": ("group", "groups"),
    "subset": ("subset", "subsets"),
}
"""Arrays that are looked for where no mapping names them; the first that is there counts."""
_CLASSES = "classes"
_TEXTS_READ = 64
"""At once."""
_LABELLED_AXES = (3, 4)
"""Of the array of images: number x height x width, and x 3 for RGB."""


def _is_hdf5(file: Path) -> bool:
    with suppress(OSError):
        if file.suffix.lower() in _SUFFIXES:
            with file.open("rb") as opened:
                return opened.read(len(_MAGIC)) == _MAGIC
    return False


def _is_mapped(file: Path) -> bool:
    """Whether a file has a mapping beside it: in a folder, others may hold anything, such as weights."""
    return _is_hdf5(file) and mapping_of(file).is_file()


def mapping_of(file: Path) -> Path:
    """Returns where the mapping of a file is, if it has one: ``cells.h5.yaml``."""
    return file.with_name(f"{file.name}{_MAPPING}")


def unpack_hdf5(file: Path) -> Iterator[Unpacked]:
    """Yields the images of a file as PNG, in their order.

    Raises:
        ConfigError: If h5py is not installed.
        DataError: If an array is missing, is no plain array of this very file, or has another shape or kind.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_package("Reading HDF5 needs", "h5py", extra="exchange", error=error) from error
    try:
        yield from _images(h5py, file, _mapping(file))
    except (OSError, RuntimeError, KeyError) as error:  # as h5py tells of damage
        raise ValueError(" ".join(str(error).split())) from error


def _images(h5py: Any, file: Path, mapping: Mapping[str, Any]) -> Iterator[Unpacked]:
    with h5py.File(file, "r") as opened:
        images = _array(h5py, file, opened, "images", mapping)
        if images is None:
            raise DataError(f"{file} has no array of images ({', '.join(_NAMES['images'])}); {_how_to_map(file)}")
        _check_images(file, images)
        columns = {what: _column(h5py, file, opened, what, mapping, len(images)) for what in _NAMES if what != "images"}
        labels = _named(file, columns.pop("labels"), mapping.get(_CLASSES))
        for number in range(len(images)):
            pixels = images[number]
            pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
            fields = {what: values[number] for what, values in columns.items() if values and values[number]}
            label = labels[number] if labels else ""
            yield Unpacked(path=f"{number:06}.png", content=png_bytes(pixels), label=label, fields=fields)


def _mapping(file: Path) -> dict[str, Any]:
    where = mapping_of(file)
    if not where.is_file():
        return {}
    try:
        mapping = read_yaml_text(where.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {where}: {error}.") from error
    known = (*_NAMES, _CLASSES)
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping):
        raise DataError(f"{where} is no mapping; expected lines such as `images: /cells/pixels`.")
    strange = next((name for name in mapping if name not in known), None)
    if strange is not None:
        near = nearest_name(strange, known)
        hint = f" Did you mean {near!r}?" if near else ""
        raise DataError(f"{where} has the key {strange!r}; known are {', '.join(known)}.{hint}")
    wrong = next((name for name in _NAMES if not isinstance(mapping.get(name, ""), str)), None)
    if wrong is not None:
        raise DataError(f"{where}: {wrong} is {mapping[wrong]!r}, expected the name of an array.")
    return mapping


def _array(h5py: Any, file: Path, opened: Any, what: str, mapping: Mapping[str, Any]) -> Any:
    """Returns the array that holds something, which must lie in this very file; None where there is none."""
    given = mapping.get(what)
    name = given or next((known for known in _NAMES[what] if known in opened), None)
    if name is None:
        return None
    place = opened
    for part in [part for part in name.split("/") if part not in ("", ".")]:
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) and part in place else None
        if link is None:
            raise DataError(f"{file} has no array {name!r} (of {what}); {_how_to_map(file)}")
        if not isinstance(link, h5py.HardLink):
            raise DataError(f"{file}: {name!r} is a link, perhaps to another file, and is not followed.")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise DataError(f"{file}: {name!r} is a group, expected the array of {what}.")
    if place.is_virtual or place.external:
        raise DataError(f"{file}: {name!r} lies in other files, which are not opened. Copy it into this one.")
    if place.shape is None:
        raise DataError(f"{file}: {name!r} is empty, expected the array of {what}.")
    chunk = prod(place.chunks or ()) * place.dtype.itemsize  # inflated whole, and it may be larger than the array
    _check_size(file, name, max(place.nbytes, chunk))
    return place


def _check_size(file: Path, name: str, num_bytes: int) -> None:
    if unpacks_too_far(num_bytes, file.stat().st_size):
        raise DataError(f"{file}: {name!r} would unpack to more than {MAX_RATIO} times the size of the file; refused.")


def _check_images(file: Path, images: Any) -> None:
    shape = images.shape
    if images.dtype != "uint8" or len(shape) not in _LABELLED_AXES or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise DataError(
            f"{file}: the array of images has {images.dtype} of shape {shape}; expected uint8, number x height x "
            "width, and x 3 for RGB."
        )


def _column(h5py: Any, file: Path, opened: Any, what: str, mapping: Mapping[str, Any], number: int) -> list[str]:
    """Returns a text for each image; empty where there is no such array."""
    array = _array(h5py, file, opened, what, mapping)
    if array is None:
        return []
    is_text = h5py.check_string_dtype(array.dtype) is not None
    if not is_text and array.dtype.kind not in "iu":
        raise DataError(f"{file}: the array of {what} has {array.dtype}; expected whole numbers or texts.")
    if array.shape not in ((number,), (number, 1)):
        raise DataError(f"{file}: the array of {what} has shape {array.shape}; expected one value for {number} images.")
    if not is_text:
        return [str(value) for value in array[()].reshape(-1).tolist()]
    texts: list[str] = []
    num_bytes, rows = 0, array.asstr()
    for start in range(0, number, _TEXTS_READ):  # each may point to the same long text
        texts += rows[start : start + _TEXTS_READ].reshape(-1).tolist()
        num_bytes += sum(map(len, texts[start:]))
        _check_size(file, array.name, num_bytes)
    return texts


def _named(file: Path, labels: list[str], classes: Sequence[Any] | None) -> list[str]:
    """Returns labels as names of classes where the mapping lists these."""
    if classes is None:
        return labels
    if not isinstance(classes, list):
        raise DataError(f"{mapping_of(file)}: {_CLASSES} is no list; expected the names in the order of the numbers.")
    strange = next((label for label in labels if not label.isdecimal() or int(label) >= len(classes)), None)
    if strange is not None:
        raise DataError(f"{file} has the label {strange}, and {mapping_of(file).name} lists {len(classes)} classes.")
    return [str(classes[int(label)]) for label in labels]


def _how_to_map(file: Path) -> str:
    return f"name it in {mapping_of(file).name}, with lines such as `images: /cells/pixels`."


HDF5 = Container(
    name="hdf5",
    title="HDF5",
    description="HDF5 with arrays of images and labels, by the names in FILE.h5.yaml or images, labels, group, subset.",
    is_one=_is_hdf5,
    in_folders=_is_mapped,
    beside=mapping_of,
    unpack=unpack_hdf5,
    companions=("*.h5", "*.hdf5", "*.h5.yaml", "*.hdf5.yaml"),
)
