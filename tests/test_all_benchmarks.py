"""benchmarks/all.py: every benchmark of speed is a part of it, and what fell below the recorded rows is marked."""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmark_files import load_benchmark
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def programs() -> Iterator[SimpleNamespace]:
    """all.py and the modules that it is made of, in the path for as long as this file's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        modules = {name: importlib.import_module(name) for name in ("rows", "recorded", "measuring", "machine")}
        yield SimpleNamespace(all=load_benchmark("all"), **modules)


@pytest.fixture
def row(programs: SimpleNamespace) -> Callable[..., Any]:
    """Makes a row of given shares of the peak, one a round."""

    def make(*shares: float, name: str = "ours", part: str = "lora-step", **more: Any) -> Any:
        figures = {"% of peak": shares} if shares else {}
        return programs.rows.Row(part=part, name=name, figures=figures, **more)

    return make


@pytest.fixture
def fell(programs: SimpleNamespace) -> Callable[[Sequence[Any], Sequence[Any]], list[str]]:
    def names(now: Sequence[Any], before: Sequence[Any]) -> list[str]:
        return [found.row.name for found in programs.recorded.compare(now, before) if found.fell]

    return names


def test_a_planted_fall_is_marked_and_a_fall_within_the_noise_is_not(row: Any, fell: Any):
    before = [row(88, 89, 90), row(84, 85, 86, name="ours, bf16")]
    assert fell([row(78, 80, 81), row(83, 84, 85, name="ours, bf16")], before) == ["ours"]
    assert fell([row(86, 87, 88), row(83, 84, 85, name="ours, bf16")], before) == []
    assert fell([row(95, 96, 97), row(90, 91, 92, name="ours, bf16")], before) == []


def test_the_noise_is_the_widest_range_of_the_part_and_of_no_other(row: Any, programs: SimpleNamespace):
    before = [row(90, 90, 90), row(50, 50, 50, name="peer"), row(90, 90, 90, part="embedding")]
    now = [row(80, 80, 80), row(45, 50, 55, name="peer"), row(80, 80, 80, part="embedding")]
    found = {(one.row.part, one.row.name): one for one in programs.recorded.compare(now, before)}
    assert found["lora-step", "ours"].noise == pytest.approx(90 * 0.2)
    assert not found["lora-step", "ours"].fell
    assert found["embedding", "ours"].noise == 0
    assert found["embedding", "ours"].fell


def test_the_noise_of_the_recorded_run_counts_where_it_was_wider(row: Any, fell: Any):
    assert fell([row(84, 85, 86)], [row(86, 90, 94)]) == []
    assert fell([row(84, 85, 86)], [row(89, 90, 91)]) == ["ours"]


@given(
    before=st.floats(5, 100),
    spread=st.floats(0.01, 0.3),
    share=st.floats(0.0, 2.0),
)
def test_what_is_marked_is_below_the_recorded_by_more_than_the_range_over_rounds(
    programs: SimpleNamespace, before: float, spread: float, share: float
):
    """``share`` of the noise is the fall that is planted."""
    make = programs.rows.Row
    noise = before * spread
    now = before - share * noise
    if now <= 0 or abs(share - 1) < 1e-2:
        return
    rounds = tuple(now * (1 + spread * place) for place in (-0.5, 0.0, 0.5))
    rows = [make(part="a", name="b", figures={"% of peak": rounds})]
    recorded = [make(part="a", name="b", figures={"% of peak": (before,)})]
    (found,) = programs.recorded.compare(rows, recorded)
    assert found.noise == pytest.approx(noise, rel=1e-6, abs=1e-9)
    assert found.fell == (share > 1 and noise > 1e-9)


def test_only_rows_of_the_same_conditions_and_of_several_rounds_are_compared(row: Any, programs: SimpleNamespace):
    before = [row(90, 90, 90, conditions="batch 32")]
    assert programs.recorded.compare([row(50, 50, 50, conditions="batch 16")], before) == []
    assert programs.recorded.compare([row(50, conditions="batch 32")], before) == []
    assert programs.recorded.compare([row(50, 50, conditions="batch 32", part="embedding")], before) == []


def test_a_missing_library_is_no_fall_but_a_row_that_fails_or_goes_is_one(row: Any, fell: Any):
    before = [row(90, 90, 90), row(80, 80, 80, name="peer")]
    assert fell([row(90, 90, 90), row(name="peer", problem="not installed: openvino")], before) == []
    assert fell([row(90, 90, 90), row(name="peer", problem="failed: ValueError")], before) == ["peer"]
    assert fell([row(90, 90, 90)], before) == ["peer"]


def test_recorded_rows_are_read_back_by_processor_and_other_parts_stay(
    row: Any, programs: SimpleNamespace, tmp_path: Path
):
    recorded, path = programs.recorded, tmp_path / "recorded.json"
    machine = {"processor": "A (Zen 4)"}
    recorded.record(machine, "2026-01-01", [row(90, 91), row(70, 70, part="embedding")], path)
    recorded.record({"processor": "B"}, "2026-01-01", [row(10, 10)], path)
    recorded.record(machine, "2026-01-02", [row(80, 81), row(name="peer", problem="not installed: x")], path)
    found = {(one.part, one.name): list(one.figures["% of peak"]) for one in recorded.recorded_rows("A (Zen 4)", path)}
    assert found == {("lora-step", "ours"): [80, 81], ("embedding", "ours"): [70, 70]}
    assert recorded.recorded_rows("C", path) == []


def test_the_recorded_file_in_the_repository_is_readable_and_names_parts_of_the_program(programs: SimpleNamespace):
    everything = json.loads(programs.recorded.RECORDED.read_text(encoding="utf-8"))
    assert "AMD EPYC (Zen 4)" in everything
    for processor in everything:
        rows = programs.recorded.recorded_rows(processor)
        assert {one.part for one in rows} <= programs.all.PARTS.keys()
        assert any("% of peak" in one.figures for one in rows)
        assert [found.row.name for found in programs.recorded.compare(rows, rows) if found.fell] == []


def test_every_benchmark_is_a_part_or_is_named_with_the_reason_why_not(programs: SimpleNamespace):
    parts = {Path(part.script).stem for part in programs.all.PARTS.values()}
    others = programs.all.NOT_ABOUT_SPEED
    assert parts | others.keys() == {path.stem for path in FOLDER.glob("*.py")}
    assert parts & others.keys() == set()
    assert all(len(reason) > 10 for reason in others.values())


def test_the_list_shows_every_part_and_at_most_30_minutes(
    programs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["all.py", "--list"])
    assert programs.all.main() == 0
    listed = capsys.readouterr().out
    for name, part in programs.all.PARTS.items():
        assert re.search(rf"^{name} +{part.minutes:.1f} m .*{part.script}", listed, re.MULTILINE)
    total = re.search(r"^all +(\d+) m", listed, re.MULTILINE)
    assert total is not None
    assert int(total[1]) <= 30


PROGRAM = """
import argparse, sys, time
sys.path.insert(0, {folder!r})
from rows import Row, add_rows_option, show
parser = argparse.ArgumentParser()
parser.add_argument("--share", type=float)
add_rows_option(parser)
options = parser.parse_args()
rows = [Row(part="good", name="ours", figures={{"% of peak": [options.share, options.share + 1]}})]
sys.exit(show(rows, options))
"""
FAILING = """
print("at work", flush=True)
raise ValueError("no such product")
"""
ENDLESS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def run(programs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs all.py on parts of this test; returns the exit code and what it wrote."""
    for name, text in (("good", PROGRAM.format(folder=str(FOLDER))), ("bad", FAILING), ("endless", ENDLESS)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(programs.all, "busy_cores", lambda: 0.0)

    def whole(names: Sequence[str], share: float, *more: str) -> tuple[int, dict[str, Any]]:
        parts = {
            name: programs.all.Part(
                title=f"Part {name}",
                script=str(tmp_path / f"{name}.py"),
                quick=("--share", str(share)) if name == "good" else (),
                minutes=1,
                full_minutes=1,
            )
            for name in names
        }
        monkeypatch.setattr(programs.all, "PARTS", parts)
        files = ["--out", str(tmp_path / "rows.json"), "--recorded", str(tmp_path / "recorded.json")]
        monkeypatch.setattr(sys, "argv", ["all.py", "--quick", *files, *more])
        return programs.all.main(), json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))

    return whole


