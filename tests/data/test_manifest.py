"""What a manifest refuses."""

from pathlib import Path

import pytest

from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import DataError


@pytest.mark.parametrize("name", ["path", "label", "subset", "group", "meta_stain"])
def test_a_class_named_like_a_column_of_the_results_is_refused(name: str):
    samples = (Sample(path="a.png", label=name), Sample(path="b.png", label="nilm"))
    with pytest.raises(DataError, match=rf"a class is named '{name}', like a column of the results.*Rename the class"):
        Manifest(name="toy", root=Path("nowhere"), classes=(name, "nilm"), samples=samples)


def test_other_spellings_are_classes_like_any_other():
    samples = (Sample(path="a.png", label="Group"), Sample(path="b.png", label="metaplastic"))
    assert Manifest(name="toy", root=Path("nowhere"), classes=("Group", "metaplastic"), samples=samples).samples
