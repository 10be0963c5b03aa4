"""Processors with 8-bit dot products (VNNI), by what the system says of them and not by the code under test."""

from pathlib import Path

import pytest

FLAGS = {"avx512_vnni", "avx_vnni"}


def has_vnni() -> bool:
    """Whether /proc/cpuinfo names such products; False where there is no such file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return any(FLAGS & set(line.partition(":")[2].split()) for line in lines if line.startswith("flags"))


needs_int8 = pytest.mark.skipif(not has_vnni(), reason="no 8-bit products on this processor (VNNI)")
