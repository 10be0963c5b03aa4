"""How large the experiments are, how they are divided among workers, and how long N GPUs take at a speed you name.

    python benchmarks/scale.py exp2 --images-per-second 300 --gpus 1 4 16

Needs neither data nor torch: sizes are those that the datasets publish.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from heapq import heapreplace

from cytolora.config.run import RunSpec, Subset
from cytolora.config.yaml import load_grid
from cytolora.data.datasets import find_dataset
from cytolora.display.format import duration
from cytolora.experiments.engines.units import Units, split_up
from cytolora.experiments.expand import expand
from cytolora.experiments.plan import Job

SCORING_IS_FASTER = 3
"""A forward pass against one forward and one of twice the work back."""


def num_train(run: RunSpec) -> int:
    """Images that a run sees in training, small classes repeated."""
    spec = find_dataset(run.dataset)
    if run.sampling.shots is not None:
        return run.sampling.shots * len(spec.classes)
    return int(subset(run.dataset, "train") * (run.sampling.fraction or 1))


def subset(dataset: str, name: Subset) -> int:
    """Published size of a subset, or its share of 60 / 20 / 20."""
    spec = find_dataset(dataset)
    total = spec.expected_total or sum(spec.expected_counts.values())
    return spec.expected_subsets.get(name) or int(total * {"train": 0.6, "val": 0.2, "test": 0.2}[name])


def trained(run: RunSpec) -> float:
    """Images that pass through training: steps times images in a step."""
    return run.num_images_seen(num_train(run))


def scored(runs: Iterable[RunSpec]) -> float:
    """Images that are only scored: validation of every run, test for one rate a setting."""
    total, seeds = 0.0, set()
    for run in runs:
        shots, classes = run.sampling.shots, len(find_dataset(run.dataset).classes)
        total += min(shots, 4) * classes if shots else subset(run.dataset, "val") * (run.sampling.fraction or 1)
        seeds.add((run.setting_id, run.seed, run.dataset))
    return total + sum(subset(dataset, "test") for _, _, dataset in seeds)


def makespan(units: Units, workers: int, rate: float) -> tuple[float, int]:
    """Plays the engine's own order on workers of equal speed; returns seconds and the loads of a backbone."""
    free: list[tuple[float, int, tuple[str, str] | None]] = [(0.0, number, None) for number in range(workers)]
    at_work: Counter[tuple[str, str]] = Counter()
    loads, end = 0, 0.0
    while True:
        now, number, loaded = free[0]
        if loaded is not None:
            at_work[loaded] -= 1
        unit = units.take(loaded, at_work)
        if unit is None:
            return end, loads
        loads += loaded is None or loaded[1] != unit.key[1]
        at_work[unit.key] += 1
        finish = now + unit.cost / rate
        end = max(end, finish)
        heapreplace(free, (finish, number, unit.key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", nargs="?", default="exp2")
    parser.add_argument("--images-per-second", type=float, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 4, 16, 64])
    chosen = parser.parse_args()
    started = time.perf_counter()
    runs = expand(load_grid(chosen.grid))
    seconds = time.perf_counter() - started
    adapters = [run for run in runs if run.adapter is not None]
    settings: dict[tuple[str, str], dict[str, list[RunSpec]]] = {}
    for run in adapters:
        settings.setdefault((run.dataset, run.backbone), {}).setdefault(run.setting_id, []).append(run)
    jobs = [Job(dataset=d, backbone=b, settings=tuple(map(tuple, c.values()))) for (d, b), c in settings.items()]
    print(f"{chosen.grid}: {len(runs)} runs listed in {seconds:.2f} s, torch loaded: {'torch' in sys.modules}")
    total, only_scored = sum(map(trained, adapters)), scored(adapters)
    longest = max(map(trained, adapters))
    print(f"{len(adapters)} adapter runs in {len(jobs)} jobs, {sum(len(job.settings) for job in jobs)} settings")
    print(f"{total:,.0f} images trained on, {only_scored:,.0f} scored; the longest run {longest:,.0f}")
    print("images/s a GPU | GPUs | one after the other | longest run | the engine's order | backbones loaded")
    for rate in chosen.images_per_second:
        for gpus in chosen.gpus:
            units = split_up(jobs, is_stored=lambda run: False, num_images=lambda run: round(trained(run)))
            played, loads = makespan(units, gpus, rate)
            scoring = only_scored / (SCORING_IS_FASTER * rate)
            durations = (duration(total / rate + scoring), duration(longest / rate), duration(played + scoring / gpus))
            print(f"{rate:g} | {gpus} | {durations[0]} | {durations[1]} | {durations[2]} | {loads}")


if __name__ == "__main__":
    main()
