"""The canonical division is the same from names alone, and its hash can be cited and checked."""

import csv
import hashlib
import re
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from cytolora.cli.app import main
from cytolora.core.files import canonical_json
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.herlev import HERLEV
from cytolora.data.splitting.canonical import canonical_division, division_sha256, verify_division
from cytolora.data.splitting.split_files import read_split
from cytolora.errors import ConfigError, DataError

DOCS = Path(__file__).parents[3] / "docs" / "splits"
ROWS = list(csv.DictReader((DOCS / "herlev.csv").open(encoding="utf-8")))
TABLE = (DOCS / "README.md").read_text(encoding="utf-8")


def cited(dataset: str) -> str:
    match = re.search(rf"^\| {dataset} \|.*`sha256:([0-9a-f]{{64}})` \|$", TABLE, re.MULTILINE)
    assert match is not None
    return match[1]


def herlev(path: str = "{label}/{stem}.BMP", *, order: int = 1) -> Manifest:
    """The names of the documented file, with groups read from them; no image, no subset."""
    samples = [
        Sample(
            path=path.format(label=row["label"], stem=PurePosixPath(row["path"]).stem),
            label=row["label"],
            group=HERLEV.group_of and HERLEV.group_of(PurePosixPath(row["path"]).stem, row["label"]),
            sha256=str(number),
        )
        for number, row in enumerate(ROWS)
    ]
    return Manifest(name="herlev", root=Path(), classes=HERLEV.classes, samples=tuple(samples[::order]))


def write_herlev(folder: Path) -> Path:
    """Files under the documented names, each with its own bytes; no images."""
    for row in ROWS:
        path = folder / "New database pictures" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["path"].encode())
    return folder


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


def test_herlevs_file_and_hash_come_out_of_its_names_alone():
    divided = canonical_division(herlev())
    assert {sample.path: sample.subset for sample in divided.samples} == {row["path"]: row["subset"] for row in ROWS}
    assert division_sha256(divided) == cited("herlev")
    assert Counter(row["subset"] for row in ROWS) == {"train": 550, "val": 184, "test": 183}


def test_no_group_of_herlev_stands_in_two_subsets():
    homes = {(row["group"], row["subset"]) for row in ROWS}
    assert len(homes) == len({group for group, _ in homes}) == 538


@pytest.mark.parametrize(
    "path", ["{stem}.png", "{label}/{stem}.bmp", "New database pictures/{label}/{stem}.BMP", "x/{label}/a/{stem}.tif"]
)
def test_folders_formats_and_order_do_not_matter(path):
    for order in (1, -1):
        assert division_sha256(canonical_division(herlev(path, order=order))) == cited("herlev")


def test_bytes_and_copies_do_not_matter():
    manifest = herlev()
    equal = replace(manifest, samples=tuple(replace(sample, sha256="0") for sample in manifest.samples))
    assert division_sha256(canonical_division(equal)) == cited("herlev")


def test_official_subsets_are_kept():
    manifest = herlev()
    subsets = ("test", "train", "val")
    samples = tuple(replace(one, subset=subsets[place % 3]) for place, one in enumerate(manifest.samples))
    assert canonical_division(replace(manifest, samples=samples)).samples == samples


def test_an_incomplete_download_is_refused():
    manifest = herlev()
    with pytest.raises(DataError, match=r"149 images, 150 are published. Complete the download"):
        canonical_division(replace(manifest, samples=manifest.samples[1:]))


@pytest.mark.parametrize("name", ["folder", "my_cells", "synthetic", "csv"])
def test_only_published_datasets_have_one(name):
    with pytest.raises(ConfigError, match=r"is no published dataset"):
        canonical_division(replace(herlev(), name=name))


@pytest.mark.parametrize("number", [12, 40, 64])
def test_a_hash_is_verified_from_twelve_digits_on(number):
    sha256 = cited("herlev")
    for text in (sha256[:number], f"sha256:{sha256[:number]}", sha256[:number].upper()):
        assert verify_division(herlev(), text) == sha256


