"""A page holds what it says: spectrum, images with the box, numbers."""

from __future__ import annotations

import numpy as np
import pytest
from made_by_hand import make_detections
from PIL import Image

from napari_almadet.catalogue.export import ExchangeError
from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.apertures import line_free
from napari_almadet.products.figure import candidate_figure, write_figure, write_report


@pytest.mark.parametrize("bare", [False, True])
def test_a_page_shows_the_candidates_own_data(detections, data, bare):
    if bare:
        detections = make_detections(Cube.from_array(data))
    candidate = detections.candidates[0]
    figure = candidate_figure(detections, candidate)
    images = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert len(images) == 2
    first, last = candidate.channels
    width = 1.0 if bare else 1e7 / 2.3e11 * 299792.458  # km/s of a channel
    expected = width * data[first:last].sum(axis=0)[19:83, 29:93]  # 64 pixels about the middle of the box
    np.testing.assert_allclose(np.asarray(images[0]), expected, rtol=1e-4, atol=2e-3)
    texts = "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "kept: made by hand" in texts
    assert "unreviewed" in texts
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert ("Channel" if bare else "Frequency (GHz, LSRK)") in labels


def test_a_candidate_at_the_edge_and_without_a_line(detections):
    candidate = detections.candidates[1]
    candidate.peaks, candidate.note = (), "one $ sign, _ and µ"
    candidate.channels = (0, 48)
    candidate_figure(detections, candidate).draw_without_rendering()


def test_moment_is_in_velocities_and_without_the_continuum(detections, data):
    detections.cube.data[:] += 0.01  # of continuum in every channel
    candidate = detections.candidates[0]
    moment = [axes for axes in candidate_figure(detections, candidate).axes if axes.get_images()][1]
    first, last = candidate.channels
    free = line_free(candidate, len(data))
    planes = data[first:last] - data[free].mean(axis=0)
    width = 299792.458 * 1e7 / 2.3e11  # km/s a channel
    expected = width * planes.sum(axis=0)[19:83, 29:93]
    shown = np.asarray(moment.get_images()[0].get_array())
    scale = shown[np.unravel_index(np.argmax(expected), expected.shape)] / expected.max()
    assert scale in (pytest.approx(1), pytest.approx(1000))  # Jy or mJy
    np.testing.assert_allclose(shown / scale, expected, atol=1e-3 * expected.max())
    label = "mJy/beam km/s" if scale > 2 else "Jy/beam km/s"
    bars = [axes.get_ylabel() for axes in moment.figure.axes]
    assert any(text.endswith(f"({label})") for text in bars)


def test_nothing_sticks_out_of_the_page(detections):
    candidate = detections.candidates[0]
    candidate.note = "a note of very many words that goes on and on until it has said what it wanted to say"
    candidate.x, candidate.y = 1234.5, 1234.5
    figure = candidate_figure(detections, candidate)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (*axes.texts, axes.title, axes.yaxis.label, axes.xaxis.label):
            box = text.get_window_extent()
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= figure.bbox.x1, text.get_text()


def test_files(detections, tmp_path):
    with Image.open(write_figure(detections, detections.candidates[0], tmp_path / "one.png")) as image:
        assert image.width > 1000
    report = write_report(detections, tmp_path / "all.pdf", detections.kept)
    assert report.read_bytes().count(b"/Type /Page ") == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.pdf", "one.png"]
    for write, name, what in (
        (write_figure, "a.gif", detections.candidates[0]),
        (write_report, "a.png", detections.kept),
    ):
        with pytest.raises(ExchangeError, match="must end in"):
            if write is write_report:
                write(detections, tmp_path / name, what)
            else:
                write(detections, what, tmp_path / name)
    with pytest.raises(ExchangeError, match="no candidates"):
        write_report(detections, tmp_path / "none.pdf", [])
