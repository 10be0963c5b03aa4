"""Marks of a setting: findings that a reader must know before its numbers are compared, each with a short tag."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from statistics import fmean

from cytolora.config.run import PAPER
from cytolora.core.findings import Finding, finding
from cytolora.data.grouping import GROUPS_UNKNOWN, SPLIT_BY_IMAGE
from cytolora.display import format as words
from cytolora.reporting.results.rates import edge
from cytolora.reporting.results.settings import Setting

CONFOUNDED = "class confounded with source"
_OF_DATA = {
    "groups-suspected": "groups suspected",
    "class-is-its-source": CONFOUNDED,
    "copies-torn": "copies torn",
    "corrected-test-labels": "corrected test labels",
}
"""Tags of findings of the data, by the name of their kind, that travel with every number."""
_OF_GROUPS = {SPLIT_BY_IMAGE: "D508", GROUPS_UNKNOWN: "D506"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One finding about a setting."""

    code: str
    """That of its kind in the list of findings."""
    tag: str
    text: str

    @property
    def finding(self) -> Finding:
        """The same as a finding."""
        return finding(self.code, self.text)


def marks(setting: Setting) -> tuple[Mark, ...]:
    """Lists the marks of a setting, the gravest first; each tag once."""
    found: dict[str, Mark] = {}
    for mark in _marks(setting):
        found.setdefault(mark.tag, mark)
    return tuple(found.values())


def _marks(setting: Setting) -> Iterator[Mark]:
    adapter = setting.spec.adapter
    if adapter is not None and adapter.reference_attention_bug:
        text = (
            "WRONG ON PURPOSE: attention as in the paper's public code (heads not split, tokens and channels mixed up, "
            "no output projection), to measure its effect. No result of this model."
        )
        yield Mark(code="N801", tag="wrong attention", text=text)
    yield from _progress(setting)
    yield from _training(setting)
    if setting.spec.preset != PAPER:
        text = f"Preset {setting.spec.preset}: views, augmentation, steps or models are not those of the paper's text."
        yield Mark(code="N802", tag="preset", text=text)
    yield from _division(setting)
    repeated = setting.worst("num_repeated")
    if repeated:
        text = f"A class has fewer images than asked for: {words.count(repeated, 'training image')} drawn again."
        yield Mark(code="N810", tag="repeated", text=text)
    yield from _rates(setting)
    yield from _intervals(setting)


def _progress(setting: Setting) -> Iterator[Mark]:
    if setting.rate is None:
        seeds = words.listed([str(seed) for seed in setting.seeds])
        text = f"No learning rate has been run with all seeds ({seeds}) without diverging; none could be chosen."
        yield Mark(code="N813", tag="missing", text=text)
    elif not setting.tested:
        found = setting.val("accuracy", setting.rate)
        val = f"; validation accuracy at the chosen rate is {words.percent(found.mean)} %" if found else ""
        yield Mark(code="N814", tag="validation only", text=f"The test set is not scored yet{val}.")
    elif len(setting.tested) < len(setting.seeds):
        text = f"The test set is scored for {len(setting.tested)} of {words.count(len(setting.seeds), 'seed')}."
        yield Mark(code="N815", tag="incomplete", text=text)


def _training(setting: Setting) -> Iterator[Mark]:
    """What shows that training cannot have learned, or did not."""
    max_steps = setting.spec.max_steps
    if max_steps is not None:
        text = f"The budget was cut to {words.count(max_steps, 'step')} a run: a dry run, no result."
        yield Mark(code="N803", tag="cut", text=text)
    if setting.ends_in_warm_up:
        steps, warm_up = setting.num_steps, setting.num_warmup_steps
        text = f"Training ends after {words.count(steps, 'step')}, within its warm-up of {warm_up}: no result."
        yield Mark(code="N804", tag="ends in warm-up", text=text)
    found = setting.evaluation
    if found is not None and sum(number > 0 for number in found.class_counts) > 1 and 1 in found.num_named:
        seeds = f"{found.num_named.count(1)} of {words.count(len(found.num_named), 'seed')}"
        yield Mark(code="N805", tag="one class named", text=f"One class is named for every test image, by {seeds}.")
    losses = [loss for run in setting.chosen if (loss := run.metrics["train"].get("final_loss")) is not None]
    guess = log(len(setting.runs[0].provenance["classes"]))
    if losses and fmean(losses) >= guess:
        text = f"The training loss ended at {fmean(losses):.3f} nats; guessing all classes alike has {guess:.3f}."
        yield Mark(code="N806", tag="loss did not fall", text=text)


def _division(setting: Setting) -> Iterator[Mark]:
    """What keeps the test set from being one of new patients."""
    for tag, text in setting.group_warnings.items():
        yield Mark(code=_OF_GROUPS[tag], tag=tag, text=text)
    for one in setting.runs[0].provenance.get("findings") or ():
        if (tag := _OF_DATA.get(one.get("name", ""))) is not None:
            yield Mark(code=one["code"], tag=tag, text=one["text"])
    if setting.evaluation is not None and setting.evaluation.confounded:
        names = words.listed(list(setting.evaluation.confounded))
        text = (
            f"Test groups (patients, slides or fields) of {names} hold no other class, those of other classes do: a "
            "classifier that knows the source is right without seeing the cell."
        )
        yield Mark(code="N841", tag=CONFOUNDED, text=text)


def _rates(setting: Setting) -> Iterator[Mark]:
    retested = sorted({run.spec["learning_rate"] for run in setting.runs if run.metrics["test"]} - {setting.rate})
    if retested and setting.rate is not None:
        rates = words.listed([words.rate(rate) for rate in retested])
        text = f"The test set was scored at {rates} too: it was not opened once only."
        yield Mark(code="N809", tag="retested", text=text)
    if setting.diverged:
        rates = words.listed([words.rate(rate) for rate in setting.diverged])
        text = f"Training diverged at learning rate {rates}, which did not compete."
        yield Mark(code="N807", tag="diverged", text=text)
    if (side := edge(setting)) is not None:
        text = f"The chosen learning rate is the {side} of the {len(setting.rates)} tried: a wider grid may do better."
        yield Mark(code="N808", tag="rate at the edge", text=text)


def _intervals(setting: Setting) -> Iterator[Mark]:
    if setting.intervals:
        for tag, text in setting.intervals["accuracy"].warnings.items():
            code = "N811" if tag in ("few groups", "few images") else "N812"
            yield Mark(code=code, tag=tag, text=text)
