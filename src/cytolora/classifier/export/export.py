"""Exports a bundle to files of other libraries, and checks that they give its predictions on real images."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.bundle.files import check_replaceable
from cytolora.classifier.decision.decide import Prediction, decide
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import EXPORT, OnnxModel
from cytolora.core.arguments import AnyPath, OneOrMany, as_path, as_paths
from cytolora.core.folders import recover_folder, staged_folder
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.data.targets import check_target
from cytolora.data.walk import walk
from cytolora.errors import BundleError, ConfigError, CytoloraError, DataError, unknown_name
from cytolora.metrics.calibration import probabilities

if TYPE_CHECKING:
    from torch import Tensor

Target = Literal["onnx", "timm", "peft"]
Outputs = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Logits [images, classes], and features [images, feature_dim] where the export gives them."""
Asked = Callable[[Sequence[Path]], Outputs]
"""From image files to outputs."""

MAX_PROBABILITY_DIFFERENCE = 1e-4
"""Between bundle and export, of any class on any image; fp32 in another order of summation differs by about 1e-6."""
_DRAWN = 24
_TOGETHER = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How alike bundle and export answered."""

    num_images: int
    num_unreadable: int
    """Left out."""
    logit: float
    """The largest absolute difference of a logit."""
    probability: float
    num_flips: int
    """Images with another class."""
    num_other_flags: int
    """Images with another prediction set, or on the other side of a threshold: those nearer to one than fp32 tells."""


def export(
    bundle: Classifier,
    to: Target,
    out: AnyPath,
    *,
    images: OneOrMany[AnyPath] = (),
    force_licence: bool = False,
    progress: Progress | None = None,
) -> Agreement:
    """Writes an export, opens it again, compares it with the bundle, and keeps it if it agrees.

    Args:
        images: To compare on, files or folders, each from its file to its class; drawn cells where there are none.
        force_licence: Writes others' weights, changed by an adapter or not, against their licence.

    Raises:
        ConfigError: If the licence forbids it, the target cannot express the model, the bundle predicts in int8, or
            ``out`` holds something else.
        BundleError: If the export answers differently; nothing of it is kept.
    """
    out, files = as_path(out, "out"), _files(as_paths(images, "images"))
    if to not in get_args(Target):
        raise unknown_name("export target", to, get_args(Target))
    _check_precision(bundle)
    _check_licence(bundle, to, force=force_licence)
    _check_free(out)
    progress = progress or Progress()
    progress.begin(f"writing {out}", 0, "")
    try:
        return _export(bundle, to, out, files, progress)
    except OSError as error:
        raise _unwritable(out, error) from error


def _check_precision(bundle: Classifier) -> None:
    if bundle.precision != "fp32":
        raise ConfigError(
            f"{bundle.name} predicts in {bundle.precision}, and an export in fp32. Open it with --precision fp32 "
            '(precision="fp32" from Python), whose features differ a little, or fit it again without the precision.'
        )


def _export(bundle: Classifier, to: Target, out: Path, files: Sequence[Path], progress: Progress) -> Agreement:
    with _compared_on(list(dict.fromkeys(files))) as paths, staged_folder(out) as staging:
        _write(bundle, to, staging)
        reopened = _reopened(bundle, to, staging)
        progress.begin(f"comparing {out} with the bundle", len(paths) * len(reopened), "images")
        found = [compare(bundle, ask, paths, on_images=progress.done) for ask in reopened]
        agreement = max(found, key=lambda one: (one.num_flips, one.probability, one.num_other_flags))
        if agreement.num_flips or not agreement.probability <= MAX_PROBABILITY_DIFFERENCE:
            raise BundleError(
                f"The export to {to} answers differently: probabilities by up to {agreement.probability:.1e} (allowed: "
                f"{MAX_PROBABILITY_DIFFERENCE:.0e}), {agreement.num_flips} of {agreement.num_images} classes. It was "
                "thrown away; use another --to, and report this."
            )
    return agreement


def compare(
    bundle: Classifier, ask: Asked, images: Sequence[Path], *, on_images: Callable[[int], None] = lambda images: None
) -> Agreement:
    """Compares the answers of a bundle with those of an export, each from its file to its class and flags.

    Raises:
        DataError: If none of the images can be read.
    """
    ours: list[NDArray[np.float32]] = []
    theirs: list[NDArray[np.float32]] = []
    num_other_flags = 0
    for start in range(0, len(images), _TOGETHER):
        views = {}
        for image in images[start : start + _TOGETHER]:
            with suppress(DataError):
                views[image] = bundle.view(image)
        if views:
            expected, found = bundle.outputs(list(views.values())), ask(list(views))
            num_other_flags += _other_flags(bundle, expected, found)
            ours.append(expected[0])
            theirs.append(found[0])
        on_images(len(images[start : start + _TOGETHER]))
    if not ours:
        raise DataError(
            f"None of the {counted(len(images), 'image')} to compare on can be read; name others: --images PATH."
        )
    a, b = np.concatenate(ours), np.concatenate(theirs)
    shares = [probabilities(each, bundle.contents.temperature) for each in (a, b)]
    return Agreement(
        num_images=len(a),
        num_unreadable=len(images) - len(a),
        logit=float(np.abs(a - b).max()),
        probability=float(np.abs(shares[0] - shares[1]).max()),
        num_flips=int((a.argmax(axis=1) != b.argmax(axis=1)).sum()),
        num_other_flags=num_other_flags,
    )


def _other_flags(bundle: Classifier, ours: Outputs, theirs: Outputs) -> int:
    """Counts images of which something else is said than their class; features that are not given are the bundle's."""
    names = [""] * len(ours[0])
    one = decide(bundle.contents.rules, names, *ours, bundle.bank)
    two = decide(bundle.contents.rules, names, theirs[0], ours[1] if theirs[1] is None else theirs[1], bundle.bank)
    return sum(_flags(a) != _flags(b) for a, b in zip(one, two, strict=True))


