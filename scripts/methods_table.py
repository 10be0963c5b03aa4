"""Tables of all methods from stored runs: `python scripts/methods_table.py > docs/methods.md` renews the page.

The runs are in docs/examples/heads/runs.tar.xz and, most of Herlev's, in docs/examples/herlev/runs.tar.xz, without
weights; `--archive RUNS ...` makes the first from folders of runs.
"""

import argparse
import io
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyarrow import float32, parquet

from cytolora.core.text import counted
from cytolora.experiments.store import Store
from cytolora.metrics.paired import Difference, difference, holm
from cytolora.models.adapters.methods import METHODS
from cytolora.reporting.comparison.compare import why_not
from cytolora.reporting.results.predictions import draw_seeds
from cytolora.reporting.results.settings import Setting, read_predictions, read_settings

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT / "docs" / "examples" / "heads" / "runs.tar.xz"
HERLEV = ROOT / "docs" / "examples" / "herlev" / "runs.tar.xz"
SHOTS = (1, 2, 4, 8, 16)
BASELINES = ("linear", "lora")
_REPLICATES = 2000
_KEPT = ("spec.json", "metrics.json", "predictions.parquet", "provenance.json")

_HEAD = """# Methods compared

All heads on frozen features, prompt learning, adapters in both encoders, LoRA and its kin, from stored runs of three
seeds. Whatever came out stands here, also where LoRA loses.
`.venv/bin/python scripts/methods_table.py > docs/methods.md` renews this page from the runs in
[examples/heads](examples/heads/README.md); [models.md](models.md#heads-on-frozen-features) says what each method is.

* Accuracy on the test set in %, mean over the seeds, with its 95 % interval for other groups (cluster bootstrap).
* Seconds: training of all seeds and learning rates of the setting of 16 shots, or of the most that were run, on
  cached features for heads and prompts, one thread of a shared machine. Those of prompt methods, of both encoders and
  of the other kinds of LoRA were measured while some twenty jobs shared two cores: several times too long.
* Parameters: those that are trained or solved for, at 16 shots. Tip-Adapter and knn choose one or two numbers and
  keep the training features.
* Needs: *text*, the text embeddings of the class names; *val*, validation images to choose a learning rate, an epoch
  or a factor.
"""
_DRAWN = """
## Drawn cells, nano-clip

Five classes of drawn cells ([synthetic](datasets/synthetic.md)); `nano-clip` was trained on such cells with captions,
so that its text knows them: zero-shot is what a method has to beat here, and no figure says anything about real
cells. `lora` starts from a drawn head, `lora-text` from the class names; both were trained for 10 x shots + 50 steps
at one learning rate, 0.003, and so were `lora-eva`, `lora-olora` (LoRA from other starts), `pissa`, `randlora` and
`miss`. `coop`, `kgcoop` and `prograd` were trained for 20 epochs in batches of 8, `cocoop` for 10, from the words of
their template, their rate chosen between 0.002 and 0.02. `ivlp` and `lora-both` (q, k and v) train both encoders for 20
epochs at 0.003.
"""
_REAL = """
## Herlev, vit-tiny6

917 cells of seven classes, the division of seed 0, and a small ViT that is no foundation model
([example](examples/herlev/README.md)); its LoRA was trained in bf16 for 10 x shots + 50 steps, its rate chosen by
validation. Seconds but those of `mlp` and `prototypes` are of an earlier version, whose `logistic` and `ridge` took
several times as long. Methods that read text are missing: the encoder has none. `lora-eva`, `lora-olora` (LoRA from
other starts), `pissa`, `randlora` and `miss` were trained in fp32 for as many steps at one rate, 0.003, where `lora`
chose among five.
"""
_PAIRED = """
### {name}: paired differences from {baseline}

Percentage points of accuracy, method less `{baseline}`, on the same test images; in bold where the p-value, corrected
by Holm for all cells of this table, is below 0.05.
"""


def of_archive(path: Path, folder: Path) -> list[Setting]:
    """Unpacks stored runs and reads their settings."""
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return read_settings(run for runs in sorted(folder.glob("runs*")) for run in Store(runs).runs())


def chosen(settings: Iterable[Setting], dataset: str) -> list[Setting]:
    """Returns the tested settings of a dataset at the shots of the tables, in the division of seed 0."""
    return [
        one
        for one in settings
        if one.dataset == dataset
        and one.tested
        and one.spec.split.seed == 0
        and len(one.seeds) in (1, 3)
        and (one.shots in SHOTS or one.spec.kind == "zero_shot")
    ]


def name_of(setting: Setting) -> str:
    """The name of the grid's variant, or the method where it has none."""
    return setting.name or setting.spec.method


def _is_shown(setting: Setting) -> bool:
    """Leaves out LoRA in fp32 and with the paper's budget, which the example of Herlev has at 4 shots alone."""
    train = setting.spec.train
    return setting.spec.kind != "adapter" or (train.precision, train.budget.amount) == ("bf16", 10)


def by_method(settings: Iterable[Setting]) -> dict[str, dict[int, Setting]]:
    """Sorts settings by method and shots; zero-shot has 0."""
    found: dict[str, dict[int, Setting]] = {}
    for one in settings:
        found.setdefault(name_of(one), {})[one.shots or 0] = one
    return dict(sorted(found.items(), key=lambda item: (not _needs_text(item[1]), item[0])))


