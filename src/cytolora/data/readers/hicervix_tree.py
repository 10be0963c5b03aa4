"""HiCervix class tree: the place of each class in it, and its published number of images."""

from collections.abc import Mapping
from typing import NamedTuple


class Node(NamedTuple):
    """One of the 26 names that images carry."""

    levels: tuple[str, ...]
    """From level 1 down to the name itself."""
    counts: tuple[int, int, int]
    """Images in train, val and test."""


NODES: Mapping[str, Node] = {
    node.levels[-1]: node
    for node in (
        Node(("negative", "Normal"), (2409, 354, 691)),
        Node(("negative", "ECC"), (1601, 223, 448)),
        Node(("negative", "RPC"), (1459, 191, 461)),
        Node(("negative", "MPC"), (1126, 151, 314)),
        Node(("negative", "PG"), (1093, 143, 327)),
        Node(("negative", "Atrophy"), (1049, 138, 297)),
        Node(("negative", "EMC"), (1098, 151, 280)),
        Node(("negative", "HCG"), (625, 84, 178)),
        Node(("ASC", "ASC-US"), (1762, 284, 553)),
        Node(("ASC", "LSIL"), (1208, 188, 348)),
        Node(("ASC", "ASC-H"), (977, 152, 308)),
        Node(("ASC", "HSIL"), (1369, 203, 416)),
        Node(("ASC", "SCC"), (765, 105, 202)),
        Node(("AGC",), (1491, 191, 407)),
        Node(("AGC", "AGC-NOS"), (1535, 229, 441)),
        Node(("AGC", "AGC-FN"), (783, 113, 218)),
        Node(("AGC", "ADC"), (936, 118, 257)),
        Node(("AGC", "AGC-NOS", "AGC-ECC-NOS"), (762, 114, 189)),
        Node(("AGC", "AGC-NOS", "AGC-EMC-NOS"), (170, 27, 56)),
        Node(("AGC", "ADC", "ADC-ECC"), (169, 25, 50)),
        Node(("AGC", "ADC", "ADC-EMC"), (77, 10, 21)),
        Node(("microbe", "FUNGI"), (1453, 204, 390)),
        Node(("microbe", "ACTINO"), (1379, 207, 432)),
        Node(("microbe", "TRI"), (1213, 170, 314)),
        Node(("microbe", "HSV"), (872, 125, 251)),
        Node(("microbe", "CC"), (779, 118, 202)),
    )
}
"""In the order of class_id; counted from the label files of https://github.com/Scu-sen/HiCervix, commit 7cd8ea8,
dataset/hierarchy_classification/version2023."""
