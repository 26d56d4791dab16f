"""A field with a rotating source with a mask, another with continuum, and one of continuum alone."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beam, Beams

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, SourceMask, Status
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.measure.noise import Noise, white
from napari_almadet.settings import Settings

SHAPE = (48, 80, 90)
NOISE = 0.01  # Jy/beam
FWHM = 5.0  # of sources, in pixels


@pytest.fixture(scope="module")
def header() -> fits.Header:
    """Turned pixels of 0.1" x 0.1", frequency falling by 5 MHz a channel."""
    angle = np.radians(25)
    header = fits.Header()
    header["CTYPE1"], header["CRPIX1"], header["CDELT1"], header["CRVAL1"] = "RA---SIN", 41.3, -0.1 / 3600, 150.0
    header["CTYPE2"], header["CRPIX2"], header["CDELT2"], header["CRVAL2"] = "DEC--SIN", 30.7, 0.1 / 3600, -35.0
    header["CTYPE3"], header["CRPIX3"], header["CDELT3"], header["CRVAL3"] = "FREQ", 1.0, -5e6, 2.306e11
    header["CUNIT1"], header["CUNIT2"], header["CUNIT3"] = "deg", "deg", "Hz"
    header["PC1_1"], header["PC1_2"] = np.cos(angle), -np.sin(angle)
    header["PC2_1"], header["PC2_2"] = np.sin(angle), np.cos(angle)
    header["RESTFRQ"], header["SPECSYS"], header["RADESYS"] = 230.538e9, "LSRK", "ICRS"
    header["TELESCOP"] = "ALMA"
    return header


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    """Source 1 rotates about (35, 30), source 2 at (65, 50) has continuum of 0.1, source 3 at (15, 60) nothing else."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    sigma = FWHM / 2.3548
    planes = np.random.default_rng(3).normal(0, NOISE, SHAPE)
    middle = 22 + 0.8 * np.clip(x - 35, -8, 8)
    planes += np.exp(-((x - 35) ** 2 + (y - 30) ** 2) / (2 * (2 * sigma) ** 2) - (z - middle) ** 2 / (2 * 2.0**2))
    spot = np.exp(-((x - 65) ** 2 + (y - 50) ** 2) / (2 * sigma**2))
    planes += spot * (0.1 + 0.6 * np.exp(-((z - 30) ** 2) / (2 * 2.5**2)))
    planes += 0.2 * np.exp(-((x - 15) ** 2 + (y - 60) ** 2) / (2 * sigma**2))
    return planes.astype(np.float32)


def mask_over(planes: np.ndarray, threshold: float, region: tuple[slice, slice, slice]) -> SourceMask:
    """The voxels of a region over a threshold, cut to their bounds."""
    inside = planes[region] > threshold
    bounds = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(inside))
    origin = tuple(b.start + r.start for b, r in zip(bounds, region, strict=True))
    return SourceMask(origin, inside[bounds])


@pytest.fixture(scope="module")
def make_detections(data, header):
    """Detections in a cube of `data`; ``per_channel`` gives each channel its own beam, ``bare`` no header at all."""

    def make(per_channel=False, bare=False, path=None) -> Detections:
        beam = Beam(0.5 * u.arcsec, 0.4 * u.arcsec, 30 * u.deg)
        if per_channel:
            size = np.linspace(0.5, 0.55, SHAPE[0]) * u.arcsec
            beam = Beams(size, size * 0.8, np.full(SHAPE[0], 30.0) * u.deg)
        cube = Cube(
            data.copy(), wcs=WCS(header), unit=u.Jy / u.beam, beams=beam, header=header, name="toy field", path=path
        )
        if bare:
            cube = Cube.from_array(data, name="toy field")
        whole = (slice(0, 48), slice(12, 49), slice(14, 56))
        masks = (
            mask_over(data, 4 * NOISE, whole),
            mask_over(data - 0.1, 8 * NOISE, (slice(24, 37), slice(43, 58), slice(58, 73))),
            None,
        )
        candidates = []
        for number, (mask, x, y, z, kind) in enumerate(
            zip(masks, (35, 65, 15), (30, 50, 60), (22.0, 30.0, np.nan), ("line", "both", "continuum"), strict=True), 1
        ):
            box, channels, peaks = Box(y - 6, y + 7, x - 6, x + 7), (0, SHAPE[0]), ()
            if mask is not None:
                channels = (mask.slices[0].start, mask.slices[0].stop)
                peaks = (EmissionPeak(int(z), 0.9, np.nan, z, 6.0),)
            candidates.append(
                Candidate(
                    number, box, 0.9, peaks=peaks, channels=channels, mask=mask, kind=kind, status=Status.KEPT,
                    x=float(x), y=float(y), z=z, x_peak=float(x), y_peak=float(y), z_peak=z, f_sum=1.0, err_f_sum=0.1,
                    n_pix=0 if mask is None else int(mask.voxels.sum()), rms=NOISE, snr_pixel=20.0, snr_global=9.0,
                    decisions=[remark("kept: <made> by hand & \"true\"")], spectrum=data[:, 1, 1], method="mask",
                    denoised=np.zeros(SHAPE[0], np.float32), kin_pa=70.0 if number == 1 else np.nan,
                )
            )  # fmt: skip
        noise: Noise = white(SHAPE[0], NOISE)
        return Detections(
            cube, Settings(), candidates, data.sum(axis=0), np.zeros(SHAPE[1:]), {"cube": {"sha256": cube.sha256()}},
            warnings=["A <warning> & a half."], noise=noise,
        )  # fmt: skip

    return make
