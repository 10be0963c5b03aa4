"""The machine that figures are of: processor, instructions, cores, memory, libraries; and how busy others keep it.

.venv/bin/python benchmarks/machine.py
"""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
"""Instructions that products are made of, as Linux names them."""
LIBRARIES = ("torch", "timm", "peft", "transformers", "onnxruntime", "openvino", "scikit-learn", "ray")
IDLE_CORES = 0.15
"""So much of a core may others use on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides about speed."""

    processor: str
    flags: tuple[str, ...]
    cores: int
    memory_gib: float
    python: str
    libraries: dict[str, str]
    """Versions of what is installed."""

    def __str__(self) -> str:
        flags = " ".join(self.flags) or "none of " + ", ".join(FLAGS)
        libraries = ", ".join(f"{name} {number}" for name, number in self.libraries.items())
        return (
            f"{self.processor}; {self.cores} cores, {self.memory_gib:.0f} GiB\n"
            f"Instructions: {flags}\nPython {self.python}; {libraries}"
        )


def this_machine() -> Machine:
    """Reads what the system tells."""
    about = _about_processor()
    return Machine(
        processor=processor_name(about),
        flags=tuple(flag for flag in FLAGS if flag in about.get("flags", "").split()),
        cores=num_cores(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        python=platform.python_version(),
        libraries={name: number for name in LIBRARIES if (number := _version(name))},
    )


def processor_name(about: dict[str, str]) -> str:
    """Names model and generation: a virtual machine's ``AMD EPYC`` may be any of five."""
    name = about.get("model name") or platform.processor() or platform.machine()
    family, model = int(about.get("cpu family", 0)), int(about.get("model", 0))
    if "AMD" in name and family in (25, 26):
        is_zen4 = family == 25 and (model >> 4 in (1, 6, 7, 10))
        return f"{name} (Zen {5 if family == 26 else 4 if is_zen4 else 3})"
    return f"{name} (family {family}, model {model})" if family else name


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_cores(seconds: float = 1.0) -> float:
    """Cores in use while this process waits: those that others keep busy; 0 where the system does not tell."""
    before = _busy_seconds()
    time.sleep(seconds)
    return (_busy_seconds() - before) / seconds


def idleness(busy: float) -> str:
    """Says where the machine is not idle; empty where it is."""
    return "" if busy <= IDLE_CORES else f"machine not idle: others used {busy:.1f} of {num_cores()} cores"


def _busy_seconds() -> float:
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, interrupts, soft, stolen = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _about_processor() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().partition("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    print(this_machine())
    print(idleness(busy_cores()) or "idle")
