"""Records of one cube, as a run stores them."""

from __future__ import annotations

import numpy as np


def true_sources(*places, line=(20.0, 4.0), snr=20.0, pair=0):
    """Truth of sources at (x, y), each in a box of 11 pixels, with a line (centre, FWHM) or None."""
    x, y = np.reshape(np.array(places, dtype=float), (-1, 2)).T
    z, fwhm = line or (np.nan, np.nan)
    z0, z1 = (round(z - fwhm), round(z + fwhm) + 1) if line else (-1, -1)
    each = {"z": z, "fwhm_line": fwhm, "z0": z0, "z1": z1, "flux": 2e7, "snr_stack": snr, "snr_line": snr, "pair": pair}
    box = {"y0": y - 5, "y1": y + 6, "x0": x - 5, "x1": x + 6}
    return {"x": x, "y": y, **box, **{key: np.full(len(x), value) for key, value in each.items()}}


def found_sources(*places, line=(20.0, 4.0), kind="line", prob=0.9, snr=20.0):
    """Candidates at (x, y), likewise."""
    columns = true_sources(*places, line=line, snr=snr)
    columns["fwhm"] = columns.pop("fwhm_line")
    del columns["pair"]
    n = len(columns["x"])
    return columns | {"kind": [kind] * n, "prob": np.full(n, prob), "score": np.full(n, 9.0)}


def records(true, found, cube=0, beam=6.0, seconds=0.5, error=None):
    """One cube's truth and results, as they are stored."""
    truth = {"cube": cube, "seed": 1, "beam": beam, "sources": true}
    return truth, {"cube": cube, "seconds": seconds, "error": error, "sources": found}
