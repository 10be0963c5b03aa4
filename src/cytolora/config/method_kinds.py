"""Methods by kind, as names; imported from config/run.py. Their facts are in models/adapters/."""

from typing import Literal

from cytolora.core.registry import plugin_names

LINEAR = "linear"
"""The method that trains a classifier on frozen features and adapts nothing (Dausort et al. 2025, Sec. 3.1, eq. 1)."""

ZERO_SHOT = "zero-shot"
"""The method that trains nothing: images go to the class whose prompts are nearest (Radford et al. 2021)."""

TEXT_HEADS = (
    "clap",
    "clip-adapter",
    "lp++",
    "proker",
    "ss-text",
    "task-residual",
    "tip-adapter",
    "tip-adapter-f",
)
"""Those of ``FITTED_HEADS`` that read the text embeddings of the classes."""

TREE_HEADS = ("hxe", "tree-softmax")
"""Those that read the tree of the classes."""

FITTED_HEADS = ("gda", "knn", "logistic", "mlp", "nearest-mean", "prototypes", "ridge", *TEXT_HEADS, *TREE_HEADS)
"""Methods that fit a head on frozen features by a rule of their own, without a grid's budget and learning rates;
models/adapters/head_methods.py says what each is. The names are part of run ids."""

HEAD = "head"
"""Kind of plug-ins that are further heads: their entry points have the names of their methods."""

PROMPT_METHODS = ("cocoop", "coop", "kgcoop", "prograd")
"""Methods that train the words around the class names; models/adapters/prompt_methods.py says what each is."""

ENSEMBLE = "ensemble"
"""In a bundle: the mean of the probabilities of several heads on one backbone. No method of a grid."""

Weighting = Literal["equal", "validation"]
"""Of the members of an ensemble: all alike, or as validation images choose."""

ReaderLabels = Literal["agreed", "soft"]
"""What is trained on where readers of a labelling project differ: what they agree on, or the shares of the readers."""

MethodKind = Literal["linear", "head", "adapter", "zero_shot", "prompt"]
"""linear trains a head on frozen features by gradient steps, head solves for one without a learning rate, adapter
trains inside the encoder too, zero_shot trains nothing, prompt trains the input of the text encoder."""

ON_UNIT_FEATURES: tuple[MethodKind, ...] = ("head", "prompt")
"""Kinds whose head in a bundle maps features scaled to length 1."""

_KIND_OF: dict[str, MethodKind] = {
    LINEAR: "linear",
    ZERO_SHOT: "zero_shot",
    **dict.fromkeys(FITTED_HEADS, "head"),
    **dict.fromkeys(PROMPT_METHODS, "prompt"),
}
"""Of the methods that are no adapter; data, since specs are read before the registry of methods is loaded."""


def method_kind(name: str) -> MethodKind:
    """Returns the kind of a registered method; ``Method.kind`` is the same."""
    return _KIND_OF.get(name) or ("head" if name in plugin_names(HEAD) else "adapter")


TWO_TOWERS = ("ivlp",)
"""Adapters that train in the text encoder too, whatever their settings; others do where their ``towers`` say so."""
