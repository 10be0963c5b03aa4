"""Items of a shard: images with what is known of them, as plain data that any worker reads back."""

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from cytolora.classifier.inference.image_sources import DAMAGED, Source, as_text, open_archive
from cytolora.core.arguments import is_url
from cytolora.data.manifest import Manifest
from cytolora.data.remote import RemoteFile, file_system, normal_url
from cytolora.errors import DataError, passing


class AnyItem(Protocol):
    """What shards are made of."""

    @property
    def identity(self) -> list[Any]:
        """What another item, or another content, differs in; no part of it is where the file lies."""
        ...

    @property
    def entry(self) -> list[Any]:
        """Plain data that a worker reads the item from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image of a shard."""

    source: Source
    label: str | None = None
    subset: str | None = None
    group: str | None = None
    sha256: str | None = None
    """Of its bytes, where the dataset was read; None: its size and time, checksum or tag stand for them."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Further columns of its dataset."""

    @property
    def known(self) -> list[Any]:
        """What the dataset says of it."""
        return [self.label, self.subset, self.group, self.sha256, [list(pair) for pair in self.metadata]]

    @property
    def identity(self) -> list[Any]:
        """What another image, or another content, differs in; no part of it is where the file lies."""
        return [self.source.name, *([] if self.sha256 else self.source.identity), *self.known]

    @property
    def entry(self) -> list[Any]:
        """Plain data that ``items_of`` makes the item of again, in any process that sees the same files."""
        one = self.source
        remote = None if one.remote is None else [one.remote.url, one.remote.num_bytes, one.remote.version]
        return [one.name, remote or str(one.file.absolute()), one.member, one.is_unread, *self.known]


def of_sources(sources: Iterable[Source], *, below: str = "") -> Iterable[Item]:
    """Yields items of images of which nothing else is known.

    Args:
        below: Path or URL that their names are given relative to.
    """
    prefix = f"{(normal_url(below) if is_url(below) else as_text(Path(below))).rstrip('/')}/"
    for source in sources:
        name = source.name.removeprefix(prefix) if below else source.name
        yield Item(source=replace(source, name=name))


def of_manifest(manifest: Manifest) -> Iterable[Item]:
    """Yields the images of a dataset."""
    for sample in manifest.samples:
        yield Item(
            source=Source(name=sample.path, file=sample.file_in(manifest.root)),
            label=sample.label or None,
            subset=sample.subset,
            group=sample.group,
            sha256=sample.sha256,
            metadata=sample.metadata,
        )


def items_of(entries: Iterable[Sequence[Any]]) -> list[Item]:
    """Makes items of their plain data; zip files and file systems are opened once for all."""
    opened = _Opened()
    return [opened.item(*entry) for entry in entries]


class _Opened:
    def __init__(self) -> None:
        self._file_systems: dict[str, Any] = {}
        self._archives: dict[str, zipfile.ZipFile] = {}

    def item(self, name: str, place: Any, member: str | None, is_unread: bool, *known: Any) -> Item:
        remote, path = (None, place) if isinstance(place, str) else (self._remote(*place), place[0])
        file = Path(path) if remote is None else Path(PurePosixPath(path).name)
        packed = None if member is None else self._archive(path, file, remote)
        label, subset, group, sha256, metadata = known
        return Item(
            source=Source(name=name, file=file, member=member, packed=packed, is_unread=is_unread, remote=remote),
            label=label,
            subset=subset,
            group=group,
            sha256=sha256,
            metadata=tuple((key, value) for key, value in metadata),
        )

    def _remote(self, url: str, num_bytes: int | None, version: str) -> RemoteFile:
        assert is_url(url)
        scheme = url.partition("://")[0]
        if scheme not in self._file_systems:
            self._file_systems[scheme] = file_system(url)
        return RemoteFile(url=url, num_bytes=num_bytes, version=version, fs=self._file_systems[scheme])

    def _archive(self, path: str, file: Path, remote: RemoteFile | None) -> zipfile.ZipFile:
        if path not in self._archives:
            try:
                self._archives[path] = open_archive(file, remote)
            except DAMAGED as error:
                raise passing(DataError(f"{path} can no longer be read: {error}. Start the command again.")) from error
        return self._archives[path]
