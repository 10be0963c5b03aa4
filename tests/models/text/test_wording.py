"""What text encoders are asked for the classes of every dataset."""

import pytest

from cytolora.data.datasets import DATASETS
from cytolora.data.pool_maps import read_pool_map, shipped_maps
from cytolora.models.text.prompts import PAPER_TEMPLATE, WORDS, prompts


def test_every_class_is_asked_for_in_plain_words():
    wording = prompts("herlev", ["carcinoma_in_situ", "something_else"], [PAPER_TEMPLATE])
    assert wording == {
        "carcinoma_in_situ": ["A cytological slide showing a squamous carcinoma in situ cell"],
        "something_else": ["A cytological slide showing a something else cell"],
    }


@pytest.mark.parametrize("dataset", [spec.name for spec in DATASETS if spec.classes])
def test_the_words_name_the_labels_of_the_dataset_exactly(dataset: str):
    """Of every dataset with labels of its own, in all of its label sets: no prompt speaks in abbreviations."""
    spec = DATASETS.get(dataset)
    labels = {label for labelled in (spec, *spec.label_sets.values()) for label in labelled.classes}
    words = WORDS[dataset]
    assert set(words) == labels
    assert len(set(words.values())) == len(labels)
    spelt = " ".join(words.values()).split()
    assert not [word for word in spelt if len(word) > 1 and word.isupper()]


@pytest.mark.parametrize("name", shipped_maps())
def test_every_category_of_a_shipped_label_map_is_asked_for_in_words_of_its_own(name: str):
    categories = read_pool_map(name).categories
    wording = prompts("pool", categories, ["{}"])
    assert len({texts[0] for texts in wording.values()}) == len(categories)
    assert not [texts[0] for texts in wording.values() if texts[0].isupper()]


def test_a_label_of_hicervix_is_asked_for_in_words_whatever_the_label_set():
    for name in ("hicervix:25", "hicervix:21", "hicervix"):
        assert prompts(name, ["TRI"], [PAPER_TEMPLATE]) == {
            "TRI": ["A cytological slide showing a Trichomonas vaginalis cell"]
        }
