"""One candidate: its box, lines, measured values, and the decisions about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from napari_almadet.catalogue.decision import Decision


class Status(StrEnum):
    """The outcome of the selection rules for a candidate."""

    KEPT = "kept"
    FLAGGED = "flagged"  # kept, but to be checked; the decisions say why
    DROPPED = "dropped"


VERDICTS = ("unreviewed", "accepted", "rejected")
VERDICTS_OF_0_1 = {"unseen": "unreviewed"}  # names used in results and journals of version 0.1
METHODS = ("point", "fit", "mask", "box")  # point source, Gaussian fit, sum over the mask, sum over the user's box
# bits of ``flag``: the mask touches the edge of the field or pixels without data; touches an end of the band; contains
# voxels without data; touches the mask of another source; the flux is of one of several lines
FLAGS = {"spatial edge": 1, "spectral edge": 2, "no data": 4, "other source": 8, "further lines": 16}
ORIGINS = ("found", "edited", "drawn", "imported")  # by the pipeline; edited, drawn or imported by the user


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

    def inside(self, field: tuple[int, int]) -> Box:
        """The part of the box inside a field of (height, width) pixels.

        Raises
        ------
        ValueError
            If the box is outside the field.
        """
        ny, nx = field
        part = Box(max(self.y0, 0), min(self.y1, ny), max(self.x0, 0), min(self.x1, nx))
        if min(part.shape) < 1:
            raise ValueError(f"the box lies outside the field of {nx} x {ny} pixels")
        return part


@dataclass(frozen=True)
class EmissionPeak:
    """A peak of a denoised spectrum and the Gaussian fitted to it (paper, step 7); channels are 0-based.

    ``height`` is the value of the denoised spectrum at ``channel`` (0 to 1); ``amplitude``, ``centre``
    and ``fwhm`` are those of the fit, the latter two in channels.
    """

    channel: int
    height: float
    amplitude: float
    centre: float
    fwhm: float

    def same_line(self, other: EmissionPeak) -> bool:
        """Whether two fits are of the same line: their centres differ by at most half the sum of their FWHMs."""
        return abs(self.centre - other.centre) <= (self.fwhm + other.fwhm) / 2

    def emission_range(self, n_channels: int) -> tuple[int, int]:
        """Half-open channel range of the line, its centre -+ FWHM, clipped to the cube.

        The paper integrates "within the peak FWHM"; its scripts and this project's
        evaluation protocol take one FWHM to either side of the centre.
        """
        low = int(np.floor(self.centre - self.fwhm + 0.5))
        high = int(np.floor(self.centre + self.fwhm + 0.5)) + 1
        low = min(max(low, 0), n_channels - 1)
        return low, min(max(high, low + 1), n_channels)


@dataclass(frozen=True, eq=False)
class SourceMask:
    """The voxels of a source: ``voxels`` (channels, y, x), where [0, 0, 0] is voxel ``origin`` of the cube.

    ``baseline`` (y, x) is the mean of the line-free voxels of each pixel, which was subtracted for the flux; None if
    it is unknown.
    """

    origin: tuple[int, int, int]
    voxels: np.ndarray
    baseline: np.ndarray | None = None

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Its location in the cube, as slices."""
        z, y, x = (slice(o, o + n) for o, n in zip(self.origin, self.voxels.shape, strict=True))
        return z, y, x

    @property
    def footprint(self) -> np.ndarray:
        """Pixels (y, x) that contain at least one of its voxels."""
        return np.asarray(self.voxels.any(axis=0))


