"""Repository of a bundle as the Hugging Face hub expects it: its files, and a card with what the hub reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cytolora.classifier.bundle.files import CARD, CONTENTS, HUB_CARD, Files, read_bundle, read_card
from cytolora.classifier.bundle.hub import local
from cytolora.classifier.bundle.manifest import BundleManifest, to_text
from cytolora.core.arguments import AnyPath
from cytolora.core.strict_yaml import read_yaml_text
from cytolora.data.datasets import DATASETS
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import BackboneSpec

_FENCE = "---\n"


def repository(bundle: AnyPath, address: str | None = None, *, licence_permits: bool = False) -> Files:
    """Returns the files of a repository: those of the bundle without paths of this machine, and ``README.md``.

    Args:
        address: Where it will be, ``hf:OWNER/NAME``, for the example on the card.
        licence_permits: Says that somebody has read the backbone's licence, where its terms are not known here.

    Raises:
        BundleError: If it is no bundle, or a byte of it has changed.
        ConfigError: If the backbone's licence forbids to hand on what was made with it, or its terms are not known.
    """
    path = local(bundle)
    manifest, files = read_bundle(path)
    _check_licence(manifest.backbone.spec, licence_permits=licence_permits)
    card = _card(path, manifest, address)
    return {**files, CONTENTS: to_text(manifest).encode(), HUB_CARD: card.encode()}


def _check_licence(spec: BackboneSpec, *, licence_permits: bool) -> None:
    today = next((one for one in BACKBONES if one.name == spec.name), spec)  # what is known may be more than at fit
    if False in (spec.redistributable, today.redistributable):
        raise ConfigError(
            f"The licence of {spec.name} ({spec.licence}) forbids to hand on what was derived from it: not published. "
            "Ask its owners, or fit the classifier on another backbone (`cytolora ls models`)."
        )
    if spec.redistributable is None and not licence_permits:
        raise ConfigError(
            f"Whether the licence of {spec.name} ({spec.licence}) permits to hand this on is not known here. Read it "
            f"({', '.join(spec.sources[:1]) or 'at its source'}), and say so with --licence-permits."
        )


def _card(path: Path, manifest: BundleManifest, address: str | None) -> str:
    head, body = _parts(read_card(path))
    tags = [tag for tag in _tags(head) if tag not in _dataset(manifest)]
    head = {**head, **_relation(manifest), "tags": [*tags, *_dataset(manifest)]}
    if address is not None:
        body = body.replace('cytolora.load("this_folder")', f'cytolora.load("{address}")')
    return f"{_FENCE}{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}{_FENCE}{body}"


def _parts(card: str) -> tuple[Mapping[str, Any], str]:
    """Returns the card's head as data, and its text; people may have edited both."""
    if not card.startswith(_FENCE) or _FENCE not in card[len(_FENCE) :]:
        raise ConfigError(
            f"{CARD} has no head between two lines of ---, which the hub reads. Fit the classifier again."
        )
    head, _, body = card[len(_FENCE) :].partition(f"\n{_FENCE}")
    try:
        plain = read_yaml_text(head)
    except ValueError as error:
        raise ConfigError(
            f"The head of {CARD} is not valid YAML: {error}. Mend it, or fit the classifier again."
        ) from error
    if not isinstance(plain, dict):
        raise ConfigError(f"The head of {CARD} holds a {type(plain).__name__}, expected keys and values.")
    return plain, body


def _tags(head: Mapping[str, Any]) -> list[Any]:
    tags = head.get("tags") or []
    if not isinstance(tags, list):
        raise ConfigError(f"tags in the head of {CARD} are {tags!r}, expected a list: tags: [cytology, ...].")
    return tags


def _relation(manifest: BundleManifest) -> dict[str, str]:
    """How the classifier relates to its base model, where the hub has that."""
    relation = "finetune" if manifest.method == "full" else "adapter"
    return {"base_model_relation": relation} if manifest.backbone.spec.hub else {}


def _dataset(manifest: BundleManifest) -> list[str]:
    """A tag for the dataset, where it is a published one."""
    name = str(manifest.training.get("dataset"))
    return [name] if any(one.name == name and one.page for one in DATASETS) else []
