"""benchmarks/serve_load.py: percentiles, the slope of the memory, and a whole run in small."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmark_files import load_benchmark

pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def program() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        return load_benchmark("serve_load")


def test_a_percentile_is_a_value_that_was_measured(program: Any):
    values = [float(number) for number in range(1, 101)]
    assert [program.percentile(values, share) for share in (0.5, 0.9, 0.99, 1)] == [50, 90, 99, 100]
    assert program.percentile([7.0], 0.5) == 7


def test_memory_that_grows_evenly_has_its_slope_and_no_width_and_noise_has_width_around_none(program: Any):
    assert program.slope([100.0, 102.0, 104.0, 106.0], 500) == pytest.approx((4.0, 0.0))
    growth, half = program.slope([100.0, 101.0, 100.0, 101.0, 100.0], 1000)
    assert growth - half < 0 < growth + half


def test_lost_requests_and_lines_that_metrics_lack_are_named(program: Any, monkeypatch: pytest.MonkeyPatch):
    text = (
        "# TYPE cytolora_requests counter\n"
        'cytolora_requests_total{path="/v1/predict",status="200"} 9\n'
        "# TYPE cytolora_request_seconds histogram\n"
        'cytolora_request_seconds_bucket{le="+Inf",path="/v1/predict"} 10\n'
        'cytolora_request_seconds_count{path="/v1/predict"} 10\n'
        "# TYPE cytolora_images counter\n"
        'cytolora_images_total{model="model",outcome="predicted"} 10\n'
    )
    answer = SimpleNamespace(text=text, raise_for_status=lambda: answer)
    monkeypatch.setattr(program.httpx, "get", lambda *address, **options: answer)
    assert program.miscounted(SimpleNamespace(url=""), 10) == ["/metrics counts 9 requests, 10 were sent"]


@pytest.mark.slow
def test_a_small_load_is_answered_counted_and_measured():
    command = [sys.executable, str(FOLDER / "serve_load.py"), "--requests", "100", "--clients", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| 5 | 100 |" in done.stdout
    assert "every request and image is counted" in done.stdout
