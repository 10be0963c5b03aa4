"""Publishing: a repository on a hub of loopback, made and opened by the hub's own client, and bundles in folders."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from hub_repositories import Hub, hub_repositories
from huggingface_hub import metadata_load
from huggingface_hub.repocard_data import ModelCardData
from small_bundle import write_small_bundle

import cytolora
from cytolora.classifier.bundle.files import CARD, CONTENTS, read_bundle, write_bundle
from cytolora.classifier.bundle.hub import transport_errors
from cytolora.classifier.bundle.manifest import LocalFile
from cytolora.cli.app import main
from cytolora.errors import BundleError, ConfigError
from cytolora.models.backbones.registry import BACKBONES

NAME = "lab/pap"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client talks to, with a token, and an empty cache."""
    with hub_repositories() as found:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.url)
        template = f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_any")
        yield found


def cli(*arguments: str | Path) -> int | None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code  # pyright: ignore[reportReturnType]


@pytest.mark.slow
def test_what_was_published_is_loaded_by_its_address_and_predicts_the_same(hub: Hub, fitted: Path, lab_cells: Path):
    address = cytolora.publish(fitted, f"hf:{NAME}")
    commit, tree = hub.repositories[NAME][-1]
    assert address == f"hf:{NAME}@{commit}"
    contents, files = read_bundle(fitted)
    assert tree.keys() == {*files, CONTENTS, "README.md", ".gitattributes"}
    assert {name: tree[name] for name in files} == files
    for at in (address, f"hf:{NAME}", f"hf://{NAME}"):
        opened = cytolora.load(at)
        assert opened.name == at
        ours, theirs = (np.asarray(one.predict_proba(lab_cells)) for one in (cytolora.load(fitted), opened))
        assert np.array_equal(ours, theirs)
    assert replace(opened.contents, backbone=contents.backbone) == contents


def test_commands_take_a_bundle_by_its_address(hub: Hub, fitted: Path, lab_cells: Path, tmp_path: Path):
    assert not cli("publish", fitted, "--to", f"hf:{NAME}")
    assert not cli("predict", f"hf:{NAME}", lab_cells, "--out", tmp_path / "hub.csv", "--quiet")
    assert not cli("predict", fitted, lab_cells, "--out", tmp_path / "disk.csv", "--quiet")
    assert (tmp_path / "hub.csv").read_text() == (tmp_path / "disk.csv").read_text()


def test_a_byte_that_changed_on_the_hub_is_refused(hub: Hub, fitted: Path):
    cytolora.publish(fitted, f"hf:{NAME}")
    hub.files(NAME)["head.safetensors"] += b"x"
    with pytest.raises(BundleError, match=r"head\.safetensors is not as it was written"):
        cytolora.load(f"hf:{NAME}")


def test_nothing_of_an_older_bundle_stays_in_the_repository(hub: Hub, fitted: Path, tmp_path: Path):
    lora = with_card_of(fitted, write_small_bundle(tmp_path / "lora", "lora"))
    cytolora.publish(lora, f"hf:{NAME}")
    assert "adapter/adapter_config.json" in hub.files(NAME)
    cytolora.publish(fitted, f"hf:{NAME}")
    assert not [name for name in hub.files(NAME) if name.startswith("adapter/")]
    assert cytolora.load(f"hf:{NAME}").contents.method == "linear"


def with_card_of(other: Path, bundle: Path) -> Path:
    (bundle / CARD).write_text((other / CARD).read_text(encoding="utf-8"), encoding="utf-8")
    return bundle


def test_no_path_of_this_machine_is_published(hub: Hub, fitted: Path, tmp_path: Path):
    contents, files = read_bundle(fitted)
    here = replace(contents.backbone, local_file=LocalFile(path=str(tmp_path / "secret"), num_bytes=1))
    write_bundle(tmp_path / "model", replace(contents, backbone=here), files, (fitted / CARD).read_text())
    assert b"secret" in (tmp_path / "model" / CONTENTS).read_bytes()
    cytolora.publish(tmp_path / "model", f"hf:{NAME}")
    assert not [name for name, content in hub.files(NAME).items() if b"secret" in content or b"local_file" in content]


