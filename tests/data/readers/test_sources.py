"""What is particular to single sources: odd names, other layouts, and the mistakes that users make with them."""

import errno
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from finding_texts import texts
from PIL import Image
from tiny_downloads import (
    MLCC_FOLDERS,
    bloodmnist_arrays,
    make_bloodmnist,
    make_cric,
    make_hicervix,
    make_mlcc,
    make_sipakmed,
    paint,
    paint_all,
    write_npz,
)

from cytolora.config.run import SUBSETS
from cytolora.data.datasets import find_dataset, load_manifest
from cytolora.data.imaging.decode import decode
from cytolora.data.readers.hicervix import HICERVIX, LABEL_SETS, read_table, tree
from cytolora.data.readers.hicervix_tree import NODES
from cytolora.errors import ConfigError, DataError


class TestSipakmed:
    def test_both_depths_are_read_and_nothing_but_cells(self, tmp_path: Path):
        for depth in (1, 2):
            manifest = load_manifest(make_sipakmed(tmp_path / str(depth), depth=depth))
            assert len(manifest.samples) == 15
            assert all("/CROPPED/" in sample.path and sample.path.endswith(".bmp") for sample in manifest.samples)

    def test_a_group_is_class_and_cluster_since_numbers_start_again_in_every_class(self, tmp_path: Path):
        manifest = load_manifest(make_sipakmed(tmp_path))
        assert Counter(sample.group for sample in manifest.samples)["Parabasal_001"] == 2

    def test_cluster_images_alone_are_refused_with_the_place_to_point_at(self, tmp_path: Path):
        paint_all(tmp_path, (f"im_{label}/001" for label in find_dataset("sipakmed").classes), ".bmp")
        with pytest.raises(DataError, match=r"look like SIPaKMeD's cluster images. Point at the folder that holds"):
            load_manifest(tmp_path)

    @pytest.mark.parametrize(
        "inside", ["im_Parabasal", "im_Parabasal/im_Parabasal", "im_Parabasal/im_Parabasal/CROPPED"]
    )
    def test_one_class_is_refused_with_the_place_to_point_at(self, tmp_path: Path, inside: str):
        make_sipakmed(tmp_path / "sipakmed")
        with pytest.raises(DataError, match=re.escape(f"one class of SIPaKMeD; point at {tmp_path / 'sipakmed'}, ")):
            load_manifest(tmp_path / "sipakmed" / inside, "sipakmed")

    def test_a_missing_class_is_named(self, tmp_path: Path):
        make_sipakmed(tmp_path)
        (tmp_path / "im_Parabasal").rename(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="has no folder im_Parabasal; unpack all five downloads"):
            load_manifest(tmp_path)


class TestMlcc:
    def test_short_class_folders_are_read_as_well(self, tmp_path: Path):
        manifest = load_manifest(make_mlcc(tmp_path, short_names=True))
        assert (manifest.name, len(manifest.samples)) == ("mlcc", 10)

    def test_names_with_blanks_brackets_and_lower_case_keep_their_group(self, tmp_path: Path):
        manifest = load_manifest(make_mlcc(tmp_path))
        groups = {sample.path.rpartition("/")[2]: sample.group for sample in manifest.samples}
        assert groups["scc_2 (15).jpg"] == "SCC_2"
        assert groups["NL_9_ (8).jpg"] == "NL_9"

    def test_class_folders_without_such_names_are_not_taken_for_it(self, tmp_path: Path):
        paint_all(tmp_path, (f"{folder}/1" for folder in MLCC_FOLDERS.values()), ".jpg")
        assert load_manifest(tmp_path).name == tmp_path.name


