"""Memory of a service with two linear classifiers on one backbone against one.

    python benchmarks/shared_encoder.py                    # ViT-B/16 with random weights
    python benchmarks/shared_encoder.py --backbone nano

Each is a process of its own, loaded, warmed up and asked about 8 images. Promised: two classifiers that share
an encoder take at most 1.1 times the memory of one. Exit code 1 where that is not kept. Linux only.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
from rows import Row, add_rows_option, show
from service_process import Service, picture, running_service

from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import BackboneSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

_MOST = 1.1
_NUM_IMAGES = 8


def with_random_weights(backbone: str, folder: Path) -> BackboneSpec:
    """Returns an entry with its weights; they are drawn at random, in timm's layout, where they are not built in."""
    from safetensors.torch import save_file

    from cytolora.models.checkpoints.building import build_trunk

    spec = BACKBONES.get(backbone)
    if spec.weights is not None:
        return spec
    path = folder / "weights.safetensors"
    save_file({name: value.detach().contiguous() for name, value in build_trunk(spec).state_dict().items()}, path)
    return replace(spec, weights=path)


def loaded_mib(service: Service) -> float:
    """Resident memory after every model has answered."""
    with httpx.Client(base_url=service.url, timeout=600) as client:
        for number in range(_NUM_IMAGES):
            files = [("images", ("cell.png", picture(number), "image/png"))]
            client.post("/v1/models/predict", files=files).raise_for_status()
    return service.rss_mb()


def measured(name: str, models: Sequence[Path], spec: BackboneSpec, rounds: int) -> Row:
    """Measures services of some models, a process a round."""
    figures = []
    for _ in range(rounds):
        with running_service(*models, "--weights", f"{spec.name}={spec.weights}") as service:
            figures.append(loaded_mib(service))
    return Row(part="shared-encoder", name=name, figures={"MiB": figures}, conditions=spec.name)


def main() -> int:
    from small_bundle import write_small_bundle  # of tests/support

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit-b16", help="of the registry, with timm's layout among its formats")
    parser.add_argument("--rounds", type=int, default=1)
    add_rows_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shared-encoder-") as name:
        folder = Path(name)
        spec = with_random_weights(options.backbone, folder)
        models = [write_small_bundle(folder / name, spec=spec, drawn=seed) for seed, name in enumerate(("a", "b"))]
        one = measured("one classifier", models[:1], spec, options.rounds)
        two = measured("two classifiers, one encoder", models, spec, options.rounds)
    ratios = [after / before for before, after in zip(one.figures["MiB"], two.figures["MiB"], strict=True)]
    code = show([one, two], options)
    print(f"two against one: {max(ratios):.3f} times the memory, promised at most {_MOST}")
    return code or int(max(ratios) > _MOST)


if __name__ == "__main__":
    sys.exit(main())
