#!/usr/bin/env bash
# gofish 1.6.14 (astropy 8.0.2): the unit of the spectral axis is not read.
# Behaviour: CRVAL3 and CDELT3 are taken for Hz or m/s whatever CUNIT3 says: a cube in GHz has all its channels at the speed
#   of light, one in km/s channels a thousand times too narrow; no warning.
# Seen: one cube in Hz, GHz, m/s and km/s: channel width 1300.4, 0.0000013, 1300.4 and 1.3004 "m/s".
# Documented: no; the code says that the axis is in Hz or m/s.
# A good guess: 1300.4 m/s four times, or a refusal.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 gofish==1.6.14
cd "$work"
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import numpy as np
from astropy.io import fits
from gofish import imagecube

REST, STEP = 230.538e9, 299792458.0 * 1e6 / 230.538e9
cases = [
    ("FREQ", "Hz", 230e9, -1e6, STEP), ("FREQ", "GHz", 230.0, -1e-3, STEP * 1e-9),
    ("VRAD", "m/s", 7e5, STEP, STEP), ("VRAD", "km/s", 700.0, STEP / 1e3, STEP / 1e3),
]
print(f"gofish {version('gofish')}: first channel and channel width, said to be in m/s; true width {STEP:.1f} m/s")
for kind, unit, value, step, expected in cases:
    axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 17.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 17.0), (kind, value, step, unit, 1.0)]
    header = fits.Header()
    for i, (name, reference, width, of, pixel) in enumerate(axes, 1):
        header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = name, reference, width
        header[f"CUNIT{i}"], header[f"CRPIX{i}"] = of, pixel
    header["RESTFRQ"], header["SPECSYS"], header["BUNIT"] = REST, "LSRK", "Jy/beam"
    header["BMAJ"], header["BMIN"], header["BPA"] = 4 / 3600, 3 / 3600, 30.0
    fits.PrimaryHDU(np.ones((20, 33, 33), "f4"), header).writeto("cube.fits", overwrite=True)
    speeds = imagecube("cube.fits", verbose=False).velax
    found = np.diff(speeds).mean()
    print(f"  CUNIT3 = {unit}: {speeds[0]:.4g}, {found:.4g}")
    assert abs(found / expected - 1) < 1e-2, "changed"
print("  a good guess: 1300.4 in all four")
PY