class TestClassFolders:
    def test_a_class_inside_another_is_refused(self, tmp_path: Path):
        paint_all(tmp_path, ["benign/1", "malignant/2", "benign/malignant/3"], ".png")
        with pytest.raises(DataError, match="class folder inside the folder of another class"):
            load_manifest(tmp_path, "bcfc")

    def test_two_folders_of_one_class_are_a_warning(self, tmp_path: Path):
        paint_all(tmp_path, ["a/benign/1", "a/malignant/2", "b/benign/3"], ".png")
        warnings = texts(load_manifest(tmp_path, "bcfc").findings)
        assert "bcfc: class 'benign' is read from 2 folders, which may hold copies: a/benign, b/benign." in warnings

    def test_class_folders_beside_train_and_test_are_left_out_with_a_warning(self, tmp_path: Path):
        classes = find_dataset("apacc").classes
        paint_all(tmp_path, (f"{part}/{label}/1" for part in ("train", "test", "eval") for label in classes), ".png")
        manifest = load_manifest(tmp_path)
        assert len(manifest.samples) == 8
        assert "apacc: 4 class folders outside train, val and test are left out." in texts(manifest.findings)

    def test_the_training_images_of_the_challenge_are_read_as_apacc(self, tmp_path: Path):
        classes = find_dataset("apacc").classes
        paint_all(tmp_path, (f"isbi2025-ps3c-train-dataset/{label}/1" for label in classes), ".png")
        paint(tmp_path / "isbi2025-ps3c-test-dataset" / "isbi2025_ps3c_test_image_00001.png", 9)
        manifest = load_manifest(tmp_path)
        assert (manifest.name, len(manifest.samples), manifest.has_subsets) == ("apacc", 4, False)

    def test_common_class_names_are_recognised_by_the_published_number_of_images(self, tmp_path: Path):
        for number in range(693):
            paint(tmp_path / ("malignant" if number % 2 else "benign") / f"{number}.png", number, (1, 1))
        assert load_manifest(tmp_path).name == "bcfc"
        (tmp_path / "benign" / "0.png").unlink()
        assert load_manifest(tmp_path).name == tmp_path.name

    def test_an_augmented_fnac2019_is_named(self, tmp_path: Path):
        for number in range(2120):
            paint(tmp_path / "BM"[number % 2] / f"{number}.png", number, (1, 1))
        assert any(
            "the authors augmented 212 to 2,120" in text for text in texts(load_manifest(tmp_path, "fnac2019").findings)
        )

    def test_fields_of_bmt_may_lie_in_one_folder_with_the_class_in_the_name(self, tmp_path: Path):
        folder = tmp_path / "Brown Multicellular ThinPrep Database - images"
        paint_all(folder, ["HSIL 1", "lsil2", "NIL_3", "NILM 4", "nilometer"], ".png")
        manifest = load_manifest(tmp_path)
        assert manifest.name == "bmt"
        assert {label: row["all"] for label, row in manifest.counts().items()} == {"NILM": 2, "LSIL": 1, "HSIL": 1}


read_once = cache(read_table)


