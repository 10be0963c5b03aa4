"""A slice of the few-shot grid, from files to accuracies: ours against timm + PEFT + DataLoader, wall and CPU seconds.

    .venv/bin/python benchmarks/end_to_end.py --data herlev=smear2005 --backbone-file vit_tiny6/backbone.yaml --steps 20

4 shots, one seed, five learning rates, LoRA of rank 2 on q and v, batch 32, the same images and numbers of steps on
both sides. The paper's budget at 4 shots is 250 steps (``--steps 250``).
"Each run alone" is the same work on both sides: a process a run, validated after every epoch; ours keeps decoded images
from one run to the next, as it does. "The whole protocol" is what each side would do: ours loads once, validates once
and tests the chosen rate, theirs does all of it for every rate. fp32 on both sides; bf16 of ours is set against theirs
in fp32 and under autocast. Memory is that of the main process. The fewer the steps, the more starting counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SEED, SHOTS = 1, 4


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


def ours_whole(options: argparse.Namespace) -> None:
    """The slice as `cytolora run` does it."""
    import cytolora
    from cytolora.models.kernels.cpu import keep_freed_memory

    keep_freed_memory()
    inputs, _, _ = setting(options)
    cytolora.run(grid(options), inputs.data, Path(options.cache) / "runs", weights=inputs.weights)


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


SIDES = {"ours_each": ours_each, "ours_whole": ours_whole, "theirs_each": theirs_each}


def run_side(side: str, cache: str, precision: str = "fp32", *, rates: int = len(RATES), workers: int = 0) -> dict:
    """Runs one side in processes of its own; wall seconds, CPU seconds and the largest peak memory, MiB."""
    wall, cpu, memory = 0.0, 0.0, 0.0
    for rate in range(rates):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--rate", str(rate), "--cache", cache]
        command += ["--workers", str(workers), "--precision", precision]
        started = time.perf_counter()
        found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600)
        wall += time.perf_counter() - started
        report = json.loads(found.stdout.strip().splitlines()[-1])
        cpu, memory = cpu + report["cpu"], max(memory, report["memory"])
    return {"wall": wall, "cpu": cpu, "memory": memory}


def main() -> None:
    """Measures and prints, or runs one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="NAME=PATH")
    parser.add_argument("--model", default="vit-tiny6")
    parser.add_argument("--backbone-file", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fused", action="store_true", help="theirs adapts timm's qkv as a whole, as scripts often do")
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache", default="")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    if options.side:
        import torch

        torch.set_num_threads(options.threads)
        SIDES[options.side](options)
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        print(json.dumps({"cpu": cpu, "memory": own.ru_maxrss / 1024}))
        return
    found: dict[str, list[dict]] = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            for name, run in {
                "theirs, 0 workers": partial(run_side, "theirs_each", first),
                "theirs, 2 workers": partial(run_side, "theirs_each", first, workers=2),
                "theirs, bf16 autocast": partial(run_side, "theirs_each", first, "bf16"),
                "ours, each run alone": partial(run_side, "ours_each", first),
                "ours, each run alone, bf16": partial(run_side, "ours_each", f"{first}/bf16", "bf16"),
                "ours, whole protocol": partial(run_side, "ours_whole", second, rates=1),
                "ours, whole protocol, bf16": partial(run_side, "ours_whole", f"{second}/bf16", "bf16", rates=1),
            }.items():
                found.setdefault(name, []).append(run())
                print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    for name, sides in found.items():
        shown = ", ".join(f"{key} {statistics.median(side[key] for side in sides):.1f}" for key in sides[0])
        print(f"{name}: {shown}")
    theirs = ("theirs, 0 workers", "theirs, 2 workers")
    best = min(theirs, key=lambda name: statistics.median(side["wall"] for side in found[name]))
    print(f"Theirs: {best}, or bf16 autocast where that is said.")
    for name in (one for one in found if one.startswith("ours")):
        print_ratios(name, found[best], found[name])
        if name.endswith("bf16"):
            print_ratios(f"{name} (autocast)", found["theirs, bf16 autocast"], found[name])


def print_ratios(name: str, theirs: list[dict], ours: list[dict]) -> None:
    """Prints how many times as much theirs took: the median of the rounds, the smallest and the largest."""
    for key in ("wall", "cpu", "memory"):
        ratios = [left[key] / right[key] for left, right in zip(theirs, ours, strict=True)]
        print(f"{name}: {key}, theirs / ours {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")


if __name__ == "__main__":
    main()
