"""Intruder dimensions of a trained run, as they are stored with it."""

from typing import Any

from cytolora.config.run import RunSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.intruders import EPSILON, TOP, count_intruders
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state
from cytolora.training.adapt import State, encoder_of
from cytolora.training.seeding import seeded
from cytolora.training.session import Session


def intruder_dimensions(session: Session, run: RunSpec, state: State) -> dict[str, Any] | None:
    """Counts the intruder dimensions of a trained adapter, by layer; None where it changes no linear weight.

    None on a GPU too: a CPU counts them in a third of the time of one training step, a GPU's steps are far shorter.
    The adapter is attached anew, beside the exact weights: what was trained may hold them in lower precision.
    """
    if run.adapter is None or session.device.type != "cpu":
        return None
    before = encoder_of(session, run)
    with seeded(run.seed):
        adapted = EncoderWithHead(attach(before, run.method, run.adapter), len(session.manifest.classes)).eval()
    load_trained_state(adapted, state)
    layers = count_intruders(before, adapted.encoder.to(next(before.parameters()).device))
    if not layers:
        return None
    return {"total": sum(layers.values()), "top": TOP, "epsilon": EPSILON, "layers": layers}
