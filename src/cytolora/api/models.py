"""Classifiers, backbones and features from Python: load, attach an adapter, embed images."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from cytolora.classifier.fit.config import DEFAULT_CACHE
from cytolora.config.reading import AS_IT_STANDS, STANDARD, Decoding, ReadOptions
from cytolora.config.run import AdapterSpec, FeaturePrecision, trains_text_tower
from cytolora.core.arguments import AnyPath, as_device, as_path
from cytolora.core.cache_damage import one_notice
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.data.manifest import Manifest
from cytolora.errors import ConfigError
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.inference.predictor import Images
    from cytolora.models.encoder import Encoder
    from cytolora.training.embed import Embedding

_log = logging.getLogger(__name__)


def list_backbones() -> list[str]:
    """Lists the names of all backbones; ``cytolora ls models`` shows what they are."""
    from cytolora.models.backbones.registry import BACKBONES

    return [spec.name for spec in BACKBONES]


def list_methods() -> list[str]:
    """Lists the names of all methods: ``linear``, fitted heads, ``zero-shot``, and adapters, which ``attach`` takes."""
    from cytolora.models.adapters.methods import METHODS

    return [method.name for method in METHODS]


def load(
    path: AnyPath,
    *,
    weights: AnyPath | None = None,
    weights_dir: AnyPath | None = None,
    device: "str | torch.device | None" = None,
    precision: FeaturePrecision | None = None,
) -> "Classifier":
    """Opens a bundle, what ``fit`` wrote, and checks every byte of it and of the backbone's checkpoint.

    Args:
        path: Folder or zip file; or ``hf:OWNER/NAME`` (``hf:OWNER/NAME@REVISION``) on the Hugging Face hub.
        weights: The backbone's checkpoint on disk, file or folder; otherwise it is looked for in ``weights_dir``,
            where training read it, and in the hub's cache.
        device: ``auto`` takes a GPU where there is one; the CPU if None.
        precision: Of the frozen encoder; that of ``fit`` if None.

    Raises:
        BundleError: If anything is not as it was written, or the checkpoint is another.
    """
    from cytolora.classifier.inference.classifier import Classifier

    return Classifier.load(path, weights=weights, weights_dir=weights_dir, device=device, precision=precision)


def publish(bundle: AnyPath, to: AnyPath, *, private: bool = False, licence_permits: bool = False) -> str:
    """Publishes a bundle: its files and a model card, into a folder or to the Hugging Face hub in one commit.

    Args:
        bundle: Folder or zip file, or ``hf:OWNER/NAME``.
        to: Folder, or ``hf:OWNER/NAME``; the hub asks for a token that may write (``HF_TOKEN``).
        private: Makes the repository private, where it is new; one that is there and public is refused.
        licence_permits: Says that somebody has read the backbone's licence, where its terms are not known here.

    Returns:
        The folder, or the address on the hub with the commit, ``hf:OWNER/NAME@COMMIT``, which ``load`` takes.

    Raises:
        BundleError: If it is no bundle, or a byte of it has changed.
        ConfigError: If the backbone's licence forbids it, something else is there, somebody else commits meanwhile, or
            the hub refuses.
    """
    from cytolora.classifier.publish.publish import publish as publish_bundle

    return publish_bundle(bundle, to, private=private, licence_permits=licence_permits)


def load_backbone(
    name: str,
    weights: AnyPath | None = None,
    *,
    weights_dir: AnyPath | None = None,
    trust_weights: bool = False,
    device: "str | torch.device | None" = None,
) -> "Encoder":
    """Loads a frozen image encoder: images [batch, 3, size, size] to features [batch, feature_dim].

    Args:
        name: One of ``list_backbones()``.
        weights: Its official checkpoint on disk; otherwise ``weights_dir``, the hub's cache, then the hub.
        trust_weights: Goes on by the backbone's entry where a configuration beside its weights says otherwise.
        device: ``auto`` takes a GPU where there is one; the CPU if None.
    """
    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.models.checkpoints.loading import load_encoder

    named = {} if weights is None else {name: weights}
    inputs = Inputs(data={}, weights=named, weights_dir=weights_dir, trust_weights=trust_weights)
    inputs.fetch_weights(name)
    for one in inputs.weight_findings(name):
        _log.log(logging.INFO if one.severity == "note" else logging.WARNING, "%s", one)
    path = inputs.weights_path(name)
    return load_encoder(BACKBONES.get(name), path, trust_weights=True).to(as_device(device))


def load_images(images: "Images", backbone: str, *, decoding: Decoding = STANDARD) -> "torch.Tensor":
    """Decodes images and preprocesses them for a backbone: float32 [images, 3, size, size].

    Args:
        images: One or many, as for ``Classifier.predict``.
        backbone: One of ``list_backbones()``; it decides size, interpolation and normalisation.
        decoding: What the files leave to choose; that of a dataset is ``manifest.decoding``.

    Raises:
        ConfigError: If the value range is to be that of a dataset, which some images are not.
        DataError: If an image cannot be read.
    """
    from cytolora.classifier.inference.predictor import named_images, pixels_of
    from cytolora.data.imaging.views import evaluation_view, to_batch
    from cytolora.models.backbones.registry import BACKBONES

    if decoding.value_range == "used":
        raise ConfigError(
            "value_range='used' is measured on a dataset; name the highest value here, or take that of the images' "
            "dataset: load_images(images, backbone, decoding=cytolora.load_dataset(...).decoding)."
        )
    preprocess = BACKBONES.get(backbone).preprocess
    views = [evaluation_view(pixels_of(image, decoding), preprocess) for _, image in named_images(images)]
    return to_batch(views, preprocess)


def attach(encoder: "Encoder", method: str = "lora", adapter: AdapterSpec | None = None) -> "Encoder":
    """Attaches an adapter to a frozen encoder; only the parameters of the adapter train.

    Example::

        encoder = cytolora.attach(cytolora.load_backbone("nano"), "lora", cytolora.AdapterSpec(rank=4))

    Args:
        method: One of ``list_methods()`` that adapts an encoder.
        adapter: Rank, scaling, targets, blocks; the defaults are those of the shipped grids.

    Returns:
        A copy that shares the frozen weights; the encoder stays as it was.

    Raises:
        ConfigError: If the method adapts nothing, does not use what ``adapter`` sets, or trains a text encoder too.
    """
    from cytolora.models.adapters.attach import attach as attach_adapter

    adapter = adapter or AdapterSpec()
    if trains_text_tower(method, adapter):
        raise ConfigError(f"{method} in both towers needs a text encoder, and attach knows the image's. Use a grid.")
    return attach_adapter(encoder, method, adapter)


def _unlabelled(data: AnyPath, reading: ReadOptions) -> Manifest:
    from cytolora.training.embed import unlabelled

    if replace(reading, decoding=STANDARD) != AS_IT_STANDS:
        raise ConfigError("labelled=False reads neither groups nor subsets; leave all but `decoding` out of `reading`.")
    return unlabelled(data, reading.decoding)


@one_notice()
def embed(
    data: AnyPath | Manifest,
    out: AnyPath,
    *,
    model: str | None = None,
    dataset: str | None = None,
    labelled: bool = True,
    reading: ReadOptions = AS_IT_STANDS,
    weights: Mapping[str, AnyPath] | None = None,
    weights_dir: AnyPath | None = None,
    trust_weights: bool = False,
    cache: AnyPath = DEFAULT_CACHE,
    device: "str | torch.device | None" = None,
    precision: FeaturePrecision = "fp32",
    progress: Progress | None = None,
) -> "Embedding":
    """Writes the frozen features of every image to a file, and returns them.

    Example::

        embedding = cytolora.embed("my_cells", "cells.parquet", model="uni")
        embedding.features  # [images, feature_dim]

    Args:
        data: As for ``load_dataset``, or what it returns.
        out: Parquet file: path, label, subset, group, sha256, features; or ``.h5ad`` (AnnData), ``.npz`` (NumPy).
        model: A backbone; the best for a linear classifier on this machine if None.
        labelled: False takes every image below the folder, whatever sub-folder it stands in.
        reading: What the files leave to choose.
        trust_weights: As for ``load_backbone``.
        cache: Folder of decoded images and features.
        precision: Of the features; int8 is faster on a CPU with VNNI and nearly the same (docs/performance.md).
    """
    from cytolora.api.session import open_session
    from cytolora.data.datasets import manifest_of
    from cytolora.training.embed import collected, read_embedding
    from cytolora.training.embed import embed as write
    from cytolora.training.embedding_files import OTHER_SUFFIXES, write_embedding

    out, on, progress = as_path(out, "out"), as_device(device), progress or default_progress()
    inputs = Inputs(data={}, weights=weights, weights_dir=weights_dir, trust_weights=trust_weights)
    if labelled or isinstance(data, Manifest):
        manifest = manifest_of(data, dataset, reading=reading)
    else:
        manifest = _unlabelled(data, reading)
    session = open_session(
        manifest, model, inputs, cache=as_path(cache, "cache"), device=on, precision=precision, progress=progress
    )
    progress.begin("features", len(manifest.samples), "images")
    if out.suffix.lower() in OTHER_SUFFIXES:
        embedding = collected(session, on_images=progress.done)
        write_embedding(embedding, out)
        return embedding
    write(session, out, on_images=progress.done)
    return read_embedding(out)
