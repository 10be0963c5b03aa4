"""Timed trials of heads on drawn features: a few steps and a few neighbours, in hundredths of a second."""

from time import perf_counter

import torch

from cytolora.config.run import RunSpec
from cytolora.experiments.plan import Job
from cytolora.experiments.workload import Kind, heads, neighbours
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.linear import fit_heads
from cytolora.training.heads.neighbours import choose_k

_NUM_STEPS, _NUM_KNOWN, _NUM_QUERIES = 50, 2048, 128


def head_rates(job: Job, *, feature_dim: int, num_classes: int, device: torch.device) -> dict[Kind, float]:
    """Returns seconds a step of the heads of each linear setting, and seconds a pair of images compared."""
    linear = [setting for setting in job.settings if setting[0].kind == "linear"]
    rates = {heads(setting): 0.0 for setting in linear}
    for setting in {heads(one): one for one in linear}.values():
        rates[heads(setting)] = _step_seconds(setting, feature_dim, num_classes, device)
    if linear:
        rates[neighbours(linear[0][0])] = _pair_seconds(feature_dim, num_classes)
    return rates


def _step_seconds(setting: tuple[RunSpec, ...], feature_dim: int, num_classes: int, device: torch.device) -> float:
    train, known = setting[0].train, _drawn(feature_dim, num_classes, setting[0].train.batch_size)

    def seconds(num_steps: int) -> float:
        started = perf_counter()
        fit_heads(
            known.features.unsqueeze(0).to(device),
            known.labels.unsqueeze(0).to(device),
            train,
            num_classes=num_classes,
            learning_rates=sorted({run.learning_rate for run in setting}),
            seeds=sorted({run.seed for run in setting}),
            num_steps=num_steps,
        )[0].cpu()  # waits for a device that computes on its own
        return perf_counter() - started

    once = seconds(1)
    return max(seconds(1 + _NUM_STEPS) - min(once, seconds(1)), 1e-6) / _NUM_STEPS


def _pair_seconds(feature_dim: int, num_classes: int) -> float:
    known, queries = _drawn(feature_dim, num_classes, _NUM_KNOWN), _drawn(feature_dim, num_classes, _NUM_QUERIES)
    choose_k(queries, queries.features, queries.labels)  # warms up
    started = perf_counter()
    choose_k(known, queries.features, queries.labels)
    return (perf_counter() - started) / (_NUM_KNOWN * _NUM_QUERIES)


def _drawn(feature_dim: int, num_classes: int, number: int) -> Labelled:
    drawn = torch.randn(number, feature_dim, generator=torch.Generator().manual_seed(0))
    return Labelled(features=drawn, labels=torch.arange(number) % num_classes, num_classes=num_classes)