def test_the_documented_file_is_verified_and_its_hash_given():
    assert verify_division(herlev(), str(DOCS / "herlev.csv")) == cited("herlev")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/1.png", "y/2.png"], ["a/1", "a/2"]),
        (["x/1.png", "y/1.bmp"], ["x/1", "y/1"]),
        (["x/1.png", "x/1.bmp"], ["x/1.png", "x/1.bmp"]),
    ],
)
def test_an_image_counts_as_the_least_of_its_name_that_tells_it_from_others(paths: list[str], names: list[str]):
    samples = tuple(
        Sample(path=path, label="a", subset=subset) for path, subset in zip(paths, ("train", "test"), strict=True)
    )
    manifest = Manifest(name="toy", root=Path(), classes=("a",), samples=samples)
    rows = sorted([name, subset] for name, subset in zip(names, ("train", "test"), strict=True))
    assert division_sha256(manifest) == hashlib.sha256(canonical_json(rows).encode()).hexdigest()


def test_what_is_not_divided_has_no_hash():
    with pytest.raises(DataError, match=r"^herlev is not divided into train, val and test yet; there is no hash"):
        division_sha256(herlev())


@pytest.mark.parametrize("text", ["", "sha256:", "abc", "sha256:32d833b24a0", "no_such_file.csv", "g" * 64])
def test_what_is_neither_file_nor_hash_is_refused(text):
    with pytest.raises(ConfigError, match=r"neither a split file nor a hash"):
        verify_division(herlev(), text)


@pytest.mark.slow
def test_split_canonical_writes_the_documented_file_which_verify_accepts(tmp_path, capsys):
    data, out = write_herlev(tmp_path / "smear2005"), tmp_path / "herlev.csv"
    assert called("split", data, "--canonical", "--out", out) == 0
    assert f"sha256:{cited('herlev')}" in capsys.readouterr().out
    assert out.read_bytes() == (DOCS / "herlev.csv").read_bytes()
    for cites in (out, DOCS / "herlev.csv", f"sha256:{cited('herlev')[:12]}"):
        assert called("split", data, "--verify", cites) == 0
        assert f"is the canonical division, sha256:{cited('herlev')}." in capsys.readouterr().out
    assert read_split(out, load_manifest(data)).grouping.num_torn == 0


def test_verify_names_the_number_of_images_that_stand_elsewhere_and_the_first(tmp_path, capsys):
    data, out = write_herlev(tmp_path / "smear2005"), tmp_path / "other.csv"
    lines = (DOCS / "herlev.csv").read_text(encoding="utf-8").splitlines()
    moved = [line.replace(",test,", ",val,") if 1 < place < 5 else line for place, line in enumerate(lines)]
    number = sum(old != new for old, new in zip(lines, moved, strict=True))
    out.write_text("\n".join(moved), encoding="utf-8")
    assert called("split", data, "--verify", out) == 2
    first = lines[2].partition(",")[0]
    assert f"{number} of 917 images stand in another subset, the first is {first} (val, canonical: test)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--by", "image"),
        ("--seed", 1),
        ("--ratios", "70/10/20"),
        ("--groups-from", "names"),
        ("--map", "map.csv"),
    ],
    ids=lambda options: options[0],
)
def test_choices_of_ones_own_are_refused_beside_canonical(options, tmp_path, capsys):
    assert called("split", tmp_path, "--canonical", *options) == 2
    assert f"leave {options[0]} out" in capsys.readouterr().err


def test_split_without_out_says_what_to_name(tmp_path, capsys):
    assert called("split", tmp_path) == 2
    assert "--out split.csv" in capsys.readouterr().err


@pytest.mark.slow
def test_the_documented_hashes_are_those_of_the_downloads(shared_data: Path, herlev_dir: Path):
    tables = shared_data / "data" / "hicervix_csv"
    if not tables.is_dir():
        pytest.skip(f"no {tables}")
    rows = runpy.run_path(str(DOCS.parents[1] / "scripts" / "splits.py"))["rows"]
    written = list(rows(herlev_dir, tables))
    assert len(written) == 5
    assert all(f"{line}\n" in TABLE for line in written)
