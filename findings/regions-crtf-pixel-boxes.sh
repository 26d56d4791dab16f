#!/usr/bin/env bash
# regions 0.12 against CASA 6.7.0 (casatools 6.7.0.31 with casadata 2025.9.22; astropy 8.0.2): a CRTF box has its edges.
# Behaviour: CASA takes the pixels whose centres lie on a region's edge, regions those strictly inside; CRTF's own pixel
#   boxes and polygons have their corners ON pixel centres, so all of the outermost rows and columns are lost in regions.
# Seen: box [[40pix, 40pix], [60pix, 50pix]]: 21 x 11 pixels in CASA, 19 x 9 in regions (26 % fewer); the same as a
#   polygon; circle of 10 pixels 317 and 305.
# Documented: neither program's pages tell what happens on the edge.
# A good guess: the same pixels, 40 to 60 inclusive.  (Some 850 MB of CASA's data are installed for this.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 regions==0.12 casatools==6.7.0.31 casadata==2025.9.22
data=$("$work/venv/bin/python" -c "import importlib.util as i; print(i.find_spec('casadata').submodule_search_locations[0])")
mkdir -p "$work/.casa"
printf 'measurespath = "%s/__data__"\nmeasures_auto_update = False\ndata_auto_update = False\nnologfile = True\n' "$data" > "$work/.casa/config.py"
cd "$work"
HOME=$work venv/bin/python -W ignore - 2>"$work/log" <<'PY' || { tail -n 5 "$work/log"; exit 1; }
import casatools
import numpy as np
from regions import Regions
from regions import __version__ as regions_version

image, manager = casatools.image(), casatools.regionmanager()
image.fromarray("ones.image", np.ones((101, 101)), log=False)
shape, system = image.shape().tolist(), image.coordsys().torecord()
cases = [
    ("box [[40pix, 40pix], [60pix, 50pix]]", 231, 171),
    ("poly [[40pix, 40pix], [60pix, 40pix], [60pix, 50pix], [40pix, 50pix]]", 231, 171),
    ("circle [[50pix, 50pix], 10pix]", 317, 305),
    ("centerbox [[50pix, 50pix], [5pix, 3pix]]", 15, 15),
]
print(f"pixels of a CRTF region in CASA {casatools.version_string()} and regions {regions_version}")
for text, in_casa, in_regions in cases:
    casa = int(image.getregion(manager.fromtext(text, shape, system), getmask=True).sum())
    mask = Regions.parse(f"#CRTFv0\n{text}\n", format="crtf")[0].to_mask(mode="center")
    there = int(mask.to_image((101, 101)).sum())
    print(f"  {text}: {casa}, {there}")
    assert (casa, there) == (in_casa, in_regions), "changed"
print("  a good guess: the same number")
PY
