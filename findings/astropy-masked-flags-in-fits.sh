#!/usr/bin/env bash
# astropy 8.0.2 (numpy 2.4.6): masked values of a table change their meaning in FITS.
# Behaviour: a masked value is written as the column's fill value.  For logicals that is True, though FITS has an undefined
#   logical: "unknown" comes back as "yes", not masked.  For small integers TNULL is 999999 wrapped into the type: 63 in a
#   byte, 16959 in 16 bits; rows that hold this very number come back masked.  ECSV keeps both.
# Seen: flags True, False, unknown come back True, False, True; bytes 62, 63, 64, unknown come back 62, masked, 64, masked.
# Documented: that TNULL is 999999 has been an issue (14693); neither the True nor the 63 is.  A way
#   around: write(..., serialize_method="data_mask").
# A good guess: masked stays masked, and nothing else becomes so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 pyyaml==6.0.3
cd "$work"
venv/bin/python -W ignore - <<'PY'
import numpy as np
from astropy import __version__
from astropy.io import fits
from astropy.table import MaskedColumn, Table

table = Table()
table["resolved"] = MaskedColumn([True, False, False, False], mask=[False, False, True, False])
table["n_chan"] = MaskedColumn(np.array([62, 63, 64, 0], "u1"), mask=[False, False, False, True])
table["n_pix"] = MaskedColumn(np.array([5, 16959, 7, 0], "i2"), mask=[False, False, False, True])
table.write("t.fits")
table.write("t.ecsv", format="ascii.ecsv")
back, kept = Table.read("t.fits"), Table.read("t.ecsv", format="ascii.ecsv")
header = fits.getheader("t.fits", 1)
print(f"astropy {__version__}: written, and read from FITS (TNULL2 = {header['TNULL2']}, TNULL3 = {header['TNULL3']})")
for name in table.colnames:
    print(f"  {name}: {list(table[name])} -> {list(back[name])}; from ECSV {list(kept[name])}")
print("  a good guess: FITS as ECSV")
assert list(back["resolved"]) == [True, False, True, False], "changed: logicals"
for name in ("n_chan", "n_pix"):
    assert list(np.ma.getmaskarray(back[name])) == [False, True, False, True], f"changed: {name}"
for name in table.colnames:
    same = np.ma.getmaskarray(kept[name]) == np.ma.getmaskarray(table[name])
    assert same.all(), f"changed: {name} in ECSV"
PY