class TestHiCervix:
    @pytest.mark.parametrize(
        ("label_set", "num_classes", "subsets"),
        [
            ("25", 25, (26_669, 3_827, 7_644)),
            ("23", 23, (24_198, 3_480, 6_946)),
            ("26", 26, (28_160, 4_018, 8_051)),
            ("21", 21, (26_669, 3_827, 7_644)),
        ],
    )
    def test_the_real_tables_have_the_stated_counts(
        self, shared_data: Path, label_set: str, num_classes: int, subsets: tuple[int, int, int]
    ):
        spec, choose = find_dataset(f"hicervix:{label_set}"), LABEL_SETS[label_set][1]
        labels: Counter[str] = Counter()
        for subset, expected in zip(SUBSETS, subsets, strict=True):
            rows = read_once(shared_data / "data" / "hicervix_csv" / f"{subset}.csv")
            found = Counter(label for name in rows.values() if (label := choose(NODES[name])))
            assert set(found) == set(spec.classes)
            assert found.total() == spec.expected_subsets[subset] == expected
            labels += found
        assert labels == dict(spec.expected_counts)
        assert len(spec.classes) == num_classes

    @pytest.mark.slow
    def test_the_real_hierswin_tables_are_label_set_23(self, shared_data: Path):
        for subset in SUBSETS:
            rows = read_table(shared_data / "data" / "hicervix_csv" / f"{subset}_hierswin.csv")
            assert len(rows) == find_dataset("hicervix:23").expected_subsets[subset]
            assert set(rows.values()) == set(find_dataset("hicervix:23").classes)

    def test_the_default_label_set_is_the_papers(self):
        assert find_dataset("hicervix").name == "hicervix:25"
        assert HICERVIX.classes == find_dataset("hicervix:25").classes
        with pytest.raises(ConfigError, match="Unknown label set of hicervix '29'"):
            find_dataset("hicervix:29")

    @pytest.mark.parametrize("label_set", LABEL_SETS)
    def test_the_tree_is_part_of_the_manifest(self, tmp_path: Path, label_set: str):
        manifest = load_manifest(make_hicervix(tmp_path), f"hicervix:{label_set}")
        assert tuple(manifest.tree) == manifest.classes
        assert all(levels[-1] == label for label, levels in manifest.tree.items())
        assert {levels[0] for levels in manifest.tree.values()} == {"negative", "ASC", "AGC", "microbe"}

    def test_the_tree_has_29_nodes_on_three_levels(self):
        levels = [{node.levels[:depth] for node in NODES.values() if len(node.levels) >= depth} for depth in (1, 2, 3)]
        assert [len(level) for level in levels] == [4, 21, 4]
        assert tree("25")["ADC-EMC"] == ("AGC", "ADC", "ADC-EMC")
        assert tree("21")["ADC"] == ("AGC", "ADC")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (",ECC,", ",EEC,", "line 3: 'EEC' is none of the 26 published class names"),
            ("negative,ECC", "ASC,ECC", "'ECC' stands under ASC > ECC, the published tree has negative > ECC"),
            ("6a7ed02d", "../6a7ed02d", "is no file name"),
            ("000000000001", "000000000000", "is listed twice"),
            ("level_1", "level1", "has no column 'level_1'"),
        ],
    )
    def test_a_table_that_disagrees_is_refused_with_the_line(self, tmp_path: Path, old: str, new: str, message: str):
        table = make_hicervix(tmp_path) / "train.csv"
        table.write_text(table.read_text().replace(old, new))
        with pytest.raises(DataError, match=re.escape(message)):
            load_manifest(tmp_path, "hicervix")

    def test_missing_unlisted_and_packed_images_are_named(self, tmp_path: Path):
        make_hicervix(tmp_path)
        paint(tmp_path / "train" / "extra.jpg", 1)
        assert any("1 image in" in text and "no table" in text for text in texts(load_manifest(tmp_path).findings))
        next((tmp_path / "val").iterdir()).unlink()
        with pytest.raises(DataError, match=r"val.csv lists 1 image that is not in .*val, the first is"):
            load_manifest(tmp_path)
        (tmp_path / "val").rename(tmp_path / "elsewhere")
        (tmp_path / "val.zip").touch()
        with pytest.raises(DataError, match=r"no folder 'val', in which val.csv lists 26 images. Unpack val.zip there"):
            load_manifest(tmp_path)


