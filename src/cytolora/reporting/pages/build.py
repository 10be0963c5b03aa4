"""Builds a report folder from a store: tables, figures and one page, replaced whole or not at all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.arguments import AnyPath, as_named_paths, as_path
from cytolora.core.files import write_json, write_text
from cytolora.core.folders import read_unreplaced, staged_folder
from cytolora.core.litter import is_litter
from cytolora.data.targets import check_target
from cytolora.display.confusion import ConfusionMatrix
from cytolora.display.figure import Figure, save
from cytolora.errors import ConfigError, StoreError, unknown_name
from cytolora.experiments.run_table import COLUMNS as RUN_COLUMNS
from cytolora.experiments.store import Store, again_if_replaced, unwritable
from cytolora.reporting.comparison import gains as gain_tables
from cytolora.reporting.comparison.gains import gains
from cytolora.reporting.figures.confusion import confusion_matrix
from cytolora.reporting.figures.curves import Axis, Curves
from cytolora.reporting.figures.few_shot import few_shot_figures, in_print_order
from cytolora.reporting.figures.fractions import Fractions
from cytolora.reporting.figures.gains import Gains
from cytolora.reporting.figures.labels import Labels
from cytolora.reporting.figures.leakage import LeakageFigure
from cytolora.reporting.figures.levels import Levels
from cytolora.reporting.figures.reliability import reliability_diagram
from cytolora.reporting.leakage import section as leakage
from cytolora.reporting.manuscript import checklist as checklists
from cytolora.reporting.manuscript import methods_text
from cytolora.reporting.manuscript.bibtex import to_bibtex
from cytolora.reporting.manuscript.checklist import CHECKLISTS, Checklist
from cytolora.reporting.manuscript.facts import Known
from cytolora.reporting.manuscript.references import references
from cytolora.reporting.pages.page import Overview, Picture, Section, render
from cytolora.reporting.pages.protocol import describe_dataset
from cytolora.reporting.results.checks import refuse_mixed
from cytolora.reporting.results.divided import divided
from cytolora.reporting.results.paper import is_of_paper
from cytolora.reporting.results.settings import (
    METRICS,
    Setting,
    SettingRuns,
    best,
    by_dataset,
    evaluate_setting,
    gather_settings,
)
from cytolora.reporting.tables import costs, rates, table1
from cytolora.reporting.tables.details import CLASS_COLUMNS, TREE_COLUMNS, class_rows, rivals, tree_rows
from cytolora.reporting.tables.divisions import COLUMNS as DIVISION_COLUMNS
from cytolora.reporting.tables.divisions import division_rows
from cytolora.reporting.tables.images import COLUMNS as IMAGE_COLUMNS
from cytolora.reporting.tables.images import SPLITS, image_rows, write_splits
from cytolora.reporting.tables.metadata import COLUMNS as METADATA_COLUMNS
from cytolora.reporting.tables.metadata import breakdowns, to_rows
from cytolora.reporting.tables.neighbours import COLUMNS as NEIGHBOUR_COLUMNS
from cytolora.reporting.tables.neighbours import neighbour_rows
from cytolora.reporting.tables.runs import run_rows
from cytolora.reporting.tables.tables import COLUMNS, to_csv, to_latex, to_markdown, to_row

PAGE = "index.html"
_FILES = (
    "tables.csv",
    "tables.md",
    "tables.tex",
    "tables_without_intervals.tex",
    "table1.csv",
    "table1.md",
    "table1.tex",
    "costs.csv",
    "costs.tex",
    "runs.csv",
)
_TABLES = (
    "settings.csv",
    "rates.csv",
    "gains.csv",
    "images.csv",
    "classes.csv",
    "tree.csv",
    "neighbours.csv",
    "metadata.csv",
    "divisions.csv",
    "leakage.csv",
)
REFERENCES, METHODS = "references.bib", "methods.md"
_TEXTS = (REFERENCES, METHODS, *(f"checklist_{name}.{suffix}" for name in CHECKLISTS for suffix in ("csv", "md")))
_FORMER = ("cells.csv",)
"""What reports of earlier versions hold besides."""
FINDINGS = "findings.json"
"""Where the data of the runs have findings."""
_OURS = frozenset({PAGE, FINDINGS, *_FILES, *_TABLES, *_TEXTS, *_FORMER, "figures", SPLITS})
_AXES: tuple[Axis, ...] = ("shots", "fraction")
_MAX_NUMBERS = 4000
"""Fields of all matrices of a dataset that are written out; beyond, the page grows by megabytes that nobody reads."""


def build_report(
    runs_dir: AnyPath,
    out: AnyPath,
    data: Mapping[str, AnyPath] | None = None,
    *,
    reading: ReadOptions = AS_IT_STANDS,
    checklist: Sequence[Checklist] = (),
) -> Path:
    """Writes the report of a store and returns its page, ``out/index.html``.

    An older report at ``out`` is replaced whole; if anything fails it stays as it was. Runs that another process
    replaces meanwhile are read again.

    Args:
        data: Folder of each dataset, by name; the page shows example cells of those that are given.
        reading: Of these datasets, as they were read for the runs.
        checklist: Reporting checklists to fill from what the runs know.

    Raises:
        StoreError: If there are no runs, runs that must not stand in one table, or ``out`` cannot be written.
        ConfigError: If ``out`` holds anything but a report, or ``data`` names a dataset without runs.
        DataError: If the images at a folder of ``data`` are not those of the runs.
    """
    runs_dir, out, named = as_path(runs_dir, "runs"), as_path(out, "out"), as_named_paths(data, "data")
    return again_if_replaced(lambda: _build(runs_dir, out, named, reading, checklist))


def _build(
    runs_dir: Path, out: Path, named: Mapping[str, Path], reading: ReadOptions, wanted: Sequence[Checklist]
) -> Path:
    runs = Store(runs_dir).runs_at_once()
    if not runs:
        raise StoreError(
            f"No finished runs in {runs_dir}. Point at the folder given to `cytolora run --out`, or run a grid first: "
            f"`cytolora run smoke --data NAME=PATH --out {runs_dir}`."
        )
    refuse_mixed(runs)
    check_target(out)
    target = out.absolute()
    read_unreplaced(target, _refuse_foreign)
    gathered = gather_settings(runs)
    folders = _folders(named, by_dataset(gathered))  # a wrong name is refused before anything is computed
    settings = [evaluate_setting(one) for one in gathered]
    try:
        with staged_folder(target) as folder:
            _write_tables(folder, settings)
            write_splits(folder, runs_dir, settings, {one.dataset: _slug(one.dataset) for one in settings})
            desk = _Desk(folder=folder / "figures", runs_dir=runs_dir)
            overview = _overview(desk, settings)
            sections = _sections(desk, settings, folders, reading)
            if overview.gains:
                write_text(folder / "gains.csv", to_csv(gain_tables.to_rows(overview.gains), gain_tables.COLUMNS))
            _write_metadata(folder, sections)
            if rows := leakage.to_rows([section.leakage for section in sections]):
                write_text(folder / "leakage.csv", to_csv(rows, leakage.COLUMNS))
            _write_findings(folder, sections)
            files = {METHODS, PAGE, *(path.name for path in folder.iterdir())}  # the two are written last
            _write_texts(folder, Known(sections=sections, runs=runs, files=files), wanted)
            write_text(folder / PAGE, render(overview, sections, runs))
    except OSError as error:  # what is read raises errors of its own
        raise unwritable(out, error) from error
    return out / PAGE


def _refuse_foreign(out: Path) -> None:
    """Protects a user's own files: the folder is going to be replaced whole."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; name a folder for the report.")
    names = [path.name for path in out.iterdir()] if out.exists() else []
    kept = sorted(name for name in names if not is_litter(name))
    foreign = [name for name in kept if name not in _OURS] if PAGE in kept else kept
    if foreign:
        raise ConfigError(f"{out} holds {foreign[0]!r}, which is no part of a report; name a new or empty folder.")


