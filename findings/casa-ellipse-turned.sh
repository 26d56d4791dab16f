#!/usr/bin/env bash
# CASA 6.7.0 (casatools 6.7.0.31 with casadata 2025.9.22): a CRTF ellipse on the sky has its angle from the pixel axes.
# Behaviour: the position angle is taken as if North were up and East left, whatever the image's rotation (PC, CD or CROTA).
# Seen: in an image turned by 90 degrees, an ellipse that is long from North to South covers pixels from East to West.
# Documented: not found.
# A good guess: the ellipse on the sky, in any image.  (Some 850 MB of CASA's data are installed for this.)
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
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

PIXEL, MAJOR, MINOR = 1 / 3600, 12, 4  # deg, and half axes in pixels
header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": 10.0, "CUNIT1": "deg", "CUNIT2": "deg"})
header.update({"CRPIX1": 31.0, "CRPIX2": 31.0, "CDELT1": -PIXEL, "CDELT2": PIXEL, "RADESYS": "ICRS", "BUNIT": "Jy/beam"})
print(f"size in x and y of an ellipse of {2 * MAJOR} x {2 * MINOR} pixels on the sky, CASA {casatools.version_string()}")
for turned in (0, 90, 30):
    c, s = np.cos(np.radians(turned)), np.sin(np.radians(turned))
    header.update({"PC1_1": c, "PC1_2": -s, "PC2_1": s, "PC2_2": c})
    fits.writeto(f"{turned}.fits", np.ones((61, 61), np.float32), header)
    image, manager = casatools.image(), casatools.regionmanager()
    image.fromfits(f"{turned}.image", f"{turned}.fits")
    words = f"ellipse[[30deg, 10deg], [{MAJOR}arcsec, {MINOR}arcsec], 0deg], coord=ICRS"
    mask = image.getregion(manager.fromtext(words, image.shape().tolist(), image.coordsys().torecord()), getmask=True)
    found = np.argwhere(mask)
    seen = (found.max(axis=0) - found.min(axis=0)).tolist()
    t = np.linspace(0, 2 * np.pi, 3601)
    north, east = MAJOR * np.cos(t), MINOR * np.sin(t)  # position angle 0: the major axis points to the North
    edge = SkyCoord(30, 10, unit="deg").directional_offset_by(np.arctan2(east, north) * u.rad, np.hypot(north, east) * u.arcsec)
    x, y = WCS(header).world_to_pixel(edge)
    guess = [2 * int(np.floor(v.max() - 30 + 1e-3)) for v in (x, y)]
    print(f"  image turned by {turned:2} deg: {seen}; a good guess: {guess}")
    assert seen == [2 * MINOR, 2 * MAJOR], "changed"
    assert (seen == guess) == (turned == 0), "changed"
    image.done()
PY
