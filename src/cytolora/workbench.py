"""What the runs of one group share - decoded images, frozen tower, features - and the three things done with it."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from cytolora.data.images import kept_evaluation_view, to_batch, training_view
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.pixels import PixelCache
from cytolora.features import extract
from cytolora.inputs import Inputs
from cytolora.models.adapters import attach, prove_attached
from cytolora.models.backbones import BackboneSpec
from cytolora.models.classifier import Classifier, head_state, load_trained_state, seeded_head, trained_state
from cytolora.models.cpu import speed_up
from cytolora.models.loading import load_tower
from cytolora.models.text import ClassText, text_head, zero_shot_logits
from cytolora.models.tower import Tower
from cytolora.prompting import run_text
from cytolora.specs import ZERO_SHOT, RunSpec
from cytolora.training.heads import fit_heads
from cytolora.training.loop import fit, predict

State = dict[str, Tensor]
"""Adapter and head by name, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where work tells what it is doing; the command line draws a bar from it."""

    say: Callable[[str], None] = lambda text: None
    done: Callable[[int], None] = lambda images: None
    """Told the number of images just trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training one run gave."""

    state: State
    num_trainable: int
    num_steps: int
    final_loss: float | None
    """Cross-entropy of the last batch, nats; not finite if training diverged, None if there was no training."""
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether the result is no classifier."""
        return self.final_loss is not None and not math.isfinite(self.final_loss)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One dataset and one backbone, read once for all runs that need them."""

    dataset: str
    backbone: BackboneSpec
    manifest: Manifest
    inputs: Inputs
    cache: Path
    """Folder that keeps decoded images and frozen features."""
    device: torch.device
    progress: Progress
    _proven: set[str] = field(default_factory=set)

    @cached_property
    def tower(self) -> Tower:
        """The frozen tower."""
        self.progress.say(f"loading {self.backbone.name}")
        return load_tower(self.backbone, self.inputs.weights_path(self.backbone.name))

    @cached_property
    def pixels(self) -> PixelCache:
        """Decoded images."""
        return PixelCache(self.cache / "pixels", self.manifest.root)

    @cached_property
    def features(self) -> Tensor:
        """Frozen features of every image of the manifest, in its order."""
        self.progress.say(f"{self.dataset}: features of {len(self.manifest.samples)} images with {self.backbone.name}")
        return extract(
            self.tower,
            self.manifest,
            self.backbone.preprocess,
            weights_sha256=self.inputs.weights_sha256(self.backbone.name),
            pixels=self.pixels,
            cache=self.cache / "features",
            device=self.device,
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {sample.path: row for row, sample in enumerate(self.manifest.samples)}

    def features_of(self, samples: Sequence[Sample]) -> Tensor:
        """Returns frozen features, float32 [images, feature_dim]."""
        return self.features[[self._rows[sample.path] for sample in samples]]

    def labels_of(self, samples: Sequence[Sample]) -> Tensor:
        """Returns class indices, int64 [images]."""
        index = {label: position for position, label in enumerate(self.manifest.classes)}
        return torch.tensor([index[sample.label] for sample in samples], dtype=torch.int64)

    def train_heads(self, cell: Sequence[RunSpec]) -> dict[str, Trained]:
        """Trains all linear heads of a cell, every seed with every learning rate, in one batched pass; by run id."""
        seeds = sorted({run.seed for run in cell})
        rates = sorted({run.learning_rate for run in cell})
        splits = {run.seed: self.inputs.split(run) for run in cell}
        features = torch.stack([self.features_of(splits[seed].train) for seed in seeds])
        labels = torch.stack([self.labels_of(splits[seed].train) for seed in seeds])
        num_steps = _num_steps(cell[0], features.shape[1])
        started = perf_counter()
        weights, biases, losses = fit_heads(
            features.to(self.device),
            labels.to(self.device),
            cell[0].train,
            num_classes=len(self.manifest.classes),
            learning_rates=rates,
            seeds=seeds,
            num_steps=num_steps,
            starts=self._starts([next(run for run in cell if run.seed == seed) for seed in seeds]),
        )
        seconds = (perf_counter() - started) / len(cell)
        trained = {}
        for run in cell:
            at = seeds.index(run.seed), rates.index(run.learning_rate)
            state = head_state(weights[at].cpu(), biases[at].cpu())
            trained[run.run_id] = Trained(
                state=state,
                num_trainable=sum(tensor.numel() for tensor in state.values()),
                num_steps=num_steps,
                final_loss=float(losses[at]),
                seconds=seconds,
            )
        return trained

    def zero_shot(self, run: RunSpec) -> Trained:
        """Embeds the class prompts; there is nothing to train."""
        started, text = perf_counter(), run_text(run, self.inputs, self.cache / "text")
        state = {} if text is None else text.state()
        return Trained(state=state, num_trainable=0, num_steps=0, final_loss=None, seconds=perf_counter() - started)

    def _starts(self, runs: Sequence[RunSpec]) -> list[tuple[Tensor, Tensor]] | None:
        """Returns the heads that runs of a cell start from, scaled to the images each trains on; None: drawn."""
        text = run_text(runs[0], self.inputs, self.cache / "text")
        return text and [text_head(text, self.features_of(self.inputs.split(run).train)) for run in runs]

    def train_adapter(self, run: RunSpec) -> Trained:
        """Trains adapter and head of one run."""
        samples = self.inputs.split(run).train
        num_steps = _num_steps(run, len(samples))
        preprocess, augment = self.backbone.preprocess, run.train.augment

        def batch(indices: Sequence[int], epoch: int) -> Tensor:
            if augment is None:
                return self._evaluation_batch([samples[index] for index in indices])
            views = [
                training_view(self.pixels.native(samples[index]), preprocess, augment, seed=(run.seed, epoch, index))
                for index in indices
            ]
            return to_batch(views, preprocess)

        starts = self._starts([run])  # before the seed, as the tower: building one draws from it
        tower, order, started = self.tower, torch.Generator().manual_seed(run.seed), perf_counter()
        with _seeded(run.seed):
            classifier = self._new_classifier(tower, run, order)
            for weight, bias in starts or ():
                classifier.head.load_state_dict({"weight": weight, "bias": bias})
            final_loss = fit(
                classifier,
                batch,
                self.labels_of(samples),
                run.train,
                learning_rate=run.learning_rate,
                num_steps=num_steps,
                order=order,
                device=self.device,
                on_step=self.progress.done,
            )
        return Trained(
            state=trained_state(classifier),
            num_trainable=classifier.num_trainable(),
            num_steps=num_steps,
            final_loss=final_loss,
            seconds=perf_counter() - started,
        )

    def probabilities(self, run: RunSpec, state: State, samples: Sequence[Sample]) -> Tensor:
        """Returns class probabilities of a trained run, float32 [images, classes]."""
        if run.method == ZERO_SHOT:
            return zero_shot_logits(self.features_of(samples), ClassText.of(state)).softmax(dim=-1)
        if run.adapter is None:
            logits = self.features_of(samples) @ state["head.weight"].T + state["head.bias"]
            return logits.softmax(dim=-1)
        tower = self.tower
        with _seeded(run.seed):
            classifier = self._new_classifier(tower, run, torch.Generator().manual_seed(run.seed))
        load_trained_state(classifier, state)

        def batch(indices: Sequence[int]) -> Tensor:
            return self._evaluation_batch([samples[index] for index in indices])

        return predict(classifier, batch, len(samples), device=self.device, precision=run.train.precision)

    def _evaluation_batch(self, samples: Sequence[Sample]) -> Tensor:
        preprocess = self.backbone.preprocess
        return to_batch([kept_evaluation_view(self.pixels, sample, preprocess) for sample in samples], preprocess)

    def _new_classifier(self, tower: Tower, run: RunSpec, start: torch.Generator) -> Classifier:
        """Builds the untrained classifier of an adapter run; the adapter's start comes from torch's global state.

        ``tower`` is loaded before that state is seeded: building one draws from it.
        """
        if run.adapter is None:
            raise ValueError(f"{run.method} trains on features; it has no tower of its own")
        adapted = attach(tower, run.method, run.adapter)
        if repr(run.adapter) not in self._proven:
            size = self.backbone.preprocess.size_px
            noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
            prove_attached(adapted.eval(), noise.to(next(tower.parameters()).device))
            self._proven.add(repr(run.adapter))
        if self.device.type == "cpu" and run.train.precision == "fp32":
            speed_up(adapted)
        classifier = Classifier(adapted, len(self.manifest.classes))
        weight, bias = seeded_head(adapted.feature_dim, len(self.manifest.classes), start)
        classifier.head.load_state_dict({"weight": weight, "bias": bias})
        return classifier


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds torch's global random state for a block, and leaves it as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _num_steps(run: RunSpec, num_train: int) -> int:
    return run.train.budget.num_steps(num_train=num_train, batch_size=run.train.batch_size, shots=run.sampling.shots)
