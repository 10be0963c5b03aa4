"""Symbolic links: every image is read once by every command, and what is said of links is true."""

import os
from pathlib import Path

import pytest
from folders import photographs
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.classifier.inference.image_sources import find_images, left_out
from cytolora.core.findings import Finding
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.training.embed import unlabelled

OWN = ["hsil/1.png", "hsil/2.png", "normal/1.png", "normal/2.png"]
POOL = ["pool/1.png", "pool/2.png", "pool/sub/1.png", "pool/sub/2.png"]

LAYOUTS: dict[str, tuple[dict[str, str], list[str], list[str]]] = {
    "a class is a link to a folder elsewhere": ({"lsil": "../pool/sub"}, ["lsil/1.png", "lsil/2.png"], []),
    "a class is a link to another class": ({"lsil": "hsil"}, [], ["lsil/1.png", "lsil/2.png"]),
    "a class is a link to a folder below another class": ({"lsil": "normal/more"}, ["lsil/5.png"], []),
    "a folder and a link to what stands in it, the inner first": (
        {"a": "../pool/sub", "z": "../pool"},
        ["a/1.png", "a/2.png", "z/1.png", "z/2.png"],
        [],
    ),
    "a folder and a link to what stands in it, the outer first": (
        {"a": "../pool", "z": "../pool/sub"},
        ["a/1.png", "a/2.png", "z/1.png", "z/2.png"],
        [],
    ),
    "two classes are links to one folder": (
        {"a": "../pool/sub", "b": "../pool/sub"},
        ["a/1.png", "a/2.png"],
        ["b/1.png", "b/2.png"],
    ),
    "an image is a link to one elsewhere": ({"hsil/9.png": "../../pool/1.png"}, ["hsil/9.png"], []),
    "an image is a link to one of its class": ({"hsil/9.png": "1.png"}, [], ["hsil/9.png"]),
    "an image is a link to one of another class": ({"normal/9.png": "../hsil/1.png"}, [], ["normal/9.png"]),
    "links lead to the folder itself, and above it": (
        {"hsil/self": ".", "hsil/up": "..", "hsil/further": "../..", "hsil/nothing": "nothing"},
        [],
        ["hsil/self", "hsil/up", "hsil/further", "hsil/nothing"],
    ),
    "an image elsewhere, and then its folder": (
        {"hsil/9.png": "../../pool/sub/1.png", "lsil": "../pool/sub"},
        ["lsil/1.png", "lsil/2.png"],
        ["hsil/9.png"],
    ),
}


def _linked(root: Path, links: dict[str, str]) -> Path:
    photographs(root, [*(f"cells/{name}" for name in OWN), *POOL])
    if "normal/more" in links.values():
        photographs(root, ["cells/normal/more/5.png"])
    for link, target in links.items():
        (root / "cells" / link).symlink_to(target)
    return root / "cells"


def _of_links(manifest: Manifest) -> list[Finding]:
    return [one for one in manifest.findings if one.code == "F206"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_command_reads_an_image_once_and_names_the_links_that_are_left_out(layout: str, tmp_path: Path):
    links, more, named = LAYOUTS[layout]
    cells = _linked(tmp_path, links)
    manifest = load_manifest(cells)
    assert sorted(sample.path for sample in manifest.samples) == sorted([*OWN, *more])
    assert len(list(find_images([cells]))) == len(unlabelled(cells).samples) == len(manifest.samples)
    said = {example.partition(" is ")[0] for one in _of_links(manifest) for example in one.examples}
    assert said == set(named)
    assert sum(one.count for one in _of_links(manifest)) == len(named)
    assert not {one.code for one in manifest.findings} & {"F203", "F204"}


def test_an_image_with_two_labels_has_that_of_the_folder_where_it_stands(tmp_path: Path):
    manifest = load_manifest(_linked(tmp_path, {"normal/9.png": "../hsil/1.png", "lsil": "normal"}))
    assert manifest.classes == ("hsil", "normal")
    assert [(one.path, one.label) for one in manifest.samples] == [(name, name.partition("/")[0]) for name in OWN]
    text = "4 links lead to images of other classes, and are left out (an image has one label, that of the folder"
    assert any(str(one).startswith(text) for one in _of_links(manifest))


def test_a_table_is_taken_by_its_word_where_links_give_one_image_two_labels(tmp_path: Path):
    cells = _linked(tmp_path, {"normal/9.png": "../hsil/1.png"})
    (cells / "manifest.csv").write_text("path,label\nhsil/1.png,hsil\nnormal/1.png,normal\nnormal/9.png,normal\n")
    manifest = load_manifest(cells)
    assert len(manifest.samples) == 3
    assert str(_of_links(manifest)[0]).startswith(
        "1 link leads to an image of another class (one image has two labels)"
    )


def test_images_that_a_table_names_through_a_link_are_not_called_left_out(tmp_path: Path):
    cells = _linked(tmp_path, {"lsil": "normal"})
    (cells / "manifest.csv").write_text(
        "path,label\nhsil/1.png,hsil\nhsil/2.png,hsil\nlsil/1.png,lsil\nlsil/2.png,lsil\n"
    )
    manifest = load_manifest(cells)
    assert [sample.path for sample in manifest.samples] == ["hsil/1.png", "hsil/2.png", "lsil/1.png", "lsil/2.png"]
    assert [one.code for one in manifest.findings] == ["F210"]


_PLACES = ["cells", "cells/hsil", "cells/normal", "pool", "pool/sub"]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(_PLACES), st.sampled_from([*_PLACES, *POOL, "."])), max_size=5, unique=True))
def test_links_in_any_tangle_end_and_repeat_no_image(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]]
):
    root = tmp_path_factory.mktemp("tangle")
    photographs(root, [*(f"cells/{name}" for name in OWN), *POOL])
    for number, (place, target) in enumerate(links):
        (root / place / f"link{number}{Path(target).suffix}").symlink_to(root / target)
    predicted = [str(one.file) for one in find_images([root / "cells"])]
    real = [os.path.realpath(path) for path in predicted]
    assert len(set(real)) == len(real)
    assert len(unlabelled(root / "cells").samples) == len(real)
    assert set(real) >= {os.path.realpath(root / "cells" / name) for name in OWN}
    left_out([root / "cells"])
