"""Start-up: CPU seconds and peak memory of commands until the first image is opened, or to their end.

    .venv/bin/python benchmarks/startup.py --rounds 3

On 60 drawn cells. ``run`` and ``fit`` are ended when they open the first image; ``predict`` is one of an ONNX export,
also until its first image, and ``--help`` is run to its end. tests/cli/test_startup.py says what each may import.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from measuring import Cost, cytolora, not_installed, process
from rows import Row, add_rows_option, last_line, show

ENDED_EARLY = 77
GOALS = {
    "run, linear": "goal 3.0 s, 600 MiB",
    "fit, linear": "goal 3.5 s",
    "predict, ONNX export": "goal 0.6 s, 150 MiB",
}
_UNTIL_IMAGE = f"""
import os, sys
folder = os.path.realpath(sys.argv[1])
def watch(event, arguments):
    path = str(arguments[0]) if event == "open" else ""
    if path.endswith(".png") and os.path.realpath(path).startswith(folder):
        os._exit({ENDED_EARLY})
sys.addaudithook(watch)
from cytolora.cli.app import main
main(sys.argv[2:])
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Returns commands by name, without those that need what is not there."""
    cells, cache = str(folder / "cells"), str(folder / "cache")
    linear = ["--method", "linear", "--shots", "1", "--seeds", "1", "--learning-rates", "0.01", "--steps", "2"]
    found = {
        "run, linear": ["run", "smoke", *linear, "--data", f"synthetic={cells}", "--out", str(folder / "runs")],
        "fit, linear": ["fit", cells, "--model", "nano", "--method", "linear", "--out", str(folder / "m")],
        "predict, ONNX export": ["predict", str(folder / "onnx"), cells, "--out", str(folder / "predicted.csv")],
    }
    found["fit, linear"] += ["--cache", cache]
    return {name: [*command, "--quiet"] for name, command in found.items()}


def prepare(folder: Path) -> None:
    """Draws cells; fits a classifier and exports it, where that can be done."""
    from cytolora.data.synthetic.dataset import write_synthetic

    write_synthetic(folder / "cells", num_images=60, num_slides=12, seed=0)
    if not not_installed(["onnx", "onnxscript", "onnxruntime"]):
        model = ["--model", "nano", "--method", "linear", "--steps", "5", "--cache", folder / "kept", "--quiet"]
        process(cytolora("fit", folder / "cells", *model, "--out", folder / "bundle"))
        process(cytolora("export", folder / "bundle", "--to", "onnx", "--out", folder / "onnx", "--quiet"))


def measure(rounds: int) -> Iterator[Row]:
    """Measures every command in turn, round by round."""
    with tempfile.TemporaryDirectory() as name:
        folder, problem = Path(name), ""
        try:
            prepare(folder)
        except RuntimeError as error:
            problem = f"failed: {last_line(str(error))}"
        until = [sys.executable, "-c", _UNTIL_IMAGE, folder / "cells"]
        works: dict[str, Callable[[], Cost]] = {
            "python -c 'import torch'": lambda: process([sys.executable, "-c", "import torch"]),
            "--help": lambda: process(cytolora("--help")),
        }
        for title, command in commands(folder).items():
            works[title] = lambda command=command: process([*until, *command], codes=(ENDED_EARLY,))
        for title, work in works.items():
            missing = not_installed(["onnx", "onnxscript", "onnxruntime"]) or problem if "ONNX" in title else ""
            conditions = "until the first image" if title in GOALS else "to its end"
            goal = f"; {GOALS[title]}" if title in GOALS else ""
            common = {"part": "start-up", "name": title, "conditions": conditions + goal}
            if missing:
                yield Row(**common, problem=missing)
                continue
            try:
                costs = [work() for _ in range(rounds)]
            except RuntimeError as error:
                yield Row(**common, problem=f"failed: {last_line(str(error))}")
                continue
            figures = {"CPU s": [cost.cpu_seconds for cost in costs], "MiB": [cost.peak_mib for cost in costs]}
            yield Row(**common, figures=figures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options.rounds), options)


if __name__ == "__main__":
    sys.exit(main())