def test_the_hub_reads_base_model_relation_licence_and_results_from_the_card(fitted: Path, tmp_path: Path):
    published = BACKBONES.get("clip-vit-b16")
    contents, files = read_bundle(fitted)
    backbone = replace(contents.backbone, spec=replace(contents.backbone.spec, hub=published.hub))
    card = (
        (fitted / CARD)
        .read_text(encoding="utf-8")
        .replace("license:", "base_model: openai/clip-vit-base-patch16\nlicense:", 1)
    )
    write_bundle(
        tmp_path / "model",
        replace(contents, backbone=backbone, training={**contents.training, "dataset": "herlev"}),
        files,
        card,
    )
    cytolora.publish(tmp_path / "model", tmp_path / "repository")
    head = metadata_load(tmp_path / "repository" / "README.md")
    assert head is not None
    assert head["base_model_relation"] == "adapter"
    assert head["tags"][-1] == "herlev"
    read = ModelCardData(**{str(key): value for key, value in head.items()})
    assert (read.license, read.base_model, read.pipeline_tag) == (
        "apache-2.0",
        "openai/clip-vit-base-patch16",
        "image-classification",
    )
    results = {one.metric_type: one.metric_value for one in read.eval_results or []}
    assert results["accuracy"] == pytest.approx(contents.metrics["test"]["accuracy"], abs=1e-4)


def test_a_folder_is_a_bundle_too_and_is_replaced_by_the_next(fitted: Path, tmp_path: Path):
    out = tmp_path / "repository"
    assert cytolora.publish(fitted, out) == str(out)
    assert cytolora.load(out).classes == cytolora.load(fitted).classes
    assert cytolora.publish(fitted, out) == str(out)
    with pytest.raises(ConfigError, match="is the bundle itself"):
        cytolora.publish(out, out)
    (out / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match=r"holds mine\.txt, which would be lost"):
        cytolora.publish(fitted, out)
    assert (out / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("licence", "redistributable", "message"),
    [("CC-BY-NC-ND-4.0", False, "forbids to hand on"), ("DINOv3 License", None, "--licence-permits")],
)
def test_what_the_licence_of_the_backbone_forbids_is_not_published(
    licence: str, redistributable: bool | None, message: str, hub: Hub, fitted: Path, tmp_path: Path
):
    contents, files = read_bundle(fitted)
    spec = replace(contents.backbone.spec, licence=licence, redistributable=redistributable)
    card = (fitted / CARD).read_text(encoding="utf-8")
    write_bundle(tmp_path / "model", replace(contents, backbone=replace(contents.backbone, spec=spec)), files, card)
    for to in (f"hf:{NAME}", tmp_path / "repository"):
        with pytest.raises(ConfigError, match=message):
            cytolora.publish(tmp_path / "model", to)
    assert not hub.repositories
    assert not (tmp_path / "repository").exists()
    if redistributable is None:
        cytolora.publish(tmp_path / "model", tmp_path / "repository", licence_permits=True)


def test_a_token_without_rights_is_one_line_and_nothing_is_published(
    hub: Hub, fitted: Path, capsys: pytest.CaptureFixture[str]
):
    hub.may_write = False
    assert cli("publish", fitted, "--to", f"hf:{NAME}") == 2
    said = capsys.readouterr().err
    assert "HTTP 403" in said
    assert "HF_TOKEN" in said
    assert "Traceback" not in said
    assert not hub.repositories


def test_a_repository_of_something_else_is_left_as_it_was(hub: Hub, fitted: Path):
    hub.repositories[NAME] = [("1" * 40, {"model.safetensors": b"theirs"})]
    with pytest.raises(ConfigError, match=r"holds 'model\.safetensors' and no bundle"):
        cytolora.publish(fitted, f"hf:{NAME}")
    assert hub.files(NAME) == {"model.safetensors": b"theirs"}


def test_a_repository_that_is_new_is_private_on_request(hub: Hub, fitted: Path):
    cytolora.publish(fitted, f"hf:{NAME}", private=True)
    assert hub.private == {NAME}


@pytest.mark.parametrize("to", ["hf:", "hf:lab", "hf:a/b/c", "hf:lab/pap@main"])
def test_an_address_that_is_none_is_one_line(to: str, fitted: Path, capsys: pytest.CaptureFixture[str]):
    assert cli("publish", fitted, "--to", to) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) <= 3


