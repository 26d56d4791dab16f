"""What the columns of a catalogue mean: a description of each, and its UCD for VOTables.

The definitions, with formulas and errors, are in ``docs/catalogue.md``; columns whose meaning depends on the cube are
described by :func:`napari_almadet.catalogue.detections.descriptions`.
"""

from __future__ import annotations

ERROR = "err_"  # prefix of the columns of errors

# In order of the table; errors are described with the column that they belong to.
DESCRIPTIONS = {
    "id": "number of the candidate within the run",
    "name": "IAU-style name from the ICRS position, truncated",
    "x": "position, pixels from 0, the centre of a pixel is the integer",
    "y": "position, pixels from 0, the centre of a pixel is the integer",
    "z": "centroid of the line, channels from 0; NaN without a line",
    "x_min": "first pixel of the box along x, inclusive, from 0",
    "x_max": "last pixel of the box along x, inclusive, from 0",
    "y_min": "first pixel of the box along y, inclusive, from 0",
    "y_max": "last pixel of the box along y, inclusive, from 0",
    "z_min": "first channel of the emission range, inclusive, from 0",
    "z_max": "last channel of the emission range, inclusive, from 0",
    "n_pix": "number of voxels of the mask",
    "ra": "ICRS",
    "dec": "ICRS",
    "err_ra": "1 sigma error along the sky: times cos(dec)",
    "l": "galactic longitude",
    "b": "galactic latitude",
    "x_peak": "brightest voxel of the mask, from 0",
    "y_peak": "brightest voxel of the mask, from 0",
    "z_peak": "brightest voxel of the mask, channel from 0",
    "ra_peak": "ICRS, of the brightest voxel of the mask",
    "dec_peak": "ICRS, of the brightest voxel of the mask",
    "freq_peak": "of the brightest voxel of the mask",
    "v_rad_peak": "radio velocity of the brightest voxel of the mask",
    "method": "how the flux was measured: as a point, a Gaussian fit, the sum of the mask, or of the box",
    "f_sum": "integrated line flux, not corrected for the primary beam; NaN without a line",
    "f_sum_all": "f_sum with the further lines of the source, not corrected for the primary beam",
    "pb": "response of the primary beam at the position, with method mask over the mask, weighted with its flux",
    "f_sum_pb": "f_sum corrected for the primary beam",
    "f_cont": "flux density of the continuum, not corrected for the primary beam; NaN with a line and under 4.5 sigma",
    "f_cont_pb": "f_cont corrected for the primary beam",
    "alpha": "spectral index of the continuum, S ~ freq^alpha",
    "f_max": "highest brightness in the mask",
    "f_min": "lowest brightness in the mask",
    "peak": "brightness at the peak of the source; of a source without a line, the mean over the band",
    "w20": "width of the line at 20 % of its maximum",
    "w50": "width of the line at 50 % of its maximum",
    "wm50": "width of the line at half its mean brightness (Courtois et al. 2009)",
    "fwhm": "FWHM of a single Gaussian fitted to the spectrum; see chi2_fit; NaN with method mask",
    "z_fit": "centre of a single Gaussian fitted to the spectrum, channels from 0; NaN with method mask",
    "chi2_fit": "reduced chi^2 of a single Gaussian: far above 1, the line is not Gaussian",
    "dc_maj": "major FWHM of the source, deconvolved from the beam; NaN where it is not resolved, and with method mask",
    "dc_min": "minor FWHM of the source, deconvolved from the beam; NaN where it is not resolved, and with method mask",
    "dc_pa": "position angle of the deconvolved source, North through East",
    "dc_limit": "2 sigma upper limit of the deconvolved major FWHM",
    "ell_maj": "major FWHM of the source's image from its second moments, not deconvolved",
    "ell_min": "minor FWHM of the source's image from its second moments, not deconvolved",
    "ell_pa": "position angle of the source's image, North through East",
    "ell3s_maj": "as ell_maj, of the pixels above 3 sigma with equal weights",
    "ell3s_min": "as ell_min, of the pixels above 3 sigma with equal weights",
    "ell3s_pa": "as ell_pa, of the pixels above 3 sigma with equal weights",
    "kin_pa": "position angle of the receding side, North through East",
    "abs_snr": "S/N of the strongest absorption line against the continuum; NaN: none, or not searched for",
    "abs_z": "centre of the absorption line, channels from 0",
    "abs_v_rad": "radio velocity of the absorption line",
    "abs_depth": "depth of the absorption line, as a fraction of the continuum",
    "abs_w50": "width of the absorption line at half its depth",
    "abs_tau": "peak optical depth; NaN where saturated",
    "abs_tau_limit": "lower limit of abs_tau (2 sigma) where it is saturated",
    "abs_tau_int": "optical depth integrated over the line; NaN where saturated",
    "abs_n": "number of absorption lines",
    "rms": "noise of one channel at the position",
    "prob": "probability that the candidate is a source",
    "rel": "reliability, from detections in the inverted cube; NaN if it was not searched",
    "snr_global": "median in the circle inscribed in the box over the noise around it (Delli Veneri et al., eq. 3)",
    "snr_pixel": "peak S/N of the line-integrated image (Delli Veneri et al., eq. 4)",
    "n_peaks": "number of emission lines",
    "blended": "another source is too close to be separated reliably",
    "edge": "the box touches the edge of the field or pixels without data",
    "flag": "sum of 1: mask at the field's border; 2: at an end of the band; 4: voxels without data in it; "
    "8: another source's mask beside it; 16: the source has further lines, which are in f_sum_all alone",
    "parent": "id of the object this is a part of; 0: none",
    "kind": "line, continuum or both: what is detected at 4.5 sigma; if neither is, the classification by the search",
    "line_ids": "lines that the frequency allows in the given range of redshifts, commonly bright ones first",
    "redshifts": "redshifts that explain two lines or more, the best first",
    "verdict": "verdict of the astronomer: unreviewed, accepted or rejected",
    "note": "of the astronomer",
    "origin": "origin of the box: found, edited, drawn or imported",
    "status": "result of the selection rules: kept, flagged (to be checked) or dropped",
    "fate": "the same as status, for programs written for version 0.1",
}

