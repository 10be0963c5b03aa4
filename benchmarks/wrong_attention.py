"""What the public code's wrong attention does to features: cosine with right ones, and a logistic regression on both.

    python benchmarks/wrong_attention.py smear2005 --backbone-file vit_tiny6/backbone.yaml

The figures of docs/parity.md, of standardised features. With ``--public-code CLONE`` (github.com/mdausort/
Cytology-fine-tuning) the class there is run too, on the weights of every block; exits 1 where it differs from ours.
"""

import argparse
import copy
import importlib.util
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from cytolora.cli.own_backbones import add_own
from cytolora.config.run import SplitSpec
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.data.splitting.splits import assign_subsets
from cytolora.models.adapters.reference_attention import ReferenceAttention, use_reference_attention
from cytolora.models.adapters.split_qkv import attention_blocks
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder
from cytolora.training.resources import Inputs

_TOLERANCE = 1e-5
_NUM_TOKENS = 197


def difference(encoder: Encoder, clone: Path) -> float:
    """Returns the largest difference between the public code's attention and ours, over all blocks."""
    spec = importlib.util.spec_from_file_location("public_layers", clone / "loralib" / "layers.py")
    assert spec is not None
    assert spec.loader is not None
    public = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(public)
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for block in attention_blocks(encoder.trunk):
        tokens = torch.randn(2, _NUM_TOKENS, block.attn.qkv.in_features, generator=generator)
        theirs = public.SimpleAttentionLoRA(block.attn, enable_lora=[]).eval()
        largest = max(largest, float((theirs(tokens) - ReferenceAttention(block.attn).eval()(tokens)).abs().max()))
    return largest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--backbone-file", type=Path, required=True)
    parser.add_argument("--public-code", type=Path, help="a clone of the public code")
    parser.add_argument("--seed", type=int, default=0, help="of the division by group")
    parser.add_argument("--quick", action="store_true", help="every tenth cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (name,) = add_own([arguments.backbone_file])
    backbone = BACKBONES.get(name)
    manifest = assign_subsets(load_manifest(arguments.cells), SplitSpec(seed=arguments.seed))
    samples = manifest.samples[:: 10 if arguments.quick else 1]
    right = load_encoder(backbone, Inputs(data={}, weights={}).weights_path(name))
    wrong = copy.deepcopy(right)
    use_reference_attention(wrong.trunk)
    pairs = []
    with torch.inference_mode():
        for sample in samples:
            view = evaluation_view(decode(manifest.root / sample.path), backbone.preprocess)
            batch = to_batch([view], backbone.preprocess)
            pairs.append([right(batch)[0], wrong(batch)[0]])
        apart = difference(right, arguments.public_code) if arguments.public_code else None
    features = dict(zip(("right", "wrong"), map(torch.stack, zip(*pairs, strict=True)), strict=True))
    labels = [sample.label for sample in samples]
    train, test = (
        [index for index, sample in enumerate(samples) if sample.subset == name] for name in ("train", "test")
    )
    found: dict[str, object] = {"cells": len(samples), "test": len(test)}
    found["cosine"] = round(float(F.cosine_similarity(features["right"], features["wrong"]).mean()), 3)
    for kind, values in features.items():
        centred = (values - values[train].mean(0)) / values[train].std(0)
        solver = LogisticRegression(max_iter=2000).fit(centred[train], [labels[index] for index in train])
        found[f"{kind}: accuracy, %"] = round(100 * solver.score(centred[test], [labels[index] for index in test]), 1)
    print(json.dumps({**found, "difference from the public code": apart}))
    return int(apart is not None and apart > _TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
