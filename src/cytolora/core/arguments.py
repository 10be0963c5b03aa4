"""Argument conversion of the Python interface: paths, devices, one or many; everything below holds one type.

A path is ``str | Path``, a device ``str | torch.device``, and "one or many" one value or any iterable of them: a text
is one value, never its letters. Anything else is a ConfigError.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from cytolora.errors import ConfigError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Given = TypeVar("Given")
Held = TypeVar("Held")

AnyPath = str | Path
OneOrMany = Item | Iterable[Item]
_MISSING: Any = object()
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.*", re.DOTALL)


def as_path(value: AnyPath, name: str = "The path") -> Path:
    """Returns a path as ``Path``; ``name`` stands in the error."""
    if isinstance(value, str | Path) and str(value):
        return Path(value)
    raise ConfigError(f"{name} is a path, str or pathlib.Path, got {_shown(value)}.")


def as_path_or_none(value: AnyPath | None, name: str = "The path") -> Path | None:
    """Like ``as_path`` for an argument that may be left out."""
    return None if value is None else as_path(value, name)


def as_paths(value: OneOrMany[AnyPath], name: str = "Paths") -> tuple[Path, ...]:
    """Returns one path or many."""
    return tuple(as_path(path, name) for path in _many(value, str | Path, name))


def is_url(value: str | Path) -> bool:
    """Whether this is a URL, which ``Path`` would change."""
    return isinstance(value, str) and _URL.fullmatch(value) is not None


def as_places(value: OneOrMany[AnyPath], name: str = "Paths") -> tuple[AnyPath, ...]:
    """Returns one path or many; URLs as they are."""
    return tuple(place if is_url(place) else as_path(place, name) for place in _many(value, str | Path, name))


def as_named_paths(value: Mapping[str, AnyPath] | None, name: str = "Paths by name") -> dict[str, Path]:
    """Returns paths by name; none of them for None."""
    if not isinstance(value, Mapping | None):
        raise ConfigError(f"{name} is a mapping such as {{'herlev': 'smear2005'}}, got {_shown(value)}.")
    return {key: as_path(path, f"{name}: {key}") for key, path in (value or {}).items()}


def as_names(value: OneOrMany[str], name: str = "Names") -> tuple[str, ...]:
    """Returns one name or many."""
    return _many(value, str, name)


def as_numbers(value: OneOrMany[float], name: str = "Numbers") -> tuple[float, ...]:
    """Returns one number or many."""
    return tuple(float(number) for number in _many(value, Real, name))


def as_whole_numbers(value: OneOrMany[int], name: str = "Whole numbers") -> tuple[int, ...]:
    """Returns one whole number or many."""
    return tuple(int(number) for number in _many(value, Integral, name))


def check_count(value: object, name: str) -> None:
    """Raises a ConfigError unless this is a whole number of at least 1."""
    if not isinstance(value, Integral):
        raise ConfigError(f"{name} is a whole number, got {_shown(value)}.")
    if int(value) < 1:
        raise ConfigError(f"{name} is at least 1, got {value}.")


def as_device(value: "str | torch.device | None", name: str = "The device") -> "torch.device":
    """Returns a device that is on this machine; None: the CPU, ``auto``: CUDA, else Apple's GPU (MPS), else the CPU.

    No run on MPS was measured; an operation that it lacks ends in torch's own error.

    Raises:
        ConfigError: If there is none of that name here.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if value is None:
        return torch.device("cpu")
    if isinstance(value, str) and value == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(value) if isinstance(value, str | torch.device) else None
    except RuntimeError:  # its message lists every device that torch was ever built for
        device = None
    if device is None:
        raise ConfigError(f"{name} is auto, cpu, cuda, mps, or one of several such as cuda:1, got {_shown(value)}.")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}
    if (device.index or 0) >= count.get(device.type, 0):
        raise ConfigError(f"No {device} device on this machine. Use --device cpu, or auto.")
    return device


class Converted(Generic[Given, Held]):
    """Field of a frozen dataclass that converts the value of a user to the type of the package.

    Example::

        data: Converted[Mapping[str, AnyPath], Mapping[str, Path]] = Converted(as_named_paths)
    """

    def __init__(self, convert: Callable[[Given, str], Held], default: Given = _MISSING) -> None:
        self._convert, self._default = convert, default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Held: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is not None:
            return instance.__dict__[self._name]
        if self._default is _MISSING:
            raise AttributeError(self._name)  # tells dataclass that the field has no default
        return self._default

    def __set__(self, instance: object, value: Given) -> None:
        instance.__dict__[self._name] = self._convert(value, self._name)


def _many(value: Any, kind: Any, name: str) -> tuple[Any, ...]:
    if isinstance(value, kind):
        return (value,)
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, bytes | str) else (value,)
    for item in items:
        if not isinstance(item, kind):
            raise ConfigError(f"{name}: expected one or many of type {_kind(kind)}, got {_shown(item)}.")
    return items


def _kind(kind: Any) -> str:
    return {Real: "float", Integral: "int"}.get(kind) or getattr(kind, "__name__", str(kind))


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:60] + '…'} ({type(value).__name__})"
