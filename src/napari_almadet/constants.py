"""Numbers of physics and statistics that several rooms need; each is written here only."""

from __future__ import annotations

from math import log, pi

ARCSEC_PER_DEGREE = 3600.0  # by definition

# A Gaussian of unit height and full width at half maximum w is exp(-FOUR_LN2 (x / w)^2).
FOUR_LN2 = 4 * log(2)

# Area under a two-dimensional Gaussian of unit height and FWHM 1 along both axes: a beam covers BEAM_AREA BMAJ BMIN.
BEAM_AREA = pi / FOUR_LN2

# Median absolute deviation of a normal distribution of standard deviation 1, to the four digits the shipped networks
# were trained with; astropy's mad_std, used elsewhere, has more (0.67449).
NORMAL_MAD = 0.6745

# Standard deviation of a normal distribution over its median absolute deviation, exactly, as `astropy.stats.mad_std`
# has it.
MAD_TO_SIGMA = 1.482602218505602

# Sigma, from which the line or the continuum of a source counts as detected; chosen by eye.
PRESENT = 4.5

# Fraction of a source's peak at which its box ends: of the sources in the truth of a simulation and of those found, so
# that boxes can be compared. The paper says only that a box encloses its source (section 2.3).
BOX_LEVEL = 0.1
