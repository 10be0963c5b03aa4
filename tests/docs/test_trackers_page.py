"""docs/trackers.md: the tracker of a package that stands there works as one."""

import json
import tomllib
from pathlib import Path
from typing import Any

from fake_store import write_runs
from page_blocks import ROOT, all_blocks

from cytolora.experiments.store import Store
from cytolora.experiments.tracking.registry import TRACKERS, Target
from cytolora.experiments.tracking.track import track

PAGE = ROOT / "docs" / "trackers.md"


def test_the_tracker_of_the_page_mirrors_each_run_once(tmp_path: Path):
    code = {block.kind: block.text for block in all_blocks(PAGE) if block.reason is None}
    (group,) = tomllib.loads(code["toml"])["project"]["entry-points"].items()
    assert group == (f"cytolora.{TRACKERS.kind}s", {"lines": "my_tracker:LINES"})
    module: dict[str, Any] = {}
    exec(code["python"], module)
    write_runs(Store(tmp_path / "runs"), models=("uni",), methods=("linear",), shots=(1,), seeds=(1, 2), rates=(1e-3,))
    target = Target(module["LINES"], str(tmp_path / "lines"))
    first, second = (track(tmp_path / "runs", target) for _ in range(2))
    assert (first.num_mirrored, first.num_equal) == (2, 0)
    assert (second.num_mirrored, second.num_equal) == (0, 2)
    for run in Store(tmp_path / "runs").runs():
        lines = json.loads((tmp_path / "lines" / f"{run.run_id}.json").read_text())
        assert lines["test.accuracy"] == run.metrics["test"]["accuracy"]