class TestBloodMnist:
    def test_pixels_and_labels_are_those_of_the_arrays(self, tmp_path: Path):
        manifest = load_manifest(make_bloodmnist(tmp_path) / "bloodmnist.npz")
        sample = manifest.subset("train")[-1]
        assert sample.path == "train/platelet/00015.png"
        assert np.array_equal(decode(manifest.root / sample.path), bloodmnist_arrays()["train_images"][15])

    def test_images_are_unpacked_once_and_again_for_another_file(self, tmp_path: Path):
        first = load_manifest(make_bloodmnist(tmp_path))
        image = first.root / first.samples[0].path
        changed = image.stat().st_mtime_ns
        assert load_manifest(tmp_path).fingerprint == first.fingerprint
        assert image.stat().st_mtime_ns == changed
        arrays = bloodmnist_arrays()
        arrays["train_images"] = 255 - arrays["train_images"]
        write_npz(tmp_path / "bloodmnist.npz", arrays)
        assert load_manifest(tmp_path).fingerprint != first.fingerprint

    def test_several_sizes_in_one_folder_must_be_named(self, tmp_path: Path):
        write_npz(make_bloodmnist(tmp_path) / "bloodmnist_64.npz", bloodmnist_arrays(64))
        with pytest.raises(DataError, match=r"several sizes of BloodMNIST \(bloodmnist.npz, bloodmnist_64.npz\)"):
            load_manifest(tmp_path)
        paths = [sample.path for sample in load_manifest(tmp_path / "bloodmnist_64.npz").samples]
        assert paths == [sample.path for sample in load_manifest(tmp_path / "bloodmnist.npz").samples]

    @pytest.mark.parametrize(
        ("name", "array", "message"),
        [
            (
                "train_images",
                np.array([{"a": 1}], dtype=object),
                "has pickled Python objects, which may run code and are not read; expected plain numbers",
            ),
            ("train_images", np.zeros((16, 28, 28), np.uint8), "expected 16 RGB images, uint8"),
            ("train_images", np.zeros((16, 28, 28, 3), np.float32), "expected 16 RGB images, uint8"),
            ("train_images", np.zeros((15, 28, 28, 3), np.uint8), "expected 16 RGB images, uint8"),
            ("train_labels", np.full((16, 1), 8, np.uint8), "labels from 0 to 7"),
            ("train_labels", np.zeros((16, 2), np.uint8), "one whole number for each image"),
            ("test_labels", None, "holds no array 'test_labels'"),
        ],
    )
    def test_other_arrays_are_refused_by_name_and_leave_nothing(
        self, tmp_path: Path, name: str, array: np.ndarray | None, message: str
    ):
        arrays = {key: value for key, value in bloodmnist_arrays().items() if key != name}
        write_npz(tmp_path / "bloodmnist.npz", arrays if array is None else arrays | {name: array})
        with pytest.raises(DataError, match=re.escape(message)):
            load_manifest(tmp_path)
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["bloodmnist.npz"]

    @pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
    def test_a_damaged_file_is_refused_and_leaves_nothing(self, tmp_path: Path, damage: str):
        file = make_bloodmnist(tmp_path) / "bloodmnist.npz"
        content = bytearray(file.read_bytes())
        if damage == "cut":
            content = content[: len(content) // 2]
        elif damage == "flipped":
            content[100:140] = bytes(40)
        file.write_bytes(b"no zip at all" if damage == "text" else content)
        with pytest.raises(DataError, match="is damaged"):
            load_manifest(tmp_path)
        assert not (tmp_path / "bloodmnist").exists()

    def test_a_folder_that_is_not_ours_is_never_replaced(self, tmp_path: Path):
        paint(make_bloodmnist(tmp_path) / "bloodmnist" / "mine.png", 1)
        with pytest.raises(DataError, match="bloodmnist is in the way"):
            load_manifest(tmp_path)
        assert (tmp_path / "bloodmnist" / "mine.png").exists()

    def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("cytolora.data.readers.bloodmnist.write_png", full)
        with pytest.raises(DataError, match=r"No space left on device; free some space"):
            load_manifest(make_bloodmnist(tmp_path))
        assert not (tmp_path / "bloodmnist").exists()


class TestCric:
    def test_a_cell_has_its_nucleus_in_the_middle_or_is_moved_inwards(self, tmp_path: Path):
        manifest = load_manifest(make_cric(tmp_path))
        with Image.open(tmp_path / "images" / "cric_image_001_abc.png") as image:
            field = np.array(image)
        assert np.array_equal(decode(manifest.root / "NILM/1_100.png"), field[14:114, 19:119])  # nucleus at (70, 65)
        assert np.array_equal(decode(manifest.root / "SCC/1_105.png"), field[40:140, 60:160])  # nucleus at (160, 140)

    def test_the_table_may_stand_in_a_folder_of_its_own(self, tmp_path: Path):
        make_cric(tmp_path)
        (tmp_path / "classification").mkdir()
        (tmp_path / "classifications.csv").rename(tmp_path / "classification" / "classifications.csv")
        assert load_manifest(tmp_path).name == "cric"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (",SCC,", ",CIN2,", "line 7: 'CIN2' is none of"),
            (",70,65", ",70.5,65", "line 2: image, cell, x and y are whole numbers, got 1, 100, 70.5, 65"),
            (",70,65", ",161,65", "cell 100 at (161, 65) lies outside cric_image_001_abc.png of 160 x 140 px"),
            ("cric_image_002", "cric_image_003", "names 1 field that is not below"),
        ],
    )
    def test_a_table_that_does_not_fit_is_refused(self, tmp_path: Path, old: str, new: str, message: str):
        table = make_cric(tmp_path) / "classifications.csv"
        table.write_text(table.read_text().replace(old, new))
        with pytest.raises(DataError, match=re.escape(message)):
            load_manifest(tmp_path)
        assert not (tmp_path / "cells_100px").exists()


