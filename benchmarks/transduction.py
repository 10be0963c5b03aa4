"""Transductive prediction on pseudo-slides: gain over the head's own answer, coverage, abstentions; scale.

A head (logistic regression on frozen features) is fitted on training slides, its temperature by cross-validation over
them, and anchors are made with held-out slides, as `fit` does. Pseudo-slides of drawn cells have a stain of their own;
those of Herlev are the normal cells that a division by group leaves to test, with abnormal ones in place of a share.

    python benchmarks/transduction.py                                  (drawn cells, 2,000 a slide)
    python benchmarks/transduction.py --model nano-clip                (with anchors of text beside those of features)
    python benchmarks/transduction.py --herlev smear2005 --backbone-file vit_tiny6/backbone.yaml
    python benchmarks/transduction.py --scale                          (100,000 cells: seconds, MiB, recall)

Gains are accuracy and balanced accuracy (over the classes of the slide), points, with 95 % intervals over slides.
Exit code 1 if a slide without abnormal cells loses more than 0.5 points in the mean, the coverage of a class lies below
the nominal by more than its interval, or --scale takes more than 30 s or 1 GB.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student_t

from cytolora.classifier.decision.transduction import Anchors, answer, make_anchors
from cytolora.config.run import HeadSpec
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.data.synthetic.dataset import CLASSES, draw_cells
from cytolora.metrics.calibration import fit_temperature
from cytolora.metrics.calibration import probabilities as softened
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.hub import find_vocabulary
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.kernels.cpu import for_inference
from cytolora.models.text.embeddings import class_text
from cytolora.models.text.prompts import prompts
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.folds import divide, num_folds
from cytolora.training.heads.labelled import Labelled

PREVALENCES = (0.0, 0.001, 0.01, 0.1, 0.5)
HERLEV_PREVALENCES = (0.0, 0.1, 0.5)
HERLEV_NORMAL = ("normal_superficiel", "normal_intermediate", "normal_columnar")
COVERAGE = 0.9
MOST_LOSS, MOST_SECONDS, MOST_MIB = 0.5, 30.0, 1024.0


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Cells with what is known of them."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Cells":
        return Cells(features=self.features[rows], labels=self.labels[rows], groups=self.groups[rows])


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A head with the anchors of its training features."""

    logits: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    temperature: float
    anchors: Anchors


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One pseudo-slide."""

    before: float
    after: float
    balanced_before: float
    balanced_after: float
    is_transductive: bool
    covered: dict[int, tuple[int, int]] | None
    """By class, cells whose set holds it, and cells; None where sets are withheld."""
    set_size: float


def fit(
    train: Cells, held_out: Cells, num_classes: int, head: str = "logistic", text: NDArray[np.float32] | None = None
) -> Fitted:
    """Fits head, temperature and anchors.

    Args:
        text: Embeddings of the classes, to be the anchors in the place of the training features.
    """
    logits = _head(train, num_classes, head)
    out_of_fold, groups = np.zeros((len(train.labels), num_classes), np.float32), train.groups.tolist()
    for inside, left in divide(train.labels, groups, num_folds(train.labels, groups), seed=0):
        out_of_fold[left] = _head(train[inside], num_classes, head)(train.features[left])
    anchors = make_anchors(
        train.features,
        train.labels,
        num_classes,
        embeddings=text,
        held_out_features=held_out.features,
        held_out_logits=logits(held_out.features),
        held_out_labels=held_out.labels,
        held_out_groups=held_out.groups.tolist(),
    )
    assert anchors is not None
    return Fitted(logits=logits, temperature=fit_temperature(out_of_fold, train.labels), anchors=anchors)


def _head(train: Cells, num_classes: int, name: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    known = Labelled(
        features=torch.from_numpy(train.features), labels=torch.from_numpy(train.labels), num_classes=num_classes
    )
    head = HEADS.get(name)
    state = head.fit(known, known, HeadSpec(), 0)
    return lambda features: np.log(
        np.maximum(head.probabilities(state, known, torch.from_numpy(features)).numpy(), 1e-12)
    )


def outcome(fitted: Fitted, slide: Cells, classes: Sequence[str]) -> Outcome:
    """Classifies one slide both ways."""
    logits = fitted.logits(slide.features)
    points = fitted.anchors.space.project(slide.features)
    options = {"temperature": fitted.temperature, "coverage": COVERAGE, "classes": classes}
    found = answer(fitted.anchors, points, logits, **options)
    plain, together = softened(logits, fitted.temperature).argmax(axis=1), found.probabilities.argmax(axis=1)
    covered = None
    if found.sets is not None:
        hits = found.sets[np.arange(len(points)), slide.labels]
        covered = {k: (int(hits[slide.labels == k].sum()), int((slide.labels == k).sum())) for k in range(len(classes))}
    return Outcome(
        before=float((plain == slide.labels).mean()),
        after=float((together == slide.labels).mean()),
        balanced_before=_balanced(plain, slide.labels),
        balanced_after=_balanced(together, slide.labels),
        is_transductive=found.is_transductive,
        covered=covered,
        set_size=nan if found.sets is None else float(found.sets.sum(axis=1).mean()),
    )


def _balanced(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    return float(np.mean([(predicted[labels == label] == label).mean() for label in np.unique(labels)]))


def report(name: str, prevalence: float, found: Sequence[Outcome], classes: Sequence[str], num_fits: int = 1) -> bool:
    """Prints one row; returns whether its promises are kept.

    Args:
        num_fits: Outcomes that follow each other for one slide; intervals are over slides.
    """
    gains = np.array([100 * (one.after - one.before) for one in found]).reshape(-1, num_fits).mean(axis=1)
    balanced = np.array([100 * (one.balanced_after - one.balanced_before) for one in found])
    balanced = balanced.reshape(-1, num_fits).mean(axis=1)
    with_sets = [one for one in found if one.covered is not None]
    is_kept, texts = prevalence > 0 or bool(gains.mean() >= -MOST_LOSS), []
    for label, title in enumerate(classes):
        counts = [one.covered[label] for one in with_sets if one.covered is not None and one.covered[label][1]]
        if not counts:
            continue
        share = sum(hits for hits, _ in counts) / sum(total for _, total in counts)
        by_slide = np.array([hits / total for hits, total in counts])
        reach = _reach(by_slide)
        is_kept &= not share + (0 if np.isnan(reach) else reach) < COVERAGE
        texts.append(f"{title} {100 * share:.1f}")
    sets = f"{', '.join(texts)} (classes a set {np.mean([one.set_size for one in with_sets]):.2f})" if texts else ""
    print(
        f"{name}, {100 * prevalence:g} % abnormal, {len(gains)} slides, {num_fits} fits: accuracy "
        f"{100 * np.mean([one.before for one in found]):.1f}, gain {_with_interval(gains)}; balanced "
        f"{100 * np.mean([one.balanced_before for one in found]):.1f}, gain {_with_interval(balanced)}; "
        f"kept the head's answer {sum(not one.is_transductive for one in found)} of {len(found)}; "
        f"coverage at {100 * COVERAGE:g} %: "
        f"{sets or 'sets withheld'}; sets withheld {len(found) - len(with_sets)}{'' if is_kept else '  BROKEN'}",
        flush=True,
    )
    return is_kept


def _with_interval(values: NDArray[np.float64]) -> str:
    reach = _reach(values)
    return f"{values.mean():+.2f}" + (
        "" if np.isnan(reach) else f" [{values.mean() - reach:+.2f}, {values.mean() + reach:+.2f}]"
    )


def _reach(values: NDArray[np.float64]) -> float:
    """Half the width of Student's 95 % interval."""
    number = len(values)
    return nan if number < 2 else float(student_t.ppf(0.975, number - 1) * values.std(ddof=1) / sqrt(number))


