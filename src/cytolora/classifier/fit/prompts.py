"""Prompt learning in `fit`: the words before the class names, kept as the affine head that they amount to.

Once trained, scaled cosines with the embeddings of the prompts are a linear map of features of length 1, the same for
every image: the bundle needs no text encoder.
"""

from typing import Any

import numpy as np

from cytolora.classifier.fit.config import FitConfig
from cytolora.classifier.fit.held_out import best_rate, halves
from cytolora.classifier.fit.linear import Head, Selected
from cytolora.config.run import PromptSpec
from cytolora.data.manifest import Manifest, Split
from cytolora.models.encoder_with_head import head_state
from cytolora.models.text.prompts import words_of
from cytolora.training.heads.affine import AffineHead
from cytolora.training.prompt_learning import train_prompts
from cytolora.training.session import Session


def fit_prompts(session: Session, split: Split, config: FitConfig, *, needed_groups: int) -> Selected[Head]:
    """Trains prompts once for each learning rate; half of the held-out groups choose it, for a training is dear.

    Args:
        needed_groups: Groups that calibration takes at least.

    Raises:
        ConfigError: If the text encoder cannot be had, reads two classes as the same tokens, or takes no such prompt.
    """
    select, calibration, notes = halves(split.val, session.manifest.name, needed_groups)
    rates, num_steps = config.protocol.learning_rates, config.num_steps(len(split.train))
    session.progress.begin(f"{config.method} prompts", len(rates) * num_steps, "steps")
    trained = [
        train_prompts(
            session, config.run(session.manifest.name, rate), on_steps=session.progress.done, num_steps=num_steps
        )
        for rate in rates
    ]
    heads = [AffineHead.of(one.state) for one in trained]
    features, labels = session.features_of(select), session.labels_of(select).numpy()
    held_out = np.stack([head.logits(features).numpy() for head in heads])
    best, tried = best_rate(config.protocol, held_out, labels)
    head = Head(
        state=head_state(heads[best].weight, heads[best].bias),
        learning_rate=rates[best],
        tried=tried,
        num_steps=num_steps,
        held_out=held_out[best],
        held_out_labels=labels,
        chosen_on=f"{len(select)} held-out images",
        scales_features=True,
        num_trained=trained[best].num_trainable,
    )
    return Selected(head=head, calibration=calibration, notes=notes)


def wording(manifest: Manifest) -> dict[str, Any]:
    """Returns what ``bundle.json`` says of the text: what training started from, and the words of every class."""
    words = words_of(manifest.name, manifest.classes)
    return {"template": PromptSpec().template, "words": dict(zip(manifest.classes, words, strict=True))}
