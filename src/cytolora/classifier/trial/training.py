"""LoRA on drawn cells in fp32 and bf16, and the speed of features and of training steps."""

from dataclasses import dataclass, replace
from math import isfinite
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cytolora.classifier.trial.part import Part, judged
from cytolora.config.run import AdapterSpec, Budget, RunSpec, Sampling, SplitSpec, TrainSpec
from cytolora.core.process_memory import peak_memory_bytes
from cytolora.models.kernels.cpu import for_inference
from cytolora.models.kernels.packed import Precision
from cytolora.training.adapt import Trained, probabilities, train_adapter
from cytolora.training.protocol import PASSES, PASSES_OF_TRAINING
from cytolora.training.session import Session

LORA_FP32, LORA_BF16, SPEED = "LoRA fp32", "LoRA bf16", "speed"
BATCH_SIZE = 8
_LEARNING_RATE, _NO_RATE = 1e-3, 1e-9
_MAX_LOSS_DISTANCE = 0.1
"""Nats between the losses that fp32 and bf16 end with, after a dozen steps from one start. One step differs by 0.02 at
most (tests/models/kernels/test_precision.py)."""
_EMBED_BATCH, _EMBED_PASSES = 16, 3


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """LoRA after some steps."""

    trained: Trained
    before: float
    """Cross-entropy on the training images, nats, of the untrained head and adapter."""
    after: float
    predicted: NDArray[np.float32]
    """Class probabilities of the training images."""


def run_spec(backbone: str, precision: Precision, *, steps: int) -> RunSpec:
    """Returns a short LoRA training on all drawn training cells."""
    return RunSpec(
        dataset="synthetic",
        backbone=backbone,
        method="lora",
        sampling=Sampling(),
        split=SplitSpec(),
        train=TrainSpec(
            budget=Budget(amount=steps, unit="epochs", max_steps=steps),
            batch_size=BATCH_SIZE,
            warmup_steps=0,
            augment=None,
            precision=precision,
        ),
        adapter=AdapterSpec(),
        learning_rate=_LEARNING_RATE,
        seed=0,
    )


def step(session: Session, precision: Precision, *, steps: int) -> Stepped:
    """Trains LoRA, and scores the training images with the start and with what came out."""
    run = run_spec(session.backbone.name, precision, steps=steps)
    samples = session.split(run).train
    labels = session.labels_of(samples)
    num_passes = PASSES_OF_TRAINING * (steps + 1) * BATCH_SIZE + 2 * len(samples)
    session.progress.begin(f"LoRA {precision}", num_passes, PASSES)
    trained = train_adapter(session, run)
    after = probabilities(session, run, trained.state, samples, trained.classifier)
    start = train_adapter(session, _untrained(run))
    before = probabilities(session, run, start.state, samples, start.classifier)

    def loss(found: torch.Tensor) -> float:
        return float(F.nll_loss(found.clamp_min(1e-12).log(), labels))

    return Stepped(trained=trained, before=loss(before), after=loss(after), predicted=after.numpy())


def _untrained(run: RunSpec) -> RunSpec:
    """Returns a run that ends where ``run`` starts, but for one step of 1e-9."""
    budget = replace(run.train.budget, max_steps=1)
    return replace(run, learning_rate=_NO_RATE, train=replace(run.train, budget=budget, min_learning_rate=_NO_RATE))


def judge_lora(name: str, found: Stepped, *, reference: Stepped | None = None) -> Part:
    """Judges one precision: the loss falls, gradients are finite, and bf16 ends where fp32 ends.

    Args:
        reference: The training in fp32; None: this is it, or there is none.
    """
    has_finite = _has_finite_gradients(found.trained)
    figures: dict[str, Any] = {
        "steps": found.trained.num_steps,
        "batch": BATCH_SIZE,
        "loss_before": found.before,
        "loss_after": found.after,
        "gradients_finite": has_finite,
        "trainable_parameters": found.trained.num_trainable,
        "seconds": found.trained.seconds,
    }
    falls = isfinite(found.after) and found.after < found.before
    text = f"Loss {found.before:.3f} to {found.after:.3f} in {found.trained.num_steps} steps"
    text += "" if falls else ", expected to fall"
    text += ", gradients finite" if has_finite else ", gradients not finite"
    is_close = True
    if reference is not None:
        distance = abs(found.after - reference.after)
        is_close = distance <= _MAX_LOSS_DISTANCE
        apart = float(np.abs(found.predicted - reference.predicted).max())
        figures |= {"loss_distance_to_fp32": distance, "probability_distance_to_fp32": apart}
        text += f"; {distance:.3f} from fp32's loss, allowed {_MAX_LOSS_DISTANCE:g}"
    return judged(name, good=falls and has_finite and is_close, text=text + ".", figures=figures)


def _has_finite_gradients(trained: Trained) -> bool:
    """Whether every gradient was finite: of the last step they are there, one before it would be in the weights."""
    states = all(bool(torch.isfinite(tensor).all()) for tensor in trained.state.values() if tensor.is_floating_point())
    classifier = trained.classifier
    last = [] if classifier is None else [p.grad for p in classifier.trainable() if p.grad is not None]
    return states and bool(last) and all(bool(torch.isfinite(grad).all()) for grad in last)


def measure_speed(session: Session, stepped: dict[Precision, Stepped]) -> Part:
    """Times features (best of three passes) and LoRA; memory is that of the process so far."""
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "batch": {"embed": _EMBED_BATCH, "lora": BATCH_SIZE}}
    session.progress.begin("speed", 0, "")
    rates: dict[str, float] = {}
    for precision in ("fp32", "bf16"):
        rates[f"embed {precision}"] = _embed_rate(session, precision)
        if (found := stepped.get(precision)) is not None:
            rates[f"LoRA {precision}"] = found.trained.num_steps * BATCH_SIZE / found.trained.seconds
    figures["images_per_second"] = rates
    figures["peak_memory_bytes"] = peak = peak_memory_bytes()
    if session.device.type == "cuda":
        figures["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(session.device)
    text = "images/s: " + ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items())
    text += "" if peak is None else f"; peak memory {peak / 2**30:.2f} GiB"
    return judged(SPEED, good=True, text=f"{text}; {figures['threads']} threads.", figures=figures)


def _embed_rate(session: Session, precision: Precision) -> float:
    device, size = session.device, session.backbone.preprocess.size_px
    encoder = for_inference(session.encoder, device, precision)
    noise = torch.randn(_EMBED_BATCH, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    on_gpu = precision == "bf16" and device.type != "cpu"
    best = 0.0
    for _ in range(_EMBED_PASSES):
        started = perf_counter()
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            encoder(noise).sum().item()
        best = max(best, _EMBED_BATCH / (perf_counter() - started))
    return best
