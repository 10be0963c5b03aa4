"""Wrappers and prefixes around the tensor names of a checkpoint, taken off by one rule for all file formats.

Training code puts a model into mappings (``state_dict``, ``teacher``) and modules (``module.``, ``backbone.``). A
prefix is any sequence of such words; the one taken off is that under which an image encoder lies.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

WRAPPERS = ("model", "state_dict", "model_state_dict", "teacher", "student", "module", "backbone", "encoder")
"""Keys of a mapping around tensors, in the order of trial."""

WORDS = ("module", "_orig_mod", "model", "state_dict", "teacher", "student", "backbone", "encoder", "visual")
WORDS += ("vision_model", "image_encoder", "base_model", "net", "network")
"""Parts of a prefix; a layout's own names may begin with some of them, and then they stay."""

_MAX_DEPTH = 8
_COPY_OF = {"student": "teacher"}
"""Self-distillation keeps two encoders; the teacher, an average of the student, is what is evaluated (Caron et al.
2021, Emerging Properties in Self-Supervised Vision Transformers, arXiv:2104.14294, Sec. 3.1)."""


def unwrapped(content: Mapping[Any, object]) -> dict[str, object]:
    """Takes mappings off a state; what training code saves beside it, optimiser and epoch, goes with them."""
    for _ in range(_MAX_DEPTH):  # a pickle can hold a mapping that holds itself
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    return {str(name): value for name, value in content.items()}  # a number is no name of ours, and refused as such


def prefixes(names: Iterable[str], signature: str) -> list[str]:
    """Returns the prefixes under which a tensor matches; of a teacher and its student, the teacher's alone."""
    pattern = re.compile(rf"(?P<prefix>(?:(?:{'|'.join(WORDS)})\.)*?)(?:{signature})")
    found = {match["prefix"] for name in names if (match := pattern.fullmatch(name))}
    return sorted(found - {copy for copy in found if (original := _original(copy)) in found and original != copy})


def prefix_of_most(names: Collection[str], own: Collection[str]) -> str:
    """Returns the prefix under which most of an encoder's own names lie: for layouts that no table knows."""
    count: dict[str, int] = {}
    for name in names:
        for prefix in _candidates(name):
            count[prefix] = count.get(prefix, 0) + (name.removeprefix(prefix) in own)
    best = max(sorted(count, key=len), key=lambda prefix: count[prefix], default="")
    return best if count.get(best) else ""


def without_prefix(state: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """Takes a prefix off the names below it, and what the others share with it off theirs; a student is left out.

    Raises:
        ValueError: If two tensors would have one name.
    """
    words = prefix.split(".")[:-1]
    within = {copy: words[: words.index(of)] for copy, of in _COPY_OF.items() if of in words}
    copies = tuple(".".join([*above, copy, ""]) for copy, above in within.items())
    named: dict[str, Value] = {}
    for name, value in state.items():
        if copies and name.startswith(copies):
            continue
        bare = _stripped(name, words)
        if bare in named:
            raise ValueError(f"{bare} is there twice, with the prefix {prefix!r} and without")
        named[bare] = value
    return named


def _candidates(name: str) -> list[str]:
    found = [""]
    for word in name.split(".")[:-1]:
        if word not in WORDS:
            break
        found.append(f"{found[-1]}{word}.")
    return found


def _original(prefix: str) -> str:
    return ".".join(_COPY_OF.get(word, word) for word in prefix.split("."))


def _stripped(name: str, words: list[str]) -> str:
    for word in words:
        if not name.startswith(f"{word}."):
            break
        name = name.removeprefix(f"{word}.")
    return name
