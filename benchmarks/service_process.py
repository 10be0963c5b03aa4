"""A service in a process of its own, for benchmarks: its model, its start, its memory and handles."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

_STARTS = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"
_END_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Service:
    """A running `cytolora serve`."""

    url: str
    process: "subprocess.Popen[str]"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.url.rpartition(":")[2])

    def rss_mb(self) -> float:
        """Resident memory in MB (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """CPU time so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def num_handles(self) -> int:
        """Open files and sockets (Linux)."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def drawn_cells(folder: Path) -> Path:
    """Draws 60 cells into ``folder/cells``."""
    from cytolora.data.synthetic.dataset import write_synthetic

    write_synthetic(folder / "cells", num_images=60, num_slides=12, seed=0)
    return folder / "cells"


def small_bundle(folder: Path, cells: Path) -> Path:
    """Fits a linear classifier on the built-in backbone to cells."""
    import cytolora

    options = cytolora.FitOptions(learning_rates=[1e-2], max_steps=50, cache=folder / "cache")
    cytolora.fit(cells, folder / "model", method="linear", model="nano", options=options)
    return folder / "model"


def small_model(folder: Path) -> Path:
    """Fits the built-in backbone to drawn cells, some seconds' work, and exports it to ONNX."""
    model = small_bundle(folder, drawn_cells(folder))
    subprocess.run(
        [sys.executable, "-c", _STARTS, "export", str(model), "--to", "onnx", "--out", str(folder / "onnx")],
        check=True,
        capture_output=True,
        timeout=600,
    )
    return folder / "onnx"


@contextmanager
def running_service(model: Path, *options: str | Path, port: int = 0) -> Iterator[Service]:
    """Starts the command and ends it with SIGTERM; what it wrote beside its address is printed.

    Args:
        options: Of the command; the first may be more models.
    """
    words = ["serve", str(model), *map(str, options), "--port", str(port), "--threads", "1"]
    command = [sys.executable, "-c", _STARTS, *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        url = said.partition(" on ")[2].partition(" ")[0]
        if not url:
            sys.exit(f"The service did not start: {said}{process.stderr.read()}")
        yield Service(url, process)
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=_END_SECONDS)
        if rest.strip():
            print(f"The service wrote: {rest.strip()[-2000:]}")
    finally:
        process.kill()


def picture(seed: int, edge_px: int = 48) -> bytes:
    """A PNG of random colours, another for every seed."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    sink = BytesIO()
    Image.fromarray(small).resize((edge_px, edge_px)).save(sink, "PNG")
    return sink.getvalue()


def allow_open_files(needed: int) -> None:
    """Raises this process's limit of open files; ends the program where the system allows fewer."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"{needed:,} open files are needed and {hard:,} are allowed (ulimit -Hn).")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
