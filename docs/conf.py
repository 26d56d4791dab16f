"""How ``make docs`` builds the documentation: the pages as a code host shows them, and one for every public name.

The source folder is the root of the repository, so that the links between the pages are right in both places.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "napari-almadet"
author = "the napari-almadet developers"
copyright = f"{date.today().year}, {author}"  # noqa: A001 - so it is called by Sphinx
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinxcontrib.mermaid",
]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "findings/README.md", "docs/**"]
exclude_patterns = ["docs/images", "docs/*.py", "**/__pycache__"]

html_theme = "furo"
html_title = f"napari-almadet {version}"
html_show_sourcelink = False

# Markdown as a code host renders it: the same anchors of headings, diagrams between fences.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

# Public names with the sections that numpydoc knows; tests/test_public_api.py holds them to its form.
autosummary_generate = True
autodoc_typehints = "none"  # the signature says them, unevaluated
autodoc_preserve_defaults = True
numpydoc_show_class_members = True
numpydoc_show_inherited_class_members = False
numpydoc_class_members_toctree = False


def pages_of_index(index: str) -> list[str]:
    """The pages that the index links to, in its order, as paths from the root without their ending."""
    links = re.findall(r"\]\(([^)\s:]+)\.(?:md|rst)\)", index)
    return [(ROOT / "docs" / link).resolve().relative_to(ROOT).as_posix() for link in links]


def add_contents(app, name: str, source: list[str]) -> None:
    """Make the list of links in the index the order of the site, so that it stands in one place only."""
    if name == root_doc:
        entries = "\n".join(f"/{page}" for page in pages_of_index(source[0]))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n/README\n{entries}\n```\n"


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
