"""Adapters in both encoders: they start as zero-shot, are what their equations say, and are stored whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from official import SMALL, biomedclip, open_clip_vit
from small_encoders import relative
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError, StoreError
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.text_tower import SplitAttention, adapted_text, chosen_blocks, text_blocks
from cytolora.models.backbones.registry import NANO_CLIP
from cytolora.models.backbones.spec import BackboneSpec, TextSpec
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder_with_head import load_trained_state, trained_state
from cytolora.models.text.encoder import TextEncoder, load_text_encoder
from cytolora.models.text.prompted import PromptedText
from cytolora.models.two_towers import TwoTowers, text_head

WORDS = ["normal", "low-grade dysplastic squamous", "koilocytotic squamous"]
TEMPLATE = "A cytological slide showing a {} cell"
BOTH = AdapterSpec(targets=("q", "k", "v"), towers=("image", "text"), dropout=0.0)
NAMES = {
    "clip": ("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "bert": ("attention.self.query", "attention.self.key", "attention.self.value"),
}


@pytest.fixture(scope="module", params=["clip", "bert", "nano-clip"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[BackboneSpec, TextEncoder]:
    """A backbone and its text encoder, of two blocks."""
    folder = tmp_path_factory.mktemp("towers")
    if request.param == "nano-clip":
        assert isinstance(NANO_CLIP.weights, Path)
        return NANO_CLIP, load_text_encoder(NANO_CLIP, NANO_CLIP.weights, NANO_CLIP.weights.parent / "vocab.txt")
    if request.param == "bert":
        official = biomedclip(folder, SMALL)
        text = TextSpec(kind="bert", width=32, heads=2, layers=1, mlp=64, vocab_size=57, context_length=256)
    else:
        official = open_clip_vit(folder, SMALL, name="clip-vit-b16", quick_gelu=True)
        text = TextSpec(width=64, heads=1, layers=1)
    spec = replace(official.spec, text=text, weights=official.weights)
    return spec, load_text_encoder(spec, official.weights, official.weights.parent / "vocab.txt")


def towers(made: tuple[BackboneSpec, TextEncoder], method: str, adapter: AdapterSpec, seed: int = 0) -> TwoTowers:
    spec, text = made
    assert isinstance(spec.weights, Path)
    image = load_encoder(spec, spec.weights)
    torch.manual_seed(seed)
    return TwoTowers(attach(image, method, adapter), text_head(text, method, adapter, TEMPLATE, WORDS)).eval()


def images(spec: BackboneSpec) -> Tensor:
    size = spec.preprocess.size_px
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def stirred(classifier: TwoTowers, seed: int = 7) -> TwoTowers:
    """Moves all that trains away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.trainable():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return classifier.train().eval()


def test_lora_in_both_towers_starts_as_zero_shot(made: tuple[BackboneSpec, TextEncoder]):
    spec, text = made
    assert isinstance(spec.weights, Path)
    classifier = towers(made, "lora", BOTH)
    with torch.no_grad():
        z = F.normalize(load_encoder(spec, spec.weights)(images(spec)), dim=1)
        embeddings = F.normalize(text.embed([TEMPLATE.format(words) for words in WORDS]), dim=1)
        expected = text.logit_scale * z @ embeddings.T
        assert relative(classifier(images(spec)), expected) < 1e-4


