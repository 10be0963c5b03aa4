"""Flags: marks grave enough to stand beside a number in tables, files and figures."""

from collections.abc import Iterable, Sequence

from cytolora.data.grouping import GROUPS_UNKNOWN, SPLIT_BY_IMAGE
from cytolora.display import format as words
from cytolora.reporting.results.marks import CONFOUNDED, marks
from cytolora.reporting.results.settings import Setting

_SAID = {
    "wrong attention": "wrong attention on purpose",
    "cut": "budget cut: a dry run",
    "ends in warm-up": "training ends in its warm-up and cannot have learned",
    "one class named": "one class named for every image",
    "loss did not fall": "training loss no lower than guessing",
    SPLIT_BY_IMAGE: "split by image, patients may be on both sides (group leakage)",
    GROUPS_UNKNOWN: "groups unknown, patients may be on both sides (group leakage)",
    "groups suspected": "groups suspected in the file names and not used (group leakage)",
    "copies torn": "byte-equal files on both sides of the split",
    "corrected test labels": "labels of test images corrected with a prediction in sight",
    CONFOUNDED: "a class comes from sources that hold no other class",
    "rate at the edge": "chosen learning rate at the edge of those tried",
    "repeated": "images repeated in small classes",
    "preset": "another preset than the paper's text",
    "retested": "test set scored at more than one learning rate",
    "incomplete": "some seeds or divisions only",
    "few groups": "few test groups, the interval may be too narrow",
    "few images": "few test images, the interval may be too narrow",
    "few mistakes": "few mistakes, the interval rests on little",
    "no width": "all resamples alike, the interval says nothing",
}
"""By tag what a caption says of it, the gravest first: what makes a number another experiment than its neighbours, or
than it is taken for."""

_UNFINISHED = {
    "missing": "no learning rate has all seeds: not finished, or diverged",
    "validation only": "no test score yet: not finished",
}
GRAVE = tuple(_SAID)
"""Tags of ``marks`` that travel with a number."""


def flags(setting: Setting) -> tuple[str, ...]:
    """Returns the grave tags of a setting."""
    tags = {mark.tag for mark in marks(setting)}
    return tuple(tag for tag in GRAVE if tag in tags)


def bracketed(tags: Sequence[str]) -> str:
    """`` [cut, repeated]`` to put behind a number; empty where nothing is grave."""
    return f" [{', '.join(tags)}]" if tags else ""


def joined(tags: Iterable[str]) -> str:
    """``cut; repeated`` for the column ``flags`` of a file; empty where nothing is grave."""
    return "; ".join(tags)


def suffix(setting: Setting) -> str:
    """Returns the grave tags of a setting to put behind a number."""
    return bracketed(flags(setting))


def in_file(setting: Setting) -> str:
    """Returns the grave tags of a setting for the column ``flags`` of a file."""
    return joined(flags(setting))


def notices(settings: Iterable[Setting]) -> list[tuple[str, str]]:
    """Returns code and sentence of every tag that travels or tells of something unfinished, with how many bear it."""
    drawn = list(settings)
    found = [{mark.tag: mark.code for mark in marks(setting)} for setting in drawn]
    lines = []
    for tag, said in (_SAID | _UNFINISHED).items():
        codes = [of_setting[tag] for of_setting in found if tag in of_setting]
        if codes:
            lines.append((codes[0], f"{len(codes)} of {words.count(len(drawn), 'setting')}: {said}"))
    return lines


def caution(settings: Iterable[Setting]) -> str:
    """Says how many of the drawn settings bear which grave tag; empty where none does."""
    return "; ".join(text for _, text in notices(settings))


def in_caption(settings: Iterable[Setting]) -> str:
    """Says the same as a sentence behind a caption; empty where there is nothing to say."""
    text = caution(settings)
    return f" Caution: {text}." if text else ""