class Encoder:
    """Features of drawn cells by a backbone of the package."""

    def __init__(self, name: str) -> None:
        self._spec = BACKBONES.get(name)
        assert self._spec.weights is not None, f"{name} is not built in"
        encoder = load_encoder(self._spec, self._spec.weights)
        self._encoder = for_inference(encoder, torch.device("cpu"), "fp32")

    def texts(self) -> NDArray[np.float32] | None:
        """Returns the embeddings of the classes by the templates of zero-shot; None without a text encoder."""
        if self._spec.text is None or self._spec.weights is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return class_text(
                self._spec,
                self._spec.weights,
                prompts("synthetic", CLASSES),
                weights_sha256="",
                cache=Path(folder),
                vocabulary=find_vocabulary(self._spec, self._spec.weights),
            ).embeddings.numpy()

    def drawn(self, num_cells: int, seed: int, num_slides: int) -> Cells:
        """Draws cells of the five classes, as many of each on every slide."""
        cells, parts = draw_cells(num_cells, seed, num_slides=num_slides), []
        for start in range(0, num_cells, 128):
            views = [evaluation_view(image, self._spec.preprocess) for image in cells.images[start : start + 128]]
            with torch.inference_mode():
                parts.append(self._encoder(to_batch(views, self._spec.preprocess)).float().numpy())
        groups = np.array([f"{seed}-{slide}" for slide in cells.slides])
        return Cells(features=np.concatenate(parts), labels=cells.labels, groups=groups)


