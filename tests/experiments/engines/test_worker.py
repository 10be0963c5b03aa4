"""Work of a worker on the units that it is given, without a cluster."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from cells import contents, run_all, tiny_grid
from cytolora.core.provenance import software
from cytolora.experiments.engines.units import split_up
from cytolora.experiments.engines.worker import Worker, WorkerSetup
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training import session as workbench
from cytolora.training.resources import Inputs


@pytest.mark.slow
def test_a_worker_loads_its_backbone_once_and_gives_the_numbers_of_one_process(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    inputs, store, loaded = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path / "runs"), []
    load = workbench.load_encoder

    def count(spec: Any, *arguments: Any, **options: Any) -> Any:
        loaded.append(spec.name)
        return load(spec, *arguments, **options)

    monkeypatch.setattr(workbench, "load_encoder", count)
    store.make_root()
    worker = Worker(
        setup=WorkerSetup(
            inputs=inputs,
            root=store.root,
            device=torch.device("cpu"),
            threads=torch.get_num_threads(),
            backbones=[BACKBONES.get("nano")],
            versions=software()["versions"],
        )
    )
    worker.start()
    plan = make_plan(tiny_grid(), store, inputs)
    units = split_up(plan.jobs, is_stored=lambda run: store.find(run.run_id) is not None, num_images=lambda run: 1)
    done, key = 0, None
    while (unit := units.take(key, Counter())) is not None:
        worker.work(unit)
        units.done(unit)
        done, key = done + 1, unit.key
    assert done > 4
    assert loaded == ["nano"]
    run_all(tiny_grid(), drawn_cells, tmp_path / "inline")
    assert contents(store.root) == contents(tmp_path / "inline")
