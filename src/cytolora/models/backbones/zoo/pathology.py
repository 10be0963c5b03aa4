"""Histopathology encoders, trained on tissue sections."""

from dataclasses import replace
from typing import Any

from cytolora.config.run import Preprocess
from cytolora.models.backbones.spec import BackboneSpec, HubFile
from cytolora.models.backbones.zoo.preprocessing import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_224,
    IMAGENET_MEAN,
    IMAGENET_STD,
    VIT,
)

_TRIDENT = "https://github.com/mahmoodlab/TRIDENT/blob/main/trident/patch_encoder_models/load.py"
_KAIKO_EVA = "https://github.com/kaiko-ai/eva"
_BILINEAR_224 = Preprocess(size_px=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear")
_GATED_ND: dict[str, Any] = {"licence": "CC-BY-NC-ND-4.0", "gated": True, "redistributable": False}
_SWIGLU = {"mlp_layer": "swiglu_packed", "act_layer": "silu"}

ENTRIES = (
    BackboneSpec(
        name="uni",
        architecture="vit_large_patch16_224",
        arguments={**VIT, "init_values": 1e-5, "dynamic_img_size": True},
        hub=HubFile(repo="MahmoodLab/UNI", filename="pytorch_model.bin"),
        pool="cls",
        feature_dim=1024,
        preprocess=_BILINEAR_224,
        reference_attention_bug=True,
        **_GATED_ND,
        citation="Chen et al. 2024, Towards a general-purpose foundation model for computational pathology, "
        "Nature Medicine 30",
        sources=("https://huggingface.co/MahmoodLab/UNI", _TRIDENT),
        description="ViT-L/16, DINOv2 on 100,000 slides of tissue.",
    ),
    BackboneSpec(
        name="uni2-h",
        architecture="vit_giant_patch14_224",
        arguments={
            **VIT,
            **_SWIGLU,
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
        },
        hub=HubFile(repo="MahmoodLab/UNI2-h", filename="pytorch_model.bin"),
        pool="cls",
        feature_dim=1536,
        preprocess=_BILINEAR_224,
        **_GATED_ND,
        citation="Chen et al. 2024, Towards a general-purpose foundation model for computational pathology, "
        "Nature Medicine 30",
        sources=("https://huggingface.co/MahmoodLab/UNI2-h", _TRIDENT),
        unverified=("file name", "interpolation"),
        description="ViT-H/14 with eight registers, DINOv2 on 350,000 slides of tissue.",
    ),
    BackboneSpec(
        name="virchow2",
        architecture="vit_huge_patch14_224",
        arguments={
            **VIT,
            **_SWIGLU,
            "init_values": 1e-5,
            "mlp_ratio": 5.3375,
            "reg_tokens": 4,
            "dynamic_img_size": True,
        },
        hub=HubFile(repo="paige-ai/Virchow2", filename="pytorch_model.bin"),
        pool="cls+mean",
        feature_dim=2560,
        preprocess=IMAGENET_224,
        **_GATED_ND,
        citation="Zimmermann et al. 2024, Virchow2: Scaling Self-Supervised Mixed Magnification Models in Pathology, "
        "arXiv:2408.00738",
        sources=("https://huggingface.co/paige-ai/Virchow2", _TRIDENT),
        unverified=("file name",),
        description="ViT-H/14 with four registers; class token and mean patch side by side.",
    ),
    BackboneSpec(
        name="h-optimus-0",
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={**VIT, "img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
        hub=HubFile(repo="bioptimus/H-optimus-0", filename="pytorch_model.bin"),
        pool="cls",
        feature_dim=1536,
        preprocess=Preprocess(size_px=224, mean=(0.707223, 0.578729, 0.703617), std=(0.211883, 0.230117, 0.177517)),
        licence="Apache-2.0",
        citation="Saillard et al. 2024, H-optimus-0, https://github.com/bioptimus/releases",
        sources=("https://huggingface.co/bioptimus/H-optimus-0", _TRIDENT),
        unverified=("file name", "interpolation", "gate: none was seen", "behaviour under timm above 0.9.16"),
        description="ViT-g/14 with four registers, 500,000 slides of tissue.",
    ),
    BackboneSpec(
        name="prov-gigapath",
        architecture="vit_giant_patch14_dinov2",
        arguments={
            **VIT,
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
        },
        hub=HubFile(repo="prov-gigapath/prov-gigapath", filename="pytorch_model.bin"),
        pool="cls",
        feature_dim=1536,
        preprocess=replace(IMAGENET_224, resize_px=256),
        licence="prov-gigapath licence",
        gated=True,
        redistributable=None,
        citation="Xu et al. 2024, A whole-slide foundation model for digital pathology from real-world data, "
        "Nature 630",
        sources=("https://huggingface.co/prov-gigapath/prov-gigapath", _TRIDENT),
        unverified=("file name", "licence: two versions of the card disagree"),
        description="ViT-g/16 of 1.1 billion parameters, 170,000 slides of tissue.",
    ),
    BackboneSpec(
        name="conch",
        architecture="vit_base_patch16_224",
        arguments={**VIT, "img_size": 448, "dynamic_img_size": True},
        hub=HubFile(repo="MahmoodLab/conch", filename="pytorch_model.bin"),
        format="conch",
        drops=("visual.proj_contrast",),  # its authors take the features before the projection for classifiers
        pool="query",
        pool_width=512,
        feature_dim=512,
        preprocess=Preprocess(size_px=448, mean=CLIP_MEAN, std=CLIP_STD),
        **_GATED_ND,
        citation="Lu et al. 2024, A visual-language foundation model for computational pathology, Nature Medicine 30",
        sources=(
            "https://huggingface.co/MahmoodLab/conch",
            "https://github.com/mahmoodlab/CONCH/blob/main/conch/open_clip_custom/coca_model.py",
            "https://github.com/mahmoodlab/CONCH/blob/main/conch/open_clip_custom/model_configs/conch_ViT-B-16.json",
        ),
        unverified=("file name", "tensors in the file besides the encoder's"),
        description="CoCa ViT-B/16 at 448 px on histology and captions, pooled by a query.",
    ),
    BackboneSpec(
        name="phikon-v2",
        architecture="vit_large_patch14_dinov2",
        arguments={**VIT, "patch_size": 16, "img_size": 224},
        hub=HubFile(
            repo="owkin/phikon-v2", filename="model.safetensors", revision="e5af21c41a9d772dc82325055c6e20323a14c6f4"
        ),
        format="hf_dinov2",
        pool="cls",
        feature_dim=1024,
        preprocess=IMAGENET_224,
        licence="Owkin non-commercial",
        redistributable=None,
        citation="Filiot et al. 2024, Phikon-v2, A large and public feature extractor for biomarker prediction, "
        "arXiv:2409.09173",
        sources=(
            "https://huggingface.co/owkin/phikon-v2/blob/e5af21c41a9d772dc82325055c6e20323a14c6f4/config.json",
            _KAIKO_EVA,
        ),
        unverified=("resize rule and interpolation",),
        description="ViT-L/16, DINOv2 on 58,000 slides of tissue.",
    ),
)
