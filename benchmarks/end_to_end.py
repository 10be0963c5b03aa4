"""A slice of the few-shot grid, from files to accuracies: ours against timm + PEFT + DataLoader, wall and CPU seconds.

    .venv/bin/python benchmarks/end_to_end.py --steps 20          (drawn cells; six blocks of width 192, random weights)
    .venv/bin/python benchmarks/end_to_end.py --data herlev=smear2005 --backbone-file vit_tiny6/backbone.yaml

4 shots, one seed, five learning rates, LoRA of rank 2 on q and v, batch 32, the same images and numbers of steps on
both sides. The paper's budget at 4 shots is 250 steps (``--steps 250``).
"Each run alone" is the same work on both sides: a process a run, validated after every epoch; ours keeps decoded images
from one run to the next, as it does. "The whole protocol" is what each side would do: ours loads once, validates once
and tests the chosen rate, theirs does all of it for every rate. fp32 on both sides; bf16 of ours is set against theirs
in fp32 and under autocast. Memory is that of the main process. The fewer the steps, the more starting counts. With
``--rates 1`` one run of five is made where each is alone, and its time taken five times.
``--bound`` counts the products of the whole protocol, and what it does before its first batch: the least that it can
take is that start, and the products at the measured peak of one core. ``--only "ours, whole protocol, fp32"`` measures
nothing else.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measuring import process
from rows import Row, add_rows_option, last_line, ratios, show

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
NUM_IMAGES = 900
SEED, SHOTS = 1, 4
OWN_ENCODER = """
name: six-blocks
architecture: vit_tiny_patch16_224
arguments: {depth: 6, num_classes: 0}
weights: model.safetensors
pool: mean_patch
preprocess:
  {size_px: 224, resize: squash, interpolation: bicubic, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
licence: Apache-2.0
"""
"""Of the structure of vit-tiny6; weights are random, on which no time depends."""


def grid(options: argparse.Namespace):
    """The slice as a grid."""
    from cytolora.config.grid import GridSpec, MethodSpec
    from cytolora.config.run import AdapterSpec, Budget

    budget = Budget(amount=50, unit="steps_per_shot", plus_steps=50, max_steps=options.steps)
    return GridSpec(
        name="slice",
        datasets=(options.data.partition("=")[0],),
        models=(options.model,),
        methods={"lora": MethodSpec(budget=budget, adapter=AdapterSpec())},
        shots=(SHOTS,),
        seeds=(SEED,),
        learning_rates=RATES,
        precision=options.precision,
    )


def setting(options: argparse.Namespace):
    """Inputs, runs and the split that both sides see."""
    from cytolora.cli.options import add_backbones
    from cytolora.experiments.expand import expand
    from cytolora.training.resources import Inputs

    if options.backbone_file:
        add_backbones([options.backbone_file])
    name, _, folder = options.data.partition("=")
    inputs = Inputs(data={name: Path(folder)}, weights={})
    runs = expand(grid(options))
    return inputs, runs, inputs.split(runs[0])


def ours_each(options: argparse.Namespace) -> None:
    """One run, validated after every epoch, tested at the end."""
    import torch

    from cytolora.data.imaging.cache import PixelCache
    from cytolora.data.imaging.views import kept_evaluation_view, to_batch
    from cytolora.models.adapters.attach import attach
    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.models.checkpoints.loading import load_encoder
    from cytolora.models.encoder_with_head import EncoderWithHead
    from cytolora.models.kernels.cpu import for_training, keep_freed_memory
    from cytolora.training.loop import fit, predict
    from cytolora.training.views import training_batches

    keep_freed_memory()
    inputs, runs, split = setting(options)
    run, backbone = runs[options.rate], BACKBONES.get(options.model)
    manifest = inputs.manifest(run.dataset, run.split)
    pixels, preprocess = PixelCache(Path(options.cache) / "pixels", manifest.root), backbone.preprocess
    encoder = attach(load_encoder(backbone, inputs.weights_path(backbone.name)), "lora", run.adapter)
    device = torch.device("cpu")
    classifier = EncoderWithHead(
        encoder, len(manifest.classes), autocast=for_training(encoder, device, options.precision)
    )
    labels = torch.tensor([manifest.classes.index(sample.label) for sample in split.train])
    steps_per_epoch, done = -(-len(labels) // 32), [0]

    train_batch = training_batches(
        lambda index: pixels.native(split.train[index]),
        len(split.train),
        preprocess,
        run.train.augment,
        seed=SEED,
        device=device,
    )

    def score(samples) -> None:
        def batch(indices):
            return to_batch([kept_evaluation_view(pixels, samples[index], preprocess) for index in indices], preprocess)

        predict(classifier, batch, len(samples), device=device)

    def after_step(_: int) -> None:
        done[0] += 1
        if done[0] % steps_per_epoch == 0:
            score(split.val)
            classifier.train()

    order = torch.Generator().manual_seed(SEED)
    rate, steps = run.learning_rate, options.steps
    fit(classifier, train_batch, labels, run.train, learning_rate=rate, num_steps=steps, order=order, device=device,
        on_step=after_step)  # fmt: skip
    score(split.test)


def ours_whole(options: argparse.Namespace):
    """The slice as `cytolora run` does it."""
    import cytolora
    from cytolora.models.kernels.cpu import keep_freed_memory

    keep_freed_memory()
    inputs, runs, _ = setting(options)
    cytolora.run(grid(options), inputs.data, Path(options.cache) / "runs", weights=inputs.weights)
    return inputs, runs[0]


def bound(options: argparse.Namespace) -> None:
    """The whole protocol again, counted: prints CPU seconds before the first batch, and the encoder's GFLOP."""
    import torch

    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.models.encoder import Encoder

    forward, started, images = Encoder.forward, list[float](), {True: 0, False: 0}

    def counted(self, batch):
        started.append(time.process_time())
        images[torch.is_grad_enabled()] += len(batch)
        return forward(self, batch)

    Encoder.forward = counted
    inputs, run = ours_whole(options)
    Encoder.forward = forward
    forwards, steps = gflop_per_image(BACKBONES.get(options.model), inputs, run)
    print(json.dumps({"start": started[0], "gflop": images[False] * forwards + images[True] * steps}))


def gflop_per_image(backbone, inputs, run) -> tuple[float, float]:
    """GFLOP of an image forwards, and forwards and backwards with LoRA, counted by torch of the plain modules."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cytolora.models.adapters.attach import attach
    from cytolora.models.checkpoints.loading import load_encoder
    from cytolora.models.kernels.last_block import read_first_token_only

    size = backbone.preprocess.size_px
    encoder = load_encoder(backbone, inputs.weights_path(backbone.name)).eval()
    read_first_token_only(encoder)
    with FlopCounterMode(display=False) as forwards, torch.inference_mode():
        encoder(torch.zeros(1, 3, size, size))
    encoder = attach(load_encoder(backbone, inputs.weights_path(backbone.name)), "lora", run.adapter)
    read_first_token_only(encoder)
    with FlopCounterMode(display=False) as steps:
        encoder(torch.zeros(1, 3, size, size)).sum().backward()
    return forwards.get_total_flops() / 1e9, steps.get_total_flops() / 1e9


def theirs_each(options: argparse.Namespace) -> None:
    """One run as a script of one's own would do it."""
    import timm
    import torch
    import torch.nn.functional as F
    from peft import LoraConfig, get_peft_model
    from PIL import Image
    from safetensors.torch import load_file
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    from cytolora.models.adapters.split_qkv import split_qkv
    from cytolora.models.backbones.registry import BACKBONES

    inputs, runs, split = setting(options)
    manifest, backbone = inputs.manifest(runs[0].dataset, runs[0].split), BACKBONES.get(options.model)
    size, preprocess = backbone.preprocess.size_px, backbone.preprocess
    normalise = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocess.mean, preprocess.std)]
    cubic = v2.InterpolationMode.BICUBIC
    crop = v2.RandomResizedCrop(size, scale=(0.7, 1.0), interpolation=cubic)
    augmented = v2.Compose([crop, v2.RandomHorizontalFlip(), *normalise])
    plain = v2.Compose([v2.Resize([size, size], interpolation=cubic), *normalise])

    class Cells(Dataset):
        def __init__(self, samples, transform) -> None:
            self.samples, self.transform = samples, transform

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int):
            sample = self.samples[index]
            image = Image.open(manifest.root / sample.path).convert("RGB")
            return self.transform(image), manifest.classes.index(sample.label)

    model = timm.create_model(backbone.architecture, **backbone.arguments)
    model.load_state_dict(load_file(inputs.weights_path(backbone.name)), strict=False)
    model.reset_classifier(len(manifest.classes), global_pool="avg" if backbone.pool == "mean_patch" else "token")
    targets = ["qkv"]
    if not options.fused:
        split_qkv(model)  # the layers alone: timm fuses what both sides adapt, and PEFT adapts a layer as a whole
        targets = ["q_proj", "v_proj"]
    lora = LoraConfig(r=2, lora_alpha=1, use_rslora=True, lora_dropout=0.25, target_modules=targets)
    model = get_peft_model(model, lora)
    for parameter in model.base_model.model.head.parameters():
        parameter.requires_grad_(True)
    workers = options.workers
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=options.precision == "bf16")
    load = partial(DataLoader, batch_size=32, num_workers=workers, persistent_workers=workers > 0)  # epochs are short
    loaders = [
        load(Cells(split.train, augmented), shuffle=True),
        load(Cells(split.val, plain)),
        load(Cells(split.test, plain)),
    ]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, step = torch.optim.AdamW(trained, lr=RATES[options.rate]), 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    while step < options.steps:
        model.train()
        for images, labels in loaders[0]:
            optimiser.zero_grad()
            with autocast():
                loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1
        _score(model, loaders[1], autocast)
    _score(model, loaders[2], autocast)


