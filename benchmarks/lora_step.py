"""One LoRA training step of a ViT-B/16 on the CPU: ours against transformers + PEFT, interleaved, in CPU seconds.

    .venv/bin/python benchmarks/lora_step.py --rounds 3
    .venv/bin/python benchmarks/lora_step.py --memory     (each contender in a process of its own: peak memory)

Random weights in the official architecture, images in memory: arithmetic alone; once with transformers' Trainer and its
loader around it. The share of peak is that of the faster of torch's own and oneDNN's packed product of the same
precision, measured in the same run at the shape of the MLP.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.cpu import keep_freed_memory, speed_up
from cytolora.models.kernels.last_block import read_first_token_only
from cytolora.models.kernels.packed import DTYPES, FrozenProduct, Precision
from cytolora.training.loop import add_gradients, images_at_once

CLASSES, SIZE_PX = 5, 224
GFLOP_PER_IMAGE = {"whole": 70.75, "first token": 65.77}
"""Of a step, multiplication and addition apart: forward and input gradients of ViT-B/16 at 224 px, all products of
frozen weights and attention; with the last block for all tokens, and for what its first token needs."""

Step = Callable[[Tensor, Tensor], None]


def ours(precision: Precision, adapter: AdapterSpec) -> Step:
    """The step of `cytolora run`."""
    keep_freed_memory()
    trunk = timm.create_model("vit_base_patch16_224", num_classes=0).requires_grad_(False)
    encoder = attach(Encoder(trunk, "cls"), "lora", adapter)
    read_first_token_only(encoder)
    speed_up(encoder, precision)
    classifier = EncoderWithHead(encoder, CLASSES).train()
    at_once = images_at_once(classifier, torch.device("cpu"))
    return _step(classifier.trainable(), lambda images, labels: add_gradients(classifier, images, labels, at_once))


def timm_peft(adapter: AdapterSpec) -> Step:
    """The same classifier with timm's and PEFT's own layers."""
    trunk = timm.create_model("vit_base_patch16_224", num_classes=0).requires_grad_(False)
    classifier = EncoderWithHead(attach(Encoder(trunk, "cls"), "lora", adapter), CLASSES).train()
    return _step(classifier.trainable(), _whole(classifier))


def transformers_peft(adapter: AdapterSpec, *, autocast: bool) -> Step:
    """What most users would write: ViTForImageClassification and LoraConfig."""
    peft = _transformers_peft(adapter)

    def logits(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return peft(pixel_values=images).logits.float()

    return _step([parameter for parameter in peft.parameters() if parameter.requires_grad], _whole(logits))


def transformers_trainer(adapter: AdapterSpec) -> Step:
    """The same model in transformers' Trainer, which makes its own loader and optimiser."""
    from transformers import Trainer, TrainingArguments

    peft, folder = _transformers_peft(adapter), tempfile.TemporaryDirectory()
    options = {"max_steps": 1, "learning_rate": 1e-3, "use_cpu": True, "save_strategy": "no", "logging_strategy": "no"}

    def step(images: Tensor, labels: Tensor) -> None:
        rows = [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]
        size = {"per_device_train_batch_size": len(images)}
        arguments = TrainingArguments(
            folder.name, **options, **size, report_to=[], disable_tqdm=True, logging_nan_inf_filter=False
        )
        Trainer(model=peft, args=arguments, train_dataset=rows).train()

    return step


def _transformers_peft(adapter: AdapterSpec) -> nn.Module:
    from peft import LoraConfig, get_peft_model
    from transformers import ViTConfig, ViTForImageClassification

    names = {"q": "query", "k": "key", "v": "value", "o": "attention.output.dense"}
    model = ViTForImageClassification(ViTConfig(num_labels=CLASSES))
    found = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    short = {"query": "q", "key": "k", "value": "v", "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o"}
    targets = [name for name in found if short.get(name.rpartition(".")[2]) in adapter.targets]
    targets += [name for name in found if "o" in adapter.targets and name.endswith(names["o"])]
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=1,
        use_rslora=True,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        modules_to_save=["classifier"],
    )
    peft = get_peft_model(model, config).train()
    num_adapted = sum(parameter.requires_grad for parameter in peft.parameters())
    assert num_adapted == 2 * 12 * len(adapter.targets) + 2, num_adapted
    return peft


