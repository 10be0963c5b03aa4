"""The command cache: what is listed, what is cleared, and what is refused."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from cytolora.cli.app import main
from cytolora.cli.cache_options import VARIABLE, apply_limit, parse_size
from cytolora.core.cache_folder import DEFAULT_LIMIT, CachedFiles, limit_of
from cytolora.core.checksum import add_checksum
from cytolora.core.shards import ShardStore
from cytolora.errors import ConfigError


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code if isinstance(ended.value.code, int) else 1


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder of runs with two evaluations, an old drawing and a shard in its cache."""
    run = tmp_path / "runs" / "herlev_nano_linear"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    cache = tmp_path / "runs" / ".cache"
    for number in range(2):
        CachedFiles(cache / "intervals").keep(f"{number:016x}.json", b"{}")
    drawing = f"{'a' * 64}/drawing.svg"
    CachedFiles(cache / "figures").keep(drawing, b"<svg>")
    long_ago = time.time() - 40 * 86_400
    os.utime(cache / "figures" / drawing, (long_ago, long_ago))
    ShardStore(cache / "features", key="k").add({"image": bytes(100)})
    return tmp_path / "runs"


def listed(cache: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    capsys.readouterr()
    assert command("cache", "ls", cache, "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    return {row["kind"]: row["num_entries"] for row in plain["kinds"] if row["num_entries"]}


def test_kinds_are_listed_with_entries_size_last_use_and_limit(store: Path, capsys: pytest.CaptureFixture[str]):
    assert command("cache", "ls", store / ".cache", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["limit_bytes"] == DEFAULT_LIMIT
    assert {row["kind"]: row["num_entries"] for row in plain["kinds"]} == {
        **{"pixels": 0, "features": 1, "adapters": 0, "text": 0, "intervals": 2, "metadata": 0, "figures": 1},
        "archives": 0,
    }
    sizes = {row["kind"]: row["num_bytes"] for row in plain["kinds"]}
    files = [path for path in (store / ".cache").rglob("[!.]*") if path.is_file()]
    assert plain["num_bytes"] == sum(sizes.values()) == sum(path.stat().st_size for path in files)
    (drawn,) = [row for row in plain["kinds"] if row["kind"] == "figures"]
    assert drawn["last_used"].startswith(time.strftime("%Y-%m-%d", time.gmtime(time.time() - 40 * 86_400)))
    assert command("cache", "ls", store / ".cache") == 0
    assert "intervals" in capsys.readouterr().out


def test_what_is_old_or_of_a_kind_is_cleared_and_nothing_else(store: Path, capsys: pytest.CaptureFixture[str]):
    cache = store / ".cache"
    assert command("cache", "clear", cache, "--older-than", "30d", "--dry-run") == 0
    assert listed(cache, capsys) == {"features": 1, "intervals": 2, "figures": 1}
    assert command("cache", "clear", cache, "--older-than", "30d") == 0
    assert listed(cache, capsys) == {"features": 1, "intervals": 2}
    assert command("cache", "clear", cache, "--kind", "intervals", "text") == 0
    assert listed(cache, capsys) == {"features": 1}
    (cache / "intervals" / "notes.txt").write_text("mine")
    assert command("cache", "clear", cache) == 0
    assert listed(cache, capsys) == {}
    assert (cache / "intervals" / "notes.txt").read_text() == "mine"
    assert (store / "herlev_nano_linear" / "metrics.json").read_text() == "{}"


@pytest.mark.parametrize("verb", ["ls", "clear"])
def test_a_folder_that_is_no_cache_is_refused(verb: str, store: Path, capsys: pytest.CaptureFixture[str]):
    for folder, word in [
        (store, f"Its cache is {store / '.cache'}"),
        (store / "herlev_nano_linear", "is no cache"),
        (store / "herlev_nano_linear" / "metrics.json", "is no folder"),
        (store / "nowhere", "is no folder"),
        (store / ".cache" / "intervals", "is no cache"),
        (store.parent, "is no cache"),
    ]:
        assert command("cache", verb, folder) == 2
        assert word in capsys.readouterr().err
    assert listed(store / ".cache", capsys) == {"features": 1, "intervals": 2, "figures": 1}


@pytest.mark.parametrize(
    "arguments", [("--kind", "pictures"), ("--older-than", "soon"), ("--older-than", "30"), ("--older-than", "-1d")]
)
def test_options_that_make_no_sense_clear_nothing(arguments, store: Path, capsys: pytest.CaptureFixture[str]):
    assert command("cache", "clear", store / ".cache", *arguments) == 2
    assert listed(store / ".cache", capsys) == {"features": 1, "intervals": 2, "figures": 1}


def test_a_limit_is_kept_and_the_rest_removed_at_once(store: Path, capsys: pytest.CaptureFixture[str]):
    assert command("cache", "limit", "300B", store / ".cache") == 0
    assert limit_of(store / ".cache") == 300
    assert "figures" not in listed(store / ".cache", capsys)
    assert command("cache", "limit", "plenty", store / ".cache") == 2
    assert limit_of(store / ".cache") == 300


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("20GB", 20 * 10**9), ("1.5 tb", 15 * 10**11), ("64MiB", 64 * 2**20), ("7", 7), ("500k", 500_000), ("0", 0),
     ("none", None)],
)  # fmt: skip
def test_sizes_are_read(text: str, num_bytes: int | None):
    assert parse_size(text, "--cache-limit") == num_bytes


@pytest.mark.parametrize("text", ["", "much", "-1GB", "GB", "1,5GB", "1e9", "10 parsecs", "nan", "٣GB..", "1GBB"])
def test_what_is_no_size_is_refused_by_the_options_name(text: str):
    with pytest.raises(ConfigError, match="--cache-limit expects a size such as 20GB"):
        parse_size(text, "--cache-limit")


def test_the_environment_gives_a_limit_and_the_option_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "3GB")
    apply_limit(tmp_path / "cache", None)
    assert limit_of(tmp_path / "cache") == 3 * 10**9
    apply_limit(tmp_path / "cache", "2GB")
    assert limit_of(tmp_path / "cache") == 2 * 10**9
    monkeypatch.setenv(VARIABLE, "a lot")
    with pytest.raises(ConfigError, match=f"{VARIABLE} expects a size"):
        apply_limit(tmp_path / "cache", None)


