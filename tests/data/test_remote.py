"""Files behind URLs: listed as on a disk, read within bounds, and one line where that is not possible."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cytolora.classifier.inference.image_sources import find_images, left_out
from cytolora.cli.app import main
from cytolora.data import remote
from cytolora.data.imaging.pixels import DecodeError
from cytolora.data.remote import walk_url
from cytolora.errors import ConfigError, DataError, EngineError


@pytest.fixture
def bucket(drawn_cells: Path) -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    for number, path in enumerate(sorted(drawn_cells.rglob("*.png"))[:4]):
        fs.pipe(f"/bucket/cells/{'ab'[number % 2]}/{number}.png", path.read_bytes())
    fs.pipe("/bucket/cells/.hidden.png", b"")
    fs.pipe("/bucket/cells/notes.txt", b"text")
    fs.pipe("/bucket/cells/b/broken.png", b"no image")
    yield fs
    fs.rm("/bucket", recursive=True)


def test_images_are_listed_as_on_a_disk(bucket: Any):
    names = [source.name for source in find_images("memory://bucket/cells")]
    ends = ["a/0.png", "a/2.png", "b/1.png", "b/3.png", "b/broken.png"]
    assert names == [f"memory:///bucket/cells/{end}" for end in ends]
    assert [source.name for source in find_images("memory://bucket/cells/a/*.png")] == names[:2]
    assert [source.name for source in find_images("memory://bucket/cells/a/0.png")] == names[:1]
    assert [one.text for one in left_out("memory://bucket/cells")] == ["1 file that is no image is not read: 1 .txt."]


def test_an_image_is_read_and_one_that_cannot_be_says_why(bucket: Any):
    *good, broken = find_images("memory://bucket/cells")
    assert good[0].decoded().pixels.ndim == 3
    with pytest.raises(DecodeError, match=r"memory:///bucket/cells/b/broken\.png"):
        broken.decoded()
    bucket.rm("/bucket/cells/a/0.png")
    with pytest.raises(DecodeError, match=r"a/0\.png"):
        good[0].decoded()


def test_no_more_is_read_than_is_allowed(bucket: Any):
    file, _ = next(walk_url("memory://bucket/cells/a"))
    with pytest.raises(OSError, match="more than 10"):
        file.read(10)


def test_a_connection_that_is_lost_is_no_fault_of_the_image(bucket: Any, monkeypatch: pytest.MonkeyPatch):
    good, *_ = find_images("memory://bucket/cells")

    def lost(*_: Any) -> bytes:
        raise RuntimeError("No route to host")

    monkeypatch.setattr(type(bucket.open("/bucket/cells/a/0.png")), "read", lost)
    with pytest.raises(EngineError, match=r"a/0\.png cannot be reached any more: No route to host"):
        good.decoded()


def test_another_content_has_another_identity(bucket: Any):
    before = [source.identity for source in find_images("memory://bucket/cells/a")]
    bucket.pipe("/bucket/cells/a/0.png", b"other")
    after = [source.identity for source in find_images("memory://bucket/cells/a")]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]


def test_what_is_not_there_or_not_read_is_told():
    with pytest.raises(DataError, match="memory://nowhere does not exist"):
        list(walk_url("memory://nowhere"))
    with pytest.raises(ConfigError, match=r"http:// are not read; expected one of file://, memory://, s3://, gs://"):
        list(walk_url("http://example.org/cells"))


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"s3:// needs s3fs, which is not installed\. Install the extra `cloud`"):
        list(walk_url("s3://bucket/cells"))


def test_a_bucket_that_cannot_be_reached_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from small_bundle import write_small_bundle

    class Unreachable:
        def __init__(self, **_: Any) -> None: ...

        def _strip_protocol(self, url: str) -> str:
            return url

        def isdir(self, path: str) -> bool:
            raise RuntimeError(f"No route to {path}\nas a driver says it")

    monkeypatch.setattr(remote, "file_system", lambda url: Unreachable())
    write_small_bundle(tmp_path / "bundle")
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(tmp_path / "bundle"), "s3://bucket/cells", "--out", str(tmp_path / "x.csv"), "--quiet"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert (ended.value.code, len(lines)) == (2, 1)
    assert "s3://bucket/cells cannot be reached: No route to s3://bucket/cells as a driver says it." in lines[0]
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:SECRET@bucket/cells",
        "s3://AKIA:SEC/RET@bucket/cells",
        "gs://user:SECRET@bucket/cells",
        "memory://SECRET@bucket/cells",
        "s3://bucket/cells/a.png?X-Amz-Signature=SECRET",
        "gs://bucket/a.png?alt=media&token=SECRET",
        "https://host/a.png?sig=SECRET",
    ],
)
def test_a_key_in_a_url_is_refused_and_never_repeated(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for place in (["--unlabelled", "--workers", "1"], []):
        with pytest.raises(SystemExit) as ended:
            main(["embed", url, *place, "--model", "nano", "--out", str(tmp_path / "out")])
        assert ended.value.code == 2
        told = capsys.readouterr()
        assert "key or a signature" in " ".join(told.err.split())
        assert "RET" not in told.err + told.out
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["memory://bucket/x?/group=3/*.png", "file:///a@b/c:d.png", "s3://arn:aws:s3:eu:1:x/y"])
def test_no_key_is_seen_where_there_is_none(url: str):
    remote.check_url(url)
