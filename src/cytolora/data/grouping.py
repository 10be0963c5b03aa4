"""Group leakage: whether groups are known, and whether train, val and test share any."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from cytolora.core.text import folded

_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")
_WHOLE_NUMBER = re.compile(r"(\d+)[.,]0+")
_AS_TEXT = re.compile(r"=?\"([^\"]+)\"|'([^']+)'?")
"""How a spreadsheet is told that a number is text: ``'007``, ``="007"``; the quotes are none of the group's name."""
_SLASHES = str.maketrans("/\\", "--")
DIVIDED_BY_IMAGE = "divided by image, so that images of one group may stand in two subsets"
"""How a split rule says that groups were not looked at."""

SPLIT_BY_IMAGE = "split by image"
GROUPS_UNKNOWN = "groups unknown"
"""Tags of the two warnings."""


def group_key(group: str) -> str:
    """Returns what is left of a group where case, dashes, slashes, leading zeros and the form of a number do not count.

    ``007``, ``7``, ``7.0`` and ``="007"`` are one patient, as two programs write it, and so are ``H19/12`` and
    ``H19-12``; ``1.1`` and ``1.10`` are two.
    """
    quoted = _AS_TEXT.fullmatch(group)
    bare = (quoted[1] or quoted[2]) if quoted else group
    text = _LEADING_ZEROS.sub("", folded(bare.translate(_SLASHES)))
    number = _WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text


def names_of_groups(groups: Iterable[str]) -> dict[str, str]:
    """Returns one name for every group as it is written: of those with one key the most frequent, then the shortest.

    Two patients taken for one cost little; one taken for two stands on both sides of a split.
    """
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group in groups:
        forms[group_key(group)][group] += 1
    return {
        group: min(times, key=lambda form: (-times[form], len(form), form))
        for times in forms.values()
        for group in times
    }


def as_known_groups(groups: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Returns the name of every group as it is written among those that are known already, and among themselves."""
    names = set(known)
    by_key = {group_key(name): name for name in sorted(names)}
    return {
        group: group if group in names else by_key.get(group_key(group), name)
        for group, name in names_of_groups(groups).items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What is known of the patients, slides or fields of divided images."""

    num_images: int
    num_grouped: int
    """Images whose group is known."""
    num_groups: int
    num_torn: int
    """Groups with images in more than one subset."""

    @classmethod
    def of(cls, images: Iterable[tuple[str | None, str | None]]) -> "Grouping":
        """Counts the groups of images, each given as subset and group; None where there is none or it is not known."""
        pairs = list(images)
        homes: defaultdict[str, set[str]] = defaultdict(set)
        for subset, group in pairs:
            if group is not None:
                homes[group].update({subset} if subset else ())
        return cls(
            num_images=len(pairs),
            num_grouped=sum(group is not None for _, group in pairs),
            num_groups=len(homes),
            num_torn=sum(len(subsets) > 1 for subsets in homes.values()),
        )

    def warnings(self, split_rule: str = "") -> dict[str, str]:
        """Returns warnings of group leakage by tag; empty where every group is known and lies in one subset.

        Args:
            split_rule: How the images were divided, in words; it counts where groups are not known.
        """
        warnings = {}
        if self.num_torn:
            warnings[SPLIT_BY_IMAGE] = (
                f"Split by image: {self.num_torn} of {self.num_groups} groups (patients, slides or fields) have images "
                "in more than one of train, val and test (group leakage); the numbers may be too high."
            )
        elif DIVIDED_BY_IMAGE in split_rule and self.num_grouped < self.num_images:
            warnings[SPLIT_BY_IMAGE] = torn_unseen()
        if self.num_grouped < self.num_images:
            whose = "no image" if not self.num_grouped else f"{self.num_grouped} of {self.num_images} images"
            warnings[GROUPS_UNKNOWN] = unknown(whose)
        return warnings


def torn_unseen() -> str:
    """Returns the warning on a split by image where group leakage cannot be counted."""
    return (
        "Split by image: patients, slides or fields may have images in more than one of train, val and test (group "
        "leakage); the numbers may be too high."
    )


def unknown(whose: str = "no image") -> str:
    """Returns the warning on images without a known group."""
    return (
        f"Groups unknown: the patient, slide or field is known of {whose}, so images of one may be on both sides of "
        "the split (group leakage); the numbers may be too high, and the intervals too narrow."
    )
