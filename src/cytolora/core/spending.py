"""Spending of a piece of work: wall, CPU and GPU seconds, peak memory, energy, and the machine that it ran on."""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import perf_counter, process_time
from typing import Any

from cytolora.core.energy import counted, gpu_kwh
from cytolora.core.machine import processor_name
from cytolora.core.process_memory import peak_memory_bytes

_SUMS = ("wall_seconds", "cpu_seconds", "gpu_seconds", "cpu_kwh", "gpu_kwh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What some work took; None where nobody counts, which is not 0."""

    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    """Of all threads of this process."""
    gpu_seconds: float | None = None
    """Wall seconds that GPUs were held, each; None on a CPU."""
    cpu_kwh: float | None = None
    """Of all processors of the machine meanwhile, whatever else they did (core/energy.py)."""
    gpu_kwh: float | None = None
    peak_memory_bytes: int | None = None
    """Largest resident memory of this process from its start until the end of the work."""
    host: str = field(default_factory=platform.node)
    processor: str = field(default_factory=processor_name)
    gpu: str | None = None
    """Name of the GPU."""
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """When the work ended, UTC, ISO 8601."""

    def share(self, count: int) -> "Spending":
        """Returns the part of each of ``count`` runs that were done together."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _SUMS}
        return replace(self, **{name: value / count for name, value in values.items() if value is not None})

    def of_several_processes(self, count: int) -> "Spending":
        """Returns that of ``count`` processes with a GPU each, of which this one alone was looked at."""
        if count == 1:
            return self
        gpu_seconds = None if self.gpu_seconds is None else count * self.gpu_seconds
        return replace(self, cpu_seconds=None, gpu_kwh=None, gpu_seconds=gpu_seconds, peak_memory_bytes=None)

    def of_a_part(self) -> "Spending":
        """Returns what is known of work that was begun by a process of which nobody knows what it took."""
        return replace(self, **dict.fromkeys(_SUMS))


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as its driver knows it."""

    name: str
    uuid: str


@contextmanager
def metered(gpu: Gpu | None = None) -> Iterator[Callable[[], Spending]]:
    """Measures a block; what it yields tells, within the block, what was spent until now.

    Args:
        gpu: Held by the block; None: it runs on the processor.
    """
    wall, cpu = perf_counter(), process_time()
    gpu_before = None if gpu is None else gpu_kwh(gpu.uuid)
    with counted() as energy:

        def measure() -> Spending:
            seconds = perf_counter() - wall
            after = None if gpu is None else gpu_kwh(gpu.uuid)
            return Spending(
                wall_seconds=seconds,
                cpu_seconds=process_time() - cpu,
                gpu_seconds=None if gpu is None else seconds,
                cpu_kwh=energy.kwh(),
                gpu_kwh=None if gpu_before is None or after is None else after - gpu_before,
                peak_memory_bytes=peak_memory_bytes(),
                gpu=None if gpu is None else gpu.name,
            )

        yield measure
