"""Progress: to the log by default, a bar in a notebook, silent where asked."""

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cytolora.core.notebook import default_progress
from cytolora.core.progress import SILENT, Progress


def work(progress: Progress) -> None:
    progress.say("Split: <60/20/20>")
    progress.begin("features", 1200, "images")
    progress.status("loading nano")
    progress.done(1200)


def test_the_default_progress_logs_stages_and_notes_as_info_and_status_as_debug(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="cytolora"):
        work(Progress())
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        ("cytolora", "INFO", "Split: <60/20/20>"),
        ("cytolora", "INFO", "features: 1,200 images"),
        ("cytolora", "DEBUG", "loading nano"),
    ]


def test_silent_progress_logs_nothing(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="cytolora"):
        work(SILENT)
    assert not caplog.records


def test_outside_a_notebook_progress_is_logged():
    assert default_progress() == Progress()


def test_in_a_notebook_one_output_is_updated_in_place_and_every_text_is_escaped(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []

    def display(html: Any, *, display_id: bool) -> Any:
        assert display_id
        shown.append(html)
        return SimpleNamespace(update=shown.append)

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    work(default_progress())
    assert shown[0] == "<div>Split: &lt;60/20/20&gt;</div><div></div>"
    assert "<progress value='0' max='1200'></progress> 0 of 1,200 images" in shown[1]
    assert shown[-1].startswith("<div>Split: &lt;60/20/20&gt;</div><div>features <progress value='1200'")
    assert "1,200 of 1,200 images" in shown[-1]