def on_drawn(options: argparse.Namespace) -> bool:
    """Pseudo-slides of drawn cells; every slide is classified by every fit."""
    encoder, size = Encoder(options.model), options.cells
    seeds = range(options.seed, options.seed + options.fits)
    pairs = [
        (encoder.drawn(options.train, 7_000 + s, 60), encoder.drawn(options.held_out, 8_000 + s, 60)) for s in seeds
    ]
    text = encoder.texts()
    anchors = {"training features": None} if text is None else {"training features": None, "text": text}
    fits = {name: [fit(*pair, len(CLASSES), text=one) for pair in pairs] for name, one in anchors.items()}
    found = {(name, prevalence): list[Outcome]() for name in anchors for prevalence in PREVALENCES}
    for number in range(options.slides):
        pool = encoder.drawn(len(CLASSES) * size, 9_000 + 100 * options.seed + number, 1)
        for prevalence in PREVALENCES:
            slide = pool[_rows(pool.labels, ["normal"], CLASSES, size, prevalence, seed=number)]
            for name, of_anchor in fits.items():
                found[name, prevalence] += [outcome(one, slide, CLASSES) for one in of_anchor]
    title = f"drawn cells, {options.model}, {options.train} training and {options.held_out} held-out cells"
    kept = [
        report(f"{title}, anchors: {name}", prevalence, found[name, prevalence], CLASSES, options.fits)
        for prevalence in PREVALENCES
        for name in anchors
    ]
    return all(kept)


def _rows(
    labels: NDArray[np.int64], normal: Sequence[str], classes: Sequence[str], size: int, prevalence: float, *, seed: int
) -> NDArray[np.int64]:
    """Draws the cells of a slide, without repeats."""
    rng, is_normal = np.random.default_rng(seed), np.isin(labels, [list(classes).index(label) for label in normal])
    num_abnormal = round(size * prevalence)
    parts = (
        rng.permutation(np.flatnonzero(is_normal))[: size - num_abnormal],
        rng.permutation(np.flatnonzero(~is_normal)),
    )
    return np.concatenate([parts[0], parts[1][:num_abnormal]])


def on_herlev(options: argparse.Namespace) -> bool:
    """Pseudo-slides of the cells that divisions by group leave to test, one a division."""
    cells, classes = _herlev(options)
    found: dict[float, list[Outcome]] = {prevalence: [] for prevalence in HERLEV_PREVALENCES}
    for number, (train, held_out, test) in enumerate(_divisions(cells, options.divisions)):
        fitted = fit(cells[train], cells[held_out], len(classes))
        left = cells[test]
        size = int(np.isin(left.labels, [classes.index(label) for label in HERLEV_NORMAL]).sum())
        for prevalence in HERLEV_PREVALENCES:
            slide = left[_rows(left.labels, HERLEV_NORMAL, classes, size, prevalence, seed=number)]
            found[prevalence].append(outcome(fitted, slide, classes))
    name = f"Herlev, {options.backbone_file.parent.name}"
    kept = [report(name, prevalence, found[prevalence], classes) for prevalence in HERLEV_PREVALENCES]
    return all(kept)


def _herlev(options: argparse.Namespace) -> tuple[Cells, list[str]]:
    import cytolora
    from cytolora.models.backbones.registry import read_backbone_file

    spec = read_backbone_file(options.backbone_file)
    BACKBONES.add(spec)
    with tempfile.TemporaryDirectory() as folder:
        manifest = cytolora.load_dataset(options.herlev)
        out, cache = Path(folder) / "features.parquet", Path(folder) / "cache"
        embedding = cytolora.embed(manifest, out, model=spec.name, cache=cache)
    table = embedding.table.to_pydict()
    classes = list(manifest.classes)
    cells = Cells(
        features=np.array(embedding.features),
        labels=np.array([classes.index(label) for label in table["label"]]),
        groups=np.array([group or path for group, path in zip(table["group"], table["path"], strict=True)]),
    )
    return cells, classes


