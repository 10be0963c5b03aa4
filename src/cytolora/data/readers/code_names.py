"""Class folders that are named like patients, slides or fields: codes and numbers, not what a cell is called."""

import re
from collections.abc import Mapping

from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted

_CODE = re.compile(
    r"(?:[a-z]{1,4}[ _\-]?)?\d+(?:[ _\-./]?[a-z]{0,2}\d+)*[ _\-]?[a-z]?"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.IGNORECASE,
)
"""``AB12``, ``H19-1234``, ``007``, ``2021-03-04``, ``12b``, a UUID."""
_OF_A_GROUP = re.compile(
    r"(?:.*[ _\-])?(?:pat|patient|subject|donor|slide|wsi|case|smear|specimen|field|fov|person|participant"
    r"|individual)s?[ _\-]?(?:id|no|nr)?[ _\-]?[a-z]{0,2}\d+.*",
    re.IGNORECASE,
)
"""``lab1_patient007``."""
_OF_A_SCALE = re.compile(
    r"(?:cin|grade|class|stage|type|pap|level|cluster|category|cat|label|score|group|figo|birads|tirads|thy|who|tbs|hpv"
    r"|cd|ki|ck|er|pr|her|sox|pax|gata|ttf|p1|p5|p6|g|c|t|l|m|b|u|iii?|iv)[ _\-]?\d{1,3}[a-z]?|n\d{8}",
    re.IGNORECASE,
)
"""Grades, categories, stains and types that end in a number, and classes of ImageNet."""
_NUMBER = re.compile(r"(?P<stem>.*?)(?P<number>\d+)")
_SCALE_END = 9
"""The highest number of a scale."""
_NUM_ON_A_SCALE = 5
"""Folders on a scale, from which on few images in each say that these are no classes."""
_FEW = 10
"""Images of a class, on average, below which it is no class of a scale."""


def named_like_groups(counts: Mapping[str, int]) -> list[Finding]:
    """Warns of classes that are called by codes and numbers: all of them, and not ``CIN1`` to ``CIN3`` or 0 and 1.

    Args:
        counts: Images by class.
    """
    names = list(counts)
    is_named = len(names) > 1 and all(_CODE.fullmatch(name) or _OF_A_GROUP.fullmatch(name) for name in names)
    if not is_named or all(map(_OF_A_SCALE.fullmatch, names)):
        return []
    mean = sum(counts.values()) / len(names)
    if _is_scale(names) and (len(names) < _NUM_ON_A_SCALE or mean >= _FEW):
        return []
    text = (
        f"{counted(len(names), 'class', 'classes')} are named by codes or numbers, like patients, slides or fields, "
        f"with {mean:.0f} images each on average, {first(names)}. If that is what they are, a classifier learns to "
        "tell them apart."
    )
    return [finding("F213", text, count=len(names), examples=names)]


def _is_scale(names: list[str]) -> bool:
    """Whether names are one word, or none, with numbers that follow each other from 0 or 1, without leading zeros."""
    parts = [_NUMBER.fullmatch(name) for name in names]
    if not all(parts):
        return False
    stems = {part["stem"].casefold() for part in parts if part}
    written = [part["number"] for part in parts if part]
    numbers = sorted(map(int, written))
    has_zeros = any(text != str(int(text)) for text in written)
    follow = numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    return len(stems) == 1 and not has_zeros and follow and numbers[-1] <= _SCALE_END