def _whole(logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], object]:
    return lambda images, labels: F.cross_entropy(logits(images), labels).backward()


def _step(trained: list[nn.Parameter], add: Callable[[Tensor, Tensor], object]) -> Step:
    optimiser = torch.optim.AdamW(trained, lr=1e-3)

    def step(images: Tensor, labels: Tensor) -> None:
        optimiser.zero_grad()
        add(images, labels)
        optimiser.step()

    return step


def contenders(adapter: AdapterSpec) -> dict[str, Callable[[], Step]]:
    """Each by name; made when called."""
    return {
        "transformers + PEFT, fp32": lambda: transformers_peft(adapter, autocast=False),
        "transformers + PEFT in its Trainer, fp32": lambda: transformers_trainer(adapter),
        "transformers + PEFT, bf16 autocast": lambda: transformers_peft(adapter, autocast=True),
        "timm + PEFT, fp32": lambda: timm_peft(adapter),
        "ours, fp32": lambda: ours("fp32", adapter),
        "ours, bf16": lambda: ours("bf16", adapter),
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_gflops(precision: Precision) -> Callable[[], float]:
    """Returns what measures the rate of the faster of two large products."""
    rows, weight = (torch.randn(*size).to(DTYPES[precision]) for size in ((6304, 768), (3072, 768)))
    products = (lambda: F.linear(rows, weight), partial(FrozenProduct([weight], [None], precision).forward, rows))

    def rate(product: Callable[[], Tensor]) -> float:
        with torch.inference_mode():
            product()
            return 4 * 2 * 6304 * 768 * 3072 / cpu_seconds(lambda: [product() for _ in range(4)]) / 1e9

    return lambda: max(map(rate, products))


def measure(options: argparse.Namespace, adapter: AdapterSpec) -> None:
    """Prints images per CPU second, ratios and shares of peak."""
    images = torch.randn(options.batch, 3, SIZE_PX, SIZE_PX)
    labels = torch.randint(0, CLASSES, (options.batch,))
    steps = {name: make() for name, make in contenders(adapter).items()}
    peaks = {"fp32": peak_gflops("fp32"), "bf16": peak_gflops("bf16")}
    rates: dict[str, list[float]] = {name: [] for name in (*steps, *peaks)}
    for step in steps.values():
        step(images[:2], labels[:2])
    for _ in range(options.rounds):
        for name, step in steps.items():
            rates[name].append(options.batch / cpu_seconds(lambda step=step: step(images, labels)))
        for name, peak in peaks.items():
            rates[name].append(peak())
    baseline = rates["transformers + PEFT, fp32"]
    for name in steps:
        ratios = [rate / base for rate, base in zip(rates[name], baseline, strict=True)]
        precision = "bf16" if "bf16" in name else "fp32"
        work = GFLOP_PER_IMAGE["first token" if name.startswith("ours") else "whole"]
        shares = [work * rate / peak for rate, peak in zip(rates[name], rates[precision], strict=True)]
        print(
            f"{name}: {statistics.median(rates[name]):.2f} images per CPU second, "
            f"ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}], "
            f"{100 * statistics.median(shares):.0f} % of the {precision} peak"
        )
    for name in peaks:
        print(f"peak {name}: {statistics.median(rates[name]):.0f} GFLOP/s")


def measure_memory(options: argparse.Namespace, adapter: AdapterSpec) -> None:
    """Prints the peak memory of each contender in a process of its own."""
    for name in contenders(adapter):
        command = [sys.executable, __file__, "--only", name, "--batch", str(options.batch), "--rank", str(adapter.rank)]
        command += ["--targets", *adapter.targets]
        print(f"{name}: {subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--targets", nargs="+", default=["q", "v"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help="run two steps of one contender and print its peak memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    adapter = AdapterSpec(rank=options.rank, targets=tuple(options.targets))
    if options.only:
        step = contenders(adapter)[options.only]()
        for _ in range(2):
            step(torch.randn(options.batch, 3, SIZE_PX, SIZE_PX), torch.randint(0, CLASSES, (options.batch,)))
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at the peak")
    elif options.memory:
        measure_memory(options, adapter)
    else:
        measure(options, adapter)


if __name__ == "__main__":
    main()
