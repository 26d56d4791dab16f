#!/usr/bin/env bash
# CASA 6.7.0 (casatools 6.7.0.31 with casadata 2025.9.22): a region in channel 0 alone takes every channel.
# Behaviour: CRTF's range=[0chan, 0chan] (or pix) is passed over without a word, and the region spans the whole cube;
#   [1chan, 1chan] is one channel, and so are [0chan, 0.4chan] and the first channel's frequency given twice.
# Seen: in a cube of 40 channels, channels 0 to 39 instead of 0 to 0: a sum or a noise over 40 times as many voxels.
# Documented: no; the Region File Format page has range=[min, max] with the unit "chan" or "pix".
# A good guess: channel 0, as range=[5chan, 5chan] is channel 5.  (Some 850 MB of CASA's data are installed for this.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 casatools==6.7.0.31 casadata==2025.9.22
data=$("$work/venv/bin/python" -c "import importlib.util as i; print(i.find_spec('casadata').submodule_search_locations[0])")
mkdir -p "$work/.casa"
printf 'measurespath = "%s/__data__"\nmeasures_auto_update = False\ndata_auto_update = False\nnologfile = True\n' "$data" > "$work/.casa/config.py"
cd "$work"
HOME=$work venv/bin/python -W ignore - 2>"$work/log" <<'PY' || { tail -n 5 "$work/log"; exit 1; }
import casatools

image, manager = casatools.image(), casatools.regionmanager()
image.fromshape("cube.image", [30, 30, 40], log=False)
shape, system = image.shape().tolist(), image.coordsys().torecord()
first = image.coordsys().toworld([0, 0, 0], "n")["numeric"][2]
cases = [
    ("[0chan, 0chan]", (0, 0), (0, 39)),
    ("[0pix, 0pix]", (0, 0), (0, 39)),
    ("[1chan, 1chan]", (1, 1), (1, 1)),
    ("[0chan, 1chan]", (0, 1), (0, 1)),
    ("[0chan, 0.4chan]", (0, 0), (0, 0)),
    (f"[{first:.0f}Hz, {first:.0f}Hz]", (0, 0), (0, 0)),
]
print(f"channels of a CRTF range in CASA {casatools.version_string()}, of 40")
for words, guess, seen in cases:
    box = image.boundingbox(manager.fromtext(f"box[[5pix, 5pix], [9pix, 9pix]], range={words}", shape, system))
    got = int(box["blc"][2]), int(box["trc"][2])
    print(f"  range={words}: {got[0]} to {got[1]}; a good guess: {guess[0]} to {guess[1]}")
    assert got == seen, "changed"
PY
