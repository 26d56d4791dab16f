"""A line in the own spectrum of a continuum source: found as by all lines at once in all channels."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.measure.line_model import profiles, whitening
from napari_almadet.measure.measurement import covariance_of, line_in
from napari_almadet.measure.noise import Noise


def by_all_at_once(own, noise, filled, least):
    """The S/N of every line, each profile whitened and freed of what is flat as a whole."""
    channel = filled.astype(float)
    white = whitening(covariance_of(noise, filled, np.zeros(len(own)), 1.0))
    flat = np.linalg.qr(white @ np.stack([np.ones(len(filled)), channel - channel.mean()], axis=1))[0]
    best, width = (least, None), 1.0
    while width <= len(filled) / 2:
        centre = np.arange(channel[0], channel[-1] + 1, max(width / 3, 1.0))
        bank = white @ profiles(channel, centre, np.full(len(centre), width))[0].T
        bank -= flat @ (flat.T @ bank)
        snr = (white @ own[filled]) @ bank / np.linalg.norm(bank, axis=0)
        if snr.max() > best[0]:
            best = (snr.max(), (centre[snr.argmax()], width))
        width *= 1.5
    return best[1]


@pytest.mark.parametrize("spectral", [[1.0], [1.0, 0.5, 0.1]])
@pytest.mark.parametrize(("centre", "fwhm"), [(40, 1), (90, 6), (150, 40), (199, 4)])
def test_a_line_is_found_where_all_lines_at_once_find_it(spectral, centre, fwhm):
    rng = np.random.default_rng(5)
    noise = Noise(rng.uniform(0.8, 1.2, 200), np.ones((1, 1)), np.array(spectral))
    noise.rms[100:104] = np.nan  # channels without data
    own = rng.normal(size=200) + 12 * np.exp(-4 * np.log(2) * ((np.arange(200) - centre) / fwhm) ** 2)
    own -= np.median(own)  # no continuum, of which the calibration would be uneven
    filled = np.flatnonzero(np.isfinite(noise.rms))
    cutout = SimpleNamespace(rms=np.where(np.isfinite(noise.rms), noise.rms, np.inf), noise=noise)
    own[filled] -= np.median(own[filled])
    found = line_in(SimpleNamespace(own=own, own_variance=1.0), cutout, None, 6.0)
    assert found == pytest.approx(by_all_at_once(own, noise, filled, 6.0))
    assert found[0] == pytest.approx(centre, abs=max(1, fwhm / 3))
    assert line_in(SimpleNamespace(own=own, own_variance=1.0), cutout, None, 1e3) is None
