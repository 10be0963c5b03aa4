"""The crew of stand-in workers that the tests of the engine ``processes`` share."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_workers import STAND_IN

from cytolora.experiments.engines import processes
from cytolora.experiments.engines.processes import ProcessCrew


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessCrew]:
    monkeypatch.setattr(processes, "_STARTS", STAND_IN)
    made = ProcessCrew(setup=pickle.dumps(str(tmp_path / "died")), gpus=())
    yield made
    made.end()
    assert all(process.popen.poll() is not None for process in made.processes)
