"""Label maps that come with the package: every line leads to a category and has a source; wrong maps are one line."""

import re
from pathlib import Path

import pytest

from cytolora.cli.app import main
from cytolora.data.datasets import DATASETS
from cytolora.data.pool_maps import read_pool_map, shipped_maps
from cytolora.errors import ConfigError

MAPS = sorted(shipped_maps())


def test_the_maps_are_these():
    assert MAPS == ["bethesda", "bethesda-general", "milan", "paris", "tis"]


@pytest.mark.parametrize("name", MAPS)
def test_every_line_of_a_shipped_map_has_a_source_and_a_category_or_a_reason(name: str):
    found = read_pool_map(name)
    assert found.title
    assert found.sources[found.source]
    for dataset in found.datasets:
        for label, line in found.lines(dataset).items():
            assert found.sources[line.source], (dataset, label)
            assert line.to in found.categories if line.to else line.note, (dataset, label)


@pytest.mark.parametrize("name", MAPS)
def test_a_shipped_map_has_a_line_for_every_class_of_its_datasets_under_every_label_set(name: str):
    found = read_pool_map(name)
    for dataset in found.datasets:
        spec = DATASETS.get(dataset)
        labels = {label for one in (spec, *spec.label_sets.values()) for label in one.classes}
        assert set(found.lines(dataset)) == labels


def test_the_general_map_is_the_finer_one_with_categories_joined():
    fine, coarse = read_pool_map("bethesda"), read_pool_map("bethesda-general")
    for dataset in fine.datasets:
        for label, line in fine.lines(dataset).items():
            expected = {"": ("",), "NILM": ("NILM",)}.get(line.to, ("ECA",))
            own = {("sipakmed", "Dyskeratotic"), ("hicervix", "AGC")}
            assert coarse.lines(dataset)[label].to in (("ECA",) if (dataset, label) in own else expected)


@pytest.mark.parametrize(
    ("dataset", "label", "category"),
    [
        ("herlev", "normal_columnar", "NILM"),
        ("herlev", "light_dysplastic", "LSIL"),
        ("herlev", "moderate_dysplastic", "HSIL"),
        ("herlev", "carcinoma_in_situ", "HSIL"),
        ("sipakmed", "Koilocytotic", "LSIL"),
        ("sipakmed", "Metaplastic", "NILM"),
        ("sipakmed", "Dyskeratotic", ""),
        ("hicervix:26", "AGC-EMC-NOS", "AGC-NOS"),
        ("hicervix:23", "EMC", ""),
        ("mlcc", "NL", "NILM"),
    ],
)
def test_bethesda_says_where_a_class_goes(dataset: str, label: str, category: str):
    assert read_pool_map("bethesda").lines(dataset)[label].to == category


@pytest.mark.parametrize("written", ["LSIL", "lsil", " LSIL ", "Low-grade squamous intraepithelial lesion"])
def test_a_class_called_like_a_category_is_that_category(written: str):
    assert read_pool_map("bethesda").category(written) == "LSIL"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("categories: {}", "categories is empty"),
        ("title: x", "categories is missing"),
        (
            "categories: {a: A, b: B}\ndatasets: {herlev: {x: c}}",
            "datasets.herlev.x: 'c' is none of the categories a, b",
        ),
        ("categories: {a: A}\ndatasets: {h: {x: {to: a, source: s}}}", "'s' is none of the sources (none)"),
        ("categories: {a: A}\ncoarsens: bethesda", "coarsens and to go together"),
        ("categories: {a: A}\ncoarsens: bethesd\nto: {NILM: a}", "Did you mean 'bethesda'?"),
        ("categories: {a: A}\ncoarsens: bethesda\nto: {NILMM: a}", "Did you mean 'NILM'?"),
        ("categories: {a: A}\nto: {NILM: a}", "coarsens and to go together"),
        ("categories: {a: A}\ndataset: {}", "unknown key 'dataset' (did you mean 'datasets'?)"),
        ("categories: {a: A}\ndatasets: {h: {x: {to: a, sauce: s}}}", "sauce"),
        ("categories: {' ': A}", "is no name of a category"),
        ("categories: [a, b]", "categories"),
        ("categories: {NO: Normal, YES: Abnormal}", "should be a valid string, got False"),
        ("categories: {1: A, 2: B}", "should be a valid string, got 1"),
        ("categories: {LSIL: A, lsil: B}", "'LSIL' and 'lsil' are one name"),
        ("categories: {a-b: A, a_b: B}", "'a-b' and 'a_b' are one name"),
        ("categories: {a: A}\nsource: us", "source: 'us' is none of the sources (none)"),
        ("categories: {a: A}\nname: other", "leave it out: a label map is called like its file"),
        ("categories: {a: A}\ndatasets: {h: x}", "datasets.h"),
        ("categories: {a: A}\ndatasets: {h: {x: a, x: a}}", "not valid YAML"),
        ("", "should be a dictionary"),
    ],
)
def test_a_wrong_map_is_refused_in_one_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        read_pool_map(tmp_path / "own.yaml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["betesda", "bethesda.yaml", "maps/none.yml", "own.csv", ""])
def test_a_map_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        read_pool_map(name)


def test_ls_lists_the_maps_with_their_sources(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ls", "pools", "--wide"])
    assert stop.value.code in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "The International System for Reporting Serous Fluid Cytopathology" in said
    assert "Nayar & Wilbur" in said


def test_the_map_in_the_documentation_can_be_read(tmp_path: Path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "pooling.md").read_text(encoding="utf-8")
    (tmp_path / "grades.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    found = read_pool_map(tmp_path / "grades.yaml")
    assert found.lines("ours")["LSIL"].to == "low"
    assert [label for label, line in found.lines("herlev").items() if line.to == "high"] == [
        *("moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"),
    ]
