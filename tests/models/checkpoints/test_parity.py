"""Our encoders against the libraries that the checkpoints were published for, from an image file to the feature."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import official
import official_timm
import pytest
import timm
import torch
import transformers
from official import FULL, SMALL, Official, Size
from PIL import Image
from safetensors.torch import load_file, save_file
from small_encoders import relative
from torch import Tensor
from torchvision.transforms import v2

from cytolora.config.run import Preprocess
from cytolora.data.imaging.decode import Pixels, decode
from cytolora.data.imaging.views import evaluation_view, to_batch, uncropped_view
from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.building import build_encoder
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.native.library import open_native

Writer = Callable[[Path, Size], Official]


def in_memory(writer: Writer) -> Writer:
    """The same checkpoint under the names that transformers 5 has in memory; on disk it writes those of version 4."""

    def write(folder: Path, size: Size) -> Official:
        made = writer(folder, size)
        torch.save(made.model.state_dict(), folder / "in_memory.bin")
        return replace(made, weights=folder / "in_memory.bin")

    return write


WRITERS: dict[str, Writer] = {
    "open_clip, QuiltNet": partial(official.open_clip_vit, name="quiltnet-b16", quick_gelu=False),
    "open_clip, CLIP": partial(official.open_clip_vit, name="clip-vit-b16", quick_gelu=True),
    "open_clip, .safetensors": partial(
        official.open_clip_vit, name="quiltnet-b16", quick_gelu=False, filename="open_clip_model.safetensors"
    ),
    "open_clip with a timm trunk, BiomedCLIP": official.biomedclip,
    "transformers CLIP": official.hf_clip,
    "transformers CLIP, .bin": partial(official.hf_clip, name="plip", safetensors=False),
    "transformers ViT, names of v4": official.hf_vit,
    "transformers ViT, names of v5": partial(official.hf_vit, names="v5"),
    "transformers DINOv2, Phikon-v2": official.hf_dinov2,
    "transformers DINOv2 with registers": partial(official.hf_dinov2, registers=True),
    "transformers DINOv2 with SwiGLU": partial(official.hf_dinov2, swiglu=True),
    "transformers SigLIP, MedSigLIP": official.hf_siglip,
    "transformers CLIP, names of v5": in_memory(official.hf_clip),
    "transformers DINOv2, names of v5": in_memory(official.hf_dinov2),
    "transformers DINOv2 with registers, names of v5": in_memory(partial(official.hf_dinov2, registers=True)),
    "transformers DINOv2 with SwiGLU, names of v5": in_memory(partial(official.hf_dinov2, swiglu=True)),
    "transformers SigLIP, names of v5": in_memory(official.hf_siglip),
    "DINOv2's code": partial(official_timm.dinov2_code, name="dinov2-b14"),
    "DINOv2's code with registers": partial(official_timm.dinov2_code, name="dinov2-b14-reg", registers=True),
    "DINOv2's code with SwiGLU, in chunks, CROWN": partial(
        official_timm.dinov2_code, name="crown", swiglu=True, chunks=2
    ),
    "timm, UNI": partial(official_timm.timm_native, name="uni"),
    "timm, UNI2-h": partial(official_timm.timm_native, name="uni2-h"),
    "timm, Virchow2": partial(official_timm.timm_native, name="virchow2", mlp_ratio=5.375),
    "timm, SigLIP 2": partial(official_timm.timm_native, name="siglip2-b16", safetensors=True),
    "timm, DINOv3": partial(official_timm.timm_native, name="dinov3-b16", safetensors=True),
    "timm, DinoBloom": partial(official_timm.timm_native, name="dinobloom-b", safetensors=True),
    "timm, H-optimus-0": partial(official_timm.timm_native, name="h-optimus-0"),
    "timm, EVA-02 CLIP": official_timm.eva02_clip,
    "timm, Prov-GigaPath, cut out of a larger view": partial(official_timm.timm_native, name="prov-gigapath"),
}
IN_FULL = ["open_clip, QuiltNet", "open_clip with a timm trunk, BiomedCLIP", "transformers CLIP"]
IN_FULL += ["transformers ViT, names of v4", "transformers DINOv2, Phikon-v2", "transformers SigLIP, MedSigLIP"]
IN_FULL += ["timm, UNI"]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image file that is neither square nor of any encoder's size, with detail at every scale."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    fine = np.asarray(Image.fromarray(coarse).resize((211, 307), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(fine + generator.integers(-25, 26, fine.shape), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("photograph") / "cell.png"
    Image.fromarray(noisy).save(path)
    return path


def our_feature(made: Official, image: Path, *, trust_weights: bool = False) -> Tensor:
    encoder = load_encoder(made.spec, made.weights, trust_weights=trust_weights)
    return encoder(to_batch([evaluation_view(decode(image), made.spec.preprocess)], made.spec.preprocess))[0]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_becomes_the_native_librarys_feature(name: str, photograph: Path, tmp_path: Path):
    made = WRITERS[name](tmp_path, SMALL)
    with torch.inference_mode():
        expected = made.native(photograph)
        found = our_feature(made, photograph)
    assert found.shape == expected.shape == (made.spec.feature_dim,)
    assert relative(found, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_FULL)
def test_a_file_becomes_the_native_librarys_feature_in_full_size(name: str, photograph: Path, tmp_path: Path):
    made = WRITERS[name](tmp_path, FULL)
    with torch.inference_mode():
        assert relative(our_feature(made, photograph), made.native(photograph)) < 1e-5


AT_224 = replace(SMALL, image_px=224)
SIZES = [(768, 431), (431, 768), (95, 64), (64, 95), (211, 307), (333, 333), (1023, 517), (57, 41)]
"""Width and height, pixels."""


def floored(pixels: Pixels, preprocess: Preprocess) -> Tensor:
    """The view whose crop starts at the floor of half a pixel, as in transformers' image processors."""
    whole, size = uncropped_view(pixels, preprocess), preprocess.size_px
    top, left = ((edge - size) // 2 for edge in whole.shape[1:])
    return to_batch([whole[:, top : top + size, left : left + size]], preprocess)


def drawn(width: int, height: int) -> Image.Image:
    generator = np.random.default_rng(width)
    coarse = Image.fromarray(generator.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    fine = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(fine + generator.integers(-25, 26, fine.shape), 0, 255).astype(np.uint8))


@pytest.mark.parametrize("writer", [official.hf_clip, official.hf_dinov2], ids=["CLIP", "Phikon-v2"])
def test_on_768_by_431_pixels_we_crop_as_torchvision_and_transformers_one_pixel_beside(writer: Writer, tmp_path: Path):
    """399 px of 224 are 87.5 px on either side: torchvision, timm and open_clip round to 88, transformers floors to 87.

    Ours is torchvision's: most entries come from libraries that use it, and features of stored runs stay.
    """
    made = writer(tmp_path, AT_224)
    image, preprocess = drawn(768, 431), made.spec.preprocess
    image.save(tmp_path / "cell.png")
    ours = to_batch([evaluation_view(np.asarray(image), preprocess)], preprocess)
    resize = [v2.Resize(224, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)]
    scale = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocess.mean, preprocess.std)]
    assert (ours - v2.Compose([*resize, *scale])(image)).abs().max() < 1e-5
    native = open_native(made.spec, made.weights)
    assert native.view is not None
    theirs = native.view(image)[None]
    assert (theirs - floored(np.asarray(image), preprocess)).abs().max() < 1e-5
    assert (theirs - ours).abs().max() > 0.1
    with torch.inference_mode():
        difference = relative(our_feature(made, tmp_path / "cell.png"), made.native(tmp_path / "cell.png"))
    assert 0.005 < difference < 0.2, difference


