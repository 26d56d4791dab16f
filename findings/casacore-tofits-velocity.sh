#!/usr/bin/env bash
# python-casacore 3.8.1: image.tofits() makes velocities of frequencies, and puts all but the first channel elsewhere.
# Behaviour: by default (documented) the spectral axis is written as optical velocity.  Not documented: channels evenly
#   spaced in frequency are written as CTYPE 'VOPT' with one CDELT, evenly spaced in optical velocity, not as 'VOPT-F2W'.
# Seen: 200 channels of 1 MHz from 1420 MHz down: the last is written at 42140 km/s; it is at 48960 (1221 MHz).
# A good guess: FREQ as in the image; or else velocities that are right in each channel.  velocity=False writes FREQ.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 python-casacore==3.8.1
cd "$work"
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import casacore.images as images
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

REST = 1420.405751e6
axes = [("RA---SIN", 150.0, -1 / 3600, "deg", 4.0), ("DEC--SIN", 2.0, 1 / 3600, "deg", 4.0), ("FREQ", 1420e6, -1e6, "Hz", 1.0)]
header = fits.Header()
for i, (kind, value, step, unit, pixel) in enumerate(axes, 1):
    header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = kind, value, step
    header[f"CUNIT{i}"], header[f"CRPIX{i}"] = unit, pixel
header["RESTFRQ"], header["SPECSYS"], header["EQUINOX"] = REST, "LSRK", 2000.0
fits.PrimaryHDU(np.zeros((200, 8, 8), "f4"), header).writeto("in.fits")
image = images.image("in.fits")
image.tofits("out.fits")
written = fits.getheader("out.fits")
said = WCS(written).wcs_pix2world([[0, 0, 0], [0, 0, 199]], 0)[:, 2] / 1e3
true = 299792.458 * (REST / np.array([1420e6, 1221e6]) - 1)
print(f"python-casacore {version('python-casacore')}: FREQ, 200 channels of -1 MHz; tofits() writes {written['CTYPE3']}")
print(f"  first and last channel, optical velocity written {said.round(1)} km/s, true {true.round(1)} km/s")
print("  a good guess: FREQ, or the true velocities")
image.tofits("plain.fits", velocity=False)
if not (written["CTYPE3"].strip() == "VOPT" and abs(said[0] - true[0]) < 1 and 6800 < true[1] - said[1] < 6850):
    raise SystemExit("changed")
if fits.getheader("plain.fits")["CTYPE3"].strip() != "FREQ":
    raise SystemExit("changed: velocity=False")
PY
