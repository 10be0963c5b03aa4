"""How long a report of 2,000 stored runs takes: the first time, and again with intervals and drawings kept.

The store is made of drawn predictions in the sizes of the paper's second experiment, 7,645 test images of 25 classes
among them; nothing is trained.

    python benchmarks/report.py --folder FOLDER
    python benchmarks/report.py --models 1        (420 runs, in a temporary folder)
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fake_store import FakeData, write_runs
from measuring import process
from rows import Row, add_rows_option, show

from cytolora.data.datasets import find_dataset
from cytolora.experiments.store import Store

MODELS = ("clip-vit-b16", "quiltnet-b16", "biomedclip", "uni", "vit-b16")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SIZES = {"bcfc": 42, "mlcc": 40, "sipakmed": 160, "hicervix:25": 1529}
"""Groups of five test images."""
METADATA = {"stain": ("Pap", "Giemsa", "H&E"), "scanner": ("A", "B")}
"""Of the groups in turn: every measure once more for each value."""


def make_store(folder: Path, num_models: int) -> Store:
    """Writes runs of 3 seeds and 5 rates; with all five backbones 1,800 of LoRA and 300 linear ones, 140 settings."""
    store = Store(folder)
    os.fsync = lambda _: None  # a store to be thrown away need not survive a power cut
    for name, groups in SIZES.items():
        classes = find_dataset(name).classes
        data = FakeData(
            name=name, classes=classes, num_groups=groups, groups_known=name != "hicervix:25", metadata=METADATA
        )
        common = {"data": data, "models": MODELS[:num_models], "rates": RATES}
        write_runs(store, **common, methods=("lora",), shots=(1, 2, 4, 8, 16, 50))
        write_runs(store, **common, methods=("linear",), shots=(None,))
    return store


def measure(folder: Path, num_models: int) -> Iterator[Row]:
    """Reports twice, in processes of their own, imports included."""
    runs = folder / "runs"
    if not runs.exists():
        make_store(runs, num_models)
    shutil.rmtree(runs / ".cache", ignore_errors=True)  # of an earlier measurement: the first report would not be one
    number = len(list(runs.glob("*/spec.json")))
    settings = number // 15
    code = "import sys; from pathlib import Path; from cytolora.reporting.pages.build import build_report; "
    code += "build_report(Path(sys.argv[1]), Path(sys.argv[2]))"
    for name in ("first time", "again"):
        cost = process([sys.executable, "-c", code, runs, folder / name])
        figures = {"CPU s": cost.cpu_seconds, "wall s": cost.wall_seconds, "MiB": cost.peak_mib}
        figures["CPU s a setting"] = cost.cpu_seconds / settings
        yield Row(
            part="report",
            name=name,
            figures={title: (value,) for title, value in figures.items()},
            conditions=f"{number:,} runs, {settings} settings",
            is_scaled=num_models < len(MODELS),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the store and the reports are put and stay")
    parser.add_argument("--models", type=int, default=len(MODELS), help="backbones in the store, at most 5")
    add_rows_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return show(measure(options.folder or Path(name), options.models), options)


if __name__ == "__main__":
    sys.exit(main())
