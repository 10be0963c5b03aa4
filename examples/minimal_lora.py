"""Minimal LoRA: adapt a frozen vision backbone to cells, one flat script on the public parts of cytolora.

python examples/minimal_lora.py                                         # synthetic cells, built-in backbone
python examples/minimal_lora.py --data my_cells --backbone clip-vit-b16 --rank 4 --steps 300
"""

import argparse
import tempfile
from collections.abc import Sequence

import torch
from torch import nn

import cytolora


def main(arguments: Sequence[str] | None = None) -> float:
    """Trains one LoRA run and returns its balanced accuracy on the test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with a sub-folder per class; synthetic cells if not given")
    parser.add_argument("--backbone", default="nano", choices=cytolora.list_backbones(), metavar="NAME")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)

    # 1. Data: train and test share no patient, slide or field.
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or f"{folder}/cells"
        dataset = None if options.data else "synthetic"  # drawn into the folder on first use
        manifest = cytolora.split(data, f"{folder}/split.csv", dataset, seed=options.seed)

        # 2. Model: the frozen backbone, LoRA in its attention, a linear head on top.
        backbone = cytolora.load_backbone(options.backbone)
        adapter = cytolora.AdapterSpec(rank=options.rank, alpha=1.0, targets=("q", "v"), dropout=0.25)
        encoder = cytolora.attach(backbone, "lora", adapter)
        model = nn.Sequential(encoder, nn.Linear(encoder.feature_dim, len(manifest.classes))).to(options.device)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        print(f"{sum(parameter.numel() for parameter in trainable):,} trainable parameters")

        # 3. Images, resized and normalised as the backbone expects: float32 [images, 3, size, size].
        def read(subset: str) -> tuple[torch.Tensor, torch.Tensor]:
            samples = [sample for sample in manifest.samples if sample.subset == subset]
            images = cytolora.load_images([sample.file_in(manifest.root) for sample in samples], options.backbone)
            return images, torch.tensor([manifest.classes.index(sample.label) for sample in samples])

        (train_images, train_labels), (test_images, test_labels) = read("train"), read("test")

    # 4. Train: AdamW, cosine learning rate, cross-entropy.
    optimiser = torch.optim.AdamW(trainable, lr=options.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    model.train()
    for step in range(options.steps):
        batch = torch.randint(len(train_images), (options.batch_size,))
        logits = model(train_images[batch].to(options.device))
        loss = nn.functional.cross_entropy(logits, train_labels[batch].to(options.device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    # 5. Score, once, on the test images.
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(batch.to(options.device)).cpu() for batch in test_images.split(options.batch_size)])
    predicted = logits.argmax(dim=1)
    sensitivities = [(predicted[test_labels == index] == index).float().mean() for index in test_labels.unique()]
    balanced_accuracy = torch.stack(sensitivities).mean().item()
    print(f"test balanced accuracy {balanced_accuracy:.3f} on {len(test_labels)} images")
    return balanced_accuracy


if __name__ == "__main__":
    main()
