"""Configurations of transformers, timm and open_clip beside a checkpoint, and what they say; loads no torch."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolora.core.strict_json import read_json

OPEN_CLIP, CONFIG, PREPROCESSOR = "open_clip_config.json", "config.json", "preprocessor_config.json"
NEIGHBOURS = (OPEN_CLIP, CONFIG, PREPROCESSOR)

_MAX_BYTES = 2**20
_MAX_LINKS = 8
_ACTIVATIONS = {"swish": "silu", "gelu_python": "gelu", "gelu_10": "gelu"} | dict.fromkeys(
    ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"), "gelu_tanh"
)
"""Names of transformers/activations.py for one function."""
_CLIP, _SIGLIP = ("quick_gelu", 1e-5), ("gelu_pytorch_tanh", 1e-6)
_DEFAULTS = {
    **dict.fromkeys(("clip", "clip_vision_model"), _CLIP),
    **dict.fromkeys(("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model"), _SIGLIP),
    "vit": ("gelu", 1e-12),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), ("gelu", 1e-6)),
    "dinov3_vit": ("gelu", 1e-5),
}
"""Activation and epsilon that transformers takes where a configuration leaves them out, by ``model_type``."""
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers."""
_SAME_SCALE = 1e-2
_HEAD_WIDTH = 64
"""Of open_clip's CLIPVisionCfg, where a configuration leaves it out."""