def _score(model, loader, autocast) -> None:
    import torch

    model.eval()
    with torch.no_grad(), autocast():
        for images, _ in loader:
            model(images).softmax(dim=-1)


SIDES = {"ours_each": ours_each, "ours_whole": ours_whole, "theirs_each": theirs_each, "bound": bound}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One row."""

    side: str
    precision: str = "fp32"
    workers: int = 0


WHOLE = "ours, whole protocol, fp32"
COUNTED = Side(side="bound")
ROWS = {
    "theirs, 0 workers": Side(side="theirs_each"),
    "theirs, 2 workers": Side(side="theirs_each", workers=2),
    "theirs, bf16 autocast": Side(side="theirs_each", precision="bf16"),
    "ours, each run alone, fp32": Side(side="ours_each"),
    "ours, each run alone, bf16": Side(side="ours_each", precision="bf16"),
    WHOLE: Side(side="ours_whole"),
    "ours, whole protocol, bf16": Side(side="ours_whole", precision="bf16"),
}
FIGURES = ("CPU s", "wall s", "MiB")
Found = dict[str, dict[str, list[float]]]


def command_of(side: Side, cache: Path, options: argparse.Namespace) -> list[str | Path]:
    """Returns the command line of one side."""
    command = [sys.executable, __file__, "--data", options.data, "--model", options.model, "--side", side.side]
    command += ["--backbone-file", options.backbone_file] if options.backbone_file else []
    command += ["--steps", str(options.steps), "--threads", str(options.threads), *(["--fused"] * options.fused)]
    return [*command, "--workers", str(side.workers), "--precision", side.precision, "--cache", cache]


def run_side(side: Side, cache: Path, options: argparse.Namespace) -> dict[str, float]:
    """Runs one side in processes of its own; CPU seconds, wall seconds and the largest peak memory, MiB."""
    rates = 1 if side.side == "ours_whole" else options.rates
    command = command_of(side, cache / side.precision, options)
    costs = [process([*command, "--rate", str(rate)]) for rate in range(rates)]
    scale = 1 if side.side == "ours_whole" else len(RATES) / rates
    cpu, wall = sum(cost.cpu_seconds for cost in costs), sum(cost.wall_seconds for cost in costs)
    return dict(zip(FIGURES, (cpu * scale, wall * scale, max(cost.peak_mib for cost in costs)), strict=True))


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Measures every side in turn, round by round."""
    found, problems = Found(), dict[str, str]()
    sides = {name: ROWS[name] for name in options.only if not ROWS[name].workers or options.with_workers}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, side in sides.items():
                if name in problems:
                    continue
                print(f"end-to-end: {name}, round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                try:
                    values = run_side(side, Path(folder) / side.side, options)
                except RuntimeError as error:
                    problems[name] = f"failed: {last_line(str(error))}"
                    continue
                for title, value in values.items():
                    found.setdefault(name, {}).setdefault(title, []).append(value)
    for name, side in sides.items():
        common = {
            "part": "end-to-end",
            "name": name,
            "conditions": f"{options.steps} steps, {options.threads} thread{'s' * (options.threads > 1)}, "
            f"{options.data.partition('=')[0]}, {options.model}",
            "is_scaled": options.rates < len(RATES) and side.side != "ours_whole",
        }
        if name in problems:
            yield Row(**common, problem=problems[name])
        else:
            yield Row(**common, figures={**found[name], **against_theirs(name, side, found)})
    if options.bound and WHOLE in found:
        yield lower_bound(options, statistics.median(found[WHOLE]["CPU s"]))


def lower_bound(options: argparse.Namespace, measured: float) -> Row:
    """The least that the whole protocol in fp32 can take: its start, and its products at the measured peak."""
    import torch
    from peak import peak_gflops

    with tempfile.TemporaryDirectory() as folder:
        output = process(command_of(COUNTED, Path(folder), options)).output
    counted = json.loads(last_line(output))
    torch.set_num_threads(1)
    peak = max(peak_gflops("fp32")() for _ in range(3))
    products = counted["gflop"] / peak
    least = counted["start"] + products
    return Row(
        part="end-to-end",
        name="bound of the whole protocol, fp32",
        figures={
            "CPU s": (least,),
            "of it start": (counted["start"],),
            "of it products": (products,),
            "measured / bound": (measured / least,),
        },
        conditions=f"{options.steps} steps, {counted['gflop']:,.0f} GFLOP at {peak:.0f} GFLOP/s",
    )


def against_theirs(name: str, side: Side, found: Found) -> dict[str, Sequence[float]]:
    """Theirs over ours: against the faster of theirs in fp32, and in bf16 against autocast too."""
    slow = [other for other in found if other.startswith("theirs") and ROWS[other].precision == "fp32"]
    others = {min(slow, key=lambda other: statistics.median(found[other]["wall s"])): "theirs"} if slow else {}
    if side.precision == "bf16" and "theirs, bf16 autocast" in found:
        others["theirs, bf16 autocast"] = "autocast"
    if not name.startswith("ours"):
        return {}
    return {
        f"{title} / ours, {kind}": ratios(found[other][kind], found[name][kind])
        for other, title in others.items()
        for kind in FIGURES
    }


def draw(folder: Path, num_images: int) -> tuple[str, Path]:
    """Draws cells and writes an encoder with random weights; returns the data as NAME=PATH, and the encoder's file."""
    import timm
    from safetensors.torch import save_file

    from cytolora.data.synthetic.dataset import write_synthetic

    write_synthetic(folder / "cells", num_images=num_images, num_slides=20, seed=0)
    model = timm.create_model("vit_tiny_patch16_224", depth=6, num_classes=0)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "backbone.yaml").write_text(OWN_ENCODER, encoding="utf-8")
    return f"synthetic={folder / 'cells'}", folder / "backbone.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="NAME=PATH; cells are drawn if not given")
    parser.add_argument("--images", type=int, default=NUM_IMAGES, help="how many are drawn")
    parser.add_argument("--model", default="vit-tiny6")
    parser.add_argument("--backbone-file", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rates", type=int, default=len(RATES), help="so many runs are made where each is alone")
    parser.add_argument("--with-workers", action="store_true", help="theirs with two loader processes too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help="these alone")
    parser.add_argument("--bound", action="store_true", help="also the least that the whole protocol can take")
    parser.add_argument("--fused", action="store_true", help="theirs adapts timm's qkv as a whole, as scripts often do")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--cache", default="", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="fp32", help=argparse.SUPPRESS)
    add_rows_option(parser)
    options = parser.parse_args()
    if options.side:
        import torch

        torch.set_num_threads(options.threads)
        SIDES[options.side](options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            options.data, options.backbone_file = draw(Path(folder), options.images)
            options.model = "six-blocks"
        return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
