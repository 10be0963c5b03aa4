"""Cytology encoders, trained on blood and cervical smears."""

from cytolora.models.backbones.spec import BackboneSpec, HubFile
from cytolora.models.backbones.zoo.preprocessing import IMAGENET_224, VIT

_DINOBLOOM = "Koch et al. 2024, DinoBloom: A Foundation Model for Generalizable Cell Embeddings in Hematology, MICCAI"
_SIZES = {
    "s": ("small", 384, "5e74787f2f9397c268594e9b443775071b4d16dc"),
    "b": ("base", 768, None),
    "l": ("large", 1024, "a22385b992c79d1abc7cdaeca770ddd2393f0d93"),
    "g": ("giant", 1536, "09959a500e6f1b24963eae7893936a9c0f230797"),
}


def _dinobloom(size: str) -> BackboneSpec:
    word, width, revision = _SIZES[size]
    repo = f"1aurent/vit_{word}_patch14_224.dinobloom"
    return BackboneSpec(
        name=f"dinobloom-{size}",
        architecture=f"vit_{word}_patch14_dinov2",
        arguments={**VIT, "img_size": 224},
        hub=HubFile(repo=repo, filename="model.safetensors", revision=revision),
        pool="cls",
        feature_dim=width,
        preprocess=IMAGENET_224,
        licence="Apache-2.0",
        citation=_DINOBLOOM,
        sources=(f"https://huggingface.co/{repo}", "https://github.com/marrlab/DinoBloom"),
        unverified=("file name", "interpolation"),
        description=f"DINOv2 ViT-{size.upper()}/14 tuned on 380,000 white blood cells.",
    )


ENTRIES = (
    *(_dinobloom(size) for size in _SIZES),
    BackboneSpec(
        name="crown",
        architecture="vit_large_patch14_dinov2",
        arguments={
            **VIT,
            "patch_size": 16,
            "img_size": 224,
            "init_values": 1.0,
            "mlp_layer": "swiglu_packed",
            "act_layer": "silu",
            "mlp_ratio": 2.671875 * 2,  # DINOv2's fused SwiGLU: two thirds of 4 x 1024, rounded up to a multiple of 8
        },
        hub=HubFile(repo="LexieK/Crown", filename="CROWN.pth"),
        format="dinov2",
        pool="cls",
        feature_dim=1024,
        preprocess=IMAGENET_224,
        licence="Apache-2.0",
        citation="CROWN, https://huggingface.co/LexieK/Crown",
        sources=("https://huggingface.co/LexieK/Crown/blob/main/README.md",),
        unverified=(
            "citation: its repository; which paper belongs to it was not seen",
            "mean and standard deviation",
            "interpolation",
            "tensors in the file besides the encoder's",
        ),
        description="DINOv2 ViT-L/16 on ten million cytology images.",
    ),
    BackboneSpec(
        name="unicas",
        architecture="vit_large_patch16_224",
        arguments={
            **VIT,
            "init_values": 1e-5,
            "mlp_ratio": 2.671875 * 2,
            "mlp_layer": "swiglu_packed",
            "act_layer": "silu",
        },
        hub=HubFile(repo="jianght/UniCAS", filename="UniCAS.pth", revision="9fa9b5e88687e0a10c037f3de1933c3dbc9626cb"),
        format="dinov2",
        pool="cls",
        feature_dim=1024,
        preprocess=IMAGENET_224,
        licence="Apache-2.0",
        citation="Jiang et al., UniCAS, a cytology foundation model pre-trained on 48,532 cervical whole slide images, "
        "PMC12866161",
        sources=(
            "https://huggingface.co/jianght/UniCAS/commit/9fa9b5e88687e0a10c037f3de1933c3dbc9626cb",
            "https://pmc.ncbi.nlm.nih.gov/articles/PMC12866161/",
        ),
        unverified=(
            "architecture: as in the authors' example, which loads the file with strict=False",
            "mean and standard deviation",
            "interpolation",
            "tensors in the file besides the encoder's",
        ),
        description="ViT-L/16 with SwiGLU on cervical cytology.",
    ),
)