def _needs_text(of_shots: Mapping[int, Setting]) -> bool:
    return next(iter(of_shots.values())).spec.needs_text


def _needs(setting: Setting) -> str:
    head = METHODS.get(setting.spec.method).head
    reads = len(setting.rates) > 1 if head is None or setting.spec.kind == "linear" else head.needs_validation
    return ", ".join([*["text"] * setting.spec.needs_text, *["val"] * reads]) or "–"


def results(methods: Mapping[str, Mapping[int, Setting]]) -> str:
    """Renders the table of accuracies."""
    lines = [
        "| method | solved | needs | parameters | seconds | " + " | ".join(f"{n}" for n in SHOTS) + " |",
        "| --- | --- | --- | ---: | ---: | " + " | ".join("---" for _ in SHOTS) + " |",
    ]
    for name, of_shots in methods.items():
        last = of_shots[max(of_shots)]
        head = METHODS.get(last.spec.method).head
        seconds = sum(run.provenance.get("seconds", 0.0) for run in last.runs)
        time = f"{seconds:.2f}" if seconds < 10 else f"{seconds:.0f}"
        if of_shots.keys() != {0} and max(of_shots) < max(SHOTS):
            time += f" ({counted(max(of_shots), 'shot')})"
        cells = [name, head.solution if head else "gradient steps" if last.spec.has_steps else "–", _needs(last)]
        cells += [f"{last.runs[0].metrics['num_trainable']:,}", time]
        cells += [_accuracy(of_shots.get(shots) or of_shots.get(0)) for shots in SHOTS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(setting: Setting | None) -> str:
    if setting is None or (value := setting.test("accuracy")) is None:
        return ""
    interval = setting.intervals["accuracy"]
    return f"{100 * value.mean:.1f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def paired(methods: Mapping[str, Mapping[int, Setting]], baseline: str) -> str:
    """Renders the differences of all methods from one, their p-values corrected together."""
    found: dict[tuple[str, int], Difference] = {}
    drawn = {}
    for shots in SHOTS:
        rival = methods[baseline].get(shots)
        for name, of_shots in methods.items():
            one = of_shots.get(shots) or of_shots.get(0)
            if rival is None or one is None or name == baseline or why_not(one, rival):
                continue
            for each in (one, rival):
                if each.setting_id not in drawn:
                    drawn[each.setting_id] = draw_seeds(read_predictions(each), _REPLICATES)
            found[name, shots] = difference(drawn[one.setting_id], drawn[rival.setting_id], "accuracy")
    corrected = dict(zip(found, holm([one.p for one in found.values()]), strict=True))
    lines = ["| method | " + " | ".join(f"{n}" for n in SHOTS) + " |", "| --- | " + "---: | " * len(SHOTS)]
    for name in methods:
        if name != baseline:
            cells = [_difference(found.get((name, n)), corrected.get((name, n), 1.0)) for n in SHOTS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(line.rstrip() for line in lines)


def _difference(found: Difference | None, p: float) -> str:
    if found is None:
        return ""
    text = f"{100 * found.value:+.1f} ({p:.2g})"
    return f"**{text}**" if p < 0.05 else text


def page() -> str:
    """Renders the page."""
    with tempfile.TemporaryDirectory() as folder:
        settings = of_archive(ARCHIVE, Path(folder) / "heads")
        herlev = of_archive(HERLEV, Path(folder) / "herlev")
        parts = [_HEAD]
        for title, text, members in (
            ("Drawn cells", _DRAWN, chosen(settings, "synthetic")),
            ("Herlev", _REAL, [*chosen(settings, "herlev"), *filter(_is_shown, chosen(herlev, "herlev"))]),
        ):
            methods = by_method(members)
            parts += [text, results(methods)]
            for baseline in (one for one in BASELINES if one in methods):
                parts += [_PAIRED.format(name=title, baseline=baseline), paired(methods, baseline)]
    return "\n".join(parts) + "\n"


def _plain(path: Path) -> bytes:
    """Writes predictions anew, the same values without compression: xz then packs them a tenth smaller."""
    table, buffer = parquet.read_table(path), io.BytesIO()
    numbers = {name: "BYTE_STREAM_SPLIT" for name in table.column_names if table.schema.field(name).type == float32()}
    parquet.write_table(
        table, buffer, compression="NONE", use_dictionary=False, column_encoding=numbers, write_statistics=False
    )
    return buffer.getvalue()


def archive(folders: Sequence[Path], target: Path) -> None:
    """Packs stored runs without their weights; equal runs make equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=9) as packed:
        paths = {
            Path("runs", path.relative_to(folder)): path
            for folder in folders
            for pattern in (*(f"[!.]*/{name}" for name in _KEPT), ".splits/*", "names.json", ".names/*")
            for path in folder.glob(pattern)
        }
        for name, path in sorted(paths.items(), key=lambda item: (item[0].name, item[0])):  # alike beside alike
            content = _plain(path) if path.suffix == ".parquet" else path.read_bytes()
            entry = tarfile.TarInfo(str(name))
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    target.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, nargs="+", metavar="RUNS", help="pack these folders of runs instead")
    if folders := parser.parse_args().archive:
        archive(folders, ARCHIVE)
    else:
        sys.stdout.write(page())
