"""Pools: counts are the sums of the datasets' own, images and groups stay apart, and what is lost is said."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_downloads import make_herlev, make_hicervix, make_sipakmed, paint

import cytolora
from cytolora import load_dataset
from cytolora.config.reading import Decoding, ReadOptions
from cytolora.config.run import SplitSpec
from cytolora.data.manifest import Manifest
from cytolora.data.pooling import Pool, account, load_pool, pool_of
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Two Herlev cells and three SIPaKMeD cells of each class."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return {"herlev": make_herlev(tmp_path / "one"), "sipakmed": make_sipakmed(tmp_path / "two")}


def classes_of(folder: Path, start: int = 0, **counts: int) -> Path:
    """Class folders of images that no other start has."""
    for label, number in counts.items():
        for image in range(number):
            paint(folder / label / f"{image:03}.png", start := start + 1)
    return folder


def counts(manifest: Manifest) -> dict[str, int]:
    return dict(Counter(sample.label for sample in manifest.samples))


def by_dataset(manifest: Manifest, name: str) -> dict[str, int]:
    return dict(Counter(one.label for one in manifest.samples if dict(one.metadata)["dataset"] == name))


def test_counts_of_the_pool_are_the_sums_by_hand(folders):
    pooled = load_pool(pool_of("bethesda", folders))
    # herlev: 3 normal, 1 mild, 3 others, two images each; sipakmed: three NILM classes and one LSIL, three each
    assert counts(pooled) == {"NILM": 3 * 2 + 3 * 3, "LSIL": 1 * 2 + 1 * 3, "HSIL": 3 * 2}
    assert pooled.classes == ("NILM", "LSIL", "HSIL")
    assert by_dataset(pooled, "herlev") == {"NILM": 6, "LSIL": 2, "HSIL": 6}
    assert by_dataset(pooled, "sipakmed") == {"NILM": 9, "LSIL": 3}


@pytest.mark.slow
def test_counts_of_herlev_in_a_pool_are_those_published(herlev_dir: Path, folders):
    pooled = load_pool(pool_of("bethesda", {"herlev": herlev_dir, "sipakmed": folders["sipakmed"]}))
    assert by_dataset(pooled, "herlev") == {"NILM": 74 + 70 + 98, "LSIL": 182, "HSIL": 146 + 197 + 150}
    general = load_pool(pool_of("bethesda-general", {"herlev": herlev_dir, "sipakmed": folders["sipakmed"]}))
    assert counts(general) == {"NILM": 242 + 9, "ECA": 675 + 6}


def test_paths_and_groups_begin_with_the_dataset_and_lead_to_the_files(tmp_path):
    one, two = classes_of(tmp_path / "a", LSIL=2, HSIL=2), classes_of(tmp_path / "b", 50, LSIL=2, HSIL=2)
    for folder in (one, two):
        rows = ["path,label,group", *(f"{label}/00{n}.png,{label},p{n}" for label in ("LSIL", "HSIL") for n in (0, 1))]
        (folder / "manifest.csv").write_text("\n".join(rows))
    pooled = load_pool(pool_of("bethesda", {"ours": one, "theirs": two}))
    assert [one.path for one in pooled.samples[:2]] == ["ours/HSIL/000.png", "ours/HSIL/001.png"]
    assert {sample.group for sample in pooled.samples} == {"ours/p0", "ours/p1", "theirs/p0", "theirs/p1"}
    assert all(sample.file_in(pooled.root).is_file() for sample in pooled.samples)
    assert len({sample.sha256 for sample in pooled.samples}) == 8


def test_an_own_column_dataset_gives_way_to_that_of_the_pool_and_that_is_said(tmp_path, monkeypatch):
    folders = {
        name: classes_of(tmp_path / name, start, LSIL=2, HSIL=2) for start, name in ((0, "ours"), (50, "theirs"))
    }

    def with_own_column(path: Path, *arguments: object, **options: object) -> Manifest:
        """As the reader of a plug-in may give it."""
        manifest = load_dataset(path)
        own = ("x", "y") if path.name == "ours" else ("theirs", "theirs")
        samples = (replace(one, metadata=(("dataset", own[i % 2]),)) for i, one in enumerate(manifest.samples))
        return replace(manifest, samples=tuple(samples))

    monkeypatch.setattr("cytolora.data.pooling.load_manifest", with_own_column)
    pooled = load_pool(pool_of("bethesda", folders))
    assert by_dataset(pooled, "ours") == by_dataset(pooled, "theirs") == {"LSIL": 2, "HSIL": 2}
    (found,) = [one for one in pooled.findings if one.code == "L413"]
    assert found.text == (
        "ours: its own metadata column 'dataset' gives way to the pool's, namely x (2 images); y (2 images)."
    )


def test_what_the_map_loses_is_said_with_counts(folders):
    found = {one.code: one for one in load_pool(pool_of("bethesda", folders)).findings}
    assert "Dyskeratotic (3 images: abnormal cells of no stated grade)" in found["L410"].text
    assert found["L410"].count == 3
    joined = [one.text for one in load_pool(pool_of("bethesda", folders)).findings if one.code == "L411"]
    assert any(
        "normal_superficiel (2) + normal_intermediate (2) + normal_columnar (2) as NILM" in one for one in joined
    )
    assert any("Metaplastic (3) + Parabasal (3) + Superficial-Intermediate (3) as NILM" in one for one in joined)


def test_the_account_lists_every_class_once(folders):
    rows = account(pool_of("bethesda", folders))
    assert sum(one.number for one in rows) == 7 * 2 + 5 * 3
    assert [(one.label, one.category) for one in rows if one.dataset == "sipakmed"] == [
        ("Dyskeratotic", ""),
        ("Koilocytotic", "LSIL"),
        ("Metaplastic", "NILM"),
        ("Parabasal", "NILM"),
        ("Superficial-Intermediate", "NILM"),
    ]


def test_a_published_dataset_under_a_name_of_ones_own_has_its_lines(folders):
    renamed = load_pool(pool_of("bethesda", {"a": folders["herlev"], "b": folders["sipakmed"]}))
    assert counts(renamed) == counts(load_pool(pool_of("bethesda", folders)))
    assert by_dataset(renamed, "a") == {"NILM": 6, "LSIL": 2, "HSIL": 6}


def test_the_order_of_the_datasets_changes_nothing(folders):
    backwards = dict(reversed(folders.items()))
    first, second = (load_pool(pool_of("bethesda", one)) for one in (folders, backwards))
    assert (first.name, first.fingerprint, first.samples) == (second.name, second.fingerprint, second.samples)


def test_a_dataset_left_out_is_the_test_set_and_no_image_of_it_is_trained_on(folders):
    pooled = load_pool(pool_of("bethesda-general", folders))
    for name in folders:
        divided = assign_subsets(pooled, SplitSpec(leave_out=f"dataset={name}"))
        assert {dict(one.metadata)["dataset"] for one in divided.subset("test")} == {name}
        assert name not in {dict(one.metadata)["dataset"] for one in (*divided.subset("train"), *divided.subset("val"))}


def test_official_subsets_that_not_all_datasets_have_are_not_used_and_that_is_said(folders, tmp_path):
    (tmp_path / "three").mkdir()
    cells = make_hicervix(tmp_path / "three")
    pooled = load_pool(pool_of("bethesda", {"hicervix:26": cells, "herlev": folders["herlev"]}))
    assert {sample.subset for sample in pooled.samples} == {None}
    (text,) = [one.text for one in pooled.findings if one.code == "L412"]
    assert text == (
        "The official train, val and test of hicervix:26 are not used: herlev has none. The pool is divided anew."
    )
    # 26 names, one image each in three subsets, less EMC and AGC, which the map leaves out
    assert sum(by_dataset(pooled, "hicervix:26").values()) == 3 * 24


def test_official_subsets_that_all_datasets_have_stay(tmp_path):
    for name in ("three", "four"):
        (tmp_path / name).mkdir()
        make_hicervix(tmp_path / name)
    pooled = load_pool(pool_of("bethesda", {"hicervix:26": tmp_path / "three", "again": tmp_path / "four"}))
    assert {sample.subset for sample in pooled.samples} == {"train", "val", "test"}


def test_python_reads_a_pool(folders):
    assert counts(load_dataset(folders, pool="bethesda")) == counts(load_pool(pool_of("bethesda", folders)))
    with pytest.raises(ConfigError, match="a label map"):
        load_dataset(folders)
    with pytest.raises(ConfigError, match="several folders by name"):
        load_dataset(folders["herlev"], pool="bethesda")


@settings(max_examples=12)
@given(
    numbers=st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=4), min_size=2, max_size=3),
    targets=st.lists(st.sampled_from(["low", "high", ""]), min_size=12, max_size=12),
)
def test_counts_are_the_sums_under_any_map(tmp_path_factory, numbers, targets):
    root, start, goes = tmp_path_factory.mktemp("pool"), 0, iter(targets)
    lines: dict[str, dict[str, str]] = {}
    expected: Counter[str] = Counter()
    lost = 0
    for place, sizes in enumerate(numbers):
        name, own = f"site{place}", {f"c{index}": number for index, number in enumerate(sizes)}
        classes_of(root / name, start, **own)
        start += sum(sizes)
        lines[name] = {label: next(goes) for label in own}
        if not any(lines[name].values()):
            lines[name]["c0"] = "low"
        for label, number in own.items():
            expected[lines[name][label]] += number
    lost = expected.pop("", 0)
    text = ["categories: {low: Low, high: High}", "datasets:"]
    for name, own in lines.items():
        text += [f"  {name}:", *(f"    {label}: '{to}'" for label, to in own.items())]
    (root / "own.yaml").write_text("\n".join(text))
    pooled = load_pool(pool_of(root / "own.yaml", {name: root / name for name in lines}))
    assert counts(pooled) == dict(expected)
    assert sum(one.count or 0 for one in pooled.findings if one.code == "L410") == lost


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["herlev"], "two datasets or more, got herlev"),
        ([], "two datasets or more, got none"),
        (["herlev", "Herlev"], "have one name"),
        (["a:b", "a-b"], "have one name"),
        (["a", "b/c"], "letters, digits"),
        (["a", ".."], "letters, digits"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(tmp_path, names, message):
    label_map = pool_of("bethesda", {"x": tmp_path / "x", "y": tmp_path / "y"}).label_map
    with pytest.raises(ConfigError, match=re.escape(message)):
        Pool(label_map=label_map, members={name: tmp_path / str(place) for place, name in enumerate(names)})


def test_one_folder_under_two_names_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a dataset is pooled once"):
        pool_of("bethesda", {"a": tmp_path, "b": tmp_path / "." / "x" / ".."})


@pytest.mark.parametrize(
    ("classes", "own", "message"),
    [
        ({"low": 1, "odd": 1}, "", "has no line for class 'odd' of a"),
        ({"LSIL": 1, "HSIL": 1}, "a: {LSIL: low}", "has no line for class 'HSIL' of a"),
        ({"LSIL": 1, "HSIL": 1}, "a: {LSIL: low, HSIL: high, HSILL: high}", "names a class 'HSILL' of a"),
        ({"LSIL": 1, "HSIL": 1}, "a: {LSIL: '', HSIL: ''}", "leaves out every image of a"),
        ({"LSIL": 1, "HSIL": 1}, "a: {LSIL: low, HSIL: lowest}", "'lowest' is none of the categories low, high"),
        ({"LSIL": 1, "HSIL": 1}, "a: {LSIL: low, LSIL: high}", "not valid YAML"),
    ],
)
def test_a_class_without_a_line_and_a_line_without_a_class_are_one_line(tmp_path, classes, own, message):
    first, second = classes_of(tmp_path / "a", **classes), classes_of(tmp_path / "b", 50, low=1, high=1)
    (tmp_path / "own.yaml").write_text(f"categories: {{low: Low, high: High}}\ndatasets: {{{own}}}\n")
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        load_pool(pool_of(tmp_path / "own.yaml", {"a": first, "b": second}))
    assert "\n" not in str(refused.value)


def test_a_long_pool_has_a_short_name(tmp_path):
    members = {f"laboratory-number-{place}": tmp_path / str(place) for place in range(9)}
    name = pool_of("bethesda", members).name
    assert re.fullmatch(r"pool:bethesda\+9-datasets-[0-9a-f]{8}", name)
    assert name != pool_of("bethesda", dict(list(members.items())[1:])).name


def test_datasets_of_other_bit_depths_in_use_are_read_by_one_rule_of_white_or_not_at_all(tmp_path):
    random, paths = np.random.default_rng(0), {name: tmp_path / name for name in ("a", "b")}
    for (name, folder), top in zip(paths.items(), (4095, 16383), strict=True):
        for label in ("LSIL", "HSIL"):
            (folder / label).mkdir(parents=True)
            Image.fromarray(random.integers(0, top, (20, 20)).astype(np.uint16)).save(folder / label / f"{name}.png")
    with pytest.raises(ConfigError, match="give the value that is white: --value-range"):
        load_pool(pool_of("bethesda", paths), ReadOptions(decoding=Decoding(value_range="used")))
    pooled = load_pool(pool_of("bethesda", paths), ReadOptions(decoding=Decoding(value_range=4095)))
    assert counts(pooled) == {"LSIL": 2, "HSIL": 2}


def test_a_division_of_a_pool_is_written_and_read_again(tmp_path):
    paths = {
        name: classes_of(tmp_path / name, start, LSIL=4, HSIL=4) for name, start in (("herlike", 0), ("siplike", 50))
    }
    pooled = load_dataset(paths, pool="bethesda")
    divided = cytolora.split(pooled, tmp_path / "split.csv", leave_out="dataset=herlike")
    again = load_dataset(paths, pool="bethesda", split=tmp_path / "split.csv")
    assert [(one.path, one.subset) for one in again.samples] == [(one.path, one.subset) for one in divided.samples]
    assert {one.path.split("/")[0] for one in again.subset("test")} == {"herlike"}
    assert cytolora.check(pooled).num_images == len(pooled.samples)