class TestRearranged:
    @pytest.fixture
    def flat(self, tmp_path: Path) -> Path:
        names = (
            f"{subset}/{label}_{n}" for subset in SUBSETS for label in find_dataset("sipakmed").classes for n in (1, 2)
        )
        return paint_all(tmp_path / "sipakmed" / "images", names, ".bmp").parent

    @pytest.fixture
    def txt(self, tmp_path: Path) -> Path:
        root = tmp_path / "bmt"
        names = [f"{label}/{label} {n}.png" for label in ("HSIL", "LSIL", "NIL") for n in range(3)]
        for number, name in enumerate(names):
            paint(root / "images" / name, number)
        (root / "splits").mkdir()
        for part, subset in enumerate(SUBSETS):
            lines = [f"{name} {number // 3}" for number, name in enumerate(names) if number % 3 == part]
            (root / "splits" / f"{subset}.txt").write_text("\n".join(lines) + "\n\n")
        return root

    @pytest.mark.parametrize("point_at_images", [True, False])
    def test_the_flattened_layout_of_the_papers_code_is_read(self, flat: Path, point_at_images: bool):
        manifest = load_manifest(flat / "images" if point_at_images else flat)
        assert manifest.classes == tuple(sorted(find_dataset("sipakmed").classes))
        assert [len(manifest.subset(subset)) for subset in SUBSETS] == [10, 10, 10]
        assert manifest.samples[0].path == "test/Dyskeratotic_1.bmp"
        assert not manifest.has_groups

    def test_the_flattened_layout_is_read_as_the_dataset_that_is_named(self, flat: Path):
        manifest = load_manifest(flat, "sipakmed")
        assert (manifest.name, manifest.classes) == ("sipakmed", find_dataset("sipakmed").classes)
        assert any("class 'Dyskeratotic' 6 of 813" in text for text in texts(manifest.findings))
        with pytest.raises(
            DataError, match=r"is not MLCC .*it has a class 'Dyskeratotic'; expected HSIL, LSIL, NL, SCC"
        ):
            load_manifest(flat, "mlcc")

    def test_a_flattened_name_without_class_is_refused(self, flat: Path):
        paint(flat / "images" / "val" / "cell.bmp", 99)
        with pytest.raises(DataError, match=r"cell.bmp has no class in its name; expected <class>_<number>.bmp"):
            load_manifest(flat)

    def test_split_lists_are_read_with_classes_in_the_order_of_their_labels(self, txt: Path):
        manifest = load_manifest(txt)
        assert manifest.classes == ("HSIL", "LSIL", "NIL")
        assert [sample.path for sample in manifest.subset("val")] == [
            "HSIL/HSIL 1.png",
            "LSIL/LSIL 1.png",
            "NIL/NIL 1.png",
        ]

    def test_split_lists_are_read_as_the_dataset_that_is_named(self, txt: Path):
        assert load_manifest(txt, "bmt").classes == ("NILM", "LSIL", "HSIL")
        assert load_manifest(txt, "bmt").has_subsets

    def test_groups_come_back_where_the_names_survived(self, tmp_path: Path):
        (tmp_path / "splits").mkdir()
        classes = find_dataset("sipakmed").classes
        for number, label in enumerate(classes):
            paint(tmp_path / "images" / f"im_{label}" / "003_07.bmp", number)
        lines = [f"im_{label}/003_07.bmp {number}" for number, label in enumerate(classes)]
        for subset, part in zip(SUBSETS, (lines[:3], lines[3:4], lines[4:]), strict=True):
            (tmp_path / "splits" / f"{subset}.txt").write_text("\n".join(part))
        manifest = load_manifest(tmp_path, "sipakmed")
        assert manifest.has_groups
        assert manifest.samples[0].group == "Dyskeratotic_003"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("HSIL/HSIL 0.png", "line 1: 'HSIL/HSIL 0.png' is not a file and a label"),
            ("../HSIL 0.png 0", "'../HSIL 0.png' is not a file in a class folder"),
            ("HSIL.png 0", "'HSIL.png' is not a file in a class folder"),
            ("HSIL/HSIL 0.png 1", "line 1: class 'HSIL' is 1 and 0"),
            ("other/1.png 2", "one number stands for two classes"),
            ("HSIL/none.png 0", "lists 1 image that is not in"),
        ],
    )
    def test_a_wrong_list_is_refused_with_the_line(self, txt: Path, text: str, message: str):
        (txt / "splits" / "train.txt").write_text(text + "\n")
        (txt / "splits" / "val.txt").write_text("HSIL/HSIL 1.png 0\nNIL/NIL 1.png 2\n")
        with pytest.raises(DataError, match=re.escape(message)):
            load_manifest(txt)
