"""Image encoder with the text encoder of the same checkpoint in the place of a head: logits are scaled cosines."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.methods import METHODS
from cytolora.models.adapters.text_tower import adapted_text, chosen_blocks, replaced_tokens, text_blocks
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.pass_rows import beside_images
from cytolora.models.text.encoder import TextEncoder
from cytolora.models.text.prompted import PromptedText

_TEXT = "text."
_STD = 0.02
"""Of tokens that start from no words (Khattak et al. 2023, arXiv:2210.03117, public code, independentVL.py)."""


class TextHead(nn.Module):
    """``s cos(z, t_c)`` of features z, the embeddings t_c of the class names computed anew after every step."""

    def __init__(self, text: PromptedText, tokens: "DeepTokens | None" = None) -> None:
        super().__init__()
        self.text, self.tokens = text, tokens
        self._kept: Tensor | None = None

    def embeddings(self) -> Float[Tensor, "classes width"]:
        """Returns the class embeddings, of length 1."""
        with beside_images():
            if self.tokens is None:
                return self.text()
            with replaced_tokens(self.text.encoder, self.tokens.deep()):
                return self.text(self.tokens.first)

    def train(self, mode: bool = True) -> "TextHead":
        """Forgets the embeddings that were kept; weights may change from here on."""
        self._kept = None
        return super().train(mode)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float32[Tensor, "batch classes"]:
        """Maps features to logits; in evaluation without gradients the text is asked once."""
        keeps = not self.training and not torch.is_grad_enabled()
        embeddings = self.embeddings() if self._kept is None or not keeps else self._kept
        self._kept = embeddings if keeps else None
        return self.text.logit_scale * F.normalize(features, dim=-1) @ embeddings.T

    def trained(self) -> dict[str, nn.Parameter]:
        """Returns what trains, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


class DeepTokens(nn.Module):
    """Trained tokens in the place of the first words: one set at the input, others before later blocks (IVLP)."""

    def __init__(self, text: PromptedText, adapter: AdapterSpec) -> None:
        """Starts the first set from the words, if there are as many, and draws the others from torch's global state."""
        super().__init__()
        words, number = text.word_vectors(), adapter.prompts
        self.later = [block for block in chosen_blocks(len(text_blocks(text.encoder)), adapter) if block > 0]
        is_drawn = text.is_drawn
        self.first = nn.Parameter(_STD * torch.randn_like(words) if is_drawn else words[:number].clone())
        shape = len(self.later), number, words.shape[1]
        self.deeper = nn.Parameter(_STD * torch.randn(shape, device=words.device)) if self.later else None

    def deep(self) -> list[tuple[int, Tensor]]:
        """Returns the tokens that take the place of the first ones before each later block."""
        return [] if self.deeper is None else list(zip(self.later, self.deeper, strict=True))


class TwoTowers(EncoderWithHead):
    """Adapted image encoder and text head; what trains of the text is stored in the place of a head."""

    def __init__(self, encoder: Encoder, head: TextHead, *, autocast: bool = False) -> None:
        super().__init__(encoder, head.text.num_classes, autocast=autocast)
        self.text = self.head = head  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def head_tensors(self) -> dict[str, Tensor]:
        """What trains of the text, by the name under which it is stored."""
        return {_TEXT + name: parameter for name, parameter in self.text.trained().items()}


def text_head(encoder: TextEncoder, method: str, adapter: AdapterSpec, template: str, words: Sequence[str]) -> TextHead:
    """Builds the untrained text half of an adapter in both towers; it draws from torch's global random state.

    Args:
        template: Wording with ``{}`` for the words of a class.
        words: Those of each class.

    Raises:
        ConfigError: If a prompt is longer than the context, a named block does not exist, or nothing that trains
            reaches the class embeddings.
    """
    if METHODS.get(method).prompts:
        num_words = encoder.num_words(template.partition("{}")[0])
        num_vectors = adapter.prompts if adapter.prompts > num_words else None
        text = PromptedText(encoder, template, words, num_vectors=num_vectors)
        head = TextHead(text, DeepTokens(text, adapter))
    else:
        head = TextHead(PromptedText(adapted_text(encoder, method, adapter), template, words))
    _prove_reached(head)
    return head


def _prove_reached(head: TextHead) -> None:
    """Checks that every part that trains can change the class embeddings: of a LoRA, its B at the start."""
    trained = head.eval().trained()
    embeddings = head.embeddings()
    probe = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0)).to(embeddings)
    grads = torch.autograd.grad((embeddings * probe).sum(), list(trained.values()), allow_unused=True)
    alive = {name for name, grad in zip(trained, grads, strict=True) if grad is not None and grad.any()}
    dead = [name for name in trained if name not in alive and name.replace(".lora_A.", ".lora_B.") not in alive]
    if dead or not trained:
        where = dead[0] if dead else "any place"
        raise ConfigError(f"The adapter has no effect at {where} of the text encoder. Choose other blocks or targets.")
