"""An adapter and its head: trained once per learning rate, kept as soon as it is trained, chosen on held-out images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytolora.classifier.bundle.rebuild import rebuild
from cytolora.classifier.fit.linear import Tried, choose_rate
from cytolora.classifier.fit.recipe import Recipe
from cytolora.config.run import RunSpec, to_plain
from cytolora.core.checksum import add_checksum, read_checked
from cytolora.core.files import canonical_json, sha256_text, write_bytes
from cytolora.core.provenance import software
from cytolora.data.imaging.views import kept_evaluation_view, to_batch
from cytolora.data.manifest import Sample, Split
from cytolora.errors import DataError
from cytolora.models.classifier import Classifier, from_safetensors, to_safetensors
from cytolora.training.adapt import train_adapter
from cytolora.training.session import Session

_BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A trained adapter and head, and how its rate was chosen."""

    state: dict[str, Tensor]
    classifier: Classifier
    """Merged where the method allows; only predicts."""
    rate: float
    tried: tuple[Tried, ...]
    num_steps: int
    num_trainable: int
    held_out: NDArray[np.float32]
    """Logits of the images that the rate was chosen on."""


def fit_adapter(session: Session, recipe: Recipe, select: Sequence[Sample]) -> Adapted:
    """Trains at every rate what is not kept from an earlier time, and takes the best on ``select``."""
    assert recipe.adapter is not None
    split = session.split(recipe.run(session.dataset, recipe.rates[0]))
    states, held_out = [], []
    for rate in recipe.rates:
        start = partial(
            session.progress.begin, f"{recipe.method}, rate {rate:g}", recipe.num_seen(len(split.train)), "images"
        )
        states.append(_trained(session, recipe.run(session.dataset, rate), split, start))
        classifier = _rebuilt(session, recipe, states[-1])
        session.progress.begin(f"{recipe.method}, rate {rate:g}, held out", len(select), "images")
        held_out.append(outputs(session, classifier, select, session.progress.done)[0])
    labels = session.labels_of(select).numpy()
    chosen, tried = choose_rate(recipe.rates, np.stack(held_out), labels)
    return Adapted(
        state=states[chosen],
        classifier=_rebuilt(session, recipe, states[chosen]),
        rate=recipe.rates[chosen],
        tried=tried,
        num_steps=recipe.num_steps(len(split.train)),
        num_trainable=sum(tensor.numel() for tensor in states[chosen].values()),
        held_out=held_out[chosen],
    )


def outputs(
    session: Session,
    classifier: Classifier,
    samples: Sequence[Sample],
    on_images: Callable[[int], None] = lambda images: None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns logits [images, classes] and features [images, width] of some images."""
    logits, features = [], []
    for start in range(0, len(samples), _BATCH_SIZE):
        batch = samples[start : start + _BATCH_SIZE]
        views = [kept_evaluation_view(session.pixels, sample, session.backbone.preprocess) for sample in batch]
        with torch.inference_mode():
            found = classifier.encoder(to_batch(views, session.backbone.preprocess).to(session.device)).float()
            logits.append(classifier.head(found).cpu())
        features.append(found.cpu())
        on_images(len(batch))
    return torch.cat(logits).numpy(), torch.cat(features).numpy()


def _rebuilt(session: Session, recipe: Recipe, state: dict[str, Tensor]) -> Classifier:
    return rebuild(session.encoder, recipe.method, recipe.adapter, state, recipe.seed, session.device)


def _trained(session: Session, run: RunSpec, split: Split, start: Callable[[], None]) -> dict[str, Tensor]:
    """Returns what training gave, now or before an interruption."""
    path = session.cache / "adapters" / f"{_key(session, run, split)}.safetensors"
    kept = _read(path)
    if kept is not None:
        return kept
    start()
    state = train_adapter(session, run).state
    try:
        write_bytes(path, add_checksum(to_safetensors(state), key=path.name))
    except OSError as error:
        raise DataError(
            f"Cannot keep the trained adapter in {path.parent}: {error.strerror}. Make room, and run again."
        ) from error
    return state


def _read(path: Path) -> dict[str, Tensor] | None:
    content = read_checked(path, key=path.name)
    return None if content is None else from_safetensors(content)


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
