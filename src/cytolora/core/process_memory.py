"""Memory of this process, and what the system leaves it, where the system tells."""

import re
import sys
from pathlib import Path


def peak_memory_bytes() -> int | None:
    """Returns the largest resident memory of this process so far; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_memory_bytes(system: Path = Path("/")) -> int | None:
    """Returns the memory that this process can get without swapping; None where the system does not tell.

    Linux: MemAvailable (proc(5)), and the limit of the process's own control group (v2), of containers and services.

    Args:
        system: Root of the file system that is asked.
    """
    try:
        free = re.search(
            r"^MemAvailable: +(\d+) kB$", (system / "proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        return None
    if free is None:
        return None
    limit = _limit_of_group(system)
    return min(filter(None, (int(free[1]) * 1024, limit)))


def _limit_of_group(system: Path) -> int | None:
    try:
        group = re.search(r"^0::/(.*)$", (system / "proc/self/cgroup").read_text(encoding="utf-8"), re.MULTILINE)
        text = (
            ""
            if group is None
            else (system / "sys/fs/cgroup" / group[1] / "memory.max").read_text(encoding="utf-8").strip()
        )
    except OSError:
        return None
    return int(text) if text.isdigit() else None
