"""Features of a ViT-B/16 on the CPU: ours against torch as it is and ONNX Runtime, in interleaved pairs of CPU seconds.

    .venv/bin/python benchmarks/embedding.py --rounds 3

Random weights, images in memory. The share of peak is that of the fastest product of the same precision measured in
the same run.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from lora_step import cpu_seconds, peak_gflops
from torch import Tensor

from cytolora.models.encoder import Encoder
from cytolora.models.kernels.cpu import for_inference, keep_freed_memory

SIZE_PX = 224
GFLOP_PER_IMAGE = {"whole": 35.13, "first token": 32.70}
"""Of a forward pass of ViT-B/16 at 224 px, multiplication and addition apart."""

Embed = Callable[[Tensor], Tensor]


def onnx_runtime(encoder: Encoder, threads: int) -> Embed:
    """The encoder exported once, run by ONNX Runtime in fp32."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        dynamic = {"images": {0: torch.export.Dim("batch", min=1, max=512)}}
        torch.onnx.export(
            encoder, (torch.randn(2, 3, SIZE_PX, SIZE_PX),), path, dynamo=True, dynamic_shapes=dynamic, verbose=False
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    trunk = timm.create_model("vit_base_patch16_224", num_classes=0).requires_grad_(False)
    encoder, cpu = Encoder(trunk, "cls").eval(), torch.device("cpu")
    embeds: dict[str, Embed] = {
        "torch, fp32": encoder,
        "ONNX Runtime, fp32": onnx_runtime(encoder, options.threads),
        "ours, fp32": for_inference(encoder, cpu),
        "ours, bf16": for_inference(encoder, cpu, "bf16"),
    }
    images = torch.randn(options.batch, 3, SIZE_PX, SIZE_PX)
    peaks = {"fp32": peak_gflops("fp32"), "bf16": peak_gflops("bf16")}
    rates: dict[str, list[float]] = {name: [] for name in (*embeds, *peaks)}
    with torch.inference_mode():
        exact = encoder(images[:4])
        for name, embed in embeds.items():
            found = embed(images[:4])
            print(f"{name}: largest difference {((found - exact).abs().max() / exact.abs().max()):.1e} of the largest")
        for _ in range(options.rounds):
            for name, embed in embeds.items():
                rates[name].append(options.batch / cpu_seconds(lambda embed=embed: embed(images)))
            for name, peak in peaks.items():
                rates[name].append(peak())
    for name in embeds:
        ratios = [rate / base for rate, base in zip(rates[name], rates["torch, fp32"], strict=True)]
        precision = "bf16" if "bf16" in name else "fp32"
        work = GFLOP_PER_IMAGE["first token" if name.startswith("ours") else "whole"]
        shares = [work * rate / peak for rate, peak in zip(rates[name], rates[precision], strict=True)]
        print(
            f"{name}: {statistics.median(rates[name]):.2f} images per CPU second, "
            f"ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}], "
            f"{100 * statistics.median(shares):.0f} % of the {precision} peak"
        )


if __name__ == "__main__":
    main()
