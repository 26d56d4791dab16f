#!/usr/bin/env bash
# spectral-cube 0.7.0 on astropy 8.0.2: `cube[::2]` has the data of every second channel, but other velocities.
# Behaviour: WCS.slice takes a step for an average of the step's pixels (its centre is the reference), while the data are
#   every step-th pixel; so coordinates are off by (step - 1) / 2 old pixels, on each axis that is sliced with a step.
#   The documentation says "downsampled by that factor" and "numpy slice"; astropy has an open issue (10864, 2020).
# Seen: channels of 10 km/s: cube[::2].spectral_axis starts at 5 km/s, cube.spectral_axis[::2] at 0; [::4] at 15 km/s.
# A good guess: both the same, as they are with cube[3:] and cube[::-1].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 radio-beam==0.3.10 spectral-cube==0.7.0
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
from astropy import __version__ as astropy_version
from astropy import units as u
from astropy.io import fits
from spectral_cube import SpectralCube, __version__

axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 4.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 4.0), ("VRAD", 0.0, 10.0, "km/s", 1.0)]
header = fits.Header()
for i, (kind, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = kind, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
header["RESTFRQ"], header["SPECSYS"], header["BUNIT"] = 115.271e9, "LSRK", "K"
cube = SpectralCube.read(fits.PrimaryHDU(np.arange(16.0)[:, None, None] * np.ones((16, 8, 8)), header))
print(f"spectral-cube {__version__}, astropy {astropy_version}: channel n holds the value n, at 10 n km/s")
for step in (2, 4, -1):
    part = cube[::step]
    same = part.filled_data[:, 0, 0].value
    said, meant = part.spectral_axis.to_value(u.km / u.s), cube.spectral_axis[::step].to_value(u.km / u.s)
    print(f"  cube[::{step}]: values {same[:3]}, velocities {said[:3]}, those of the channels {meant[:3]}")
    assert np.array_equal(same, np.arange(16.0)[::step]), "changed: the data"
    assert np.allclose(said - meant, 10 * (step - 1) / 2 if step > 0 else 0.0), "changed: the velocities"
print("  a good guess: the channels' own velocities")
PY
