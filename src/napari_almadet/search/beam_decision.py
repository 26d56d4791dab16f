"""Decision whether a cube is dirty and its dirty beam can be estimated: one decision for the whole field.

Subtracting estimated sidelobes from a CLEANed or smoothed cube, which has none, would reduce the fluxes of its sources.
Two independent estimates are compared: T, the autocorrelation of the noise minus the header's beam, and D, the images
of bright sources minus the header's beam.  In a dirty cube they agree; in a CLEANed cube the noise has the shape of the
dirty beam but the sources do not; in a smoothed cube the lobe of the noise is wider than the beam.  From the noise of a
dirty cube that was smoothed the beam of its sources is derived first, and D compared with that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma, gaussian_sigma_to_fwhm

from napari_almadet.constants import BEAM_AREA, FOUR_LN2
from napari_almadet.measure.gaussian_fit import beam_matrix, sky_matrix
from napari_almadet.search.clean import NoiseCorrected
from napari_almadet.search.components import (
    LEAST_SNR,
    SCALES,
    fit_components,
    gaussian_response,
    peak_snr,
    peaks,
    responses_at,
    responses_of,
    within,
)
from napari_almadet.search.dirty_beam import flattened, lobe_curvature, without_point_symmetric
from napari_almadet.search.noise_units import lower_medians
from napari_almadet.search.smoothed_beam import smoothed_beam

if TYPE_CHECKING:
    import torch

    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.noise_units import NoiseUnits
    from napari_almadet.settings import Settings

# Chosen on 124 cubes and tested on 94 others: of 136 cubes without a dirty beam 1 passes, of 70 dirty ones 61 do.
LOBE = 0.09  # maximum relative difference between the lobe of the noise and the header's beam, along both axes
UNLIKE = 0.25  # relative difference from which the cube has certainly been smoothed
# Fraction of the power of D that T explains, from which its subtraction helps the search, leaving less than half, where
# the lobe is narrower than the beam by more than LOBE: it is not exact enough for fluxes, which would be too high by
# a third.  None of 20 CLEANed and 6 smoothed cubes (validation) has such a lobe and passes the other tests.
HELPS = 0.5
NARROW = 0.95  # of the header's beam: a narrower lobe is due to weights that flatten the uv plane
FLATTENINGS = (0.5, 1.0)  # exponents of the noise's power spectrum that are tried in that case
# Peak of a point source of unit flux in a smoothed dirty cube, 1.01 to 1.12 in five cubes (validation) and a dozen
# fields, and slope, 0.83 to 1.15.  Of 71 smoothed fields with restored sources none passes, and of 154 with a CLEAN of
# any depth twelve: those are dirty still, since CLEAN stopped early. In five of them what is left of the sidelobes was
# measured, by CLEANing the same field: 77 to 99 %.
PEAK = (0.9, 1.3)
SMOOTHED_SLOPE = (0.75, 1.4)
SLOPE = (0.6, 1.4)  # range of the slope of D on T
SURE = 4.0  # sigma, minimum significance of the slope
EXPLAINED = 0.2  # minimum fraction of the power of D, in excess of noise, that T explains
VISIBLE = 0.03  # minimum power of T over that of the noise; weaker sidelobes cannot be measured and are harmless
# Slope above which a visible T is worth a warning if the cube is not classified as dirty, and the fraction of the power
# of D that it then explains: around resolved sources of clean cubes slopes of 0.4 to 0.7 explained 0.03 at most, and
# one of 8.8, steeper than that of any dirty beam, 0.25
DOUBT = 0.3
DOUBT_EXPLAINED = 0.1
INNER, OUTER = 1.3, 8.0  # beams from the sources, between which D and T are compared
# Second largest median of a channel, in its noise.  Of 14 simulated dirty, CLEANed and smoothed cubes 0.14 at most, of
# nine clouds larger than the field, of 15 to 100 times the noise, 2.7 at least.
FILLED = 1.0
SAMPLED = 4096  # pixels of a channel that its median is taken of
SHARE = 0.3  # of the S/N of the brightest source; fainter sources are not used
# Levels, over the brightest channel of a source, at which a CLEAN may have stopped, in steps of a tenth.  Further down
# a cube shows so few sidelobes that it is not taken for dirty.
LEVELS = tuple(float(level) for level in np.geomspace(0.05, 1, 32))
# Minimum by which the squared residual in units of the noise is less with such a level than with the best share of the
# sidelobes, in beams' areas, and over what that share explains, since errors of the dirty beam grow with it.  Of 17
# dirty validation cubes (bright, beams, arrays, rising, discs, paper) 0.2 beams at most, of 20 others one more than
# three: 6.4, and 0.0015 of what is explained.  Of four of cleaned-loop that pass as dirty ones 3.9 and 0.027 at least,
# with levels within a fifth of the true ones.
STOPPED = 3.0
STOPPED_SHARE = 0.01


# by rule, why a cube that shows sidelobes is not taken for dirty
WHY_NOT = {
    "header": "its header says that it was CLEANed or smoothed ({says})",
    "lobe": "its noise is correlated over more or less than the header's beam",
    "narrow lobe": "its noise is correlated over less than the header's beam",
    "slope": f"a dirty cube shows {SLOPE[0]:.0%} or more of them, at over {SURE:g} sigma",
    "unexplained": "most of what surrounds these sources has another shape, as extended emission has",
}


@dataclass(frozen=True)
class BeamDecision:
    """The decision on the dirty beam of a cube.

    Attributes
    ----------
    beam
        ``"dirty"``: the sidelobes of bright sources are subtracted; or ``"clean"``.
    rule
        Reason: ``"told"``: set by the user; ``"given"``: as a PSF; ``"estimated"``: all tests passed;
        ``"partly cleaned"``: likewise, but sources show sidelobes only up to some brightness; ``"smoothed"``: the lobe
        is too wide, but all tests passed with the beam of a dirty cube that was smoothed; or the failed test:
        ``"header"``, ``"no beam"``, ``"nothing bright"``, ``"lobe"``, ``"invisible"``, ``"slope"``,
        ``"unexplained"``; ``"narrow lobe"``: the lobe is too narrow, but all else passed, and sidelobes are subtracted
        for the search, not for what is measured; ``"filled"`` where emission fills the field, which no dirty beam does:
        an array without total power leaves a mean of zero.
    values
        Measured values: ``snr`` of the brightest source, ``lobe`` over the header's beam along both axes,
        ``slope`` and ``err_slope``, ``explained``, ``visible``; ``filled``, the second largest of the channels'
        medians; of a smoothed cube ``kernel``, FWHM over the header's beam along both axes, and ``peak`` of a point
        source of unit flux; of a partly CLEANed one ``depth``, down to which it was CLEANed, in units of the noise.
        After a search also ``subtracted``, the share of the sidelobes of bright sources that was subtracted, and
        ``subtracted_for``: ``"search and measurement"``, or ``"search"`` alone, with a ``note`` for the user.
    """

    beam: str
    rule: str
    values: dict[str, Any]

    @property
    def dirty(self) -> bool:
        return self.beam == "dirty"

    @property
    def subtracts(self) -> bool:
        """Whether sidelobes are subtracted for the search."""
        return self.dirty or self.rule == "narrow lobe"

    @property
    def remaining(self) -> float:
        """Share of the sidelobes of bright sources that a CLEANed cube still shows; 0 where it is none, or unknown.

        CLEAN leaves what is below its threshold, with the dirty beam's sidelobes: of a source five times as bright as
        the threshold a fifth.  It is the slope of D on T.
        """
        if self.rule not in ("slope", "remaining") or not self.values["visible"] >= VISIBLE:
            return 0.0
        slope, error = self.values["slope"], self.values["err_slope"]
        believed = slope > SURE * error and (slope < SLOPE[0] or self.rule == "remaining")
        return float(min(slope, 1.0)) if believed else 0.0

    @property
    def depth(self) -> float:
        """Brightness down to which a partly CLEANed cube was CLEANed, in units of the noise; else infinite."""
        return float(self.values["depth"]) if self.rule == "partly cleaned" else np.inf

    @property
    def doubtful(self) -> bool:
        """Whether the cube may be dirty although the tests did not pass, or the header says that it was CLEANed."""
        v = self.values
        near = np.abs(np.log(v["lobe"])).max() < np.log(1 + UNLIKE) if "lobe" in v else False
        against = self.rule in ("lobe", "narrow lobe", "slope", "unexplained", "header") and near
        # a steeper slope than a dirty beam's is that of the sources' own extent
        sidelobes = DOUBT < v.get("slope", 0) <= SLOPE[1] and v.get("explained", 0) >= DOUBT_EXPLAINED
        return against and v.get("visible", 0) >= VISIBLE and sidelobes

    @property
    def perhaps_smoothed(self) -> bool:
        """Whether the cube may be a dirty one that was smoothed, although the tests of rule *smoothed* failed.

        The lobe is too wide, but sources show sidelobes.  The autocorrelation of the noise has been smoothed
        twice and the sources once, so that it is not their beam.
        """
        v = self.values
        if self.rule != "lobe" or not min(v["lobe"]) > 1 + LOBE or not v.get("visible", 0) >= VISIBLE:
            return False
        likely = SLOPE[0] <= v["slope"] <= SLOPE[1] and v["slope"] > SURE * v["err_slope"]
        return bool(likely and v["explained"] >= HELPS)

    def measured(self, other: BeamDecision) -> BeamDecision:
        """With what the tests measured, for a decision that did not need them."""
        return replace(self, values=self.values | other.values)

    def after_subtracting(self, share: float) -> BeamDecision:
        """With the share of the sidelobes of bright sources that the search has subtracted; 0: of none."""
        done: dict[str, Any] = {"subtracted": round(share, 4)}
        if share > 0:
            done["subtracted_for"] = "search and measurement" if self.dirty else "search"
        elif self.dirty:
            done["note"] = (
                "No sidelobes were subtracted: no source is bright enough to show them, or what surrounds the "
                "brightest one does not have the shape of the dirty beam."
            )
        if share > 0 and self.rule == "smoothed":
            done["note"] = (
                "The cube is a dirty one that was smoothed: the sidelobes of bright sources were subtracted with a "
                "beam that was estimated from its noise. Fluxes are uncertain by 5 %."
            )
        if share > 0 and self.rule == "partly cleaned":
            done["note"] = (
                f"The cube was CLEANed only down to about {self.depth:.1f} times its noise: the sidelobes of what is "
                "fainter, estimated from the noise, were subtracted for search and measurement."
            )
        if share > 0 and not self.dirty:
            how_much = "The" if self.rule == "narrow lobe" else f"{share:.0%} of the"
            done["note"] = (
                f"{how_much} sidelobes of bright sources, estimated from the noise, were subtracted for the search, so "
                "that they are not listed as sources; everything is measured in the cube as it is."
            )
        return replace(self, values=self.values | done)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a result's provenance."""
        return {"beam": self.beam, "rule": self.rule, **self.values}


