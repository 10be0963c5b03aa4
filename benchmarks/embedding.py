"""Features of a ViT-B/16 on the CPU: ours against torch, ONNX Runtime and OpenVINO, interleaved, in CPU seconds.

    .venv/bin/python benchmarks/embedding.py --rounds 3
    .venv/bin/python benchmarks/embedding.py --memory     (peak memory too, each contender in a process of its own)

Random weights, images in memory. The share of peak is that of the fastest product of the same precision measured in
the same run (benchmarks/peak.py); int8 is set against the peak of bf16. Differences are those from torch in fp32.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from measuring import Contender, Work, not_installed, process, race
from peak import peaks
from rows import Figures, Row, add_rows_option, show
from torch import Tensor

from cytolora.models.encoder import Encoder
from cytolora.models.kernels.cpu import for_inference, keep_freed_memory
from cytolora.models.kernels.packed import Precision

SIZE_PX, BATCH, NUM_COMPARED = 224, 16, 4
GFLOP_PER_IMAGE = {"whole": 35.13, "first token": 32.70}
"""Of a forward pass of ViT-B/16 at 224 px, multiplication and addition apart."""
ONNX, ONNX_INT8 = "encoder.onnx", "encoder-int8.onnx"

Embed = Callable[[Tensor], Tensor]


def new_encoder() -> Encoder:
    """Makes the encoder; equal weights in every process."""
    torch.manual_seed(0)
    trunk = timm.create_model("vit_base_patch16_224", num_classes=0).requires_grad_(False)
    return Encoder(trunk, "cls").eval()


def export(folder: Path) -> None:
    """Writes the encoder to ONNX, in fp32 and in ONNX Runtime's dynamic int8."""
    dynamic = {"images": {0: torch.export.Dim("batch", min=1, max=512)}}
    example = (torch.randn(2, 3, SIZE_PX, SIZE_PX),)
    torch.onnx.export(new_encoder(), example, folder / ONNX, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    if not not_installed(["onnxruntime"]):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(folder / ONNX, folder / ONNX_INT8, weight_type=QuantType.QInt8)


def torch_embed(*, autocast: bool) -> Embed:
    """The encoder as it is."""
    encoder = new_encoder()

    def embed(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return encoder(images).float()

    return embed


def ours(precision: Precision) -> Embed:
    """The encoder as `cytolora embed` runs it."""
    keep_freed_memory()
    return for_inference(new_encoder(), torch.device("cpu"), precision)


def onnx_runtime(path: Path, threads: int) -> Embed:
    """An exported encoder, run by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def openvino(path: Path, threads: int, hint: str) -> Embed:
    """An exported encoder, run by OpenVINO."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda images: torch.from_numpy(model(images.numpy())[0])


def contenders(options: argparse.Namespace, folder: Path, found: dict[str, Tensor]) -> list[Contender]:
    """Lists all; the first one is what others are set against.

    Args:
        folder: Where the exported encoder is.
        found: Receives features of the first images, by name.
    """
    images = torch.randn(options.batch, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(1))

    def ready(name: str, make: Callable[[], Embed]) -> Work:
        embed = torch.inference_mode()(make())
        found[name] = embed(images[:NUM_COMPARED])
        return lambda: embed(images)

    def contender(name: str, make: Callable[[], Embed], *needs: str) -> Contender:
        precision = "fp32" if "fp32" in name else "bf16"
        gflop = GFLOP_PER_IMAGE["first token" if name.startswith("ours") else "whole"]
        return Contender(name=name, make=partial(ready, name, make), precision=precision, gflop=gflop, needs=needs)

    threads, exported = options.threads, folder / ONNX
    own: tuple[Precision, ...] = ("fp32", "bf16")
    return [
        contender("torch, fp32", partial(torch_embed, autocast=False)),
        contender("torch, bf16 autocast", partial(torch_embed, autocast=True)),
        contender("ONNX Runtime, fp32", partial(onnx_runtime, exported, threads), "onnxruntime", "onnx"),
        contender("ONNX Runtime, int8", partial(onnx_runtime, folder / ONNX_INT8, threads), "onnxruntime", "onnx"),
        contender("OpenVINO, fp32", partial(openvino, exported, threads, "f32"), "openvino", "onnx"),
        contender("OpenVINO, bf16", partial(openvino, exported, threads, "bf16"), "openvino", "onnx"),
        *(contender(f"ours, {precision}", partial(ours, precision)) for precision in own),
    ]


def peak_memory(contender: Contender, options: argparse.Namespace, folder: Path) -> Figures:
    """Embeds a batch in a process of its own."""
    arguments = ["--only", contender.name, "--batch", str(options.batch), "--threads", str(options.threads)]
    cost = process([sys.executable, __file__, *arguments, "--exported", folder])
    return {"peak GiB": (cost.peak_mib / 1024,)}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Measures images per CPU second, ratios, shares of the peak and differences; with ``--memory`` peak memory too."""
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), dict[str, Tensor]()
        if not not_installed(["onnx", "onnxscript"]):
            # in a process of its own: what the exporter loads is no part of this one's memory
            process([sys.executable, __file__, "--export", folder])

        def extra(contender: Contender) -> Figures:
            features, exact = found[contender.name], found.get("torch, fp32")
            cosine = {}
            if exact is not None:
                least = F.cosine_similarity(features.double(), exact.double()).min()
                cosine = {"1 - least cosine": (max(0.0, 1 - float(least)),)}
            return {**cosine, **(peak_memory(contender, options, folder) if options.memory else {})}

        yield from race(
            "embedding",
            contenders(options, folder, found),
            num_images=options.batch,
            rounds=options.rounds,
            peaks=peaks(),
            conditions=f"batch {options.batch}, {options.threads} thread{'s' * (options.threads > 1)}",
            is_scaled=options.batch < BATCH,
            extra=extra,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="measure peak memory too")
    parser.add_argument("--only", help="embed with one contender, and print nothing")
    parser.add_argument("--exported", type=Path, default=Path(), help="where --only finds the exported encoder")
    parser.add_argument("--export", type=Path, help="write the encoder to ONNX in this folder, and measure nothing")
    add_rows_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.export:
        export(options.export)
        return 0
    if options.only:
        known = contenders(options, options.exported, {})
        next(contender for contender in known if contender.name == options.only).make()()
        return 0
    return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
