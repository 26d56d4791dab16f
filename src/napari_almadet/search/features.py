"""Sources of one window of the sky: Source Finder's centres, their spectra, and the measures they are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.search.line_maps import BAND, MAPS, as_in_one_band, bands, templates
from napari_almadet.search.noise_units import NoiseUnits

if TYPE_CHECKING:
    import torch


ABOUT = 12.0  # beams from a candidate, along each axis, in which the deepest negatives are looked for
BOX_LEVEL = 0.1  # of a source's peak, where its box ends
LINE_SNR = 4.5  # that a line has at least
PARENTS = 3  # brightest candidates, of which another may be a sidelobe
NO_SIDELOBE = 1.5  # beams from a source, where none of its sidelobes is yet; what is there has its spectrum mixed in
LEAST_CHANCE = 0.1  # of Source Finder; what is less likely is not looked at
MEASURES = (
    "logit",  # Source Finder's
    "stack",  # SNR at the centre, compressed as the maps are
    "stack, sidelobes included",
    "line",
    "negative line",
    "own line",  # SNR of the best line in the source's own spectrum
    "line chance",  # Line Finder's highest answer
    "both",  # stack and own line together
    "brighter neighbour",  # the highest stack or line SNR within eight beams
    "distance",  # to it, in beams
    "twin",  # how much of it is seen opposite of it about a brighter one, as of a sidelobe: 1 for all
    "kinship",  # how much of its spectrum is that of a brighter one
    "height",  # extent along y and x over the beam's
    "width",
    "field",  # spread of the stack over its noise: over 1 where sidelobes are left in it
    "brightest",  # of all candidates
    "deepest",  # negative of the stack within :data:`ABOUT`: noise and sidelobes go as deep as they go high
    "deepest line",
    "valid",  # share of valid pixels about the centre
    "beam",
    "trials",  # how many lines were looked for
)


def centres(answer: torch.Tensor, valid: torch.Tensor, beam: float, least: float = LEAST_CHANCE) -> np.ndarray:
    """Places where Source Finder's answer peaks.

    Parameters
    ----------
    answer
        Its five maps, (5, ny, nx).
    valid
        Where there is data, (ny, nx).
    beam
        FWHM in pixels: of peaks within a third of it the highest counts.
    least
        Lowest probability.

    Returns
    -------
    numpy.ndarray
        Rows of logit, y, x, sigma_y, sigma_x, the most likely first.
    """
    import torch

    logit = torch.where(valid, answer[0], -torch.inf)
    highest = torch.nn.functional.max_pool2d(logit[None, None], 3, stride=1, padding=1)[0, 0]
    iy, ix = torch.nonzero((logit == highest) & (logit >= float(np.log(least / (1 - least)))), as_tuple=True)
    at = answer[:, iy, ix]
    found = torch.stack([at[0], iy + at[1].clamp(-1, 1), ix + at[2].clamp(-1, 1), at[3].exp(), at[4].exp()], dim=1)
    rows = found[found[:, 0].argsort(descending=True)].cpu().numpy()
    kept: list[np.ndarray] = []
    for row in rows:
        if all(np.hypot(row[1] - k[1], row[2] - k[2]) > beam / 3 for k in kept):
            kept.append(row)
    return np.array(kept).reshape(-1, 5)


def spectra(units: NoiseUnits, rows: np.ndarray, beam: float) -> np.ndarray:
    """Spectra of sources in units of their noise, each averaged over its source's own extent.

    The noise of a dirty image has the shape of its beam, and then the value in one pixel tells all there is to
    tell of a point source; of an extended one, the mean weighted with its shape before the beam.

    Parameters
    ----------
    rows
        As :func:`centres` gives them.

    Returns
    -------
    numpy.ndarray
        Shape (n, channels).
    """
    import torch

    cube = units.cube
    ny, nx = cube.shape[1:]
    beam_variance = (beam / 2.3548) ** 2
    made = np.zeros((len(rows), len(cube)), np.float32)
    for i, (_, cy, cx, sy, sx) in enumerate(rows):
        vy, vx = (max(s * s - beam_variance, 0.15) for s in (sy, sx))
        reach = int(np.ceil(2.5 * np.sqrt(max(vy, vx)))) + 1
        y = torch.arange(max(0, round(cy) - reach), min(ny, round(cy) + reach + 1), device=cube.device)
        x = torch.arange(max(0, round(cx) - reach), min(nx, round(cx) + reach + 1), device=cube.device)
        if not len(y) or not len(x):
            continue
        weight = torch.exp(-0.5 * ((y - cy) ** 2 / vy)[:, None] - 0.5 * (x - cx) ** 2 / vx)
        weight = weight * units.valid[y[:, None], x]
        distance = (y[:, None] - y)[:, None, :, None] ** 2 + (x[:, None] - x)[None, :, None, :] ** 2
        correlation = torch.exp(-distance / (2 * beam_variance)).flatten(2).flatten(0, 1)
        flat = weight.flatten()
        norm = (flat @ correlation @ flat).clamp(min=1e-12).sqrt()
        made[i] = (torch.einsum("cyx,yx->c", cube[:, y[:, None], x], weight) / norm).cpu().numpy()
    return made


def part_neighbours(rows: np.ndarray, spectra: np.ndarray, beam: float) -> np.ndarray:
    """Take out of each source's spectrum what its neighbours' main lobes put there.

    The spectra at the sources' centres are mixtures, source j showing at i as much as its Gaussian
    has fallen there; the mixture is undone, and the spectra are in units of their noise again.

    Parameters
    ----------
    rows, spectra
        As :func:`centres` and :func:`spectra` give them.
    """
    if len(rows) < 2:
        return spectra
    _, y, x, sigma_y, sigma_x = rows.T
    mixing = np.exp(-0.5 * (((y[:, None] - y) / sigma_y) ** 2 + ((x[:, None] - x) / sigma_x) ** 2))
    mixing[mixing < 1e-3] = 0
    noise = np.exp(-0.5 * ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (beam / 2.3548) ** 2)
    inverse = np.linalg.inv(mixing + 0.02 * np.eye(len(rows)))
    sigma = np.sqrt(np.maximum(np.diag(inverse @ noise @ inverse.T), 1e-9))
    return ((inverse @ spectra) / sigma[:, None]).astype(np.float32)


def own_lines(spectrum: np.ndarray, rms: torch.Tensor) -> np.ndarray:
    """SNR of the best line in each spectrum (n, channels), as :func:`line_maps` has it: shape (n,)."""
    import torch

    values = torch.as_tensor(spectrum, device=rms.device)
    best = [
        (band.values.T @ templates(len(band.values), band.rms, band.widths)[0].T).amax(dim=1)
        for band in bands(values.T, rms)
    ]
    return as_in_one_band(torch.stack(best).amax(dim=0), len(rms)).cpu().numpy()


def symmetry_and_correlation(
    rows: np.ndarray, spectra: np.ndarray, strength: np.ndarray, units: NoiseUnits, beam: float
) -> np.ndarray:
    """How much a candidate is like a sidelobe of one of the brightest others.

    A dirty beam is the same turned by 180 degrees, whatever the weights, and its sidelobes have their
    source's spectrum.

    Parameters
    ----------
    rows, spectra
        As :func:`centres` and :func:`spectra` give them.
    strength
        SNR of each, shape (n,).
    beam
        FWHM in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (2, n): the share of a candidate's emission that is seen opposite of it about one at least twice as
        bright and :data:`NO_SIDELOBE` away, and the correlation of its spectrum with that of such a one; each the
        highest of :data:`PARENTS` of them, 0 if there is none.
    """
    import torch

    n, channels = spectra.shape
    made = np.zeros((2, n), np.float32)
    power = (spectra**2).sum(axis=1)
    own = np.sqrt(np.maximum(power - channels, 1))  # SNR of the whole spectrum, without the noise's part
    ny, nx = units.valid.shape
    bright = np.argsort(-strength)[:PARENTS]
    for i, (_, y, x, _, _) in enumerate(rows):
        far = np.hypot(y - rows[bright, 1], x - rows[bright, 2]) > NO_SIDELOBE * beam
        for j in bright[far & (strength[bright] >= 2 * strength[i])]:
            made[1, i] = max(made[1, i], spectra[i] @ spectra[j] / np.sqrt(power[j]) / own[i])
            iy, ix = round(2 * rows[j, 1] - y), round(2 * rows[j, 2] - x)
            if 0 <= iy < ny and 0 <= ix < nx:
                about = units.cube[:, max(0, iy - 1) : iy + 2, max(0, ix - 1) : ix + 2].flatten(1)
                seen = float((torch.as_tensor(spectra[i], device=about.device) @ about).max()) / own[i] ** 2
                made[0, i] = max(made[0, i], seen)
    return made.clip(0, 1.5)


def lowest_about(images: torch.Tensor, place: tuple[float, float], reach: int) -> tuple[float, float]:
    """Lowest values of the stack and of the negative line within ``reach`` pixels of a place (y, x) along each axis."""
    y, x = (slice(max(0, round(float(i)) - reach), round(float(i)) + reach + 1) for i in place)
    stack, line = (float(images[MAPS.index(name)][y, x].min()) for name in ("stack", "negative line"))
    return stack, line


def measures(
    rows: np.ndarray,
    images: torch.Tensor,
    units: NoiseUnits,
    own: np.ndarray,
    own_line: np.ndarray,
    line_chance: np.ndarray,
    beam: float,
) -> np.ndarray:
    """What each candidate is judged by, :data:`MEASURES`: shape (n, 21).

    ``own`` are the sources' spectra, (n, channels), and ``own_line`` the SNRs of the best line in each.
    """
    import torch

    if not len(rows):
        return np.zeros((0, len(MEASURES)), np.float32)
    logit, y, x, sigma_y, sigma_x = rows.T
    ny, nx = units.valid.shape
    grid = torch.as_tensor(
        np.stack([2 * x / max(nx - 1, 1) - 1, 2 * y / max(ny - 1, 1) - 1], axis=1), dtype=torch.float32
    )
    at = (
        torch.nn.functional.grid_sample(
            images[None], grid[None, None].to(images.device), align_corners=True, padding_mode="border"
        )[0, :, 0]
        .cpu()
        .numpy()
    )
    value = dict(zip(MAPS, at, strict=True))
    strength = np.maximum(value["stack"], np.arcsinh(own_line / 2))
    apart = np.hypot(y[:, None] - y, x[:, None] - x) / beam
    brighter = np.where((strength > strength[:, None]) & (apart < 8), strength, -1)
    nearest = brighter.argmax(axis=1)
    neighbour = brighter.max(axis=1)
    distance = np.where(neighbour > 0, apart[np.arange(len(y)), nearest], 8)
    twin, kinship = symmetry_and_correlation(rows, own, 2 * np.sinh(strength), units, beam)
    deepest = np.array([lowest_about(images, place, round(ABOUT * beam)) for place in zip(y, x, strict=True)])
    near = torch.nn.functional.avg_pool2d(units.valid.float()[None, None], 9, stride=1, padding=4)[0, 0]
    iy, ix = np.rint(y).astype(int).clip(0, ny - 1), np.rint(x).astype(int).clip(0, nx - 1)
    stack = 2 * np.sinh(value["stack"])
    field = images[MAPS.index("stack")][units.valid].flatten()
    spread = 2 * np.sinh(float(field[:: max(1, len(field) // 20000)].abs().median())) / NORMAL_MAD
    return np.stack(
        [
            logit,
            value["stack"],
            value["stack, sidelobes included"],
            value["line"],
            value["negative line"],
            np.arcsinh(own_line / 2),
            line_chance,
            np.arcsinh(np.hypot(np.maximum(stack, 0), np.maximum(own_line, 0)) / 2),
            neighbour.clip(0),
            distance,
            twin,
            kinship,
            np.log(sigma_y * 2.3548 / beam),
            np.log(sigma_x * 2.3548 / beam),
            np.full(len(y), np.log(max(spread, 0.5))),
            np.full(len(y), strength.max()),
            *-deepest.T,
            near.cpu().numpy()[iy, ix],
            np.full(len(y), beam / 4 - 1),
            np.full(len(y), np.log(min(len(units.cube), BAND) / 100)),
        ],
        axis=1,
    ).astype(np.float32)
