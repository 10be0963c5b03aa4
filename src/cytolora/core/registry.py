"""Named entries of this package and of plug-ins, with one look-up."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar

from cytolora.errors import ConfigError, unknown_name


class Named(Protocol):
    """Anything that a registry can hold."""

    @property
    def name(self) -> str:
        """Unique among entries of its kind."""
        ...


Entry = TypeVar("Entry", bound=Named)


class Registry(Generic[Entry]):
    """Entries by name; those of installed plug-ins (entry-point group ``cytolora.<kind>s``) are found on first use."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._plugins_loaded = False

    def add(self, entry: Entry) -> Entry:
        """Adds an entry; a second one of the same name is a ConfigError, never a silent replacement."""
        if entry.name in self._entries:
            raise ConfigError(f"A {self.kind} named {entry.name!r} exists already. Choose another name.")
        self._entries[entry.name] = entry
        return entry

    def put(self, entry: Entry) -> Entry:
        """Adds an entry in the place of any other of its name: for processes that work on behalf of another one."""
        self._load_plugins()
        self._entries[entry.name] = entry
        return entry

    def get(self, name: str) -> Entry:
        """Returns the entry of that name; an unknown one is a ConfigError with the nearest known name."""
        self._load_plugins()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry]:
        self._load_plugins()
        return iter([self._entries[name] for name in sorted(self._entries)])

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=f"cytolora.{self.kind}s"):
            self.add(point.load())
