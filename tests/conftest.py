"""What the tests of every part share."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from napari_almadet import Cube, Settings, read_cube
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.detections import Detections
from napari_almadet.paper.pipeline import Networks


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real and CASA-made cubes beside the repository; they are not ours to ship, so it may be absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}")
    return folder


@pytest.fixture
def kill_when_it_prints():
    """Run Python code with arguments in a process, and kill it, without notice, as soon as it prints a line."""

    def run(line: str, code: str, *arguments: object) -> None:
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline().strip() == line
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    return run


@pytest.fixture
def almadet(monkeypatch):
    """Run a command with networks that take bright pixels for sources."""
    from typer.testing import CliRunner

    from napari_almadet.cli import app as cli

    simple = Networks(lambda batch: batch, lambda batch: (batch / 10).clamp(0, 1))
    monkeypatch.setattr("napari_almadet.detection.load_networks", lambda settings: simple)
    monkeypatch.setenv("COLUMNS", "150")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def cube_planes():
    """Make the planes of a field with a bright source of some height."""

    def planes(height: float) -> np.ndarray:
        z, y, x = np.ogrid[:64, :40, :50]
        noise = np.random.default_rng(1).normal(size=(64, 40, 50))
        source = np.exp(-(((z - 30) / 3) ** 2) - ((y - 20) / 3) ** 2 - ((x - 25) / 3) ** 2)
        return (noise + height * source).astype(np.float32)

    return planes


@pytest.fixture
def cube(tmp_path, cube_planes):
    """Write a cube with a bright source, or with nothing, and give its path."""

    def write(name="field.fits", height=100.0, rest_frequency=230e9):
        header = fits.Header()
        for i, (ctype, value, step, unit) in enumerate(
            [("RA---SIN", 60, -1e-4, "deg"), ("DEC--SIN", -35, 1e-4, "deg"), ("FREQ", 230e9, 1e7, "Hz")], start=1
        ):
            header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = ctype, value, step
            header[f"CRPIX{i}"], header[f"CUNIT{i}"] = 20, unit
        header["RESTFRQ"], header["BUNIT"] = rest_frequency, "K"
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        fits.writeto(path, cube_planes(height), header)
        return path

    return write


BEAM = 6.0  # FWHM in pixels
STD = BEAM / 2.3548


@pytest.fixture
def cube_of():
    """Make a cube of a bare (channel, y, x) array."""
    return Cube.from_array


@pytest.fixture
def planes_of():
    """Make (channel, y, x) planes of point sources seen with a Gaussian beam, and noise of deviation 1.

    As in a dirty image, the beam is the noise's autocorrelation.

    A source is (y, x, line centre, line FWHM, line peak, continuum), in pixels, channels
    and units of the noise.
    """

    def make(sources=(), shape=(128, 80, 90), seed=0, noise=1.0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        kernel = STD / np.sqrt(2)
        planes = ndimage.gaussian_filter(rng.normal(size=shape), (0, kernel, kernel), mode="wrap")
        planes *= noise * 2 * np.sqrt(np.pi) * kernel
        z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
        for y0, x0, z0, fwhm, line, continuum in sources:
            spectrum = continuum + line * np.exp(-4 * np.log(2) * ((z - z0) / fwhm) ** 2)
            planes += spectrum * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * STD**2))
        return planes.astype(np.float32)

    return make


@pytest.fixture
def planes(planes_of):
    """Sixteen channels of noise."""
    return planes_of(shape=(16, 80, 90))


@pytest.fixture
def detections_of():
    """Make detections by hand in a cube of `planes`: one kept, one dropped before it was measured, one flagged."""

    def make(cube, empty=False) -> Detections:
        rng = np.random.default_rng(1)
        peaks = (EmissionPeak(7, 0.8, 0.8, 7.2, 4.0), EmissionPeak(13, 0.3, 0.31, 13.1, 1.7))
        kept = Candidate(
            1, Box(10, 21, 30, 45), 0.9, peaks=peaks, channels=(3, 12), decisions=[remark("kept: it is there")]
        )
        kept.x, kept.y, kept.z, kept.f_sum, kept.err_f_sum = 37.3, 15.1, 7.25, 1.5, 0.1
        dropped = Candidate(2, Box(0, 3, 0, 3), 0.2, status=Status.DROPPED, decisions=[remark("dropped: it is not")])
        flagged = Candidate(3, Box(50, 60, 2, 9), 0.4, status=Status.FLAGGED, blended=True, edge=True, note="ask µ")
        for candidate in (kept, dropped, flagged):
            candidate.spectrum = cube.read()[:, *candidate.box.slices].sum(axis=(1, 2))
            candidate.denoised = rng.random(len(candidate.spectrum)).astype(np.float32)
        for candidate, origin in ((kept, (-17, 5)), (flagged, (23, -27))):
            candidate.focused, candidate.focus_origin = rng.normal(size=(64, 64)).astype(np.float32), origin
            candidate.focused[:5] = np.nan
        probability = rng.random(cube.shape[1:]).astype(np.float32)
        probability[0, 0] = np.nan
        return Detections(
            cube,
            Settings(min_snr=4),
            [] if empty else [kept, dropped, flagged],
            rng.normal(size=cube.shape[1:]).astype(np.float32),
            probability,
            {"version": "1", "cube": {"name": cube.name, "sha256": cube.sha256()}},
            ["beware"],
        )

    return make


@pytest.fixture
def header():
    """Of a cube with 1" pixels, 10 MHz channels, a rest frequency, a beam of BEAM pixels, and North not quite up."""
    cards = fits.Header()
    for i, (ctype, value, step, pixel, unit) in enumerate(
        [
            ("RA---SIN", 60.0, -1 / 3600, 45.0, "deg"),
            ("DEC--SIN", -35.0, 1 / 3600, 40.0, "deg"),
            ("FREQ", 230e9, 1e7, 64.0, "Hz"),
        ],
        start=1,
    ):
        cards[f"CTYPE{i}"], cards[f"CRVAL{i}"], cards[f"CDELT{i}"] = ctype, value, step
        cards[f"CRPIX{i}"], cards[f"CUNIT{i}"] = pixel, unit
    angle = np.deg2rad(30)
    cards["PC1_1"] = cards["PC2_2"] = np.cos(angle)
    cards["PC1_2"], cards["PC2_1"] = np.sin(angle), -np.sin(angle)
    cards["RADESYS"], cards["SPECSYS"], cards["RESTFRQ"], cards["BUNIT"] = "ICRS", "LSRK", 230e9, "Jy/beam"
    cards["BMAJ"], cards["BMIN"], cards["BPA"] = BEAM / 3600, BEAM / 3600, 0.0
    return cards


