#!/usr/bin/env bash
# spectral-cube 0.7.0 (astropy 8.0.2, numpy 2.4.6): sigma_clip_spectrally clips nothing, unless dask is used.
# Behaviour: it is documented to turn what is clipped into NaN; the usual cube comes back unchanged (the clipper's mask is
#   lost), the one read with use_dask=True is clipped.
# Seen: noise of 1 K, one voxel of 100 K, clipped at 3 sigma: the voxel is still 100 K and the standard deviation 1.78;
#   with dask NaN and 0.99.
# Documented: otherwise, see above.
# A good guess: NaN in both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 radio-beam==0.3.10 dask==2026.8.0 spectral-cube==0.7.0
cd "$work"
venv/bin/python -W ignore - <<'PY'
import numpy as np
from astropy.io import fits
from spectral_cube import SpectralCube, __version__

axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 4.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 4.0), ("VRAD", 0.0, 10.0, "km/s", 1.0)]
header = fits.Header()
for i, (kind, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = kind, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
header["RESTFRQ"], header["SPECSYS"], header["BUNIT"] = 115.271e9, "LSRK", "K"
data = np.random.default_rng(3).normal(size=(64, 8, 9)).astype("f4")
data[5, 4, 4] = 100.0
found = {}
print(f"spectral-cube {__version__}: one voxel of 100 K in noise of 1 K, sigma_clip_spectrally(3)")
for dask in (False, True):
    after = SpectralCube.read(fits.PrimaryHDU(data, header), use_dask=dask).sigma_clip_spectrally(3)
    values = np.asarray(after.filled_data[:].value)
    found[dask] = values[5, 4, 4], np.isnan(values).sum(), np.nanstd(values)
    print(f"  use_dask={dask}: voxel {found[dask][0]:.0f}, {found[dask][1]} NaN, standard deviation {found[dask][2]:.2f}")
print("  a good guess: NaN in both, 0.99")
if not (found[False][0] == 100.0 and found[False][1] == 0 and np.isnan(found[True][0]) and found[True][1] > 1):
    raise SystemExit("changed")
PY
