#!/usr/bin/env bash
# fitsio 1.4.2 (astropy 8.0.2): pixels without data of an integer cube are read as numbers.
# Behaviour: integer FITS images (HIPASS's, for one) mark "no data" by the integer of BLANK.  fitsio
#   scales it with BSCALE and BZERO like any other; astropy gives NaN.
# Seen: BLANK = -32768, BSCALE = 1e-4, BZERO = 0.5: the empty pixel is -2.7768 Jy/beam.
# Documented: no.
# A good guess: NaN.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 fitsio==1.4.2
cd "$work"
venv/bin/python -W ignore - <<'PY'
import fitsio
import numpy as np
from astropy.io import fits

stored = np.zeros((2, 4, 4), "i2")
stored[:, 0, 0] = -32768
cube = fits.PrimaryHDU(stored)
cube.header["BLANK"], cube.header["BSCALE"], cube.header["BZERO"], cube.header["BUNIT"] = -32768, 1e-4, 0.5, "Jy/beam"
cube.writeto("cube.fits")
raw = fits.open("cube.fits", do_not_scale_image_data=True)[0]
assert raw.data[0, 0, 0] == -32768 and raw.header["BLANK"] == -32768, "the file is not what it should be"
right, read = fits.getdata("cube.fits"), fitsio.read("cube.fits")
print(f"fitsio {fitsio.__version__}: a pixel without data is {read[0, 0, 0]:.4f} Jy/beam, its neighbour {read[0, 0, 1]:.4f}")
print(f"  astropy: {right[0, 0, 0]}, {right[0, 0, 1]:.4f}; a good guess: NaN")
assert np.isnan(right[0, 0, 0]) and abs(read[0, 0, 0] + 2.7768) < 1e-4, "changed"
PY
