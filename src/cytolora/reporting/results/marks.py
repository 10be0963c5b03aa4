"""Remarks on a setting that a reader must know before comparing it: a short tag, and a sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

from cytolora.config.run import PAPER
from cytolora.display import format as words
from cytolora.reporting.results.settings import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One remark on a setting."""

    tag: str
    text: str


def marks(setting: Setting) -> tuple[Mark, ...]:
    """Lists the remarks on a setting, the gravest first."""
    return tuple(_marks(setting))


def _marks(setting: Setting) -> Iterator[Mark]:
    adapter = setting.spec.adapter
    if adapter is not None and adapter.reference_attention_bug:
        text = (
            "WRONG ON PURPOSE: attention as in the paper's public code (heads not split, tokens and channels mixed up, "
            "no output projection), to measure its effect. No result of this model."
        )
        yield Mark(tag="wrong attention", text=text)
    yield from _progress(setting)
    if setting.spec.preset != PAPER:
        text = f"Preset {setting.spec.preset}: views, augmentation, steps or models are not those of the paper's text."
        yield Mark(tag="preset", text=text)
    max_steps = setting.spec.train.budget.max_steps
    if max_steps is not None:
        yield Mark(
            tag="cut", text=f"The budget was cut to {words.count(max_steps, 'step')} a run: a dry run, no result."
        )
    for tag, text in setting.group_warnings.items():
        yield Mark(tag=tag, text=text)
    repeated = setting.worst("num_repeated")
    if repeated:
        text = f"A class has fewer images than asked for: {words.count(repeated, 'training image')} drawn again."
        yield Mark(tag="repeated", text=text)
    retested = sorted({run.spec["learning_rate"] for run in setting.runs if run.metrics["test"]} - {setting.rate})
    if retested and setting.rate is not None:
        rates = words.listed([words.rate(rate) for rate in retested])
        yield Mark(tag="retested", text=f"The test set was scored at {rates} too: it was not opened once only.")
    if setting.diverged:
        rates = words.listed([words.rate(rate) for rate in setting.diverged])
        yield Mark(tag="diverged", text=f"Training diverged at learning rate {rates}, which did not compete.")
    if len(setting.rates) > 2 and setting.rate in (setting.rates[0], setting.rates[-1]):
        side = "lowest" if setting.rate == setting.rates[0] else "highest"
        yield Mark(tag="edge", text=f"The chosen learning rate is the {side} of the grid: a wider grid may do better.")
    if setting.intervals:
        for tag, text in setting.intervals["accuracy"].warnings.items():
            yield Mark(tag=tag, text=text)


def _progress(setting: Setting) -> Iterator[Mark]:
    if setting.rate is None:
        seeds = words.listed([str(seed) for seed in setting.seeds])
        text = f"No learning rate has been run with all seeds ({seeds}) without diverging; none could be chosen."
        yield Mark(tag="missing", text=text)
    elif not setting.tested:
        found = setting.val("accuracy", setting.rate)
        val = f"; validation accuracy at the chosen rate is {words.percent(found.mean)} %" if found else ""
        yield Mark(tag="validation only", text=f"The test set is not scored yet{val}.")
    elif len(setting.tested) < len(setting.seeds):
        text = f"The test set is scored for {len(setting.tested)} of {words.count(len(setting.seeds), 'seed')}."
        yield Mark(tag="incomplete", text=text)