Value = str | float | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One fact of an encoder as a configuration states it."""

    fact: str
    """``activation``, ``norm_eps``, ``width``, ``layers``, ``heads``, ``patch_px``, ``image_px``, ``mean``,
    ``std``, ``interpolation``; or ``architecture``, timm's name, which implies some of these."""
    value: Value
    key: str
    """Under which it stands in the file."""
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What the configurations beside a checkpoint say."""

    statements: tuple[Statement, ...] = ()
    unread: Mapping[Path, str] = field(default_factory=dict)
    """Why a configuration is not read, by file."""


def read_neighbours(path: Path) -> Neighbours:
    """Reads the configurations beside a checkpoint's file or index; of several libraries, that of the file's own.

    Of a file of the hub's cache they lie beside its link in the snapshot.
    """
    folder = next((place for place in _places(path) if _any_in(place)), None)
    if folder is None:
        return Neighbours()
    has_open_clip, has_config = (folder / OPEN_CLIP).is_file(), (folder / CONFIG).is_file()
    is_open_clip = has_open_clip and (path.name.startswith("open_clip_") or not has_config)
    if has_open_clip and not is_open_clip and not path.name.startswith(("model", "pytorch_model")):
        asked = NEIGHBOURS  # the name tells nothing: it has to agree with one of them
    else:
        asked = (OPEN_CLIP,) if is_open_clip else (CONFIG, PREPROCESSOR)
    statements, unread = [], {}
    for name in asked:
        if (folder / name).is_file():
            try:
                statements += list(_statements(folder / name))
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
                unread[folder / name] = " ".join(why.split())[:120].encode("ascii", "backslashreplace").decode()
    return Neighbours(statements=tuple(statements), unread=unread)


def _places(path: Path) -> Iterator[Path]:
    """Yields the folder of a file, and those of the links that it leads through."""
    for _ in range(_MAX_LINKS):
        yield path.parent
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _any_in(folder: Path) -> bool:
    return any((folder / name).is_file() for name in NEIGHBOURS)


def _statements(file: Path) -> Iterator[Statement]:
    if file.stat().st_size > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES // 2**20} MiB")
    content = read_json(file.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}, expected keys and values")
    for fact, key, value in _READERS[file.name](content):
        if value is not None:
            yield Statement(fact=fact, key=key, value=value, file=file)


_Facts = Iterator[tuple[str, str, Value | None]]


def _config(content: Mapping[str, Any]) -> _Facts:
    return _timm(content) if isinstance(content.get("architecture"), str) else _transformers(content)


def _timm(content: Mapping[str, Any]) -> _Facts:
    cfg, arguments = _inner(content, "pretrained_cfg") or content, _inner(content, "model_args")
    yield "architecture", "architecture", _name(content["architecture"])
    yield from (("mean", "mean", _channels(cfg.get("mean"))), ("std", "std", _channels(cfg.get("std"))))
    yield "interpolation", "interpolation", _name(cfg.get("interpolation"))
    if cfg.get("fixed_input_size") is not False:
        size = cfg.get("input_size")
        yield "image_px", "input_size", _edge(size[1:]) if isinstance(size, list) and len(size) == 3 else None
    for fact, key in (("image_px", "img_size"), ("patch_px", "patch_size")):
        yield fact, f"model_args.{key}", _edge(arguments.get(key))
    for fact, key in (("width", "embed_dim"), ("layers", "depth"), ("heads", "num_heads")):
        yield fact, f"model_args.{key}", _number(arguments.get(key))
    yield "activation", "model_args.act_layer", _activation(arguments.get("act_layer"))


def _transformers(content: Mapping[str, Any]) -> _Facts:
    vision = {**_inner(content, "vision_config"), **_inner(content, "vision_config_dict")}
    prefix = "vision_config." if vision or "vision_config" in content else ""
    own = vision if prefix else content
    kind = str(own.get("model_type") or content.get("model_type") or "")
    if not prefix and not {"image_size", "patch_size"} & own.keys():
        raise ValueError(f"it is of another model ({kind or 'no image encoder'})")
    activation, eps = _DEFAULTS.get(kind, (None, None))
    if own.get("use_swiglu_ffn") is True:
        activation, own = "silu", {**own, "hidden_act": "silu"}  # transformers' SwiGLU leaves hidden_act out
    yield "activation", f"{prefix}hidden_act", _activation(own.get("hidden_act", activation))
    yield "norm_eps", f"{prefix}layer_norm_eps", _number(own.get("layer_norm_eps", eps))
    yield "width", f"{prefix}hidden_size", _number(own.get("hidden_size"))
    yield "layers", f"{prefix}num_hidden_layers", _number(own.get("num_hidden_layers"))
    yield "heads", f"{prefix}num_attention_heads", _number(own.get("num_attention_heads"))
    yield "patch_px", f"{prefix}patch_size", _edge(own.get("patch_size"))
    yield "image_px", f"{prefix}image_size", _edge(own.get("image_size"))


def _preprocessor(content: Mapping[str, Any]) -> _Facts:
    is_normalised = content.get("do_normalize") is not False
    rescaled, scale = _scale(content)
    for fact, key, plain in (("mean", "image_mean", [0, 0, 0]), ("std", "image_std", [1, 1, 1])):
        given = content.get(key) if is_normalised else plain
        value = _channels(given, scale)
        yield fact, rescaled if scale != 1 else key if is_normalised else "do_normalize", value
    if content.get("do_resize") is False:
        return
    is_cropped = content.get("do_center_crop") is not False and content.get("crop_size") is not None
    key = "crop_size" if is_cropped else "size"
    yield "image_px", key, _edge(content.get(key))
    resample = content.get("resample")
    is_number = isinstance(resample, int) and not isinstance(resample, bool)
    yield "interpolation", "resample", _RESAMPLE.get(int(resample or 0)) if is_number else _name(resample)


def _scale(content: Mapping[str, Any]) -> tuple[str, float]:
    """Returns the white of the values that are normalised, 1 where pixels are divided by 255, and who says so."""
    if content.get("do_rescale") is False:
        return "do_rescale", 255.0
    factor = _number(content.get("rescale_factor"))
    if factor is None or factor <= 0 or abs(factor * 255 - 1) < _SAME_SCALE:
        return "rescale_factor", 1.0
    return "rescale_factor", factor * 255


def _open_clip(content: Mapping[str, Any]) -> _Facts:
    model, cfg = _inner(content, "model_cfg"), _inner(content, "preprocess_cfg")
    vision = _inner(model, "vision_cfg")
    if not vision:
        raise ValueError("it has no model_cfg with a vision_cfg")
    if "timm_model_name" in vision:
        yield "architecture", "vision_cfg.timm_model_name", _name(vision["timm_model_name"])
    else:
        yield "activation", "model_cfg.quick_gelu", "quick_gelu" if model.get("quick_gelu") is True else "gelu"
    yield "norm_eps", "vision_cfg.norm_kwargs.eps", _number(_inner(vision, "norm_kwargs").get("eps"))
    for fact, key in (("width", "width"), ("layers", "layers")):
        yield fact, f"vision_cfg.{key}", _number(vision.get(key))
    if "timm_model_name" not in vision:
        width, head_width = _number(vision.get("width")), _number(vision.get("head_width", _HEAD_WIDTH))
        heads = width / head_width if width and head_width else None
        yield "heads", f"vision_cfg.{'head_width' if 'head_width' in vision else 'width'}", heads
    for fact, key in (("patch_px", "patch_size"), ("image_px", "image_size")):
        yield fact, f"vision_cfg.{key}", _edge(vision.get(key))
    yield from (("mean", "preprocess_cfg.mean", _channels(cfg.get("mean"))),)
    yield from (("std", "preprocess_cfg.std", _channels(cfg.get("std"))),)
    yield "interpolation", "preprocess_cfg.interpolation", _name(cfg.get("interpolation"))
    yield "image_px", "preprocess_cfg.size", _edge(cfg.get("size"))


_READERS: dict[str, Callable[[Mapping[str, Any]], _Facts]] = {
    CONFIG: _config,
    PREPROCESSOR: _preprocessor,
    OPEN_CLIP: _open_clip,
}


def _inner(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = content.get(key)
    return inner if isinstance(inner, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _edge(value: Any) -> float | None:
    """Returns the edge of a square that is written as a number, a pair, or by height and width."""
    if isinstance(value, Mapping):
        value = [value.get("height"), value.get("width")]
    if isinstance(value, list):
        value = value[0] if len(value) == 2 and value[0] == value[1] else None
    return _number(value)


def _channels(value: Any, scale: float = 1.0) -> tuple[float, ...] | None:
    """Returns numbers of the channels for pixels of 0 to 1; those above 1 are meant for pixels of 0 to 255.

    Args:
        scale: The white that they are written for.
    """
    numbers = [_number(one) for one in value] if isinstance(value, list) else []
    known = tuple(number for number in numbers if number is not None)
    if len(numbers) != 3 or len(known) != 3:
        return None
    if scale != 1:
        return tuple(number / scale for number in known)
    return tuple(number / 255 for number in known) if max(known) > 1 else known


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.\-]{1,100}", value) else None


def _activation(value: Any) -> str | None:
    name = _name(value)
    return name and _ACTIVATIONS.get(name.lower(), name.lower())
