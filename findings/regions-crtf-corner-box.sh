#!/usr/bin/env bash
# regions 0.12 (astropy 8.0.2): a CRTF box given by two corners on the sky.
# Behaviour: the difference of the corners' longitudes becomes the width on the sky, without the cosine of the latitude;
#   of corners on both sides of longitude 0, the box is the other way round the sky.
# Seen: corners of a box of 18 x 18 arcsec at declination 60 become 36 x 18 arcsec; at declination 80, 104 x 18;
#   from 359.9975 to 0.0025 degrees: 359.995 degrees wide, centred on 180.  At the equator it is right.
# Documented: no.  CASA's page on CRTF: "box[[blcx, blcy], [trcx, trcy]]", the bottom left and top right corners; CASA 6.7
#   takes the pixels between the two.
# A good guess: the region whose corners are the two that are given.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 regions==0.12
cd "$work"
venv/bin/python -W ignore - <<'PY'
import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from regions import Regions
from regions import __version__ as version

print(f"regions {version}: width on the sky of a CRTF box of two corners, 18 arcsec apart in both directions")
for lon, lat, seen in ((150.0, 0.0, 18.0), (150.0, 60.0, 36.0), (150.0, 80.0, 103.67), (359.9975, 0.0, 359.995 * 3600)):
    step = 18 / 3600
    corners = [(lon, lat), ((lon + step / np.cos(np.radians(lat))) % 360, lat + step)]
    text = ", ".join(f"[{a:.9f}deg, {b:.9f}deg]" for a, b in corners)
    (region,) = Regions.parse(f"#CRTFv0\nbox[{text}], coord=ICRS\n", format="crtf")
    apart = SkyCoord(*corners[0], unit="deg").separation(SkyCoord(corners[1][0], corners[0][1], unit="deg"))
    width = region.width.to_value(u.arcsec)
    print(f"  from {text}: {width:.2f} arcsec, centre {region.center.to_string()}; a good guess: {apart.arcsec:.2f}")
    assert abs(apart.arcsec - 18) < 0.01, "the corners are not what they should be"
    assert abs(width - seen) < 0.05, "changed"
PY
