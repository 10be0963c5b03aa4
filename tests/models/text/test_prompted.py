"""Prompts with vectors in the place of words: equal to the plain text encoder while these are the words' embeddings."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from official import SMALL, biomedclip, open_clip_vit
from small_encoders import relative

from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import NANO_CLIP
from cytolora.models.backbones.spec import TextSpec
from cytolora.models.checkpoints.hub import find_vocabulary
from cytolora.models.text.encoder import TextEncoder, load_text_encoder
from cytolora.models.text.prompted import PromptedText

WORDS = ["normal", "low-grade dysplastic squamous", "koilocytotic"]
TEMPLATE = "a photo of a {} cell."
FAMILIES = ["clip", "quick clip", "bert", "nano-clip"]


def encoder_of(family: str, folder: Path) -> TextEncoder:
    if family == "nano-clip":
        assert isinstance(NANO_CLIP.weights, Path)
        return load_text_encoder(NANO_CLIP, NANO_CLIP.weights, find_vocabulary(NANO_CLIP, NANO_CLIP.weights))
    if family == "bert":
        made = biomedclip(folder, SMALL)
        text = TextSpec(kind="bert", width=32, heads=2, layers=1, mlp=64, vocab_size=57, context_length=256)
    else:
        name = "clip-vit-b16" if family == "quick clip" else "quiltnet-b16"
        made = open_clip_vit(folder, SMALL, name=name, quick_gelu=family == "quick clip")
        text = TextSpec(width=64, heads=1, layers=1, quick_gelu=family == "quick clip")
    return load_text_encoder(replace(made.spec, text=text), made.weights, made.weights.parent / "vocab.txt")


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return encoder_of(request.param, tmp_path_factory.mktemp("text"))


def test_words_as_vectors_give_the_plain_encoders_text_features(encoder: TextEncoder):
    plain = F.normalize(encoder.embed([TEMPLATE.format(words) for words in WORDS]), dim=1)
    text = PromptedText(encoder, TEMPLATE, WORDS)
    assert text.num_vectors == encoder.num_words("a photo of a") >= 4
    found = text(text.word_vectors())
    assert relative(found, plain) < 1e-5
    assert relative(found[0], found[1]) > 1e-3, "the comparison is of something"
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    again = F.normalize(encoder.embed([TEMPLATE.format(words) for words in WORDS]), dim=1)
    assert torch.equal(again, plain), "the encoder serves others as before"


def test_a_context_for_each_image_gives_what_each_gives_alone(encoder: TextEncoder):
    text = PromptedText(encoder, TEMPLATE, WORDS)
    context = text.word_vectors() + 0.1 * torch.randn(
        4, *text.word_vectors().shape, generator=torch.Generator().manual_seed(0)
    )
    together = text(context)
    assert together.shape[:2] == (4, 3)
    for one, alone in zip(together, context, strict=True):
        assert relative(one, text(alone)) < 1e-5
    assert relative(together[0], together[1]) > 1e-3


def test_the_number_of_vectors_is_free_and_what_keeps_their_place_is_never_read(encoder: TextEncoder):
    vectors = PromptedText(encoder, "a photo of a large round {} cell", WORDS).word_vectors()
    text = PromptedText(encoder, "x y z {} cell", WORDS, num_vectors=len(vectors))
    assert text.num_vectors == len(text.word_vectors()) == encoder.num_words("a photo of a large round")
    plain = encoder.embed([f"a photo of a large round {words} cell" for words in WORDS])
    assert relative(text(vectors), F.normalize(plain, dim=1)) < 1e-5


def test_gradients_reach_every_vector_and_no_weight_of_the_encoder(encoder: TextEncoder):
    text = PromptedText(encoder, TEMPLATE, WORDS)
    context = text.word_vectors().requires_grad_()
    (text(context) * torch.linspace(-1, 1, 3).unsqueeze(1)).sum().backward()
    assert context.grad is not None
    assert (context.grad.norm(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_a_gradient_is_the_slope_of_the_text_features(encoder: TextEncoder):
    text = PromptedText(encoder, TEMPLATE, WORDS)
    context = text.word_vectors().requires_grad_()
    probe = torch.randn(text(context).shape, generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad((text(context) * probe).sum(), context)
    step = grad / grad.norm() * 1e-2 * context.norm()
    with torch.no_grad():
        up, down = ((text(context + sign * step) * probe).sum() for sign in (1, -1))
    assert ((up - down) / 2).item() == pytest.approx((grad * step).sum().item(), rel=0.1)


@pytest.mark.parametrize("template", ["word " * 300 + "{} cell", "a {} cell" + " word" * 300])
def test_a_prompt_longer_than_the_context_is_refused_with_both_lengths(encoder: TextEncoder, template: str):
    with pytest.raises(ConfigError, match=rf"has \d+ tokens .* takes {encoder.context_length}\. Write a shorter"):
        PromptedText(encoder, template, WORDS)
    with pytest.raises(ConfigError, match="set fewer tokens") as caught:
        PromptedText(encoder, "a {} cell", WORDS, num_vectors=encoder.context_length)
    assert "x x" not in str(caught.value), "what keeps the place of the vectors is no word of the user's"
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("words", [["normal", "normal"], ["normal", "lsil", "normal"], ["Normal", "normal"]])
def test_classes_that_the_encoder_reads_alike_are_refused_by_name(encoder: TextEncoder, words: list[str]):
    with pytest.raises(ConfigError, match=r"reads the classes '[Nn]ormal' and 'normal' as the same tokens"):
        PromptedText(encoder, TEMPLATE, words)


def test_a_prompt_that_just_fits_the_context_is_taken(encoder: TextEncoder):
    rest = encoder.num_words("normal") + encoder.num_words("cell") + 2
    text = PromptedText(encoder, "a {} cell", ["normal"], num_vectors=encoder.context_length - rest)
    assert text(text.word_vectors()).isfinite().all()
