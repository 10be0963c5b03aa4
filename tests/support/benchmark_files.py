"""Opens benchmarks and scripts as modules, for tests that run them in small."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]


def load_benchmark(name: str) -> Any:
    """Imports ``benchmarks/NAME.py``."""
    return _load(f"benchmark_{name}", _ROOT / "benchmarks" / f"{name}.py")


def load_script(name: str) -> Any:
    """Imports ``scripts/NAME.py``."""
    return _load(f"script_{name}", _ROOT / "scripts" / f"{name}.py")


def _load(module_name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    return module
