"""Progress on standard error: lines in a log, a bar on a terminal, nothing where nothing is asked for."""

import io
import json
import re
from pathlib import Path

import pytest
from blank_pdfs import blank_drawings
from quick_fit import quick_fit
from rich.console import Console

from cytolora.cli.app import main
from cytolora.cli.log_lines import Lines
from cytolora.cli.progress import show_progress
from cytolora.core.progress import Progress
from cytolora.display.format import duration

TINY = ("--shots", "2", "--seeds", "1", "--learning-rates", "0.001", "0.01", "--steps", "2")
BAR_ART = "━╸╺\x1b\r\x07"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines_and_clock() -> tuple[Lines, Clock, list[str]]:
    written: list[str] = []
    clock = Clock()
    return Lines(written.append, clock), clock, written


def test_a_stage_is_a_line_at_its_start_one_after_15_seconds_one_a_minute_then_and_one_at_its_end():
    lines, clock, written = lines_and_clock()
    lines.begin("features", 600, "images")
    for _ in range(300):
        clock.now += 1
        lines.done(2)
    lines.end()
    assert written == [
        "features: 600 images",
        "features: 30 of 600 images (5 %), 15 s elapsed, about 4.8 min left",
        "features: 150 of 600 images (25 %), 75 s elapsed, about 3.8 min left",
        "features: 270 of 600 images (45 %), 2.2 min elapsed, about 2.8 min left",
        "features: 390 of 600 images (65 %), 3.2 min elapsed, about 1.8 min left",
        "features: 510 of 600 images (85 %), 4.2 min elapsed, about 45 s left",
        "features: 600 of 600 images (100 %) in 5 min",
    ]


def test_work_that_tells_nothing_for_minutes_is_heard_of_all_the_same():
    lines, clock, written = lines_and_clock()
    lines.begin("28 runs", 5000, "training images")
    lines.status("herlev, uni, lora, 4-shot, seed 2, rate 0.001")
    for _ in range(30):
        clock.now += 10
        lines.tick()
    assert len(written) == 1 + 5
    assert written[-1].startswith("herlev, uni, lora, 4-shot, seed 2, rate 0.001: 0 of 5,000 training images (0 %), ")


def test_what_comes_before_the_first_counted_image_makes_the_rest_no_slower():
    lines, clock, written = lines_and_clock()
    lines.begin("28 runs", 1000, "training images")
    for done in range(0, 1001, 10):  # 1,010 s of features, of which no training image is part
        lines.step("herlev: features with uni", done, 1000)
        clock.now += 10
    assert "herlev: features with uni: 440 of 1,000 images (44 %), about 9.3 min left; 0 of 1,000 tr" in written[8]
    lines.status("herlev, uni, lora, 4-shot, seed 1, rate 0.001")
    for _ in range(10):
        clock.now += 10
        lines.done(50)
    number = int(*re.findall(r"rate 0.001: (\d+) of 1,000", written[-1]))
    assert written[-1].endswith(f"about {duration((1000 - number) / 5)} left")  # 5 a second


def test_what_was_kept_from_an_earlier_time_does_not_make_the_rest_look_fast():
    lines, clock, written = lines_and_clock()
    lines.begin("features", 2000, "images")
    lines.done(1000)  # read back at once
    for _ in range(15):
        clock.now += 1
        lines.done(1)
    assert written[-1] == "features: 1,015 of 2,000 images (50 %), 15 s elapsed, about 16 min left"


def test_a_line_of_a_log_holds_no_control_character_whatever_a_name_holds():
    lines, _, written = lines_and_clock()
    lines.say("a\x1b[31mred\nb\rc\udc80")
    assert written == ["a�[31mred b c�"]


def test_bytes_of_a_download_are_written_with_their_unit():
    lines, clock, written = lines_and_clock()
    lines.begin("uni: fetching model.safetensors", 1_200_000_000, "bytes")
    clock.now += 20
    lines.done(300_000_000)
    assert written == [
        "uni: fetching model.safetensors: 1.2 GB",
        "uni: fetching model.safetensors: 300.0 MB of 1.2 GB (25 %), 20 s elapsed, about 60 s left",
    ]


def test_a_terminal_has_a_bar_and_names_in_brackets_stand_on_it_as_they_are():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, markup=False, emoji=False, highlight=False)
    with show_progress(quiet=False, console=console) as progress:
        progress.say("reading [bold]cells[/] :smile:")
        progress.begin("predicting [red]x [/] :smile:", 4, "images")
        progress.done(4)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue())
    assert "reading [bold]cells[/] :smile:" in shown
    assert "predicting [red]x [/] :smile: ━━━━━━━━━━━━━━━━━━━━ 4/4 images" in shown


def test_the_time_left_of_all_the_work_is_shown_in_place_of_the_stages_and_counts_down():
    lines, clock, written = lines_and_clock()
    lines.begin("features", 600, "images")
    lines.left(3600)
    clock.now += 20
    lines.done(60)
    assert written[-1] == "features: 60 of 600 images (10 %), 20 s elapsed, about 60 min left in all"
    lines.left(100)
    clock.now += 60
    lines.done(60)
    assert written[-1].endswith("80 s elapsed, about 40 s left in all")
    lines.left(None)
    clock.now += 60
    lines.done(60)
    assert re.search(r"2.3 min elapsed, about [\d.]+ min left$", written[-1])


