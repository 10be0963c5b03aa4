"""The methods paragraph of a report: facts of the stored runs as sentences, with the keys of its references."""

from collections.abc import Iterator

from cytolora.reporting.manuscript.facts import Known, gather
from cytolora.reporting.manuscript.references import cite, of_backbone, of_dataset, of_training
from cytolora.reporting.manuscript.references import references as all_references

_HEADING = (
    "# Methods, from the stored runs\n\nFacts to write from; no sentence here says why. Keys in brackets are those of "
    "`references.bib` as Pandoc reads them.\n"
)


def to_markdown(known: Known) -> str:
    """Returns a paragraph each on data, models and methods, selection, statistics and software."""
    paragraphs = (" ".join(_sentence(text) for text in part(known) if text) for part in _PARTS)
    return "\n".join([_HEADING, *(f"{text}\n" for text in paragraphs if text)])


def _data(known: Known) -> Iterator[str]:
    for section in known.sections:
        name, facts = section.settings[0].spec.dataset, section.facts
        yield f"**Data.** {facts.name}{cite(of_dataset(name))} with {len(facts.classes)} classes"
        yield f"Division: {facts.split_rule}; groups: {facts.group_rule}"
        yield f"Fingerprint of the data: `{facts.fingerprint[:16]}`"
    yield from (fact.text for fact in gather(["sizes"], known))


def _models(known: Known) -> Iterator[str]:
    backbones = dict.fromkeys(one.model for one in known.settings)
    yield "**Models and methods.** Backbones: " + "; ".join(f"{name}{cite(of_backbone(name))}" for name in backbones)
    yield from (f"As loaded: {fact.text}" for fact in gather(["models"], known))
    methods = dict.fromkeys(f"{one.spec.method}{cite(of_training(one.spec))}" for one in known.settings)
    yield f"Methods: {'; '.join(methods)}"
    yield from (f"As trained: {fact.text}" for fact in gather(["methods"], known))


def _selection(known: Known) -> Iterator[str]:
    first, *others = (fact.text for fact in gather(["tuning", "sampling", "seeds"], known))
    yield f"**Selection.** {first}"
    yield from others


def _statistics(known: Known) -> Iterator[str]:
    first, *others = (fact.text for fact in gather(["measures", "clusters"], known))
    yield f"**Statistics.** {first}"
    yield from others


def _software(known: Known) -> Iterator[str]:
    paper = cite(all_references(())[:1])
    yield f"**Software.** cytolora, an implementation of the protocol of Dausort et al.{paper}"
    yield from (fact.text for fact in gather(["software", "runs"], known))


_PARTS = (_data, _models, _selection, _statistics, _software)


def _sentence(text: str) -> str:
    """Ends it; its first word may be a name, which keeps its letters."""
    return text if text.endswith(".") else f"{text}."
