"""Options of a labelling project: a wrong one makes none, and one that would not act is refused, not ignored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelling_projects import CLASSES, make_project, write_cells

from cytolora.cli.app import main
from cytolora.errors import ConfigError, DataError, WeightsError
from cytolora.labelling.features import compute_features
from cytolora.labelling.project import FEATURES, FILE, read_description, read_project
from cytolora.labelling.session import Labelling, create_project
from cytolora.labelling.settled import absent_weights
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.offline_folder import keep


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settled") / "cells"
    write_cells(folder, groups=4, each=2)
    return folder


@pytest.mark.parametrize(("given", "error", "match"), [
    ({"model": "nanoo"}, ConfigError, "Unknown model 'nanoo'. Did you mean 'nano'"),
    ({"model": "uni", "weights": {"uni": "none.pt"}}, WeightsError, "none.pt"),
    ({"weights": {"uni": "none.pt"}}, ConfigError, "checkpoint of uni, and the model of the project is nano"),
    ({"weights": {"unii": "none.pt"}}, ConfigError, "Unknown model 'unii'"),
    ({"reader": "r" * 81}, ConfigError, "at most 80 characters, got 81"),
    ({"classes": ["NILM", "c" * 201]}, ConfigError, "at most 200 characters, got 201"),
])  # fmt: skip
def test_a_wrong_option_makes_no_project(cells: Path, tmp_path: Path, given: Any, error: type[Exception], match: str):
    with pytest.raises(error, match=match):
        create_project(cells, tmp_path / "p", **{"classes": CLASSES, **given})
    assert not (tmp_path / "p").exists()


def test_options_that_a_project_has_settled_are_refused_where_they_differ(cells: Path, tmp_path: Path):
    project = create_project(cells, tmp_path / "p", classes=CLASSES, test_share=0.5, seed=3)
    before = (project / FILE).read_bytes()
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"test_share": 0.25}, "made with --test-share 0.5, before its first label, and --test-share 0.25 asks"),
        ({"seed": 0}, "made with --seed 3"),
        ({"groups": "none"}, "made without --groups-from"),
        ({"dataset": "csv"}, "made without --dataset"),
    )
    for given, told in cases:
        with pytest.raises(ConfigError, match=told):
            create_project(cells, project, classes=[*CLASSES, "SCC"], **given)
    assert (project / FILE).read_bytes() == before
    create_project(cells, project, test_share=0.5, seed=3, model="nano")
    assert (project / FILE).read_bytes() == before


def test_the_same_command_goes_on_and_groups_of_an_earlier_version_are_known_by_their_rule(tmp_path: Path):
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "cells" / name).parent.mkdir(parents=True)
        (tmp_path / "cells" / name).write_bytes(b"")
    given: dict[str, Any] = {"classes": CLASSES, "groups": "folders"}
    project = create_project(tmp_path / "cells", tmp_path / "p", **given)
    create_project(tmp_path / "cells", project, **given)
    about = json.loads((project / FILE).read_text())
    (project / FILE).write_text(json.dumps({**about, "groups_from": None}))
    create_project(tmp_path / "cells", project, **given)
    with pytest.raises(ConfigError, match="made with --groups-from folders"):
        create_project(tmp_path / "cells", project, groups="none")


def test_a_model_is_changed_while_there_are_no_features_and_refused_with_what_to_do_after(tmp_path: Path):
    project = make_project(tmp_path, groups=4, each=2, with_features=False)
    open_before = read_project(project)
    create_project(project, project, model="nano-clip")
    assert read_description(project).model == "nano-clip"
    with pytest.raises(DataError, match="given the model nano-clip by another"):
        compute_features(open_before, cache=tmp_path / "cache", on_progress=lambda done, total: None)
    assert not (project / FEATURES).exists()
    with pytest.raises(ConfigError, match="Unknown model 'nanoo'"):
        create_project(project, project, model="nanoo")
    (project / FEATURES).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"has features of nano-clip.* remove .*features.npy \(labels stay\)"):
        create_project(project, project, model="nano")
    create_project(project, project, model="nano-clip")
    assert read_description(project).model == "nano-clip"


def test_a_folder_of_fetched_weights_names_the_checkpoint_unless_one_is_named(cells: Path, tmp_path: Path):
    (tmp_path / "uni.pt").write_bytes(b"weights")
    folder, given = tmp_path / "weights", {"model": "uni", "weights_dir": tmp_path / "weights"}
    with pytest.raises(WeightsError, match=r"weights is no folder with a weights\.json"):
        create_project(cells, tmp_path / "p", classes=CLASSES, **given)
    assert not (tmp_path / "p").exists()
    keep(BACKBONES.get("uni"), tmp_path / "uni.pt", folder)
    project = create_project(cells, tmp_path / "p", classes=CLASSES, **given)
    (file,) = read_description(project).weights.values()
    assert Path(file).is_relative_to(folder)
    np.save(project / FEATURES, np.zeros((1, 1)))
    create_project(cells, project, **given)  # the same command goes on
    with pytest.raises(ConfigError, match="has features of uni"):
        create_project(cells, project, weights={"uni": tmp_path / "uni.pt"}, weights_dir=folder)
    other = create_project(cells, tmp_path / "q", classes=CLASSES, weights_dir=folder)
    assert read_description(other).weights == {}  # the folder has none of nano
    Path(file).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="Copy the folder again"):
        create_project(cells, other, **given)
    assert read_description(other).model == "nano"


def test_a_project_of_an_unknown_model_can_be_given_another(tmp_path: Path):
    project = make_project(tmp_path, groups=4, each=2, with_features=False)
    about = json.loads((project / FILE).read_text())
    (project / FILE).write_text(json.dumps({**about, "model": "nanoo"}))
    with pytest.raises(ConfigError, match=r"Did you mean 'nano'.* Name the model that was meant with --model\."):
        create_project(project, project)
    (tmp_path / "labels.csv").write_text("path,label\nNILM_0000.png,SCC\n")
    with pytest.raises(ConfigError, match=r"Unknown class in .*'SCC'"):
        create_project(project, project, model="nano", labels=tmp_path / "labels.csv")
    assert read_description(project).model == "nanoo"  # nothing of it is done by halves
    create_project(project, project, model="nano")
    assert read_description(project).model == "nano"


def test_weights_that_are_gone_are_said_and_labels_go_on(cells: Path, tmp_path: Path):
    (tmp_path / "uni.pt").write_bytes(b"weights")
    given: dict[str, Any] = {"model": "uni", "weights": {"uni": tmp_path / "uni.pt"}}
    project = create_project(cells, tmp_path / "p", classes=CLASSES, **given)
    assert absent_weights(read_description(project)) is None
    (tmp_path / "uni.pt").unlink()
    create_project(cells, project)
    assert "uni.pt" in str(absent_weights(read_description(project)))


def test_weights_that_are_not_here_are_said_before_the_page_opens(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("cytolora.models.checkpoints.hub._cached", lambda hub: None)
    project = create_project(cells, tmp_path / "p", classes=CLASSES, model="uni")
    told = absent_weights(read_description(project))
    assert told is not None
    assert "The weights of uni are not on this machine" in told
    assert "gated: accept the terms at" in told
    assert absent_weights(read_description(make_project(tmp_path / "own", with_features=False, groups=2))) is None
    monkeypatch.setattr("cytolora.cli.label.run_service", lambda *arguments: None)
    with pytest.raises(SystemExit) as ended:
        main(["label", str(project), "--no-browser"])
    printed = capsys.readouterr().err
    assert ended.value.code == 0
    assert printed.index("weights of uni are not") < printed.index("Label the cells of")


def test_readers_whose_names_differ_by_case_are_one_of_the_first_spelling(tmp_path: Path):
    opened = Labelling(make_project(tmp_path, groups=4, each=2, with_features=False))
    opened.label("Anna", [3], "HSIL", client_id="1")
    opened.label("anna ", [3], "LSIL", client_id="2")
    assert opened._board.votes.by_reader(3) == {"Anna": "LSIL"}
    assert opened.label_of("ANNA", 3) == "LSIL"
    assert opened.cell("anna", 3)["label"] == "LSIL"
    assert opened.queue("anna", 5, kind="second") == []
    assert opened.undo("anna", client_id="3")["overview"]["can_redo"]
    assert opened.overview("anna")["can_redo"]
