"""Sphinx extension: pages and notebooks are read as they stand for a forge, links to reports in HTML among them."""

import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser as MarkdownParser
from notebook_pages import to_markdown
from pygments.lexers.special import TextLexer
from sphinx import addnodes
from sphinx.highlighting import lexers
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class NotebookParser(MarkdownParser):
    """Reads a notebook as Markdown: code in blocks, outputs below them."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parses the notebook's JSON into ``document``."""
        super().parse(to_markdown(inputstring), document)


class ReportLinks(SphinxTransform):
    """Lets a link to a file of a report lead into its folder, which is copied whole and has no page of the site."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Replaces the download nodes of one page."""
        here = PurePosixPath(self.env.docname).parent
        for node in list(self.document.findall(addnodes.download_reference)):
            if "report/" in node["reftarget"]:
                node.replace_self(_reference(node, node["reftarget"]))
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") == "doc" and "/report/" in node["reftarget"]:
                node.replace_self(_reference(node, posixpath.relpath(f"{node['reftarget']}.md", here)))


def _reference(node: nodes.Element, target: str) -> nodes.reference:
    return nodes.reference("", "", *node.children, refuri=target, internal=False)


_DEFAULTS = {"_DEFAULTS": "FitOptions()", "AS_IT_STANDS": "ReadOptions()", "STANDARD": "Decoding()"}
"""Constants in signatures, as a user would write them."""


def _as_written(
    app: "Sphinx", what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> Any:
    if signature is None:
        return None
    signature = signature.replace("<factory>", "...")
    for constant, written in _DEFAULTS.items():
        signature = re.sub(rf"=\s*{constant}\b", f"= {written}", signature)
    return signature, returns


_COLON = "\ue000"
"""Stands for a colon while napoleon looks for a type before it."""


def _hide_colons(app: "Sphinx", what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "property"):
        lines[:] = [line.replace(":", _COLON) for line in lines]


def _show_colons(app: "Sphinx", what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: "Sphinx") -> dict[str, Any]:
    """Registers parser and transform; tables in blocks are plain text."""
    lexers["csv"] = TextLexer()
    app.add_source_parser(NotebookParser)
    app.add_transform(ReportLinks)
    app.connect("autodoc-process-signature", _as_written)
    app.connect("autodoc-process-docstring", _hide_colons, priority=400)  # napoleon's own priority is 500
    app.connect("autodoc-process-docstring", _show_colons, priority=600)
    return {"parallel_read_safe": True}