def _divisions(cells: Cells, number: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Deals whole groups to training (60 %), held out (20 %) and test (20 %)."""
    names = np.unique(cells.groups)
    for seed in range(number):
        order = np.random.default_rng(seed).permutation(names)
        first, second = round(0.6 * len(names)), round(0.8 * len(names))
        parts = order[:first], order[first:second], order[second:]
        yield tuple(np.isin(cells.groups, part) for part in parts)  # pyright: ignore[reportReturnType]


def at_scale(options: argparse.Namespace) -> bool:
    """One slide of many cells around class means, features as they come from an encoder."""
    from cytolora.training.transduction.mixture import STATA
    from cytolora.training.transduction.nearest import nearest, recall

    rng, num_classes, width, number = np.random.default_rng(0), options.classes, options.width, options.scale
    means = rng.normal(size=(num_classes, width)).astype(np.float32) * 0.12
    mixing = rng.normal(size=(width, width)).astype(np.float32) / sqrt(width)

    def cells(size: int) -> Cells:
        labels = rng.integers(0, num_classes, size=size)
        noise = rng.standard_normal((size, width), dtype=np.float32)
        features = (1 + means[labels] + noise @ mixing).astype(np.float32, copy=False)
        return Cells(features=features, labels=labels, groups=rng.integers(0, 40, size=size).astype(str))

    fitted = fit(cells(1400), cells(1400), num_classes, "gda")
    labels, logits, points, seconds = [], [], [], 0.0
    for start in range(0, number, 4096):  # as `predict` does: features are projected batch by batch
        batch = cells(min(4096, number - start))
        labels.append(batch.labels)
        logits.append(fitted.logits(batch.features))
        started = perf_counter()
        points.append(fitted.anchors.space.project(batch.features))
        seconds += perf_counter() - started
    labels, logits, points = (np.concatenate(parts) for parts in (labels, logits, points))
    before, started = _mib(), perf_counter()
    names = [f"class {label}" for label in range(num_classes)]
    options_of = {"temperature": fitted.temperature, "coverage": COVERAGE, "classes": names}
    found = answer(fitted.anchors, points, logits, **options_of)
    seconds, mib = seconds + perf_counter() - started, _mib()
    rows = rng.permutation(number)[:1000]
    of_all = recall(points, nearest(points, STATA.neighbours), rows)
    accuracy = [100 * float((p.argmax(axis=1) == labels).mean()) for p in (softened(logits, 1), found.probabilities)]
    is_kept = seconds <= MOST_SECONDS and mib <= MOST_MIB and found.is_transductive
    print(
        f"{number:,} cells x {width} features, {num_classes} classes, {points.shape[1]} projected dimensions: "
        f"{seconds:.1f} s with {torch.get_num_threads()} threads, {mib:.0f} MiB at most ({before:.0f} before), "
        f"recall of exact neighbours {of_all:.4f}, accuracy {accuracy[0]:.2f} to {accuracy[1]:.2f}"
        f"{'' if is_kept else '  BROKEN'}"
    )
    return is_kept


def _mib() -> float:
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints a row for each prevalence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="built-in backbone: nano or nano-clip")
    parser.add_argument("--cells", type=int, default=2000, help="cells of a drawn slide")
    parser.add_argument("--slides", type=int, default=10, help="drawn slides, each with a stain of its own")
    parser.add_argument("--fits", type=int, default=3, help="heads on other drawn cells; each classifies every slide")
    parser.add_argument("--train", type=int, default=600, help="drawn training cells")
    parser.add_argument("--held-out", type=int, default=600, help="drawn held-out cells")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--herlev", type=Path, help="folder of Herlev (smear2005)")
    parser.add_argument("--backbone-file", type=Path, help="backbone for --herlev")
    parser.add_argument("--divisions", type=int, default=20, help="of Herlev")
    parser.add_argument(
        "--scale", type=int, nargs="?", const=100_000, help="cells of one slide; measures time and memory"
    )
    parser.add_argument("--width", type=int, default=768, help="features of --scale")
    parser.add_argument("--classes", type=int, default=7, help="classes of --scale")
    parser.add_argument("--quick", action="store_true", help="few and small slides")
    options = parser.parse_args()
    if options.herlev is not None and options.backbone_file is None:
        parser.error("--herlev needs --backbone-file")
    if options.quick:
        options.cells, options.slides, options.fits, options.divisions = 200, 2, 1, 3
        options.scale = options.scale and min(options.scale, 15_000)
    task = at_scale if options.scale else on_herlev if options.herlev else on_drawn
    sys.exit(0 if task(options) else 1)


if __name__ == "__main__":
    main()
