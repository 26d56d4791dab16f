"""Lines dragged over are fitted, shown with their errors, and taken into the candidate only if the user says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_by_hand import stand_in_networks

from napari_almadet.inspection.apertures import LineModel
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.line_fit import HINT
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.spectrum_panel import SpectrumPanel
from napari_almadet.plugin.theme import Colours

pytestmark = pytest.mark.no_window


@pytest.fixture
def panel(session, qtbot):
    session.networks = stand_in_networks
    panel = SpectrumPanel(session, SpectralChoice(session), Cutouts(session), Colours.of("dark"))
    qtbot.addWidget(panel)
    panel.fit_button.setChecked(True)
    qtbot.waitUntil(lambda: panel.line_fit.fit is not None, timeout=60_000)
    return panel


def mark(panel, low: float, high: float) -> None:
    """Drag over channels ``low`` to ``high``."""
    start, end = panel.axis.world(np.array([low, high]))
    panel.line_fit.box.marked.emit(start, (start + end) / 2, False)
    assert panel.line_fit.preview.isVisible()
    panel.line_fit.box.marked.emit(start, end, True)


def test_the_candidates_line_is_fitted_with_errors_by_the_measured_noise(panel):
    (gaussian,), (errors,) = panel.line_fit.fit.gaussians, panel.line_fit.fit.errors
    np.testing.assert_allclose(gaussian[1:], (20, 6), atol=0.05)  # as the source is made
    assert 0.3 < panel.line_fit.fit.chi2 / panel.line_fit.fit.freedom < 3
    assert (errors > 0).all()
    velocity = panel.choice.velocity
    rows = dict(panel.line_fit.rows(velocity))
    assert "±" in rows["Centre 1"]
    assert rows["Integral 1"].endswith("Jy km/s")
    total = float(rows["Integral 1"].split()[0])
    summed = panel.spectrum[14:27].sum().value * velocity.widths[20]
    assert total == pytest.approx(summed, rel=0.05)


def test_lines_are_marked_by_dragging_moved_and_taken_away(panel, qtbot):
    panel.line_fit.fewer.click()
    assert panel.line_fit.words.text() == HINT
    assert not panel.line_fit.accept.isEnabled()
    mark(panel, 22, 17)  # from right to left
    assert panel.line_fit.fit.gaussians[0, 1] == pytest.approx(20, abs=0.05)
    mark(panel, 38, 42)
    assert len(panel.line_fit.fit.gaussians) == len(panel.line_fit.handles) == 2
    top, side = panel.line_fit.handles[0]
    assert top.pos().x() == pytest.approx(float(panel.axis.world(panel.line_fit.fit.gaussians[0, 1])))
    side.setPos(float(panel.axis.world(24)), side.pos().y())
    side.sigPositionChangeFinished.emit(side)
    assert panel.line_fit.fit.gaussians[0, 2] == pytest.approx(6, abs=0.2)  # fitted again from there
    panel.line_fit.fewer.click()
    assert len(panel.line_fit.fit.gaussians) == 1
    panel.fit_button.setChecked(False)
    assert panel.line_fit.rows(None) == []
    assert not panel.line_fit.model.isVisible()


def test_a_fit_is_the_candidates_when_it_is_accepted_and_undo_takes_it_back(panel, qtbot):
    session = panel.session
    candidate = session.selected
    before = dict(vars(candidate))
    mark(panel, 38, 42)
    assert candidate.peaks == before["peaks"]
    panel.line_fit.accept.click()
    qtbot.waitUntil(lambda: candidate.peaks != before["peaks"], timeout=60_000)
    assert candidate.primary.centre == candidate.z_fit == pytest.approx(20, abs=0.1)
    assert len(candidate.peaks) == 2
    assert panel.fit.isVisible()  # lines without an amplitude of the network's are drawn
    session.undo()
    assert (candidate.peaks, candidate.channels, candidate.origin) == (before["peaks"], before["channels"], "found")


def test_a_line_from_a_sources_own_spectrum_has_a_model():
    """It has no amplitude: the model was NaN, and the window and the page failed with it."""
    from napari_almadet.catalogue.candidate import EmissionPeak

    peak = EmissionPeak(20, 0.3, 0.8, 20.0, 5.0)
    spectrum = np.exp(-4 * np.log(2) * ((np.arange(48) - 20) / 5) ** 2) + 0.5
    for line in (peak, replace(peak, amplitude=np.nan)):
        model = LineModel.of(spectrum, (line,))
        np.testing.assert_allclose(model(np.arange(48)), spectrum, atol=1e-6)
