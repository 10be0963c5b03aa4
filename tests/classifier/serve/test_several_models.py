"""Several models in one service: their names, one shared encoder, and answers that are each model's own."""

from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="FastAPI is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from chromium import chromium
from prometheus_client.parser import text_string_to_metric_families
from service import Colour, ask, form, png, running
from small_bundle import write_small_bundle

from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.shared_encoder import check_memory, share_encoders
from cytolora.classifier.serve.app import make_app
from cytolora.classifier.serve.limits import Limits
from cytolora.classifier.serve.names import named_models
from cytolora.cli.app import main
from cytolora.config.reading import Decoding
from cytolora.config.run import AdapterSpec
from cytolora.core.process_memory import free_memory_bytes
from cytolora.errors import BundleError, ConfigError

PICTURES = [png((9, 200, 3), (48, 48)), png((250, 1, 1), (48, 48)), png((0, 0, 240), (48, 48))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two linear classifiers on one backbone, with heads of their own."""
    folder = tmp_path_factory.mktemp("several")
    return write_small_bundle(folder / "cervix"), write_small_bundle(folder / "urine", drawn=1, temperature=0.7)


@pytest.fixture
def bundles(folders: tuple[Path, Path]) -> dict[str, Classifier]:
    return {folder.name: Classifier.load(folder) for folder in folders}


class Other(Colour):
    """A model that cannot compute."""

    def outputs(self, views: Any) -> Any:
        raise BundleError("its weights are damaged")


def counted_images(classifier: Classifier) -> list[int]:
    """Returns a list to which every forward pass of the classifier's encoder adds its number of images."""
    batches: list[int] = []
    classifier._fast_encoder.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
    return batches


def probabilities(answers: Any) -> list[float]:
    """Those of all images; in another batch their last bits differ."""
    return [share for one in answers["predictions"] for share in one["probabilities"].values()]


def test_two_heads_on_one_backbone_share_its_weights_and_one_forward_pass_an_image(bundles: dict[str, Classifier]):
    app = make_app(bundles)
    first, second = bundles.values()
    assert second.classifier().encoder is first.classifier().encoder
    batches = counted_images(second)
    answers = ask(app, "POST", "/v1/models/predict", files=form(*PICTURES)).json()["models"]
    assert sum(batches) == len(PICTURES)
    assert list(answers) == ["cervix", "urine"]
    assert answers["cervix"]["predictions"] != answers["urine"]["predictions"]
    for name in bundles:
        alone = ask(app, "POST", f"/v1/models/{name}/predict", files=form(*PICTURES)).json()
        assert probabilities(alone) == pytest.approx(probabilities(answers[name]), abs=1e-6)
        assert alone["model"] == answers[name]["model"]
    assert sum(batches) == 3 * len(PICTURES)


def test_answers_are_those_of_each_bundle_alone(folders: tuple[Path, Path], bundles: dict[str, Classifier]):
    sent = {"images": [{"data": b64encode(one).decode()} for one in PICTURES]}
    answers = ask(make_app(bundles), "POST", "/v1/models/predict/json?model=urine", json=sent).json()["models"]
    assert list(answers) == ["urine"]
    alone = Classifier.load(folders[1]).predict(PICTURES)
    for expected, found in zip(alone, answers["urine"]["predictions"], strict=True):
        assert tuple(found["probabilities"].values()) == pytest.approx(expected.probabilities, abs=1e-6)
        assert (found["predicted"], found["referred"]) == (expected.predicted, expected.is_referred)


def test_only_equal_frozen_encoders_that_read_images_alike_are_shared(folders: tuple[Path, Path]):
    def opened(**changes: Any) -> Classifier:
        bundle = Classifier.load(folders[0])
        bundle.contents = replace(bundle.contents, **changes)
        return bundle

    contents = Classifier.load(folders[0]).contents
    spec = replace(contents.backbone.spec, pool="cls")
    others = [
        opened(decoding=Decoding(icc="srgb")),
        opened(backbone=replace(contents.backbone, sha256="0" * 64)),
        opened(backbone=replace(contents.backbone, spec=spec)),
        opened(method="lora", adapter=AdapterSpec(rank=2, alpha=2, targets=("q", "v"))),
        opened(method="lora", adapter=AdapterSpec(rank=2, alpha=2, targets=("q", "v"))),
    ]
    assert share_encoders([opened(), *others, opened(temperature=3.0)]) == [0, 1, 2, 3, 4, 5, 0]


def test_an_encoder_is_not_taken_for_another_nor_in_the_place_of_one_that_is_loaded(bundles: dict[str, Classifier]):
    first, second = bundles.values()
    second.warm_up()
    with pytest.raises(ValueError, match="loaded already"):
        second.use_encoder_of(first)


def test_an_unknown_model_is_a_404_that_names_the_known_ones(model: Colour):
    app = make_app({"cervix": model, "urine": Colour(model.contents, "urine")})
    refused = [
        ask(app, "POST", "/v1/models/cervx/predict", files=form(PICTURES[0])),
        ask(app, "POST", "/v1/models/cervx/predict/json", content=b"no json"),
        ask(app, "POST", "/v1/models/predict?model=cervix&model=cervx", files=form(PICTURES[0])),
    ]
    said = "Unknown model 'cervx'. Did you mean 'cervix'? Known: cervix, urine."
    assert [(one.status_code, one.json()) for one in refused] == [(404, {"detail": said})] * 3
    long = ask(app, "POST", f"/v1/models/{'x' * 5000}/predict", files=form(PICTURES[0]))
    assert (long.status_code, len(long.content) < 400) == (404, True)


def test_of_several_models_none_answers_where_none_is_named(model: Colour):
    app = make_app({"cervix": model, "urine": Colour(model.contents, "urine")})
    for path in ("/v1/predict", "/v1/predict/json"):
        refused = ask(app, "POST", path, files=form(PICTURES[0]))
        assert refused.status_code == 404
        assert "/v1/models/NAME/predict" in refused.json()["detail"]
        assert refused.json()["detail"].endswith("Known: cervix, urine.")
    assert "/v1/predict" not in ask(app, "GET", "/openapi.json").json()["paths"]
    assert 'data-models="cervix urine"' in ask(app, "GET", "/").text


def test_a_model_that_is_alone_answers_with_its_name_and_without(model: Colour):
    app = make_app({"cervix": model})
    answers = [ask(app, "POST", f"/v1{path}/predict", files=form(*PICTURES)) for path in ("", "/models/cervix")]
    assert answers[0].status_code == 200
    assert answers[0].json() == answers[1].json()
    (about,) = ask(app, "GET", "/v1/models").json()["models"]
    assert (about["name"], about["model"]) == ("cervix", answers[0].json()["model"])
    assert 'data-models=""' in ask(app, "GET", "/").text


def test_a_model_that_cannot_compute_fails_for_itself_alone(model: Colour):
    app = make_app({"good": model, "bad": Other(model.contents, "bad")})
    assert ask(app, "POST", "/v1/models/good/predict", files=form(*PICTURES)).status_code == 200
    for path in ("/v1/models/bad/predict", "/v1/models/predict"):
        refused = ask(app, "POST", path, files=form(*PICTURES))
        assert (refused.status_code, refused.json()["detail"]) == (503, "its weights are damaged")


def test_more_images_than_may_ever_wait_for_all_encoders_are_told_so(model: Colour):
    app = make_app({"a": model, "b": Colour(model.contents, "b")}, Limits(max_queue=5))
    refused = ask(app, "POST", "/v1/models/predict", files=form(*PICTURES))
    assert (refused.status_code, refused.json()["detail"][:24]) == (413, "3 images for 2 encoders;")
    assert ask(app, "POST", "/v1/models/a/predict", files=form(*PICTURES)).status_code == 200


def test_metrics_are_told_by_model(bundles: dict[str, Classifier]):
    app = make_app(bundles)
    ask(app, "POST", "/v1/models/predict", files=form(*PICTURES))
    ask(app, "POST", "/v1/models/urine/predict", files=form(PICTURES[0], b"no image"))
    families = list(text_string_to_metric_families(ask(app, "GET", "/metrics").text))
    rows = [row for family in families for row in family.samples]
    found = {(row.name, *row.labels.values()): row.value for row in rows}
    assert found["cytolora_images_total", "cervix", "predicted"] == 3
    assert found["cytolora_images_total", "urine", "predicted"] == 4
    assert found["cytolora_images_total", "urine", "unreadable"] == 1
    assert found["cytolora_batch_images_sum",] == 4  # images through the encoder, once for both heads
    assert found["cytolora_encoders",] == 1
    assert found["cytolora_requests_total", "/v1/models/urine/predict", "200"] == 1
    about = {row.labels["model"]: row.labels["hash"] for row in rows if row.name == "cytolora_model_info"}
    served = ask(app, "GET", "/v1/models").json()["models"]
    assert about == {one["name"]: one["model"] for one in served}
    assert len(set(about.values())) == 2
    assert to_text(bundles["cervix"].contents) != to_text(bundles["urine"].contents)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a/model1"], ["model1"]),
        (["a/model1/", "cervix=b/model1"], ["model1", "cervix"]),
        (["a/model1.zip", "hf:lab/pap-smear@main"], ["model1", "pap-smear"]),
        (["x=hf:lab/pap"], ["x"]),
    ],
)
def test_a_model_is_called_like_its_folder_or_as_is_said(given: list[str], names: list[str]):
    assert list(named_models(given)) == names


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["a/model1", "b/model1"],
            "Two models are called model1: a/model1 and b/model1. Give one another name: NAME=b",
        ),
        (["a/model1", "a/model1/"], "a/model1 is given twice, as model1 and model1"),
        (["a/model1", "x=a/../a/model1"], "is given twice, as model1 and x"),
        (["a/my model"], "cannot be served as 'my model', for a name is 1 to 64 letters"),
        (["predict=a/model1"], "which means something else in an address. Name it: NAME=a/model1"),
        (["=a/model1"], "cannot be served as ''"),
    ],
)
def test_names_that_cannot_be_told_apart_or_stand_in_an_address_are_refused(given: list[str], said: str):
    with pytest.raises(ConfigError) as error:
        named_models(given)
    assert said in str(error.value)


