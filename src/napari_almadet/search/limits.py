"""Warnings for cubes outside the range that the networks were trained on (out of distribution)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_almadet.search.merge import NoiseSummary

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube


# What the networks have learnt from, see napari_almadet.training.fields.
BEAMS = (2.5, 6.5)  # averaged pixels
SAMPLED = 2.0  # pixels of the cube that a beam has at least, so that it can be interpolated
LEAST_CHANNELS = 24
MOST_CORRELATION = 1.8
MOST_DIPS = 1e-4


def out_of_distribution(cube: Cube, fwhm: float, k: int | float, noises: list[NoiseSummary]) -> list[str]:
    """What about a cube lies outside of what the networks have learnt from, one sentence each."""
    said = []
    if not BEAMS[0] <= fwhm / k <= BEAMS[1] or fwhm < SAMPLED:
        said.append(
            f"The beam is {fwhm:.1f} pixels wide; {SAMPLED:g} are needed to sample it, and sources may be missed or "
            "taken for noise."
        )
    if not noises:
        return [
            *said,
            "No noise can be told from this cube, since its channels do not differ: nothing was found.",
        ]
    channels = max(noise.channels for noise in noises)
    if channels < LEAST_CHANNELS:
        said.append(
            f"The cube has {channels} channels with data; the networks have learnt from {LEAST_CHANNELS} and more."
        )
    correlation = max(noise.correlation for noise in noises)
    if correlation > MOST_CORRELATION:
        said.append(
            f"Wide lines are {correlation:.1f} times as noisy as independent channels would make them: channels share "
            "their noise, or something other than noise fills the field. Faint sources may be missed."
        )
    dips = max(noise.dips for noise in noises)
    if dips > MOST_DIPS:
        said.append(
            f"{dips:.2%} of the values lie under -5 sigma, as around bright extended emission or where the calibration "
            "is off: what is found near them needs a closer look."
        )
    return said