def _folders(data: Mapping[str, Path], known: Mapping[str, Sequence[SettingRuns]]) -> dict[str, Path]:
    """Matches ``herlev`` to ``herlev``, with any label map, and ``hicervix`` to every label set of it."""
    found = {}
    for name, path in data.items():
        registered = {dataset: settings[0].spec.dataset for dataset, settings in known.items()}
        names = [key for key, dataset in registered.items() if name in (dataset, dataset.partition(":")[0])]
        if not names:
            raise unknown_name("dataset", name, known)
        found |= dict.fromkeys(names, path)
    return found


def _write_tables(folder: Path, settings: Sequence[Setting]) -> None:
    rows = [to_row(setting) for setting in settings]
    write_text(folder / "tables.csv", to_csv(rows, COLUMNS))
    write_text(folder / "settings.csv", to_csv(rows, rows[0]))
    write_text(folder / "tables.md", to_markdown(settings))
    write_text(folder / "tables.tex", to_latex(settings))
    write_text(folder / "tables_without_intervals.tex", to_latex(settings, intervals=False))
    write_text(folder / "rates.csv", to_csv(rates.to_rows(settings), rates.COLUMNS))
    write_text(folder / "images.csv", to_csv(image_rows(settings), IMAGE_COLUMNS))
    write_text(folder / "costs.csv", to_csv(costs.to_rows(settings), costs.COLUMNS))
    write_text(folder / "costs.tex", costs.to_latex(settings))
    write_text(folder / "runs.csv", to_csv(run_rows(settings), RUN_COLUMNS))
    write_text(folder / "classes.csv", to_csv(class_rows(settings), CLASS_COLUMNS))
    if beside := neighbour_rows(settings):
        write_text(folder / "neighbours.csv", to_csv(beside, NEIGHBOUR_COLUMNS))
    if families := divided(settings):
        write_text(folder / "divisions.csv", to_csv(division_rows(families), DIVISION_COLUMNS))
    branches = tree_rows(settings)
    if branches:
        write_text(folder / "tree.csv", to_csv(branches, TREE_COLUMNS))
    linear = table1.tables1(settings)
    if linear:
        write_text(folder / "table1.csv", to_csv([r for one in linear for r in table1.to_rows(one)], table1.COLUMNS))
        write_text(folder / "table1.md", table1.to_markdown(linear))
        write_text(folder / "table1.tex", table1.to_latex(linear))


