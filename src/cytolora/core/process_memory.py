"""Peak memory of this process, where the system tells."""

import sys


def peak_memory_bytes() -> int | None:
    """Returns the largest resident memory of this process so far; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
