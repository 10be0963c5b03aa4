"""Energy counters: processors by Linux's RAPL (powercap), a GPU by NVIDIA's NVML; none where there is no counter."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

_POWERCAP = Path("/sys/class/powercap")
_MICROJOULES_IN_KWH = 3.6e12
_MILLIJOULES_IN_KWH = 3.6e9
_LOOK_SECONDS = 60.0
"""Between two readings of a counter that begins at 0 again: the smallest, 65 kJ, does so every 2 minutes at 500 W."""


@dataclass(slots=True)
class _Package:
    """The counter of one processor, as the kernel's documentation has it (power/powercap/powercap.rst)."""

    folder: Path
    range: int
    last: int
    spent: int = 0
    """Microjoules."""

    def update(self) -> None:
        now = self._now()
        self.spent += now - self.last if now >= self.last else now + self.range - self.last
        self.last = now

    def _now(self) -> int:
        return int((self.folder / "energy_uj").read_text(encoding="utf-8"))


class ProcessorEnergy:
    """Energy of all processors of this machine from ``counted`` on, whatever else they do."""

    def __init__(self, packages: list[_Package]) -> None:
        self._packages, self._is_readable, self._lock = packages, bool(packages), Lock()

    def kwh(self) -> float | None:
        """Returns what was spent; None where no counter may be read (most systems let root alone)."""
        self._update()
        return sum(one.spent for one in self._packages) / _MICROJOULES_IN_KWH if self._is_readable else None

    def watch(self, ended: Event) -> None:
        """Reads the counters every minute until told to end, so that none begins at 0 twice unseen."""
        while not ended.wait(_LOOK_SECONDS):
            self._update()

    def _update(self) -> None:
        try:
            with self._lock:
                for one in self._packages:
                    one.update()
        except (OSError, ValueError):
            self._is_readable = False


@contextmanager
def counted(powercap: Path = _POWERCAP) -> Iterator[ProcessorEnergy]:
    """Counts the energy of this machine's processors within the block; ``kwh`` is asked in it."""
    found = ProcessorEnergy(_packages(powercap))
    if found.kwh() is None:
        yield found
        return
    ended = Event()
    watching = Thread(target=found.watch, args=(ended,), name="energy counter", daemon=True)
    watching.start()
    try:
        yield found
    finally:
        ended.set()
        watching.join()


def _packages(powercap: Path) -> list[_Package]:
    """Returns the counters of whole processors; those of their parts, and of the platform, would count twice."""
    packages = []
    try:
        for folder in sorted(powercap.glob("intel-rapl:*")):  # of AMD's processors too
            if (folder / "name").read_text(encoding="utf-8").startswith("package"):
                most, now = (
                    int((folder / name).read_text(encoding="utf-8")) for name in ("max_energy_range_uj", "energy_uj")
                )
                packages.append(_Package(folder, most, now))
    except (OSError, ValueError):
        return []
    return packages


def gpu_kwh(uuid: str) -> float | None:
    """Returns the energy of a GPU since its driver was loaded; None without ``pynvml``, or where the GPU counts none.

    Args:
        uuid: As torch gives it, without ``GPU-``.
    """
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / _MILLIJOULES_IN_KWH
    except pynvml.NVMLError:
        return None
