"""The documentation leads nowhere that is not there."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = [
    page
    for kind in ("*.md", "*.rst")
    for page in sorted((ROOT / "docs").rglob(kind))
    if "generated" not in page.parts  # by `make docs`
]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link.split("#")[0]).exists()]
    assert not missing


def tables_of(text: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells. A bar in code or after a backslash separates no cells."""
    tables, row_before = [], False
    for line in re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        is_row = line.startswith("|")
        if is_row and not row_before:
            tables.append([])
        if is_row:
            bars_of_code_hidden = re.sub(r"`[^`]*`", lambda code: code[0].replace("|", "/"), line)
            tables[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", bars_of_code_hidden)])
        row_before = is_row
    return tables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_tables_are_whole(page):
    """A row that was inserted into the middle of another one had cut a table of the architecture in two."""
    for table in tables_of(page.read_text(encoding="utf-8")):
        assert all(row[0] == row[-1] == "" for row in table), "a row begins and ends with a bar"
        assert not [row for row in table if len(row) != len(table[0])]
        assert all(table[0][1:-1]), f"every column has a heading: {table[0]}"
        assert all(re.fullmatch(":?-+:?", cell) for cell in table[1][1:-1])
        assert not [row for row in table[2:] if not any(row[2:-1])], "a row says more than its name"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in DOCS} - {"index.md"}
    assert pages | {"../CHANGELOG.md", "../CONTRIBUTING.md", "../findings/README.md"} == set(
        re.findall(r"\]\(([^)\s]+\.(?:md|rst))\)", index)
    )


def test_one_version_in_all_places():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, re.MULTILINE) == [project["version"]]
    assert re.search(r"^## \[(\S+)\] - ", changelog, re.MULTILINE)[1] == project["version"]


def test_the_guide_names_every_command_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()) - {"demo", "system"}
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert not {target for target in targets if f"make {target}" not in guide}


def test_the_page_of_decisions_is_what_the_code_has():
    """If not: python docs/make_decisions.py."""
    spec = importlib.util.spec_from_file_location("make_decisions", ROOT / "docs" / "make_decisions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8") == module.page()
