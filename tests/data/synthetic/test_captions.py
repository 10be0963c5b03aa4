"""Captions of drawn cells say what is drawn, in words that the built-in text encoder knows."""

import numpy as np
import pytest

from cytolora.data.synthetic.captions import CLASS_WORDS, CUES, attribute_words, captions, vocabulary
from cytolora.data.synthetic.dataset import ATTRIBUTES, CLASSES, draw_cells


@pytest.mark.parametrize("population", ["any", "classes"])
def test_every_word_of_a_caption_is_in_the_vocabulary(population):
    known = set(vocabulary())
    for caption in captions(draw_cells(200, 3, num_slides=20, population=population), 5):
        words = caption.replace("-", " - ").replace(",", " , ").split()
        assert words
        assert set(words) <= known


def test_words_say_whether_an_attribute_is_low_or_high_and_nothing_between():
    cells = draw_cells(300, 1, num_slides=300, population="any")
    words = attribute_words(cells)
    for name, (low, high) in CUES.items():
        shares = (cells.attributes[name] - ATTRIBUTES[name].low) / (ATTRIBUTES[name].high - ATTRIBUTES[name].low)
        for said, share in zip(words, shares, strict=True):
            assert (low in said) == (share < 0.35)
            assert (high in said) == (share > 0.65)
    assert all(len(set(said)) == len(said) for said in words)


def test_equal_arguments_give_equal_captions_and_cells_without_a_class_never_bear_one():
    cells = draw_cells(100, 2, num_slides=10)
    assert captions(cells, 7) == captions(cells, 7)
    assert captions(cells, 7) != captions(cells, 8)
    names = {word for words in CLASS_WORDS.values() for name in words for word in [name]}
    unnamed = captions(draw_cells(100, 2, num_slides=10, population="any"), 7)
    assert not [caption for caption in unnamed if any(f"a {name} cell" in caption for name in names)]
    assert all(" with " in caption for caption in unnamed)


def test_a_named_class_is_the_cells_own_and_most_are_named():
    cells = draw_cells(500, 4, num_slides=50)
    named = 0
    for label, caption in zip(cells.labels, captions(cells, 1), strict=True):
        of = [name for name, words in CLASS_WORDS.items() if any(f"a {word} cell" in caption for word in words)]
        assert of in ([], [CLASSES[label]])
        named += bool(of)
    assert 0.6 < named / 500 < 0.8


def test_attributes_beside_the_class_are_at_most_as_many_as_asked_for():
    cells = draw_cells(60, 4, num_slides=10, population="any")
    for most in (1, 2, 4):
        counts = np.array([caption.count(",") + 1 for caption in captions(cells, 1, most=most)])
        assert counts.max() <= most
        assert counts.min() >= 1
