"""Simulated observations: sky -> visibilities -> dirty cube."""

# What each scenario of `scenarios.SCENARIOS` is, here so that the command line's help imports nothing slow.
SCENARIOS_ABOUT = {
    "paper": "the paper's table 1",
    "empty": "no source",
    "line-only": "lines without continuum",
    "continuum-only": "continuum without lines",
    "bright": "six times as bright: sidelobes, not noise, set the limit",
    "pairs": "two or three close pairs, 1 to 2 beams apart",
    "beams": "clean beams of 3 to 10 pixels, sources scaled with them, anywhere in the field",
    "arrays": "other arrays, frequencies, declinations, hour angles, durations and robust weights",
    "rising": "corrected for the primary beam: noise rises outward, no data beyond a fifth of its peak",
    "borders": "10 to 40 % of the field blank, and some of the channels at the ends",
    "discs": "resolved, rotating discs of 1.5 to 4 beams",
    "edges": "all sources within one beam of the field's edge",
    "phase-errors": "antennas' phases wrong by 10 to 30 degrees rms, constant or slowly varying",
    "cleaned": "restored with the clean beam, up to 15 % of the sidelobes left",
    "galaxies": "rotating galaxies of 1 to 40 beams, observed and worked on as published cubes are",
    "clouds": "turbulent clouds that fill a part of the field or all of it, in one line or in several",
    "absorption": "lines before bright continuum",
    "continuum-left": "lines about continuum of SNR 100 to 2000 that nobody subtracted",
    "cleaned-loop": "CLEAN, 30 to 3000 iterations a channel",
    "smoothed": "smoothed to a beam up to 1.8 times as wide",
    "shared-channels": "channels that share noise: Hanning, boxcar, averaged by 2 to 8, regridded",
    "shared-channels-empty": "the same without sources",
}
