"""Every public function takes paths as text or Path, devices by name, and one or many of what can be many."""

import inspect
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from blank_pdfs import blank_drawings
from PIL import Image

import cytolora
from cells import tiny_grid
from cytolora import Classifier, FitOptions
from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.export.export import export
from cytolora.classifier.inference.evaluate import evaluate
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.onnx_predictor import OnnxModel, is_export
from cytolora.classifier.inference.table import predict_table
from cytolora.classifier.learning_curve.measure import check_asked, default_shots, measure, num_classifiers
from cytolora.classifier.slides.positions import read_positions
from cytolora.classifier.slides.predict import predict_slide
from cytolora.classifier.slides.slide import Slide
from cytolora.config.run import SplitSpec
from cytolora.config.yaml import load_grid
from cytolora.core.arguments import as_device, as_names, as_numbers, as_paths, as_whole_numbers
from cytolora.data.datasets import load_manifest
from cytolora.data.label_map import apply_label_map, read_label_map
from cytolora.data.splitting.split_files import read_split, write_split
from cytolora.data.splitting.splits import assign_subsets
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import ConfigError, DataError
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES, NANO, read_backbone_file
from cytolora.reporting.pages.build import build_report
from cytolora.training.embed import embed, read_embedding, unlabelled
from cytolora.training.resources import Inputs
from cytolora.training.session import Progress, Session

AsPath = Callable[[Path], str | Path]

PUBLIC: list[Callable[..., Any]] = [
    *(value for name in dir(cytolora) if inspect.isfunction(value := getattr(cytolora, name))),
    Classifier.load, Classifier.__init__, Classifier.predict, Classifier.stream, Classifier.logits,
    OnnxModel.load, Store.__init__,
    apply_label_map, build_report, embed, evaluate, export, find_images, is_export, load_grid, measure, predict_slide,
    predict_table, read_backbone_file, read_embedding, read_label_map, read_positions, read_split, unlabelled,
    write_split, write_synthetic, Slide.__init__,
]  # fmt: skip


