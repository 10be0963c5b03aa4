"""One LoRA training step of a ViT-B/16 on the CPU: ours against transformers + PEFT, interleaved, in CPU seconds.

    .venv/bin/python benchmarks/lora_step.py --rounds 3
    .venv/bin/python benchmarks/lora_step.py --memory     (peak memory too, each contender in a process of its own)

Random weights in the official architecture, images in memory: arithmetic alone; once with transformers' Trainer and its
loader around it. The share of peak is that of the faster of torch's own and oneDNN's packed product of the same
precision, measured in the same run at the shape of the MLP (benchmarks/peak.py).
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import timm
import torch
import torch.nn.functional as F
from measuring import Contender, Work, process, race
from peak import peaks
from rows import Figures, Row, add_rows_option, show
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.cpu import keep_freed_memory, speed_up
from cytolora.models.kernels.last_block import read_first_token_only
from cytolora.models.kernels.packed import Precision
from cytolora.training.group import ALONE
from cytolora.training.loop import add_gradients, images_at_once
from cytolora.training.passes import passes

CLASSES, SIZE_PX, BATCH = 5, 224, 32
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

    def step(images: Tensor, labels: Tensor) -> Tensor:
        return add_gradients(classifier, images, labels, passes(len(images), at_once, ALONE, None))

    return _step(classifier.trainable(), step)


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


def contenders(options: argparse.Namespace) -> list[Contender]:
    """Lists all; the first one is what others are set against."""
    adapter = AdapterSpec(rank=options.rank, targets=tuple(options.targets))

    def ready(make: Callable[[AdapterSpec], Step]) -> Work:
        step = make(adapter)
        images = torch.randn(options.batch, 3, SIZE_PX, SIZE_PX)
        labels = torch.randint(0, CLASSES, (options.batch,))
        step(images[:2], labels[:2])
        return lambda: step(images, labels)

    def peer(name: str, make: Callable[[AdapterSpec], Step], *needs: str) -> Contender:
        precision = "bf16" if "bf16" in name else "fp32"
        whole = GFLOP_PER_IMAGE["whole"]
        return Contender(name=name, make=partial(ready, make), precision=precision, gflop=whole, needs=needs)

    def own(precision: Precision) -> Contender:
        gflop, make = GFLOP_PER_IMAGE["first token"], partial(ready, partial(ours, precision))
        return Contender(name=f"ours, {precision}", make=make, precision=precision, gflop=gflop)

    libraries = ("transformers", "peft")
    return [
        peer("transformers + PEFT, fp32", partial(transformers_peft, autocast=False), *libraries),
        peer("transformers + PEFT in its Trainer, fp32", transformers_trainer, *libraries, "accelerate"),
        peer("transformers + PEFT, bf16 autocast", partial(transformers_peft, autocast=True), *libraries),
        peer("timm + PEFT, fp32", timm_peft),
        own("fp32"),
        own("bf16"),
    ]


def peak_memory(contender: Contender, options: argparse.Namespace) -> Figures:
    """Runs two steps, one of them of two images, in a process of their own."""
    arguments = ["--only", contender.name, "--batch", str(options.batch), "--threads", str(options.threads)]
    arguments += ["--rank", str(options.rank), "--targets", *options.targets]
    cost = process([sys.executable, __file__, *arguments])
    return {"peak GiB": (cost.peak_mib / 1024,)}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Measures images per CPU second, ratios and shares of the peak; with ``--memory`` peak memory too."""
    yield from race(
        "lora-step",
        contenders(options),
        num_images=options.batch,
        rounds=options.rounds,
        peaks=peaks(),
        conditions=f"batch {options.batch}, rank {options.rank} on {' '.join(options.targets)}, "
        f"{options.threads} thread{'s' * (options.threads > 1)}",
        is_scaled=options.batch < BATCH,
        extra=partial(peak_memory, options=options) if options.memory else lambda contender: {},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--targets", nargs="+", default=["q", "v"])
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--only", help="run two steps of one contender, and print nothing")
    add_rows_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only:
        (chosen,) = (contender for contender in contenders(options) if contender.name == options.only)
        chosen.make()()
        return 0
    return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
