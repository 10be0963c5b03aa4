"""CITATION.cff: readable, and of the version that it lies beside."""

from pathlib import Path

import yaml

_ROOT = Path(__file__).parents[2]


def test_the_citation_is_of_this_version_and_licence():
    found = yaml.safe_load((_ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert found["cff-version"] == "1.2.0"
    assert f'version = "{found["version"]}"' in project
    assert f'license = "{found["license"]}"' in project
    assert {"message", "title", "authors"} <= set(found)
    (paper,) = found["references"]
    assert "arXiv:2411.14975" in paper["notes"]
    assert len(paper["authors"]) == 6
