"""Sources of a dirty cube that are too faint for their sidelobes to be seen are restored before they are measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.search.clean import Restored, smooth_spectrum, without_sidelobes
from napari_almadet.search.components import gaussian
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.sidelobes import restore_fainter, with_sidelobes
from napari_almadet.search.windows import Window

SIZE, CHANNELS, BEAM = 64, 48, 4.0
BRIGHT, FAINT, LINE = (32, 32), (12, 50), (20, 28)


def dirty_beam() -> torch.Tensor:
    """A lobe on a plateau of 2.5 beams, as arrays that are dense in the middle have it, and two sidelobes."""
    lobe, plateau = (gaussian((2 * SIZE, 2 * SIZE), width * BEAM) for width in (1.0, 2.5))
    sidelobes = torch.roll(lobe, (0, 12), (0, 1)) + torch.roll(lobe, (0, -12), (0, 1))
    return 0.8 * lobe + 0.2 * plateau + 0.2 * sidelobes


def at(image: torch.Tensor, place: tuple[int, int]) -> torch.Tensor:
    return torch.roll(image, place, (0, 1))[:SIZE, :SIZE]


def searched() -> tuple[NoiseUnits, Restored]:
    """A cube without noise of a bright continuum source and a faint line, after its search."""
    spectrum = torch.zeros(CHANNELS)
    spectrum[slice(*LINE)] += 12.0
    flat = torch.full((CHANNELS,), 1000 / CHANNELS**0.5)
    psf = dirty_beam()
    cube = flat[:, None, None] * at(psf, BRIGHT) + spectrum[:, None, None] * at(psf, FAINT)
    whole = torch.ones(SIZE, SIZE)
    units = NoiseUnits(cube, whole > 0, torch.ones(CHANNELS), whole, torch.arange(CHANNELS))
    seen, restored = without_sidelobes(units, BEAM, psf)
    assert restored is not None
    assert restored.places.tolist() == [list(BRIGHT)]
    return seen, restored


def error_of_shape(cube: torch.Tensor) -> float:
    """The largest difference between the faint source's image and that of the clean beam, over its peak."""
    y, x = (slice(p - 10, p + 11) for p in FAINT)
    image = cube[slice(*LINE), y, x].mean(dim=0)
    return float((image / image[10, 10] - at(gaussian((2 * SIZE, 2 * SIZE), BEAM), FAINT)[y, x]).abs().max())


def test_a_faint_source_is_restored_without_its_plateau_and_sidelobes():
    """A Gaussian fitted to it as it was would take in the plateau, and its flux would be too high by a fifth."""
    seen, restored = searched()
    assert error_of_shape(seen.cube) > 0.1
    more = restored.sidelobes_of([FAINT], [[LINE]])
    assert error_of_shape(more.off(seen.cube, seen.valid)) < 0.02
    outside = torch.ones(CHANNELS, dtype=torch.bool)
    outside[slice(*LINE)] = False
    assert not more.spectra[:, outside].any()  # there is no continuum, and noise is not restored


@pytest.mark.parametrize(("level", "kept"), [(0.4, False), (0.6, True)])
def test_a_continuum_of_three_sigma_is_restored_as_its_mean(level, kept):
    """Of 40 channels, 0.47 sigma each."""
    spectrum = level + torch.tensor([1.0, -1.0] * (CHANNELS // 2))
    made = smooth_spectrum(spectrum, [LINE])
    assert torch.equal(made[slice(*LINE)], spectrum[slice(*LINE)])
    assert float(made[0]) == pytest.approx(level if kept else 0.0, abs=1e-6)


def detection(window: Window, place: tuple[int, int], status: Status = Status.KEPT) -> RawDetection:
    candidate = Candidate(1, Box(0, 9, 0, 9), 0.9, status=status, denoised=np.zeros(CHANNELS, np.float32))
    candidate.peaks = (EmissionPeak(24, 1.0, 1.0, 23.5, 3.0),)
    features = Features(beam=BEAM, snr_stacked=9.0)
    return RawDetection(candidate, *map(float, place), 2.0, 2.0, np.ones(CHANNELS), features, window)


@pytest.mark.parametrize(
    ("place", "status", "restored"),
    [
        (FAINT, Status.KEPT, True),
        (FAINT, Status.FLAGGED, True),
        (FAINT, Status.DROPPED, False),
        ((BRIGHT[0] + 2, BRIGHT[1]), Status.KEPT, False),  # in the main lobe of what has been restored
        ((BRIGHT[0] + 4, BRIGHT[1]), Status.KEPT, True),
    ],
)
def test_kept_sources_are_restored_where_none_has_been(place, status, restored):
    seen, done = searched()
    field = slice(0, SIZE), slice(0, SIZE)
    window = replace(with_sidelobes(Window(0, 0, (SIZE, SIZE), field, 1), done, seen), restored=done)
    found = [detection(window, place, status), detection(window, (5, 5), Status.DROPPED)]
    restore_fainter(found)
    assert {len(f.window.sidelobes) for f in found} == {1 + restored}
    assert all(f.window.restored is None for f in found)
    left = seen.cube.numpy() - found[0].window.sidelobes_in((0, 0), (SIZE, SIZE))
    assert np.isfinite(left).all()


def test_an_extended_source_is_not_restored_as_a_compact_one():
    seen, done = searched()
    field = slice(0, SIZE), slice(0, SIZE)
    window = replace(with_sidelobes(Window(0, 0, (SIZE, SIZE), field, 1), done, seen), restored=done)
    patch = detection(window, FAINT)
    patch.box = Box(5, 20, 40, 60)
    restore_fainter([patch])
    assert len(patch.window.sidelobes) == 1