@dataclass
class Candidate:
    """One candidate with all results of the pipeline.

    ``spectrum`` is the observed spectrum (sum over the box in each channel, in the cube's
    unit; NaN where the channel has no data), ``denoised`` the output of Deep GRU (0 to 1).
    ``focused`` is the (crop, crop) image integrated over the emission range, NaN outside
    the field, whose pixel [0, 0] is pixel ``focus_origin`` = (y, x) of the cube.
    ``decisions`` are all decisions about the candidate in order, ``reasons`` their sentences.
    """

    id: int
    box: Box
    prob: float
    spectrum: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    denoised: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    peaks: tuple[EmissionPeak, ...] = ()
    channels: tuple[int, int] = (0, 0)  # half-open emission range of the primary peak
    status: Status = Status.KEPT
    decisions: list[Decision] = field(default_factory=list)
    focused: np.ndarray | None = None
    focus_origin: tuple[int, int] = (0, 0)
    snr_global: float = np.nan  # eq. 3, of the focused image
    snr_pixel: float = np.nan  # eq. 4, highest inside the box
    blended: bool = False
    edge: bool = False
    kind: str = "line"  # "line", "continuum" or "both"
    parent: int = 0  # id of the object it is a part of
    flag: int = 0  # sum of FLAGS
    mask: SourceMask | None = None
    # measured in step 10, in the units of the catalogue; x, y, z 0-based
    method: str = ""  # one of METHODS: how the flux was measured
    n_pix: int = 0  # voxels of the mask
    x: float = np.nan
    y: float = np.nan
    z: float = np.nan
    err_x: float = np.nan
    err_y: float = np.nan
    err_z: float = np.nan
    f_sum: float = np.nan  # integrated flux
    err_f_sum: float = np.nan
    f_sum_all: float = np.nan  # with further lines of the source
    err_f_sum_all: float = np.nan
    pb: float = np.nan  # response of the primary beam over its mask, weighted with its flux; NaN: that at its place
    err_f_sum_pb: float = np.nan  # of a mask over which the response varies; NaN: that of the flux over `pb`
    err_f_cont_pb: float = np.nan
    f_max: float = np.nan
    f_min: float = np.nan
    x_peak: float = np.nan  # the brightest voxel
    y_peak: float = np.nan
    z_peak: float = np.nan
    f_cont: float = np.nan  # flux density of the continuum
    err_f_cont: float = np.nan
    alpha: float = np.nan  # its spectral index
    err_alpha: float = np.nan
    peak: float = np.nan  # brightness of the fitted source at the peak of its line
    err_peak: float = np.nan
    w20: float = np.nan
    err_w20: float = np.nan
    w50: float = np.nan
    err_w50: float = np.nan
    wm50: float = np.nan
    err_wm50: float = np.nan
    fwhm: float = np.nan  # of the Gaussian fitted to the line
    err_fwhm: float = np.nan
    z_fit: float = np.nan  # its centre
    err_z_fit: float = np.nan
    chi2_fit: float = np.nan  # its chi-squared over the degrees of freedom
    dc_maj: float = np.nan  # of the fitted source, deconvolved from the beam; arcsec
    err_dc_maj: float = np.nan
    dc_min: float = np.nan
    err_dc_min: float = np.nan
    dc_pa: float = np.nan  # degrees from North through East
    err_dc_pa: float = np.nan
    dc_limit: float = np.nan
    ell_maj: float = np.nan  # of the image of the source, including the beam; arcsec
    err_ell_maj: float = np.nan
    ell_min: float = np.nan
    err_ell_min: float = np.nan
    ell_pa: float = np.nan  # degrees from North through East
    err_ell_pa: float = np.nan
    ell3s_maj: float = np.nan  # of its pixels above 3 sigma, equally weighted
    ell3s_min: float = np.nan
    ell3s_pa: float = np.nan
    kin_pa: float = np.nan  # towards the receding side; degrees from North through East
    err_kin_pa: float = np.nan
    abs_snr: float = np.nan  # of the strongest line in absorption, see measure.absorption
    abs_z: float = np.nan
    err_abs_z: float = np.nan
    abs_depth: float = np.nan  # of the continuum
    err_abs_depth: float = np.nan
    abs_w50: float = np.nan
    err_abs_w50: float = np.nan
    abs_tau: float = np.nan  # optical depth at the deepest
    err_abs_tau: float = np.nan
    abs_tau_limit: float = np.nan  # more than this, where it is saturated
    abs_tau_int: float = np.nan
    err_abs_tau_int: float = np.nan
    abs_n: float = np.nan  # number of lines in absorption
    rms: float = np.nan
    rel: float = np.nan  # reliability from the inverted cube, see search.reliability
    verdict: str = "unreviewed"  # one of VERDICTS, set by the user
    note: str = ""
    origin: str = "found"  # one of ORIGINS: origin of the box and the emission range
    line_ids: str = ""  # lines that its frequencies allow in a range of redshifts, see inspection.redshifts
    redshifts: str = ""  # redshifts that explain two lines or more of it

    def __post_init__(self) -> None:
        self.verdict = VERDICTS_OF_0_1.get(self.verdict, self.verdict)

    @property
    def reasons(self) -> list[str]:
        """The sentences of ``decisions``."""
        return [str(decision) for decision in self.decisions]

    def decide(self, rule: str, status: Status | None = None, *, ids: tuple[int, ...] = (), **values: Any) -> None:
        """Record a decision, and the resulting status, if any.

        Parameters
        ----------
        rule, ids, values
            See :class:`~napari_almadet.catalogue.decision.Decision`.
        status
            Default: unchanged.
        """
        self.decisions.append(Decision(rule, values, ids))
        self.status = self.status if status is None else status

    @property
    def primary(self) -> EmissionPeak | None:
        """The highest peak, whose range the line-integrated image covers."""
        return self.peaks[0] if self.peaks else None

    @property
    def position(self) -> tuple[float, float]:
        """(x, y) in pixels: the flux-weighted centre, or the centre of the box if that was not measured."""
        if np.isfinite(self.x) and np.isfinite(self.y):
            return self.x, self.y
        y, x = self.box.centre
        return x, y

    def is_at(self, centre: tuple[float, float], peaks: tuple[EmissionPeak, ...]) -> bool:
        """Whether (y, x) lies in the candidate's box and one of ``peaks`` is one of its lines."""
        y, x = centre
        inside = self.box.y0 - 0.5 <= y < self.box.y1 - 0.5 and self.box.x0 - 0.5 <= x < self.box.x1 - 0.5
        return inside and any(mine.same_line(other) for mine in self.peaks for other in peaks)
