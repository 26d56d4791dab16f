"""The preset ``paper``: the ten steps of Delli Veneri et al. (2022), section 2.3, on one page."""
