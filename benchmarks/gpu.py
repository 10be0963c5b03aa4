"""Training and inference of ViT-B/16 and ViT-L/14 on a GPU in bf16: images a second and share of the measured peak.

    .venv/bin/python benchmarks/gpu.py                       (all rows; some minutes, most of them compiling)
    .venv/bin/python benchmarks/gpu.py --models vit_base_patch16_224 --batches 10 --ways eager graph
    .venv/bin/python benchmarks/gpu.py --device cpu --models vit_tiny_patch16_224 --batches 2 --ways eager adapters

One row each for eager, compiled (reduce-overhead), CUDA graphs, and five adapters in one step (the learning rates of a
seed, which share their images). Random weights, images on the device. The peak is that of a large product, measured in
the same run; what a device cannot do is a row "not measured".
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product

import timm
import torch
import torch.nn.functional as F
from rows import PEAK_SHARE, Figures, Row, add_rows_option, show
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.cpu import for_training

CLASSES, NUM_ADAPTERS = 25, 5
WAYS = ("eager", "compiled", "graph", "adapters")
Step = Callable[[], object]


class ManyLora(nn.Module):
    """Rank-2 LoRA of several adapters on one frozen projection; the batch is their batches, one after the other."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(NUM_ADAPTERS, base.in_features, rank) * base.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(NUM_ADAPTERS, rank, base.out_features))

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens [adapters x batch, tokens, width]."""
        apart = F.dropout(tokens, 0.25, self.training).reshape(NUM_ADAPTERS, -1, tokens.shape[-1])
        low = torch.bmm(apart, self.down.to(apart.dtype))
        return self.base(tokens) + torch.bmm(low, self.up.to(low.dtype)).view(*tokens.shape[:-1], -1) * 2**-0.5


def classifier_of(name: str, device: torch.device) -> EncoderWithHead:
    """The classifier that a run of the few-shot grid trains, ready for its device."""
    encoder = attach(frozen(name), "lora", AdapterSpec(rank=2))
    autocast = for_training(encoder, device, "bf16")
    return EncoderWithHead(encoder, CLASSES, autocast=autocast).to(device).train()


def many_of(name: str, device: torch.device) -> EncoderWithHead:
    """The same with several adapters; one head stands for theirs."""
    encoder = frozen(name)
    for block in encoder.trunk.blocks:
        block.attn.qkv = split = SplitQKV(block.attn.qkv)
        split.q_proj, split.v_proj = ManyLora(split.q_proj), ManyLora(split.v_proj)
    autocast = for_training(encoder, device, "bf16")
    return EncoderWithHead(encoder, CLASSES, autocast=autocast).to(device).train()


def frozen(name: str) -> Encoder:
    """An encoder with random weights."""
    return Encoder(timm.create_model(name, num_classes=0, img_size=224).requires_grad_(False), "cls")


def training_step(classifier: EncoderWithHead, images: Tensor) -> Step:
    """Returns one step on images that stay where they are."""
    labels = torch.randint(0, CLASSES, (len(images),), device=images.device)
    on_gpu = images.device.type == "cuda"
    optimiser = torch.optim.AdamW(classifier.trainable(), lr=1e-3, fused=on_gpu, capturable=on_gpu)

    def step() -> None:
        optimiser.zero_grad(set_to_none=not on_gpu)  # a graph writes to the gradients that it knows
        F.cross_entropy(classifier(images), labels).backward()
        optimiser.step()

    return step


def inference_step(classifier: EncoderWithHead, images: Tensor) -> Step:
    """Returns one forward pass."""
    classifier.eval()

    def step() -> None:
        with torch.inference_mode():
            classifier(images)

    return step


def graphed(step: Step) -> Step:
    """Records a step as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def seconds(step: Step, device: torch.device) -> float:
    """Median seconds of a step; as many as fit into two seconds, at least five."""
    found: list[float] = []
    step()
    while len(found) < 5 or sum(found) < 2:
        settle(device)
        started = time.perf_counter()
        step()
        settle(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def settle(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_flops(device: torch.device) -> float:
    """Floating-point operations a second of a large bf16 product, multiplication and addition apart."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, device)


def flops_of(step: Step) -> int:
    """Operations of one step, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def row(name: str, work: str, way: str, batch: int, device: torch.device) -> tuple[float, float]:
    """Returns images a second and operations a second of one row."""
    num_images = batch * (NUM_ADAPTERS if way == "adapters" else 1)
    images = torch.randn(num_images, 3, 224, 224, device=device)
    classifier = many_of(name, device) if way == "adapters" else classifier_of(name, device)
    make = training_step if work == "training" else inference_step
    flops = flops_of(make(classifier, images))
    if way == "compiled":
        classifier.compile(mode="reduce-overhead")
    step = make(classifier, images)
    took = seconds(graphed(step) if way == "graph" else step, device)
    return num_images / took, flops / took


def measured(name: str, work: str, way: str, batch: int, device: torch.device, peak: float) -> Figures:
    """Returns the figures of a row; memory of earlier rows (graphs, compiled code) is released first."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    rate, flops = row(name, work, way, batch, device)
    return {"images/s": (rate,), PEAK_SHARE: (100 * flops / peak,)}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Measures every combination that exists."""
    device = None if options.device == "none" else torch.device(options.device)
    peak = peak_flops(device) if device else 0.0
    if device is not None:
        shown = torch.cuda.get_device_name() if device.type == "cuda" else device.type
        yield Row(part="gpu", name=f"peak, bf16, {shown}", figures={"TFLOP/s": (peak / 1e12,)})
    for name, work, batch, way in product(options.models, options.work, options.batches, options.ways):
        if way == "adapters" and work == "inference":
            continue
        figures, problem = {}, "not measured: no GPU" if device is None else ""
        if device is not None and way == "graph" and device.type != "cuda":
            problem = "not measured: needs CUDA"
        if device is not None and not problem:
            try:
                figures = measured(name, work, way, batch, device, peak)
            except torch.OutOfMemoryError:
                problem = "not measured: out of memory"
        title, conditions = f"{name}, {work}, {way}", f"batch {batch}"
        yield Row(part="gpu", name=f"{title}, {conditions}", figures=figures, conditions=conditions, problem=problem)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "none")
    parser.add_argument("--models", nargs="+", default=["vit_base_patch16_224", "vit_large_patch14_clip_224"])
    parser.add_argument("--batches", nargs="+", type=int, default=[10, 32, 256])
    parser.add_argument("--work", nargs="+", choices=("training", "inference"), default=["training", "inference"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
