"""Names that hold HTML, Markdown, mathematics and line breaks are text on every page and on the card."""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cytolora.classifier.bundle.files import CONTENTS
from cytolora.classifier.bundle.manifest import BundleManifest, from_text
from cytolora.classifier.bundle.model_card import render_card
from cytolora.classifier.decision.decide import decide
from cytolora.classifier.decision.rules import Conformal, DecisionRules, OperatingPoint
from cytolora.classifier.fit.page import render_page
from cytolora.classifier.inference.metrics import Labelled, assess
from cytolora.display.format import escape_markdown

pytestmark = pytest.mark.usefixtures("real_drawings")

FORMAT_1 = Path(__file__).parent / "data" / "format1.zip"
NAMES = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "a | b || c",
    "`rm -rf` ``x``",
    "[click](javascript:alert(1)) ![x](http://e.x/i.png)",
    "$\\frac{1}{0$ **bold** _it_ ~~s~~",
    "&lt;b&gt; ]]> <!-- x -->",
    '" onmouseover="alert(1)',
)


TAME = ("a", "b", "c", "d", "e", "f", "g", "h")


@cache
def metrics() -> Any:
    """Of some predictions of eight classes."""
    rules = DecisionRules(
        classes=TAME, temperature=1.0, conformal=Conformal(coverage=0.9, quantile=0.9, num_groups=9),
        operating_point=POINT,
    )  # fmt: skip
    labels, paths = np.arange(40) % len(TAME), [f"{number}.png" for number in range(40)]
    predictions = decide(rules, paths, np.random.default_rng(0).normal(size=(40, 8)) + 2 * np.eye(8)[labels])
    return assess(rules, Labelled(predictions=predictions, labels=labels, paths=paths, groups=[None] * 40))


POINT = OperatingPoint(
    positive=("a",), asked=0.95, promised=0.9, num_groups=9, threshold=0.3, sensitivity=0.9, sensitivity_low=0.8,
    sensitivity_high=1.0, specificity=0.9, specificity_low=0.8, specificity_high=1.0, num_positive=9,
)  # fmt: skip


def hostile(classes: tuple[str, ...]) -> BundleManifest:
    """A bundle that was fitted, with eight classes, the first of which names its dataset and all texts of training."""
    with zipfile.ZipFile(FORMAT_1) as packed:
        contents = from_text(packed.read(CONTENTS), CONTENTS)
    name = classes[0]
    renamed: dict[str, str] = dict(zip(TAME, classes, strict=True))
    finding = {"code": "D511", "name": "groups-suspected", "severity": "warning", "text": name, "count": 1}
    texts = dict.fromkeys(("dataset", "split_rule", "group_rule", "chosen_on"), name)
    return replace(
        contents,
        classes=classes,
        operating_point=replace(POINT, positive=(name,)),
        training={**contents.training, **texts, "findings": [finding]},
        versions={**contents.versions, "torch": name},
        metrics={"test": _replaced(metrics(), renamed)},
    )


def _replaced(plain: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(plain, dict):
        return {key: _replaced(value, renamed) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_replaced(value, renamed) for value in plain]
    return renamed.get(plain, plain) if isinstance(plain, str) else plain


class Tags(HTMLParser):
    """Notes the elements of a page with the names of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, ...]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {(tag, name) for name, _ in attrs} | {(tag,)}


def tags(page: str) -> set[tuple[str, ...]]:
    reader = Tags()
    reader.feed(page)
    return reader.seen


def fit_page(classes: tuple[str, ...], notes: tuple[str, ...]) -> str:
    counts = {name: {"train": 1, "val": 1, "test": 1, "all": 3} for name in classes}
    return render_page(hostile(classes), notes, notes, counts)


def test_hostile_names_add_no_element_to_the_page_of_fit():
    page = fit_page(NAMES, (*NAMES, "two\nlines"))
    assert tags(page) == tags(fit_page(TAME, (*TAME, "i")))
    assert all(name in unescape(page) for name in NAMES)


def card_of(classes: tuple[str, ...], notes: list[str]) -> tuple[str, list[str]]:
    """The head of a card, and the lines below it."""
    card = render_card(hostile(classes), (), notes, written=datetime(2026, 1, 1, tzinfo=UTC), seconds=1)
    _, head, body = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    return head, body.splitlines()


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_a_hostile_name_is_text_on_the_card(place: int):
    classes = (*NAMES[place:], *NAMES[:place])
    head, lines = card_of(classes, [NAMES[place], "one\n\n# two"])
    body = "\n".join(lines)
    assert yaml.safe_load(head)["model-index"][0]["results"][0]["dataset"]["name"] == NAMES[place]
    assert len(lines) == len(card_of(TAME, ["a", "b"])[1])
    assert not re.search(r"<[A-Za-z/!]", body)
    assert not re.search(r"(?<!\\)\]\(", body)
    assert [line for line in lines if line.startswith("# ")] == [lines[2]]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("| ")} == {4, 5}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("<b>", "&lt;b&gt;"),
        ("R&D", "R&amp;D"),
        ("carcinoma_in_situ", "carcinoma_in_situ"),
        ("_x_ *y*", r"\_x\_ \*y\*"),
        ("two\nlines\r\n# x", "two lines # x"),
        ("Čelij µ – 癌", "Čelij µ – 癌"),
    ],
)
def test_markdown_is_escaped_and_other_text_stands_as_it_is(text: str, written: str):
    assert escape_markdown(text) == written