def decided_beforehand(cube: Cube, settings: Settings) -> BeamDecision | None:
    """The decision where the settings or the header make it, before the data are read; else None."""
    return settled(settings.beam_setting) or by_header(cube)


def settled(beam: str) -> BeamDecision | None:
    """The decision where the setting makes it: ``"dirty"``, ``"clean"`` or the path of a PSF; None for ``"auto"``."""
    if beam in ("dirty", "clean"):
        return BeamDecision(beam, "told", {})
    return None if beam == "auto" else BeamDecision("dirty", "given", {"psf": beam})


def nothing_bright(snr: float) -> BeamDecision:
    """The decision where no source is bright enough to show its sidelobes."""
    return BeamDecision("clean", "nothing bright", {"snr": round(snr, 1)})


def brightest(decisions: Iterable[BeamDecision | None]) -> BeamDecision:
    """Of decisions in several windows the one by the brightest source: it is the field's."""
    known = [decision for decision in decisions if decision is not None]
    return max(known, key=lambda decision: decision.values.get("snr", np.inf), default=nothing_bright(0.0))


def after_search(decision: BeamDecision, windows: Iterable[tuple[BeamDecision | None, float]]) -> BeamDecision:
    """The field's decision with what was subtracted: of each window its decision, and the share that it subtracted.

    Where a header said that the cube was CLEANed, windows have measured what is left of the sidelobes all the same: the
    one that subtracted most is recorded.
    """
    seen, share = max(windows, key=lambda window: window[1], default=(None, 0.0))
    if seen is not None and decision.rule == "header":
        decision = decision.measured(seen)
    return decision.after_subtracting(share)


