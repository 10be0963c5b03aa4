"""Features in int8 against fp32: the least cosine, and speed beside bf16 and ONNX Runtime's dynamic int8.

    .venv/bin/python benchmarks/int8.py --images herlev
    .venv/bin/python benchmarks/int8.py --images herlev --backbone-file vit_tiny6/backbone.yaml --least-ratio 0

Images are those below a folder, squashed to the encoder's size; without one, noise. Without a backbone, ViT-B/16 with
random weights. Rounds are interleaved, in CPU seconds. Exit 1 where the least cosine is below 0.9995 or that of ONNX
Runtime, or int8 is not `--least-ratio` times as fast as bf16.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from embedding import Embed
from lora_step import cpu_seconds
from torch import Tensor

from cytolora.config.run import Preprocess
from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.data.walk import walk
from cytolora.models.backbones.registry import BACKBONES, read_backbone_file
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.kernels.cpu import for_inference, keep_freed_memory
from cytolora.models.kernels.int8 import check_int8

LEAST_COSINE = 0.9995
RANDOM = Preprocess(size_px=224, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def onnx_int8(encoder: Encoder, size_px: int) -> Embed:
    """The encoder exported once, its weights per channel and its activations dynamically in int8 by ONNX Runtime."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        exported, rounded = (Path(folder) / f"{name}.onnx" for name in ("exported", "rounded"))
        dynamic = {"images": {0: torch.export.Dim("batch", min=1, max=512)}}
        example = (torch.randn(2, 3, size_px, size_px),)
        torch.onnx.export(encoder, example, exported, dynamo=True, dynamic_shapes=dynamic, verbose=False)
        quantize_dynamic(exported, rounded, per_channel=True, op_types_to_quantize=["MatMul"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(rounded, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def views(folder: Path | None, num_images: int, preprocess: Preprocess) -> Tensor:
    """Images of a folder, evenly drawn, as the encoder takes them; noise if there is none."""
    if folder is None:
        return torch.randn(num_images, 3, preprocess.size_px, preprocess.size_px)
    paths = [one.path for one in walk(folder) if one.kind == "image" and not one.path.stem.endswith("-d")]
    drawn = [paths[index] for index in torch.linspace(0, len(paths) - 1, min(num_images, len(paths))).long()]
    return to_batch([evaluation_view(decode(path), preprocess) for path in drawn], preprocess)


def least_and_mean(embed: Embed, images: Tensor, exact: Tensor) -> tuple[float, float]:
    """Cosines between features and the exact ones, the images one by one."""
    found = torch.cat([embed(one) for one in images.split(1)])
    cosines = F.cosine_similarity(found.double(), exact.double())
    return cosines.min().item(), cosines.mean().item()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--num-images", type=int, default=64)
    parser.add_argument("--backbone-file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--least-ratio", type=float, default=1.2)
    parser.add_argument("--quick", action="store_true", help="8 images, 2 rounds of batches of 4")
    options = parser.parse_args(arguments)
    if options.quick:
        options.num_images, options.rounds, options.batches = 8, 2, [4]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    check_int8("cpu")
    if options.backbone_file is None:
        trunk = timm.create_model("vit_base_patch16_224", num_classes=0).requires_grad_(False)
        encoder, preprocess = Encoder(trunk, "cls").eval(), RANDOM
    else:
        spec = read_backbone_file(options.backbone_file)
        BACKBONES.add(spec)
        encoder, preprocess = load_encoder(spec, spec.weights or Path(), trust_weights=True), spec.preprocess
    cpu, images = torch.device("cpu"), views(options.images, options.num_images, preprocess)
    embeds: dict[str, Embed] = {
        "fp32": for_inference(encoder, cpu),
        "bf16": for_inference(encoder, cpu, "bf16"),
        "int8": for_inference(encoder, cpu, "int8"),
        "ONNX Runtime, int8": onnx_int8(encoder, preprocess.size_px),
    }
    broken = []
    with torch.inference_mode():
        exact = torch.cat([encoder(one) for one in images.split(1)])
        cosines = {name: least_and_mean(embed, images, exact) for name, embed in embeds.items()}
        for name, (least, mean) in cosines.items():
            print(f"{name}: cosine {least:.6f} at the least, {mean:.6f} on average, {len(images)} images", flush=True)
        if cosines["int8"][0] < max(LEAST_COSINE, cosines["ONNX Runtime, int8"][0]):
            broken.append("cosine")
        for size in options.batches:
            batch = images[:size]
            rates: dict[str, list[float]] = {name: [] for name in embeds}
            for _ in range(options.rounds):
                for name, embed in embeds.items():
                    rates[name].append(len(batch) / cpu_seconds(lambda embed=embed, batch=batch: embed(batch)))
            for name, found in rates.items():
                ratios = [rate / base for rate, base in zip(found, rates["bf16"], strict=True)]
                ratio = statistics.median(ratios)
                print(
                    f"{name}, {len(batch)} at once: {statistics.median(found):.2f} images per CPU second, "
                    f"ratio to bf16 {ratio:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]",
                    flush=True,
                )
                if name == "int8" and ratio < options.least_ratio:
                    broken.append(f"speed, {size} at once")
    print(f"broken: {', '.join(broken)}" if broken else "kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
