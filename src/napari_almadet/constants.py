"""Numbers of statistics that several rooms need; each is written here only."""

from __future__ import annotations

# Median absolute deviation of a normal distribution of standard deviation 1, to the four digits the shipped networks
# were trained with.
NORMAL_MAD = 0.6745

# Area of a Gaussian beam of FWHM 1: pi / (4 ln 2), to the digits the thresholds in beams were set with.
BEAM_AREA = 1.133
