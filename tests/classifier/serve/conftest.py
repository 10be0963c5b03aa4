"""The stub model that the tests of the service share."""

from dataclasses import replace

import pytest
from service import Colour
from small_bundle import write_small_bundle

from cytolora.classifier.bundle.files import read_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Colour:
    contents, _ = read_bundle(write_small_bundle(tmp_path_factory.mktemp("serve") / "model"))
    return Colour(replace(contents, unfamiliar=None), "colour")