@pytest.mark.parametrize(
    "name",
    [
        "transformers CLIP",
        "transformers DINOv2, Phikon-v2",
        "transformers ViT, names of v4",
        "transformers SigLIP, MedSigLIP",
        "open_clip, QuiltNet",
        "timm, UNI",
        "timm, Prov-GigaPath, cut out of a larger view",
    ],
)
def test_at_every_size_features_are_the_native_librarys_but_for_the_one_pixel_of_transformers(
    name: str, tmp_path: Path
):
    made = WRITERS[name](tmp_path, SMALL)
    encoder, moved = load_encoder(made.spec, made.weights), []
    for width, height in SIZES:
        path, pixels = tmp_path / f"{width}x{height}.png", drawn(width, height)
        pixels.save(path)
        ours = to_batch([evaluation_view(np.asarray(pixels), made.spec.preprocess)], made.spec.preprocess)
        with torch.inference_mode():
            expected = made.native(path)
            if relative(encoder(ours)[0], expected) < 1e-5:
                continue
            assert relative(encoder(floored(np.asarray(pixels), made.spec.preprocess))[0], expected) < 1e-5
        moved.append((width, height))
    crops = name in ("transformers CLIP", "transformers DINOv2, Phikon-v2")
    assert moved == ([(95, 64), (64, 95)] if crops else [])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("uni", {"interpolation": "bicubic"}),
        ("uni2-h", {"interpolation": "bicubic"}),
        ("dinobloom-b", {"mean": (0.5, 0.5, 0.5)}),
        ("h-optimus-0", {"std": (0.229, 0.224, 0.225)}),
        ("prov-gigapath", {"resize_px": None}),
        ("siglip2-b16", {"resize": "shortest"}),
        ("dinov2-b14", {"interpolation": "bilinear"}),
        ("dinov3-b16", {"mean": (0.5, 0.5, 0.5)}),
    ],
)
def test_an_entry_with_another_preprocessing_than_published_would_be_seen(
    name: str, change: dict[str, Any], photograph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Shows that entries in timm's layout are compared with what others publish, not with themselves."""
    entry = BACKBONES.get(name)
    wrong = replace(entry, preprocess=replace(entry.preprocess, **change))
    monkeypatch.setitem(BACKBONES._entries, name, wrong)
    made = official_timm.timm_native(tmp_path, SMALL, name=name)
    with torch.inference_mode():
        assert relative(our_feature(made, photograph, trust_weights=True), made.native(photograph)) > 1e-3


def test_the_wrong_activation_would_be_seen(photograph: Path, tmp_path: Path):
    """Shows that the comparison is sharp: QuickGELU's weights under GELU are off by far more than 1e-5."""
    made = official.hf_clip(tmp_path, SMALL)
    gelu = replace(made, spec=replace(made.spec, architecture="vit_base_patch16_clip_224"))
    with torch.inference_mode():
        assert relative(our_feature(gelu, photograph, trust_weights=True), made.native(photograph)) > 1e-3


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vision_model.encoder.layers.0.self_attn.k_proj.weight", (64, 63)),
        ("vision_model.encoder.layers.0.self_attn.q_proj.weight", (96, 64)),
        ("vision_model.embeddings.class_embedding", (3, 50)),
        ("visual_projection.weight", (32, 64, 1)),
    ],
)
def test_a_projection_of_another_shape_is_refused_and_never_joined(name: str, shape: tuple[int, ...], tmp_path: Path):
    made = official.hf_clip(tmp_path, SMALL)
    state = load_file(made.weights)
    assert name in state
    save_file({**state, name: torch.ones(shape)}, made.weights)
    with pytest.raises(WeightsError, match="does not hold the weights of clip-vit-b16") as caught:
        load_encoder(made.spec, made.weights)
    assert "\n" not in str(caught.value)


