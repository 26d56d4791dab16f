"""The dirty beam of a cube that was smoothed, from the autocorrelation of its noise.

Smoothing multiplies the transform of the noise's autocorrelation by the kernel's transform twice, and that of a
source's image once, so that with natural weights the first divided by the kernel's transform is the second.  The kernel
is what the header's beam is wider by than the beam before; this was fitted to the main lobe of the dirty beam before,
which is the autocorrelation with the kernel's transform divided out twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from scipy import fft

from napari_almadet.search.dirty_beam import block_transform, lobe_curvature

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

STEPS = 40  # to the kernel, at most
DAMPING = 0.5  # of the difference, taken in a step
CONVERGED = 1e-3  # of the beam's area: a smaller step is the last
NEAR = 6.0  # beams, FWHM of the taper with which the main lobe is restored: it keeps the border out of long baselines
# Power of the noise on a baseline over that on the shortest, at which an estimate is worth as much as a Gaussian; the
# autocorrelation has an error of a few 1e-4.
FLOOR = 1e-3
FINER = 2  # times as many pixels, in which the main lobe is fitted: before smoothing it has few
# Area of the main lobe before smoothing over that of the beam before, at which the kernel is taken: it is over 1, since
# the longest baselines are lost in the error.  With it peaks are within 5 % of the true ones in five cubes (validation)
# that were smoothed to 1.54 to 1.91 times their beam.
LEFT = 1.1
# Of the header's beam, minimum covariance of the kernel along its longer axis: 1.05 times as wide as before
SMALLEST = 0.1
LARGEST = 0.85  # of the header's beam, maximum covariance of the kernel: a beam 2.6 times as wide as before


@dataclass(frozen=True, eq=False)
class SmoothedBeam:
    """What sources look like in a dirty cube that was smoothed.

    Attributes
    ----------
    psf
        Image of a point source, shape (2 ny, 2 nx), its peak of 1 at [0, 0].
    peak
        That of a point source of unit flux in units of the beam; over 1, since the dirty beam has shoulders.
    kernel
        Covariance along x and y of what the cube was smoothed with, in pixels², (2, 2).
    """

    psf: torch.Tensor
    peak: float
    kernel: np.ndarray

    @property
    def axes(self) -> np.ndarray:
        """FWHM of the kernel in pixels, along both axes."""
        variances = np.linalg.eigvalsh(self.kernel).clip(min=0)  # an axis of none may be below it by rounding
        return np.asarray(np.sqrt(variances)[::-1] * gaussian_sigma_to_fwhm)


def smoothed_beam(natural: torch.Tensor, header_beam: np.ndarray, k: int | float = 1) -> SmoothedBeam | None:
    """Estimate the beam of a dirty cube that was smoothed; None where its noise does not have that shape.

    Parameters
    ----------
    natural
        The noise's autocorrelation, shape (2 ny, 2 nx), its peak of 1 at [0, 0].
    header_beam
        Covariance along x and y in pixels², (2, 2).
    k
        How many pixels of the file were averaged on a side.
    """
    import torch

    target = header_beam + np.eye(2) * max(1 - 1 / k**2, 0) / 12  # as averaged pixels show it
    noise = natural.cpu().numpy().astype(float)
    near = tapered(noise, target)
    near_power = np.maximum(fft.rfft2(near).real, 0) / block_power(near.shape, k)
    kernel = fitted_kernel(near_power, near.shape, target)
    if kernel is None:
        return None
    dense, before = before_smoothing(near_power, near.shape, target, kernel)
    through = gaussian_transform(kernel, near.shape)
    peak = mean_of(dense * through, near.shape) / mean_of(dense, near.shape)
    peak *= mean_of(before, near.shape) / mean_of(before * through, near.shape)
    power = fft.rfft2(noise).real / block_power(noise.shape, k)
    seen, _ = before_smoothing(power, noise.shape, target, kernel)
    psf = fft.irfft2(seen * gaussian_transform(kernel, noise.shape), s=noise.shape)
    image = torch.as_tensor(psf / psf[0, 0], dtype=natural.dtype, device=natural.device)
    return SmoothedBeam(image, float(peak), kernel)


def tapered(noise: np.ndarray, target: np.ndarray) -> np.ndarray:
    """An autocorrelation near its peak times a round Gaussian of :data:`NEAR` beams."""
    sigma = NEAR * float(np.linalg.det(target)) ** 0.25
    lags = [np.r_[0:reach, -reach:0] for reach in (min(n // 2, int(np.ceil(4 * sigma))) for n in noise.shape)]
    return np.asarray(noise[np.ix_(*lags)] * taper_of(lags, sigma))


def taper_of(lags: Sequence[np.ndarray], sigma: float) -> np.ndarray:
    """A round Gaussian of ``sigma`` pixels at lags along y and x."""
    return np.asarray(np.exp(-0.5 * (lags[0][:, None] ** 2 + lags[1] ** 2) / sigma**2))


def block_power(shape: tuple[int, ...], k: int | float) -> np.ndarray | float:
    """What averaging has multiplied the transform of a source's image by: (ny, nx // 2 + 1)."""
    if k <= 1:
        return 1.0
    y, x = (block_transform(n, int(k)) for n in shape)
    return y[:, None] * x[: shape[1] // 2 + 1]


def gaussian_transform(covariance: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Transform of a Gaussian of unit sum, covariance along x and y in pixels²: (ny, nx // 2 + 1)."""
    v, u = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    return np.exp(-2 * np.pi**2 * (covariance[0, 0] * u**2 + 2 * covariance[0, 1] * u * v + covariance[1, 1] * v**2))


def mean_of(transform: np.ndarray, shape: tuple[int, ...]) -> float:
    """The value at [0, 0] of the image whose transform is given, as `numpy.fft.rfft2` returns it."""
    columns = np.full(transform.shape[1], 2.0)
    columns[0] = 1
    if shape[1] % 2 == 0:
        columns[-1] = 1
    return float((transform * columns).sum() / (shape[0] * shape[1]))


def before_smoothing(
    power: np.ndarray, shape: tuple[int, ...], target: np.ndarray, kernel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Transform of the dirty beam before smoothing, and that of the clean beam before.

    On baselines whose power is lost in its error, the first has the shape of the second.
    """
    before, twice = gaussian_transform(target - kernel, shape), gaussian_transform(kernel, shape) ** 2
    expected = twice * before
    trust = expected**2 / (expected**2 + FLOOR**2)
    dense = power / np.maximum(twice, 1e-12) * trust
    scale = mean_of(dense, shape) / mean_of(before * trust, shape)
    return dense + scale * before * (1 - trust), before


def fitted_kernel(power: np.ndarray, shape: tuple[int, ...], target: np.ndarray) -> np.ndarray | None:
    """The kernel without which the noise's main lobe has the width of the clean beam before; None if there is none."""
    import torch

    kernel = np.zeros((2, 2))
    lags = [np.fft.fftfreq(FINER * n, 1 / n) for n in shape]
    taper = np.maximum(taper_of(lags, NEAR * float(np.linalg.det(target)) ** 0.25), 1e-3)
    for _ in range(STEPS):
        dense, _ = before_smoothing(power, shape, target, kernel)
        image = finer(dense, shape) / taper
        curvature = lobe_curvature(torch.as_tensor(image / image[0, 0]))
        if curvature is None or not np.linalg.eigvalsh(curvature)[0] > 0:
            return None
        lobe = np.linalg.inv(2 * curvature)[::-1, ::-1] / FINER**2  # along x and y
        step = DAMPING * (lobe - LEFT * (target - kernel))
        kernel = within_beam(kernel + step, target)
        if np.abs(step).max() < CONVERGED * np.trace(target):
            break
    wide = np.linalg.eigvals(np.linalg.solve(target, kernel)).real.max() > SMALLEST
    return kernel if wide else None


def finer(transform: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The image (:data:`FINER` ny, :data:`FINER` nx) between whose pixels there are more than the transform's."""
    ny, nx = shape
    padded = np.zeros((FINER * ny, FINER * nx // 2 + 1))
    padded[: ny // 2, : nx // 2] = transform[: ny // 2, : nx // 2]
    padded[-(ny // 2) :, : nx // 2] = transform[-(ny // 2) :, : nx // 2]
    return np.asarray(fft.irfft2(padded, s=(FINER * ny, FINER * nx)))


def within_beam(kernel: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A kernel none of whose axes is negative, or over :data:`LARGEST` of a beam."""
    root = np.linalg.cholesky(target)
    inverse = np.linalg.inv(root)
    values, axes = np.linalg.eigh(inverse @ kernel @ inverse.T)
    axes = root @ axes
    return np.asarray(axes @ np.diag(np.clip(values, 0, LARGEST)) @ axes.T)
