"""Reporting checklists filled from stored runs: what the runs know and where it stands; the rest is for the authors."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from cytolora.config.yaml import read_spec
from cytolora.display import format as words
from cytolora.errors import unknown_name
from cytolora.reporting.manuscript.facts import FACTS, Fact, Known, gather
from cytolora.reporting.tables.tables import to_csv

Checklist = Literal["tripod-ai", "claim-2024", "stard-ai"]
CHECKLISTS: tuple[Checklist, ...] = get_args(Checklist)
AUTHOR = "AUTHOR"
"""What stands where only the authors can answer."""
COLUMNS = ("item", "about", "state", "said", "where", "author")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A line of a checklist."""

    id: str
    about: str
    """In our own words."""
    facts: tuple[str, ...] = ()
    """Names in ``FACTS``."""
    author: str = ""
    """What the authors have to add to the facts; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A checklist as it comes with the package."""

    title: str
    source: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A filled line."""

    item: Item
    facts: tuple[Fact, ...]

    @property
    def state(self) -> Literal["reported", "partly", "AUTHOR"]:
        """``reported`` where the runs know all of it, ``partly`` where the authors add to it, else ``AUTHOR``."""
        if not self.facts:
            return AUTHOR
        return "partly" if self.item.author else "reported"

    @property
    def asked(self) -> str:
        """What the authors are asked for; empty where nothing is missing."""
        if self.state == AUTHOR:
            return f"{AUTHOR}: to be written"
        return f"{AUTHOR}: {self.item.author}" if self.item.author else ""


def named(names: Sequence[str]) -> tuple[Checklist, ...]:
    """Returns the checklists that are called so, each once.

    Raises:
        ConfigError: If there is none of that name.
    """
    for name in names:
        if name not in CHECKLISTS:
            raise unknown_name("checklist", name, CHECKLISTS)
    return tuple(one for one in CHECKLISTS if one in names)


def load(name: Checklist) -> Template:
    """Reads a checklist that comes with the package."""
    return read_spec(Path(str(files("cytolora.reporting.manuscript") / "checklists" / f"{name}.yaml")), Template)


def fill(template: Template, known: Known) -> list[Answer]:
    """Answers every item from what the runs know; nothing is answered that they do not."""
    told = {name: gather([name], known) for name in FACTS}
    return [Answer(item=one, facts=tuple(fact for name in one.facts for fact in told[name])) for one in template.items]


def to_rows(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Returns a row per item, with ``COLUMNS``."""
    return [
        {
            "item": one.item.id,
            "about": one.item.about,
            "state": one.state,
            "said": ". ".join(fact.text for fact in one.facts),
            "where": "; ".join(dict.fromkeys(fact.where for fact in one.facts)),
            "author": one.asked,
        }
        for one in answers
    ]


def to_markdown(template: Template, answers: Sequence[Answer]) -> str:
    """Returns the checklist as a page; its facts stand in the report's files, which it names."""
    states = [one.state for one in answers]
    whole, partly, none = (states.count(state) for state in ("reported", "partly", AUTHOR))
    lines = [
        f"# {template.title}",
        "",
        f"{template.source} Items in our own words.",
        "",
        f"Of {words.count(len(answers), 'item')} the runs answer {whole}, and {partly} in part. "
        f"{none} are for the authors. An answer says what was done, not that it suffices.",
        "",
        "| Item | About | What the runs know | Where | Missing |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in to_rows(answers):
        cells = (words.escape_markdown(row[name]) for name in ("item", "about", "said", "where", "author"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def to_table(answers: Sequence[Answer]) -> str:
    """Returns the checklist as CSV."""
    return to_csv(to_rows(answers), COLUMNS)
