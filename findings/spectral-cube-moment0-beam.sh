#!/usr/bin/env bash
# spectral-cube 0.7.0 (astropy 8.0.2, radio-beam 0.3.10): a moment-0 map convolved to a larger beam loses flux.
# Behaviour: `convolve_to` multiplies a cube or a channel map in Jy/beam by the ratio of the beams, so that a point source
#   keeps its peak; a moment-0 map (Jy/beam times Hz or km/s) it does not, but writes the new beam into it all the same.
# Seen: point source, 4"x3" to 8"x8": the peak of a channel stays 1.00, that of the moment 0 falls to 0.19; no warning.
# Documented: no; channel maps were mended in 2026 (pull request 1017), moment maps were not.
# A good guess: moment 0 of the convolved cube and the convolved moment 0 are the same map.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 radio-beam==0.3.10 spectral-cube==0.7.0
cd "$work"
venv/bin/python - <<'PY'
import warnings
import numpy as np
from astropy import units as u
from astropy.io import fits
from radio_beam import Beam
from spectral_cube import SpectralCube, __version__

axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 33.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 33.0), ("VRAD", 0.0, 2.0, "km/s", 1.0)]
header = fits.Header()
for i, (kind, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = kind, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
header["RESTFRQ"], header["SPECSYS"], header["BUNIT"] = 230.538e9, "LSRK", "Jy/beam"
header["BMAJ"], header["BMIN"], header["BPA"] = 4 / 3600, 3 / 3600, 30.0
plane = Beam(4 * u.arcsec, 3 * u.arcsec, 30 * u.deg).as_kernel(1 * u.arcsec, x_size=65, y_size=65).array
cube = SpectralCube.read(fits.PrimaryHDU(np.stack([plane / plane.max()] * 6).astype("f4"), header))
large = Beam(8 * u.arcsec)
moment = cube.moment0()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    after = moment.convolve_to(large)
ratio = float(after.max() / moment.max())
channel = float(cube[2].convolve_to(large).max().value)
first = float(cube.convolve_to(large).moment0().max() / moment.max())
print(f"spectral-cube {__version__}: a point source convolved from 4x3 to 8x8 arcsec, peak after / before")
print(f"  channel map {channel:.3f}; cube, then moment 0: {first:.3f}; moment 0 convolved: {ratio:.3f}")
print(f"  the latter in {after.unit}, with the beam {after.beam.major:.0f}; warnings: {len(said)}")
print("  a good guess: 1.000 for all three")
assert abs(channel - 1) < 0.01 and abs(first - 1) < 0.01, "changed: channel map or cube"
assert abs(ratio - 12 / 64) < 0.01 and after.beam == large and not said, "changed: the moment-0 map"
PY