@pytest.mark.parametrize("scaling", ["alpha_over_sqrt_rank", "alpha_over_rank"])
def test_lora_of_the_text_is_its_equation_worked_into_the_weights(made: tuple[BackboneSpec, TextEncoder], scaling):
    """W + s B A in the place of W gives the same class embeddings."""
    spec, text = made
    adapter = replace(BOTH, rank=3, alpha=2.0, scaling=scaling)
    classifier = stirred(towers(made, "lora", adapter))
    factor = 2.0 / (3**0.5 if scaling == "alpha_over_sqrt_rank" else 3)
    plain = text.sharing_weights()
    trained = classifier.text.trained()
    names = NAMES["clip" if spec.text is not None and spec.text.kind == "clip" else "bert"]
    for number, block in enumerate(text_blocks(plain.encoder)):
        changes = []
        for name in names:
            (a,) = (p for n, p in trained.items() if f".{number}.{name}.lora_A." in n)
            (b,) = (p for n, p in trained.items() if f".{number}.{name}.lora_B." in n)
            changes.append(factor * (b @ a).detach())
        if isinstance(attention := getattr(block, "attn", None), nn.MultiheadAttention):
            attention.in_proj_weight = nn.Parameter(attention.in_proj_weight.detach() + torch.cat(changes))
            continue
        for name, change in zip(names, changes, strict=True):
            part = block.get_submodule(name)
            part.weight = nn.Parameter(part.weight.detach() + change)  # pyright: ignore
    expected = F.normalize(plain.embed([TEMPLATE.format(words) for words in WORDS]), dim=1)
    start = F.normalize(text.embed([TEMPLATE.format(words) for words in WORDS]), dim=1)
    assert relative(classifier.text.embeddings().detach(), expected) < 1e-4
    assert relative(expected, start) > 1e-3, "the comparison is of something"


def test_split_attention_is_torchs_own_under_a_causal_mask():
    torch.manual_seed(0)
    fused = nn.MultiheadAttention(24, 3, batch_first=True)
    nn.init.normal_(fused.in_proj_bias)
    nn.init.normal_(fused.out_proj.bias)
    tokens, mask = torch.randn(2, 5, 24), torch.full((5, 5), -torch.inf).triu(1)
    expected, _ = fused(tokens, tokens, tokens, attn_mask=mask, need_weights=False)
    found, _ = SplitAttention(fused)(tokens, tokens, tokens, attn_mask=mask)
    torch.testing.assert_close(found, expected)


def deep_text(kind: str) -> TextEncoder:
    """A text encoder of several blocks; that of CLIP with random weights."""
    if kind == "bert":
        assert isinstance(NANO_CLIP.weights, Path)
        return load_text_encoder(NANO_CLIP, NANO_CLIP.weights, NANO_CLIP.weights.parent / "vocab.txt")
    torch.manual_seed(0)
    encoder = TextEncoder(TextSpec(width=64, heads=2, layers=3), 64, None).requires_grad_(False).eval()
    encoder.logit_scale = 10.0
    return encoder


@pytest.mark.parametrize("kind", ["clip", "bert"])
@pytest.mark.parametrize("number", [2, 4, 30])
def test_ivlp_replaces_the_first_tokens_before_every_block(kind: str, number: int):
    """Of as many words, or more tokens than words; against changing what each block gives to the next."""
    text = deep_text(kind)
    torch.manual_seed(0)
    head = text_head(text, "ivlp", AdapterSpec(prompts=number), TEMPLATE, WORDS)
    assert head.tokens is not None
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    blocks = text_blocks(text.encoder)
    assert head.tokens.first.shape[0] == number
    assert [block for block, _ in head.tokens.deep()] == list(range(1, len(blocks)))
    found = head.embeddings().detach()

    def replacing(rows: Tensor):
        def replaced(module: nn.Module, arguments: object, output: Tensor | tuple[Tensor, ...]):
            hidden = output if isinstance(output, Tensor) else output[0]
            hidden[:, 1 : 1 + number] = rows
            return output

        return replaced

    with torch.no_grad():
        first_only = head.text(head.tokens.first)
        for block, rows in head.tokens.deep():
            blocks[block - 1].register_forward_hook(replacing(rows))
        expected = head.text(head.tokens.first)
    assert relative(found, expected) < 1e-5
    assert relative(first_only, expected) > 1e-4, "the comparison is of something"


