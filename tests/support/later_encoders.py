"""The eight encoders of the authors' later benchmark, small, in their official layouts and with random weights."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from official import SMALL, Official, biomedclip, hf_clip, open_clip_vit

from cytolora.models.backbones.registry import BACKBONES, BackboneSpec

_PATCH_32 = replace(SMALL, patch_px=32)
_TEXT = {"width": 64, "heads": 1, "layers": 1}
_BERT = {"width": 32, "heads": 2, "layers": 1, "mlp": 64, "vocab_size": 57}

Writer = Callable[[Path], Official]
WRITERS: dict[str, tuple[Writer, dict[str, int]]] = {
    "clip-vit-b16": (partial(hf_clip, size=SMALL, safetensors=False), _TEXT | {"mlp": 128}),
    "clip-vit-b32": (partial(hf_clip, size=_PATCH_32, name="clip-vit-b32", safetensors=False), _TEXT | {"mlp": 128}),
    "clip-vit-l14": (partial(hf_clip, size=SMALL, name="clip-vit-l14"), _TEXT | {"mlp": 128}),
    "biomedclip": (partial(biomedclip, size=SMALL), _BERT),
    "quiltnet-b16": (partial(open_clip_vit, size=SMALL, name="quiltnet-b16", quick_gelu=False), _TEXT),
    "quiltnet-b32": (partial(open_clip_vit, size=_PATCH_32, name="quiltnet-b32", quick_gelu=False), _TEXT),
    "plip": (partial(hf_clip, size=_PATCH_32, name="plip", safetensors=False), _TEXT | {"mlp": 128}),
    "pubmedclip": (partial(hf_clip, size=_PATCH_32, name="pubmedclip", safetensors=False), _TEXT | {"mlp": 128}),
}


def write_encoders(folder: Path) -> dict[str, BackboneSpec]:
    """Writes a checkpoint of every encoder; returns the registered entries, fitted to them."""
    entries: dict[str, BackboneSpec] = {}
    for name, (write, sizes) in WRITERS.items():
        made, published = write(folder / name), BACKBONES.get(name).text
        assert published is not None
        entries[name] = replace(made.spec, text=replace(published, **sizes), weights=made.weights, hub=None)
    return entries