def test_the_epsilon_that_is_really_confused_would_be_seen(photograph: Path, tmp_path: Path):
    """timm's default of 1e-6 for the 1e-12 of Google's ViT: 2e-5 of a feature, in float64 far above its rounding."""
    made = official.hf_vit(tmp_path, SMALL)
    assert made.spec.arguments["norm_eps"] == 1e-12
    batch = to_batch([evaluation_view(decode(photograph), made.spec.preprocess)], made.spec.preprocess).double()

    def difference(norm_eps: float) -> float:
        spec = replace(made.spec, arguments={**made.spec.arguments, "norm_eps": norm_eps})
        encoder = load_encoder(spec, made.weights, trust_weights=True).double()
        with torch.inference_mode():
            return relative(encoder(batch)[0], made.model.double().vit(batch).last_hidden_state[0, 0])

    assert difference(1e-12) < 1e-6
    assert difference(1e-6) > 5e-6


def test_conch_is_read_with_its_query_pooling(photograph: Path, tmp_path: Path):
    """Its library is on no package index; the pooling is compared with torch's own attention, the trunk with timm's."""
    spec = replace(official.fitted("conch", SMALL), pool_width=64, feature_dim=64)
    encoder = random_encoder(spec)
    names = {"pooler.norm.": "visual.ln_contrast.", "pooler.": "visual.attn_pool_contrast.", "trunk.": "visual.trunk."}
    state = {"visual.proj_contrast": torch.zeros(64, 64), "text.cls_emb": torch.zeros(3), "logit_scale": torch.ones(())}
    for name, tensor in encoder.state_dict().items():
        ours = next(prefix for prefix in names if name.startswith(prefix))
        state[name.replace(ours, names[ours], 1)] = tensor
    torch.save(state, tmp_path / "pytorch_model.bin")
    batch = to_batch([evaluation_view(decode(photograph), spec.preprocess)], spec.preprocess)
    pooler = encoder.pooler
    assert pooler is not None
    attention = torch.nn.MultiheadAttention(64, 8, kdim=SMALL.width, vdim=SMALL.width, bias=False, batch_first=True)
    keys, values = pooler.to_kv.weight.chunk(2)
    parts = {"q_proj_weight": pooler.to_q.weight, "k_proj_weight": keys, "v_proj_weight": values}
    attention.load_state_dict({**parts, "out_proj.weight": pooler.to_out.weight})
    with torch.inference_mode():
        tokens = pooler.ln_k(encoder.trunk.forward_features(batch))
        expected = pooler.norm(attention(pooler.ln_q(pooler.query)[None], tokens, tokens)[0][:, 0])
        found = load_encoder(spec, tmp_path / "pytorch_model.bin")(batch)
    assert relative(found, expected) < 1e-5


