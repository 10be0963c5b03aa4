"""Fetching from an imitation of Zenodo on loopback, which can lie, break off and be gone."""

import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from cytolora.cli.app import main
from cytolora.data.datasets import DATASETS
from cytolora.data.download import RemoteFile, fetch, remote_files
from cytolora.data.readers.spec import ZenodoRecord
from cytolora.errors import ConfigError, DataError

RECORD = ZenodoRecord(record="42")
FILES = {"train.csv": b"image_name\n", "train one.zip": b"PK" * 40_000, "val.zip": b"PK" * 50_000}


class Imitation(ThreadingHTTPServer):
    """What Zenodo answers, and what it was asked."""

    files: dict[str, bytes]
    cut: set[str]
    """Files that break off in the middle."""
    entries: Any
    """Replaces the list of files."""
    asked: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    @property
    def imitation(self) -> Imitation:
        assert isinstance(self.server, Imitation)
        return self.server

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.imitation.asked.append(path)
        name = path.rpartition("/")[2]
        if path.startswith("/api/records/"):
            entries = self.imitation.entries
            if entries is None:
                entries = [
                    {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
                    for name, content in FILES.items()
                ]
            self._send(entries if isinstance(entries, bytes) else json.dumps({"files": entries}).encode())
        elif name in self.imitation.files:
            self._send(self.imitation.files[name], cut=name in self.imitation.cut)
        else:
            self.send_error(404)

    def _send(self, content: bytes, *, cut: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def zenodo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Imitation]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Imitation(("127.0.0.1", 0), _Answer)
    server.files, server.cut, server.entries, server.asked = dict(FILES), set(), None, []
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _fetch_all(zenodo: Imitation, folder: Path) -> None:
    for file in remote_files(RECORD, mirror=zenodo.address):
        fetch(RECORD, file, folder, mirror=zenodo.address)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_file_of_a_record_is_fetched_and_checked(zenodo: Imitation, tmp_path: Path):
    told: list[tuple[int, int]] = []
    for file in remote_files(RECORD, mirror=zenodo.address):
        fetch(RECORD, file, tmp_path, mirror=zenodo.address, on_bytes=lambda done, total: told.append((done, total)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == FILES
    assert told[-1] == (100_000, 100_000)


def test_whole_files_are_not_fetched_again(zenodo: Imitation, tmp_path: Path):
    _fetch_all(zenodo, tmp_path)
    zenodo.asked.clear()
    _fetch_all(zenodo, tmp_path)
    assert zenodo.asked == ["/api/records/42"]


def test_whole_files_are_kept_when_the_next_one_breaks_off(zenodo: Imitation, tmp_path: Path):
    zenodo.cut = {"train one.zip"}
    with pytest.raises(DataError, match=r"Cannot fetch .*train%20one.zip.* Files that are whole are kept; try again"):
        _fetch_all(zenodo, tmp_path)
    assert _names(tmp_path) == {"train.csv"}
    zenodo.cut, zenodo.asked = set(), []
    _fetch_all(zenodo, tmp_path)
    assert _names(tmp_path) == set(FILES)
    assert not any(path.endswith("train.csv") for path in zenodo.asked)


def test_an_older_damaged_file_is_replaced(zenodo: Imitation, tmp_path: Path):
    (tmp_path / "val.zip").write_bytes(b"half")
    _fetch_all(zenodo, tmp_path)
    assert (tmp_path / "val.zip").read_bytes() == FILES["val.zip"]


def test_a_file_with_another_checksum_is_refused_and_not_kept(zenodo: Imitation, tmp_path: Path):
    zenodo.files["val.zip"] = b"something else"
    with pytest.raises(DataError, match=r"is not the published file: its MD5 is not [0-9a-f]{32}. Nothing was kept"):
        _fetch_all(zenodo, tmp_path)
    assert _names(tmp_path) == set(FILES) - {"val.zip"}


def test_published_checksums_need_no_record(zenodo: Imitation):
    record = ZenodoRecord(record="7", md5={"a.npz": "0" * 32, "b.npz": "1" * 32}, preferred=("b.npz",))
    assert remote_files(record, mirror=zenodo.address) == [RemoteFile(name="b.npz", md5="1" * 32, num_bytes=None)]
    assert [file.name for file in remote_files(record, ["a.npz"], mirror=zenodo.address)] == ["a.npz"]
    assert zenodo.asked == []
    with pytest.raises(ConfigError, match=r"Unknown file of Zenodo record 7 'c.npz'. .*Known: a.npz, b.npz"):
        remote_files(record, ["c.npz"], mirror=zenodo.address)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"key": "../evil", "checksum": "md5:" + "0" * 32}], "which is no plain file name; nothing was fetched"),
        ([{"key": "a/b", "checksum": "md5:" + "0" * 32}], "which is no plain file name"),
        ([{"key": "a", "checksum": "crc:1"}], "gives no MD5 of a, but 'crc:1'"),
        ([{"name": "a"}], "did not answer with a record of Zenodo"),
        (["a"], "did not answer with a record of Zenodo"),
        (b"<html>maintenance</html>", "did not answer with a record of Zenodo"),
        (b"[]", "did not answer with a record of Zenodo"),
    ],
)
def test_a_strange_record_is_refused(zenodo: Imitation, entries: object, message: str):
    zenodo.entries = entries
    with pytest.raises(DataError, match=message):
        remote_files(RECORD, mirror=zenodo.address)


