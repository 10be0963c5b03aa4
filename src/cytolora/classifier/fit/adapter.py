"""Adapter and head: trained once per learning rate and cached, the rate chosen on held-out images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolora.classifier.bundle.rebuild import rebuild
from cytolora.classifier.fit.config import FitConfig
from cytolora.classifier.fit.held_out import RateScores, best_rate
from cytolora.config.run import RunSpec, to_plain
from cytolora.core.cache_folder import CachedFiles
from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.provenance import software
from cytolora.data.imaging.views import kept_evaluation_view, to_batch
from cytolora.data.manifest import Sample, Split
from cytolora.models.encoder_with_head import EncoderWithHead, from_safetensors, to_safetensors
from cytolora.training.adapt import train_adapter
from cytolora.training.protocol import PASSES, PASSES_OF_TRAINING
from cytolora.training.session import Session

_BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A trained adapter and head, and how its rate was chosen."""

    state: dict[str, Tensor]
    classifier: EncoderWithHead
    """Merged where the method allows; only predicts."""
    learning_rate: float
    tried: tuple[RateScores, ...]
    num_steps: int
    num_trainable: int
    held_out: NDArray[np.float32]
    """Logits of the images that the rate was chosen on."""


def fit_adapter(session: Session, config: FitConfig, split: Split, select: Sequence[Sample]) -> Adapted:
    """Trains at every learning rate that is not cached, and chooses the best on ``select``."""
    rates, states, held_out = config.protocol.learning_rates, [], []
    for rate in rates:
        num_passes = PASSES_OF_TRAINING * config.num_seen(len(split.train))
        start = partial(session.progress.begin, f"{config.method}, rate {rate:g}", num_passes, PASSES)
        states.append(_trained(session, config.run(session.dataset, rate), split, start))
        classifier = _rebuilt(session, config, states[-1])
        session.progress.begin(f"{config.method}, rate {rate:g}, held out", len(select), "images")
        held_out.append(outputs(session, classifier, select, session.progress.done)[0])
    best, tried = best_rate(config.protocol, np.stack(held_out), session.labels_of(select).numpy())
    return Adapted(
        state=states[best],
        classifier=_rebuilt(session, config, states[best]),
        learning_rate=rates[best],
        tried=tried,
        num_steps=config.num_steps(len(split.train)),
        num_trainable=sum(tensor.numel() for tensor in states[best].values()),
        held_out=held_out[best],
    )


def outputs(
    session: Session,
    classifier: EncoderWithHead,
    samples: Sequence[Sample],
    on_images: Callable[[int], None] = lambda images: None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns logits [images, classes] and features [images, feature_dim]."""
    logits, features = [], []
    for start in range(0, len(samples), _BATCH_SIZE):
        batch = samples[start : start + _BATCH_SIZE]
        views = [kept_evaluation_view(session.pixels, sample, session.backbone.preprocess) for sample in batch]
        with torch.inference_mode():
            encoded = classifier.encoder(to_batch(views, session.backbone.preprocess).to(session.device)).float()
            logits.append(classifier.head(encoded).cpu())
        features.append(encoded.cpu())
        on_images(len(batch))
    return torch.cat(logits).numpy(), torch.cat(features).numpy()


def _rebuilt(session: Session, config: FitConfig, state: dict[str, Tensor]) -> EncoderWithHead:
    return rebuild(session.encoder, config.method, config.adapter, state, config.seed, session.device)


def _trained(session: Session, run: RunSpec, split: Split, start: Callable[[], None]) -> dict[str, Tensor]:
    """Returns the trained tensors, from the cache where a fit before this one trained them."""
    kept, name = CachedFiles(session.cache / "adapters"), f"{_key(session, run, split)}.safetensors"
    if (cached := kept.read(name, from_safetensors)) is not None:
        return cached
    start()
    state = train_adapter(session, run).state
    kept.keep_if_possible(name, to_safetensors(state))
    return state


def _key(session: Session, run: RunSpec, split: Split) -> str:
    """Names all that decides the result: the run, weights, images and their order, software, device, threads."""
    images = [[sample.sha256, sample.label] for sample in split.train]
    return sha256_text(
        canonical_json(
            [
                to_plain(run),
                session.inputs.weights_sha256(session.backbone.name),
                session.backbone.recipe,
                to_plain(session.backbone.preprocess),
                list(session.manifest.classes),
                images,
                software()["versions"],
                str(session.device),
                torch.get_num_threads(),
            ]
        )
    )[:32]
