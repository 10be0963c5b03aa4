"""Prompt learning: what each method trains in front of the text encoder, and its hyper-parameters with their sources.

Importing it loads no torch. The training is in training/prompt_learning.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cytolora.models.adapters.head_methods import Value

Guide = Literal["none", "cosine", "gradient"]
"""How zero-shot guides the training. cosine: a loss on the distance of each class's text from the zero-shot one.
gradient: the part of the gradient that works against the zero-shot probabilities is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFacts:
    """One way to learn prompts; image and text encoder stay as they are."""

    description: str
    guide: Guide = "none"
    per_image: bool = False
    """Whether each image has prompts of its own, so that every class goes through the text encoder once an image."""
    values: Mapping[str, Value]
    """By field of PromptSpec; any other that is set is an error."""

    @property
    def is_affine(self) -> bool:
        """Whether what was learned is an affine head on features scaled to length 1."""
        return not self.per_image


_START: Mapping[str, Value] = {
    "template": Value(
        default="a photo of a {} cell.",
        source="the words of CoOp's public code and 4 context vectors, as in the public code of Dausort et al.'s later "
        "benchmark; the end is ours, for the words of a class stand before `cell`",
    ),
    "tokens": Value(
        default="one for each token of the words before the class, started from these words",
        source="as template; a number draws them from N(0, 0.02^2) as in Zhou et al. 2022, arXiv:2109.01134 (there 16)",
    ),
}

PROMPTED: Mapping[str, PromptFacts] = {
    "coop": PromptFacts(
        description="Context vectors before the class names, shared by all classes (CoOp, Zhou et al. 2022).",
        values=_START,
    ),
    "cocoop": PromptFacts(
        description="Context vectors that a small network moves for each image; every class goes through the text "
        "encoder once an image (CoCoOp, Zhou et al. 2022).",
        per_image=True,
        values=_START,
    ),
    "kgcoop": PromptFacts(
        description="CoOp with a loss on the distance from the zero-shot text embeddings (KgCoOp, Yao et al. 2023).",
        guide="cosine",
        values={
            **_START,
            "lam": Value(default="8", source="Yao et al. 2023, arXiv:2303.13283; public code, scripts/run.sh"),
        },
    ),
    "prograd": PromptFacts(
        description="CoOp without the part of the gradient that works against zero-shot (ProGrad, Zhu et al. 2023).",
        guide="gradient",
        values={
            **_START,
            "lam": Value(default="1", source="Zhu et al. 2023, arXiv:2205.14865; public code, prograd.py:280-293"),
        },
    ),
}
"""By method."""

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""Of stochastic gradient descent: the defaults of Dassl, on which all four public codes stand. A grid's own weight
decay, which is for AdamW, does not count."""

DEFAULT_LAM: Mapping[Guide, float] = {"none": 0.0, "cosine": 8.0, "gradient": 1.0}
"""Weight of the zero-shot knowledge; sources as in ``PROMPTED``."""
