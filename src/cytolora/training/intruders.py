"""Intruder dimensions of a trained run, as they are stored with it."""

from typing import Any

from cytolora.config.run import RunSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.intruders import EPSILON, TOP, count_intruders
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state
from cytolora.training.adapt import encoder_of
from cytolora.training.seeding import seeded
from cytolora.training.session import Session
from cytolora.training.trained import Trained


def intruder_dimensions(session: Session, run: RunSpec, trained: Trained) -> dict[str, Any] | None:
    """Counts the intruder dimensions of a trained adapter, by layer; None where no linear weight changed, or diverged.

    None on a GPU too: a CPU counts them in a third of the time of one training step, a GPU's steps are far shorter;
    and None where the text encoder trains. The adapter is attached anew, beside the exact weights: what was trained may
    hold them in lower precision.
    """
    if run.adapter is None or trained.diverged or session.device.type != "cpu":
        return None
    if run.trains_text_tower:  # its state is of two encoders, and of no head
        return None
    before = encoder_of(session, run)
    with seeded(run.seed):
        adapted = EncoderWithHead(attach(before, run.method, run.adapter), len(session.manifest.classes)).eval()
    load_trained_state(adapted, trained.state)
    layers = count_intruders(before, adapted.encoder.to(next(before.parameters()).device))
    if not layers:
        return None
    return {"total": sum(layers.values()), "top": TOP, "epsilon": EPSILON, "layers": layers}