# Unified Content Descriptors (IVOA, UCD1+), by which TOPCAT and Aladin know what a column is.
UCDS = {
    "id": "meta.id",
    "name": "meta.id;meta.main",
    **{f"{axis}{of}": f"pos.cartesian.{axis}" for axis in "xyz" for of in ("", "_peak")},
    "n_pix": "meta.number",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "l": "pos.galactic.lon",
    "b": "pos.galactic.lat",
    "freq": "em.freq",
    "v_rad": "spect.dopplerVeloc.radio",
    "v_opt": "spect.dopplerVeloc.opt",
    "v_app": "spect.dopplerVeloc",
    "ra_peak": "pos.eq.ra",
    "dec_peak": "pos.eq.dec",
    "freq_peak": "em.freq",
    "v_rad_peak": "spect.dopplerVeloc.radio",
    "f_sum": "phot.flux",
    "f_sum_all": "phot.flux",
    "f_sum_pb": "phot.flux",
    "f_cont": "phot.flux.density",
    "f_cont_pb": "phot.flux.density",
    "alpha": "spect.index",
    "f_max": "phot.flux.density;stat.max",
    "f_min": "phot.flux.density;stat.min",
    "peak": "phot.flux.density",
    **dict.fromkeys(("w20", "w50", "wm50", "fwhm", "abs_w50"), "spect.line.width"),
    "z_fit": "pos.cartesian.z",
    "chi2_fit": "stat.fit.chi2",
    **{f"{kind}_{axis}": "phys.angSize" for kind in ("dc", "ell", "ell3s") for axis in ("maj", "min")},
    **dict.fromkeys(("dc_pa", "ell_pa", "ell3s_pa", "kin_pa"), "pos.posAng"),
    "dc_limit": "phys.angSize",
    **dict.fromkeys(("abs_snr", "snr_global", "snr_pixel"), "stat.snr"),
    "abs_z": "pos.cartesian.z",
    "abs_v_rad": "spect.dopplerVeloc.radio",
    **dict.fromkeys(("abs_tau", "abs_tau_limit", "abs_tau_int"), "phys.absorption.opticalDepth"),
    "abs_n": "meta.number",
    "rms": "instr.det.noise",
    "prob": "stat.probability",
    "rel": "stat.probability",
    "n_peaks": "meta.number",
    "flag": "meta.code.qual",
    "parent": "meta.id.parent",
    "kind": "meta.code.class",
    "redshifts": "src.redshift",
    "note": "meta.note",
    "status": "meta.code.status",
}


def description(name: str) -> str | None:
    """The description of a column; of errors and unknown columns by their name, None if there is none.

    Examples
    --------
    >>> description("w50")
    'width of the line at 50 % of its maximum'
    >>> description("err_w50")
    '1 sigma error of w50, thermal noise only'
    """
    of = name.removeprefix(ERROR)
    return DESCRIPTIONS.get(name) or (f"1 sigma error of {of}, thermal noise only" if of != name else None)


def ucd(name: str) -> str | None:
    """The UCD of a column, None if it has none.

    Examples
    --------
    >>> ucd("ra"), ucd("err_ra")
    ('pos.eq.ra;meta.main', 'stat.error;pos.eq.ra')
    """
    if name in UCDS or not name.startswith(ERROR):
        return UCDS.get(name)
    of = UCDS.get(name.removeprefix(ERROR))
    return None if of is None else f"stat.error;{of.removesuffix(';meta.main')}"