def may_be_dirty(decision: BeamDecision) -> str:
    """What to say of a cube that may be dirty after all."""
    if decision.perhaps_smoothed:
        return (
            f"The cube may be a dirty one that was smoothed: bright sources show {decision.values['slope']:.0%} of the "
            "sidelobes that its noise suggests. The fluxes of compact sources are then too high, by 20 to 40 % in "
            "simulated cubes: search the cube as it was before it was smoothed, or give its smoothed dirty beam "
            "(--beam FILE)."
        )
    why = WHY_NOT[decision.rule].format(**{"says": "", **decision.values})
    return (
        f"The cube may be dirty (not CLEANed): around bright sources are {decision.values['slope']:.0%} of the "
        f"sidelobes of the dirty beam that its noise suggests, but {why}. If it is dirty, give its dirty beam "
        "(--beam FILE)."
    )


def by_header(cube: Cube) -> BeamDecision | None:
    """The decision where a header says that the cube was CLEANed or smoothed, or gives no beam; else None."""
    if cube.beam is None:
        return BeamDecision("clean", "no beam", {})
    word = cleaned_by(cube)
    return BeamDecision("clean", "header", {"says": word}) if word else None


def cleaned_by(cube: Cube) -> str:
    """What in a header says that the cube has been CLEANed or smoothed; empty where nothing does."""
    header = cube.header
    if header is None:
        return ""
    for key in ("WSCNITER", "NITERS", "NITER", "CLEANNIT"):
        if isinstance(header.get(key), int | float) and header[key] > 0:
            return f"{key} = {header[key]:g}"
    text = "\n".join(str(line) for key in ("HISTORY", "COMMENT") for line in header.get(key, []))
    for match in re.finditer(r"\bniters?\s*=\s*(\d+(?:\.\d*)?(?:e\d+)?)", text, re.IGNORECASE):
        if float(match[1]) > 0:
            return " ".join(match[0].split())
    task = re.search(r"\bimsmooth\b|^\s*CONVOL:|\bCONVL\b|^\s*RESTOR:|^\s*CLEAN:|\bfeather\(", text, re.MULTILINE)
    return task[0].strip() if task else ""