def test_a_failing_part_is_a_row_with_its_last_line_and_the_rest_goes_on(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    code, written = run(["bad", "good"], 90)
    assert code == 0
    assert [(one["part"], one["name"], one["problem"]) for one in written["rows"]] == [
        ("bad", "Part bad", "failed: ValueError: no such product"),
        ("good", "ours", ""),
    ]
    printed = capsys.readouterr().out
    assert "    at work" in printed
    assert "| Part bad | failed: ValueError: no such product |" in printed
    assert "| ours | 90.5 [90.0, 91.0] |" in printed


def test_a_planted_fall_ends_the_program_with_1_and_a_mark_in_the_table(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    assert run(["good"], 90, "--record")[0] == 0
    assert run(["good"], 89.5)[0] == 0
    capsys.readouterr()
    code, written = run(["good"], 80)
    assert code == 1
    assert [one["row"]["name"] for one in written["fell"]] == ["ours"]
    assert (written["fell"][0]["before"], written["fell"][0]["now"]) == (90.5, 80.5)
    assert "FELL by 10.0 points, recorded 90.5 % of peak, noise 1." in capsys.readouterr().out


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_part_over_its_limit_of_time_is_ended_with_what_it_started(
    programs: SimpleNamespace, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    run(["good"], 90)  # sets the parts' folder up
    programs.all.PARTS["endless"] = programs.all.Part(
        title="Endless", script=str(Path(programs.all.PARTS["good"].script).with_name("endless.py")), minutes=1,
        full_minutes=1,
    )  # fmt: skip
    (found,) = programs.all.run_part("endless", (), limit_seconds=3)
    assert found.problem.startswith("failed: not done after")
    child = re.search(r"child (\d+)", capsys.readouterr().out)
    assert child is not None
    until = time.monotonic() + 30
    while is_alive(int(child[1])) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(int(child[1]))


def test_contenders_without_their_library_or_that_fail_do_not_end_the_others(programs: SimpleNamespace):
    measuring = programs.measuring

    def fails() -> Any:
        raise RuntimeError("of another version")

    def works() -> Any:
        return lambda: sum(range(100_000))

    common = {"precision": "fp32", "gflop": 2.0}
    contenders = [
        measuring.Contender(name="plain", make=works, **common),
        measuring.Contender(name="missing", make=works, needs=("no_such_module",), **common),
        measuring.Contender(name="failing", make=fails, **common),
        measuring.Contender(name="ours", make=works, **common),
    ]
    found = {
        one.name: one
        for one in measuring.race(
            "a", contenders, num_images=4, rounds=3, peaks={"fp32": lambda: 100.0}, conditions="", is_scaled=False
        )
    }
    assert found["missing"].problem == "not installed: no_such_module"
    assert found["failing"].problem == "failed: RuntimeError: of another version"
    assert len(found["ours"].figures["ratio"]) == 3
    rates, shares = found["ours"].figures["images per CPU s"], found["ours"].figures["% of peak"]
    assert shares == pytest.approx([100 * 2 * rate / 100 for rate in rates])
    assert list(found["peak, fp32"].figures["GFLOP/s"]) == [100.0] * 3


def test_a_process_is_measured_without_the_memory_of_the_one_that_started_it(programs: SimpleNamespace):
    taken = bytearray(300 * 2**20)
    cost = programs.measuring.process([sys.executable, "-S", "-c", "print('done')"])
    assert cost.output == "done\n"
    assert cost.peak_mib < 100 < len(taken) / 2**20
    with pytest.raises(RuntimeError, match=r"ended with 3: the reason"):
        programs.measuring.process([sys.executable, "-S", "-c", "print('the reason'); raise SystemExit(3)"])


@pytest.mark.parametrize(
    ("family", "model", "expected"),
    [
        (25, 1, "AMD EPYC (Zen 3)"),
        (25, 17, "AMD EPYC (Zen 4)"),
        (25, 160, "AMD EPYC (Zen 4)"),
        (26, 2, "AMD EPYC (Zen 5)"),
        (23, 49, "AMD EPYC (family 23, model 49)"),
    ],
)
def test_processors_of_one_name_are_told_apart_by_their_generation(
    programs: SimpleNamespace, family: int, model: int, expected: str
):
    about = {"model name": "AMD EPYC", "cpu family": str(family), "model": str(model)}
    assert programs.machine.processor_name(about) == expected


def test_a_busy_machine_is_said_to_be_busy(programs: SimpleNamespace):
    assert programs.machine.idleness(0.05) == ""
    assert "others used 1.2 of" in programs.machine.idleness(1.2)


IN_SMALL = """
import runpy, sys
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.rpartition("/")[0])
import peak
peak.ROWS, peak.REPEATS = 197, 1
runpy.run_path(script, run_name="__main__")
"""
"""Runs a benchmark that measures the peak at the rows of one image: bf16 is emulated on some processors."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "names"),
    [
        ("lora_step", ["--batch", "1", "--rounds", "1"], {"ours, fp32", "ours, bf16", "timm + PEFT, fp32"}),
        ("small_data_scale", ["--images", "60"], {"check", "check again", "exp1", "exp1 again"}),
    ],
)
def test_a_part_measures_its_rows_in_small(script: str, arguments: list[str], names: set[str], tmp_path: Path):
    named = [str(FOLDER / f"{script}.py"), *arguments, "--rows", str(tmp_path / "rows.jsonl")]
    done = subprocess.run([sys.executable, "-c", IN_SMALL, *named], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = {one["name"]: one["figures"] for one in rows if not one["problem"]}
    assert names <= measured.keys()
    assert all(value > 0 for name in names for values in measured[name].values() for value in values if value)
