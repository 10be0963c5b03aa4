"""How long a report of 2,000 stored runs takes: the first time, and again with intervals and drawings kept.

The store is made of drawn predictions in the sizes of the paper's second experiment, 7,645 test images of 25 classes
among them; nothing is trained.

    python benchmarks/report.py --folder FOLDER
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fake_store import FakeData, write_runs

from cytolora.data.datasets import find_dataset
from cytolora.experiments.store import Store

MODELS = ("clip-vit-b16", "quiltnet-b16", "biomedclip", "uni", "vit-b16")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SIZES = {"bcfc": 42, "mlcc": 40, "sipakmed": 160, "hicervix:25": 1529}
"""Groups of five test images."""
METADATA = {"stain": ("Pap", "Giemsa", "H&E"), "scanner": ("A", "B")}
"""Of the groups in turn: every measure once more for each value."""


def make_store(folder: Path) -> Store:
    """Writes 1,800 runs of LoRA and 300 linear ones: 140 settings of 3 seeds and 5 rates."""
    store = Store(folder)
    os.fsync = lambda _: None  # a store to be thrown away need not survive a power cut
    for name, groups in SIZES.items():
        classes = find_dataset(name).classes
        data = FakeData(
            name=name, classes=classes, num_groups=groups, groups_known=name != "hicervix:25", metadata=METADATA
        )
        write_runs(store, data=data, models=MODELS, methods=("lora",), shots=(1, 2, 4, 8, 16, 50), rates=RATES)
        write_runs(store, data=data, models=MODELS, methods=("linear",), shots=(None,), rates=RATES)
    return store


def seconds(runs: Path, out: Path) -> tuple[float, float]:
    """Reports in a process of its own, imports included; returns the time that passed, and that of the processor."""
    code = "import sys; from pathlib import Path; from cytolora.reporting.pages.build import build_report; "
    code += "build_report(Path(sys.argv[1]), Path(sys.argv[2]))"
    start, before = perf_counter(), os.times()
    subprocess.run([sys.executable, "-c", code, str(runs), str(out)], check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return perf_counter() - start, used


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the store and the reports are put")
    folder = parser.parse_args().folder
    runs = folder / "runs"
    if not runs.exists():
        make_store(runs)
    shutil.rmtree(runs / ".cache", ignore_errors=True)  # of an earlier measurement: the first report would not be one
    number = len(list(runs.glob("*/spec.json")))
    settings = number // 15
    first, first_used = seconds(runs, folder / "first")
    again, again_used = seconds(runs, folder / "second")
    print(f"{number} runs, {settings} settings; seconds passed, and of the processor:")
    print(f"first report {first:.1f} and {first_used:.1f}")
    print(f"a setting {first / settings:.2f} and {first_used / settings:.2f}")
    print(f"again {again:.1f} and {again_used:.1f}")
