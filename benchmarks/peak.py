"""Peak of one core: GFLOP/s of the faster of torch's own and oneDNN's packed product, at the shape of a ViT-B/16's MLP.

.venv/bin/python benchmarks/peak.py --rounds 5
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from measuring import cpu_seconds
from rows import Row, add_rows_option, show
from torch import Tensor

from cytolora.models.kernels.packed import DTYPES, FrozenProduct, Precision

ROWS, INPUTS, OUTPUTS = 6304, 768, 3072
REPEATS = 4


def peak_gflops(precision: Precision) -> Callable[[], float]:
    """Returns what measures the rate of the faster of the two products."""
    rows, weight = (torch.randn(*size).to(DTYPES[precision]) for size in ((ROWS, INPUTS), (OUTPUTS, INPUTS)))
    products = (lambda: F.linear(rows, weight), partial(FrozenProduct([weight], [None], precision).forward, rows))

    def rate(product: Callable[[], Tensor]) -> float:
        with torch.inference_mode():
            product()
            taken = cpu_seconds(lambda: [product() for _ in range(REPEATS)])
        return REPEATS * 2 * ROWS * INPUTS * OUTPUTS / taken / 1e9

    return lambda: max(map(rate, products))


def peaks() -> dict[str, Callable[[], float]]:
    """Returns what measures the peak, by precision."""
    return {"fp32": peak_gflops("fp32"), "bf16": peak_gflops("bf16")}


def measure(rounds: int) -> Iterator[Row]:
    """Measures both precisions in turn."""
    measures = peaks()
    found: dict[str, list[float]] = {precision: [] for precision in measures}
    for _ in range(rounds):
        for precision, peak in measures.items():
            found[precision].append(peak())
    for precision, values in found.items():
        yield Row(part="peak", name=precision, figures={"GFLOP/s": values})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_rows_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    return show(measure(options.rounds), options)


if __name__ == "__main__":
    sys.exit(main())
