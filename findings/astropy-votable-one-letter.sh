#!/usr/bin/env bash
# astropy 8.0.2: a VOTable's column of one-letter texts is written as arraysize="1", which the standard deprecates.
# Behaviour: the width of numpy's text type becomes a fixed arraysize; of one letter, and of any text column of an empty
#   table, it is "1".  VOTable 1.3's erratum 3 deprecates that, since programs disagree whether it is a scalar or an array
#   of length one; STILTS' votlint warns of every such field, astropy's own validator finds no violation.
# Seen: flag 'a' as <FIELD arraysize="1" datatype="unicodeChar" .../>; the same for the names of a table without rows.
# Documented: https://wiki.ivoa.net/twiki/bin/view/IVOA/VOTable-1_3-Err-3, not in astropy's pages.
# A good guess: arraysize="*", as a column of objects has it, and which every reader takes for a text.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2
cd "$work"
venv/bin/python -W ignore - <<'PY'
import io
import re

import astropy
import numpy as np
from astropy.io.votable import validate
from astropy.table import Table

print(f"astropy {astropy.__version__}: arraysize of the column 'name' in a VOTable")
cases = [
    ("two names", np.array(["NGC 1", "M 31"]), "5"),
    ("names of one letter", np.array(["A", "B"]), "1"),
    ("no row", np.array([], dtype=str), "1"),
    ("names of one letter, as objects", np.array(["A", "B"], dtype=object), "*"),
]
for what, names, seen in cases:
    Table({"name": names}).write("table.vot", format="votable", overwrite=True)
    field = re.search(r"<FIELD[^>]*>", open("table.vot").read())[0]
    size, report = re.search(r'arraysize="([^"]*)"', field)[1], io.StringIO()
    valid = validate("table.vot", report)
    print(f"  {what}: {size}; astropy's validator: {'no violation' if valid else 'violations'}")
    assert (size, valid) == (seen, True), "changed"
print('  a good guess: never "1", deprecated since VOTable 1.3 erratum 3')
PY
