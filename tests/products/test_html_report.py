"""The report is one file, well formed, with all that was found in it, and nothing in it is taken for markup."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from napari_almadet.products.report import _top_of, write_html

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page, and complains of what is not closed or not opened."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.words.append(text)


@pytest.fixture(scope="module")
def page(make_detections, tmp_path_factory):
    detections = make_detections()
    detections.candidates[0].note = "<b>bold</b> & Größe"
    detections.provenance["dirty_beam"] = {"note": "34% of the sidelobes were subtracted for the search."}
    detections.candidates[1].redshifts = "0.50000 +- 0.00010 (CO 2-1, CO 3-2)"
    path = write_html(detections, tmp_path_factory.mktemp("report") / "report.html")
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_a_page_is_well_formed_and_needs_nothing_else(page):
    text, read = page
    assert text.startswith("<!DOCTYPE html>")
    for tag, attributes in read.found:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/png;base64,", "#")), tag
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in read.found


def test_every_candidate_has_a_row_and_a_panel_with_pictures(page):
    _, read = page
    assert [a["id"] for tag, a in read.found if tag == "article"] == ["c1", "c2", "c3"]
    pictures = [a for tag, a in read.found if tag == "img"]
    assert len(pictures) == 1 + 2 * 3 and all(a["alt"] for a in pictures)
    for picture in pictures:
        data = base64.b64decode(picture["src"].partition(",")[2])
        assert min(Image.open(BytesIO(data)).size) > 200
    links = [a["href"] for tag, a in read.found if tag == "a"]
    assert links == ["#c1", "#c2", "#c3"]


def test_what_was_said_is_text_and_never_markup(page):
    text, read = page
    words = " ".join(read.words)
    assert 'kept: <made> by hand & "true"' in words
    assert "A <warning> & a half." in words
    assert "34% of the sidelobes were subtracted for the search." in read.words  # a note, beside the record
    assert "<b>bold</b> & Größe" in words and not any(tag in ("b", "made", "warning") for tag, _ in read.found)
    assert "0.50000 +- 0.00010 (CO 2-1, CO 3-2)" in words
    assert "threshold" in words and "0.75" in words  # the settings
    assert "<made>" not in text


def test_columns_are_sorted_by_numbers_and_words(page):
    text, read = page
    values = [a["data-value"] for tag, a in read.found if tag == "td" and "data-value" in a]
    assert values and all(value == "" or float(value) is not None for value in values)
    assert 'addEventListener("click"' in text
    heads = [a for tag, a in read.found if tag == "th"]
    buttons = [a for tag, a in read.found if tag == "button"]
    assert len(heads) == len(buttons) > 8


def test_the_number_of_a_source_is_at_its_mask_and_not_at_the_corner_of_its_bounds():
    footprint = np.zeros((5, 9), bool)
    footprint[0], footprint[4, 1:3] = True, True  # wide below, and a spur at the upper left
    assert _top_of(footprint, 100, 50) == (101.5, 55.0)


def test_the_picture_of_the_field_says_what_it_shows(page):
    _, read = page
    assert "Sum over all channels" in " ".join(read.words)


def test_a_result_without_sources_and_a_cube_without_a_header_have_a_page(make_detections, tmp_path):
    detections = make_detections(bare=True)
    Page(write_html(detections, tmp_path / "bare.html", detections.kept[:1]).read_text(encoding="utf-8"))
    read = Page(write_html(detections, tmp_path / "empty.html", []).read_text(encoding="utf-8"))
    assert "No candidate." in " ".join(read.words)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CLICK = """<script>
const button = [...document.querySelectorAll("th button")].find(one => one.textContent.startsWith("id"));
const order = () => [...document.querySelectorAll("table.list tbody tr")].map(row => row.cells[0].textContent).join();
button.click(); const rising = order();
button.click(); const falling = order();
document.title = [rising, falling, document.documentElement.scrollWidth <= innerWidth].join(" ");
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_a_browser_shows_it_on_a_narrow_screen_and_sorts_it(page, tmp_path):
    text, _ = page
    (tmp_path / "report.html").write_text(text.replace("</body>", CLICK), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*command, "--window-size=500,900", "--dump-dom", (tmp_path / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert re.search("<title>(.*)</title>", shown.stdout)[1] == "1,2,3 3,2,1 true"
