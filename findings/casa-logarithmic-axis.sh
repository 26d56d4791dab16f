#!/usr/bin/env bash
# CASA 6.7.0 (casatools 6.7.0.31 with casadata 2025.9.22): logarithmic axes of wavelength and optical velocity are linear.
# Behaviour: of CTYPE3 = 'WAVE-LOG' or 'VOPT-LOG' the algorithm is passed over without a word; 'FREQ-LOG' is read rightly.
# Seen: in 1000 channels of 1e-4 of the wavelength each, the last frequency is wrong by 0.5 %.
# Documented: not found; FITS paper III, eq. 5, has value = CRVAL3 exp(CDELT3 (p - CRPIX3) / CRVAL3).
# A good guess: what astropy (wcslib) reads.  (Some 850 MB of CASA's data are installed for this.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 casatools==6.7.0.31 casadata==2025.9.22
data=$("$work/venv/bin/python" -c "import importlib.util as i; print(i.find_spec('casadata').submodule_search_locations[0])")
mkdir -p "$work/.casa"
printf 'measurespath = "%s/__data__"\nmeasures_auto_update = False\ndata_auto_update = False\nnologfile = True\n' "$data" > "$work/.casa/config.py"
cd "$work"
HOME=$work venv/bin/python -W ignore - 2>"$work/log" <<'PY' || { tail -n 5 "$work/log"; exit 1; }
import casatools
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": 10.0, "CUNIT1": "deg", "CUNIT2": "deg"})
header.update({"CRPIX1": 3.0, "CRPIX2": 3.0, "CDELT1": -1e-4, "CDELT2": 1e-4, "RADESYS": "ICRS", "BUNIT": "Jy/beam"})
header.update({"CUNIT3": "m", "CRPIX3": 1.0, "RESTFRQ": 101e9, "SPECSYS": "LSRK"})
LIGHT, REST, CHANNELS = 299792458.0, 101e9, 1000
kinds = {  # type: value, step, unit, its frequency, whether CASA reads it as linear
    "FREQ-LOG": (100e9, 1e7, "Hz", lambda value: value, False),
    "WAVE-LOG": (3e-3, 3e-7, "m", lambda value: LIGHT / value, True),
    "VOPT-LOG": (2e6, 1e3, "m/s", lambda value: REST / (1 + value / LIGHT), True),
}
print(f"frequency of channel {CHANNELS - 1} of a logarithmic axis, CASA {casatools.version_string()}")
for kind, (value, step, unit, frequency, linear) in kinds.items():
    header.update({"CTYPE3": kind, "CRVAL3": value, "CDELT3": step, "CUNIT3": unit})
    fits.writeto(f"{kind}.fits", np.ones((CHANNELS, 5, 5), np.float32), header)
    image = casatools.image()
    image.fromfits(f"{kind}.image", f"{kind}.fits")
    seen = image.toworld([2, 2, CHANNELS - 1], "n")["numeric"][2]
    guess = frequency(WCS(header).all_pix2world([[2, 2, CHANNELS - 1]], 0)[0, 2])
    by_hand = frequency(value * np.exp((CHANNELS - 1) * step / value))
    print(f"  {kind}: {seen / 1e9:.6f} GHz; a good guess: {guess / 1e9:.6f} GHz")
    assert abs(guess / by_hand - 1) < 1e-9
    expected = frequency(value + (CHANNELS - 1) * step) if linear else guess
    assert abs(seen / expected - 1) < 1e-7, "changed"
    image.done()
PY