def _write_metadata(folder: Path, sections: Sequence[Section]) -> None:
    rows = to_rows(found for section in sections for found in section.breakdowns)
    if rows:
        write_text(folder / "metadata.csv", to_csv(rows, METADATA_COLUMNS))


def _write_findings(folder: Path, sections: Sequence[Section]) -> None:
    found = [{"dataset": one.facts.name, **finding} for one in sections for finding in one.facts.findings]
    if found:
        write_json(folder / FINDINGS, found)


def _write_texts(folder: Path, known: Known, wanted: Sequence[Checklist]) -> None:
    write_text(folder / REFERENCES, to_bibtex(references(known.settings)))
    write_text(folder / METHODS, methods_text.to_markdown(known))
    for name in wanted:
        template = checklists.load(name)
        answers = checklists.fill(template, known)
        write_text(folder / f"checklist_{name}.md", checklists.to_markdown(template, answers))
        write_text(folder / f"checklist_{name}.csv", checklists.to_table(answers))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """Where pictures are put; drawn ones are kept beside the runs."""

    folder: Path
    runs_dir: Path

    def picture(self, figure: Figure) -> Picture:
        return Picture(
            name=figure.name,
            svg=save(figure, self.folder, self.runs_dir / ".cache" / "figures", as_pdf=True),
            caption=figure.caption,
        )


