"""Text embeddings of a run's classes, by the text encoder of its backbone."""

from pathlib import Path

from cytolora.config.run import RunSpec
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import fetch_vocabulary, find_vocabulary
from cytolora.models.text.embeddings import ClassText, cached_text, class_text
from cytolora.training.resources import Inputs


def run_text(run: RunSpec, inputs: Inputs, cache: Path) -> ClassText | None:
    """Returns the embeddings of a run's prompts, computed once and kept in ``cache``; None where it has none.

    Raises:
        ConfigError: If the backbone has no text encoder, or the extra ``text`` is not installed.
        WeightsError: If the checkpoint or the vocabulary is not to be had, or damaged.
    """
    wording = inputs.prompts(run)
    if wording is None:
        return None
    backbone, weights = BACKBONES.get(run.backbone), inputs.weights_path(run.backbone)
    return class_text(
        backbone,
        weights,
        wording,
        weights_sha256=inputs.weights_sha256(run.backbone),
        cache=cache,
        vocabulary=find_vocabulary(backbone, weights),
        fetch_vocabulary=lambda: fetch_vocabulary(backbone),
        with_lengths=_reads_lengths(run),
    )


def has_text(run: RunSpec, inputs: Inputs, cache: Path) -> bool:
    """Whether ``run_text`` needs no text encoder, and so no vocabulary: its answer is kept, or there is none."""
    wording = inputs.prompts(run)
    if wording is None:
        return True
    if run.kind == "prompt" or run.trains_text_tower:
        return False  # which is trained through the encoder
    backbone, weights = BACKBONES.get(run.backbone), inputs.weights_path(run.backbone)
    sha256, vocabulary = inputs.weights_sha256(run.backbone), find_vocabulary(backbone, weights)
    kept = cached_text(
        backbone,
        wording,
        weights_sha256=sha256,
        cache=cache,
        vocabulary=vocabulary,
        with_lengths=_reads_lengths(run),
    )
    return kept is not None


def _reads_lengths(run: RunSpec) -> bool:
    head = METHODS.get(run.method).head
    return head is not None and head.reads_text_lengths