def header_beam_in(cube: Cube, k: float) -> np.ndarray | None:
    """The header's beam in the middle of the field: covariance along x and y in pixels ``k`` times as wide; or None."""
    to_sky = sky_matrix(cube, (cube.shape[2] - 1) / 2, (cube.shape[1] - 1) / 2)
    if to_sky is None or cube.beam is None:
        return None
    to_pixels = np.linalg.inv(to_sky) / k
    return to_pixels @ beam_matrix(cube.beam) @ to_pixels.T


def beam_of(cube: Cube, fwhm: float) -> np.ndarray:
    """Covariance of the header's beam along x and y, (2, 2) in pixels², or of a round one of ``fwhm`` pixels."""
    known = header_beam_in(cube, 1.0)
    return (fwhm * gaussian_fwhm_to_sigma) ** 2 * np.eye(2) if known is None else known


def decide(
    units: NoiseUnits,
    beam: float,
    header_beam: np.ndarray,
    snr: torch.Tensor | None = None,
    corrected: NoiseCorrected | None = None,
    k: int | float = 1,
) -> BeamDecision:
    """Whether a cube shows its dirty beam.

    Parameters
    ----------
    units
        Of the field, or the window with its brightest source, in noise units.
    beam
        FWHM in its pixels.
    header_beam
        The header's beam: covariance along x and y in its pixels², (2, 2).
    snr
        From :func:`~napari_almadet.search.components.peak_snr`.  Default: it is computed here.
    corrected
        From the same cube.  Default: it is made here.
    k
        How many pixels of the file were averaged on a side.
    """
    snr = peak_snr(units) if snr is None else snr
    highest = float(snr.max())
    values: dict[str, Any] = {"snr": round(highest, 1)}
    if highest < LEAST_SNR:
        return nothing_bright(highest)
    corrected = corrected or NoiseCorrected(units, beam)
    units, natural = corrected.units, corrected.noise[0]
    values["filled"] = round(highest_median(units), 2)
    psf, ratio = nearest_lobe(natural, header_beam)
    values["lobe"] = [round(float(r), 3) for r in ratio]
    places = without_point_symmetric(peaks(snr, max(LEAST_SNR, SHARE * highest), beam), snr)
    around = surroundings(units, psf, places, beam, header_beam)
    values |= compared(units, around, natural)
    found = verdict(values)
    if found[1] == "estimated" and (depth := clean_depth(units, around, beam)) is not None:
        return BeamDecision("dirty", "partly cleaned", values | {"depth": round(depth, 2)})
    if found[1] == "lobe" and may_be_smoothed(values["lobe"]):
        smoothed = smoothed_beam(natural, header_beam, k)
        if smoothed is not None:
            around = surroundings(units, smoothed.psf, places, beam, header_beam)
            more = compared(units, around, natural)
            more |= {"kernel": np.round(smoothed.axes / beam, 3).tolist(), "peak": round(smoothed.peak, 3)}
            if passes_smoothed(more):
                return BeamDecision("dirty", "smoothed", values | more)
    return BeamDecision(*found, values)


