"""The processor of this machine, and the number of CPUs that this process may use."""

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path


def num_cpus() -> int:
    """Returns the CPUs that the system lets this process use; all of them where it does not tell, as on macOS."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@cache
def processor_name() -> str:
    """Returns the processor's name as the system has it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
