"""WebDataset: tar shards whose files belong together by their name up to the first dot.

Convention: https://github.com/webdataset/webdataset, README. Nothing but plain files is unpacked.
"""

import json
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from cytolora.core.strict_json import read_json
from cytolora.data.exchange.containers import MAX_IMAGE_BYTES, Container, Unpacked
from cytolora.data.exchange.labels import scalars
from cytolora.data.formats import IMAGE_SUFFIXES, is_passed_over
from cytolora.data.readers.paths import leaves_folder
from cytolora.errors import DataError

_NUM_LOOKED_AT = 64
"""Members, by which a shard is told from any other tar file."""
_LABELS = ("cls", "label", "txt")
"""Files of a sample that hold its class, as text; the first counts."""
_ABOUT = "json"
"""File of a sample with its class and what else is known."""


def _is_shard(file: Path) -> bool:
    if file.suffix.lower() != ".tar":
        return False
    parts: dict[str, set[str]] = {}
    try:
        with tarfile.open(file, "r:") as packed:
            for member in islice(packed, _NUM_LOOKED_AT):
                key, kind = _key(member.name)
                parts.setdefault(key, set()).add(kind)
    except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError):  # headers of headers of headers
        return False
    return any(_image_in(kinds) and kinds & {*_LABELS, _ABOUT} for kinds in parts.values())


def _key(name: str) -> tuple[str, str]:
    """Splits a name at the first dot of its last part: what names the sample, and what is in the file."""
    folder, _, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return (f"{folder}/{stem}" if folder else stem).removeprefix("./"), kind.lower()


def _image_in(kinds: set[str]) -> str | None:
    return next((kind for kind in sorted(kinds) if f".{kind}" in IMAGE_SUFFIXES), None)


def unpack_shard(file: Path) -> Iterator[Unpacked]:
    """Yields the images of a shard, in its order.

    Raises:
        DataError: For a member that no dataset needs: a link, a device, a path that leaves the folder.
        ValueError: If the file is damaged.
    """
    current: str | None = None
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(file, "r:") as packed:
            for member in packed:
                why = _why_hostile(member)
                if why:
                    raise DataError(f"{file}: entry {member.name!r} {why}; nothing was unpacked.")
                if member.isdir() or is_passed_over(member.name.removeprefix("./")):
                    continue
                key, kind = _key(member.name)
                if key != current:
                    yield from _sample(current, parts)
                    current, parts = key, {}
                if kind in parts:
                    raise DataError(f"{file} holds {member.name} twice; nothing was unpacked.")
                if not (_image_in({kind}) or kind in _LABELS or kind == _ABOUT):
                    continue  # of another use: it takes no memory
                opened = packed.extractfile(member)
                assert opened is not None  # it is a plain file
                parts[kind] = opened.read(member.size)
                if len(parts[kind]) != member.size:
                    raise ValueError(f"entry {member.name!r} is cut off")
            yield from _sample(current, parts)
    except (tarfile.TarError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _why_hostile(member: tarfile.TarInfo) -> str:
    if leaves_folder(member.name):
        return "leaves the folder"
    if member.issym() or member.islnk():
        return "is a link"
    if member.issparse() or not (member.isreg() or member.isdir()):
        return "is a device or another special file"
    if member.size < 0:  # it would lead back: the walk would never end
        return "has a size below 0"
    if member.size > MAX_IMAGE_BYTES:
        return f"has {member.size:,} bytes, more than any image here"
    return ""


def _sample(key: str | None, parts: dict[str, bytes]) -> Iterator[Unpacked]:
    kind = _image_in(set(parts))
    if key is None or kind is None:
        return
    about = read_json(parts[_ABOUT]) if _ABOUT in parts else {}
    told = scalars(about, ()) if isinstance(about, dict) else {}
    named = next((parts[name].decode("utf-8").strip() for name in _LABELS if name in parts), "")
    label = told.pop("label", "") or named
    path = PurePosixPath(f"{key}.{kind}").as_posix()
    yield Unpacked(path=path, content=parts[kind], label=label, fields=told, fault="" if label else _fault(about))


def _fault(about: Any) -> str:
    """Says what a JSON file has for a label that is neither text nor number; empty where it has nothing."""
    value = about.get("label") if isinstance(about, dict) else about
    if value in (None, "", [], {}):
        return ""
    shown = json.dumps(value)
    return f"has several labels, {shown[:60]}" if isinstance(value, list) else f"has the label {shown[:60]}"


WEBDATASET = Container(
    name="webdataset",
    title="WebDataset",
    description="tar shards with an image and json, cls or txt for each sample.",
    is_one=_is_shard,
    unpack=unpack_shard,
    is_sharded=True,
    companions=("*.tar",),
)
