"""CLEAN of a simulated dirty cube, to a given depth, and restoration with the clean beam.

Minor cycles use a list of the brightest pixels only (Clark 1980, A&A 89, 377), with the whole dirty beam (Högbom 1974,
A&AS 15, 417); after each of them the residual of all pixels is updated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

LISTED = 3000  # maximum number of pixels in a minor cycle
DEPTH = 0.3  # of the peak of a plane: depth of one minor cycle
FEW = 60  # components: up to this number the beam is subtracted at each pixel, for more with one FFT


@dataclass(frozen=True)
class CleanRun:
    """Stopping criteria of CLEAN for each plane.

    Attributes
    ----------
    iterations
        Maximum number of iterations in a plane.
    threshold
        Peak of the residual at which to stop, in units of the noise.
    gain
        Fraction of the peak that an iteration subtracts.
    """

    iterations: int = 1000
    threshold: float = 3.0
    gain: float = 0.1


def draw_clean(rng: np.random.Generator, most: int = 3000) -> CleanRun:
    """Draw stopping criteria: 30 to ``most`` iterations per plane, 1 to 6 times the noise, gain 0.05 to 0.2."""
    return CleanRun(
        iterations=int(np.exp(rng.uniform(np.log(30), np.log(most)))),
        threshold=float(rng.uniform(1, 6)),
        gain=float(rng.uniform(0.05, 0.2)),
    )


def clean_plane(dirty: np.ndarray, psf: np.ndarray, noise: float, run: CleanRun) -> tuple[np.ndarray, np.ndarray]:
    """Deconvolve one plane.

    Parameters
    ----------
    dirty
        Shape (n, n), without NaN.
    psf
        The dirty beam, shape (2 n, 2 n), its peak of 1 at ``[n, n]``.
    noise
        Standard deviation in the dirty plane, in its unit.

    Returns
    -------
    components, residual
        Of the plane's shape and unit: ``dirty = components convolved with psf + residual``.
    """
    n = len(dirty)
    residual, components = np.array(dirty, np.float32).ravel(), np.zeros(n * n, np.float32)
    psf = np.ascontiguousarray(psf, np.float32)
    transfer = None
    # in the precision of the plane: otherwise a peak very close to the threshold would give an empty list
    stop, left = float(np.float32(run.threshold * noise)), run.iterations
    while left > 0:
        size = np.abs(residual)
        peak = float(size.max())
        if peak <= stop:
            break
        limit = max(stop, DEPTH * peak)
        listed = np.flatnonzero(size > limit)
        if len(listed) > LISTED:
            limit = float(np.partition(size, -LISTED)[-LISTED])
            listed = np.flatnonzero(size >= limit)[:LISTED]
        found, left = _minor_cycle(residual[listed], listed, n, psf.ravel(), limit, left, run.gain)
        where = listed[found != 0]
        components[where] += found[found != 0]
        if len(where) <= FEW:
            plane = residual.reshape(n, n)
            for pixel in where:
                y, x = divmod(int(pixel), n)
                plane -= found[listed == pixel] * psf[n - y : 2 * n - y, n - x : 2 * n - x]
        else:
            if transfer is None:
                transfer = fft.rfft2(fft.ifftshift(psf))
            new = np.zeros((2 * n, 2 * n), np.float32)
            new[where // n, where % n] = found[found != 0]
            residual -= fft.irfft2(fft.rfft2(new) * transfer, s=(2 * n, 2 * n))[:n, :n].ravel()
    return components.reshape(n, n), residual.reshape(n, n)


def _minor_cycle(
    values: np.ndarray, listed: np.ndarray, n: int, psf: np.ndarray, limit: float, left: int, gain: float
) -> tuple[np.ndarray, int]:
    """Components at the listed pixels down to a limit, and the number of remaining iterations; the psf is flattened."""
    found = np.zeros(len(listed), np.float32)
    # index of each listed pixel in a plane of the size of the psf; differences are lags
    place = (listed // n) * (2 * n) + listed % n
    centre = n * 2 * n + n
    while left > 0:
        k = int(np.abs(values).argmax())
        if abs(values[k]) < limit:
            break
        part = gain * values[k]
        found[k] += part
        values = values - part * psf.take(place - (place[k] - centre))
        left -= 1
    return found, left


def clean_cube(
    dirty: np.ndarray, psfs: tuple[np.ndarray, np.ndarray], beam: np.ndarray, noise: float, run: CleanRun
) -> np.ndarray:
    """CLEAN a cube plane by plane and restore it with the clean beam.

    Parameters
    ----------
    dirty
        Shape (channels, n, n), in Jy/beam, without NaN.
    psfs
        The dirty beams of the first and of the last channel, (2 n, 2 n) each; interpolated between.
    beam
        Transform (`numpy.fft.rfft2`) of the clean beam with peak 1 on a grid of 2 n.
    noise
        Of a channel, in Jy/beam.

    Returns
    -------
    ndarray
        Float32, of the cube's shape: components convolved with the clean beam, plus the residual.
    """
    n = dirty.shape[1]
    first, last = (psf.astype(np.float32) for psf in psfs)
    same = psfs[0] is psfs[1]
    restored = np.empty(dirty.shape, np.float32)
    for c, plane in enumerate(dirty):
        upward = np.float32(c / max(len(dirty) - 1, 1))
        psf = first if same else first + upward * (last - first)
        components, residual = clean_plane(plane, psf, noise, run)
        restored[c] = residual
        if components.any():
            wide = np.zeros((2 * n, 2 * n), np.float32)
            wide[:n, :n] = components
            restored[c] += fft.irfft2(fft.rfft2(wide) * beam, s=(2 * n, 2 * n))[:n, :n]
    return restored
