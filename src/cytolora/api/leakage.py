"""Leakage report from Python: the function that ``cytolora leakage`` calls."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cytolora.classifier.fit.config import DEFAULT_CACHE
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.arguments import AnyPath, OneOrMany, as_device, as_names, as_path, as_path_or_none
from cytolora.core.cache_damage import one_notice
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.data.manifest import Manifest
from cytolora.errors import ConfigError
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.leakage.report import LeakageReport
    from cytolora.config.run import FeaturePrecision


@one_notice()
def leakage(
    data: AnyPath | Manifest,
    *,
    model: str | None = None,
    bundle: "AnyPath | Classifier | None" = None,
    dataset: str | None = None,
    positive: OneOrMany[str] = (),
    sensitivity: float = 0.95,
    head: str = "gda",
    repeats: int = 10,
    seed: int = 0,
    page: AnyPath | None = None,
    precision: "FeaturePrecision | None" = None,
    reading: ReadOptions = AS_IT_STANDS,
    weights: Mapping[str, AnyPath] | None = None,
    weights_dir: AnyPath | None = None,
    trust_weights: bool = False,
    cache: AnyPath = DEFAULT_CACHE,
    device: "str | torch.device | None" = None,
    progress: Progress | None = None,
) -> "LeakageReport":
    """Measures group leakage and shortcuts: inflation by an image split, readable sources, confounded classes, sites.

    Example::

        report = cytolora.leakage("my_cells", model="uni")
        print(report.by_features[0].inflation.leakage)  # balanced accuracy by image less that by group
        cytolora.leakage("my_cells", bundle="model1", page="leakage.html")  # before and after adaptation

    Args:
        data: As for ``load_dataset``, or what it returns; with known groups.
        model: A backbone; the best for a linear classifier on this machine if None.
        bundle: What ``fit`` wrote, instead of a model: its backbone, frozen and as it was adapted.
        positive: One class or many that must not be missed; those of the bundle's operating point if empty.
        sensitivity: Share of positive cells that the frozen threshold shall find.
        head: ``gda`` or ``nearest-mean``, fitted on the features.
        repeats: Divisions, each in up to five folds.
        page: HTML file to write.
        precision: Of frozen features; that of the bundle's ``fit``, and fp32 of a model, if None.
        trust_weights: As for ``load_backbone``.
        cache: Folder of decoded images and features.

    Raises:
        DataError: If no group is known.
    """
    from cytolora.api.session import open_session
    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.leakage.encodings import of_bundle, of_session
    from cytolora.classifier.leakage.features import Effort
    from cytolora.classifier.leakage.measure import measure_leakage
    from cytolora.classifier.leakage.page import write_page
    from cytolora.data.datasets import manifest_of
    from cytolora.data.own_files import LEAKAGE_PAGE
    from cytolora.data.targets import check_replaceable_file

    if model is not None and bundle is not None:
        raise ConfigError("Name a model or a bundle, not both: a bundle has a backbone of its own.")
    effort, page = Effort(head=head, repeats=repeats, seed=seed), as_path_or_none(page, "page")
    if page is not None:
        check_replaceable_file(page, LEAKAGE_PAGE, option="page")
    on, progress, cache = as_device(device), progress or default_progress(), as_path(cache, "cache")
    manifest = manifest_of(data, dataset, reading=reading).with_hashes()
    names = as_names(positive, "positive")
    opened: Classifier | None = None
    if bundle is not None:
        opened = bundle if isinstance(bundle, Classifier) else _opened(bundle, weights, weights_dir, on, precision)
        if precision not in (None, opened.precision):
            raise ConfigError(
                f"The bundle is open in {opened.precision}, and precision {precision} is asked for. Open it with that "
                "precision, or leave it out."
            )
        point = opened.contents.operating_point
        names = names or (point.positive if point else ())
        encodings, name = of_bundle(opened), f"{opened.backbone.name} in {opened.name}"
    else:
        inputs = Inputs(data={}, weights=weights, weights_dir=weights_dir, trust_weights=trust_weights)
        session = open_session(
            manifest, model, inputs, cache=cache, device=on, progress=progress, precision=precision or "fp32"
        )
        encodings, name = of_session(session), session.backbone.name
    report = measure_leakage(
        manifest,
        encodings,
        model=name,
        cache=cache,
        device=on,
        bundle=opened,
        positive=names,
        sensitivity=sensitivity,
        effort=effort,
        progress=progress,
    )
    if page is not None:
        write_page(report, page)
    return report


def _opened(
    bundle: AnyPath,
    weights: Mapping[str, AnyPath] | None,
    weights_dir: AnyPath | None,
    device: "torch.device",
    precision: "FeaturePrecision | None",
) -> "Classifier":
    from cytolora.classifier.inference.classifier import Classifier

    named = list((weights or {}).values())
    if len(named) > 1:
        raise ConfigError(f"A bundle has one backbone; weights name {len(named)}. Leave the others out.")
    file = named[0] if named else None
    return Classifier.load(bundle, weights=file, weights_dir=weights_dir, device=device, precision=precision)
