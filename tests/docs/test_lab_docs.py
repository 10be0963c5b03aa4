"""The quick start for laboratories is executed as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from cytolora import Classifier
from cytolora.cli.app import main
from cytolora.data.synthetic.dataset import write_synthetic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lab.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_command_of_the_quick_start_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cytolora.classifier.fit.config.find", lambda *arguments: None)  # of another machine
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(lines) == 7
    write_synthetic(Path("my_cells"), num_images=240, num_slides=30, seed=0)  # fewer than the page's command draws
    write_synthetic(Path("new_cells"), num_images=20, num_slides=4, seed=1)
    Path("new_cells/manifest.csv").unlink()  # a folder for each slide, and nobody knows what is in it
    for line in lines:
        if "corrections.csv" in line:
            folder = "new_cells" if "--add" in line else "my_cells"
            first = sorted(Path(folder).rglob("*.png"))[0]
            Path("corrections.csv").write_text(f"path,label\n{first},hsil\n")
        with pytest.raises(SystemExit) as exit_:
            main(shlex.split(line)[1:])
        assert exit_.value.code in ((0, 1) if " check " in line else (0,)), line
    for code in blocks("python"):
        exec(compile(code, str(PAGE), "exec"), {})
    assert Path("review.html").is_file()
    assert Path("model2/report.html").is_file()
    first, second = (Classifier.load(name).contents for name in ("model2", "model3"))
    assert (first.training["num_added_images"], second.training["num_added_images"]) == (0, 1)
    assert first.metrics["test"]["n"] == second.metrics["test"]["n"]