@pytest.fixture(params=[str, Path], ids=["str", "Path"])
def kind(request: pytest.FixtureRequest) -> AsPath:
    return request.param


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(drawn_cells: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear bundle of drawn cells; read only."""
    out = tmp_path_factory.mktemp("model") / "model"
    options = FitOptions(max_steps=20, learning_rates=[0.01], cache=cache)
    with blank_drawings():
        cytolora.fit(drawn_cells, out, model="nano", options=options)
    return out


@pytest.fixture(scope="module")
def bundle(model: Path) -> Classifier:
    return Classifier.load(model)


@pytest.fixture
def folder(drawn_cells: Path) -> Path:
    return drawn_cells / "slide_00"


def session(cells: Path, cache: str | Path, device: str | torch.device) -> Session:
    manifest = load_manifest(cells)
    return Session(
        backbone=BACKBONES.get("nano"),
        manifest=manifest,
        inputs=Inputs(data={}),
        cache=cache,
        device=device,
        progress=Progress(),
    )


def same_images(found: Sequence[Prediction], expected: list[tuple[float, ...] | None]) -> None:
    """Batches of other sizes differ in the last bits."""
    np.testing.assert_allclose(np.array([one.probabilities for one in found]), np.array(expected), atol=1e-5)


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from parts(part)


@pytest.mark.parametrize("function", PUBLIC, ids=lambda one: one.__qualname__)
def test_no_public_parameter_takes_a_path_object_alone_or_a_device_by_name_alone(function: Callable[..., Any]):
    for name, parameter in inspect.signature(function).parameters.items():
        found = list(parts(parameter.annotation))
        assert (Path in found) <= (str in found), name
        assert "Path" not in found, name
        if name == "device":
            assert found[0] == "str | torch.device | None" or {str, torch.device} <= set(found)


def test_fit_takes_text_paths_one_class_and_one_rate(drawn_cells: Path, cache: Path, tmp_path: Path, kind: AsPath):
    manifest = load_manifest(drawn_cells)
    first = manifest.samples[0]
    targets = [f"{label},{'b' if label == 'hsil' else 'a'}" for label in manifest.classes]
    (tmp_path / "map.csv").write_text("\n".join(["from,to", *targets]) + "\n")
    (tmp_path / "labels.csv").write_text(f"path,label\n{first.path},{'b' if first.label == 'hsil' else 'a'}\n")
    write_split(assign_subsets(manifest, SplitSpec()), kind(tmp_path / "split.csv"))
    found = cytolora.fit(
        kind(drawn_cells),
        kind(tmp_path / "model"),
        model="nano",
        positive="b",
        labels=kind(tmp_path / "labels.csv"),
        weights={"nano": kind(NANO.weights or tmp_path)},
        device="cpu",
        options=FitOptions(
            learning_rates=0.01,
            max_steps=20,
            lower_sensitivity=True,  # one or two groups promise no 95 %
            label_map=kind(tmp_path / "map.csv"),
            split=kind(tmp_path / "split.csv"),
            cache=kind(cache),
        ),
    )
    assert found.contents.operating_point is not None
    assert found.contents.operating_point.positive == ("b",)
    assert found.contents.training["learning_rate"] == 0.01


@pytest.mark.slow
def test_a_grid_runs_into_a_text_path_and_is_reported_from_one(drawn_cells: Path, tmp_path: Path, kind: AsPath):
    plan = cytolora.run(tiny_grid(), {"synthetic": kind(drawn_cells)}, kind(tmp_path / "runs"), device="cpu")
    assert len(plan.runs) == len(list(Store(kind(tmp_path / "runs")).runs())) == 8
    written = cytolora.report(kind(tmp_path / "runs"), kind(tmp_path / "report"), data={"synthetic": kind(drawn_cells)})
    assert written.path == tmp_path / "report" / "index.html"
    assert written.table.num_rows == len({row["method"] for row in written.to_arrow().to_pylist()}) == 2
    assert "<table>" in written._repr_html_()
    assert "2 rows" in repr(written)
    for names in ((), "synthetic", ["synthetic"]):
        assert len(cytolora.compare(kind(tmp_path / "runs"), "method", dataset=names).pairs) == 1


def test_a_grid_is_a_name_a_text_path_a_path_or_a_spec(tmp_path: Path, kind: AsPath):
    smoke = Path(cytolora.__file__ or "").parent / "config" / "grids" / "smoke.yaml"
    (tmp_path / "mine.yaml").write_text(smoke.read_text())
    assert load_grid(kind(tmp_path / "mine.yaml")) == load_grid("smoke")


def test_inputs_hold_paths_whatever_they_were_given(tmp_path: Path, drawn_cells: Path, kind: AsPath):
    (tmp_path / "split.csv").touch()
    found = Inputs(
        data={"synthetic": kind(drawn_cells)},
        weights={"nano": kind(tmp_path)},
        split_file=kind(tmp_path / "split.csv"),
        label_map=kind(tmp_path / "map.csv"),
    )
    assert found.data == {"synthetic": drawn_cells}
    assert found.weights == {"nano": tmp_path}
    assert (found.weights_dir, found.split_file, found.label_map) == (
        None,
        tmp_path / "split.csv",
        tmp_path / "map.csv",
    )
    assert found.absolute() == found


def test_a_manifest_a_encoder_and_a_bundle_open_from_text_paths(
    drawn_cells: Path, model: Path, tmp_path: Path, kind: AsPath
):
    assert cytolora.load_dataset(kind(drawn_cells)).root == drawn_cells
    assert NANO.weights is not None
    assert cytolora.load_backbone("nano", weights=kind(NANO.weights)).feature_dim == 96
    opened = cytolora.load(kind(model), weights=kind(NANO.weights), device=torch.device("cpu"))
    assert opened.device == Classifier.load(kind(model), device="cpu").device == torch.device("cpu")
    assert not is_export(kind(model))


def test_features_are_embedded_from_and_into_text_paths(drawn_cells: Path, cache: Path, tmp_path: Path, kind: AsPath):
    num_images, _ = embed(session(drawn_cells, kind(cache), "cpu"), kind(tmp_path / "cells.parquet"))
    assert len(read_embedding(kind(tmp_path / "cells.parquet")).features) == num_images == 60
    assert len(unlabelled(kind(drawn_cells)).samples) == 60


@pytest.mark.slow
def test_learning_curves_take_one_seed_or_many(drawn_cells: Path, cache: Path):
    prepared = session(drawn_cells, cache, torch.device("cpu"))
    one = measure(prepared, iter([1, 2, 3, 4]), 1)
    many = measure(prepared, [1, 2, 3, 4], (seed for seed in [1]))
    assert [draw.seed for draw in one.draws] == [draw.seed for draw in many.draws] == [1]
    assert one.draws[0].learning_rates == many.draws[0].learning_rates
    assert default_shots(prepared.manifest, 1) == default_shots(prepared.manifest, [1])
    assert num_classifiers(4, [1, 2]) == num_classifiers([4], (1, 2)) == 2
    with pytest.raises(ConfigError, match="at least 4 numbers of shots"):
        check_asked(prepared.manifest, 4, 1)


def test_label_maps_and_splits_are_read_from_text_paths(drawn_cells: Path, tmp_path: Path, kind: AsPath):
    manifest = assign_subsets(load_manifest(drawn_cells), SplitSpec())
    write_split(manifest, kind(tmp_path / "split.csv"))
    assert read_split(kind(tmp_path / "split.csv"), manifest).samples == manifest.samples
    (tmp_path / "map.csv").write_text("from,to\n" + "".join(f"{label},{label}\n" for label in manifest.classes))
    assert read_label_map(kind(tmp_path / "map.csv")).classes == manifest.classes
    assert apply_label_map(manifest, kind(tmp_path / "map.csv")).samples == manifest.samples


def test_a_bundle_is_exported_evaluated_and_tabulated_by_text_paths(
    bundle: Classifier, drawn_cells: Path, folder: Path, tmp_path: Path, kind: AsPath
):
    image = sorted(folder.glob("*.png"))[0]
    for named, number in ((kind(folder), 10), (kind(image), 1), ([kind(folder), kind(image)], 10)):
        assert export(bundle, "peft" if bundle.contents.adapter else "timm", kind(tmp_path / "out"), images=named,
                      force_licence=True).num_images == number  # fmt: skip
    found = evaluate(bundle, load_manifest(drawn_cells), on_seen="mark", page=kind(tmp_path / "page.html"))
    assert found.num_images == 60
    predict_table(bundle, find_images(kind(folder)), kind(tmp_path / "p.csv"), page=kind(tmp_path / "predictions.html"))
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 11
    assert (tmp_path / "page.html").is_file()
    assert (tmp_path / "predictions.html").is_file()


def test_a_backbone_file_and_drawn_cells_are_named_by_text_paths(tmp_path: Path, kind: AsPath):
    preprocess = "{size_px: 64, mean: [0, 0, 0], std: [1, 1, 1], resize: squash, interpolation: bilinear}"
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\narchitecture: vit_tiny_patch16_224\nweights: a.safetensors\npool: cls\npreprocess: {preprocess}\n"
        "licence: none\n"
    )
    assert read_backbone_file(kind(tmp_path / "mine.yaml")).weights == tmp_path / "a.safetensors"
    write_synthetic(kind(tmp_path / "cells"), num_images=5, num_slides=1)
    assert len(list((tmp_path / "cells").rglob("*.png"))) == 5


def test_slides_and_positions_are_named_by_text_paths(tmp_path: Path, kind: AsPath):
    (tmp_path / "cells.csv").write_text("x,y\n10,20\n")
    assert [(one.x, one.y) for one in read_positions(kind(tmp_path / "cells.csv"))] == [(10, 20)]
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    with pytest.raises(DataError, match=r"no\.svs"):
        Slide(kind(tmp_path / "no.svs"))


def test_an_image_a_folder_a_pattern_a_zip_file_and_lists_of_them_are_predicted(
    bundle: Classifier, folder: Path, tmp_path: Path, kind: AsPath
):
    images = sorted(folder.glob("*.png"))
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
        for image in images:
            packed.write(image, image.name)
    expected = [one.probabilities for one in bundle.predict(list(images))]
    assert len(expected) == 10
    for given in (folder, tmp_path / "cells.zip", folder / "*.png"):
        same_images(bundle.predict(kind(given)), expected)
        same_images(bundle.predict([kind(given)]), expected)
    assert [one.name for one in bundle.predict(kind(folder))] == [str(image) for image in images]
    single = bundle.predict(kind(images[0]))
    same_images(single, expected[:1])
    assert single[0].name == str(images[0])
    mixed = bundle.predict(kind(image) for image in (images[1], folder, images[0]))
    same_images(mixed, [expected[1], *expected, expected[0]])
    np.testing.assert_array_equal(bundle.logits(kind(folder)), bundle.logits(images))


def test_one_pillow_image_one_array_and_the_bytes_of_one_file_are_one_image(bundle: Classifier, folder: Path):
    path = sorted(folder.glob("*.png"))[0]
    image, expected = Image.open(path), bundle.predict(path)[0].probabilities
    pixels = np.asarray(image.convert("RGB"))
    for given in (image, pixels, path.read_bytes()):
        same_images(bundle.predict(given), [expected])
        same_images(bundle.predict([given, given]), [expected, expected])
        assert [one.name for one in bundle.predict([given, given])] == ["0", "1"]
    same_images(bundle.predict(np.stack([pixels, pixels])), [expected, expected])


def test_a_missing_path_and_an_empty_folder_are_errors_before_the_first_prediction(
    bundle: Classifier, folder: Path, tmp_path: Path, kind: AsPath, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(Classifier, "outputs", lambda *_: pytest.fail("predicted"))
    for name, message in (("missing", "missing does not exist"), ("empty", "There is no image in")):
        for given in (kind(tmp_path / name), [kind(folder), kind(tmp_path / name)]):
            with pytest.raises(DataError, match=message):
                bundle.predict(given)


@pytest.mark.parametrize(
    "given",
    [None, 3, np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 4), np.uint8), [3], [None],
     torch.zeros(3, 8, 8), ""],
    ids=["None", "int", "gray", "float", "RGBA", "ints", "Nones", "tensor", "empty"],
)  # fmt: skip
def test_what_is_no_image_is_one_clear_error(bundle: Classifier, given: Any):
    with pytest.raises(ConfigError, match=r"got .+\."):
        bundle.predict(given)


def test_an_open_file_is_not_read_line_by_line(bundle: Classifier, folder: Path):
    with sorted(folder.glob("*.png"))[0].open("rb") as file:
        given: Any = file
        with pytest.raises(ConfigError, match="An image is a path"):
            bundle.predict(given)


def test_one_text_is_one_name_and_a_generator_is_many():
    assert as_names("hsil") == ("hsil",) == as_names(["hsil"]) == as_names(name for name in ["hsil"])
    assert as_paths("cells") == (Path("cells"),) == as_paths([Path("cells")])
    assert as_numbers(np.float64(0.5)) == (0.5,) == as_numbers([0.5]) == as_numbers(np.array([0.5]))
    assert as_whole_numbers(3) == (3,) == as_whole_numbers(range(3, 4))


@pytest.mark.parametrize("given", [None, 3, b"hsil", ["hsil", 3], [b"hsil"]])
def test_names_of_another_type_are_refused(given: Any):
    with pytest.raises(ConfigError, match="positive: expected one or many of type str, got"):
        as_names(given, "positive")


def test_a_device_is_a_name_or_torchs_own():
    assert as_device(None) == as_device("cpu") == as_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_cuda_before_mps_before_the_cpu(has_cuda: bool, has_mps: bool, expected: str, monkeypatch: Any):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert as_device("auto") == torch.device(expected)
    assert as_device(None) == torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "message"),
    [("gpu", "is auto, cpu, cuda"), (0, "is auto, cpu, cuda"), ("", "is auto, cpu, cuda"), ("meta", "No meta device"),
     ("cuda:99", "No cuda:99 device on this machine")],
)  # fmt: skip
def test_a_device_that_is_not_here_is_refused_by_name(given: Any, message: str, model: Path):
    with pytest.raises(ConfigError, match=message):
        as_device(given)
    with pytest.raises(ConfigError, match=message):
        Classifier.load(model, device=given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Inputs(data="cells"), "data is a mapping such as .*, got 'cells'"),  # pyright: ignore
        (lambda: Inputs(data={"synthetic": 3}), "data: synthetic is a path, .*, got 3"),  # pyright: ignore
        (lambda: cytolora.load_dataset(None), "is a path, .*, got None"),  # pyright: ignore
        (lambda: cytolora.fit("cells", ""), "out is a path, .*, got ''"),
        (lambda: Store(3), "root is a path, .*, got 3"),  # pyright: ignore
    ],
)
def test_what_is_no_path_is_refused_by_the_name_of_the_argument(call: Callable[[], object], message: str):
    with pytest.raises(ConfigError, match=message):
        call()
