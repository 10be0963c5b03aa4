"""Reporting checklists: what the runs know stands in them, and what they do not know is left to the authors."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from fake_store import write_runs

from cytolora.cli.app import main
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.reporting.leakage.section import leakage_section
from cytolora.reporting.manuscript import methods_text
from cytolora.reporting.manuscript.checklist import CHECKLISTS, Checklist, fill, load, to_markdown, to_rows
from cytolora.reporting.manuscript.facts import FACTS, Known
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.pages.page import Section
from cytolora.reporting.pages.protocol import describe_dataset
from cytolora.reporting.results.settings import Setting

EVERY = {one.strip().rstrip("/") for _, where in FACTS.values() for one in where.split(",")}
"""Files of a report that has all."""
NUM_ITEMS = {"tripod-ai": 52, "claim-2024": 44, "stard-ai": 48}


@pytest.fixture(scope="module")
def known(settings: list[Setting], runs_dir: Path) -> Known:
    section = Section(
        facts=describe_dataset(settings), settings=settings, leakage=leakage_section(runs_dir, settings), slug="x"
    )
    return Known(sections=[section], runs=list(Store(runs_dir).runs()), files=EVERY)


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_item_of_a_checklist_is_there_once_and_names_facts_that_exist(name: Checklist):
    items = load(name).items
    assert len({one.id for one in items}) == len(items) == NUM_ITEMS[name]
    assert {fact for one in items for fact in one.facts} <= FACTS.keys()
    assert all(one.facts or not one.author for one in items), "what has no facts is the authors' as a whole"


@pytest.mark.parametrize("name", CHECKLISTS)
def test_no_item_is_answered_without_a_fact_and_every_fact_says_where_it_stands(name: Checklist, known: Known):
    for row in to_rows(fill(load(name), known)):
        assert (row["state"] == "AUTHOR") == (not row["said"]) == (not row["where"])
        assert (row["state"] == "reported") == (not row["author"])


def test_what_only_people_know_is_never_answered(known: Known):
    by_id = {one.item.id: one.state for one in fill(load("tripod-ai"), known)}
    for item in ("5b", "6b", "8b", "8c", "14", "17", "18a", "18b", "18d", "19", "25", "27c"):
        assert by_id[item] == "AUTHOR"


def test_a_third_of_the_items_of_tripod_is_known_from_runs(known: Known):
    states = [one.state for one in fill(load("tripod-ai"), known)]
    assert sum(state != "AUTHOR" for state in states) >= len(states) / 3


def test_what_the_runs_do_not_know_is_not_said(known: Known):
    """No metadata: no subgroups. None left out: no sites. No test set scored: no performance."""
    untested = [replace(one, evaluation=None, runs=tuple(_untested(run) for run in one.runs)) for one in known.settings]
    section = replace(known.sections[0], settings=untested, facts=describe_dataset(untested))
    answers = {
        one.item.id: one for one in fill(load("claim-2024"), Known(sections=[section], runs=known.runs, files=EVERY))
    }
    assert answers["37"].state == answers["38"].state == answers["33"].state == "AUTHOR"


def _untested(run: StoredRun) -> StoredRun:
    return replace(run, metrics={**run.metrics, "test": None})


def test_every_fact_stands_in_a_file_that_each_report_or_run_has():
    always = {
        "index.html",
        "methods.md",
        "settings.csv",
        "tables.csv",
        "images.csv",
        "classes.csv",
        "costs.csv",
        "rates.csv",
    }
    for name, (_, where) in FACTS.items():
        places = where.split(", ")
        assert name == "subgroups" or any(one in always or one.startswith("RUNS/") for one in places), name


def rows_of(report: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((report / f"checklist_{name}.csv").read_text())))


def test_report_writes_the_checklists_that_were_asked_for_and_their_pointers_lead_into_it(store: Store, tmp_path: Path):
    write_runs(store, models=("uni",), methods=("linear",), shots=(4,), seeds=(1,), rates=(1e-3,))
    with pytest.raises(SystemExit) as stop:
        main(["report", str(store.root), "--out", str(tmp_path / "r"), "--checklist", *CHECKLISTS])
    assert not stop.value.code
    assert {one.name for one in (tmp_path / "r").glob("checklist_*")} == {
        f"checklist_{name}.{suffix}" for name in CHECKLISTS for suffix in ("md", "csv")
    }
    rows = rows_of(tmp_path / "r", "tripod-ai")
    assert len(rows) == 52
    run = next(store.runs()).path
    assert not (tmp_path / "r" / "findings.json").exists(), "a report without findings, gains and divisions"
    for name in CHECKLISTS:
        for row in rows_of(tmp_path / "r", name):
            for place in filter(None, row["where"].replace("; ", ", ").split(", ")):
                file = run / place.removeprefix("RUNS/") if place.startswith("RUNS/") else tmp_path / "r" / place
                assert file.exists(), (name, row["item"], place)
            assert bool(row["where"]) == bool(row["said"]), (name, row["item"])
    page = (tmp_path / "r" / "checklist_tripod-ai.md").read_text()
    assert page.count("\n| ") == 54, "its title, the rule below it, and the items"
    assert "AUTHOR: to be written" in page
    build_report(store.root, tmp_path / "r")  # is a report still, and replaced
    assert not list((tmp_path / "r").glob("checklist_*"))


def test_an_unknown_checklist_is_one_line_and_writes_nothing(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["report", str(runs_dir), "--out", str(tmp_path / "r"), "--checklist", "tripod"])
    assert stop.value.code == 2
    assert "tripod-ai" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_methods_paragraph_says_the_protocol_and_cites_by_keys_of_the_references(known: Known, report_dir: Path):
    text = methods_text.to_markdown(known)
    assert text == (report_dir / "methods.md").read_text(encoding="utf-8")
    keys = {
        line.split("{")[1].rstrip(",")
        for line in (report_dir / "references.bib").read_text().splitlines()
        if "@" in line
    }
    cited = {part.rstrip(".;,]") for part in text.replace("[", " ").replace("]", " ").split() if part.startswith("@")}
    assert {one.removeprefix("@") for one in cited} == keys
    for section in known.sections:
        assert section.facts.split_rule in text
    for setting in known.settings:
        assert setting.model in text
        assert all(f"{rate:g}" in text for rate in setting.rates if rate)


def test_a_checklist_in_markdown_keeps_its_columns_whatever_names_hold(known: Known):
    section = replace(known.sections[0], facts=replace(known.sections[0].facts, name="a | b"))
    page = to_markdown(
        load("tripod-ai"), fill(load("tripod-ai"), Known(sections=[section], runs=known.runs, files=EVERY))
    )
    for line in page.splitlines():
        if line.startswith("| "):
            assert line.replace(r"\|", "").count("|") == 6


def test_names_in_the_methods_paragraph_are_text_and_no_markup(known: Known):
    section = known.sections[0]
    facts = replace(section.facts, name="my *cells* [@home] <b> `x`", split_rule="by _site_ 10^3^ @lab")
    text = methods_text.to_markdown(replace(known, sections=[replace(section, facts=facts)]))
    assert r"my \*cells\* \[\@home\] &lt;b&gt; \`x\`" in text
    assert r"by \_site\_ 10\^3\^ \@lab" in text
