"""Training loop for adapters with a head, and prediction with any classifier."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cytolora.config.run import TrainSpec
from cytolora.models.adapters.adalora import RankAllocation
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.pass_rows import computing
from cytolora.training.group import ALONE, Group
from cytolora.training.kept_state import KeptState, Training
from cytolora.training.passes import Part, PassSize, generators, passes, reset_generators

_NUM_THREADS, _AHEAD = 4, 8
"""Threads that make batches for a GPU, and how many batches wait for it at most."""

_AT_ONCE = 16
"""Images in one pass through an encoder on a CPU, where larger passes take more memory and no less time
(docs/performance.md)."""
_OF_THE_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

Images = Float32[Tensor, "batch 3 size size"]

Batch = Callable[[Sequence[int]], Images]
"""Makes the batch of the images at some indices."""

TrainingBatch = Callable[[Sequence[int], int], Images]
"""Makes the batch of the images at some indices in an epoch, counted from 0: equal arguments, equal images."""


def fit(
    classifier: EncoderWithHead,
    batch: TrainingBatch,
    labels: Int64[Tensor, " images"],
    train: TrainSpec,
    *,
    learning_rate: float,
    num_steps: int,
    order: torch.Generator,
    device: torch.device,
    on_step: Callable[[int], None] = lambda images: None,
    on_epoch: Callable[[int, float], bool] | None = None,
    state: KeptState | None = None,
    group: Group = ALONE,
    size: PassSize | None = None,
) -> float:
    """Trains adapter and head in place; the last iterate stays, as in the paper's public code.

    Args:
        labels: Class indices of the training images.
        order: Decides which images stand in which batch; dropout draws from torch's global state.
        on_step: Told the number of images after every step.
        on_epoch: Given steps and loss after every epoch and the last step; training ends where it returns True. It may
            set the classifier to evaluation, and draws nothing.
        state: Kept while it trains, and gone on from where there is one; ``on_step`` is then told of the steps before.
        group: Processes that call this with equal arguments, and share each batch; the first of them keeps the state.
        size: Most images of one pass; told what is used.

    Returns:
        The loss of the last step; not finite if training diverged.

    Raises:
        RankLostError: If another process of the group is lost.
        ConfigError: If batches are to be divided, and the encoder looks at all of one.
    """
    size = size or PassSize()
    classifier.to(device).train()
    optimiser = torch.optim.AdamW(
        classifier.trainable(),
        lr=learning_rate,
        betas=train.betas,
        weight_decay=train.weight_decay,
        fused=device.type == "cuda",  # one launch for all parameters
    )
    ranks, loss = RankAllocation.of(classifier.encoder, num_steps), torch.zeros(())
    train, num_batches = train.in_steps(len(labels)), math.ceil(len(labels) / train.batch_size)
    labels = labels.to(device)
    requests = (
        (indices, step // num_batches)
        for step, indices in enumerate(batches(len(labels), train.batch_size, num_steps, order))
    )
    at_once = images_at_once(classifier, device)
    size.begin(min(train.batch_size, len(labels)), at_once, group, is_fixed=_looks_at_batches(classifier))

    def divided(count: int) -> list[list[Part]]:
        return passes(count, at_once, group, size.at_most)

    def of_own(indices: Sequence[int], epoch: int) -> Images:
        return batch([indices[at] for own in divided(len(indices)) for part in own for at in part.indices], epoch)

    training = Training(model=classifier, optimiser=optimiser, ranks=ranks, device=device)
    first = 0 if state is None else state.restore(training)
    group.check_agrees(first)
    for indices, _ in islice(requests, first):
        on_step(len(indices))
    in_time = _in_time(of_own, requests, ahead=0 if device.type == "cpu" else _AHEAD)
    for step, (indices, images) in enumerate(in_time, start=first):
        for parameters in optimiser.param_groups:
            parameters["lr"] = rate_at(step, num_steps, learning_rate, train)
        optimiser.zero_grad()
        loss = add_gradients(classifier, images.to(device), labels[indices], divided(len(indices)))
        loss = group.sum_gradients(classifier.trainable(), loss)
        if ranks is not None:
            ranks.penalty().backward()
        optimiser.step()
        if ranks is not None:
            ranks.after_step(step)
        on_step(len(indices))
        if on_epoch is not None and ((step + 1) % num_batches == 0 or step + 1 == num_steps):
            if on_epoch(step + 1, loss.item()):
                break
            classifier.train()
        if state is not None and group.is_first and step + 1 < num_steps:
            state.after_step(step + 1, training)
    if ranks is not None:
        ranks.settle()
    return loss.item()


def images_at_once(classifier: EncoderWithHead, device: torch.device) -> int | None:
    """Returns how many images one pass takes; None: the whole batch, on a GPU or where a norm looks at all of it."""
    return None if device.type != "cpu" or _looks_at_batches(classifier) else _AT_ONCE


def _looks_at_batches(classifier: EncoderWithHead) -> bool:
    return any(isinstance(part, _OF_THE_BATCH) for part in classifier.modules())


def add_gradients(
    classifier: EncoderWithHead,
    images: Images,
    labels: Int64[Tensor, " whole_batch"],
    divided: Sequence[Sequence[Part]],
) -> Float[Tensor, ""]:
    """Adds this process's part of the gradients of a batch's mean cross-entropy, and returns its part of that mean.

    Args:
        images: Those of the parts, one part after the other.
        labels: Of the whole batch.
        divided: The passes of the batch, and the parts of each that this process computes.
    """
    mean = torch.zeros((), device=images.device)
    every_part = iter(images.split([len(part.indices) for own in divided for part in own]))
    for own in divided:
        states = generators(images.device) if len(own) > 1 else []
        for index, part in enumerate(own):
            if index:  # each part of a pass draws what the whole pass draws
                reset_generators(states, images.device)
            with computing(part.rows), torch.set_grad_enabled(part.is_counted):
                logits = classifier(next(every_part))
            if part.is_counted:
                truth = labels[part.indices.start : part.indices.stop]
                loss = F.cross_entropy(logits, truth, reduction="sum") / len(labels)
                loss.backward()
                mean += loss.detach()
    return mean


def _in_time(
    batch: TrainingBatch, requests: Iterable[tuple[Int64[Tensor, " batch"], int]], *, ahead: int
) -> Iterator[tuple[Int64[Tensor, " batch"], Images]]:
    """Yields indices and images of each batch, made by threads while a device computes; ``ahead`` 0: when asked for.

    A batch depends on its indices and epoch alone, so that who makes it, and when, changes nothing.
    """
    if not ahead:
        yield from ((indices, batch(indices.tolist(), epoch)) for indices, epoch in requests)
        return
    waiting: deque[tuple[Tensor, Future[Tensor]]] = deque()
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        try:
            for indices, epoch in requests:
                waiting.append((indices, pool.submit(batch, indices.tolist(), epoch)))
                if len(waiting) > ahead:
                    indices, images = waiting.popleft()
                    yield indices, images.result()
            yield from ((indices, images.result()) for indices, images in waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # whoever stops early does not wait for what is not wanted


@torch.inference_mode()
def predict(
    classifier: EncoderWithHead,
    batch: Batch,
    num_images: int,
    *,
    device: torch.device,
    batch_size: int = 32,
    on_images: Callable[[int], None] = lambda images: None,
    group: Group = ALONE,
) -> Float32[Tensor, "images classes"]:
    """Returns class probabilities, on the CPU; equal on every call.

    Args:
        on_images: Told the number of images after every batch.
        group: Processes that call this with equal arguments: each computes its share, and all get the whole.
    """
    classifier.to(device).eval()
    rows, (first, end) = [], group.share(num_images)
    for start in range(first, end, batch_size):
        images = batch(range(start, min(start + batch_size, end))).to(device)
        rows.append(classifier(images).softmax(dim=-1).cpu())
        on_images(len(images))
    if group.size == 1:
        return torch.cat(rows)
    whole = torch.zeros(num_images, classifier.num_classes)
    if rows:
        whole[first:end] = torch.cat(rows)
    return group.sum(whole)


def batches(
    num_images: int, batch_size: int, num_steps: int, order: torch.Generator
) -> Iterator[Int64[Tensor, " batch"]]:
    """Yields ``num_steps`` batches of indices: every epoch a new shuffle, its last batch as small as it is."""
    step = 0
    while step < num_steps:
        for indices in torch.randperm(num_images, generator=order).split(batch_size):
            if step == num_steps:
                return
            yield indices
            step += 1


def rate_at(step: int, num_steps: int, peak: float, train: TrainSpec) -> float:
    """Learning rate of a step counted from 0: linear warm-up to ``peak``, then a cosine to ``min_learning_rate``.

    With ``cosine_steps`` it climbs back to the peak in as many steps, and falls again.
    """
    if step < train.warmup_steps:
        return peak * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / (train.cosine_steps or max(1, num_steps - train.warmup_steps))
    low = min(train.min_learning_rate, peak)
    return low + (peak - low) * (1 + math.cos(math.pi * progress)) / 2
