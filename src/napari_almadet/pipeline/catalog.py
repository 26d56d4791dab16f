"""What a detection run returns: candidates, their measures, and the files they are written to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.pipeline.settings import Settings

if TYPE_CHECKING:
    from astropy.table import QTable

    from napari_almadet.cube import Cube


class Fate(StrEnum):
    """What the decision graph did with a candidate."""

    KEPT = "kept"
    FLAGGED = "flagged"  # kept, but looks like a superposition that could not be taken apart
    DROPPED = "dropped"


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, half-open as numpy slices are: ``image[y0:y1, x0:x1]``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for a (..., y, x) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of the middle, 0-based pixel centres."""
        return (self.y0 + self.y1 - 1) / 2, (self.x0 + self.x1 - 1) / 2

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0


@dataclass(frozen=True)
class EmissionPeak:
    """A peak of a denoised spectrum and the Gaussian fitted to it (paper, step 7); channels are 0-based.

    ``height`` is the denoised spectrum at ``channel`` (0 to 1); ``amplitude``, ``centre``
    and ``fwhm`` are the fit's, the latter two in channels.
    """

    channel: int
    height: float
    amplitude: float
    centre: float
    fwhm: float

    def emission_range(self, n_channels: int) -> tuple[int, int]:
        """Half-open channel range of the line, its centre -+ FWHM, clipped to the cube.

        The paper integrates "within the peak FWHM"; its scripts and this project's
        evaluation protocol take one FWHM to either side of the centre.
        """
        low = int(np.floor(self.centre - self.fwhm + 0.5))
        high = int(np.floor(self.centre + self.fwhm + 0.5)) + 1
        low = min(max(low, 0), n_channels - 1)
        return low, min(max(high, low + 1), n_channels)


@dataclass
class Candidate:
    """One candidate with all the pipeline learnt of it.

    ``spectrum`` is the dirty spectrum (sum over the box in each channel, in the cube's
    unit; NaN where the channel has no data), ``denoised`` Deep GRU's answer (0 to 1).
    ``focused`` is the (crop, crop) image integrated over the emission range, NaN outside
    the field, whose pixel [0, 0] is pixel ``focus_origin`` = (y, x) of the cube.
    ``reasons`` tells, in order, every decision that was taken about the candidate.
    """

    id: int
    box: Box
    prob: float
    spectrum: np.ndarray
    denoised: np.ndarray
    peaks: tuple[EmissionPeak, ...] = ()
    channels: tuple[int, int] = (0, 0)  # half-open emission range of the primary peak
    fate: Fate = Fate.KEPT
    reasons: list[str] = field(default_factory=list)
    focused: np.ndarray | None = None
    focus_origin: tuple[int, int] = (0, 0)
    snr_global: float = np.nan  # eq. 3, of the focused image
    snr_pixel: float = np.nan  # eq. 4, highest inside the box
    blended: bool = False
    edge: bool = False
    kind: str = "line"  # "line", "continuum" or "both"
    # measured by pipeline.catalog.measure; x, y, z flux-weighted, 0-based
    x: float = np.nan
    y: float = np.nan
    z: float = np.nan
    f_sum: float = np.nan  # integrated flux
    err_f_sum: float = np.nan
    f_max: float = np.nan
    w20: float = np.nan
    w50: float = np.nan
    rms: float = np.nan
    verdict: str = "unseen"  # "unseen", "accepted" or "rejected": the astronomer's
    note: str = ""

    @property
    def primary(self) -> EmissionPeak | None:
        """The highest peak, on which the candidate is focused."""
        return self.peaks[0] if self.peaks else None


@dataclass
class Detections:
    """Result of :func:`napari_almadet.detect` on one cube.

    ``candidates`` holds all of them, the dropped too; ``kept`` those the catalogue lists.
    ``stacked`` and ``probability`` are (y, x) images of the whole field.
    """

    cube: Cube
    settings: Settings
    candidates: list[Candidate]
    stacked: np.ndarray
    probability: np.ndarray
    provenance: dict  # package version, device, weights' sha256 and the cube's
    warnings: list[str] = field(default_factory=list)

    @property
    def kept(self) -> list[Candidate]:
        """Candidates that were not dropped, in order of ``id``."""
        return [c for c in self.candidates if c.fate is not Fate.DROPPED]

    def table(self) -> QTable:
        """The catalogue: one row for each kept candidate, columns as in ``docs/catalogue.md``."""
        raise NotImplementedError

    def write(self, folder: str | Path) -> Path:
        """Write ``catalog.ecsv``, ``probability.fits``, ``ds9.reg``, ``casa.crtf`` and ``settings.json``."""
        raise NotImplementedError
