"""Coverage and sensitivity on new groups, measured: `fit`'s calibration on many divisions of one dataset.

    python benchmarks/lab_divisions.py smear2005 --backbone-file vit_tiny6/backbone.yaml --divisions 10

Features are taken once; every division trains, calibrates and tests as `cytolora fit` does with a linear head.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from cytolora.classifier.decision import conformal, operating_point
from cytolora.classifier.decision.rules import OperatingPoint
from cytolora.classifier.fit.config import FitConfig, FitOptions, choose_config
from cytolora.classifier.fit.linear import fit_by_folds
from cytolora.cli.own_backbones import add_own
from cytolora.config.run import SplitSpec
from cytolora.core.progress import Progress
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.data.splitting.splits import assign_subsets
from cytolora.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    probabilities,
    reliability,
)
from cytolora.metrics.units import unit_names
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

COLUMNS = (
    *("coverage", "coverage over groups", "set size", "sensitivity", "sensitivity over groups", "specificity"),
    *("accuracy", "calibration error"),
)


def measure(
    manifest: Manifest, features: torch.Tensor, config: FitConfig, positive: list[str], seed: int
) -> list[float]:
    divided = assign_subsets(manifest, SplitSpec(seed=seed))
    labels = np.array([divided.classes.index(sample.label) for sample in divided.samples])
    paths = [sample.path for sample in divided.samples]
    groups = np.array(unit_names([sample.group for sample in divided.samples], paths))
    part = np.array([sample.subset for sample in divided.samples])
    train, val, test = (np.flatnonzero(part == name) for name in ("train", "val", "test"))
    head = fit_by_folds(
        features[train], labels[train], list(groups[train]), config.protocol, len(divided.classes), seed=config.seed
    )
    temperature = fit_temperature(head.held_out, head.held_out_labels)
    held_out, tested = (probabilities(head.logits(features[rows]), temperature) for rows in (val, test))
    sets = conformal.calibrate(held_out, labels[val], list(groups[val]), 0.9)
    hits = conformal.contains(tested, labels[test], sets)
    point = operating_point.choose(
        held_out,
        labels[val],
        classes=divided.classes,
        positive=positive,
        asked=0.95,
        paths=[paths[row] for row in val],
        groups=list(groups[val]),
        is_lower_allowed=True,
    )
    assert isinstance(point, OperatingPoint)
    is_positive = np.isin(labels[test], [divided.classes.index(label) for label in positive])
    said = operating_point.summed(tested, divided.classes, positive) >= point.threshold
    by_group = [hits[groups[test] == name].mean() for name in np.unique(groups[test])]
    return [
        hits.mean(),
        float(np.mean(by_group)),
        conformal.sizes(tested, sets).mean(),
        said[is_positive].mean(),
        operating_point.share_over_groups(said[is_positive], list(groups[test][is_positive])).value,
        (~said[~is_positive]).mean(),
        (tested.argmax(axis=1) == labels[test]).mean(),
        expected_calibration_error(reliability(labels[test], tested)),
    ]


def open_session(data: Path, backbone_file: Path | None, cache: Path) -> tuple[Session, FitConfig]:
    own = add_own((backbone_file,)) if backbone_file else ["nano"]
    inputs, manifest = Inputs(data={}), load_manifest(data)
    config = choose_config(FitOptions(method="linear"), inputs, "cpu", own)
    session = Session(
        dataset=manifest.name,
        backbone=config.backbone,
        manifest=manifest,
        inputs=inputs,
        cache=cache,
        device=torch.device("cpu"),
        progress=Progress(),
    )
    return session, config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone-file", type=Path)
    parser.add_argument("--positive", nargs="+", default=["severe_dysplastic", "carcinoma_in_situ"])
    parser.add_argument("--divisions", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("runs/.cache"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    session, config = open_session(arguments.data, arguments.backbone_file, arguments.cache)
    rows = []
    print("division", *COLUMNS, sep="\t")
    for seed in range(arguments.divisions):
        rows.append(measure(session.manifest, session.features, config, arguments.positive, seed))
        print(seed, *(f"{value:.3f}" for value in rows[-1]), sep="\t", flush=True)
    print("mean", *(f"{value:.3f}" for value in np.mean(rows, axis=0)), sep="\t")
    print("std", *(f"{value:.3f}" for value in np.std(rows, axis=0, ddof=1)), sep="\t")


if __name__ == "__main__":
    main()
