#!/usr/bin/env bash
# python-casacore 3.8.1 and astropy 8.0.2 (wcslib): casacore reads VOPT-F2W and FELO as evenly spaced in velocity.
# Behaviour: VOPT-F2W (AIPS: FELO-HEL, -LSR) says that the channels are evenly spaced in FREQUENCY, and CDELT3 is the step
#   of optical velocity at the reference channel; astropy reads that.  casacore (so CASA 6.7's importfits too)
#   takes them for evenly spaced in optical velocity, without a word.
# Seen: 10 km/s channels, 5000 km/s at the middle one: 200 channels away casacore has 3000 and 7000 km/s, astropy 3013.0
#   and 7013.2: more than a channel.
# Documented: no; what VOPT-F2W means is in Greisen et al. 2006, A&A 446, 747.
# A good guess: the same frequencies from both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 python-casacore==3.8.1
cd "$work"
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import casacore.images as images
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

REST, WHERE = 1420.405751e6, (0, 200, 400)
print(f"python-casacore {version('python-casacore')}, astropy {version('astropy')}: optical velocity (km/s) of channels {WHERE}")
for kind in ("VOPT-F2W", "FELO-HEL"):
    axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 4.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 4.0), (kind, 5e6, 1e4, "m/s", 201.0)]
    header = fits.Header()
    for i, (name, value, step, unit, pixel) in enumerate(axes, 1):
        header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = name, value, step
        header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
    header["RESTFRQ"], header["EQUINOX"], header["SPECSYS"] = REST, 2000.0, "BARYCENT"
    fits.PrimaryHDU(np.zeros((401, 8, 8), "f4"), header).writeto("cube.fits", overwrite=True)
    image = images.image("cube.fits")
    casacore = 299792.458 * (REST / np.array([image.toworld([k, 4, 4])[0] for k in WHERE]) - 1)
    wcslib = WCS(header).wcs_pix2world([[4, 4, k] for k in WHERE], 0)[:, 2] / 1e3
    even = REST / (1 + wcslib / 299792.458)
    print(f"  {kind}: casacore {casacore.round(1)}, wcslib {wcslib.round(1)}")
    if not (np.allclose(casacore, [3000, 5000, 7000], atol=0.1) and np.allclose(wcslib, [3013.0, 5000, 7013.2], atol=0.1)):
        raise SystemExit("changed")
    if abs(even[0] - 2 * even[1] + even[2]) > 10:
        raise SystemExit("changed: wcslib's channels are not evenly spaced in frequency")
print("  a good guess: the same")
PY
