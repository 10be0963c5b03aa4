"""Label maps of pools: from the classes of several datasets to the categories of one system of reporting."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from cytolora.config.budget import CLOSED
from cytolora.config.yaml import parse_spec, read_yaml
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.schema import FILE_NAME, check_fields
from cytolora.core.text import matching, normal
from cytolora.errors import ConfigError, unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where one class of a dataset goes."""

    to: str
    """A category; empty: images of the class are left out."""
    source: str = ""
    """Key of ``PoolMap.sources``."""
    note: str = ""

    __pydantic_config__ = CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMap:
    """Categories, and the classes of datasets that belong to them."""

    categories: Mapping[str, str]
    """By what stands in tables, in order: the name in full."""
    title: str = ""
    source: str = ""
    """Of the categories: a key of ``sources``."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Citations by key."""
    datasets: Mapping[str, Mapping[str, str | Line]] = field(default_factory=dict)
    """By dataset and class; a text is the category alone."""
    coarsens: str = ""
    """A shipped map whose lines are taken over, each to the category that ``to`` names; own lines go before."""
    to: Mapping[str, str] = field(default_factory=dict)
    """By category of the map that is coarsened."""
    name: str = ""
    """That of the shipped map, or of the file without its suffix."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if not self.categories:
            raise ConfigError("categories is empty; name two or more.")
        for label in self.categories:
            if not normal(label) or label != normal(label):
                raise ConfigError(f"categories: {label!r} is no name of a category.")
        forms: dict[str, str] = {}
        for label in self.categories:
            if (other := forms.setdefault(_plain(label), label)) != label:
                raise ConfigError(f"categories: {other!r} and {label!r} are one name; rename one of them.")
        if self.source and self.source not in self.sources:
            raise ConfigError(f"source: {self.source!r} is none of the sources {', '.join(self.sources) or '(none)'}.")
        lines = {dataset: {one: _line(line) for one, line in own.items()} for dataset, own in self.datasets.items()}
        object.__setattr__(self, "datasets", lines)
        for dataset, own in lines.items():
            for label, line in own.items():
                _check_line(self, f"datasets.{dataset}.{label}", line)
        for label, target in self.to.items():
            _check_line(self, f"to.{label}", Line(to=target))
        if bool(self.to) != bool(self.coarsens):
            raise ConfigError("coarsens and to go together: the map, and where each of its categories goes.")

    def lines(self, dataset: str) -> Mapping[str, Line]:
        """Returns the lines of a dataset, whatever its label set; none where the map does not know it."""
        lines = self.datasets.get(dataset, self.datasets.get(dataset.partition(":")[0], {}))
        return lines  # pyright: ignore[reportReturnType]

    def category(self, label: str) -> str | None:
        """Returns the category that a class is called like, by its short name or in full."""
        short = matching(label, self.categories) or _folded(label, {one: one for one in self.categories})
        return short or _folded(label, {full: one for one, full in self.categories.items()})


def shipped_maps() -> dict[str, Path]:
    """Returns the label maps that come with the package, by name."""
    folder = Path(str(files("cytolora.data") / "label_maps"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_pool_map(name_or_path: AnyPath) -> PoolMap:
    """Reads a shipped label map by name, or a YAML file.

    Raises:
        ConfigError: If there is no such map, or it has wrong keys, or a line leads to no category.
    """
    shipped, path = shipped_maps(), as_path(name_or_path, "The label map")
    if str(name_or_path) in shipped:
        path = shipped[str(name_or_path)]
    elif path.suffix not in (".yaml", ".yml"):
        raise unknown_name("label map (or a YAML file)", str(name_or_path), shipped)
    read = parse_spec(read_yaml(path), PoolMap, str(path))
    if read.name:
        raise ConfigError(f"{path} has a 'name'; leave it out: a label map is called like its file.")
    read = replace(read, name=path.stem)
    check_fields(read, {"name": FILE_NAME})
    return _coarsened(read, path) if read.coarsens else read


def _coarsened(own: PoolMap, path: Path) -> PoolMap:
    """Adds the lines of the finer map."""
    if own.coarsens == own.name or own.coarsens not in shipped_maps():
        others = {name for name in shipped_maps() if name != own.name}
        raise unknown_name(f"label map that {path} coarsens:", own.coarsens, others)
    finer = read_pool_map(own.coarsens)
    for label in own.to:
        if label not in finer.categories:
            raise unknown_name(f"category of {own.coarsens} in {path}:", label, finer.categories)
    datasets = {
        dataset: {
            **{label: replace(line, to=own.to.get(line.to, "")) for label, line in finer.lines(dataset).items()},
            **own.datasets.get(dataset, {}),
        }
        for dataset in (*finer.datasets, *(one for one in own.datasets if one not in finer.datasets))
    }
    return replace(own, datasets=datasets, sources={**finer.sources, **own.sources})


def _line(line: str | Line) -> Line:
    return Line(to=line) if isinstance(line, str) else line


def _check_line(own: PoolMap, where: str, line: Line) -> None:
    if line.to and line.to not in own.categories:
        raise ConfigError(f"{where}: {line.to!r} is none of the categories {', '.join(own.categories)}.")
    if line.source and line.source not in own.sources:
        raise ConfigError(f"{where}: {line.source!r} is none of the sources {', '.join(own.sources) or '(none)'}.")


def _folded(label: str, names: Mapping[str, str]) -> str | None:
    """Returns what stands beside the only name that differs by case, blanks, hyphens or underscores alone."""
    found = [short for name, short in names.items() if _plain(name) == _plain(label)]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return "".join(one for one in normal(name).casefold() if one not in " -_")