def test_positions_are_resampled_as_timm_does(photograph: Path, tmp_path: Path):
    """DINOv2 was trained at 518 px, which is 37 x 37 patches; here from 8 x 8 to 4 x 4."""
    large = official_timm.timm_native(tmp_path, replace(SMALL, image_px=128), name="dinov2-b14", safetensors=True)
    spec = official.fitted("dinov2-b14", SMALL)
    stock = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, img_size=SMALL.image_px).eval()
    batch = to_batch([evaluation_view(decode(photograph), spec.preprocess)], spec.preprocess)
    with torch.inference_mode():
        assert relative(load_encoder(spec, large.weights)(batch), stock(batch)) < 1e-6


def test_a_timm_copy_of_a_projected_encoder_loads_its_head_as_projection(photograph: Path, tmp_path: Path):
    """timm gives the projection of CLIP a bias of zeros; it is left out, and one that is not zero is refused."""
    spec = official.fitted("clip-vit-b16", SMALL)
    arguments = {**spec.arguments, "num_classes": SMALL.projected}
    stock = official.randomise(timm.create_model(spec.architecture, **arguments))
    stock.head.bias.data.zero_()  # pyright: ignore
    torch.save(stock.state_dict(), tmp_path / "model.bin")
    batch = to_batch([evaluation_view(decode(photograph), spec.preprocess)], spec.preprocess)
    with torch.inference_mode():
        assert relative(load_encoder(spec, tmp_path / "model.bin")(batch), stock(batch)) < 1e-5
    stock.head.bias.data.fill_(0.1)  # pyright: ignore
    torch.save(stock.state_dict(), tmp_path / "model.bin")
    with pytest.raises(WeightsError, match=r"1 unexpected \(projection\.bias\)"):
        load_encoder(spec, tmp_path / "model.bin")


def test_timms_copy_of_the_vit_loads_without_its_classifier(tmp_path: Path):
    spec = official.fitted("vit-b16", SMALL)
    arguments = {**spec.arguments, "num_classes": 10}
    del arguments["norm_eps"]
    torch.save(timm.create_model(spec.architecture, **arguments).state_dict(), tmp_path / "model.bin")
    assert load_encoder(spec, tmp_path / "model.bin").feature_dim == SMALL.width


def random_encoder(spec: BackboneSpec) -> Encoder:
    encoder = build_encoder(spec)
    official.randomise(encoder)
    return encoder.requires_grad_(False).eval()


@pytest.mark.parametrize("names", ["v4", "v5"])
def test_facebooks_files_of_dinov3_give_transformers_own_features(names: str, photograph: Path, tmp_path: Path):
    """Their q and v have a bias, which timm's encoder lacks: zero is left out, anything else refused by name."""
    spec = official.fitted("dinov3-b16", SMALL)
    config = transformers.DINOv3ViTConfig(
        hidden_size=SMALL.width, num_hidden_layers=SMALL.layers, num_attention_heads=SMALL.heads,
        intermediate_size=SMALL.mlp, image_size=SMALL.image_px, patch_size=SMALL.patch_px, num_register_tokens=4,
    )  # fmt: skip
    native: Any = official.randomise(transformers.DINOv3ViTModel(config)).eval()
    idle = ("q_proj.bias", "v_proj.bias")
    biases = [parameter for name, parameter in native.named_parameters() if name.endswith(idle)]
    with torch.no_grad():
        for bias in biases:
            bias.zero_()
    file = tmp_path / "model.safetensors"

    def saved() -> Path:
        state = {name: tensor.clone() for name, tensor in native.state_dict().items()}
        save_file({name.removeprefix("model.") if names == "v4" else name: state[name] for name in state}, file)
        return file

    square = tmp_path / "square.png"  # of the encoder's size: their processor resizes in torch, on numbers in [0, 1]
    Image.open(photograph).crop((20, 30, 20 + SMALL.image_px, 30 + SMALL.image_px)).save(square)
    edges = {"height": SMALL.image_px, "width": SMALL.image_px}
    pixels = transformers.DINOv3ViTImageProcessor(size=edges)(Image.open(square), return_tensors="pt")
    with torch.inference_mode():
        expected = native(**pixels).last_hidden_state[0, 0]
        made = Official(spec=spec, weights=saved(), native=native, model=native)
        assert relative(our_feature(made, square), expected) < 1e-5
    with torch.no_grad():
        biases[0][0] = 0.1
    with pytest.raises(WeightsError, match=r"unexpected .*blocks\.0\.attn\.[qv]_proj\.bias"):
        load_encoder(spec, saved())