def test_a_hub_that_does_not_answer_is_one_line(fitted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    with pytest.raises(ConfigError, match="cannot be reached"):
        cytolora.publish(fitted, f"hf:{NAME}")


def test_the_links_of_the_hubs_cache_are_followed_and_no_others(hub: Hub, fitted: Path, tmp_path: Path):
    cytolora.publish(fitted, f"hf:{NAME}")
    folder = Path(huggingface_hub.snapshot_download(NAME, endpoint=hub.url, cache_dir=tmp_path / "cache"))
    assert (folder / "head.safetensors").is_symlink()
    assert cytolora.load(folder).classes == cytolora.load(fitted).classes
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((folder / "head.safetensors").read_bytes())
    (folder / "head.safetensors").unlink()
    (folder / "head.safetensors").symlink_to(elsewhere)
    with pytest.raises(BundleError, match="symbolic link"):
        cytolora.load(folder)


def test_the_card_is_that_of_the_bundle_and_no_readme_deeper_down(fitted: Path, tmp_path: Path):
    contents, files = read_bundle(fitted)
    card = (fitted / CARD).read_text(encoding="utf-8")
    write_bundle(tmp_path / "model.zip", contents, {**files, "adapter/README.md": b"another"}, card)
    cytolora.publish(tmp_path / "model.zip", tmp_path / "repository")
    published = (tmp_path / "repository" / "README.md").read_text(encoding="utf-8")
    assert published.partition("\n---\n")[2] == card.partition("\n---\n")[2]


def test_what_is_to_be_private_is_not_pushed_where_everybody_reads(hub: Hub, fitted: Path):
    cytolora.publish(fitted, f"hf:{NAME}")
    before = list(hub.repositories[NAME])
    with pytest.raises(ConfigError, match="is public: --private is for one that is new"):
        cytolora.publish(fitted, f"hf:{NAME}", private=True)
    assert hub.repositories[NAME] == before


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(hub: Hub, fitted: Path):
    hub.pushed_between = {"notes.txt": b"theirs"}
    with pytest.raises(ConfigError, match="HTTP 412"):
        cytolora.publish(fitted, f"hf:{NAME}")
    assert hub.files(NAME)["notes.txt"] == b"theirs"
    assert CONTENTS not in hub.files(NAME)


def test_a_card_that_the_hub_refuses_is_one_line(hub: Hub, fitted: Path):
    hub.wrong_cards = ('"license" must be one of those known',)
    with pytest.raises(ConfigError, match=r'was not published: .*"license" must be one of'):
        cytolora.publish(fitted, f"hf:{NAME}")
    assert CONTENTS not in hub.files(NAME)


def test_a_card_is_read_as_editors_save_it_and_one_that_cannot_be_is_one_line(fitted: Path, tmp_path: Path):
    contents, files = read_bundle(fitted)
    card, model = (fitted / CARD).read_text(encoding="utf-8"), tmp_path / "model"
    write_bundle(model, contents, files, card)
    cytolora.publish(model, tmp_path / "repository")
    published = (tmp_path / "repository" / "README.md").read_bytes()
    (model / CARD).write_bytes(b"\xef\xbb\xbf" + card.replace("\n", "\r\n").encode())
    cytolora.publish(model, tmp_path / "repository")
    assert (tmp_path / "repository" / "README.md").read_bytes() == published
    (model / CARD).write_text(card.replace("tags:", "tags: mine\nothers:", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tags in the head .* are 'mine', expected a list"):
        cytolora.publish(model, tmp_path / "repository")
    (model / CARD).write_bytes(card.encode("utf-16"))
    with pytest.raises(BundleError, match="is not UTF-8 text"):
        cytolora.publish(model, tmp_path / "repository")


def test_a_place_that_cannot_be_written_is_named_by_the_option_of_publish(fitted: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    for place in ("file", "file/below", "folder"):
        with pytest.raises(ConfigError, match="another --to"):
            cytolora.publish(fitted, tmp_path / place)
    with pytest.raises(ConfigError, match="is the bundle itself, or lies in it"):
        cytolora.publish(fitted, fitted / "repository")
    before = sorted(fitted.rglob("*"))
    with pytest.raises(ConfigError, match="is the bundle itself"):
        cytolora.publish(fitted, fitted)
    for address in ("https://huggingface.co/a/b", "HF:a/b", "s3://x/y"):
        with pytest.raises(ConfigError, match="is an address"):
            cytolora.publish(fitted, address)
    assert sorted(fitted.rglob("*")) == before
    assert cytolora.load(fitted).classes


def test_a_licence_that_is_known_by_now_to_forbid_it_counts(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    contents, _ = read_bundle(fitted)
    today = replace(contents.backbone.spec, redistributable=False)
    monkeypatch.setattr("cytolora.classifier.publish.repository.BACKBONES", [today])
    with pytest.raises(ConfigError, match="forbids to hand on"):
        cytolora.publish(fitted, tmp_path / "repository", licence_permits=True)


def test_a_download_that_is_cut_is_one_line(hub: Hub, fitted: Path, monkeypatch: pytest.MonkeyPatch):
    def cut(*_: object, **__: object) -> None:
        raise transport_errors()[-1]("peer closed connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", cut)
    with pytest.raises(BundleError, match="Cannot fetch hf:lab/pap: peer closed connection"):
        cytolora.load(f"hf:{NAME}")


def test_nothing_is_fetched_of_a_repository_that_is_no_bundle(hub: Hub):
    hub.repositories[NAME] = [("1" * 40, {"model.safetensors": b"many gigabytes"})]
    with pytest.raises(BundleError, match=r"Cannot fetch hf:lab/pap: it is no bundle, for it has no bundle\.json"):
        cytolora.load(f"hf:{NAME}")
    assert not [one for one in hub.requests if "model.safetensors" in one]
