"""Hyper-parameters of prompt learning; imported from config/run.py."""

from dataclasses import dataclass

from cytolora.config.budget import CLOSED
from cytolora.core.schema import between, check_fields, whole
from cytolora.errors import ConfigError

_MAX_TOKENS = 8_192
"""Far above the context of any text encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSpec:
    """Hyper-parameters of a method that trains the words around the class names."""

    template: str = "a photo of a {} cell."
    """Wording with one ``{}`` for the words of the class: what stands before it is trained, what comes after stays."""
    tokens: int | None = None
    """Context vectors in place of the words before the class, drawn from N(0, 0.02^2); None: one for each token of
    these words, which start as their embeddings."""
    lam: float | None = None
    """Weight of the zero-shot knowledge in kgcoop and prograd, above 0; None: the authors'."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if not isinstance(self.template, str):
            raise ConfigError(f"template is a text with one {{}} for the class, got {self.template!r}.")
        check_fields(self, {"tokens": whole(1, _MAX_TOKENS), "lam": between(1e-30, 1e30)})
        before, mark, after = self.template.partition("{}")
        if not mark or {"{", "}"} & set(before + after):
            raise ConfigError(f"template is a wording with one {{}} for the class, got {self.template!r}.")
        if before and not before[-1].isspace():
            raise ConfigError(f"template has a space before {{}}, to part the words: {self.template!r}.")
        if self.tokens is None and not any(one.isprintable() and not one.isspace() for one in before):
            raise ConfigError(
                f"template has no word before {{}} that could be trained, got {self.template!r}. Put words there, or "
                "set tokens."
            )