def _overview(desk: _Desk, settings: Sequence[Setting]) -> Overview:
    """The paper's table and figures, as far as their settings exist, and the same of other methods and budgets."""
    by_name = by_dataset(settings)
    shares = [
        Fractions(dataset=name, settings=members, slug=_slug(name), of_paper=of_paper)
        for name, members in by_name.items()
        for of_paper in (True, False)
    ]
    shares = [figure for figure in shares if figure.drawable]
    if len(papers := [figure for figure in shares if figure.of_paper]) == 1:
        shares[shares.index(papers[0])] = replace(papers[0], slug="")
    paired = Gains(gains=gains(settings))
    curves = [*few_shot_figures(settings, _slug), *shares]
    own: list[Figure] = [figure for figure in curves if not figure.of_paper]
    own += [labels] if (labels := Labels(settings=settings)).drawable else []
    return Overview(
        tables=table1.tables1([one for one in settings if is_of_paper(one.spec)]),
        pictures=[desk.picture(figure) for figure in curves if figure.of_paper],
        own_tables=table1.tables1([one for one in settings if not is_of_paper(one.spec)]),
        own_pictures=[desk.picture(figure) for figure in own],
        gains=paired.gains,
        panel=desk.picture(paired) if paired.drawable else None,
        rivals=rivals(settings),
    )


def _sections(
    desk: _Desk, settings: Sequence[Setting], folders: Mapping[str, Path], reading: ReadOptions
) -> list[Section]:
    models = in_print_order({setting.model for setting in settings}, 1)
    return [
        _section(desk, members, models, folders.get(dataset), reading)
        for dataset, members in by_dataset(settings).items()
    ]


def _section(
    desk: _Desk, settings: Sequence[Setting], models: Sequence[str], data: Path | None, reading: ReadOptions
) -> Section:
    dataset, slug = settings[0].dataset, _slug(settings[0].dataset)
    curves = [
        Curves(dataset=dataset, settings=settings, metric=metric, axis=axis, slug=slug, all_models=models)
        for axis in _AXES
        for metric in METRICS
    ]
    figures_of = [*curves, Levels(dataset=dataset, settings=settings, slug=slug)]
    winner = best(settings)
    examples = None
    if data is not None and winner is not None:
        from cytolora.reporting.pages.examples import find_examples  # reads images: not needed without data

        examples = find_examples(winner, data, reading)
    found = leakage.leakage_section(desk.runs_dir, settings)
    panel = LeakageFigure(section=found, slug=slug)
    return Section(
        facts=describe_dataset(settings),
        settings=settings,
        curves=[desk.picture(curve) for curve in figures_of if curve.drawable],
        matrices=[desk.picture(matrix) for matrix in _matrices(settings)],
        reliability=None if winner is None else desk.picture(reliability_diagram(winner, _slug(winner.setting_id))),
        breakdowns=breakdowns(settings),
        examples=examples,
        leakage=found,
        leakage_panel=desk.picture(panel) if panel.drawable else None,
        slug=slug,
    )


def _matrices(settings: Sequence[Setting]) -> list[ConfusionMatrix]:
    """The best setting's, then of each model the best at its largest amount of training images."""
    winner = best(settings)
    if winner is None:
        return []
    largest = []
    for model in sorted({setting.model for setting in settings}):
        tested = [setting for setting in settings if setting.model == model and setting.tested]
        most = max((setting.amount_key for setting in tested), default=None)
        largest.append(best([setting for setting in tested if setting.amount_key == most]))
    others = [setting for setting in largest if setting is not None and setting is not winner]
    num_fields = len(winner.runs[0].provenance["classes"]) ** 2 * len(others)
    numbers = "all" if num_fields <= _MAX_NUMBERS else "diagonal"
    first = confusion_matrix(winner, _slug(winner.setting_id))
    return [
        first,
        *(confusion_matrix(setting, _slug(setting.setting_id), numbers) for setting in others),
    ]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
