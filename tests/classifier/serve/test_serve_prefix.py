"""The service under a prefix: behind a proxy that strips it, and behind one that passes it on."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="FastAPI is not installed")

from service import TOKEN, Colour, ask, form, png
from small_bundle import CLASSES, write_small_bundle

from cytolora.classifier.bundle.files import read_bundle
from cytolora.classifier.serve.app import make_app
from cytolora.classifier.serve.guard import clean_root_path
from cytolora.errors import ConfigError

_ADDRESSES = (
    r"""(?:href|src|action|formaction|data|poster)\s*=\s*["']?([^"'\s>]+)""",
    r"""fetch\(\s*["'`]([^"'`]+)""",
    r"""url\(\s*["']?([^"')]+)""",
)


def stripping(app: Any, prefix: str) -> Any:
    """A proxy that answers below a prefix alone and hands on what follows it."""

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(f"{prefix}/"):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"of the proxy"})
            return
        path = scope["path"][len(prefix) :]
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


def addresses(page: str) -> list[str]:
    return [found for pattern in _ADDRESSES for found in re.findall(pattern, page)]


@pytest.mark.parametrize("prefix", ["/cyto", "/lab/cells", "/a/b/c", "/v2", "/x-1.2", "/~me"])
@pytest.mark.parametrize("is_told", [True, False])
def test_every_address_of_the_page_works_behind_a_proxy_that_strips_a_prefix(model: Colour, prefix: str, is_told: bool):
    app = stripping(make_app(model, root_path=prefix if is_told else ""), prefix)
    page = ask(app, "GET", f"{prefix}/")
    assert page.status_code == 200
    found = addresses(page.text)
    assert {"openapi.json", "v1/predict"} <= set(found)
    for address in found:
        assert not address.startswith("/")
        assert "://" not in address
    assert ask(app, "GET", f"{prefix}/openapi.json").status_code == 200
    answer = ask(app, "POST", f"{prefix}/v1/predict", files=form(png((9, 250, 9))))
    assert answer.json()["predictions"][0]["predicted"] == CLASSES[1]


@pytest.mark.parametrize("prefix", ["/cyto", "/lab/cells", "/v2"])
def test_a_proxy_that_passes_the_prefix_on_is_answered_and_named_in_the_schema(model: Colour, prefix: str):
    app = make_app(model, root_path=prefix)
    assert ask(app, "GET", f"{prefix}/").status_code == 200
    assert ask(app, "GET", f"{prefix}/ready").status_code == 200
    assert ask(app, "POST", f"{prefix}/v1/predict", files=form(png((0, 0, 0)))).status_code == 200
    assert ask(app, "GET", f"{prefix}/openapi.json").json()["servers"] == [{"url": prefix}]
    assert "servers" not in ask(make_app(model), "GET", "/openapi.json").json()


@pytest.mark.parametrize("prefix", ["", "/cyto", "/lab/cells", "/v2"])
def test_the_token_is_asked_for_with_the_prefix_and_without(model: Colour, prefix: str):
    app = make_app(model, token=TOKEN, root_path=prefix)
    files = form(png((0, 0, 0)))
    for path in {"/v1/predict", f"{prefix}/v1/predict"}:
        assert ask(app, "POST", path, files=files).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(app, "POST", path, files=files, headers=right).status_code == 200
    assert ask(app, "POST", f"{prefix}{prefix}/v1/predict", files=files).status_code in (
        (401,) if prefix == "" else (404,)
    )


@pytest.mark.parametrize(
    "name",
    ["carcinoma, in situ", 'say "x"', "<script>alert(1)</script>", "a|b", "a & b", "it's", "back\\slash", "é\u2028"],
)
def test_a_class_of_any_name_is_answered_as_it_is_and_stands_nowhere_in_the_page(name: str, tmp_path: Path):
    contents, _ = read_bundle(
        write_small_bundle(tmp_path / "model", classes=(CLASSES[0], name, *CLASSES[2:]), operating_point=None)
    )
    app = make_app(Colour(replace(contents, unfamiliar=None), "colour"))
    assert name not in ask(app, "GET", "/").text
    answer = ask(app, "POST", "/v1/predict", files=form(png((9, 250, 9)))).json()
    assert answer["classes"][1] == name
    (found,) = answer["predictions"]
    assert found["predicted"] == name
    assert list(found["probabilities"]) == answer["classes"]
    assert name in found["prediction_set"]
    assert set(found["prediction_set"]) <= set(answer["classes"])


@pytest.mark.parametrize(
    ("given", "clean"),
    [("", ""), ("/", ""), ("cyto", "/cyto"), ("/cyto/", "/cyto"), ("//a//b/", "/a/b"), (" /c ", "/c")],
)
def test_a_prefix_is_written_with_one_slash_before_it(given: str, clean: str):
    assert clean_root_path(given) == clean


@pytest.mark.parametrize("given", ["http://server/cyto", "/a/../b", "/a b", "/ä", "/a?b", "/<b>", "/v1"])
def test_a_prefix_that_is_no_path_is_refused(given: str):
    with pytest.raises(ConfigError, match="--root-path"):
        clean_root_path(given)
