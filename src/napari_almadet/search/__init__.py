"""The preset ``almadet``: the same ten steps in units of the noise."""
