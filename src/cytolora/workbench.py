"""What the runs of one group share - decoded images, frozen tower, features - and the three things done with it."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from cytolora.data.images import kept_evaluation_view, to_batch, training_view
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.pixels import PixelCache
from cytolora.features import Chunk, chunks
from cytolora.inputs import Inputs
from cytolora.models.adapters import attach, prove_attached, with_split_qkv
from cytolora.models.backbones import BackboneSpec
from cytolora.models.classifier import Classifier, head_state, load_trained_state, seeded_head, trained_state
from cytolora.models.cpu import for_inference, for_training
from cytolora.models.loading import load_tower
from cytolora.models.methods import METHODS
from cytolora.models.text import ClassText, text_head, zero_shot_logits
from cytolora.models.tower import Tower
from cytolora.prompting import run_text
from cytolora.specs import ZERO_SHOT, AugmentSpec, Preprocess, RunSpec
from cytolora.training.heads import fit_heads
from cytolora.training.loop import fit, predict

_View = tuple[Preprocess | None, AugmentSpec | None]

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
    classifier: Classifier | None = None
    """What was trained, to score it without building it anew; None for heads on frozen features."""

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
    towers: dict[str, Tower] = field(default_factory=dict)
    """The backbone's tower as it is, with q, k and v apart, and for inference; may serve another dataset's bench."""
    _proven: set[str] = field(default_factory=set)
    _other_features: dict[_View, dict[str, Tensor]] = field(default_factory=dict)
    """By path, for runs whose preset asks for other views."""

    @property
    def tower(self) -> Tower:
        """The frozen tower."""
        if "whole" not in self.towers:
            self.progress.say(f"loading {self.backbone.name}")
            self.towers["whole"] = load_tower(self.backbone, self.inputs.weights_path(self.backbone.name))
        return self.towers["whole"]

    @property
    def _split_tower(self) -> Tower:
        """The tower with q, k and v apart: split once, so that all runs share its weights."""
        if "split" not in self.towers:
            self.towers["split"] = with_split_qkv(self.tower)
        return self.towers["split"]

    @property
    def _inference_tower(self) -> Tower:
        """The tower as it gives features fastest."""
        if "inference" not in self.towers:
            self.towers["inference"] = for_inference(self.tower, self.device)
        return self.towers["inference"]

    @cached_property
    def pixels(self) -> PixelCache:
        """Decoded images."""
        return PixelCache(self.cache / "pixels", self.manifest.root)

    @cached_property
    def features(self) -> Tensor:
        """Frozen features of every image of the manifest, in its order."""
        self.progress.say(f"{self.dataset}: features of {len(self.manifest.samples)} images with {self.backbone.name}")
        return torch.cat([chunk.features for chunk in self.feature_chunks()])

    def feature_chunks(
        self,
        on_images: Callable[[int], None] = lambda images: None,
        preprocess: Preprocess | None = None,
        augment: AugmentSpec | None = None,
    ) -> Iterator[Chunk]:
        """Yields frozen features some images at a time; loads the tower only if some are not kept yet.

        Args:
            preprocess: The backbone's own if None.
            augment: Yields features of the training images alone, one random view of each.
        """
        manifest = self.manifest
        if augment is not None:
            manifest = replace(manifest, samples=manifest.subset("train"))
        return chunks(
            lambda: self._inference_tower,
            manifest,
            preprocess or self.backbone.preprocess,
            augment=augment,
            recipe=self.backbone.recipe,
            weights_sha256=self.inputs.weights_sha256(self.backbone.name),
            pixels=self.pixels,
            cache=self.cache / "features",
            device=self.device,
            on_images=on_images,
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {sample.path: row for row, sample in enumerate(self.manifest.samples)}

    def features_of(
        self, samples: Sequence[Sample], preprocess: Preprocess | None = None, augment: AugmentSpec | None = None
    ) -> Tensor:
        """Returns frozen features, float32 [images, feature_dim]; see ``feature_chunks``."""
        if preprocess is None and augment is None:
            return self.features[[self._rows[sample.path] for sample in samples]]
        if (preprocess, augment) not in self._other_features:
            self.progress.say(f"{self.dataset}: features of other views with {self.backbone.name}")
            self._other_features[preprocess, augment] = {
                sample.path: row
                for chunk in self.feature_chunks(preprocess=preprocess, augment=augment)
                for sample, row in zip(chunk.samples, chunk.features, strict=True)
            }
        found = self._other_features[preprocess, augment]
        return torch.stack([found[sample.path] for sample in samples])

    def labels_of(self, samples: Sequence[Sample]) -> Tensor:
        """Returns class indices, int64 [images]."""
        index = {label: position for position, label in enumerate(self.manifest.classes)}
        return torch.tensor([index[sample.label] for sample in samples], dtype=torch.int64)

    def train_heads(self, cell: Sequence[RunSpec]) -> dict[str, Trained]:
        """Trains all linear heads of a cell, every seed with every learning rate, in one batched pass; by run id."""
        seeds = sorted({run.seed for run in cell})
        rates = sorted({run.learning_rate for run in cell})
        splits = {run.seed: self.inputs.split(run) for run in cell}
        preprocess, augment = cell[0].preprocess, cell[0].train.augment
        features = torch.stack([self.features_of(splits[seed].train, preprocess, augment) for seed in seeds])
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
        return text and [
            text_head(text, self.features_of(self.inputs.split(run).train, run.preprocess)) for run in runs
        ]

    def train_adapter(self, run: RunSpec) -> Trained:
        """Trains adapter and head of one run."""
        samples = self.inputs.split(run).train
        num_steps = _num_steps(run, len(samples))
        preprocess, augment = run.preprocess or self.backbone.preprocess, run.train.augment

        def batch(indices: Sequence[int], epoch: int) -> Tensor:
            if augment is None:
                return self._evaluation_batch(run, [samples[index] for index in indices])
            views = [
                training_view(self.pixels.native(samples[index]), preprocess, augment, seed=(run.seed, epoch, index))
                for index in indices
            ]
            return to_batch(views, preprocess)

        starts = self._starts([run])  # before the seed, as the tower: building one draws from it
        tower, order, started = self._tower_of(run), torch.Generator().manual_seed(run.seed), perf_counter()
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
            classifier=classifier,
        )

    def probabilities(
        self, run: RunSpec, state: State, samples: Sequence[Sample], classifier: Classifier | None = None
    ) -> Tensor:
        """Returns class probabilities of a trained run, float32 [images, classes].

        Args:
            classifier: The run's own, where it was trained just now; built from ``state`` otherwise.
        """
        if run.method == ZERO_SHOT:
            return zero_shot_logits(self.features_of(samples, run.preprocess), ClassText.of(state)).softmax(dim=-1)
        if run.adapter is None:
            logits = self.features_of(samples, run.preprocess) @ state["head.weight"].T + state["head.bias"]
            return logits.softmax(dim=-1)
        if classifier is None:
            tower = self._tower_of(run)
            with _seeded(run.seed):
                classifier = self._new_classifier(tower, run, torch.Generator().manual_seed(run.seed))
            load_trained_state(classifier, state)

        def batch(indices: Sequence[int]) -> Tensor:
            return self._evaluation_batch(run, [samples[index] for index in indices])

        return predict(classifier, batch, len(samples), device=self.device)

    def _evaluation_batch(self, run: RunSpec, samples: Sequence[Sample]) -> Tensor:
        preprocess = run.preprocess or self.backbone.preprocess
        return to_batch([kept_evaluation_view(self.pixels, sample, preprocess) for sample in samples], preprocess)

    def _tower_of(self, run: RunSpec) -> Tower:
        return self.tower if METHODS.get(run.method).peft_config is None else self._split_tower

    def _new_classifier(self, tower: Tower, run: RunSpec, start: torch.Generator) -> Classifier:
        """Builds the untrained classifier of an adapter run; the adapter's start comes from torch's global state.

        ``tower`` is loaded before that state is seeded: building one draws from it.
        """
        if run.adapter is None:
            raise ValueError(f"{run.method} trains on features; it has no tower of its own")
        adapted = attach(tower, run.method, run.adapter)
        if (recipe := f"{run.method} {run.adapter!r}") not in self._proven:
            size = self.backbone.preprocess.size_px
            noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
            home = next(tower.parameters()).device  # an earlier use may have moved what is shared there, and only that
            prove_attached(adapted.to(home).eval(), noise.to(home))
            self._proven.add(recipe)
        autocast = for_training(adapted, self.device, run.train.precision)
        classifier = Classifier(adapted, len(self.manifest.classes), autocast=autocast)
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
