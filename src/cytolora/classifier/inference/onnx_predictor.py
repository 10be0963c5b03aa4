"""Prediction with the ONNX export of a classifier: NumPy, Pillow and ONNX Runtime, no torch."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.classifier.bundle.checks import check_anchors, check_bank
from cytolora.classifier.bundle.files import ANCHORS, BANK
from cytolora.classifier.bundle.manifest import BundleManifest, from_text
from cytolora.classifier.decision.ood import Features, from_bytes
from cytolora.classifier.inference.image_sources import Source
from cytolora.classifier.inference.predictor import ImageLike, Predictor, pixels_of
from cytolora.config.run import Preprocess
from cytolora.core.arguments import AnyPath, as_path
from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.strips import check_shape
from cytolora.errors import BundleError, ConfigError, missing_package

EXPORT = "export.json"
"""The content of ``bundle.json``, with the hashes of the files of the export."""
MODEL = "model.onnx"
INPUT = "images"
OUTPUTS = ("logits", "features", "probabilities")

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class OnnxModel(Predictor[Pixels]):
    """Exported classifier; its predictions equal the bundle's up to fp32 rounding."""

    def __init__(
        self, contents: BundleManifest, files: dict[str, bytes], *, name: str, threads: int | None = None
    ) -> None:
        """Takes what was read and checked; ``threads`` None leaves their number to ONNX Runtime."""
        super().__init__(contents, name)
        self._files = files
        self._session = _session(files.pop(MODEL), name, threads)

    @classmethod
    def load(cls, path: AnyPath, *, threads: int | None = None) -> "OnnxModel":
        """Opens a folder that ``cytolora export --to onnx`` wrote, and checks every byte that is used.

        Raises:
            BundleError: If a file is missing or not as it was written.
            ConfigError: If ONNX Runtime is not installed, or memory is short.
        """
        path = as_path(path)
        try:
            contents = from_text((path / EXPORT).read_bytes(), f"{path}: {EXPORT}")
            files = {name: (path / name).read_bytes() for name in (MODEL, BANK, ANCHORS) if name in contents.files}
        except OSError as error:
            raise BundleError(
                f"Cannot read {error.filename or path}: {error.strerror}. Name what `cytolora export --to onnx` wrote."
            ) from error
        for name, content in files.items():
            if sha256(content).hexdigest() != contents.files[name]:
                raise BundleError(f"{path}: {name} is not as it was written: its SHA-256 differs. Export again.")
        if MODEL not in files:
            raise BundleError(f"{path}: {EXPORT} names no {MODEL}. Export again.")
        opened = cls(contents, files, name=str(path), threads=threads)
        width = opened.check_outputs()
        check_bank(path, contents, files, width)
        check_anchors(path, contents, files, width)
        return opened

    def check_outputs(self) -> int:
        """Returns the width of the features.

        Raises:
            BundleError: If the model gives something else than the description says.
        """
        widths = {output.name: output.shape[-1] for output in self._session.get_outputs() if output.shape}
        if not {*OUTPUTS[:2]} <= set(widths) or [entry.name for entry in self._session.get_inputs()] != [INPUT]:
            raise BundleError(f"{self.name}: {MODEL} has other inputs and outputs than an export. Export again.")
        if widths[OUTPUTS[0]] != len(self.classes):
            raise BundleError(
                f"{self.name}: {MODEL} tells {widths[OUTPUTS[0]]} classes apart, and {EXPORT} names "
                f"{len(self.classes)}: {', '.join(self.classes)}. Export again."
            )
        return widths[OUTPUTS[1]]

    def read_bank(self) -> Features | None:
        """Reads the features of training images; None where there are none."""
        return from_bytes(self._files[BANK]) if BANK in self._files else None

    def anchors_file(self) -> bytes | None:
        """Returns the file of the anchors; None where there is none."""
        return self._files.get(ANCHORS)

    def view(self, image: ImageLike | Source) -> Pixels:
        """Decodes and resizes one image: uint8 [size, size, 3]; safe to call from several threads.

        Raises:
            DataError: If it cannot be read.
        """
        return resized(pixels_of(image, self.decoding), self.preprocess)

    def picture(self, view: Pixels) -> Pixels:
        """Returns a view as [size, size, 3]."""
        return view

    def outputs(self, views: Sequence[Pixels]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [images, classes] and features [images, feature_dim] of some views."""
        try:
            logits, features = self._session.run(list(OUTPUTS[:2]), {INPUT: normalised(views, self.preprocess)})
        except Exception as error:  # ONNX Runtime raises classes of its own, derived from Exception alone
            raise BundleError(f"{self.name}: {MODEL} cannot compute: {str(error).splitlines()[0]}") from error
        return logits, features


def is_export(path: AnyPath) -> bool:
    """Whether a path is an ONNX export, by the file that describes it."""
    path = as_path(path)
    return (path / EXPORT).is_file() and (path / MODEL).is_file()


def resized(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Resizes with Pillow's filters and crops the centre: uint8 [size, size, 3], as ``data.images.evaluation_view``."""
    check_shape(pixels, preprocess)
    size, (height, width) = preprocess.size_px, pixels.shape[:2]
    across = down = edge = preprocess.shorter_px
    if preprocess.resize == "shortest":
        across, down = (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
    image = Image.fromarray(pixels)
    if (across, down) != (width, height):
        image = image.resize((across, down), _FILTERS[preprocess.interpolation])
    left, top = round((across - size) / 2), round((down - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def normalised(views: Sequence[Pixels], preprocess: Preprocess) -> NDArray[np.float32]:
    """Stacks views and normalises them: float32 [images, 3, size, size], as ``data.images.to_batch``."""
    batch = np.stack(list(views)).transpose(0, 3, 1, 2).astype(np.float32)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    batch /= np.float32(255)
    batch -= mean
    batch /= std
    return np.ascontiguousarray(batch)


def _session(content: bytes, name: str, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_package("Exports need", _package(error), extra="onnx", error=error) from error
    except MemoryError as error:
        raise ConfigError(f"{name}: too little memory to load ONNX Runtime. Free some, and try again.") from error
    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:  # from memory, so that the model cannot name other files of this machine
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises classes of its own, derived from Exception alone
        if _is_short_of_memory(error):
            raise ConfigError(f"{name}: too little memory to open {MODEL}. Free some, and try again.") from error
        raise BundleError(f"{name}: {MODEL} cannot be opened: {str(error).splitlines()[0]} Export again.") from error


def _package(error: ImportError) -> str:
    """Names what is missing: ONNX Runtime, or a package that it needs."""
    missing = (error.name or "").partition(".")[0]
    return "ONNX Runtime" if missing in ("", "onnxruntime") else missing


def _is_short_of_memory(error: Exception) -> bool:
    """Whether a failure says that memory is short; ONNX Runtime has no class for it."""
    words = ("bad_alloc", "bad allocation", "allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
