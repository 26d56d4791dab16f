#!/usr/bin/env bash
# casa-formats-io 0.3.1 (python-casacore 3.8.1, astropy 8.0.2): a spectral axis that is a table is read as a straight line.
# Behaviour: casacore stores an axis evenly spaced in optical velocity (CTYPE VOPT in the FITS file it came from) as a
#   table of frequencies.  coordsys_to_astropy_wcs makes a linear FREQ axis of the table's first step, without a word.
# Seen: VOPT cube of 20 km/s channels from 0: channel 500 is at 10000 km/s in casacore, at 10344 in casa-formats-io;
#   channel 1000 at 20000 and 21428.
# Documented: no.
# A good guess: casacore's frequencies, or a refusal.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 python-casacore==3.8.1 casa-formats-io==0.3.1
cd "$work"
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import casacore.images as images
import numpy as np
from astropy.io import fits
from casa_formats_io import coordsys_to_astropy_wcs, getdesc

REST, WHERE = 1420.405751e6, (0, 500, 1000)
axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 4.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 4.0), ("VOPT", 0.0, 2e4, "m/s", 1.0)]
header = fits.Header()
for i, (name, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = name, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
header["RESTFRQ"], header["SPECSYS"], header["EQUINOX"] = REST, "BARYCENT", 2000.0
fits.PrimaryHDU(np.zeros((1001, 8, 8), "f4"), header).writeto("cube.fits")
images.image("cube.fits").saveas("cube.image")
image = images.image("cube.image")
casacore = np.array([image.toworld([k, 4, 4])[0] for k in WHERE])
wcs = coordsys_to_astropy_wcs(getdesc("cube.image")["_keywords_"]["coords"])
read = wcs.wcs_pix2world([[4, 4, k] for k in WHERE], 0)[:, 2]
speeds = [299792.458 * (REST / f - 1) for f in (casacore, read)]
print(f"casa-formats-io {version('casa-formats-io')}: optical velocity (km/s) of channels {WHERE} of one CASA image")
print(f"  casacore {speeds[0].round(0)}, casa-formats-io {speeds[1].round(0)} (as {wcs.wcs.ctype[2]})")
print("  a good guess: casacore's")
if not (np.allclose(speeds[0], [0, 10000, 20000], atol=1) and np.allclose(speeds[1], [0, 10344, 21428], atol=1)):
    raise SystemExit("changed")
PY
