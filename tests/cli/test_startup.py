"""Start-up: commands that only list or plan load no heavy library."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import contextlib, io, json, sys
from cytolora.cli.app import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({arguments!r})
print(json.dumps(sorted({{"torch", "numpy", "PIL", "pyarrow", "scipy", "matplotlib"}} & set(sys.modules))))
"""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["fit", "--help"], ["ls", "models"], ["ls", "datasets"], ["ls", "grids"], ["ls", "methods"],
     ["plan", "smoke"]],
    ids=" ".join,
)  # fmt: skip
def test_help_lists_and_plans_load_neither_torch_nor_numpy(arguments: list[str], tmp_path: Path):
    program = PROGRAM.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == []


@pytest.mark.slow
def test_frozen_features_and_heads_need_no_peft_and_no_transformers(drawn_cells: Path, tmp_path: Path):
    """PEFT brings transformers: two seconds of every fit and prediction that has no adapter."""
    program = f"""
import sys
from cytolora.cli.app import main
for arguments in (["fit", {str(drawn_cells)!r}, "--model", "nano", "--steps", "2", "--out", "m", "--cache", "c"],
                  ["predict", "m", {str(drawn_cells)!r}, "--out", "p.csv"]):
    try:
        main([*arguments, "--quiet"])
    except SystemExit as ended:
        assert not ended.code
print(sorted({{"peft", "transformers", "open_clip"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.splitlines()[-1] == "[]"
