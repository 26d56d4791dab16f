#!/usr/bin/env bash
# spectral-cube 0.7.0 (astropy 8.0.2, radio-beam 0.3.10): a channel map turned into kelvin takes the REST frequency.
# Behaviour: `cube.to(u.K)[i]` uses the frequency of channel i; `cube[i].to(u.K)` uses RESTFRQ, with no warning.  At
#   redshift z the second is too low by (1 + z)^2.
# Seen: CO(2-1) of z = 1 at 115.27 GHz: 7.67 K per Jy/beam from the cube, 1.92 K from the channel map of it: a factor 4.
# Documented: no; the argument `freq` of `to` is not explained.  cube[i].to(u.K, freq=...) is right.
# A good guess: the order does not matter, for the channel map knows its own frequency.
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
from spectral_cube import SpectralCube, __version__

axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 8.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 8.0), ("FREQ", 115.27e9, 1e6, "Hz", 1.0)]
header = fits.Header()
for i, (kind, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = kind, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
header["RESTFRQ"], header["SPECSYS"], header["BUNIT"] = 230.538e9, "LSRK", "Jy/beam"
header["BMAJ"], header["BMIN"], header["BPA"] = 4 / 3600, 3 / 3600, 30.0
cube = SpectralCube.read(fits.PrimaryHDU(np.ones((4, 16, 16), "f4"), header))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    kelvin = float(cube[1].to(u.K).value[8, 8])
first = float(cube.to(u.K)[1].value[8, 8])
beam = cube.beam.sr.to_value(u.sr)
true = float((1 * u.Jy).to(u.K, u.brightness_temperature(cube.spectral_axis[1], beam * u.sr)).value)
print(f"spectral-cube {__version__}: 1 Jy/beam at {cube.spectral_axis[1].to(u.GHz):.3f} is {true:.3f} K")
print(f"  cube.to(K)[1]: {first:.3f} K    cube[1].to(K): {kelvin:.3f} K    warnings: {len(said)}")
print("  a good guess: both the same")
assert abs(first / true - 1) < 1e-3, "changed: the whole cube's conversion"
assert abs(true / kelvin - (230.538e9 / 115.271e9) ** 2) < 1e-3, "changed: the channel map's conversion"
assert not said, "changed: it warns now"
PY