def test_a_missing_file_and_a_server_that_is_gone_are_named(zenodo: Imitation, tmp_path: Path):
    del zenodo.files["train.csv"]
    with pytest.raises(DataError, match="the server answered 404 Not Found"):
        _fetch_all(zenodo, tmp_path)
    with pytest.raises(DataError, match=r"ConnectionError. Is there a network"):
        remote_files(RECORD, mirror="http://127.0.0.1:1")


def test_a_file_larger_than_the_free_disk_is_not_begun(zenodo: Imitation, tmp_path: Path):
    file = RemoteFile(name="val.zip", md5="0" * 32, num_bytes=10**18)
    with pytest.raises(DataError, match="more than are free"):
        fetch(RECORD, file, tmp_path, mirror=zenodo.address)
    assert zenodo.asked == []


def test_the_command_fetches_hicervix(zenodo: Imitation, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "download", "hicervix", "--to", str(tmp_path), "--mirror", zenodo.address])
    assert stopped.value.code == 0
    assert _names(tmp_path) == set(FILES)
    assert "/api/records/11087263" in zenodo.asked
    printed = capsys.readouterr()
    assert "cytolora check" in printed.out
    assert not {"━", "\r", "\x1b"} & set(printed.err)
    assert all(re.search(rf"^{name}: (.+) of \1 \(100 %\) in (?:< )?[\d.]+ s$", printed.err, re.M) for name in FILES)


@pytest.mark.parametrize("name", [spec.name for spec in DATASETS if spec.page and spec.zenodo is None])
def test_for_other_datasets_the_command_says_where_to_click(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "download", name, "--to", str(tmp_path / "it")])
    printed, spec = capsys.readouterr().out, DATASETS.get(name)
    assert stopped.value.code == 0
    assert spec.page in printed
    assert spec.how_to_get
    assert spec.how_to_get in printed
    assert not (tmp_path / "it").exists()


def test_for_data_of_ones_own_the_command_refuses(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "download", "folder", "--to", "x"])
    assert stopped.value.code == 2
    assert "'folder' has no download" in capsys.readouterr().err


def test_a_server_that_sends_more_than_a_file_has_is_left(zenodo: Imitation, tmp_path: Path):
    files = remote_files(RECORD, ["val.zip"], mirror=zenodo.address)
    zenodo.files["val.zip"] = bytes(5_000_000)
    with pytest.raises(DataError, match=r"val.zip has 100,000 bytes, and the server sends more. Nothing was kept"):
        fetch(RECORD, files[0], tmp_path, mirror=zenodo.address)
    assert not _names(tmp_path)


@pytest.mark.parametrize("answer", [b" " * (17 << 20), b"[" * 2000, b'{"files": [' + b"9" * 5000 + b"]}"])
def test_an_answer_that_is_no_record_is_refused_whatever_its_size(zenodo: Imitation, answer: bytes):
    zenodo.entries = answer
    with pytest.raises(DataError, match="did not answer with a record of Zenodo"):
        remote_files(RECORD, mirror=zenodo.address)
