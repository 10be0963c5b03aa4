"""Vision-language encoders: CLIP, and its descendants in medicine and microscopy."""

from cytolora.config.run import Preprocess
from cytolora.models.backbones.spec import BackboneSpec, HubFile, TextSpec
from cytolora.models.backbones.zoo.preprocessing import CLIP_224, HALF, VIT

_RADFORD = (
    "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020"
)
_CLIP_CODE = "https://github.com/openai/CLIP"
_BIOMEDCLIP_REPO = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
_BIOMEDCLIP = f"https://huggingface.co/{_BIOMEDCLIP_REPO}"
_SQUASH_224 = Preprocess(size_px=224, mean=HALF, std=HALF, resize="squash")


def _openai(name: str, architecture: str, repo: str, projection: int, description: str) -> BackboneSpec:
    """OpenAI's checkpoints, from their owner's transformers copy; the activation is QuickGELU."""
    return BackboneSpec(
        name=name,
        architecture=architecture,
        arguments=VIT,
        hub=HubFile(repo=repo, filename="model.safetensors" if "large" in repo else "pytorch_model.bin"),
        format="hf_clip",
        pool="cls",
        projection=projection,
        feature_dim=projection,
        text=TextSpec(width=projection, heads=projection // 64),
        preprocess=CLIP_224,
        licence="MIT",
        citation=_RADFORD,
        sources=(_CLIP_CODE, f"https://huggingface.co/{repo}"),
        unverified=("licence: that of OpenAI's code, the model card names none",),
        description=description,
    )


def _quilt(name: str, architecture: str, repo: str, description: str) -> BackboneSpec:
    """GELU, not QuickGELU, because the repository's open_clip_config.json names none: what open_clip runs."""
    return BackboneSpec(
        name=name,
        architecture=architecture,
        arguments=VIT,
        hub=HubFile(repo=repo, filename="open_clip_pytorch_model.bin"),
        format="open_clip",
        text=TextSpec(quick_gelu=False),
        pool="cls",
        projection=512,
        feature_dim=512,
        preprocess=CLIP_224,
        licence="MIT",
        citation="Ikezogwo et al. 2023, Quilt-1M: One Million Image-Text Pairs for Histopathology, arXiv:2306.11207",
        sources=(f"https://huggingface.co/{repo}", "https://github.com/mlfoundations/open_clip/issues/771"),
        unverified=(
            "activation during training: open_clip's configuration says GELU, transformers' QuickGELU",
            *(("file name",) if "B-32" in repo else ()),
        ),
        description=description,
    )


ENTRIES = (
    _openai(
        "clip-vit-b16",
        "vit_base_patch16_clip_quickgelu_224",
        "openai/clip-vit-base-patch16",
        512,
        "CLIP ViT-B/16 (OpenAI), projected features.",
    ),
    _openai(
        "clip-vit-b32",
        "vit_base_patch32_clip_quickgelu_224",
        "openai/clip-vit-base-patch32",
        512,
        "CLIP ViT-B/32 (OpenAI), projected features.",
    ),
    _openai(
        "clip-vit-l14",
        "vit_large_patch14_clip_quickgelu_224",
        "openai/clip-vit-large-patch14",
        768,
        "CLIP ViT-L/14 (OpenAI), projected features.",
    ),
    _quilt(
        "quiltnet-b16",
        "vit_base_patch16_clip_224",
        "wisdomik/QuiltNet-B-16",
        "CLIP ViT-B/16 tuned on histology videos' text; named in the paper.",
    ),
    _quilt(
        "quiltnet-b32",
        "vit_base_patch32_clip_224",
        "wisdomik/QuiltNet-B-32",
        "CLIP ViT-B/32 tuned on histology videos' text; loaded by the paper's public code.",
    ),
    BackboneSpec(
        name="biomedclip",
        architecture="vit_base_patch16_224",
        arguments=VIT,
        hub=HubFile(repo=_BIOMEDCLIP_REPO, filename="open_clip_pytorch_model.bin"),
        format="open_clip_timm",
        text=TextSpec(
            kind="bert",
            width=768,
            heads=12,
            context_length=256,
            vocab_size=30522,
            vocabulary=HubFile(repo=_BIOMEDCLIP_REPO, filename="vocab.txt"),
        ),
        pool="cls",
        projection=512,
        feature_dim=512,
        preprocess=CLIP_224,
        reference_attention_bug=True,
        licence="MIT",
        citation="Zhang et al. 2023, BiomedCLIP: a multimodal biomedical foundation model, arXiv:2303.00915",
        sources=(_BIOMEDCLIP, f"{_BIOMEDCLIP}/blob/main/open_clip_config.json"),
        description="ViT-B/16 trained on figures and captions of biomedical articles.",
    ),
    BackboneSpec(
        name="plip",
        architecture="vit_base_patch32_clip_quickgelu_224",
        arguments=VIT,
        hub=HubFile(repo="vinid/plip", filename="pytorch_model.bin"),
        format="hf_clip",
        text=TextSpec(),
        pool="cls",
        projection=512,
        feature_dim=512,
        preprocess=CLIP_224,
        licence="not stated",
        redistributable=None,
        citation="Huang et al. 2023, A visual-language foundation model for pathology image analysis using medical "
        "Twitter, Nature Medicine 29",
        sources=("https://huggingface.co/vinid/plip",),
        unverified=("licence: the model card states none",),
        description="CLIP ViT-B/32 tuned on pathology images of Twitter.",
    ),
    BackboneSpec(
        name="pubmedclip",
        architecture="vit_base_patch32_clip_quickgelu_224",
        arguments=VIT,
        hub=HubFile(repo="flaviagiammarino/pubmed-clip-vit-base-patch32", filename="pytorch_model.bin"),
        format="hf_clip",
        text=TextSpec(),
        pool="cls",
        projection=512,
        feature_dim=512,
        preprocess=CLIP_224,
        licence="MIT",
        citation="Eslami et al. 2023, PubMedCLIP: How Much Does CLIP Benefit Visual Question Answering in the Medical "
        "Domain?, Findings of EACL",
        sources=("https://huggingface.co/flaviagiammarino/pubmed-clip-vit-base-patch32",),
        unverified=("file name",),
        description="CLIP ViT-B/32 tuned on radiology figures of PubMed.",
    ),
    BackboneSpec(
        name="siglip2-b16",
        architecture="vit_base_patch16_siglip_224",
        arguments=VIT,
        hub=HubFile(repo="timm/vit_base_patch16_siglip_224.v2_webli", filename="model.safetensors"),
        pool="timm",
        feature_dim=768,
        preprocess=_SQUASH_224,
        licence="Apache-2.0",
        citation="Tschannen et al. 2025, SigLIP 2, arXiv:2502.14786",
        sources=(
            "https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/vision_transformer.py",
            "https://huggingface.co/timm/vit_base_patch16_siglip_224.v2_webli",
        ),
        overrides={
            "resize": "squashed, as open_clip and google's own configuration have it; timm's default resizes to 1/0.9 "
            "and crops: https://github.com/mlfoundations/open_clip/blob/main/src/open_clip/pretrained.py"
        },
        unverified=(
            "licence",
            "file name",
            "interpolation",
            "resize rule: squashed as google/siglip2-base-patch16-224 does, timm's default crops",
        ),
        description="SigLIP 2 ViT-B/16, pooled by attention.",
    ),
    BackboneSpec(
        name="medsiglip",
        architecture="vit_so400m_patch14_siglip_224",
        arguments={**VIT, "img_size": 448, "act_layer": "gelu_tanh"},
        hub=HubFile(repo="google/medsiglip-448", filename="model.safetensors"),
        format="hf_siglip",
        pool="timm",
        feature_dim=1152,
        preprocess=Preprocess(size_px=448, mean=HALF, std=HALF, resize="squash", interpolation="bilinear"),
        licence="Health AI Developer Foundations terms",
        gated=True,
        redistributable=None,
        citation="Sellergren et al. 2025, MedGemma Technical Report, arXiv:2507.05201",
        sources=("https://huggingface.co/google/medsiglip-448",),
        unverified=("file name", "interpolation"),
        description="SigLIP So400m/14 at 448 px, tuned on medical images and text.",
    ),
    BackboneSpec(
        name="eva02-clip-b16",
        architecture="eva02_base_patch16_clip_224",
        arguments=VIT,
        hub=HubFile(repo="timm/eva02_base_patch16_clip_224.merged2b", filename="model.safetensors"),
        pool="cls",
        projection=512,
        projection_bias=True,
        feature_dim=512,
        preprocess=CLIP_224,
        licence="MIT",
        citation="Sun et al. 2023, EVA-CLIP: Improved Training Techniques for CLIP at Scale, arXiv:2303.15389",
        sources=("https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/eva.py",),
        overrides={
            "resize": "to the shorter edge, as open_clip has it; timm's default resizes to 1/0.9 and crops: "
            "https://github.com/mlfoundations/open_clip/blob/main/src/open_clip/pretrained.py"
        },
        unverified=("licence", "file name"),
        description="EVA-02 CLIP ViT-B/16, projected features; q, k, v stored apart.",
    ),
)
