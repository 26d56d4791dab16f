#!/usr/bin/env bash
# pvextractor 0.5 (astropy 8.0.2, numpy 2.4.6): the header of a position-velocity diagram is off by half a sample.
# Behaviour: samples lie in the middle of the path's steps (at 0.5, 1.5, ... of the spacing), but CRPIX1 = 1, CRVAL1 = 0
#   put the first one at the start of the path.
# Seen: in a cube whose value is x, along y = const from x = 10: values 10.5, 11.5, ... at offsets 0, 1, ...;
#   with spacing=4 12, 16, ... at 0, 4, ...: every offset is too small by half a spacing.
# Documented: not where the functions are explained.
# A good guess: the value at offset d is that at d along the path (as CASA 6.7's impv has it).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 astropy==8.0.2 pvextractor==0.5
cd "$work"
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from pvextractor import Path, extract_pv_slice

axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 30.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 20.0), ("VRAD", 0.0, 1e3, "m/s", 1.0)]
header = fits.Header()
for i, (kind, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = kind, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
data = np.ones((3, 40, 1)) * np.arange(60.0)
print(f"pvextractor {version('pvextractor')}: the cube's value is x, the path runs from x = 10 to 50; pixels of 1 arcsec")
for spacing in (1, 2, 4):
    for width in (None, 3):
        slit = extract_pv_slice(data, Path([(10.0, 20.0), (50.0, 20.0)], width=width), wcs=WCS(header), spacing=spacing)
        n = np.arange(1, slit.data.shape[1] + 1)
        offset = (slit.header["CRVAL1"] + (n - slit.header["CRPIX1"]) * slit.header["CDELT1"]) * 3600
        miss = slit.data[0] - (10 + offset)
        print(f"  spacing {spacing}, width {width}: offsets {offset[:3].round(2)}, values {slit.data[0, :3].round(2)}")
        assert np.allclose(miss, spacing / 2, atol=1e-3), "changed: offsets and values agree otherwise"
print("  a good guess: values 10 + offset")
PY
