"""What the networks learn from is what a cube would have given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_almadet.paper.blobs import normalise
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.training.data import FieldSet, Images, Spectra, box_noise, random_range, sample_model


@pytest.fixture(scope="module")
def fields():
    return FieldSet.simulate(24, seed=1, n_observations=3, planes=4, jobs=1)


def test_box_noise_is_the_spread_of_box_sums():
    observation = Observation(size=64, duration=600)
    noise = Imager(observation, band_ends=False).noise(600, torch.Generator().manual_seed(0)).numpy()
    for height, width in ((1, 1), (6, 9), (20, 12)):
        sums = noise[:, 10 : 10 + height, 20 : 20 + width].sum(axis=(1, 2))
        assert box_noise(height, width, observation.psf()) == pytest.approx(sums.std(), rel=0.12)


def test_signal_is_the_stacked_cube_in_units_of_its_noise():
    """The shortcut, linear in the sky, against the sum of the full cube's channels."""
    from napari_almadet.training.data import simulate_field

    observation = Observation(size=256, duration=600)
    imager = Imager(observation)
    model = sample_model(np.random.default_rng(11))
    field = simulate_field(np.random.default_rng(11), imager, 0)
    assert len(model) == len(field.sources) > 0
    stacked = imager.noise_free_cube(model).numpy().sum(axis=0) / (observation.noise * np.sqrt(128))
    np.testing.assert_allclose(field.signal.astype(float), stacked, atol=0.02 * stacked.max())
    np.testing.assert_allclose(field.sources[:, 0], model.x)
    # a source's probability map peaks where the source is
    for x, y, _ in field.sources:
        assert field.target[round(y), round(x)] > 0.9


def test_fields_hold_sources_and_nothing(fields):
    counts = [len(f.sources) for f in fields.fields]
    assert len(fields.fields) == 24
    assert 0 in counts
    assert max(counts) >= 3
    for field in fields.fields:
        assert field.spectra.shape == field.denoised.shape
        assert 0 <= field.denoised.min() <= field.denoised.max() <= 1
        if not len(field.sources):
            assert field.target.max() == 0


def test_images_are_shown_normalised_and_anew(fields):
    images = Images(fields, seed=0)
    torch.manual_seed(0)
    (first, target), (again, _) = images[3], images[3]
    assert first.shape == target.shape == (1, 256, 256)
    assert first.dtype == target.dtype == torch.float32
    assert (first.min(), first.max()) == (0, 1)
    assert not torch.equal(first, again)
    np.testing.assert_array_equal(normalise(first.numpy()), first.numpy())


def test_image_and_map_turn_together(fields):
    """Where the map is highest a bright enough image is, too, in whatever way it was turned."""
    index = int(np.argmax([f.signal.max() for f in fields.fields]))
    torch.manual_seed(1)
    for _ in range(8):
        image, target = Images(fields, seed=0)[index]
        if target.max() > 0.9:
            assert target[0].flatten()[image[0].argmax()] > 0.3


def test_validation_is_always_the_same(fields):
    images, spectra = (kind(fields, seed=3, augment=False) for kind in (Images, Spectra))
    for shown in (images, spectra):
        for first, again in zip(shown[5], shown[5], strict=True):
            assert torch.equal(first, again)


def test_spectra_are_standardised(fields):
    torch.manual_seed(2)
    spectra = Spectra(fields, seed=0)
    for index in range(0, len(spectra), 5):
        dirty, denoised = spectra[index]
        known = dirty[dirty != 0]
        assert dirty.shape == denoised.shape == (128,)
        assert known.mean().item() == pytest.approx(0, abs=1e-4)
        assert known.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_random_ranges_lie_inside():
    rng = np.random.default_rng(0)
    for _ in range(200):
        first, stop = random_range(rng, 100, 30)
        assert 0 <= first < stop <= 100
        assert stop - first >= 30
