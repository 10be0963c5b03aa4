"""Part of a trial of weights: what was tried, its verdict, what was found and what was expected."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cytolora.errors import ConfigError, CytoloraError

Verdict = Literal["passed", "failed", "not possible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One row of a trial."""

    name: str
    verdict: Verdict
    text: str
    """Found and expected, or why it is not possible here; one line."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Plain data."""


def judged(name: str, *, good: bool, text: str, figures: Mapping[str, Any]) -> Part:
    """Returns a part that passed or failed."""
    return Part(name=name, verdict="passed" if good else "failed", text=text, figures=figures)


def attempt(name: str, do: Callable[[], Part], *, needs: str = "") -> Part:
    """Does one part of a trial; whatever ends it is its verdict, and the other parts go on.

    A ``ConfigError`` means that something needed is not here (a package, a configuration): not possible.

    Args:
        needs: Why it is not even tried; empty: it is.
    """
    if needs:
        return Part(name=name, verdict="not possible", text=needs)
    try:
        return do()
    except ConfigError as error:
        return Part(name=name, verdict="not possible", text=" ".join(str(error).split()))
    except CytoloraError as error:
        return Part(name=name, verdict="failed", text=" ".join(str(error).split()))
    except Exception as error:  # a trial is there to say what breaks: of a GPU, a library or a file, anything may
        return Part(name=name, verdict="failed", text=" ".join(f"{type(error).__name__}: {error}".split())[:300])
