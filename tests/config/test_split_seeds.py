"""Several divisions in a grid: each run keeps its own split seed, and ids of earlier runs stay."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cytolora.cli.options import AS_IT_STANDS, AxisOptions, InputOptions, read_grid
from cytolora.config.grid import GridSpec
from cytolora.config.yaml import load_grid, parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import count_runs, expand, narrowed, tied_to_files

PLAIN = {"name": "g", "datasets": ["synthetic"], "models": ["nano"], "shots": [1, "all"], "seeds": [1, 2]}
METHODS = {"gda": {}, "linear": {"budget": {"amount": 2, "unit": "epochs"}, "learning_rates": [0.1, 0.2]}}


def grid(**changes: object) -> GridSpec:
    return parse_spec({**PLAIN, "methods": METHODS, **changes}, GridSpec, "grid.yaml")


def test_every_division_has_the_same_runs_each_with_its_own_split_seed():
    runs = expand(grid(split_seeds=[0, 1, 7]))
    alone = len(expand(grid()))
    assert Counter(run.split.seed for run in runs) == {0: alone, 1: alone, 7: alone}
    assert len({run.run_id for run in runs}) == len(runs) == count_runs(grid(split_seeds=[0, 1, 7]))


@pytest.mark.parametrize("seed", [0, 3])
def test_a_run_of_one_division_has_the_id_that_its_split_seed_alone_gave_it(seed: int):
    alone = expand(grid(split={"seed": seed}))
    among = [run for run in expand(grid(split_seeds=[0, 3])) if run.split.seed == seed]
    assert tuple(among) == alone
    assert [run.run_id for run in among] == [run.run_id for run in alone]


def test_the_split_seeds_of_the_command_line_replace_the_grids():
    own = grid(split={"seed": 5, "ratios": [0.5, 0.25, 0.25]})
    changed = narrowed(own, split_seeds=[1, 2, 1])
    assert [split.seed for split in changed.splits] == [1, 2]
    assert {split.ratios for split in changed.splits} == {(0.5, 0.25, 0.25)}
    read = read_grid("smoke", AxisOptions(split_seeds=(0, 4)), InputOptions(), AS_IT_STANDS)
    assert {run.split.seed for run in expand(read)} == {0, 4}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split_seeds": [0, 0]}, "split_seeds name 0 twice"),
        ({"split_seeds": [-1]}, r"a seed is a whole number from 0 to 2\^63 - 1, got -1"),
        ({"split_seeds": [2**63]}, "a seed is a whole number"),
        ({"split_seeds": [1, 2], "split": {"seed": 3}}, "split.seed and split_seeds exclude each other"),
        ({"split_seeds": [0], "split": {"file_sha256": "0" * 64}}, "a split file is one division"),
        ({"split_seeds": [0.5]}, "split_seeds"),
        ({"split_seeds": "0"}, "split_seeds"),
    ],
)
def test_split_seeds_that_mean_nothing_are_refused(changes: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said):
        grid(**changes)


def test_a_split_file_and_several_split_seeds_are_refused_together(tmp_path: Path):
    file = tmp_path / "split.csv"
    file.write_text("path,subset\n")
    with pytest.raises(ConfigError, match="A split file is one division, and the grid has the split seeds 0, 1"):
        tied_to_files(grid(split_seeds=[0, 1]), file, None)
    tied = tied_to_files(grid(split_seeds=[4]), file, None)
    assert [split.file_sha256 is not None for split in tied.splits] == [True]


def test_shipped_grids_keep_their_one_division():
    smoke = load_grid("smoke")
    assert smoke.splits == (smoke.split,)
    assert replace(smoke, split_seeds=(0,)).splits == smoke.splits
