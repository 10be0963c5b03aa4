"""Sphinx extension: pages and notebooks are read as they stand for a forge, links to reports in HTML among them."""

import re
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
    """Lets a link to a report lead to its folder, which is copied whole; a download would be its page alone."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Replaces the download nodes of one page."""
        for node in list(self.document.findall(addnodes.download_reference)):
            if node["reftarget"].endswith(".html"):
                node.replace_self(nodes.reference("", "", *node.children, refuri=node["reftarget"], internal=False))


_DEFAULTS = {"_DEFAULTS": "FitOptions()", "AS_IT_STANDS": "ReadOptions()", "STANDARD": "Decoding()"}
"""Constants in signatures, as a user would write them."""


def _as_written(
    app: "Sphinx", what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> Any:
    if signature is None:
        return None
    for constant, written in _DEFAULTS.items():
        signature = re.sub(rf"=\s*{constant}\b", f"= {written}", signature)
    return signature, returns


def setup(app: "Sphinx") -> dict[str, Any]:
    """Registers parser and transform; tables in blocks are plain text."""
    lexers["csv"] = TextLexer()
    app.add_source_parser(NotebookParser)
    app.add_transform(ReportLinks)
    app.connect("autodoc-process-signature", _as_written)
    return {"parallel_read_safe": True}
