"""Memory of a service with two linear classifiers on one backbone against one.

    python benchmarks/shared_encoder.py                    # ViT-B/16 with random weights
    python benchmarks/shared_encoder.py --backbone nano

Each is a process of its own, loaded, warmed up and asked 20 images by every model. Promised: two classifiers that share
an encoder take at most 1.1 times the memory of one. Exit code 1 where that is not kept. Linux only.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import httpx
from rows import Row, add_rows_option, show
from service_process import Service, picture, running_service, small_bundle

_MOST = 1.1
_NUM_IMAGES = 20


def random_weights(backbone: str, folder: Path) -> Path | None:
    """Writes random weights in timm's layout of the official checkpoint; None for the built-in backbone."""
    from safetensors.torch import save_file

    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.models.checkpoints.building import build_trunk

    spec = BACKBONES.get(backbone)
    if spec.weights is not None:
        return None
    path = folder / "weights.safetensors"
    save_file({name: value.detach().contiguous() for name, value in build_trunk(spec).state_dict().items()}, path)
    return path


def loaded_mib(service: Service) -> float:
    """Resident memory after every model has answered."""
    with httpx.Client(base_url=service.url, timeout=600) as client:
        for number in range(_NUM_IMAGES):
            files = [("images", ("cell.png", picture(number), "image/png"))]
            client.post("/v1/models/predict", files=files).raise_for_status()
    return service.rss_mb()


def measured(name: str, *models: Path, rounds: int, backbone: str) -> Row:
    figures = []
    for _ in range(rounds):
        with running_service(models[0], *models[1:]) as service:
            figures.append(loaded_mib(service))
    return Row(part="shared-encoder", name=name, figures={"MiB": figures}, conditions=backbone)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit-b16", help="of the registry, with timm's layout among its formats")
    parser.add_argument("--rounds", type=int, default=1)
    add_rows_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shared-encoder-") as name:
        folder = Path(name)
        weights = random_weights(options.backbone, folder)
        first, second = (
            small_bundle(folder, name=model, backbone=options.backbone, weights=weights, seed=seed)
            for seed, model in enumerate(("first", "second"))
        )
        told = {"rounds": options.rounds, "backbone": options.backbone}
        one = measured("one classifier", first, **told)
        two = measured("two classifiers, one encoder", first, second, **told)
    ratios = [after / before for before, after in zip(one.figures["MiB"], two.figures["MiB"], strict=True)]
    code = show([one, two], options)
    print(f"two against one: {max(ratios):.3f} times the memory, promised at most {_MOST}")
    return code or int(max(ratios) > _MOST)


if __name__ == "__main__":
    sys.exit(main())