@pytest.mark.parametrize("verb", ["ls", "clear"])
def test_no_command_touches_a_folder_of_the_users_with_files_named_like_those_of_a_cache(verb: str, tmp_path: Path):
    mine = ["limit", f"metadata/{'d' * 32}.json", "archives/2024013120240131/scan.tif"]
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"50 km/h")
    assert command("cache", verb, tmp_path) == 2
    assert all((tmp_path / name).read_bytes() == b"50 km/h" for name in mine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "limit", "metadata"]


def test_the_users_own_cache_of_an_earlier_version_is_listed_and_cleared_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("cytolora.cli.cache.default_cache", lambda: tmp_path)
    (tmp_path / "archives" / ("0" * 16)).mkdir(parents=True)
    (tmp_path / "archives" / ("0" * 16) / "a.png").write_bytes(bytes(100))
    assert command("cache", "clear") == 0
    assert "Removed 1 entry (100 bytes)" in " ".join(capsys.readouterr().out.split())
    assert list((tmp_path / "archives").iterdir()) == []


def entered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Returns the list of cache folders that are walked through from now on."""
    walked: list[Path] = []
    monkeypatch.setattr("cytolora.core.cache_folder.bound", walked.append)
    return walked


def test_a_limit_that_a_cache_has_already_is_not_written_again_and_nothing_is_walked_through(
    store: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = store / ".cache"
    walked = entered(cache, monkeypatch)
    for text in ("3GB", "3GB", "3000MB", "none", "none", "50GB"):
        apply_limit(cache, text)
    assert walked == [cache] * 3


READ_ONLY = [errno.EROFS, errno.EACCES, errno.EPERM]


def refuse_writing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("cytolora.core.cache_folder.write_bytes", refuse)


@pytest.mark.parametrize("number", READ_ONLY)
def test_the_limit_of_the_environment_is_left_out_where_a_cache_may_only_be_read(
    number: int, store: Path, monkeypatch: pytest.MonkeyPatch
):
    refuse_writing(number, monkeypatch)
    monkeypatch.setenv(VARIABLE, "3GB")
    apply_limit(store / ".cache", None)
    assert limit_of(store / ".cache") == DEFAULT_LIMIT
    with pytest.raises(ConfigError, match="Leave --cache-limit out"):
        apply_limit(store / ".cache", "3GB")


@pytest.mark.parametrize("number", READ_ONLY)
def test_a_limit_that_cannot_be_kept_names_the_folder_and_no_option_that_was_not_given(
    number: int, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    refuse_writing(number, monkeypatch)
    assert command("cache", "limit", "1GB", store / ".cache") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert os.strerror(number) in told
    assert "Make it writable" in told
    assert "--cache-limit" not in told
    assert command("cache", "limit", "much", store / ".cache") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "expects a size" in told
    assert "--cache-limit" not in told


def test_the_command_limit_removes_what_is_beyond_it_also_where_the_limit_is_the_same(
    store: Path, capsys: pytest.CaptureFixture[str]
):
    assert command("cache", "limit", "2kB", store / ".cache") == 0
    for number in range(10, 40):
        kept = add_checksum(bytes(200), key=f"intervals/{number:016x}.json")
        (store / ".cache" / "intervals" / f"{number:016x}.json").write_bytes(kept)
    assert command("cache", "limit", "2kB", store / ".cache") == 0
    assert sum(listed(store / ".cache", capsys).values()) < 10


def test_a_kind_that_is_a_link_is_named_and_not_counted(store: Path, capsys: pytest.CaptureFixture[str]):
    cache, elsewhere = store / ".cache", store.parent / "elsewhere"
    for kind in ("pixels", "intervals"):
        if (cache / kind).exists():
            shutil.rmtree(cache / kind)
        elsewhere.mkdir(exist_ok=True)
        (cache / kind).symlink_to(elsewhere)
    assert command("cache", "ls", cache) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert told == "pixels, intervals are links: what they lead to is used, but neither counted, bounded nor cleared."
    assert command("cache", "ls", cache, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["kinds"][4]["num_entries"] == 0
    (cache / "pixels").unlink()
    assert command("cache", "ls", cache) == 0
    assert "intervals is a link: what it leads to is used" in " ".join(capsys.readouterr().err.split())
    (cache / "intervals").unlink()
    assert command("cache", "ls", cache) == 0
    assert capsys.readouterr().err == ""