def _flags(said: Prediction) -> tuple[object, ...]:
    return said.positive, said.prediction_set, said.is_out_of_distribution


def _files(paths: Sequence[Path]) -> list[Path]:
    """Lists images, those of folders at any depth."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist; expected an image, or a folder of images.")
        found += [one.path for one in walk(path) if one.kind == "image"] if path.is_dir() else [path]
    if paths and not found:
        raise DataError(f"No images in {', '.join(map(str, paths))}; expected PNG, JPEG, BMP, TIFF or WebP files.")
    return found


def licence_problem(bundle: Classifier) -> str:
    """Says why the backbone's weights may not be passed on; empty if they may, or nothing is known."""
    spec = bundle.backbone
    if spec.redistributable is not False:
        return ""
    return f"the weights of {spec.name} are under {spec.licence}, which forbids to pass on changed or merged copies"


def _check_licence(bundle: Classifier, to: Target, *, force: bool) -> None:
    problem = licence_problem(bundle)
    if problem and to != "peft" and not force:
        raise ConfigError(
            f"Not exported: {problem}. The bundle and --to peft hold only what was trained here; --force-licence "
            "exports all the same, for use inside your own house."
        )


def _check_free(out: Path) -> None:
    check_target(out)
    if out.is_file():
        raise ConfigError(f"{out} is a file; an export is a folder. Choose another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
        recover_folder(out)
        if out.is_dir():
            check_replaceable(out, EXPORT)
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"Cannot write {out}: {error.strerror or error}. Choose another --out, or make room there.")


def _write(bundle: Classifier, to: Target, folder: Path) -> None:
    if to == "onnx":
        from cytolora.classifier.export.onnx import write_onnx

        write_onnx(bundle, folder)
    elif to == "timm":
        from cytolora.classifier.export.timm import write_timm

        write_timm(bundle, folder)
    else:
        from cytolora.classifier.export.peft import write_peft

        write_peft(bundle, folder)


def _reopened(bundle: Classifier, to: Target, folder: Path) -> list[Asked]:
    """Opens an export in every way that it is meant for."""
    try:
        if to == "onnx":
            model = OnnxModel.load(folder)
            return [lambda images: model.outputs([model.view(image) for image in images])]
        if to == "timm":
            from cytolora.classifier.export.timm import open_timm

            return [_one_by_one(open_timm(folder))]
        from cytolora.classifier.export.peft import open_peft

        return [_one_by_one(opened) for opened in open_peft(bundle, folder)]
    except CytoloraError:
        raise
    except (TypeError, ValueError, RuntimeError, OSError, KeyError) as error:
        raise BundleError(f"The export to {to} cannot be opened: {error}. It was thrown away.") from error


def _one_by_one(opened: "Callable[[Path], Tensor]") -> Asked:
    return lambda images: (np.concatenate([opened(image).cpu().numpy() for image in images]), None)


@contextmanager
def _compared_on(images: Sequence[Path]) -> Iterator[Sequence[Path]]:
    if images:
        yield images
        return
    with tempfile.TemporaryDirectory() as folder:
        write_synthetic(Path(folder) / "cells", num_images=_DRAWN, num_slides=4, seed=0)
        yield sorted(path for path in Path(folder).rglob("*.png"))
