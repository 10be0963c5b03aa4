"""Natural image encoders: the supervised ViT of the paper, DINOv2 and DINOv3."""

from dataclasses import replace

from cytolora.config.run import Preprocess
from cytolora.models.backbones.spec import BackboneSpec, HubFile
from cytolora.models.backbones.zoo.preprocessing import HALF, IMAGENET_224, IMAGENET_MEAN, IMAGENET_STD, VIT

_TIMM_VIT = "https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/vision_transformer.py"
_TIMM_EVA = "https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/eva.py"
_DINOV2_EVALUATION = "https://github.com/facebookresearch/dinov2/blob/main/dinov2/data/transforms.py"
"""make_classification_eval_transform: bicubic to 256, centre crop of 224."""
_SIZES = {"s": ("small", 384), "b": ("base", 768), "l": ("large", 1024)}


def _dinov2(size: str, registers: bool, *, evaluated: bool = False) -> BackboneSpec:
    """One checkpoint, two entries: the shorter edge to 224 px, and with ``evaluated`` as its authors evaluate it."""
    word, width = _SIZES[size]
    architecture = f"vit_{word}_patch14_{'reg4_' if registers else ''}dinov2"
    return BackboneSpec(
        name=f"dinov2-{size}14" + ("-reg" if registers else "") + ("-eval" if evaluated else ""),
        architecture=architecture,
        arguments={**VIT, "img_size": 224},
        hub=HubFile(repo=f"timm/{architecture}.lvd142m", filename="model.safetensors"),
        resamples_positions=True,
        pool="cls",
        feature_dim=width,
        preprocess=replace(IMAGENET_224, resize_px=256) if evaluated else IMAGENET_224,
        licence="Apache-2.0",
        citation="Oquab et al. 2023, DINOv2: Learning Robust Visual Features without Supervision, arXiv:2304.07193"
        + ("; Darcet et al. 2023, Vision Transformers Need Registers, arXiv:2309.16588" if registers else ""),
        sources=(
            "https://github.com/facebookresearch/dinov2",
            _TIMM_VIT,
            *((_DINOV2_EVALUATION,) if evaluated else ()),
        ),
        unverified=("file name",),
        description=f"DINOv2 ViT-{size.upper()}/14{' with four registers' if registers else ''}, at 224 px"
        + (", cut out of 256 px as in its authors' evaluation." if evaluated else "."),
    )


def _dinov3(size: str) -> BackboneSpec:
    word, width = _SIZES[size]
    architecture = f"vit_{word}_patch16_dinov3"
    return BackboneSpec(
        name=f"dinov3-{size}16",
        architecture=architecture,
        arguments={**VIT, "img_size": 224, "global_pool": "token"},  # timm's own default is the mean
        hub=HubFile(repo=f"timm/{architecture}.lvd1689m", filename="model.safetensors"),
        pool="cls",
        feature_dim=width,
        preprocess=Preprocess(size_px=224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        licence="DINOv3 License",
        redistributable=None,
        citation="Siméoni et al. 2025, DINOv3, arXiv:2508.10104",
        sources=("https://github.com/facebookresearch/dinov3", _TIMM_EVA),
        overrides={
            "image_px": "timm's default is 256 px; positions are rotary, so that any size fits, and facebook's own "
            f"configuration names 224: {_TIMM_EVA}"
        },
        unverified=("file name",),
        description=f"DINOv3 ViT-{size.upper()}/16, at 224 px.",
    )


ENTRIES = (
    BackboneSpec(
        name="vit-b16",
        architecture="vit_base_patch16_224",
        arguments={**VIT, "norm_eps": 1e-12},
        hub=HubFile(repo="google/vit-base-patch16-224", filename="pytorch_model.bin"),
        format="hf_vit",
        drops=("head.",),  # timm's copy of the same checkpoint holds the ImageNet classifier under this name
        pool="cls",
        feature_dim=768,
        preprocess=Preprocess(size_px=224, mean=HALF, std=HALF, resize="squash", interpolation="bilinear"),
        licence="Apache-2.0",
        citation="Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, arXiv:2010.11929",
        sources=(
            "https://huggingface.co/google/vit-base-patch16-224",
            "https://huggingface.co/google/vit-base-patch16-224-in21k/discussions/7",
        ),
        description="ViT-B/16, ImageNet-21k then ImageNet-1k; not timm's later augreg weights.",
    ),
    *(_dinov2(size, registers) for size in _SIZES for registers in (False, True)),
    *(_dinov2(size, registers, evaluated=True) for size in _SIZES for registers in (False, True)),
    *(_dinov3(size) for size in _SIZES),
)
