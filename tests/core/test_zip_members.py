"""Zip members that state another size than they have: refused, with the memory of what they state."""

import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.classifier.bundle.files import read_bundle
from cytolora.classifier.inference.image_sources import find_images
from cytolora.core.zip_members import read_member
from cytolora.data.walk import walk_zip
from cytolora.errors import CytoloraError

MEGABYTE = 1 << 20
REAL, STATED = 64 * MEGABYTE, 1_000


def lying_zip(path: Path, member: str) -> Path:
    """A zip file of 64 kB whose member says 1,000 bytes in the table of contents and unpacks to 64 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open(member, "w") as file:
        for _ in range(REAL // MEGABYTE):
            file.write(bytes(MEGABYTE))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.find(b"PK\x01\x02") + 24, STATED)
    path.write_bytes(content)
    return path


@contextmanager
def at_most(num_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


def _predict(path: Path) -> None:
    (source,) = find_images([path])
    source.pixels()


def _walk(path: Path) -> None:
    with zipfile.ZipFile(path) as packed:
        list(walk_zip(packed))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "predict": ("a.png", _predict),
    "the walk": ("a.png", _walk),
    "a mask": ("a_mask.png", _walk),
    "a bundle": ("bundle.json", read_bundle),
}


@pytest.mark.parametrize(("member", "read"), READERS.values(), ids=READERS)
def test_a_member_that_lies_about_its_size_costs_what_it_states(tmp_path, member, read):
    path = lying_zip(tmp_path / "lying.zip", member)
    with at_most(8 * MEGABYTE), suppress(CytoloraError):
        read(path)


def test_a_member_that_lies_about_its_size_is_named(tmp_path):
    with pytest.raises(CytoloraError, match=r"lying\.zip.*a\.png: Bad CRC-32"):
        _predict(lying_zip(tmp_path / "lying.zip", "a.png"))


@given(content=st.binary(max_size=3_000), method=st.sampled_from([0, 8, 12, 14]))
@settings(max_examples=40)
def test_honest_members_are_read_whole(tmp_path, content, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("a", content)
    with zipfile.ZipFile(path) as packed:
        assert read_member(packed, packed.getinfo("a")) == content
        with pytest.raises(ValueError, match="expected at most"):
            read_member(packed, packed.getinfo("a"), max_bytes=len(content) - 1)


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_member_gives_its_content_or_one_kind_of_error(tmp_path, data):
    path = tmp_path / "a.zip"
    content = bytes(range(256)) * 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.png", content)
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    with suppress(zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        packed = zipfile.ZipFile(path)
        with packed:
            for member in packed.infolist():
                assert read_member(packed, member) == content