def highest_median(units: NoiseUnits) -> float:
    """The second largest of the channels' medians over the field, in units of the noise; the largest may be a fault."""
    known = units.valid.flatten().nonzero()[:, 0]
    if not len(known):
        return 0.0
    known = known[:: max(1, len(known) // SAMPLED)]
    medians = lower_medians(units.cube.flatten(1)[:, known])
    return float(medians.sort().values[-2:][0])


def verdict(values: dict[str, Any]) -> tuple[str, str]:
    """Beam and rule that the numbers of a :class:`BeamDecision` amount to."""
    lobe = values["lobe"]
    if values["filled"] > FILLED:
        return "clean", "filled"
    if not (np.isfinite(lobe).all() and min(lobe) >= 1 / (1 + UNLIKE) and max(lobe) <= 1 + LOBE):
        return "clean", "lobe"
    narrow = min(lobe) < 1 / (1 + LOBE)
    if narrow and values["explained"] < HELPS:
        return "clean", "lobe"
    if not values["visible"] >= VISIBLE:
        return "clean", "invisible"
    if not (SLOPE[0] <= values["slope"] <= SLOPE[1] and values["slope"] > SURE * values["err_slope"]):
        return "clean", "slope"
    if not values["explained"] >= EXPLAINED:
        return "clean", "unexplained"
    return ("clean", "narrow lobe") if narrow else ("dirty", "estimated")


def may_be_smoothed(lobe: list[float]) -> bool:
    """Whether the noise's lobe, over the header's beam along both axes, is as wide as that of a smoothed cube."""
    return bool(np.isfinite(lobe).all() and max(lobe) > 1 + LOBE and min(lobe) >= 1 / (1 + LOBE))


def passes_smoothed(values: dict[str, Any]) -> bool:
    """Whether bright sources show the beam of a smoothed dirty cube: the tests of :func:`verdict`, stricter."""
    low, high = SMOOTHED_SLOPE
    slope = low <= values["slope"] <= high and values["slope"] > SURE * values["err_slope"]
    known = PEAK[0] <= values["peak"] <= PEAK[1]
    return bool(slope and known and values["visible"] >= VISIBLE and values["explained"] >= HELPS)


def nearest_lobe(natural: torch.Tensor, header_beam: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """The noise's autocorrelation, or of one narrower than the beam that flattening whose lobe is nearest to it.

    Returns it with its lobe's axes over the beam's.
    """
    axes = np.sqrt(np.linalg.eigvalsh(header_beam))[::-1] * gaussian_sigma_to_fwhm

    def ratio(psf: torch.Tensor) -> np.ndarray:
        return lobe_axes(psf) / axes

    found = [(natural, ratio(natural))]
    if np.mean(found[0][1]) < NARROW:
        found += [(psf, ratio(psf)) for psf in (flattened(natural, power) for power in FLATTENINGS)]
    return min(found, key=lambda pair: abs(np.log(np.mean(pair[1]))) if np.isfinite(pair[1]).all() else np.inf)


def remaining_beam(natural: torch.Tensor, header_beam: np.ndarray, share: float) -> torch.Tensor:
    """What a source looks like in a CLEANed cube with a ``share`` of its sidelobes: the header's beam and that of them.

    Parameters
    ----------
    natural
        The noise's autocorrelation, shape (2 ny, 2 nx), its peak of 1 at [0, 0]: the dirty beam.
    header_beam
        Covariance along x and y in pixels², (2, 2).
    """
    dirty = nearest_lobe(natural, header_beam)[0]
    clean = gaussian_response(tuple(dirty.shape), header_beam, 0.0, dirty.device)
    return clean + share * (dirty - clean)


def lobe_axes(psf: torch.Tensor) -> np.ndarray:
    """FWHM along both axes of the Gaussian that fits the main lobe of a PSF with its peak at [0, 0]; NaN where none."""
    curvature = lobe_curvature(psf)
    if curvature is None:
        return np.full(2, np.nan)
    return np.sqrt(FOUR_LN2 / np.clip(np.linalg.eigvalsh(curvature), 1e-6, None))


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Bright sources with what a dirty beam shows about them.

    Attributes
    ----------
    spectra
        In noise units, (n, channels).
    shown, more
        Each source as the header's beam shows it, and what the dirty beam shows beyond that, (n, ny, nx).
    about
        Pixels outside the main lobes in which this is looked at, (ny, nx).
    """

    spectra: torch.Tensor
    shown: torch.Tensor
    more: torch.Tensor
    about: torch.Tensor

    def seen(self, units: NoiseUnits, own: torch.Tensor) -> torch.Tensor:
        """What a cube shows there beyond the header's beam, in the channels' sums with some weights: (m, ny, nx)."""
        import torch

        as_clean = torch.einsum("mj,jyx->myx", own @ self.spectra.T, self.shown)
        return (torch.einsum("mc,cyx->myx", own, units.cube) - as_clean) * self.about

    def expected(self, own: torch.Tensor, spectra: torch.Tensor) -> torch.Tensor:
        """The same where the sources show sidelobes with some spectra, (n, channels)."""
        import torch

        return torch.einsum("mj,jyx->myx", own @ spectra.T, self.more) * self.about


def surroundings(
    units: NoiseUnits, psf: torch.Tensor, places: list[tuple[int, int]], beam: float, header_beam: np.ndarray
) -> Surroundings:
    """Fit sources at some places with a dirty beam, see :class:`Surroundings`."""
    responses = responses_of(psf, beam)
    scales, spectra = fit_components(units, places, responses, beam)
    shape = tuple(psf.shape)
    clean = {s: gaussian_response(shape, header_beam, SCALES[s] * beam, psf.device) for s in set(scales)}
    shown = responses_at(places, [clean[s] for s in scales], units)
    more = responses_at(places, [responses[s] for s in scales], units) - shown
    lobes = [INNER * beam * float(np.hypot(1, SCALES[s])) for s in scales]
    about = within(places, [OUTER * beam] * len(places), units.valid) & units.valid
    about &= ~within(places, lobes, units.valid)
    return Surroundings(spectra, shown, more, about)


def compared(units: NoiseUnits, around: Surroundings, natural: torch.Tensor) -> dict[str, float]:
    """Slope of what bright sources show about them on what the noise says they should, with what it explains."""
    import torch

    spectra, shape = around.spectra, tuple(natural.shape)
    own = torch.linalg.qr(spectra.T).Q.T  # all that the sources' spectra can show, in few planes
    expected, seen = around.expected(own, spectra), around.seen(units, own)
    power, count = float((expected**2).sum()), float(around.about.sum()) * len(own)
    if power <= 0 or count <= 0:
        return {"slope": 0.0, "err_slope": np.inf, "explained": 0.0, "visible": 0.0}
    spread = torch.fft.irfft2(torch.fft.rfft2(expected, s=shape) * torch.fft.rfft2(natural), s=shape)
    spread = spread[:, : expected.shape[1], : expected.shape[2]]
    slope = float((expected * seen).sum()) / power
    error = float((spread * expected).sum().clamp(min=1e-9)) ** 0.5 / power
    by_noise = min(spectra.numel() / float((spectra**2).sum()), 0.9)  # the spectra's own is in both
    all_seen, left = float((seen**2).sum()), float(((seen - expected) ** 2).sum())
    return {
        "slope": round((slope - by_noise) / (1 - by_noise), 4),
        "err_slope": round(error / (1 - by_noise), 4),
        "explained": round((all_seen - left) / (all_seen - count), 4) if all_seen > count else 0.0,
        "visible": round(power / count, 5),
    }


def clean_depth(units: NoiseUnits, around: Surroundings, beam: float) -> float | None:
    """Brightness down to which a cube was CLEANed; None if its sources show all of their sidelobes, or a share.

    CLEAN stops in each channel at some brightness, and leaves what is fainter with its sidelobes: of a line over a
    continuum the continuum has all of them, and the line few.  With any one share of them subtracted the line would be
    too faint.

    Returns
    -------
    float or None
        In units of the noise of a channel.
    """
    import torch

    spectra = around.spectra
    top = float(spectra.abs().max())
    levels = [share * top for share in LEVELS]
    tops = torch.cat([spectra, *(spectra.clamp(-share * top, share * top) for share in (0.25, 0.5))])
    own = torch.linalg.qr(tops.T).Q.T  # what the sources' spectra can show, cut off or not
    inside = around.about.flatten()
    seen = around.seen(units, own).flatten(1)[:, inside]
    more = around.more.flatten(1)[:, inside]

    def left(some: torch.Tensor) -> float:
        return float((seen - (own @ some.T) @ more).square().sum())

    whole = (own @ spectra.T) @ more
    share = float((whole * seen).sum() / whole.square().sum().clamp(min=1e-9))
    by_level = [left(spectra.clamp(-level, level)) for level in levels]
    best = int(np.argmin(by_level))
    with_share = left(share * spectra)
    least = max(STOPPED * BEAM_AREA * beam**2, STOPPED_SHARE * (float(seen.square().sum()) - with_share))
    return levels[best] if with_share - by_level[best] > least else None
