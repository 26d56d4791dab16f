"""A small cube with a known line, for what is asked about candidates."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beam

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.cube.cube import Cube


@pytest.fixture
def header() -> fits.Header:
    """Rotated pixels of 0.1" x 0.15", frequency falling by 5 MHz a channel."""
    angle = np.radians(25)
    header = fits.Header()
    header["CTYPE1"], header["CRPIX1"], header["CDELT1"], header["CRVAL1"] = "RA---SIN", 35.0, -0.1 / 3600, 150.0
    header["CTYPE2"], header["CRPIX2"], header["CDELT2"], header["CRVAL2"] = "DEC--SIN", 30.0, 0.15 / 3600, -35.0
    header["CTYPE3"], header["CRPIX3"], header["CDELT3"], header["CRVAL3"] = "FREQ", 1.0, -5e6, 2.306e11
    header["CUNIT1"], header["CUNIT2"], header["CUNIT3"] = "deg", "deg", "Hz"
    header["PC1_1"], header["PC1_2"] = np.cos(angle), -np.sin(angle)
    header["PC2_1"], header["PC2_2"] = np.sin(angle), np.cos(angle)
    header["RESTFRQ"], header["SPECSYS"], header["RADESYS"] = 230.538e9, "LSRK", "ICRS"
    return header


@pytest.fixture
def make_cube(header):
    """Make a cube of some data with the header."""

    def make(data: np.ndarray) -> Cube:
        beam = Beam(0.9 * u.arcsec, 0.5 * u.arcsec, 30 * u.deg)
        return Cube(data, wcs=WCS(header), unit=u.Jy / u.beam, beams=beam, header=header, name="toy")

    return make


@pytest.fixture
def candidate() -> Candidate:
    """A line at channel 20, at the pixel x 33, y 28."""
    peak = EmissionPeak(channel=20, height=0.9, amplitude=0.9, centre=20.0, fwhm=6.0)
    return Candidate(1, Box(20, 37, 25, 42), 0.9, peaks=(peak,), channels=(14, 27), x=33.0, y=28.0)
