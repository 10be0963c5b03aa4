"""Number formatting: percentages, intervals, durations, amounts of training images; escapes for Markdown and LaTeX."""

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from cytolora.config.method_kinds import MethodKind, method_kind

if TYPE_CHECKING:  # what prints a duration needs no numpy
    from cytolora.config.run import Budget
    from cytolora.metrics.intervals import Interval

_DURATIONS = ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600))
"""Below so many seconds, the unit and its seconds: two digits tell a difference, and no number has three."""


def percent(share: float, digits: int = 1) -> str:
    """0.7124 as ``71.2``."""
    return f"{100 * share:.{digits}f}"


def whole_percent(share: float) -> str:
    """0.025 as ``2.5 %``, 0.07 as ``7 %``: as many digits as it has, to a millionth of a percent."""
    return f"{round(100 * share, 6) + 0.0:.10g} %"  # + 0.0: no -0


def difference(share: float, other: float) -> str:
    """0.905 and 0.93 as ``−2.5``."""
    return f"{100 * (share - other):+.1f}".replace("-", "−")


def interval(bounds: "Interval | Mapping[str, Any] | None", digits: int = 1) -> str:
    """``65.0–77.1``, in percent, ``65.0–77.1 credible`` where it is that of a model; empty for None.

    Args:
        bounds: An interval, or ``low``, ``high`` and, if any, ``kind`` as metrics files hold them.
    """
    if bounds is None:
        return ""
    plain = bounds if isinstance(bounds, Mapping) else {"low": bounds.low, "high": bounds.high, "kind": bounds.kind}
    text = f"{percent(plain['low'], digits)}–{percent(plain['high'], digits)}"
    return f"{text} credible" if plain.get("kind") == "credible" else text


def with_interval(measured: Mapping[str, Any] | None) -> str:
    """``71.2 (65.0–77.1)``, in percent, of ``value``, ``low`` and ``high``; a dash for None, where nothing counts."""
    return "–" if measured is None else f"{percent(measured['value'])} ({interval(measured)})"


def member_cells(row: Mapping[str, Any]) -> list[str]:
    """A member of an ensemble: method, weight, balanced accuracy, how much higher the ensemble scores, and p (Holm)."""
    apart = row["difference"]["balanced_accuracy"]
    low, high = (difference(apart["interval"][end], 0) for end in ("low", "high"))
    return [
        row["method"],
        f"{row['weight']:.2f}",
        percent(row["balanced_accuracy"]),
        f"{difference(apart['value'], 0)} ({low} to {high})",
        f"{apart['p_holm']:.2g}",
    ]


def over_divisions_in_words(found: Mapping[str, Any]) -> str:
    """``71.2 ± 3.0 (divisions) ± 1.4 (seeds) [65.0–77.1]``, in percent, of a plain ``OverDivisions``."""
    text = f"{percent(found['mean'])} ± {percent(found['std_divisions'])} (divisions)"
    if found["std_seeds"] is not None:
        text += f" ± {percent(found['std_seeds'])} (seeds)"
    return text if found["low"] is None else f"{text} [{percent(found['low'])}–{percent(found['high'])}]"


def amount(shots: int | None, fraction: float | None) -> str:
    """``4 shots``, ``10 %`` or ``all``."""
    if shots is not None:
        return "1 shot" if shots == 1 else f"{shots} shots"
    return "all" if fraction is None else whole_percent(fraction)


def kind_of(name: str) -> MethodKind:
    """Kind of a method by its name in a table, such as ``lora (preset paper-code-2024)``."""
    return method_kind(name.split(" ")[0])


def rate(value: float | None) -> str:
    """A learning rate without needless digits; empty for None and for 0, where nothing is trained."""
    return f"{value:g}" if value else ""


def thousands(count: int) -> str:
    """12345 as ``12,345``."""
    return f"{count:,}"


def count(number: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{thousands(number)} {noun if number == 1 else plural}"


def listed(names: list[str] | tuple[str, ...], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``; ``last`` stands before the last name."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def budget(spec: "Budget") -> str:
    """``100 epochs``, ``50 × shots + 50 steps``, ``… cut to 2 steps``."""
    text = f"{spec.amount} epochs" if spec.unit == "epochs" else f"{spec.amount} × shots"
    if spec.plus_steps:
        text += f" + {spec.plus_steps} steps"
    elif spec.unit == "steps_per_shot":
        text += " steps"
    if spec.early_stopping is not None:
        text += f", early stopping (patience {count(spec.early_stopping.patience, 'epoch')}"
        text += f" after {spec.early_stopping.uncounted_epochs})"
    return text if spec.max_steps is None else f"{text}, cut to {count(spec.max_steps, 'step')}"


def duration(seconds: float | None) -> str:
    """A duration with two significant digits: ``0.84 s``, ``45 s``, ``2.5 min``, ``3.1 h``, ``12 days``.

    Empty for None, ``< 0.1 s`` below that.
    """
    if seconds is None:
        return ""
    if seconds < 0.1:
        return "< 0.1 s"
    for limit, unit, size in _DURATIONS:
        if seconds < limit:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds / 86400)} days"


def about(seconds: float) -> str:
    """An estimated duration: ``about 2.5 min``, ``less than 1 s``."""
    return "less than 1 s" if seconds < 1 else f"about {duration(seconds)}"


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


def escape_markdown(text: str) -> str:
    """Escapes what Markdown or HTML would read, in one line; an underscore inside a word is none of it."""
    return re.sub(r"([|\\`*~$\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", escape(" ".join(text.split()), quote=False))


def escape_latex(text: str) -> str:
    """Escapes what LaTeX would read."""
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: named.get(found[0], "\\" + found[0]), text)
