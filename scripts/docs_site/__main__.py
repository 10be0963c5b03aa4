"""Builds the documentation site: strict (a warning is an error) and without a network.

.venv/bin/python scripts/docs_site            # build/site/html/index.html
"""

import argparse
import shutil
import sys
from pathlib import Path

from sources import ROOT, assemble
from sphinx.cmd.build import build_main

from cytolora.classifier.fit.config import DEFAULT_CACHE

_REDIRECT = (
    '<!doctype html><meta charset="utf-8"><title>cytolora</title>'
    '<meta http-equiv="refresh" content="0; url=docs/index.html">'
)


def main() -> int:
    """Assembles the sources, builds the pages, and copies the reports beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder, emptied first")
    out: Path = parser.parse_args().out
    for name in ("source", "html", "doctrees"):
        shutil.rmtree(out / name, ignore_errors=True)
    assemble(out / "source")
    here = str(Path(__file__).parent)
    strict = ["-q", "-W", "--keep-going", "-n", "-c", here, "-d", str(out / "doctrees")]
    failed = build_main([*strict, str(out / "source"), str(out / "html")])
    for report in sorted((ROOT / "docs" / "examples").glob("*/report")):
        shutil.copytree(report, out / "html" / report.relative_to(ROOT), dirs_exist_ok=True)
    hide_home(out / "html")
    (out / "html" / "index.html").write_text(_REDIRECT, encoding="utf-8")
    if not failed:
        print(f"{out / 'html' / 'index.html'}")
    return failed


def hide_home(folder: Path) -> None:
    """Writes the default cache folder, which stands in signatures, as everybody's and not as this user's."""
    for page in (path for path in folder.rglob("*") if path.suffix in (".html", ".js")):
        text = page.read_text(encoding="utf-8")
        if str(DEFAULT_CACHE) in text:
            page.write_text(text.replace(str(DEFAULT_CACHE), "~/.cache/cytolora"), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
