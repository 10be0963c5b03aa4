"""Spending of a run: counters that are there are read, and those that are not are empty, never 0."""

import sys
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from cytolora.core import energy, spending
from cytolora.core.energy import counted, gpu_kwh
from cytolora.core.spending import Gpu, Spending, metered

KWH = 3_600_000_000_000  # microjoules


def package(powercap: Path, number: str, name: str, microjoules: int, most: int = 10 * KWH) -> Path:
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_the_packages_are_summed_and_their_parts_are_not_counted_twice(tmp_path: Path):
    first, second = package(tmp_path, "0", "package-0", 5), package(tmp_path, "1", "package-1", 7)
    core, platform = package(tmp_path, "0:0", "core", 1), package(tmp_path, "2", "psys", 1)
    with counted(tmp_path) as found:
        for counter in (first, second, core, platform):
            counter.write_text(str(int(counter.read_text()) + KWH))
        assert found.kwh() == pytest.approx(2)


def test_a_counter_that_begins_at_0_again_goes_on(tmp_path: Path):
    counter = package(tmp_path, "0", "package-0", 9 * KWH)
    with counted(tmp_path) as found:
        counter.write_text(str(2 * KWH))
        assert found.kwh() == pytest.approx(3)


def test_a_counter_is_read_meanwhile_so_that_none_begins_at_0_twice_unseen(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(energy, "_LOOK_SECONDS", 0.001)
    counter, ended = package(tmp_path, "0", "package-0", 0), Event()
    with counted(tmp_path) as found:
        for step in range(1, 4):
            later = counter.with_name("later")  # a counter is never half written
            later.write_text(str(step * 4 * KWH % (10 * KWH)))
            later.replace(counter)
            while found._packages[0].spent < step * 4 * KWH and not ended.wait(0.001):
                pass
        assert found.kwh() == pytest.approx(12)


@pytest.mark.parametrize("harm", ["absent", "unreadable", "no number", "lost"])
def test_where_no_counter_may_be_read_the_energy_is_empty(harm: str, tmp_path: Path):
    counter = package(tmp_path / ("elsewhere" if harm == "absent" else ""), "0", "package-0", 0)
    if harm == "unreadable":  # as root reads everything, a folder stands for a file that may not be read
        counter.unlink()
        counter.mkdir()
    if harm == "no number":
        counter.write_text("many")
    with counted(tmp_path) as found:
        if harm == "lost":
            counter.unlink()
        assert found.kwh() is None


def fake_nvml(monkeypatch: pytest.MonkeyPatch, *millijoules: int, known: str = "GPU-1234") -> None:
    """Puts a ``pynvml`` in the place of NVIDIA's, whose counter shows these values in turn."""
    values = iter(millijoules)

    class NVMLError(Exception):
        pass

    def handle(uuid: str) -> str:
        if uuid != known:
            raise NVMLError("Not Found")
        return uuid

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: next(values),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)


def test_a_gpu_is_found_by_its_uuid_and_one_that_is_not_there_is_empty(monkeypatch):
    fake_nvml(monkeypatch, 3_600_000_000)
    assert gpu_kwh("1234") == pytest.approx(1)
    assert gpu_kwh("9999") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert gpu_kwh("1234") is None


def test_a_run_on_a_gpu_holds_it_all_the_time(monkeypatch):
    fake_nvml(monkeypatch, 0, 7_200_000_000)
    with metered(Gpu(name="card", uuid="1234")) as spent:
        found = spent()
    assert (found.gpu, found.gpu_kwh) == ("card", pytest.approx(2))
    assert found.gpu_seconds == found.wall_seconds


def test_a_run_on_a_processor_has_its_seconds_and_no_gpu():
    with metered() as spent:
        sum(range(300_000))
        found = spent()
    assert 0 < (found.cpu_seconds or 0) <= (found.wall_seconds or 0) * 64
    assert (found.gpu_seconds, found.gpu_kwh, found.gpu) == (None, None, None)
    assert found.host
    assert found.processor
    assert found.date.endswith("+00:00")


def test_what_is_done_together_is_shared_and_what_others_did_is_not_guessed():
    whole = Spending(wall_seconds=6, cpu_seconds=9, gpu_seconds=6, gpu_kwh=0.5, peak_memory_bytes=100)
    third = whole.share(3)
    assert (third.wall_seconds, third.cpu_seconds, third.cpu_kwh, third.peak_memory_bytes) == (2, 3, None, 100)
    pair = whole.of_several_processes(2)
    assert (pair.wall_seconds, pair.gpu_seconds, pair.cpu_seconds, pair.gpu_kwh) == (6, 12, None, None)
    assert whole.of_several_processes(1) is whole
    part = whole.of_a_part()
    assert {getattr(part, name) for name in spending._SUMS} == {None}
    assert part.peak_memory_bytes == 100
