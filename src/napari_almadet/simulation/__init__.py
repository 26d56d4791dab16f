"""Simulated observations: sky -> visibilities -> dirty cube."""

# Descriptions of `scenarios.SCENARIOS`; here, so that the help of the command line imports nothing slow.
SCENARIOS_ABOUT = {
    "paper": "the paper's table 1",
    "empty": "no source",
    "line-only": "line sources without continuum",
    "continuum-only": "continuum sources without lines",
    "bright": "sources six times as bright: limited by sidelobes, not by noise",
    "pairs": "two or three close pairs, 1 to 2 beams apart",
    "beams": "clean beams of 3 to 10 pixels, sources scaled accordingly, anywhere in the field",
    "arrays": "other arrays, frequencies, declinations, hour angles, durations and robust weights",
    "rising": "corrected for the primary beam: noise rises outward, no data beyond a fifth of its peak",
    "borders": "10 to 40 % of the field blank, and some channels at the ends of the band",
    "discs": "resolved, rotating discs of 1.5 to 4 beams",
    "edges": "all sources within one beam of the field's edge",
    "phase-errors": "antenna phase errors of 10 to 30 degrees rms, constant or slowly varying",
    "cleaned": "restored with the clean beam, up to 15 % residual sidelobes",
    "galaxies": "rotating galaxies of 1 to 40 beams, observed and processed like published cubes",
    "clouds": "turbulent clouds that fill part or all of the field, in one or several lines",
    "absorption": "absorption lines in front of bright continuum",
    "continuum-left": "line sources around unsubtracted continuum sources of S/N 100 to 2000",
    "cleaned-loop": "CLEANed, 30 to 3000 iterations per channel",
    "smoothed": "smoothed to a beam up to 1.8 times as large",
    "shared-channels": "correlated channels: Hanning or boxcar smoothed, averaged by 2 to 8, regridded",
    "shared-channels-empty": "the same without sources",
}
