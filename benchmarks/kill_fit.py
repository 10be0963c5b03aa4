"""Kills `fit` at random moments, runs it again, and compares the bundle with that of a run left alone.

    python benchmarks/kill_fit.py --kills 50

Children are forked after the imports, so that a kill falls into work and not into loading torch. Every third child
starts with an empty cache and none of the bundle, the others go on from what the one before left behind.
"""

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

METHODS = ("linear", "lora")


def fit_once(cells: Path, folder: Path, method: str) -> None:
    import cytolora

    cytolora.fit(
        cells,
        folder / "model",
        method=method,
        model="nano",
        positive=["hsil"],
        options=cytolora.FitOptions(
            learning_rates=[1e-3, 1e-2], max_steps=150 if method == "linear" else 3, cache=folder / "cache"
        ),
    )


def fork(cells: Path, folder: Path, method: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        fit_once(cells, folder, method)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(bundle: Path) -> dict[str, bytes]:
    """Every file but the card, which has times in it."""
    return {
        str(path.relative_to(bundle)): path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file() and path.name != "card.md"
    }


def torment(cells: Path, folder: Path, method: str, kills: int, moment: random.Random) -> dict[str, object]:
    from cytolora.classifier.inference.classifier import Classifier

    whole, killed = folder / f"{method}-whole", folder / f"{method}-killed"
    fit_once(cells, folder / f"{method}-loads", method)  # whatever is imported late is now, before any fork
    started = time.perf_counter()
    assert wait(fork(cells, whole, method)) == 0
    seconds = time.perf_counter() - started
    expected = contents(whole / "model")
    found = {"method": method, "seconds": round(seconds, 2), "killed": 0, "finished_before": 0, "opened": 0, "bad": 0}
    while found["killed"] < kills:
        if found["killed"] % 3 == 0:
            shutil.rmtree(killed, ignore_errors=True)
        child = fork(cells, killed, method)
        time.sleep(moment.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        was_killed = wait(child) == -signal.SIGKILL
        found["killed" if was_killed else "finished_before"] += 1
        if not was_killed and moment.random() < 0.5:  # otherwise the next child replaces the bundle that is there
            shutil.rmtree(killed, ignore_errors=True)
        elif (killed / "model").exists() or list(killed.glob(".cytolora-replaced-*")):
            Classifier.load(killed / "model")
            found["opened"] += 1
            found["bad"] += contents(killed / "model") != expected
    code = wait(fork(cells, killed, method))
    Classifier.load(killed / "model")
    return {**found, "last_exit_code": code, "equal": contents(killed / "model") == expected}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="all methods together")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import torch

    import cytolora.classifier.fit.fit  # noqa: F401  (loaded before the fork)
    from cytolora.classifier.inference.classifier import Classifier  # noqa: F401
    from cytolora.data.synthetic.dataset import write_synthetic

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        cells, moment = Path(name) / "cells", random.Random(arguments.seed)
        write_synthetic(cells, num_images=60, num_slides=12, seed=0)
        each = -(-arguments.kills // len(METHODS))
        found = [torment(cells, Path(name), method, each, moment) for method in METHODS]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
