"""One constructor of sessions, with or without a given split."""

from pathlib import Path

import pytest
import torch

from cytolora.config.run import Sampling, SplitSpec
from cytolora.core.cache_folder import default_cache
from cytolora.data.datasets import load_manifest
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training.resources import Inputs
from cytolora.training.session import Session


def test_a_session_with_a_given_split_holds_its_images_alone_and_names_the_dataset(drawn_cells: Path, tmp_path: Path):
    manifest = assign_subsets(load_manifest(drawn_cells), SplitSpec())
    split = draw(manifest, Sampling(shots=1), seed=1)
    session = Session(
        manifest=manifest, given_split=split, backbone=BACKBONES.get("nano"), inputs=Inputs(data={}), cache=tmp_path
    )
    used = {sample.path for part in (split.train, split.val, split.test) for sample in part}
    assert {sample.path for sample in session.manifest.samples} == used
    assert len(used) < len(manifest.samples)
    assert session.split(None) is split  # pyright: ignore[reportArgumentType]  (whatever the run)
    assert (session.dataset, session.device) == (manifest.name, torch.device("cpu"))


def test_the_default_cache_lies_outside_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert default_cache().is_absolute()
    assert not default_cache().is_relative_to(tmp_path)
    assert "cytolora" in default_cache().parts