def test_a_bar_shows_the_time_left_of_all_the_work():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, markup=False)
    with show_progress(quiet=False, console=console) as progress:
        progress.left(2 * 3600 + 61)
        progress.begin("features", 600, "images")
    assert "2:01:01" in out.getvalue() or "2:01:00" in out.getvalue()


def test_quiet_shows_nothing_on_a_terminal_and_in_a_log():
    for is_terminal in (True, False):
        out = io.StringIO()
        with show_progress(quiet=True, console=Console(file=out, force_terminal=is_terminal)) as progress:
            progress.say("x")
            progress.begin("x", 3, "images")
            progress.done(3)
        assert out.getvalue() == ""


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, drawn_cells: Path) -> dict[str, str]:
    """Cells, and a bundle made of them."""

    made = tmp_path_factory.mktemp("made")
    with blank_drawings():
        quick_fit(drawn_cells, made / "model", model="nano", max_steps=2, cache=made / "cache")
    return {"cells": str(drawn_cells), "model": str(made / "model"), "cache": str(made / "cache")}


@pytest.mark.parametrize(
    ("arguments", "begun"),
    [
        ("run smoke --data synthetic={cells} --out {new}/runs", "synthetic, nano: 2 adapter runs: "),
        (
            "run smoke --method linear --data synthetic={cells} --out {new}/runs",
            "synthetic, nano: heads on frozen features: 2 steps\n",
        ),
        ("fit {cells} --model nano --steps 2 --cache {new} --out {new}/m", "features: 60 images"),
        (
            "fit {cells} --model nano --method lora --steps 2 --cache {new} --out {new}/m",
            "looking at images: 60 images",
        ),
        ("embed {cells} --model nano --cache {new} --out {new}/a.parquet", "features: 60 images"),
        ("predict {model} {cells} --out {new}/a.csv", "predicting: 60 images"),
        ("evaluate {model} {cells} --seen mark --json", "predicting: 60 images"),
        ("learning-curve {cells} --model nano --shots 1 2 3 4 --seeds 1 --cache {cache} --json", "classifiers: "),
        ("leakage {cells} --model nano --repeats 1 --cache {cache} --json", "divisions, frozen features: "),
        ("check {cells} --json", "looking at images: 60 images"),
        ("export {model} --to timm --out {new}/e --json", "comparing {new}/e with the bundle: "),
        ("weights fetch nano --to {new}/w", ""),
        ("split {cells} --out {new}/split.csv", ""),
    ],
)
@pytest.mark.slow
def test_in_a_log_every_long_command_writes_plain_lines_and_leaves_its_output_alone(
    arguments, begun, folders, tmp_path, capsys
):
    names = {**folders, "new": str(tmp_path)}
    command = [part.format(**names) for part in arguments.split()]
    if command[0] == "run":
        command += TINY
    assert _run(*command) in (0, 1)  # 1: check found something
    printed = capsys.readouterr()
    assert not set(BAR_ART) & set(printed.err)
    assert begun.format(**names) in printed.err
    if "--json" in command:
        assert json.loads(printed.out)


@pytest.mark.parametrize(
    "command", ["predict {model} {cells} --out {new}/a.csv", "check {cells}", "split {cells} --out {new}/s"]
)
def test_quiet_leaves_the_stages_out_of_a_log(command, folders, tmp_path, capsys):
    assert _run(*command.format(**folders, new=tmp_path).split(), "--quiet") in (0, 1)
    assert not re.search(r": \d+ images$|\(\d+ %\)", capsys.readouterr().err, re.MULTILINE)


def test_findings_are_reported_to_who_takes_them_or_else_as_notes():
    said, found = list[str](), list[str]()
    Progress(say=said.append).finding("! P102 nearly black")
    Progress(say=said.append, find=found.append).finding("- P103 gray")
    assert (said, found) == (["! P102 nearly black"], ["- P103 gray"])


def test_quiet_shows_findings_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with show_progress(quiet=True) as progress:
        progress.say("Images used: a 9, b 9.")
        progress.begin("features", 18, "images")
        progress.finding("! P102 18 images use at most 6.2 % of the values of their bit depth: nearly black.")
    assert capsys.readouterr().err.splitlines() == [
        "! P102 18 images use at most 6.2 % of the values of their bit depth: nearly black."
    ]


@pytest.mark.slow
def test_a_log_names_the_stages_of_a_run_and_how_they_ended(drawn_cells, tmp_path, capsys):
    assert _run("run", "smoke", "--data", f"synthetic={drawn_cells}", "--out", str(tmp_path), *TINY) == 0
    lines = capsys.readouterr().err.splitlines()
    assert not set(BAR_ART) & set("".join(lines))
    stages = [
        ("features", "60 images"),
        ("heads on frozen features", "2 steps"),
        ("2 adapter runs", r"(\d+) image passes"),
    ]
    for title, amount in stages:
        begun = [found for line in lines if (found := re.fullmatch(f"synthetic, nano: {title}: {amount}", line))]
        assert len(begun) == 1, title
        number = re.findall(r"\d+", begun[0][0].removeprefix(f"synthetic, nano: {title}"))[-1]
        ended = rf"synthetic, nano: {title}: {number} of {number} \w+( \w+)? \(100 %\) in [\d.]+ (ms|s|min)"
        assert any(re.fullmatch(ended, line) for line in lines), title
    assert lines[-1].startswith(f"4 runs in {tmp_path}. Next: ")
