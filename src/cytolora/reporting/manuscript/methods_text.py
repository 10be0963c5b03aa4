"""The methods paragraph of a report: facts of the stored runs as sentences, with the keys of its references."""

import re
from collections.abc import Iterable, Iterator

from cytolora.display.format import escape_markdown
from cytolora.reporting.manuscript.bibtex import Reference, keys_of
from cytolora.reporting.manuscript.facts import Known, gather
from cytolora.reporting.manuscript.references import cite, of_backbone, of_dataset, of_training
from cytolora.reporting.manuscript.references import references as all_references

_HEADING = (
    "# Methods, from the stored runs\n\nFacts to write from; no sentence here says why. Keys in brackets are those of "
    "`references.bib` as Pandoc reads them.\n"
)


class _Text:
    """Facts as sentences of Markdown: what stands in them is text, and their references are citations."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self._keys = keys_of(all_references(known.settings))

    def cited(self, name: str, found: Iterable[Reference]) -> str:
        """A name, and what it is to be cited by."""
        return f"{_plain(name)}{cite(found, self._keys)}"

    def told(self, *names: str) -> list[str]:
        """Facts by their names, as far as they are known."""
        return [_plain(fact.text) for fact in gather(names, self.known)]


def to_markdown(known: Known) -> str:
    """Returns a paragraph each on data, models and methods, selection, statistics and software."""
    text = _Text(known)
    paragraphs = (" ".join(_sentence(one) for one in part(text) if one) for part in _PARTS)
    return "\n".join([_HEADING, *(f"{one}\n" for one in paragraphs if one)])


def _plain(text: str) -> str:
    """Escapes what Markdown would read, and Pandoc beyond it: citations, and raised letters."""
    return re.sub(r"(\^|(?<!\w)@)", r"\\\1", escape_markdown(text))


def _data(text: _Text) -> Iterator[str]:
    for section in text.known.sections:
        name, facts = section.settings[0].spec.dataset, section.facts
        yield f"**Data.** {text.cited(facts.name, of_dataset(name))} with {len(facts.classes)} classes"
        yield f"Division: {_plain(facts.split_rule)}; groups: {_plain(facts.group_rule)}"
        yield f"Fingerprint of the data: `{facts.fingerprint[:16]}`"
    yield from text.told("sizes")


def _models(text: _Text) -> Iterator[str]:
    settings = text.known.settings
    backbones = dict.fromkeys(one.model for one in settings)
    yield "**Models and methods.** Backbones: " + "; ".join(text.cited(name, of_backbone(name)) for name in backbones)
    yield from (f"As loaded: {fact}" for fact in text.told("models"))
    methods = dict.fromkeys(text.cited(one.spec.method, of_training(one.spec)) for one in settings)
    yield f"Methods: {'; '.join(methods)}"
    yield from (f"As trained: {fact}" for fact in text.told("methods"))


def _selection(text: _Text) -> Iterator[str]:
    first, *others = text.told("tuning", "sampling", "seeds")
    yield f"**Selection.** {first}"
    yield from others


def _statistics(text: _Text) -> Iterator[str]:
    first, *others = text.told("measures", "clusters")
    yield f"**Statistics.** {first}"
    yield from others


def _software(text: _Text) -> Iterator[str]:
    paper = all_references(())[:1]
    yield f"**Software.** {text.cited('cytolora, an implementation of the protocol of Dausort et al.', paper)}"
    yield from text.told("software", "runs")


_PARTS = (_data, _models, _selection, _statistics, _software)


def _sentence(text: str) -> str:
    """Ends it; its first word may be a name, which keeps its letters."""
    return text if text.endswith(".") else f"{text}."
