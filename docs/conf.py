"""Settings of the documentation: ``nox -f .ci/noxfile.py -s docs``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import sddp

ROOMS = (
    *("market", "statistics", "portfolio", "bounds", "estimation", "backtest"),
    *("evaluation", "reporting"),
)

project = "sddp-allocation"
author = "The sddp-allocation developers"
release = version = sddp.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "mathml"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# `name` links where there is such an object, and is plain code elsewhere.
default_role = "py:obj"
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "sddp-allocation"
html_theme_options = {
    "show_nav_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
}
html_show_sourcelink = False
html_copy_source = False


def setup(app):
    """Leave out of the page of top-level names what stands on the page of a room."""
    rooms = [import_module(f"sddp.{room}") for room in ROOMS]
    elsewhere = sorted({name for room in rooms for name in room.__all__} & set(sddp.__all__))

    def fill(_, name, source):
        if name == "reference/sddp":
            source[0] = source[0].replace("ELSEWHERE", ", ".join(elsewhere))

    app.connect("source-read", fill)
