"""Hashes of what a run is computed from: weights, data, split, prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cytolora.core.files import canonical_json, sha256_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is computed from; a stored run counts only while all of it is today's. None: not known here."""

    weights_sha256: str | None
    data_fingerprint: str | None
    split_fingerprint: str | None
    """Of the images that this run sees: after the draw."""
    prompts_sha256: str | None = None
    """Of what the text encoder is asked; None for a run that asks nothing."""

    def agrees_with(self, today: "Identity") -> bool:
        """Whether nothing that is known today differs."""
        names = self.__dataclass_fields__
        return all(getattr(today, name) in (None, getattr(self, name)) for name in names)

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> "Identity":
        """Reads the hashes that a run is stored with."""
        return cls(
            weights_sha256=provenance["weights_sha256"],
            data_fingerprint=provenance["data_fingerprint"],
            split_fingerprint=provenance["split_fingerprint"],
            prompts_sha256=prompts_hash(provenance.get("prompts")),
        )


def prompts_hash(prompts: Mapping[str, Any] | None) -> str | None:
    """Returns the hash of class prompts; another wording of one class is another hash."""
    return None if prompts is None else sha256_text(canonical_json(prompts))
