"""Number of CPUs that this process may use."""

import os


def num_cpus() -> int:
    """Returns the CPUs that the system lets this process use; all of them where it does not tell, as on macOS."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
