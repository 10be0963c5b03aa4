"""The labelling page on a server that is killed: what it showed as stored is in the journal, and the rest is sent."""

import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from contention import Forked, forked
from label_page import lasso_around, place_on_map, show_map, until
from labelling_projects import make_project

from cytolora.classifier.serve.server import make_server
from cytolora.labelling.project import JOURNAL
from cytolora.labelling.refit import prepare
from cytolora.labelling.server import LIMITS, make_app
from cytolora.labelling.session import Labelling

pytestmark = pytest.mark.slow
TOKEN = "t" * 32
NUM_KILLS = 30
SEED = 20261128
NUM_LOOKS = 3_000
WITHIN_SECONDS = 0.5
"""From the first key of a round to the kill, at most."""
_NOTE = """() => {
  [window.sent, window.shown, window.firstMark, window.firstSend] = [[], [], mark, send];
  mark = (item, state) => { if (state === "stored") shown.push(item.body.client_id); firstMark(item, state); };
  send = (path, ...more) => { const id = firstSend(path, ...more); sent.push([path, id]); return id; };
}"""
"""Has the page keep the ids of what it sends, and of what it shows as stored."""


class Killed:
    """A server on one port, in a forked copy of this process: started again without a new Python."""

    def __init__(self, project: Path, logs: Path) -> None:
        self._project, self._logs = project, logs
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self._port}/?token={TOKEN}"
        self._process: Forked | None = None

    def _serve(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port))
        app = make_app(Labelling(self._project), self._project, TOKEN)
        make_server(app, LIMITS).run(sockets=[listener])

    def start(self) -> None:
        """Waits for the port: a second attempt to open the page would come while it still asks about the first."""
        self._process = forked(self._serve, self._logs)
        for _ in range(NUM_LOOKS):
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)
        raise AssertionError(self._process.end().said)

    def kill_at(self, seconds: float, meanwhile: Callable[[], object]) -> None:
        """Kills it at that moment of what is done meanwhile."""
        assert self._process is not None
        process, self._process = self._process, None
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        meanwhile()
        timer.join()
        ended = process.end()
        assert ended.was_killed, ended.said

    def __enter__(self) -> "Killed":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it before the browser is closed, whose pipes it holds open as well."""
        if self._process is not None:
            self.kill_at(0, lambda: None)


def ids_in(project: Path) -> list[str]:
    """The ids of the requests in the journal, in the order of storing."""
    with sqlite3.connect(project / JOURNAL) as opened:
        return [row[0] for row in opened.execute("SELECT client_id FROM entries WHERE kind != 'look' ORDER BY id")]


class Reader:
    """Labels by a script of keys and lassos, and remembers what the page said of each label."""

    def __init__(self, page: Any, draws: random.Random) -> None:
        self._page, self._draws = page, draws
        self.sent: list[tuple[str, str]] = []
        """Path and id of each request, in the order of the keys."""
        self.shown: list[str] = []
        """Ids of the labels that the page showed as stored."""
        self.num_lassos = 0

    def open(self, url: str) -> None:
        self._page.goto(url)
        until(self._page, "overview && document.body.dataset.started")
        self._page.evaluate(_NOTE)

    def collect(self) -> None:
        """Takes over what the page has noted; again after a reload it notes from the start."""
        sent, shown = self._page.evaluate("[sent.splice(0), shown.splice(0)]")
        self.sent += map(tuple, sent)
        self.shown += shown

    def keys(self, number: int = 8) -> None:
        for _ in range(number):
            self._page.keyboard.press(self._draws.choice(["1", "2", "3", "x", "?", "1", "2", "3", "u"]))
            self._page.wait_for_timeout(self._draws.choice([0, 10, 40]))

    def lasso(self) -> None:
        """On the map, which is open."""
        page = self._page
        cell = self._draws.choice(page.evaluate("[...points.test.keys()].filter((cell) => !points.test[cell])"))
        x, y = place_on_map(page, cell)
        lasso_around(page, x - 12, y - 12, x + 12, y + 12)
        self.num_lassos += bool(page.evaluate("selection.length"))
        page.keyboard.press(self._draws.choice("123"))
        page.keyboard.press("c")


def test_every_label_shown_as_stored_outlives_thirty_kills_of_the_server_and_no_other_is_lost(tmp_path: Path):
    project, draws = make_project(tmp_path, groups=100, each=20), random.Random(SEED)
    prepare()
    with chromium() as browser, Killed(project, tmp_path / "logs") as server:
        server.start()
        page = browser.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        reader = Reader(page, draws)
        reader.open(server.url)
        for number in range(NUM_KILLS):
            until(page, "!outbox.length && trail.length > 20")
            has_lasso = number % 3 == 1
            if has_lasso:
                show_map(page)
            steps = [reader.lasso, reader.keys] if has_lasso else [reader.keys]
            server.kill_at(draws.uniform(0, WITHIN_SECONDS), lambda steps=steps: [step() for step in steps])
            reader.collect()
            assert set(reader.shown) <= set(ids_in(project)), f"kill {number}, seed {SEED}"
            if number % 5 == 4:
                reader.keys(3)  # while nobody answers
                until(page, "outbox[0]?.why && $('outbox').innerText.includes('NOT stored')")
                reader.collect()
                server.start()
                reader.open(server.url)
            else:
                server.start()
        until(page, "!outbox.length")
        reader.collect()
    stored = ids_in(project)
    given = [client_id for path, client_id in reader.sent if path == "v1/labels"]
    assert len(given) > 5 * NUM_KILLS
    assert reader.num_lassos > NUM_KILLS // 4
    assert set(reader.shown) <= set(given) <= set(stored)
    assert stored == [client_id for _, client_id in reader.sent if client_id in set(stored)]  # each once, in this order
    assert Labelling(project).last_entry >= len(stored)
