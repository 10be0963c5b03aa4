"""Trains the built-in image and text encoder ``nano-clip``: ``python scripts/train_nano_clip.py``; see docs/nano.md.

The image encoder is ``nano``, as it is. A projection of its class token and a small BERT learn to tell the caption of a
drawn cell from those of other cells (Radford et al. 2021). Half of the cells are drawn without a class, each attribute
by itself; the others are of the classes of the dataset ``synthetic``, which seven of ten of their captions name.
"""

import argparse
import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cytolora.core.files import write_bytes, write_text
from cytolora.data.synthetic.captions import captions, vocabulary
from cytolora.data.synthetic.dataset import draw_cells
from cytolora.models.backbones.registry import NANO, NANO_CLIP
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.text.encoder import TextEncoder

DRAWN_TOGETHER, BATCH_SIZE = 500, 256
PEAK_LEARNING_RATE = 2e-3
FIRST_SEED = 3_000_000
"""Of the drawings, far above the seeds that datasets are drawn with."""
MAX_SCALE = 100.0
_UNKNOWN_SHARE = 0.03
"""Of the words of a caption, so that the token for unknown words means nothing."""


@torch.inference_mode()
def drawn(num_parts: int, seed: int) -> tuple[Tensor, list[str]]:
    """Draws cells and returns the class tokens that ``nano`` has of them, [images, 96], with their captions."""
    assert NANO.weights is not None
    encoder = load_encoder(replace(NANO, pool="cls"), NANO.weights)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (NANO.preprocess.mean, NANO.preprocess.std))
    features, texts = [], []
    for part in range(num_parts):
        at = FIRST_SEED * (seed + 1) + part
        population = "classes" if part % 2 else "any"
        cells = draw_cells(DRAWN_TOGETHER, at, num_slides=DRAWN_TOGETHER // 5, population=population)
        images = (torch.from_numpy(cells.images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        features.append(encoder(images))
        texts += captions(cells, at)
        if part % 10 == 0:
            logging.info("drawn %d cells", (part + 1) * DRAWN_TOGETHER)
    return torch.cat(features), texts


def train(features: Tensor, texts: list[str], vocabulary_file: Path, num_steps: int, seed: int) -> dict[str, Tensor]:
    """Trains projection, text encoder and scale with AdamW, a warm-up over 5 % of the steps and a cosine to zero."""
    torch.manual_seed(seed)
    assert NANO_CLIP.text is not None
    assert NANO_CLIP.projection is not None
    text = TextEncoder(NANO_CLIP.text, NANO_CLIP.projection, vocabulary_file).train()
    image = nn.Linear(features.shape[1], NANO_CLIP.projection, bias=False)
    log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    parameters = [*text.parameters(), *image.parameters(), log_scale]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_LEARNING_RATE, num_steps, pct_start=0.05, cycle_momentum=False
    )
    order = torch.Generator().manual_seed(seed)
    names = {caption: number for number, caption in enumerate(dict.fromkeys(texts))}
    of = torch.tensor([names[caption] for caption in texts])
    for step in range(num_steps):
        rows = torch.randint(len(texts), (BATCH_SIZE,), generator=order)
        said = [_with_unknown(texts[row], order) for row in rows]
        images = F.normalize(image(features[rows]), dim=1)
        words = F.normalize(text.encoder(text.tokens(said)), dim=1)
        logits = log_scale.exp().clamp(max=MAX_SCALE) * images @ words.T
        same = (of[rows].unsqueeze(1) == of[rows]).float()  # cells with equal captions are no contradiction
        truth = same / same.sum(dim=1, keepdim=True)
        loss = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == num_steps - 1:
            logging.info("step %d, cross-entropy %.3f, scale %.1f", step, loss.item(), log_scale.exp().item())
    state = {f"text.{name}": value for name, value in text.encoder.state_dict().items()}
    state["visual.head.proj.weight"] = image.weight.detach()
    state["logit_scale"] = log_scale.detach().clamp(max=math.log(MAX_SCALE))
    return state


def _with_unknown(caption: str, generator: torch.Generator) -> str:
    words = caption.split(" ")
    keep = torch.rand(len(words), generator=generator) >= _UNKNOWN_SHARE
    return " ".join(word if kept else "zzz" for word, kept in zip(words, keep.tolist(), strict=True))


def main() -> None:
    """Parses the command line, trains, and writes checkpoint and vocabulary with what made them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=100, help=f"drawings of {DRAWN_TOGETHER} cells")
    parser.add_argument("--steps", type=int, default=3000, help=f"batches of {BATCH_SIZE} cells")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=NANO_CLIP.weights)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    words = arguments.out.parent / "vocab.txt"
    write_text(words, "\n".join(vocabulary()) + "\n")
    features, texts = drawn(arguments.parts, arguments.seed)
    state = train(features, texts, words, arguments.steps, arguments.seed)
    assert NANO.weights is not None
    state |= {f"visual.trunk.{name}": value for name, value in load_file(NANO.weights).items()}
    made = {"script": "scripts/train_nano_clip.py", "seed": str(arguments.seed)}
    made |= {"parts": str(arguments.parts), "steps": str(arguments.steps)}
    metadata = {**made, "data": "drawn cells only, no real image", "licence": NANO_CLIP.licence}
    write_bytes(arguments.out, save({name: value.contiguous() for name, value in state.items()}, metadata))


if __name__ == "__main__":
    main()
