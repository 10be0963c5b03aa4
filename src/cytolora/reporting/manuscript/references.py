"""References of a report: the paper, and what its datasets, backbones and methods ask to be cited by."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from cytolora.core.strict_yaml import read_yaml_text
from cytolora.data.datasets import find_dataset
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.reporting.manuscript.bibtex import Reference, read_citation

if TYPE_CHECKING:
    from cytolora.config.run import RunSpec
    from cytolora.reporting.results.settings import SettingRuns

PAPER = (
    "Dausort, Godelaine, Zanella, El Khoury, Salmon, Macq: Exploring Foundation Models Fine-Tuning for Cytology "
    "Classification. arXiv:2411.14975, ISBI (2025)."
)


@cache
def _of_methods() -> dict[str, str]:
    text = (files("cytolora.reporting.manuscript") / "method_references.yaml").read_text(encoding="utf-8")
    return read_yaml_text(text)


def of_dataset(name: str) -> list[Reference]:
    """Returns what a registered dataset asks to be cited by; nothing of one's own data."""
    try:
        return read_citation(find_dataset(name).citation)
    except ConfigError:  # a reader that another machine had
        return []


def of_backbone(name: str) -> list[Reference]:
    """Returns what a registered backbone asks to be cited by; nothing of one's own weights."""
    try:
        return read_citation(BACKBONES.get(name).citation)
    except ConfigError:
        return []


def of_method(name: str) -> list[Reference]:
    """Returns the work that introduced a method; nothing for linear classifiers and what a library documents."""
    return read_citation(_of_methods().get(name, ""))


def of_training(spec: "RunSpec") -> list[Reference]:
    """Returns the work that introduced the method of a run, and its adapter's start and towers where it has them."""
    adapter = spec.adapter
    start = [] if adapter is None else of_method(f"init {adapter.init}")
    both = [] if adapter is None or adapter.towers is None else of_method("both towers")
    return [*of_method(spec.method), *start, *both]


def references(settings: "Iterable[SettingRuns]") -> list[Reference]:
    """Returns the paper and all that the settings rest on, each once."""
    found = read_citation(PAPER)
    for setting in settings:
        found += of_dataset(setting.spec.dataset) + of_backbone(setting.model) + of_training(setting.spec)
    return list({one.work: one for one in found}.values())


def cite(found: Iterable[Reference], keys: Mapping[tuple[str, str], str]) -> str:
    """Returns the keys as Pandoc writes them, `` [@hu2021lora]``; empty where nothing is cited.

    Args:
        keys: ``bibtex.keys_of`` of all references of a report.
    """
    cited = "; ".join(f"@{keys[one.work]}" for one in found)
    return f" [{cited}]" if cited else ""
