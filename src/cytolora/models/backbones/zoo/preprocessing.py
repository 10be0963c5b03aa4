"""Image preprocessing that several checkpoints share, with the mean and standard deviation of their training."""

from typing import Any

from cytolora.config.run import Preprocess

Channels = tuple[float, float, float]

CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)
"""https://github.com/openai/CLIP/blob/main/clip/clip.py"""
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
"""https://docs.pytorch.org/vision/stable/models.html"""
HALF: Channels = (0.5, 0.5, 0.5)

CLIP_224 = Preprocess(size_px=224, mean=CLIP_MEAN, std=CLIP_STD)
"""Shorter edge to 224, bicubic, centre crop."""
IMAGENET_224 = Preprocess(size_px=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)

VIT: dict[str, Any] = {"num_classes": 0}
"""timm's trunk without its classifier."""
