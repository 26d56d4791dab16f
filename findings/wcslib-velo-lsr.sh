#!/usr/bin/env bash
# astropy 8.0.2 (its wcslib): 'VELO-LSR' without VELREF becomes OPTICAL velocity, 'VELO' alone relativistic.
# Behaviour: AIPS writes radio or optical velocity as VELO-LSR, and which of them in VELREF (over 256: radio).  Without
#   VELREF wcslib takes optical (the warning names CTYPE VOPT); without the -LSR the standard's VELO, apparent radial
#   velocity, is neither.  spectral-cube and all that stands on astropy.wcs follow.
# Seen: 10000 km/s of CO(2-1) is 222.848 GHz in radio velocity; VELO-LSR gives 223.096 (323 km/s away), VELO 222.972.
# Documented: by the warning when the header is read; not by astropy's pages.
# A good guess: radio, in a radio astronomer's cube of AIPS, MIRIAD or GILDAS; at least one answer for both spellings.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2
cd "$work"
venv/bin/python -W ignore - <<'PY'
from astropy import __version__
from astropy.io import fits
from astropy.wcs import WCS

REST, SPEED, LIGHT = 230.538e9, 1e7, 299792458.0
ratio = SPEED / LIGHT
true = {
    "radio": REST * (1 - ratio),
    "optical": REST / (1 + ratio),
    "relativistic": REST * ((1 - ratio) / (1 + ratio)) ** 0.5,
}
cases = [("VELO-LSR", 257, "radio"), ("VELO-LSR", 1, "optical"), ("VELO-LSR", None, "optical"), ("VELO", None, "relativistic")]
print(f"astropy {__version__}: 10000 km/s of CO(2-1); radio {true['radio'] / 1e9:.3f}, optical {true['optical'] / 1e9:.3f} GHz")
for kind, velref, convention in cases:
    header = fits.Header()
    header["CTYPE1"], header["CUNIT1"], header["CRPIX1"] = kind, "m/s", 1.0
    header["CRVAL1"], header["CDELT1"], header["RESTFRQ"] = SPEED, 1e4, REST
    if velref is not None:
        header["VELREF"] = velref
    wcs = WCS(header)
    became = wcs.wcs.ctype[0]
    wcs.wcs.sptr("FREQ-???")
    frequency = wcs.wcs.crval[0]
    print(f"  CTYPE {kind}, VELREF {velref}: read as {became}, {frequency / 1e9:.3f} GHz")
    assert abs(frequency - true[convention]) < 1e3, "changed"
print("  a good guess for the third: radio, or the same as the fourth")
PY
