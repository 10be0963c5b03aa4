"""Text encoder whose first words are vectors that can be trained: class embeddings with gradients to these vectors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cytolora.core.schema import shown
from cytolora.errors import ConfigError
from cytolora.models.text.encoder import TextEncoder

_PLACEHOLDER = "x"
"""Word that keeps the place of a context vector; its embedding is never read."""


class PromptedText(nn.Module):
    """Prompts of all classes, the words before the class names replaced by vectors.

    The encoder sees the tokens as they are, and so finds mask, positions and end of each prompt by its own rules; only
    what its token embedding returns for the words before the class is another.
    """

    def __init__(
        self, encoder: TextEncoder, template: str, words: Sequence[str], *, num_vectors: int | None = None
    ) -> None:
        """Tokenises one prompt a class; the encoder itself stays as it is, and serves others too.

        Args:
            template: Wording with ``{}`` for the words of a class.
            words: Those of each class.
            num_vectors: Context vectors in place of the words before the class; None: one for each of their tokens.

        Raises:
            ConfigError: If a prompt is longer than the context of the encoder, or no token tells two classes apart.
        """
        super().__init__()
        before, _, after = template.partition("{}")
        if num_vectors is not None:
            before = f"{_PLACEHOLDER} " * num_vectors
        prompts = [f"{before}{name}{after}" for name in words]
        _check_lengths(encoder, prompts, words, num_vectors)
        self.num_vectors = encoder.num_words(before)
        self.is_drawn = num_vectors is not None
        """Whether there are no words that the vectors could start from."""
        self.num_classes = len(prompts)
        self.logit_scale = encoder.logit_scale
        self.encoder, self.tokens = encoder.encoder, _without_padding(encoder.tokens(prompts))
        _check_apart(_ids(self.tokens), words)

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.encoder.parameters()).device

    def word_vectors(self) -> Float[Tensor, "vectors width"]:
        """Returns the embeddings of the words before the class."""
        ids = _ids(self.tokens)[0, 1 : 1 + self.num_vectors]
        return _embedding(self.encoder).weight[ids.to(self.device)].detach().clone()

    def forward(
        self, context: Float[Tensor, "*images vectors width"] | None = None
    ) -> Float[Tensor, "*images classes embedding"]:
        """Returns the embeddings of all classes, scaled to length 1, for one context or for one an image.

        Args:
            context: Takes the place of as many of the first words; None: the words themselves.
        """
        if context is None:
            with _cut_mask(self.encoder, self.tokens):
                return F.normalize(self.encoder(_repeated(self.tokens, 1, self.device)), dim=-1)
        shared = context.ndim == 2
        num_images = 1 if shared else len(context)
        rows = context.expand(self.num_classes, -1, -1) if shared else context.repeat_interleave(self.num_classes, 0)
        with _placed(_embedding(self.encoder), rows), _cut_mask(self.encoder, self.tokens):
            embeddings = F.normalize(self.encoder(_repeated(self.tokens, num_images, self.device)), dim=-1)
        return embeddings if shared else embeddings.view(num_images, self.num_classes, -1)


@contextmanager
def _placed(embedding: nn.Embedding, rows: Float[Tensor, "prompts vectors width"]) -> Iterator[None]:
    """Puts vectors in the place of the tokens after the first, which marks the start of a prompt."""

    def replaced(module: nn.Module, arguments: Any, embedded: Tensor) -> Tensor:
        return torch.cat([embedded[:, :1], rows.to(embedded.dtype), embedded[:, 1 + rows.shape[1] :]], dim=1)

    handle = embedding.register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def _check_lengths(encoder: TextEncoder, prompts: Sequence[str], words: Sequence[str], num_vectors: int | None) -> None:
    """Refuses a prompt that is too long: the encoder itself would cut it, and with it the name of the class."""
    length, prompt, name = max(
        (encoder.num_words(prompt) + 2, prompt, name)  # start and end
        for prompt, name in zip(prompts, words, strict=True)
    )
    if length > encoder.context_length:
        what = f"The prompt {shown(prompt)}"
        if num_vectors is not None:
            what = f"The prompt of {shown(name)} after {num_vectors:,} vectors"
        raise ConfigError(
            f"{what} has {length} tokens with start and end, and the text encoder takes "
            f"{encoder.context_length}. Write a shorter template, or set fewer tokens."
        )


def _check_apart(ids: Int64[Tensor, "classes tokens"], words: Sequence[str]) -> None:
    """Refuses classes of equal tokens: whatever is trained before them, their logits stay equal."""
    known: dict[tuple[int, ...], str] = {}
    for row, name in zip(map(tuple, ids.tolist()), words, strict=True):
        if row in known:
            raise ConfigError(
                f"The text encoder reads the classes {shown(known[row])} and {shown(name)} as the same tokens, "
                "and no prompt tells them apart. Name them by words that it knows, or choose a method without text."
            )
        known[row] = name


def _without_padding(tokens: Any) -> Any:
    """Returns tokens without the padding that all prompts share.

    CLIP's encoder is causal: what stands after the end of a prompt changes nothing before it. BERT's tokeniser pads to
    the longest prompt already.
    """
    if not isinstance(tokens, Tensor):
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]


@contextmanager
def _cut_mask(encoder: Any, tokens: Any) -> Iterator[None]:
    """Cuts the causal mask of CLIP's encoder to the length of the tokens, which it compares with the whole context."""
    whole = getattr(encoder, "attn_mask", None)
    if whole is None:
        yield
        return
    length = tokens.shape[1]
    encoder.attn_mask = whole[:length, :length]
    try:
        yield
    finally:
        encoder.attn_mask = whole


def _repeated(tokens: Any, number: int, device: torch.device) -> Any:
    if isinstance(tokens, Mapping):
        return {name: _repeated(part, number, device) for name, part in tokens.items()}
    return tokens.repeat(number, 1).to(device)


def _ids(tokens: Any) -> Tensor:
    return tokens if isinstance(tokens, Tensor) else tokens["input_ids"]


def _embedding(encoder: Any) -> nn.Embedding:
    """Returns the token embedding of CLIP's encoder, or of a BERT."""
    found = getattr(encoder, "token_embedding", None)
    return encoder.transformer.embeddings.word_embeddings if found is None else found
