#!/usr/bin/env bash
# specutils 2.4.0 (astropy 8.0.2): extract_region drops a channel of a spectrum that falls in frequency.
# Behaviour: on a rising axis both ends are taken; on a falling one (usual
#   for ALMA's lower sideband, or frequency against rising velocity) the channel at the lower end is left out.
# Seen: 105 to 110 GHz of channels of 1 GHz: 6 channels if rising, 5 if falling; a flat spectrum of 1 Jy sums to 6 and 5.
# Documented: as a closed interval, so otherwise.
# A good guess: the same channels.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check numpy==2.4.6 astropy==8.0.2 specutils==2.4.0
cd "$work"
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import numpy as np
from astropy import units as u
from specutils import SpectralRegion, Spectrum
from specutils.manipulation import extract_region

axis = np.arange(100.0, 121.0) * u.GHz
flux = np.ones(21) * u.Jy
region = SpectralRegion(105 * u.GHz, 110 * u.GHz)
found = {}
print(f"specutils {version('specutils')}: 105 to 110 GHz of a spectrum of 1 Jy in channels of 1 GHz")
for name, frequencies in (("rising", axis), ("falling", axis[::-1])):
    part = extract_region(Spectrum(flux=flux, spectral_axis=frequencies), region)
    found[name] = part.flux.sum().value
    print(f"  {name}: {part.spectral_axis.value}, sum {found[name]:.0f} Jy")
print("  a good guess: 6 Jy in both")
assert found == {"rising": 6.0, "falling": 5.0}, "changed"
PY
