"""The service with a real model behind it, an ONNX export: what a stub that answers with colours cannot show."""

import asyncio
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prediction_files import mutate_images
from service import TOKEN, ask, assert_both_modes_are_reached, form, png, running, statuses_of_the_schema
from small_bundle import CLASSES, shortest, write_small_bundle

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.classifier.serve.app import make_app

httpx = pytest.importorskip("httpx", reason="httpx is not installed")


@pytest.fixture
def model(onnx_export: tuple[Classifier, Path]) -> OnnxModel:
    """It scales the shorter edge, as most backbones do, so that a strip of pixels would become very long."""
    opened = OnnxModel.load(onnx_export[1], threads=1)
    opened.contents = shortest(opened.contents)
    return opened


def test_a_strip_of_pixels_costs_the_other_images_of_a_request_nothing(model: OnnxModel):
    files = form(png((9, 99, 9)), png((0, 0, 0), (1, 300_000)), png((99, 9, 9)))
    answer = ask(make_app(model), "POST", "/v1/predict", files=files)
    assert answer.status_code == 200
    first, strip, last = answer.json()["predictions"]
    assert "too long and narrow" in strip["error"]
    assert {first["predicted"], last["predicted"]} <= set(CLASSES)


def test_an_image_that_takes_more_memory_than_there_is_is_an_error_in_its_place(model: OnnxModel, monkeypatch):
    see = model.view

    def view(image: Any) -> Any:
        if image.shape[0] == 5:
            raise MemoryError
        return see(image)

    monkeypatch.setattr(model, "view", view)
    answer = ask(make_app(model), "POST", "/v1/predict", files=form(png((9, 9, 9), (5, 5)), png((9, 9, 9))))
    bad, good = answer.json()["predictions"]
    assert "Too little memory" in bad["error"]
    assert good["predicted"] in CLASSES


@pytest.mark.slow
def test_the_whole_schema_is_answered_as_it_says(model: OnnxModel):
    assert_both_modes_are_reached(statuses_of_the_schema(make_app(model, token=TOKEN), 30, token=TOKEN), TOKEN)


@pytest.mark.slow
def test_the_whole_schema_of_a_bundle_is_answered_as_it_says(tmp_path: Path):
    bundle = Classifier.load(write_small_bundle(tmp_path / "bundle"))
    assert_both_modes_are_reached(statuses_of_the_schema(make_app(bundle), 30), None)


def test_mutated_images_are_answers_or_errors_and_never_an_error_of_the_server(model: OnnxModel, tmp_path: Path):
    mutate_images(tmp_path, 60)
    contents = [path.read_bytes() for path in sorted((tmp_path / "damaged").iterdir())]
    app, errors = make_app(model), 0
    for start in range(0, 60, 20):
        answer = ask(app, "POST", "/v1/predict", files=form(*contents[start : start + 20], png((1, 2, 3))))
        assert answer.status_code == 200
        found = answer.json()["predictions"]
        assert all(bool(one["error"]) != bool(one["predicted"]) for one in found)
        errors += sum(bool(one["error"]) for one in found)
    assert 0 < errors < 60


def picture(number: int) -> bytes:
    random = np.random.default_rng(number)
    sink = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((48, 48)).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.slow
def test_fifty_clients_with_different_images_get_their_own_answers(model: OnnxModel):
    """Ten requests each. Together with others the last bits of an answer move; another image's is far further away."""
    pictures = [picture(number) for number in range(50)]
    expected = np.array([one.probabilities for one in model.predict(pictures)])
    apart = np.abs(expected[:, None] - expected[None]).max(axis=2) + np.eye(50)
    assert apart.min() > 1e-4

    async def client(number: int, url: str) -> list[float]:
        off = []
        async with httpx.AsyncClient(base_url=url, timeout=120) as session:
            for _ in range(10):
                answer = await session.post("/v1/predict", files=form(pictures[number]))
                shares = list(answer.json()["predictions"][0]["probabilities"].values())
                off.append(float(np.abs(np.array(shares) - expected[number]).max()))
        return off

    async def everybody(url: str) -> list[float]:
        answers = await asyncio.gather(*(client(number, url) for number in range(50)))
        return [off for one in answers for off in one]

    with running(make_app(model)) as url:
        found = asyncio.run(everybody(url))
    assert len(found) == 50 * 10
    assert max(found) < 1e-5
