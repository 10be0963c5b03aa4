"""References: what a BibTeX reader reads from them is what the registries cite."""

import json
import re

import pytest
from bibtexparser.entrypoint import parse_string

from cytolora.cli.app import main
from cytolora.data.datasets import DATASETS
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.reporting.manuscript.bibtex import keys_of, read_citation, to_bibtex
from cytolora.reporting.manuscript.references import cite, of_method

CITED = [(entry.name, entry.citation) for entry in [*BACKBONES, *DATASETS] if entry.citation]


def read(text: str) -> dict[str, dict[str, str]]:
    library = parse_string(text)
    assert not library.failed_blocks, text
    return {entry.key: {field.key: field.value for field in entry.fields} for entry in library.entries}


@pytest.mark.parametrize(("name", "citation"), CITED, ids=[name for name, _ in CITED])
def test_a_bibtex_reader_finds_every_word_of_a_registered_citation(name: str, citation: str):
    found = read(to_bibtex(read_citation(citation)))
    text = " ".join(value for fields in found.values() for value in fields.values())
    words = set(re.findall(r"\w{3,}", citation)) - {"arXiv", "doi", "images"}
    assert words <= set(re.findall(r"\w{3,}", text.replace("\\", "")))


@pytest.mark.parametrize(
    ("citation", "key", "fields"),
    [
        (
            "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv:2106.09685",
            "hu2021lora",
            {
                "author": "Hu and others",
                "title": "{LoRA: Low-Rank Adaptation of Large Language Models}",
                "year": "2021",
                "eprint": "2106.09685",
                "archiveprefix": "arXiv",
            },
        ),
        (
            "Lu et al. 2024, A model, with a comma, Nature Medicine 30",
            "lu2024model",
            {
                "author": "Lu and others",
                "title": "{A model, with a comma}",
                "year": "2024",
                "journal": "Nature Medicine 30",
            },
        ),
        (
            "Rezende, Silva, et al.: CRIC: a platform. Scientific Data 8 (2021) 151; doi:10.1038/s41597-021-00933-8.",
            "rezende2021cric",
            {
                "author": "Rezende and Silva and others",
                "title": "{CRIC: a platform}",
                "year": "2021",
                "doi": "10.1038/s41597-021-00933-8",
                "journal": "Scientific Data 8 (2021) 151",
            },
        ),
        (
            "Ben Zaken et al. 2022, 50 % & more_words, arXiv:2106.10199",
            "benzaken2022morewords",
            {
                "author": "{Ben Zaken} and others",
                "title": r"{50 \% \& more\_words}",
                "year": "2022",
                "eprint": "2106.10199",
                "archiveprefix": "arXiv",
            },
        ),
        ("CROWN, https://huggingface.co/x", "crown", {"title": "{CROWN, https://huggingface.co/x}"}),
    ],
)
def test_a_citation_becomes_the_entry_that_it_says(citation: str, key: str, fields: dict[str, str]):
    found = read(to_bibtex(read_citation(citation)))
    expected = {name: value.strip("{}") for name, value in fields.items()}
    assert {one: {name: value.strip("{}") for name, value in found[one].items()} for one in found} == {key: expected}


def test_several_works_in_one_citation_are_several_entries_and_a_work_cited_twice_is_one():
    both = BACKBONES.get("dinov2-b14-reg").citation
    assert [one.key for one in read_citation(both)] == ["oquab2023dinov2", "darcet2023vision"]
    assert list(read(to_bibtex([*read_citation(both), *read_citation(both)]))) == [
        "darcet2023vision",
        "oquab2023dinov2",
    ]


def test_two_works_of_one_name_year_and_word_keep_both_entries():
    found = read(to_bibtex(read_citation("Hu et al. 2021, LoRA one, ICLR; Hu et al. 2021, LoRA two, ICML")))
    assert {key: fields["journal"] for key, fields in found.items()} == {"hu2021lora": "ICLR", "hu2021lorab": "ICML"}


def test_works_of_one_key_are_cited_by_the_keys_of_their_entries_however_many_they_are():
    works = [read_citation(f"Hu et al. 2021, LoRA number {number}, ICLR")[0] for number in range(40)]
    works += read_citation("Hu et al. 2021, LoRAb of its own, ICLR")
    keys, found = keys_of(works), read(to_bibtex(works))
    assert len(found) == len(set(keys.values())) == 41
    for one in works:
        assert found[keys[one.work]]["title"].strip("{}") == one.title
        assert cite([one], keys) == f" [@{keys[one.work]}]"


def test_one_work_cited_in_two_ways_is_one_entry():
    found = read_citation("Hu et al. 2021, LoRA: Low-Rank, ICLR") + read_citation("Hu: LoRA, low rank. ICLR 2021")
    assert len(read(to_bibtex(found))) == 1


@pytest.mark.parametrize(
    "title", ["{open", "close}", r"back\slash", "a^2 ~ b", "细胞学", "two\n\nlines", "100 % {", "@misc{x,"]
)
def test_any_title_is_an_entry_that_a_reader_takes_and_its_braces_are_even(title: str):
    text = to_bibtex([*read_citation(f"Hu et al. 2021, {title}, ICLR"), *read_citation(title)])
    assert len(read(text)) == 2
    assert all(key for key in read(text))
    assert text.count("{") == text.count("}")
    assert not re.search(r"\\[{}]", text)  # which TeX prints and BibTeX counts


def test_no_two_works_of_the_registries_have_one_key():
    cited = [one for _, citation in CITED for one in read_citation(citation)]
    cited += [one for method in METHODS for one in of_method(method.name)]
    assert len({one.key for one in cited}) == len({one.title for one in cited})


@pytest.mark.parametrize("method", [method.name for method in METHODS if "et al." in method.description])
def test_a_method_of_the_literature_has_its_reference(method: str):
    (found,) = of_method(method)
    year = re.search(r"(\d{4})\)", METHODS.get(method).description)
    assert year is not None
    assert found.year == year[1]
    assert found.authors[0].split()[-1] in METHODS.get(method).description


@pytest.mark.parametrize("kind", ["models", "datasets", "methods"])
def test_ls_says_what_to_cite(kind: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["ls", kind, "--json"])
    rows = [row for row in json.loads(capsys.readouterr().out) if row.get("images", True)]  # no reader of any file
    cited = [read(row["bibtex"]) for row in rows if row["bibtex"]]
    assert len(cited) > len(rows) / 2
