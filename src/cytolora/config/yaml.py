"""Reading of specs from YAML; every wrong key and value is listed at once."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cytolora.config.grid import GridSpec
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.schema import shown
from cytolora.core.strict_yaml import MAX_CHARACTERS, read_yaml_text
from cytolora.errors import ConfigError, nearest_name, unknown_name

Spec = TypeVar("Spec")


def shipped_grids() -> dict[str, Path]:
    """Returns the grids that come with the package, by name."""
    folder = Path(str(files("cytolora.config") / "grids"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_grid(name_or_path: AnyPath) -> GridSpec:
    """Reads a shipped grid by name, or a YAML file.

    Raises:
        ConfigError: If there is no such grid, or it has wrong keys or values; all of them are listed.
    """
    shipped, path = shipped_grids(), as_path(name_or_path, "The grid")
    if str(name_or_path) in shipped:
        return read_spec(shipped[str(name_or_path)], GridSpec)
    if path.suffix not in (".yaml", ".yml"):
        raise unknown_name("grid", str(name_or_path), shipped)
    return read_spec(path, GridSpec)


def read_spec(path: Path, kind: type[Spec]) -> Spec:
    """Reads a YAML file as a spec of the given kind."""
    return parse_spec(read_yaml(path), kind, str(path))


def read_yaml(path: Path) -> Any:
    """Reads plain YAML; a missing file, a syntax error and what no spec needs (strict_yaml) are ConfigErrors."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    try:
        return read_yaml_text(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}.") from error


def parse_spec(plain: Any, kind: type[Spec], source: str) -> Spec:
    """Checks plain data against a spec; ``source`` names it in errors."""
    try:
        return _adapter(kind).validate_python(plain)
    except ValidationError as error:
        problems = [_problem(detail, kind) for detail in error.errors()]
        raise ConfigError(f"{source} is not valid: {'; '.join(problems)}.") from error


@cache
def _adapter(kind: type[Spec]) -> TypeAdapter[Spec]:
    return TypeAdapter(kind)


def _problem(detail: Any, kind: type) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "unexpected_keyword_argument":
        key = str(detail["loc"][-1])
        near = nearest_name(key, _keys(kind), cutoff=0.6)
        return f"unknown key {where!r}" + (f" (did you mean {near!r}?)" if near else "")
    if detail["type"] == "missing_argument" or detail["type"] == "missing":
        return f"{where} is missing"
    message = detail["msg"].removeprefix("Value error, ").rstrip(".")
    if detail["type"] == "value_error":  # of a check of ours, which names the field
        return f"{where}: {message}" if detail["loc"] else message
    return f"{where}: {message}, got {shown(detail['input'])}"


@cache
def _keys(kind: type) -> Iterable[str]:
    """Names of a spec's fields and of the specs inside it, for suggestions."""
    schema = _adapter(kind).json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {key for part in parts for key in part.get("properties", {})}