def test_ivlp_starts_from_the_words_and_draws_the_rest_by_its_seed():
    text = deep_text("clip")
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        heads.append(text_head(text, "ivlp", AdapterSpec(prompts=2), TEMPLATE, WORDS).trained())
    first, same, other = heads
    assert torch.equal(first["tokens.first"], PromptedText(text, TEMPLATE, WORDS).word_vectors()[:2])
    assert torch.equal(first["tokens.deeper"], same["tokens.deeper"])
    assert not torch.equal(first["tokens.deeper"], other["tokens.deeper"])
    assert first["tokens.deeper"].std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(("method", "adapter"), [("lora", BOTH), ("ivlp", AdapterSpec(prompts=3))])
def test_what_is_stored_gives_the_same_logits_in_another_start(
    made: tuple[BackboneSpec, TextEncoder], method: str, adapter: AdapterSpec
):
    spec, text = made
    before = text.embed(["a normal cell"])
    classifier = stirred(towers(made, method, adapter))
    state = trained_state(classifier)
    assert sum(tensor.numel() for tensor in state.values()) == classifier.num_trainable()
    assert any(name.startswith("text.") for name in state)
    assert not any(name.startswith("head.") for name in state)
    other = towers(made, method, adapter, seed=5)
    with torch.no_grad():
        expected = classifier(images(spec))
        assert relative(other(images(spec)), expected) > 1e-3
        load_trained_state(other, state)
        assert relative(other.train().eval()(images(spec)), expected) < 1e-6
    with pytest.raises(StoreError, match="Stored weights do not fit"):
        load_trained_state(other, {name: tensor for name, tensor in state.items() if not name.startswith("text.")})
    assert torch.equal(text.embed(["a normal cell"]), before), "the frozen encoder serves others as before"


@pytest.mark.parametrize(("method", "adapter"), [("lora", BOTH), ("ivlp", AdapterSpec(prompts=3))])
def test_a_step_changes_both_towers_and_the_texts_are_asked_anew(
    made: tuple[BackboneSpec, TextEncoder], method: str, adapter: AdapterSpec
):
    spec, _ = made
    classifier = towers(made, method, adapter)
    with torch.no_grad():
        before = classifier(images(spec))
        assert torch.equal(classifier(images(spec)), before)
    weights = {name: tensor.clone() for name, tensor in trained_state(classifier).items()}
    optimiser = torch.optim.AdamW(classifier.train().trainable(), lr=0.05)
    F.cross_entropy(classifier(images(spec)), torch.arange(3)).backward()
    optimiser.step()
    changed = {name for name, tensor in trained_state(classifier).items() if not torch.equal(tensor, weights[name])}
    assert any(name.startswith("text.") for name in changed)
    assert any(not name.startswith("text.") for name in changed)
    with torch.no_grad():
        assert relative(classifier.eval()(images(spec)), before) > 1e-5


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (AdapterSpec(blocks=(0, 9), towers=("image", "text")), "no block 9 in the text encoder: it has 2"),
        (AdapterSpec(last_blocks=3, towers=("image", "text")), "last_blocks is 3, and the text encoder has 2 blocks"),
    ],
)
def test_a_block_that_the_text_encoder_has_not_is_named(adapter: AdapterSpec, message: str):
    assert isinstance(NANO_CLIP.weights, Path)
    text = load_text_encoder(NANO_CLIP, NANO_CLIP.weights, NANO_CLIP.weights.parent / "vocab.txt")
    with pytest.raises(ConfigError, match=message):
        adapted_text(text, "lora", adapter)


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [(AdapterSpec(), [0, 1, 2]), (AdapterSpec(last_blocks=2), [1, 2]), (AdapterSpec(blocks=(2, 0)), [0, 2])],
)
def test_blocks_of_the_text_encoder_are_chosen_as_those_of_the_image(adapter: AdapterSpec, expected: list[int]):
    assert chosen_blocks(3, adapter) == expected
