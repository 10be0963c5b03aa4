"""Trained classifier: opened from a bundle and checked, predicts, evaluates, exports."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from cytolora.classifier.bundle.checks import check_whole
from cytolora.classifier.bundle.files import ANCHORS, BANK, HEAD, OPENED, PEFT_WEIGHTS, Files, read_bundle
from cytolora.classifier.bundle.hub import local
from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.classifier.bundle.rebuild import rebuild
from cytolora.classifier.decision.ood import Features, from_bytes
from cytolora.classifier.inference.image_sources import Source
from cytolora.classifier.inference.predictor import ImageLike, Predictor, pixels_of
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import FeaturePrecision
from cytolora.core.arguments import AnyPath, OneOrMany, as_device, as_path_or_none
from cytolora.core.progress import Progress
from cytolora.core.tables import html_table
from cytolora.data.datasets import manifest_of
from cytolora.data.imaging.pixels import Pixels
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.data.manifest import Manifest
from cytolora.errors import BundleError, ConfigError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.hub import find, missing
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.checkpoints.shards import checkpoint_bytes, checkpoint_sha256
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, from_safetensors
from cytolora.models.kernels.cpu import for_inference
from cytolora.models.kernels.int8 import check_int8

if TYPE_CHECKING:
    from cytolora.classifier.export.export import Agreement, Target
    from cytolora.classifier.inference.evaluate import Evaluation, OnSeen


class Classifier(Predictor[Tensor]):
    """A classifier with its classes, preprocessing and thresholds.

    Example::

        classifier = cytolora.load("model1")
        classifier.predict("new_cells").to_pandas()
        classifier.evaluate("labelled_cells").metrics["balanced_accuracy"]
        classifier.export("onnx", "model1-onnx")
    """

    def __init__(
        self,
        contents: BundleManifest,
        files: Files,
        *,
        name: str,
        checkpoint: AnyPath | None,
        device: str | torch.device | None = None,
        lost: str = "",
        precision: FeaturePrecision | None = None,
    ) -> None:
        """Takes a bundle that was read and checked.

        Args:
            checkpoint: The backbone's file; None where it is not here.
            lost: Reason why the file that training read is not the checkpoint.
            precision: Of the frozen encoder; that of ``fit`` if None.

        Raises:
            ConfigError: If the precision cannot be computed.
        """
        super().__init__(contents, name)
        self.files = files
        """Everything but ``bundle.json`` and the card, by path; checked."""
        self._checkpoint = as_path_or_none(checkpoint, "checkpoint")
        self._device = as_device(device)
        self._lost = lost
        self._lender: Classifier | None = None
        """Whose encoder this one uses."""
        self._precision: FeaturePrecision = precision or contents.precision or "fp32"
        if self._precision == "int8":
            if contents.adapter is not None:
                raise ConfigError(f"int8 is for frozen encoders, and {name} adapts its own. Leave out the precision.")
            check_int8(self._device)

    @classmethod
    def load(
        cls,
        path: AnyPath,
        *,
        weights: AnyPath | None = None,
        weights_dir: AnyPath | None = None,
        device: str | torch.device | None = "cpu",
        precision: FeaturePrecision | None = None,
    ) -> "Classifier":
        """Opens a bundle, a folder or a zip file, and checks every byte of it and of the backbone's file.

        Args:
            path: Where it lies; or ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION`` on the Hugging Face hub.
            weights: The backbone's checkpoint on disk, file or folder; otherwise it is looked for in ``weights_dir``,
                where training read it (a folder remembers that), and in the hub's cache, without a network.
            precision: Of the frozen encoder; that of ``fit`` if None.

        Raises:
            BundleError: If anything is not as it was written, or the checkpoint is another.
            ConfigError: If the precision cannot be computed here.
        """
        here = local(path)
        contents, files = read_bundle(here)
        check_whole(here, contents, files)
        named, folder = as_path_or_none(weights, "weights"), as_path_or_none(weights_dir, "weights_dir")
        checkpoint, lost = _find_checkpoint(here, contents, named, folder)
        options: dict[str, Any] = {"device": device, "lost": lost, "precision": precision}
        return cls(contents, files, name=str(path), checkpoint=checkpoint, **options)

    @property
    def backbone(self) -> BackboneSpec:
        """Everything about the encoder but the location of its file."""
        return self.contents.backbone.spec

    @property
    def device(self) -> torch.device:
        """Device that the classifier computes on."""
        return self._device

    @property
    def precision(self) -> FeaturePrecision:
        """Precision of the frozen encoder's features; adapters compute in fp32."""
        return self._precision

    def state(self) -> dict[str, Tensor]:
        """Returns the trained parameters by name: head, and the adapter where there is one."""
        state: dict[str, Tensor] = {}
        name = HEAD
        try:
            for name in (HEAD, PEFT_WEIGHTS, OPENED):
                if name in self.files:
                    state |= from_safetensors(self.files[name])
        except SafetensorError as error:
            raise BundleError(f"{self.name}: {name} is no safetensors file: {error}.") from error
        return state

    def checkpoint(self) -> Path:
        """Returns the backbone's file.

        Raises:
            WeightsError: If it is not on this machine.
        """
        if self._checkpoint is None:
            raise missing(self.backbone, self._lost)
        return self._checkpoint

    def bytes_to_load(self) -> int:
        """Size of the backbone's file."""
        return checkpoint_bytes(self.checkpoint())

    def classifier(self) -> EncoderWithHead:
        """Returns encoder and head, adapter merged where its kind allows, in evaluation mode; loaded once."""
        return self._classifier

    @cached_property
    def _classifier(self) -> EncoderWithHead:
        if self._lender is not None:
            return self._rebuilt(self._lender.classifier().encoder)
        checkpoint = self.checkpoint()
        try:
            return self._rebuilt(load_encoder(self.backbone, checkpoint, trust_weights=True))
        except ConfigError as error:  # of what the description says, which no user wrote
            raise BundleError(f"{self.name}: {error}") from error

    def _rebuilt(self, encoder: Encoder) -> EncoderWithHead:
        contents = self.contents
        members = contents.members or ()
        shape = (*((len(members),) if members else ()), len(contents.classes), encoder.feature_dim)
        if self.state()["head.weight"].shape != shape:
            raise BundleError(f"{self.name}: the head does not fit {len(contents.classes)} classes and this backbone.")
        return rebuild(encoder, contents.method, contents.adapter, self.state(), contents.seed, self._device, members)

    @cached_property
    def _fast_encoder(self) -> Encoder:
        if self._lender is not None:
            return self._lender._fast_encoder
        return for_inference(self.classifier().encoder, self._device, self._precision)

    def evaluate(
        self,
        data: "AnyPath | Manifest",
        *,
        dataset: str | None = None,
        on_seen: "OnSeen" = "refuse",
        page: AnyPath | None = None,
        reading: ReadOptions = AS_IT_STANDS,
    ) -> "Evaluation":
        """Measures the classifier on labelled images that it was not trained on.

        Args:
            data: Folder, table or zip file; or what ``cytolora.load_dataset`` returns.
            dataset: Which reader; recognised from the folder if None.
            on_seen: Images that were in training or calibration: ``refuse``, ``mark``, or ``drop``.
            page: HTML file to write: the images whose label the prediction contradicts first, to be corrected.
            reading: What the files leave to choose.

        Raises:
            DataError: If a class is unknown to the classifier, or images were seen and are refused.
        """
        from cytolora.classifier.inference.evaluate import evaluate  # it imports this module

        manifest = manifest_of(data, dataset, reading=reading)
        return evaluate(self, manifest, on_seen=on_seen, page=page)

    def export(
        self,
        to: "Target",
        out: AnyPath,
        *,
        images: OneOrMany[AnyPath] = (),
        force_licence: bool = False,
        progress: Progress | None = None,
    ) -> "Agreement":
        """Exports to ``onnx``, ``timm`` or ``peft`` and compares the export with the classifier before it is kept.

        Args:
            images: Images to compare on, files or folders; synthetic cells if none are given.
            force_licence: Exports weights although their licence forbids to pass on changed or merged copies.

        Raises:
            ConfigError: If the licence forbids it, or ``out`` holds something else.
            BundleError: If the export predicts something else.
        """
        from cytolora.classifier.export.export import export  # it imports this module

        return export(self, to, out, images=images, force_licence=force_licence, progress=progress)

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={value!r}" for name, value in self._facts().items())
        return f"Classifier({facts})"

    def _repr_html_(self) -> str:
        return html_table(["classifier", ""], self._facts().items())

    def _facts(self) -> dict[str, str]:
        score = self.metrics.get("balanced_accuracy")
        interval = self.metrics.get("intervals", {}).get("balanced_accuracy", {})
        between = f" (95 % interval {interval['low']:.3f} to {interval['high']:.3f})" if interval else ""
        return {
            "path": self.name,
            "classes": ", ".join(self.classes),
            "backbone": self.backbone.name,
            "method": self.contents.method,
            "test balanced accuracy": "not measured" if score is None else f"{score:.3f}{between}",
            "device": str(self.device),
        }

    def read_bank(self) -> Features | None:
        """Reads the features of training images; None where there are none."""
        return from_bytes(self.files[BANK]) if BANK in self.files else None

    def anchors_file(self) -> bytes | None:
        """Returns the file of the anchors; None where there is none."""
        return self.files.get(ANCHORS)

    def view(self, image: ImageLike | Source) -> Tensor:
        """Decodes and resizes one image: uint8 [3, size, size]; safe to call from several threads.

        Raises:
            DataError: If it cannot be read.
        """
        return evaluation_view(pixels_of(image, self.decoding), self.preprocess)

    def picture(self, view: Tensor) -> Pixels:
        """Returns a view as [size, size, 3]."""
        return view.permute(1, 2, 0).contiguous().cpu().numpy()

    @property
    def encoder_key(self) -> Hashable:
        """Equal for classifiers with equal frozen encoders, images read alike, and one precision and device."""
        if self.contents.adapter is not None:
            return super().encoder_key
        used, read = self.contents.backbone, (self.preprocess, self.decoding)
        return used.sha256, used.spec.recipe, *read, self._precision, str(self._device)

    def use_encoder_of(self, other: Predictor[Tensor]) -> None:
        """Takes the frozen encoder of a classifier of equal ``encoder_key`` for its own, before anything is loaded."""
        if not isinstance(other, Classifier) or other.encoder_key != self.encoder_key or "_classifier" in vars(self):
            raise ValueError(f"{self.name} cannot use the encoder of {other.name}: another one, or loaded already.")
        self._lender = other

    def encode(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        """Returns features [feature_dim], one tensor a view."""
        with torch.inference_mode():
            return list(self._fast_encoder(to_batch(views, self.preprocess).to(self._device)).float())

    def outputs_of(self, encoded: Sequence[Tensor]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [images, classes] and features [images, feature_dim] of encoded views."""
        with torch.inference_mode():
            features = torch.stack(list(encoded))
            logits = self.classifier().head(features)
        return logits.cpu().numpy(), features.cpu().numpy()

    def outputs(self, views: Sequence[Tensor]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [images, classes] and features [images, feature_dim] of some views."""
        return self.outputs_of(self.encode(views))


def _find_checkpoint(
    path: Path, contents: BundleManifest, named: Path | None, folder: Path | None
) -> tuple[Path | None, str]:
    """Returns the backbone's checkpoint, compared with its hash, and why the one that training read is lost."""
    used, kept, lost = contents.backbone, None, ""
    if used.local_file is not None and named is None:
        problem = used.local_file.problem(used.sha256)
        kept = None if problem else Path(used.local_file.path)
        lost = f"training read {used.local_file.path}, which {problem}" if problem else ""
    known = {entry.name: entry.weights for entry in BACKBONES}
    checkpoint = find(replace(used.spec, weights=kept or known.get(used.name)), named, folder)
    if checkpoint is not None and checkpoint != kept:
        _check_backbone(path, contents, checkpoint)
    return checkpoint, lost


def _check_backbone(path: Path, contents: BundleManifest, checkpoint: Path) -> None:
    found, used = checkpoint_sha256(checkpoint), contents.backbone
    if found != used.sha256:
        raise BundleError(
            f"{path} was trained on {used.name} with SHA-256 {used.sha256[:12]}…, and {checkpoint} has {found[:12]}…. "
            f"Name the right file: --weights {used.name}=PATH."
        )