@pytest.fixture
def sky_cube(tmp_path, header):
    """Make a cube with world coordinates, by way of a file; keywords change the header."""

    def make(planes, name="field", **cards) -> Cube:
        changed = header.copy()
        changed.update(cards)
        path = tmp_path / f"{name}.fits"
        fits.writeto(path, planes, changed)
        return read_cube(path)

    return make


def _robust_snr(values):
    values = values - np.median(values)
    return values / (1.4826 * np.median(np.abs(values)) + 1e-12)


def _blobs_finder(batch):
    """In place of Blobs Finder: what stands 4 sigma out of an image, 14 sigma being certain."""
    import torch

    answers = [np.clip((_robust_snr(image) - 4) / 10, 0, 1) for image in batch[:, 0].numpy()]
    return torch.from_numpy(np.array(answers, np.float32))[:, None]


def _deep_gru(batch):
    """In place of Deep GRU: what stands 2.5 sigma out of a smoothed spectrum, 10 sigma being certain."""
    import torch

    answers = [
        np.clip((_robust_snr(ndimage.gaussian_filter1d(spectrum, 2)) - 2.5) / 7.5, 0, 1) for spectrum in batch.numpy()
    ]
    return torch.from_numpy(np.array(answers, np.float32))


@pytest.fixture
def oracles() -> Networks:
    """Stand-ins that need no weights, by robust thresholds on image and spectrum."""
    return Networks(_blobs_finder, _deep_gru, "cpu", ({"sha256": "b" * 64}, {"sha256": "d" * 64}))
