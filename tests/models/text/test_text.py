"""Text encoders in official layout against open_clip's and transformers' own, up to zero-shot logits."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import official
import open_clip
import pytest
import torch
import torch.nn.functional as F
import transformers
from official import SMALL, Official, Size
from safetensors.torch import load_file, save
from small_encoders import FUSED, relative

from cytolora.core.cache_folder import CachedFiles
from cytolora.errors import ConfigError, WeightsError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import TextSpec
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.text.embeddings import ClassText, class_text, text_head, zero_shot_logits
from cytolora.models.text.encoder import load_text_encoder
from cytolora.models.text.prompts import TEMPLATES, WORDS, prompts

PROMPTS = ["A cytological slide showing a koilocytotic cell", "normal", "a HSIL cell, high-grade"]
TINY = TextSpec(width=64, heads=1, layers=1)
TINY_BERT = TextSpec(kind="bert", width=32, heads=2, layers=1, mlp=64, vocab_size=57, context_length=256)

Writer = Callable[[Path, Size], Official]
OPEN_CLIP: dict[str, tuple[Writer, TextSpec]] = {
    "QuiltNet": (
        partial(official.open_clip_vit, name="quiltnet-b16", quick_gelu=False),
        replace(TINY, quick_gelu=False),
    ),
    "CLIP": (partial(official.open_clip_vit, name="clip-vit-b16", quick_gelu=True), TINY),
    "BiomedCLIP": (official.biomedclip, TINY_BERT),
}


def write(name: str, folder: Path) -> tuple[Official, Path]:
    writer, text = OPEN_CLIP[name]
    made = writer(folder, SMALL)
    return replace(made, spec=replace(made.spec, text=text)), made.weights.parent / "vocab.txt"


def tokenizer_of(made: Official) -> Callable[[list[str]], torch.Tensor]:
    return open_clip.get_tokenizer(f"local-dir:{made.weights.parent}")  # pyright: ignore


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_embeddings_equal_open_clips(name: str, tmp_path: Path):
    made, vocabulary = write(name, tmp_path)
    encoder = load_text_encoder(made.spec, made.weights, vocabulary)
    with torch.inference_mode():
        expected = made.model.encode_text(tokenizer_of(made)(PROMPTS))
    found = encoder.embed(PROMPTS)
    assert relative(found, expected) < 1e-5
    assert relative(found[0], found[1]) > 1e-2  # the comparison is of something
    assert encoder.logit_scale == pytest.approx(made.model.logit_scale.exp().item())


@pytest.mark.parametrize("name", OPEN_CLIP)
@pytest.mark.slow
def test_zero_shot_logits_agree_with_open_clips(name: str, tmp_path: Path):
    made, vocabulary = write(name, tmp_path)
    wording = prompts("herlev", WORDS["herlev"])
    classes = [WORDS["herlev"][label] for label in wording]
    size_px = made.spec.preprocess.size_px
    images = torch.randn(4, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        weights = open_clip.build_zero_shot_classifier(
            made.model, tokenizer_of(made), classes, [lambda c, t=t: t.format(c) for t in TEMPLATES]
        )
        theirs = made.model.logit_scale.exp() * F.normalize(made.model.encode_image(images), dim=-1) @ weights
        features = load_encoder(made.spec, made.weights)(images)
    text = class_text(
        made.spec, made.weights, wording, weights_sha256="0", cache=tmp_path / "cache", vocabulary=vocabulary
    )
    ours = zero_shot_logits(features, text)
    assert relative(ours, theirs) < 1e-5
    weight, bias = text_head(text, features)
    lengths = features.norm(dim=1, keepdim=True)
    assert relative(features @ weight.T + bias, theirs * lengths / lengths.mean()) < 1e-5


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_head_starts_with_the_zero_shot_logits_of_features_of_mean_length_and_others_in_proportion(spread: float):
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(7, 32, generator=generator), dim=1)
    text = ClassText(embeddings=embeddings, logit_scale=37.0)
    lengths = 5 * (1 + spread * torch.rand(300, 1, generator=generator) ** 3)
    features = lengths * F.normalize(torch.randn(300, 32, generator=generator), dim=1)
    weight, bias = text_head(text, features)
    expected = 37 * F.normalize(features, dim=1) @ embeddings.T
    assert relative(zero_shot_logits(features, text), expected) < 1e-6
    torch.testing.assert_close(features @ weight.T, expected * lengths / lengths.mean(), atol=1e-4, rtol=1e-5)
    assert torch.equal(bias, torch.zeros(7))
    assert (features @ weight.T).argmax(dim=1).bincount(minlength=7).min() > 0, "every class is named"


@pytest.mark.parametrize("safetensors", [True, False])
def test_embeddings_equal_transformers(safetensors: bool, tmp_path: Path):
    made = official.hf_clip(tmp_path, SMALL, safetensors=safetensors)
    spec = replace(made.spec, text=replace(TINY, mlp=128))
    encoder = load_text_encoder(spec, made.weights)
    native = transformers.CLIPTextModelWithProjection.from_pretrained(tmp_path).eval()
    tokens = open_clip.SimpleTokenizer()(PROMPTS)
    with torch.inference_mode():
        assert relative(encoder.embed(PROMPTS), native(input_ids=tokens).text_embeds) < 1e-5


def test_class_embeddings_are_read_from_the_cache_the_second_time(tmp_path: Path):
    made, _ = write("CLIP", tmp_path)
    wording = {"a": ["one", "two"], "b": ["three"]}
    first = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=tmp_path / "cache")
    made.weights.unlink()
    again = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=tmp_path / "cache")
    assert torch.equal(again.embeddings, first.embeddings)
    assert again.logit_scale == first.logit_scale
    torch.testing.assert_close(first.embeddings.norm(dim=1), torch.ones(2))
    for other in ({"a": ["one"], "b": ["three"]}, {"a": ["three"], "b": ["one", "two"]}):
        with pytest.raises(WeightsError):  # other prompts are another entry, which would need the encoder
            class_text(made.spec, made.weights, other, weights_sha256="0", cache=tmp_path / "cache")
    with pytest.raises(WeightsError):
        class_text(made.spec, made.weights, wording, weights_sha256="1", cache=tmp_path / "cache")


def test_the_length_of_embeddings_is_kept_and_asked_anew_only_by_who_reads_it(tmp_path: Path):
    """A file that an earlier version kept holds none, and still serves all others."""
    made, _ = write("CLIP", tmp_path)
    wording, cache = {"a": ["one", "two"], "b": ["three"]}, tmp_path / "cache"
    first = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache)
    encoder = load_text_encoder(made.spec, made.weights)
    raw = [encoder.embed(texts).mean(dim=0) for texts in wording.values()]
    assert first.lengths is not None
    torch.testing.assert_close(first.lengths, torch.stack([one.norm() for one in raw]))
    torch.testing.assert_close(first.unscaled[1], raw[1])
    (file,) = cache.iterdir()
    file.unlink()
    CachedFiles(cache).keep_if_possible(file.name, save(first.state()))  # as it was
    weights = made.weights.read_bytes()
    made.weights.unlink()
    again = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache)
    assert again.lengths is None
    assert torch.equal(again.embeddings, first.embeddings)
    with pytest.raises(WeightsError):
        class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache, with_lengths=True)
    made.weights.write_bytes(weights)
    anew = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache, with_lengths=True)
    assert torch.equal(anew.unscaled, first.unscaled)
    made.weights.unlink()
    kept = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache, with_lengths=True)
    assert torch.equal(kept.unscaled, first.unscaled)


@pytest.mark.parametrize("damage", ["empty", "foreign", "cut", "bit", "other", "nan", "scale"])
def test_a_damaged_cache_file_is_made_anew(damage: str, tmp_path: Path):
    made, _ = write("CLIP", tmp_path)
    wording, cache = {"a": ["one", "two"], "b": ["three"]}, tmp_path / "cache"
    first = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    nan = {name: torch.full_like(tensor, torch.nan) for name, tensor in first.state().items()}
    file.write_bytes(
        {
            "empty": b"",
            "foreign": b"no tensors",
            "cut": whole[:-4],
            "bit": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
            "other": save({"x": torch.ones(2)}),
            "nan": save(nan),
            "scale": save({**first.state(), "text.logit_scale": torch.tensor(torch.inf)}),
        }[damage]
    )
    again = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache)
    assert torch.equal(again.embeddings, first.embeddings)
    assert file.read_bytes() == whole


def test_another_vocabulary_is_kept_apart(tmp_path: Path):
    made, vocabulary = write("BiomedCLIP", tmp_path)
    wording, cache = {"a": ["one", "two"], "b": ["three"]}, tmp_path / "cache"
    first = class_text(
        made.spec, made.weights, wording, weights_sha256="0", cache=cache, vocabulary=vocabulary
    ).embeddings
    words = vocabulary.read_text().splitlines()
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join([*words[:5], *reversed(words[5:])]))
    found = class_text(made.spec, made.weights, wording, weights_sha256="0", cache=cache, vocabulary=other).embeddings
    assert relative(found, first) > 1e-3
    assert len(list(cache.iterdir())) == 2


def test_what_is_kept_needs_no_vocabulary_and_a_new_wording_asks_for_it(tmp_path: Path):
    made, vocabulary = write("BiomedCLIP", tmp_path)
    wording = {"a": ["one", "two"], "b": ["three"]}
    call = partial(class_text, made.spec, made.weights, weights_sha256="0", cache=tmp_path / "cache")
    first = call(wording, vocabulary=vocabulary)
    assert torch.equal(call(wording).embeddings, first.embeddings)
    with pytest.raises(WeightsError, match=r"needs vocab\.txt"):
        call({"a": ["one"], "b": ["two"]})
    call({"a": ["one"], "b": ["two"]}, fetch_vocabulary=lambda: vocabulary)
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join(reversed(vocabulary.read_text().splitlines())))
    call(wording, vocabulary=other)
    with pytest.raises(WeightsError, match=r"needs vocab\.txt"):  # two vocabularies: which one is meant is not known
        call(wording)


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "binary", "absent"])
def test_a_vocabulary_that_is_not_the_encoders_is_refused_in_one_line(damage: str, tmp_path: Path):
    """With words cut off, prompts become the same unknown word, and zero-shot noise."""
    made, vocabulary = write("BiomedCLIP", tmp_path)
    words = vocabulary.read_text().splitlines()
    content = {
        "empty": b"",
        "cut": "\n".join(words[:20]).encode(),
        "longer": "\n".join([*words, "koilocytotic"]).encode(),
        "binary": b"\xff\xfe\x00garbage" * 50,
    }
    vocabulary.unlink()
    if damage in content:
        vocabulary.write_bytes(content[damage])
    with pytest.raises(WeightsError, match=r"vocab\.txt") as caught:
        load_text_encoder(made.spec, made.weights, vocabulary)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (None, "holds none as logit_scale, expected one number"),
        (torch.zeros(2), r"holds torch\.float32 \[2\] as logit_scale"),
        (torch.tensor(3), r"holds torch\.int64 \[\] as logit_scale"),
        (torch.tensor(torch.nan), "holds logit_scale nan, whose exponential nan is no factor"),
        (torch.tensor(1000.0), "holds logit_scale 1000, whose exponential inf is no factor"),
        (torch.tensor(-1000.0), "holds logit_scale -1000, whose exponential 0 is no factor"),
    ],
)
def test_a_factor_from_cosine_to_logit_that_is_none_is_refused(
    scale: torch.Tensor | None, message: str, tmp_path: Path
):
    made, _ = write("CLIP", tmp_path)
    state = torch.load(made.weights, weights_only=True)
    del state["logit_scale"]
    torch.save(state if scale is None else {**state, "logit_scale": scale}, made.weights)
    with pytest.raises(WeightsError, match=message) as caught:
        load_text_encoder(made.spec, made.weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["text_projection.weight", "q_proj.bias"])
def test_a_text_encoder_of_odd_shapes_is_refused_in_one_line(name: str, tmp_path: Path):
    made = official.hf_clip(tmp_path, SMALL)
    odd = torch.zeros(2, 3, 4) if "projection" in name else torch.ones(())
    parts = (name, name.replace("q_", "k_"), name.replace("q_", "v_"))
    state = {
        found: odd.clone() if found.startswith("text_") and found.endswith(parts) else tensor
        for found, tensor in load_file(made.weights).items()
    }
    torch.save(state, tmp_path / "odd.bin")
    with pytest.raises(WeightsError, match="does not hold the text encoder of clip-vit-b16") as caught:
        load_text_encoder(replace(made.spec, text=replace(TINY, mlp=128)), tmp_path / "odd.bin")
    assert "\n" not in str(caught.value)


def test_a_file_without_its_text_half_is_refused(tmp_path: Path):
    made = official.hf_clip(tmp_path, SMALL)
    state = {name: value for name, value in load_file(made.weights).items() if not name.startswith("text_")}
    torch.save(state, tmp_path / "image.bin")
    spec = replace(made.spec, text=replace(TINY, mlp=128))
    with pytest.raises(WeightsError, match=r"does not hold the text encoder of clip-vit-b16: \d+ tensors do not fit"):
        load_text_encoder(spec, tmp_path / "image.bin")


def test_a_text_encoder_with_nan_is_refused_by_name(tmp_path: Path):
    made = official.hf_clip(tmp_path, SMALL)
    state = load_file(made.weights)
    state["text_model.final_layer_norm.bias"][3] = torch.nan
    torch.save(state, tmp_path / "broken.bin")
    with pytest.raises(WeightsError, match=r"NaN or infinity in ln_final\.bias of its text encoder"):
        load_text_encoder(replace(made.spec, text=replace(TINY, mlp=128)), tmp_path / "broken.bin")


def test_another_size_of_text_encoder_is_refused(tmp_path: Path):
    made, _ = write("CLIP", tmp_path)
    with pytest.raises(WeightsError, match="does not hold the text encoder"):
        load_text_encoder(replace(made.spec, text=replace(TINY, layers=2)), made.weights)


def test_a_backbone_without_text_and_a_missing_vocabulary_say_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="fused has no text encoder"):
        load_text_encoder(FUSED, tmp_path / "x.bin")
    with pytest.raises(WeightsError, match=r"needs vocab\.txt beside its weights"):
        load_text_encoder(BACKBONES.get("biomedclip"), tmp_path / "x.bin", tmp_path / "vocab.txt")


def test_a_class_without_a_prompt_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match="Class 'b' has no prompt"):
        class_text(FUSED, tmp_path, {"a": ["x"], "b": []}, weights_sha256="0", cache=tmp_path)


@pytest.mark.parametrize("name", [spec.name for spec in BACKBONES if spec.text is not None])
def test_registered_text_encoders_are_as_wide_as_the_images(name: str):
    spec = BACKBONES.get(name)
    assert spec.text is not None
    assert spec.projection is not None
    assert spec.text.width % spec.text.heads == 0


def test_text_embeddings_are_returned_with_one_line_where_they_cannot_be_kept(tmp_path: Path, caplog):
    made, _ = write("CLIP", tmp_path)
    call = partial(class_text, made.spec, made.weights, {"a": ["one"], "b": ["three"]}, weights_sha256="0")
    expected = call(cache=tmp_path / "cache")
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "text"):
        assert torch.equal(call(cache=folder).embeddings, expected.embeddings)
    told = [one.getMessage() for one in caplog.records if one.name == "cytolora.core.cache_folder"]
    assert [f"Cannot keep values in {tmp_path / 'file'}" in line for line in told] == [True] * 2
