"""Configuration of Sphinx for the documentation site, which ``python scripts/docs_site`` builds."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "cytolora"
release = version = installed_version("cytolora")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "as_on_a_forge"]
root_doc = "docs/index"
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
exclude_patterns = ["src/**", "examples/**", "docs/examples/*/report/**"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!cytolora\.).*"),
    (
        "py:class",
        r"cytolora\.(core\.arguments\.Converted"
        r"|classifier\.inference\.(image_sources\.Source|predictor\.(View|Predictor)))",
    ),
    ("py:class", r"cytolora\.models\.pooling\.QueryPool"),
]
"""Types of other libraries, whose documentation is not at hand offline, and those that a user never holds."""

myst_heading_anchors = 4
highlight_language = "text"
maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "literal"
smartquotes = False
"""Dashes of options in prose stay as they are."""
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = "cytolora"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "show_prev_next": True,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": ["sphinx-version"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
}
