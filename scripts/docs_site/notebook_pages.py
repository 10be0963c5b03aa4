"""Notebooks as Markdown: cells of text as they stand, cells of code as blocks, stored outputs below them."""

import json
from html import escape
from typing import Any


def to_markdown(notebook: str) -> str:
    """Renders the JSON of a notebook (format 4)."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source.strip():
            parts.append(f"```python\n{source}\n```")
            parts += [html for one in cell["outputs"] if (html := _output(one))]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """One output as a block of HTML: without blank lines, which would end it."""
    if output["output_type"] == "stream":
        return _text(_joined(output["text"]))
    data = output.get("data", {})
    if "image/png" in data:
        pixels = _joined(data["image/png"]).replace("\n", "")
        return f'<div class="output"><img alt="output" src="data:image/png;base64,{pixels}"></div>'
    if "text/html" in data:
        lines = [line for line in _joined(data["text/html"]).splitlines() if line.strip()]
        return '<div class="output">\n' + "\n".join(lines) + "\n</div>"
    return _text(_joined(data.get("text/plain", "")))


def _text(text: str) -> str:
    lines = escape(text.rstrip("\n")).replace("\n\n", "\n&#8203;\n")
    return f'<pre class="output">{lines}</pre>' if lines else ""


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
