"""Exceptions that users meet, as one small tree.

    CytoloraError             base: the command line prints it as one line and exits with 2
    ├── ConfigError           a name, value or file of settings that the user wrote (also a ValueError)
    ├── DataError             images, folders, tables of labels
    ├── WeightsError          checkpoint files and the encoders built from them
    ├── StoreError            stored runs: damaged, stale or in the way
    │   └── ReplacedError     a stored run that another process replaced while it was read
    ├── EngineError           a cluster that cannot be reached, or whose workers die
    └── BundleError           a trained classifier that is damaged, was changed, or lacks its backbone

Every message says what was found, what was expected and what to do next.
"""

import copyreg
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar


class CytoloraError(Exception):
    """Something that the user can change; never a fault of the program."""

    may_pass: bool = False
    """Whether the same data and weights may not give it again; see ``passing``."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles what it holds: workers send errors whose class takes other arguments than its text."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__ or None  # pyright: ignore[reportAttributeAccessIssue]


class ConfigError(CytoloraError, ValueError):
    """A wrong name, value or key."""


class DataError(CytoloraError):
    """An image, folder or table of labels that cannot be used."""


class WeightsError(CytoloraError):
    """A checkpoint that is missing, damaged or of another model."""


class StoreError(CytoloraError):
    """A stored run that cannot be read, or may not be overwritten."""


class ReplacedError(StoreError):
    """A stored run that another process replaced or removed while it was in use."""


class EngineError(CytoloraError):
    """Workers that cannot be started, or that die again and again."""


class BundleError(CytoloraError):
    """A bundle that is not as it was written, or that another backbone belongs to."""


_Error = TypeVar("_Error", bound=CytoloraError)


def passing(error: _Error) -> _Error:
    """Marks an error of data or weights that lies in something else: a disk, a machine, a file beside them."""
    error.may_pass = True
    return error


def nearest_name(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Returns the known name that was probably meant: one that begins as typed, in any case, else the most alike.

    Args:
        cutoff: Similarity from which another name is alike, in [0, 1] (``difflib``).
    """
    names = sorted(known)
    longer = [other for other in names if len(name) > 1 and other.casefold().startswith(name.casefold())]
    alike = get_close_matches(name, names, n=1, cutoff=cutoff)
    return min(longer, key=len) if longer else next(iter(alike), None)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Builds the error for a name that no registry holds, with the nearest known one."""
    names = sorted(known)
    near = nearest_name(name, names)
    hint = f" Did you mean {near!r}?" if near else ""
    return ConfigError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")


def how_to_install(extra: str = "") -> str:
    """Words the installation from a clone or a wheel: no package index has cytolora, so its name alone is anyone's."""
    extras = f"[{extra}]" if extra else ""
    return f"`pip install '.{extras}'` in a clone of cytolora, or `pip install 'FILE.whl{extras}'` with its wheel"


def missing_package(needs: str, package: str, *, extra: str, error: ImportError | None = None) -> ConfigError:
    """Builds the error for a package of an extra that cannot be used; ``needs`` is who needs it, with the verb.

    Args:
        error: Of the import. A package that is there and does not load, as where memory is short, is not "not
            installed"; one that lacks another package is told by that one's name.
    """
    if error is not None and not isinstance(error, ModuleNotFoundError):
        reason = " ".join(str(error).split()).rstrip(".")
        return ConfigError(
            f"{needs} {package}, which is installed and cannot be loaded: {reason}. Free memory if it is short; else "
            "install the package again."
        )
    return ConfigError(
        f"{needs} {package}, which is not installed. Install the extra `{extra}`: {how_to_install(extra)}."
    )
