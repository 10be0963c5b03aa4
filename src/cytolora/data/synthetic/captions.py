"""Captions of drawn cells, in the words that a cytologist has for what is drawn."""

from collections.abc import Mapping

import numpy as np

from cytolora.data.synthetic.dataset import ATTRIBUTES, DrawnCells
from cytolora.data.synthetic.names import CLASSES

LOW, HIGH = 0.35, 0.65
"""Shares of an attribute's range below and above which it is worth a word."""
CUES: Mapping[str, tuple[str, str]] = {
    "cell_radius": ("a small size", "a large size"),
    "nc_ratio": ("abundant cytoplasm", "scant cytoplasm"),
    "nuclear_density": ("a pale nucleus", "a dark nucleus"),
    "chromatin": ("even chromatin", "clumped chromatin"),
    "coarseness": ("fine chromatin", "coarse chromatin"),
    "irregularity": ("a smooth nuclear outline", "an irregular nuclear outline"),
    "halo": ("no halo", "a clear halo around the nucleus"),
    "binucleate": ("one nucleus", "two nuclei"),
    "num_cells": ("no cell beside it", "a crowded cluster of cells"),
    "cell_stretch": ("a round shape", "an elongated shape"),
    "angularity": ("a rounded outline", "an angular outline"),
    "eosinophilia": ("blue-green cytoplasm", "pink cytoplasm"),
    "thickness": ("thin cytoplasm", "dense cytoplasm"),
    "blur": ("sharp edges", "blurred edges"),
}
"""By attribute, what is said of low and of high values."""
CLASS_WORDS: Mapping[str, tuple[str, ...]] = {
    "normal": ("normal squamous", "normal"),
    "koilocytic": ("koilocytotic squamous", "koilocytotic"),
    "lsil": ("low-grade dysplastic squamous", "low-grade squamous lesion"),
    "hsil": ("high-grade dysplastic squamous", "high-grade squamous lesion"),
    "glandular": ("glandular", "endocervical glandular"),
}
OPENINGS = (
    *("a cytological slide showing", "a photomicrograph of", "a pap smear image showing", "cytology of"),
    *("a microscope image of", "an image of", ""),
)


def attribute_words(cells: DrawnCells) -> list[list[str]]:
    """Returns, for each cell, what is worth a word."""
    words: list[list[str]] = [[] for _ in cells.labels]
    for name, (low, high) in CUES.items():
        attribute = ATTRIBUTES[name]
        shares = (cells.attributes[name] - attribute.low) / (attribute.high - attribute.low)
        for said, share in zip(words, shares, strict=True):
            said += [low] * bool(share < LOW) + [high] * bool(share > HIGH)
    return words


def captions(cells: DrawnCells, seed: int, *, most: int = 4) -> list[str]:
    """Writes a caption of each cell; equal arguments give equal captions.

    Args:
        most: Attributes named beside the class, where the cells have one; without a class at least one is named.
    """
    rng = np.random.Generator(np.random.PCG64([seed, len(cells.labels)]))
    written = []
    for label, words in zip(cells.labels, attribute_words(cells), strict=True):
        opening = OPENINGS[rng.integers(len(OPENINGS))]
        is_named = label >= 0 and rng.random() < 0.7
        number = min(len(words), int(rng.integers(0 if is_named else 1, most + 1)))
        said = [words[at] for at in rng.permutation(len(words))[:number]]
        if is_named:
            names = CLASS_WORDS[CLASSES[label]]
            subject = f"a {names[rng.integers(len(names))]} cell"
        else:
            subject = "a cell"
        details = f" with {', '.join(said)}" if said else ""
        written.append(f"{opening} {subject}{details}".strip())
    return written


def vocabulary() -> list[str]:
    """Lists the words of all captions, after the tokens that BERT needs; others are unknown."""
    texts = [*OPENINGS, *(word for words in CUES.values() for word in words)]
    texts += [word for words in CLASS_WORDS.values() for word in words]
    words = {word for text in texts for word in text.replace("-", " - ").replace(",", " , ").split()}
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words | {"a", "cell", "with", ",", "-", "and"})]
