"""Registry of named entries, built-in and from plug-ins, with one look-up."""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, Protocol, TypeVar

from cytolora.core.schema import is_file_name
from cytolora.errors import ConfigError, unknown_name


class Named(Protocol):
    """Anything that a registry can hold."""

    @property
    def name(self) -> str:
        """Unique among entries of its kind."""
        ...


Entry = TypeVar("Entry", bound=Named)


@cache
def plugin_names(kind: str) -> frozenset[str]:
    """Returns the names of the entry points of installed plug-ins of a kind; none of their code is loaded."""
    return frozenset(point.name for point in entry_points(group=f"cytolora.{kind}s"))


class Registry(Generic[Entry]):
    """Entries by name; those of installed plug-ins (entry-point group ``cytolora.<kind>s``) are loaded on first use.

    A plug-in that cannot be loaded hides no other entry: it is listed by ``problems``, and by the error for a name
    that is not known.
    """

    def __init__(self, kind: str, file_hint: str = "") -> None:
        """Makes an empty registry.

        Args:
            file_hint: Added to the error where a file (.yaml) is given in the place of a name.
        """
        self.kind, self.file_hint = kind, file_hint
        self._entries: dict[str, Entry] = {}
        self._problems: list[str] = []
        self._packages: dict[str, dict[str, str]] = {}
        self._plugins_loaded = False

    def add(self, entry: Entry) -> Entry:
        """Adds an entry; one whose name is taken, or no name for a file, is a ConfigError.

        Names that differ in case only are the same: they would be the same file on macOS and Windows.
        """
        self._check_name(entry.name)
        self._entries[entry.name] = entry
        return entry

    def put(self, entry: Entry) -> Entry:
        """Adds an entry in the place of any other of its name: for processes that work on behalf of another one."""
        self._load_plugins()
        self._entries[entry.name] = entry
        return entry

    def get(self, name: str, *, offered: Iterable[str] | None = None) -> Entry:
        """Returns the entry of that name; an unknown one is a ConfigError with the nearest known name.

        Args:
            offered: Names that the error proposes, where not every entry would do; all if None.
        """
        self._load_plugins()
        if name not in self._entries:
            if self.file_hint and name.lower().endswith((".yaml", ".yml")):
                raise ConfigError(f"Unknown {self.kind} {name!r}: it is a file, expected a name. {self.file_hint}")
            error = unknown_name(self.kind, name, self._entries if offered is None else offered)
            raise ConfigError(" ".join([str(error), *self._problems])) if self._problems else error
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry]:
        self._load_plugins()
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __contains__(self, name: str) -> bool:
        self._load_plugins()
        return name in self._entries

    def package_of(self, name: str) -> dict[str, str]:
        """Returns the version of the package that an entry is a plug-in of, by its name; empty for any other entry."""
        self._load_plugins()
        return self._packages.get(name, {})

    def problems(self) -> tuple[str, ...]:
        """Returns one sentence for each plug-in that cannot be loaded: its package and the error."""
        self._load_plugins()
        return tuple(self._problems)

    def _check_name(self, name: str) -> None:
        if not is_file_name(name):
            raise ConfigError(
                f"A {self.kind} cannot be named {name!r}: names are parts of file names on every platform. Use "
                "letters, digits, '-', '_' and '.'."
            )
        taken = {known.casefold(): known for known in self._entries}.get(name.casefold())
        if taken is not None:
            like = "" if taken == name else f", and {name!r} differs from it in case only"
            raise ConfigError(f"A {self.kind} named {taken!r} exists already{like}. Choose another name.")

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=f"cytolora.{self.kind}s"):
            try:
                name = self.add(point.load()).name
                if point.dist is not None:
                    self._packages[name] = {point.dist.name: point.dist.version}
            except Exception as error:  # code of others: whatever it raises, the rest must work
                self._problems.append(self._problem(point, error))

    def _problem(self, point: EntryPoint, error: Exception) -> str:
        package = point.dist.name if point.dist is not None else "unknown"
        why = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        return (
            f"The plug-in {self.kind} {point.name!r} of package {package} cannot be loaded ({why}). Update or "
            "uninstall the package."
        )