def test_the_command_opens_several_and_refuses_two_of_one_name(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    reached: list[list[str]] = []
    monkeypatch.setattr("cytolora.classifier.serve.app.make_app", lambda opened, *a, **b: reached.append(list(opened)))
    monkeypatch.setattr("cytolora.cli.serve.listening", lambda *a: (_ for _ in ()).throw(ConfigError("Port.")))
    monkeypatch.setattr("signal.signal", lambda *a: None)
    for more, said in (
        ([str(folders[1])], "Port."),
        ([f"two={folders[0]}"], "is given twice, as cervix and two"),
        ([str(folders[1]), "--weights", "uni=x.bin"], "--weights names uni, which none of the models was trained on"),
        ([str(folders[0].parent / "none")], "none"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(folders[0]), *more])
        said_there = capsys.readouterr().err
        assert (stopped.value.code, said_there.count("\n")) == (2, 1)
        assert said in said_there
    assert reached == [["cervix", "urine"]]


def test_models_that_do_not_fit_into_memory_are_refused_before_they_are_loaded(bundles: dict[str, Classifier]):
    models = list(bundles.values())
    size = models[0].bytes_to_load()
    check_memory(models, free_bytes=size)  # the encoder counts once
    with pytest.raises(ConfigError, match=r"2 models need at least .* GiB for 1 encoder, and .* are free"):
        check_memory(models, free_bytes=size - 1)


def test_free_memory_is_that_of_the_machine_or_of_the_own_control_group(tmp_path: Path):
    assert free_memory_bytes(tmp_path) is None
    group = tmp_path / "sys/fs/cgroup/app"
    (tmp_path / "proc/self").mkdir(parents=True)
    group.mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  900 kB\nMemAvailable:     800 kB\n")
    assert free_memory_bytes(tmp_path) == 800 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory_bytes(tmp_path) == 800 * 1024
    (group / "memory.max").write_text("4096\n")
    assert free_memory_bytes(tmp_path) == 4096


@pytest.mark.slow
def test_an_image_that_is_chosen_again_is_answered_by_another_model_which_the_page_names(model: Colour, tmp_path: Path):
    (tmp_path / "cell.png").write_bytes(PICTURES[0])
    models = {"cervix": model, "urine": Colour(model.contents, "urine")}
    with running(make_app(models)) as url, chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        for name in models:
            page.select_option("#model", name)
            page.set_input_files("#files", [tmp_path / "cell.png"])
            page.locator(".result .name", has_text=f"cell.png · {name}").wait_for()
        assert page.locator(".result").count() == 2
        assert page.input_value("#files") == ""
