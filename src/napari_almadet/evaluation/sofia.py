"""SoFiA-2 (Westmeier et al. 2021), run as a program in three dimensions, where the user has it.

It searches the cube divided by the noise of each pixel, continuum included, with its smooth-and-clip finder, linker and
dilation, and optionally its reliability filter.  Kernels and sizes follow the beam, as its manual advises; parameters
not listed in :func:`settings_of` have its defaults.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from napari_almadet.constants import ARCSEC_PER_DEGREE, BEAM_AREA

PROGRAM = "sofia"
HOME = "https://gitlab.com/SoFiA-Admin/SoFiA-2"
NO_SOURCE = 8  # its exit status if it finds none
SECONDS = 600  # after which it is ended; a cube of the paper's size takes 3
KERNELS_Z = (0, 3, 7, 15, 31, 63)  # channels; its default ends at 15, which is short for continuum
LINK = 2  # pixels and channels that link voxels; its default of 1 splits noisy sources
SMALLEST = (5, 2)  # pixels (its default) and channels: lines are as narrow as 2.5 channels
LEAST_SNR = 3.0  # integrated, of reliable sources: its default
CELL = 1 / ARCSEC_PER_DEGREE  # degrees, of the pixels in the file it reads: only pixels are read back
# What it says if negative detections are too few for the reliability; then there is nothing to reject.
TOO_FEW = ("no negative", "no positive", "covariance matrix")


def program() -> str | None:
    """Its path, or None if it is not on the PATH."""
    return shutil.which(PROGRAM)


def program_version() -> str:
    """Its version, as it prints it; "unknown" if it does not.

    Raises
    ------
    FileNotFoundError
        If it is not on the PATH.
    """
    path = program()
    if path is None:
        raise FileNotFoundError(missing())
    shown = subprocess.run([path], capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    version = re.search(r"\b2\.\d+(\.\d+)?\b", shown.stdout + shown.stderr)
    return version.group() if version else "unknown"


def missing() -> str:
    """One sentence for users who do not have it."""
    return f"SoFiA-2 is not installed: there is no program {PROGRAM} on the PATH, see {HOME}"


def settings_of(
    folder: Path, beam_fwhm: float, n_channels: int, threshold: float, reliability: float, longest: int
) -> dict:
    """Its parameters.

    Parameters
    ----------
    folder
        With ``cube.fits``; the results are written there, too.
    beam_fwhm
        In pixels.
    threshold
        Of the smooth-and-clip finder, in units of the noise of each smoothed cube.
    reliability
        Lowest reliability; 0: without the filter.
    longest
        The longest kernel in frequency, in channels: longer ones reach weaker continuum, but make masks longer.
    """
    kernels = [k for k in KERNELS_Z if k < min(n_channels, longest + 1)]
    return {
        "pipeline.pedantic": "false",  # some names differ between its versions
        "pipeline.threads": 1,
        "input.data": folder / "cube.fits",
        "scfind.kernelsXY": f"0, {max(3, round(beam_fwhm))}",
        "scfind.kernelsZ": ", ".join(str(k) for k in kernels),
        "scfind.threshold": threshold,
        "linker.radiusXY": LINK,
        "linker.radiusZ": LINK,
        "linker.minSizeXY": SMALLEST[0],
        "linker.minSizeZ": min(SMALLEST[1], n_channels),
        "reliability.enable": str(reliability > 0).lower(),
        "reliability.threshold": reliability,
        "reliability.plot": "false",
        "reliability.minSNR": LEAST_SNR,
        # of versions before 2.3: flux over the square root of the number of voxels, whose noise is correlated in a beam
        "reliability.fmin": round(LEAST_SNR * beam_fwhm * np.sqrt(BEAM_AREA), 2),
        "dilation.enable": "true",
        "parameter.wcs": "false",
        "output.directory": folder,
        "output.filename": "found",
        "output.writeCatASCII": "false",
        "output.writeCatXML": "true",
        "output.writeMask": "true",
    }


def search(
    planes: np.ndarray, beam_fwhm: float, threshold: float, reliability: float, longest: int, folder: Path
) -> Table:
    """Sources of a cube, as SoFiA-2 catalogues them; the voxels of each are in :func:`masks`.

    Parameters
    ----------
    planes
        Shape (channel, y, x), in units of the noise; NaN where there is no data.
    beam_fwhm, threshold, reliability, longest
        See :func:`settings_of`.
    folder
        Empty, for its files.

    Raises
    ------
    FileNotFoundError
        If it is not installed.
    RuntimeError
        If it fails, with what it said.
    """
    path = program()
    if path is None:
        raise FileNotFoundError(missing())
    beam = beam_fwhm * CELL
    header = fits.Header({"CDELT1": -CELL, "CDELT2": CELL, "BMAJ": beam, "BMIN": beam, "BPA": 0.0, "BUNIT": "Jy/beam"})
    fits.writeto(folder / "cube.fits", planes.astype(np.float32), header)
    settings = settings_of(folder, beam_fwhm, len(planes), threshold, reliability, longest)
    file = folder / "run.par"
    file.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()), encoding="utf-8")
    ended = subprocess.run(
        [path, file], cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
    )
    if ended.returncode == 0:
        return Table.read(folder / "found_cat.xml", format="votable")
    if ended.returncode == NO_SOURCE:
        return Table()
    error = _error_in(ended.stdout + ended.stderr)
    if reliability > 0 and any(words in error.lower() for words in TOO_FEW):
        (folder / "cube.fits").unlink()
        return search(planes, beam_fwhm, threshold, 0.0, longest, folder)
    raise RuntimeError(f"SoFiA-2 ended with status {ended.returncode}: {error}")


def _error_in(text: str) -> str:
    """What follows "ERROR:" in its output, without colours, in one line; otherwise the last line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = (plain.split("ERROR:")[-1] if "ERROR:" in plain else plain.strip()[-200:]).split("\n")
    return " ".join(line.strip() for line in lines if line.strip())[:300]


def masks(folder: Path) -> np.ndarray:
    """Numbers of the sources, column ``id`` of the catalogue, by voxel; 0 for none."""
    return fits.getdata(folder / "found_mask.fits")
